//! One instance of the module, and every callback that Envoy makes into it.

use std::collections::BTreeMap;

use wasmtime::{Instance, Store, Val};

use super::cost::Cost;
use super::flow::{Action, End};
use super::head::{Head, Headers, Reply};
use super::host::{Direction, Host, Metric, ROOT, Stream, Tick};
use super::module;
use super::world::{World, nanoseconds};

/// Instructions that one callback may take: a module that never ends fails the test.
const FUEL: u64 = 4_000_000_000;

/// A started VM, to be had again without a start. Between callbacks a module is nothing but its memory.
pub struct Image {
    size: usize,
    /// The pages that are not all zeros, and where they begin.
    pages: Vec<(usize, Vec<u8>)>,
    metrics: Vec<Metric>,
    tick: Option<Tick>,
}

const PAGE: usize = 4096;

pub struct Vm {
    store: Store<Host>,
    instance: Instance,
    callbacks: BTreeMap<&'static str, u64>,
    instructions: u64,
    contexts: u32,
}

impl Vm {
    /// A VM with a configured root context; nothing if the plugin refuses its configuration.
    pub fn start(world: &World) -> Option<Self> {
        let mut vm = Self::instantiate(world);
        vm.run("_initialize", &[]);
        let size = u32::try_from(world.state().config.len()).expect("a configuration is short");
        vm.run("proxy_on_context_create", &[ROOT, 0]);
        let started = vm.run("proxy_on_vm_start", &[ROOT, 0]) != Some(0);
        vm.host().configuring = true;
        let configured = started && vm.run("proxy_on_configure", &[ROOT, size]) != Some(0);
        vm.host().configuring = false;
        configured.then_some(vm)
    }

    fn instantiate(world: &World) -> Self {
        let mut store = Store::new(module::module().engine(), Host::new(world.clone()));
        store.set_fuel(FUEL).expect("fuel is counted");
        let instance = module::linked()
            .instantiate(&mut store)
            .expect("the module can be instantiated");
        let memory = instance.get_memory(&mut store, "memory");
        let allocate = instance
            .get_typed_func(&mut store, "proxy_on_memory_allocate")
            .ok();
        store.data_mut().memory = memory;
        store.data_mut().allocate = allocate;
        Self {
            store,
            instance,
            callbacks: BTreeMap::new(),
            instructions: 0,
            contexts: ROOT,
        }
    }

    /// All that tells this VM from a new instance while no stream is open: its memory, and what the host keeps.
    pub fn image(&self) -> Image {
        let host = self.store.data();
        assert!(
            host.streams.is_empty() && host.calls.is_empty(),
            "an image is taken between streams"
        );
        let memory = host
            .memory
            .expect("the module has a memory")
            .data(&self.store);
        let used = memory
            .chunks(PAGE)
            .enumerate()
            .filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        let pages = used.map(|(n, page)| (n * PAGE, page.to_vec())).collect();
        Image {
            size: memory.len(),
            pages,
            metrics: host.metrics.clone(),
            tick: host.tick,
        }
    }

    /// A VM as it was when the image was taken.
    pub fn of(image: &Image, world: &World) -> Self {
        let mut vm = Self::instantiate(world);
        let memory = vm.host().memory.expect("the module has a memory");
        let missing =
            (image.size - memory.data_size(&vm.store)) as u64 / memory.page_size(&vm.store);
        memory
            .grow(&mut vm.store, missing)
            .expect("the memory can be as large again");
        let bytes = memory.data_mut(&mut vm.store);
        for (at, page) in &image.pages {
            bytes[*at..at + page.len()].copy_from_slice(page);
        }
        vm.host().metrics.clone_from(&image.metrics);
        vm.host().tick = image.tick;
        vm
    }

    pub fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    pub fn cost(&self) -> Cost {
        Cost {
            callbacks: self.callbacks.clone(),
            hostcalls: self.store.data().counts.clone(),
            instructions: self.instructions,
        }
    }

    pub fn next_tick(&self) -> Option<u64> {
        self.store.data().tick.map(|tick| tick.next)
    }

    pub fn tick(&mut self) {
        let now = self.host().world.state().now;
        if let Some(tick) = &mut self.host().tick {
            tick.next = now + nanoseconds(tick.period);
        }
        self.callback("proxy_on_tick", ROOT, &[]);
    }

    /// A stream begins: its context is made with the first callback.
    pub fn open(&mut self, head: &Head) -> u32 {
        self.contexts += 1;
        let context = self.contexts;
        let properties = head.properties.iter().cloned().collect();
        self.host().streams.insert(
            context,
            Stream {
                properties,
                ..Stream::default()
            },
        );
        self.host().enter("proxy_on_context_create", context);
        self.run("proxy_on_context_create", &[context, ROOT]);
        context
    }

