//! What the workers of one Envoy process share: the clock, shared data, metrics, the log, and the faults to come.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::faults::{Fault, Faults, Made, When};
use super::status::{Answered, Status};
use super::vm::Vm;
use super::worker::Worker;

/// The highest level of a log line that is no failure of the filter's.
pub const ERROR: u32 = 4;

/// One Envoy process with the plugin in it. Clones are handles to the same one.
#[derive(Clone)]
pub struct World(Rc<Process>);

struct Process {
    state: RefCell<State>,
    workers: RefCell<Vec<Weak<RefCell<Vm>>>>,
}

#[derive(Clone)]
pub struct State {
    /// The plugin's configuration.
    pub config: Vec<u8>,
    /// `allow_on_headers_stop_iteration` of the plugin.
    pub headers_may_wait_alone: bool,
    /// The clusters that exist.
    pub clusters: Vec<String>,
    /// The environment variables that the module may see.
    pub environment: Vec<(String, String)>,
    /// Nanoseconds since 1970.
    pub now: u64,
    pub random: Random,
    pub shared_data: SharedData,
    /// Counters and gauges by name.
    pub metrics: BTreeMap<String, u64>,
    /// What `proxy_get_log_level` says; 0, for "trace", has the filter write all it can.
    pub log_level: u32,
    /// Level and text of each line.
    pub log: Vec<(u32, String)>,
    pub faults: Faults,
    /// What a sound filter never does, in Envoy without effect or fatal.
    pub offences: Vec<String>,
}

impl World {
    pub fn new(config: impl AsRef<[u8]>) -> Self {
        let state = State {
            config: config.as_ref().to_vec(),
            headers_may_wait_alone: true,
            clusters: vec!["mcp_servers".to_owned()],
            environment: vec![("HOSTNAME".to_owned(), "mock".to_owned())],
            now: 1_790_000_000_000_000_000,
            random: Random(7),
            shared_data: SharedData::default(),
            metrics: BTreeMap::new(),
            log_level: 0,
            log: Vec::new(),
            faults: Faults::default(),
            offences: Vec::new(),
        };
        Self::with(state)
    }

    /// A process in a given state, without workers.
    pub fn with(state: State) -> Self {
        Self(Rc::new(Process {
            state: RefCell::new(state),
            workers: RefCell::default(),
        }))
    }

    /// As the plugin runs where `allow_on_headers_stop_iteration` can't be set.
    pub fn without_stop_iteration(self) -> Self {
        self.state().headers_may_wait_alone = false;
        self
    }

    /// One more worker with a VM of its own.
    ///
    /// # Panics
    /// If the plugin refuses its configuration.
    pub fn worker(&self) -> Worker {
        self.try_worker()
            .unwrap_or_else(|| panic!("the configuration was refused:\n{}", self.log_text()))
    }

    /// One more worker, or nothing if the plugin refuses its configuration.
    pub fn try_worker(&self) -> Option<Worker> {
        Vm::start(self).map(|vm| self.employ(vm))
    }

    /// A worker with a VM that has started already.
    pub fn employ(&self, vm: Vm) -> Worker {
        let vm = Rc::new(RefCell::new(vm));
        self.0.workers.borrow_mut().push(Rc::downgrade(&vm));
        Worker::new(vm)
    }

    pub fn state(&self) -> RefMut<'_, State> {
        self.0.state.borrow_mut()
    }

    fn read(&self) -> Ref<'_, State> {
        self.0.state.borrow()
    }

    /// Moves the clock; the workers' ticks come when they are due.
    pub fn advance(&self, by: Duration) {
        let end = self.read().now + nanoseconds(by);
        let vms = self.vms();
        loop {
            let next = vms
                .iter()
                .filter_map(|vm| vm.borrow().next_tick().map(|at| (at, vm)))
                .min_by_key(|(at, _)| *at);
            let Some((at, vm)) = next.filter(|(at, _)| *at <= end) else {
                break;
            };
            self.state().now = at;
            vm.borrow_mut().tick();
        }
        self.state().now = end;
    }

    /// Moves the clock as for a process that was asleep: a tick that was due comes once, afterwards.
    pub fn sleep(&self, by: Duration) {
        self.state().now += nanoseconds(by);
        let now = self.read().now;
        for vm in self.vms() {
            let due = vm.borrow().next_tick().is_some_and(|at| at <= now);
            if due {
                vm.borrow_mut().tick();
            }
        }
    }

    fn vms(&self) -> Vec<Rc<RefCell<Vm>>> {
        self.0
            .workers
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// The value of `mcp_session.<name>`.
    pub fn metric(&self, name: &str) -> u64 {
        self.read()
            .metrics
            .get(&format!("mcp_session.{name}"))
            .copied()
            .unwrap_or(0)
    }

    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.read().metrics.clone()
    }

    /// The error lines of the log.
    pub fn errors(&self) -> Vec<String> {
        self.read()
            .log
            .iter()
            .filter(|(level, _)| *level >= ERROR)
            .map(|(_, text)| text.clone())
            .collect()
    }

    /// The end of the log, for messages.
    pub fn log_text(&self) -> String {
        let state = self.read();
        let lines = state.log.iter().rev().take(12).rev();
        let lines: Vec<_> = lines
            .map(|(level, text)| format!("    [{level}] {text}"))
            .collect();
        lines.join(
            "
",
        )
    }

    /// From now on these calls go wrong.
    pub fn fail(&self, name: &str, when: When, fault: Fault) {
        self.state().faults.add(Some(name), when, fault);
    }

    /// The nth call from now goes wrong, whatever its name.
    pub fn fail_call(&self, nth: usize, fault: Fault) {
        self.state().faults.add(None, When::Nth(nth), fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    pub fn record_calls(&self) {
        self.state().faults.record();
    }

    pub fn recorded_calls(&self) -> Vec<Made> {
        self.read().faults.recorded().to_vec()
    }

    /// Whether a call was made to fail.
    pub fn something_failed(&self) -> bool {
        self.read().faults.hits() > 0
    }

    pub fn offences(&self) -> Vec<String> {
        self.read().offences.clone()
    }
}

pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("tests don't last for centuries")
}

/// Envoy's shared data: one map, values with a token of their last write.
#[derive(Clone, Default)]
pub struct SharedData {
    entries: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    writes: u32,
}

impl SharedData {
    pub fn read(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.entries.get(key).cloned().ok_or(Status::NOT_FOUND)
    }

    /// A token is only looked at if the key is there: no key can be created conditionally. Token 0 means "anyhow".
    pub fn write(&mut self, key: &[u8], value: &[u8], cas: u32) -> Answered {
        if let Some((_, current)) = self.entries.get(key)
            && cas != 0
            && cas != *current
        {
            return Err(Status::CAS_MISMATCH);
        }
        self.writes += 1;
        self.entries
            .insert(key.to_vec(), (value.to_vec(), self.writes));
        Ok(())
    }

    /// How many keys there are, and the bytes in keys and values.
    pub fn size(&self) -> (usize, usize) {
        let bytes = self
            .entries
            .iter()
            .map(|(key, (value, _))| key.len() + value.len())
            .sum();
        (self.entries.len(), bytes)
    }

    /// Whether any key or value contains these bytes.
    pub fn contains(&self, needle: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.entries
            .iter()
            .any(|(key, (value, _))| within(key) || within(value))
    }
}

/// The same "random" bytes in every run (the splitmix64 generator).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()[0]
    }
}
