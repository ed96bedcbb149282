//! What the workers of one Envoy process share: the clock, shared data, metrics, the log, and the faults to come.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::faults::{Fault, Faults, Made, When};
use super::queues::{Queues, VmNumber};
use super::shared_data::{Random, SharedData};
use super::vm::Vm;
use super::worker::Worker;

/// The highest level of a log line that is no failure of the filter's.
pub const ERROR: u32 = 4;

/// How many notices of queues one event may lead to.
const MOST_NOTICES: usize = 1000;

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
    pub queues: Queues,
    /// Whether VMs are told of their queues only by [`World::settle`].
    delays_notices: bool,
    vms: u32,
    calls: u64,
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
            random: Random::new(7),
            shared_data: SharedData::default(),
            queues: Queues::default(),
            delays_notices: false,
            vms: 0,
            calls: 0,
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

    /// A worker dies, and its VM with it: no tick and no notice reaches it.
    pub fn dismiss(&self, vm: &Rc<RefCell<Vm>>) {
        let vm = Rc::downgrade(vm);
        self.0
            .workers
            .borrow_mut()
            .retain(|other| !other.ptr_eq(&vm));
    }

    pub fn next_vm(&self) -> VmNumber {
        let mut state = self.state();
        state.vms += 1;
        VmNumber(state.vms)
    }

    /// Counts a call of the filter's own.
    pub fn count_call(&self) -> u64 {
        let mut state = self.state();
        state.calls += 1;
        state.calls
    }

    /// From now on VMs are told of their queues only by [`Self::settle`], so that a test can do something before.
    pub fn delay_notices(&self) {
        self.state().delays_notices = true;
    }

    /// After an event: due notices are delivered, unless a test wants to do that.
    pub fn notify(&self) {
        if !self.read().delays_notices {
            self.settle();
        }
    }

    /// Tells all VMs of their queues, and again of what that leads to. What a dead VM was to be told is lost.
    ///
    /// # Panics
    /// If there is no end to it.
    pub fn settle(&self) {
        for _ in 0..MOST_NOTICES {
            if !self.settle_one() {
                return;
            }
        }
        panic!("{MOST_NOTICES} notices of queues led to ever more");
    }

    /// Tells one VM of one queue. Says whether there was one to be told.
    pub fn settle_one(&self) -> bool {
        let Some(notice) = self.state().queues.next_notice() else {
            return false;
        };
        let mut vms = self.vms().into_iter();
        if let Some(vm) = vms.find(|vm| vm.borrow().number() == notice.vm) {
            vm.borrow_mut().queue_ready(notice.queue);
        }
        true
    }

    /// Moves the clock; the workers' ticks come when they are due.
    pub fn advance(&self, by: Duration) {
        self.advance_and(by, || {});
    }

    /// As [`Self::advance`], and something is done after each tick.
    pub fn advance_and(&self, by: Duration, mut after: impl FnMut()) {
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
            self.notify();
            after();
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
                self.notify();
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

    /// From the nth call from now on all go wrong, whatever their names.
    pub fn fail_from(&self, nth: usize, fault: Fault) {
        self.state().faults.add(None, When::From(nth), fault);
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
