//! What the host keeps for one VM: its streams, its timer, its HTTP calls, and which context it is speaking for.

use std::collections::BTreeMap;
use std::time::Duration;

use wasmtime::{Memory, TypedFunc};

use super::calls::HttpCall;
use super::faults::{Fault, Made};
use super::flow::Flow;
use super::head::{Headers, Reply};
use super::status::{Answered, Status};
use super::world::{World, nanoseconds};

/// The root context's id. Stream contexts count on from there.
pub const ROOT: u32 = 1;

/// The direction of a header map, a body or a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

/// One stream of the host's, with the context's view of it.
#[derive(Debug, Default)]
pub struct Stream {
    pub request: Flow,
    pub response: Flow,
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// While `proxy_on_log` runs, all headers can be read and none changed.
    pub logging: bool,
}

impl Stream {
    pub fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

/// The state behind the imports of one instance.
pub struct Host {
    pub world: World,
    pub streams: BTreeMap<u32, Stream>,
    /// The filter's own HTTP calls that wait for an answer.
    pub calls: Vec<HttpCall>,
    /// All that were ever made.
    pub calls_made: Vec<HttpCall>,
    /// The answer that `proxy_on_http_call_response` is about.
    pub call_answer: Option<Reply>,
    /// Streams that were told to go on in the callback under way: that happens after it.
    pub resumed: Vec<(u32, Direction)>,
    /// The plugin's configuration can be read while it configures itself.
    pub configuring: bool,
    pub tick: Option<Tick>,
    /// How often each hostcall was made.
    pub counts: BTreeMap<&'static str, u64>,
    pub memory: Option<Memory>,
    pub allocate: Option<TypedFunc<u32, u32>>,
    pub callback: &'static str,
    pub current: u32,
    effective: Option<u32>,
    called: bool,
    pub metrics: Vec<Metric>,
    tokens: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Tick {
    pub period: Duration,
    pub next: u64,
}

#[derive(Clone, Debug)]
pub struct Metric {
    kind: u32,
    name: String,
}

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;

impl Host {
    pub fn new(world: World) -> Self {
        Self {
            world,
            streams: BTreeMap::new(),
            calls: Vec::new(),
            calls_made: Vec::new(),
            call_answer: None,
            resumed: Vec::new(),
            configuring: false,
            tick: None,
            counts: BTreeMap::new(),
            memory: None,
            allocate: None,
            callback: "",
            current: ROOT,
            effective: None,
            called: false,
            metrics: Vec::new(),
            tokens: 0,
        }
    }

    /// A callback begins: every one starts with its own context in effect.
    pub fn enter(&mut self, callback: &'static str, context: u32) {
        self.callback = callback;
        self.current = context;
        self.effective = None;
        self.called = false;
    }

    /// A hostcall begins.
    pub fn meet(&mut self, name: &'static str) -> Option<Fault> {
        *self.counts.entry(name).or_default() += 1;
        let opens = !std::mem::replace(&mut self.called, true);
        self.world.state().faults.meet(Made {
            name,
            during: self.callback,
            opens,
        })
    }

    /// The context that hostcalls act on: the one in effect, while it lives, else the callback's own.
    pub fn context(&self) -> u32 {
        self.effective
            .filter(|id| *id == ROOT || self.streams.contains_key(id))
            .unwrap_or(self.current)
    }

    /// The stream that hostcalls act on; none if that is the root context.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.context())
    }

    /// A context that is gone leaves the previous one in effect.
    pub fn set_effective_context(&mut self, context: u32) -> Answered {
        if context != ROOT && !self.streams.contains_key(&context) {
            return Err(Status::BAD_ARGUMENT);
        }
        self.effective = Some(context);
        Ok(())
    }

    pub fn continue_stream(&mut self, direction: Direction) {
        let context = self.context();
        let Some(stream) = self.streams.get_mut(&context) else {
            return;
        };
        let again = self.resumed.contains(&(context, direction));
        if again || !stream.flow(direction).waits() {
            let callback = self.callback;
            self.offend(format!(
                "{callback} resumed the {direction:?} of context {context}, which was not waiting"
            ));
            return;
        }
        if stream.flow(direction).is_amid_its_body() {
            let callback = self.callback;
            self.offend(format!(
                "{callback} resumed the {direction:?} of context {context} amid its body"
            ));
            return;
        }
        // Whichever direction goes on, the request's map is taken away.
        stream.request.readable = false;
        self.resumed.push((context, direction));
    }

    pub fn set_tick_period(&mut self, period: Duration) {
        let now = self.world.state().now;
        self.tick = (!period.is_zero()).then(|| Tick {
            period,
            next: now + nanoseconds(period),
        });
    }

    pub fn http_call(
        &mut self,
        cluster: String,
        headers: Headers,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<u32, Status> {
        let complete = [":method", ":path", ":authority"]
            .iter()
            .all(|name| headers.first(name).is_some());
        if !complete || !self.world.state().clusters.contains(&cluster) {
            return Err(Status::BAD_ARGUMENT);
        }
        self.tokens += 1;
        let context = self.context();
        let call = HttpCall {
            token: self.tokens,
            context,
            cluster,
            headers,
            body,
            timeout,
        };
        self.calls_made.push(call.clone());
        self.calls.push(call);
        Ok(self.tokens)
    }

    pub fn define_metric(&mut self, kind: u32, name: String) -> Result<u32, Status> {
        if kind > 2 {
            return Err(Status::BAD_ARGUMENT);
        }
        self.world.state().metrics.entry(name.clone()).or_default();
        self.metrics.push(Metric { kind, name });
        Ok(u32::try_from(self.metrics.len()).expect("metrics are few"))
    }

    pub fn increment_metric(&mut self, id: u32, by: i64) -> Answered {
        let metric = self.metric(id)?;
        if metric.kind > GAUGE || metric.kind == COUNTER && by < 0 {
            return Err(Status::BAD_ARGUMENT);
        }
        let name = metric.name.clone();
        let mut state = self.world.state();
        let value = state.metrics.entry(name).or_default();
        *value = value.wrapping_add_signed(by);
        Ok(())
    }

    pub fn record_metric(&mut self, id: u32, value: u64) -> Answered {
        let metric = self.metric(id)?;
        let (kind, name) = (metric.kind, metric.name.clone());
        let mut state = self.world.state();
        let current = state.metrics.entry(name).or_default();
        *current = if kind == COUNTER {
            *current + value
        } else {
            value
        };
        Ok(())
    }

    pub fn metric_value(&self, id: u32) -> Result<u64, Status> {
        let name = &self.metric(id)?.name;
        Ok(self.world.state().metrics.get(name).copied().unwrap_or(0))
    }

    fn metric(&self, id: u32) -> Result<&Metric, Status> {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        place
            .and_then(|place| self.metrics.get(place))
            .ok_or(Status::BAD_ARGUMENT)
    }

    pub fn offend(&mut self, what: String) {
        self.world.state().offences.push(what);
    }
}