    pub fn headers(&mut self, context: u32, direction: Direction, headers: Headers, ended: bool) {
        let count = u32::try_from(headers.0.len()).expect("headers are few");
        self.stream(context).flow(direction).begin(headers);
        let callback = match direction {
            Direction::Request => "proxy_on_request_headers",
            Direction::Response => "proxy_on_response_headers",
        };
        let action = self.callback(callback, context, &[count, u32::from(ended)]);
        let may_wait_alone = self.host().world.state().headers_may_wait_alone;
        self.stream(context)
            .flow(direction)
            .after_headers(action, ended, may_wait_alone);
    }

    pub fn body(&mut self, context: u32, direction: Direction, piece: &[u8], ended: bool) {
        let flow = self.stream(context).flow(direction);
        if !flow.body_is_seen() {
            return flow.queue(piece, ended.then_some(End::Body));
        }
        let size = u32::try_from(flow.show(piece)).expect("a buffer is small");
        let callback = match direction {
            Direction::Request => "proxy_on_request_body",
            Direction::Response => "proxy_on_response_body",
        };
        let action = self.callback(callback, context, &[size, u32::from(ended)]);
        self.stream(context)
            .flow(direction)
            .after_body(action, ended);
    }

    pub fn trailers(&mut self, context: u32, direction: Direction, trailers: Headers) {
        let flow = self.stream(context).flow(direction);
        if !flow.body_is_seen() {
            return flow.queue(&[], Some(End::Trailers(trailers)));
        }
        let callback = match direction {
            Direction::Request => "proxy_on_request_trailers",
            Direction::Response => "proxy_on_response_trailers",
        };
        let count = u32::try_from(trailers.0.len()).expect("trailers are few");
        let action = self.callback(callback, context, &[count]);
        self.stream(context)
            .flow(direction)
            .after_trailers(action, trailers);
    }

    /// The stream is over, complete or not: Envoy logs it first, then tells the module that it is done.
    pub fn log(&mut self, context: u32) {
        self.stream(context).logging = true;
        self.callback("proxy_on_log", context, &[]);
        self.stream(context).logging = false;
    }

    /// The context goes, and its calls with it.
    pub fn delete(&mut self, context: u32) -> Stream {
        self.callback("proxy_on_done", context, &[]);
        self.callback("proxy_on_delete", context, &[]);
        self.host().calls.retain(|call| call.context != context);
        self.host()
            .streams
            .remove(&context)
            .expect("a stream is deleted once")
    }

    /// A call is answered; without an answer it was reset.
    pub fn answer_call(&mut self, token: u32, answer: Option<Reply>) {
        let place = self
            .host()
            .calls
            .iter()
            .position(|call| call.token == token);
        let call = self
            .host()
            .calls
            .remove(place.expect("a call is answered once"));
        let (headers, body) = answer
            .as_ref()
            .map_or((0, 0), |answer| (answer.headers.0.len(), answer.body.len()));
        let sizes = [headers, body].map(|size| u32::try_from(size).expect("an answer is short"));
        self.host().call_answer = answer;
        self.callback(
            "proxy_on_http_call_response",
            call.context,
            &[token, sizes[0], sizes[1], 0],
        );
        self.host().call_answer = None;
    }

    pub fn stream(&mut self, context: u32) -> &mut Stream {
        self.host()
            .streams
            .get_mut(&context)
            .expect("the stream is there")
    }

    /// A callback of a context, and what was put off until after it.
    fn callback(&mut self, name: &'static str, context: u32, args: &[u32]) -> Action {
        self.host().enter(name, context);
        let args: Vec<_> = [context].iter().chain(args).copied().collect();
        let action = if self.run(name, &args).unwrap_or(0) == 0 {
            Action::Continue
        } else {
            Action::Pause
        };
        for (context, direction) in std::mem::take(&mut self.host().resumed) {
            self.resume(context, direction);
        }
        action
    }

    fn resume(&mut self, context: u32, direction: Direction) {
        let backlog = self.stream(context).flow(direction).resume();
        match backlog.end {
            Some(End::Trailers(trailers)) => {
                if !backlog.body.is_empty() {
                    self.body(context, direction, &backlog.body, false);
                }
                self.trailers(context, direction, trailers);
            }
            Some(End::Body) => self.body(context, direction, &backlog.body, true),
            None if !backlog.body.is_empty() => self.body(context, direction, &backlog.body, false),
            None => {}
        }
    }

    /// Calls an export; nothing if the module has none of that name or it answers nothing.
    fn run(&mut self, name: &'static str, args: &[u32]) -> Option<u32> {
        let function = self.instance.get_func(&mut self.store, name)?;
        let args: Vec<_> = args.iter().map(|arg| Val::I32(arg.cast_signed())).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        self.store.set_fuel(FUEL).expect("fuel is counted");
        if let Err(trap) = function.call(&mut self.store, &args, &mut results) {
            let (why, log) = (trap.root_cause(), self.host().world.log_text());
            panic!("the module trapped in {name}: {why}; the log's last lines:\n{log}");
        }
        self.instructions += FUEL - self.store.get_fuel().expect("fuel is counted");
        *self.callbacks.entry(name).or_default() += 1;
        results.first().and_then(Val::i32).map(i32::cast_unsigned)
    }
}
