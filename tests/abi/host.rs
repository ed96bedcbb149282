//! What the host keeps for one VM: its streams, its timer, its HTTP calls, and which context it is speaking for.

use std::collections::BTreeMap;
use std::time::Duration;

use wasmtime::{Memory, TypedFunc};

use super::calls::HttpCall;
use super::deferred::Deferred;
use super::faults::{Fault, Made};
use super::head::{Headers, Reply};
use super::local_reply::LocalReply;
use super::queues::VmNumber;
use super::status::{Answered, Status};
use super::stream::{Direction, Stream};
use super::world::{World, nanoseconds};

/// The root context's id. Stream contexts count on from there.
pub const ROOT: u32 = 1;

/// The state behind the imports of one instance.
pub struct Host {
    pub world: World,
    /// Which VM of the process this is.
    pub number: VmNumber,
    pub streams: BTreeMap<u32, Stream>,
    /// The filter's own HTTP calls that wait for an answer.
    pub calls: Vec<HttpCall>,
    /// All that were ever made.
    pub calls_made: Vec<HttpCall>,
    /// The answer that `proxy_on_http_call_response` is about.
    pub call_answer: Option<Reply>,
    /// Who made the call that `proxy_on_http_call_response` is about.
    pub call_owner: u32,
    /// What the callback under way asked for: that happens after it.
    pub deferred: Vec<Deferred>,
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
    pub tokens: u32,
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
    pub fn new(world: World, number: VmNumber) -> Self {
        Self {
            world,
            number,
            streams: BTreeMap::new(),
            calls: Vec::new(),
            calls_made: Vec::new(),
            call_answer: None,
            call_owner: ROOT,
            deferred: Vec::new(),
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
        let again = self.deferred.iter().any(
            |other| matches!(other, Deferred::Resume(c, d) if (*c, *d) == (context, direction)),
        );
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
        self.deferred.push(Deferred::Resume(context, direction));
    }

    /// Envoy takes a reply for no stream for "ok" and drops it; a second one for a stream as well.
    pub fn send_local_reply(&mut self, reply: LocalReply) -> Answered {
        let (context, callback) = (self.context(), self.callback);
        let Some(stream) = self.streams.get(&context) else {
            self.offend(format!(
                "{callback} answered for context {context}, which is no stream"
            ));
            return Err(Status::BAD_ARGUMENT);
        };
        let answered = |other: &Deferred| matches!(other, Deferred::Reply(c, _) if *c == context);
        if stream.is_cut_off() || self.deferred.iter().any(answered) {
            self.offend(format!(
                "{callback} answered context {context} a second time"
            ));
            return Ok(());
        }
        self.deferred.push(Deferred::Reply(context, reply));
        Ok(())
    }

    /// A body can be changed by its own callback alone: afterwards it has gone on.
    pub fn set_buffer(&mut self, kind: u32, start: usize, size: usize, data: &[u8]) -> Answered {
        let (callback, direction) = match kind {
            0 => ("proxy_on_request_body", Direction::Request),
            1 => ("proxy_on_response_body", Direction::Response),
            _ => return Err(Status::BAD_ARGUMENT),
        };
        let is_shown = self.callback == callback && self.context() == self.current;
        let stream = self.stream().ok_or(Status::BAD_ARGUMENT)?;
        let flow = stream.flow(direction);
        if !is_shown && !flow.is_collected() {
            return Err(Status::BAD_ARGUMENT);
        }
        flow.set_bytes(start, size, data)
    }

    pub fn set_tick_period(&mut self, period: Duration) {
        let now = self.world.state().now;
        self.tick = (!period.is_zero()).then(|| Tick {
            period,
            next: now + nanoseconds(period),
        });
    }

    /// Envoy makes every call for the root context; the SDK remembers whose callback asked for it, and drops the
    /// answer when that context is gone.
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
        let context = match self.callback {
            "proxy_on_http_call_response" => self.call_owner,
            _ => self.current,
        };
        let order = self.world.count_call();
        let call = HttpCall {
            token: self.tokens,
            order,
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
