//! One instance of the module, and every callback that Envoy makes into it.

use std::collections::BTreeMap;

use wasmtime::{Instance, Store, Val};

use super::cost::Cost;
use super::flow::{Action, End};
use super::head::{Head, Headers, Reply};
use super::host::{Host, ROOT};
use super::module;
use super::queues::VmNumber;
use super::stream::{Direction, Stream};
use super::world::{World, nanoseconds};

/// Instructions that one callback may take: a module that never ends fails the test.
const FUEL: u64 = 4_000_000_000;

pub struct Vm {
    pub(super) store: Store<Host>,
    instance: Instance,
    callbacks: BTreeMap<&'static str, u64>,
    instructions: u64,
    pub(super) contexts: u32,
}

impl Vm {
    /// A VM with a configured root context; nothing if the plugin refuses its configuration.
    pub fn start(world: &World) -> Option<Self> {
        let mut vm = Self::instantiate(world, world.next_vm());
        vm.run("_initialize", &[]);
        let size = u32::try_from(world.state().config.len()).expect("a configuration is short");
        vm.run("proxy_on_context_create", &[ROOT, 0]);
        let started = vm.run("proxy_on_vm_start", &[ROOT, 0]) != Some(0);
        vm.host().configuring = true;
        let configured = started && vm.run("proxy_on_configure", &[ROOT, size]) != Some(0);
        vm.host().configuring = false;
        configured.then_some(vm)
    }

    pub(super) fn instantiate(world: &World, number: VmNumber) -> Self {
        let host = Host::new(world.clone(), number);
        let mut store = Store::new(module::module().engine(), host);
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

    pub fn number(&self) -> VmNumber {
        self.store.data().number
    }

    /// Something was put into a queue that this VM registered.
    pub fn queue_ready(&mut self, queue: u32) {
        self.callback("proxy_on_queue_ready", ROOT, &[queue]);
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
        let args = [count, u32::from(ended)];
        let Some(action) = self.stream_callback(callback, context, &args) else {
            return;
        };
        let may_wait_alone = self.host().world.state().headers_may_wait_alone;
        self.stream(context)
            .flow(direction)
            .after_headers(action, ended, may_wait_alone);
        self.judge(context, direction);
    }

    pub fn body(&mut self, context: u32, direction: Direction, piece: &[u8], ended: bool) {
        if self.stream(context).drops(direction) {
            return;
        }
        let flow = self.stream(context).flow(direction);
        if !flow.body_is_seen() {
            return flow.queue(piece, ended.then_some(End::Body));
        }
        let size = u32::try_from(flow.show(piece)).expect("a buffer is small");
        let callback = match direction {
            Direction::Request => "proxy_on_request_body",
            Direction::Response => "proxy_on_response_body",
        };
        let args = [size, u32::from(ended)];
        let Some(action) = self.stream_callback(callback, context, &args) else {
            return;
        };
        self.stream(context)
            .flow(direction)
            .after_body(action, ended);
        self.judge(context, direction);
    }

    pub fn trailers(&mut self, context: u32, direction: Direction, trailers: Headers) {
        if self.stream(context).drops(direction) {
            return;
        }
        let flow = self.stream(context).flow(direction);
        if !flow.body_is_seen() {
            return flow.queue(&[], Some(End::Trailers(trailers)));
        }
        let callback = match direction {
            Direction::Request => "proxy_on_request_trailers",
            Direction::Response => "proxy_on_response_trailers",
        };
        let count = u32::try_from(trailers.0.len()).expect("trailers are few");
        let Some(action) = self.stream_callback(callback, context, &[count]) else {
            return;
        };
        self.stream(context)
            .flow(direction)
            .after_trailers(action, trailers);
        self.judge(context, direction);
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

    /// A call is answered; without an answer it was reset. Envoy tells the root context, whoever made the call.
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
        self.host().call_owner = call.context;
        self.callback(
            "proxy_on_http_call_response",
            ROOT,
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
        self.catch_up();
        action
    }

    /// What a stream's callback says; nothing if the module answered meanwhile, and what it says does not matter.
    fn stream_callback(
        &mut self,
        name: &'static str,
        context: u32,
        args: &[u32],
    ) -> Option<Action> {
        let before = self.stream(context).is_cut_off();
        let action = self.callback(name, context, args);
        (before || !self.stream(context).is_cut_off()).then_some(action)
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
