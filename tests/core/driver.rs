//! Stands in for Envoy and the shell: hands the core one request and its answer, and does what its steps say.

use std::time::Duration;

use mcp_session_filter::config::Config;
use mcp_session_filter::errand::{self, Errand, Over, Progress};
use mcp_session_filter::exchange::{
    AnswerAction, Exchange, Plugin, RequestAction, Signal, Step, Woken,
};
use mcp_session_filter::headers::Headers;
use mcp_session_filter::ids::Ids;
use mcp_session_filter::outcome::Outcome;
use mcp_session_filter::platform::Platform;
use mcp_session_filter::repair::Edit;
use mcp_session_filter::reply::Reply;
use mcp_session_filter::seat::Ticket;
use mcp_session_filter::subrequest::Subrequest;

use crate::faulty::Faulty;
use crate::scenario::{self, Answer, Call, HeaderLines, tokens};

/// After so many ticks of a second nobody waits any more.
const TICKS: usize = 400;

/// A proxy with the filter's core in it.
pub struct Envoy {
    pub platform: Faulty,
    plugin: Plugin,
}

/// What a server and a client's operator saw of a request.
#[derive(Debug)]
pub struct Seen {
    pub upstream: Lines,
    /// The request's body, as far as it went up.
    pub body: Vec<u8>,
    /// What the filter answered by itself.
    pub reply: Option<Reply>,
    /// The body of the server's answer, at the client.
    pub answer_body: Vec<u8>,
    /// The filter's own requests.
    pub calls: Vec<Subrequest>,
    pub outcome: Option<String>,
}

/// Header lines that can be edited.
#[derive(Clone, Debug)]
pub struct Lines(Vec<(Vec<u8>, Vec<u8>)>);

impl Lines {
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self
            .0
            .iter()
            .filter(move |(other, _)| other == name.as_bytes());
        lines.map(|(_, value)| value.as_slice())
    }

    fn apply_all(&mut self, edits: Vec<Edit>) {
        for edit in edits {
            self.apply(edit);
        }
    }

    /// As Envoy does it: a set replaces the first of several lines.
    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Remove(name) => self.0.retain(|(other, _)| other != name.as_bytes()),
            Edit::Set(name, value) => {
                match self
                    .0
                    .iter_mut()
                    .find(|(other, _)| other == name.as_bytes())
                {
                    Some(line) => line.1 = value,
                    None => self.0.push((name.as_bytes().to_vec(), value)),
                }
            }
        }
    }
}

impl Envoy {
    pub fn new(config: &[u8]) -> Self {
        let envoy = Self::without_tables(config);
        envoy.plugin.create_tables(&envoy.platform).unwrap();
        envoy
    }

    /// The platform in memory, unlike a host, makes keys once they are written: so large tables cost nothing.
    pub fn without_tables(config: &[u8]) -> Self {
        let config = Config::parse(config).unwrap();
        let platform = Faulty::default();
        // No time since 1970 is none at all.
        platform.advance(1_790_000_000_000);
        platform.set_attribute("xds.cluster_name", "server");
        let plugin = plugin(config);
        Self { platform, plugin }
    }

    /// Another one that is as this one is now. Thousands begin like this.
    #[cfg_attr(
        target_arch = "wasm32",
        allow(dead_code, reason = "no sequences there")
    )]
    pub fn copy(&self) -> Self {
        Self {
            platform: self.platform.copy(),
            plugin: plugin(self.plugin.config.clone()),
        }
    }

    /// No exchange begins in the same moment as the one before it.
    pub fn pass_time(&self) {
        self.platform.advance(1);
    }

    /// The clock moves; then all that is due again and again is done once.
    pub fn advance(&mut self, by: Duration, answers: &[Call]) -> Vec<Subrequest> {
        self.platform
            .advance(u64::try_from(by.as_millis()).unwrap());
        let mut made = Vec::new();
        let mut answers = answers.iter();
        for slot in 0..self.plugin.config.memory.bulk_slots.get() {
            let ticket = Ticket { number: 1, vm: 1 };
            let platform = &self.platform;
            let expired = self.plugin.expire(platform, slot, ticket);
            // Where the store fails, the next round looks again.
            if let Ok(Some((seat, holder))) = expired {
                let errand = Errand::close(seat, ticket, *holder, None);
                run(&self.plugin, platform, errand, &mut made, &mut answers);
            }
        }
        made
    }

    pub fn exchange(&mut self, exchange: &scenario::Exchange) -> Seen {
        let request = &exchange.request;
        let source = std::net::SocketAddr::new(request.from, 4321);
        self.platform
            .set_attribute("source.address", &source.to_string());
        let pseudo = [
            (":method", request.method.as_str()),
            (":path", &request.path),
            (":authority", &request.authority),
        ];
        let mut lines = lines(&pseudo, &request.headers);
        let host_header = self.plugin.config.upstream_host_header.clone();
        lines
            .retain(|(name, _)| Some(name.as_slice()) != host_header.as_deref().map(str::as_bytes));
        let mut stream = Stream {
            plugin: &self.plugin,
            platform: &self.platform,
            state: Exchange::Passing,
            ids: None,
            has_headers: true,
            waiting: Vec::new(),
            errands: Vec::new(),
            seen: Seen::of(lines.clone()),
        };
        let body = request.body.as_deref().unwrap_or_default();
        let is_ours = self.plugin.config.paths.contain(request.path.as_bytes());
        if is_ours {
            stream.headers(Headers::new(lines), body.is_empty());
        }
        for piece in body.chunks(request.cut.unwrap_or(usize::MAX)) {
            stream.body(piece, false);
        }
        if !body.is_empty() {
            stream.body(&[], true);
        }
        let mut answers = exchange.calls.iter();
        stream.run_errands(&mut answers);
        for _ in 0..TICKS {
            if !stream.state.waits_at_seat() {
                break;
            }
            stream.tick(&mut answers);
        }
        assert!(!stream.state.holds_request(), "it still waits");
        if let Some(answer) = &exchange.answer {
            let flags = if answer.is_unreachable {
                "\u{20}\0\0\0\0\0\0\0"
            } else {
                ""
            };
            let host = answer.host.as_deref().unwrap_or_default();
            self.platform.set_attribute("upstream.address", host);
            self.platform.set_attribute("response.flags", flags);
        }
        if stream.seen.reply.is_none() && is_ours {
            // Something has gone wrong if there is none.
            let refusal = Answer {
                status: 500,
                ..Answer::default()
            };
            stream.answer(exchange.answer.as_ref().unwrap_or(&refusal), &mut answers);
        }
        stream.over()
    }
}

fn plugin(config: Config) -> Plugin {
    Plugin::new(config, [7; 32], b"", 1)
}

/// One request, and what the host keeps for it.
struct Stream<'a> {
    plugin: &'a Plugin,
    platform: &'a Faulty,
    state: Exchange,
    ids: Option<Box<Ids>>,
    /// Nothing changes in headers that have gone on.
    has_headers: bool,
    /// The pieces of its body that wait.
    waiting: Vec<u8>,
    errands: Vec<Errand>,
    seen: Seen,
}

impl Stream<'_> {
    fn headers(&mut self, headers: Headers, ended: bool) {
        let (state, step) = Exchange::begin(self.plugin, self.platform, headers, ended, true);
        self.state = state;
        self.obey(step, None);
    }

    fn body(&mut self, piece: &[u8], ended: bool) {
        let wanted = self.state.wanted_request_bytes().min(piece.len());
        let ended = ended && wanted == piece.len();
        self.waiting.extend_from_slice(piece);
        let piece = &piece[..wanted];
        let state = std::mem::take(&mut self.state);
        let (state, step) = state.request_body(self.plugin, self.platform, piece, ended);
        self.state = state;
        self.obey(step, Some(ended));
    }

    fn obey(&mut self, step: Step<RequestAction>, body_ended: Option<bool>) {
        self.note(&step.signals);
        match step.action {
            RequestAction::Hold => {}
            RequestAction::Continue => self.pass_body(Vec::new(), body_ended),
            RequestAction::Forward(edits, ids) => {
                self.ids = ids.or(self.ids.take());
                self.pass_body(edits, body_ended);
            }
            RequestAction::Reply(reply) => self.seen.reply = Some(reply),
            RequestAction::Wait(_, errand) => self.errands.extend(errand),
        }
    }

    fn pass_body(&mut self, mut edits: Vec<Edit>, ended: Option<bool>) {
        let piece = std::mem::take(&mut self.waiting);
        let Some(ids) = &mut self.ids else {
            self.seen.body.extend(piece);
            return self.pass_headers(edits);
        };
        let ended = ended.unwrap_or(false);
        let rewritten = ids.request_body(self.plugin, self.platform, piece, ended);
        assert!(rewritten.is_changed || rewritten.body == rewritten.original);
        self.seen.note(&rewritten.signals);
        if rewritten.is_lost_cancel {
            self.state = Exchange::replying(Reply::empty(202), Outcome::CancelDropped);
            return self.body(&[], ended);
        }
        if self.has_headers {
            edits.extend(ids.length(rewritten.body.len()));
        }
        self.seen.body.extend(rewritten.body);
        self.pass_headers(edits);
    }

    fn pass_headers(&mut self, edits: Vec<Edit>) {
        assert!(self.has_headers || edits.is_empty(), "they have gone");
        self.has_headers = false;
        self.seen.upstream.apply_all(edits);
    }

    fn run_errands<'c>(&mut self, answers: &mut impl Iterator<Item = &'c Call>) {
        while let Some(errand) = self.errands.pop() {
            let made = &mut self.seen.calls;
            let over = run(self.plugin, self.platform, errand, made, answers);
            let state = std::mem::take(&mut self.state);
            let woken = state.errand_over(self.plugin, self.platform, &over);
            let Woken::Request(state, step) = woken else {
                panic!("it waited with its request");
            };
            self.state = state;
            self.obey(step, None);
        }
    }

    /// So does the shell for all that wait.
    fn tick<'c>(&mut self, answers: &mut impl Iterator<Item = &'c Call>) {
        self.platform.advance(1_000);
        let state = std::mem::take(&mut self.state);
        let Woken::Request(state, step) = state.ticked(self.plugin, self.platform) else {
            panic!("it waited with its request");
        };
        self.state = state;
        self.obey(step, None);
        self.run_errands(answers);
    }

    fn answer<'c>(&mut self, answer: &Answer, calls: &mut impl Iterator<Item = &'c Call>) {
        let headers = headers_of(answer);
        let edit = self
            .ids
            .as_mut()
            .and_then(|ids| ids.answer_headers(&headers));
        assert!(edit.is_none(), "a scenario's answer has no length here");
        let state = std::mem::take(&mut self.state);
        let (next, mut step) = state.answer_headers(self.plugin, self.platform, &headers);
        self.state = next;
        let mut ticks = 0;
        loop {
            self.note(&step.signals);
            let state = std::mem::take(&mut self.state);
            match step.action {
                AnswerAction::Ask(call) => {
                    self.seen.calls.push(call);
                    let seen = &self.seen.calls[self.seen.calls.len() - 1].body;
                    let answer = calls.next().map(|call| answer_to(seen, &call.answer));
                    (self.state, step) = state.call_answered(self.plugin, self.platform, answer);
                }
                AnswerAction::Wait(_, Some(errand)) => {
                    let made = &mut self.seen.calls;
                    let over = run(self.plugin, self.platform, errand, made, calls);
                    let woken = state.errand_over(self.plugin, self.platform, &over);
                    let Woken::Answer(state, next) = woken else {
                        panic!("it waited with its answer");
                    };
                    (self.state, step) = (state, next);
                }
                AnswerAction::Wait(_, None) => {
                    ticks += 1;
                    assert!(ticks < TICKS, "nothing wakes it");
                    self.platform.advance(1_000);
                    let Woken::Answer(state, next) = state.ticked(self.plugin, self.platform)
                    else {
                        panic!("it waited with its answer");
                    };
                    (self.state, step) = (state, next);
                }
                AnswerAction::Reply(reply) => {
                    self.state = state;
                    self.seen.reply = Some(reply);
                    return;
                }
                AnswerAction::Continue | AnswerAction::Hold => {
                    self.state = state;
                    break;
                }
            }
        }
        let script = answer.body.as_deref().unwrap_or_default();
        let body = tokens::answered(script, &tokens::within(&self.seen.body));
        let state = std::mem::take(&mut self.state);
        let (next, step) = state.answer_body(self.plugin, self.platform, &body, body.len());
        self.state = next;
        self.note(&step.signals);
        self.seen.answer_body = match &mut self.ids {
            Some(ids) => ids.answer_body(&body, true).unwrap_or(body),
            None => body,
        };
    }

    fn note(&mut self, signals: &[Signal]) {
        self.seen.note(signals);
        for signal in signals {
            if let Signal::Attends(seat, session) = signal {
                let (seats, now) = (&self.plugin.seats, self.platform.now());
                // Refused, its lease is not renewed.
                let _ = seats.touch(self.platform, seat, session, now);
            }
        }
    }

    fn over(mut self) -> Seen {
        let state = std::mem::take(&mut self.state);
        let signals = state.over(self.plugin, self.platform);
        self.note(&signals);
        if let Some(ids) = self.ids.take() {
            let signals = ids.over(self.plugin, self.platform);
            self.note(&signals);
        }
        self.seen
    }
}

/// Runs an errand to its end.
fn run<'c>(
    plugin: &Plugin,
    platform: &Faulty,
    mut errand: Errand,
    made: &mut Vec<Subrequest>,
    answers: &mut impl Iterator<Item = &'c Call>,
) -> Over {
    loop {
        made.push(errand.call(plugin));
        let seen = &made[made.len() - 1].body;
        let answer = answers.next().map(|call| answer_to(seen, &call.answer));
        match errand.answered(plugin, platform, answer).0 {
            Progress::Next(next) => errand = next,
            Progress::Over(over) => return over,
        }
    }
}

/// What a server answers that saw this body.
fn answer_to(seen: &[u8], answer: &Answer) -> errand::Answer {
    let script = answer.body.as_deref().unwrap_or_default();
    errand::Answer {
        headers: headers_of(answer),
        body: tokens::answered(script, &tokens::within(seen)),
    }
}

fn headers_of(answer: &Answer) -> Headers {
    let status = answer.status.to_string();
    Headers::new(lines(&[(":status", &status)], &answer.headers))
}

impl Seen {
    fn of(lines: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self {
            upstream: Lines(lines),
            body: Vec::new(),
            reply: None,
            answer_body: Vec::new(),
            calls: Vec::new(),
            outcome: None,
        }
    }

    fn note(&mut self, signals: &[Signal]) {
        for signal in signals {
            if let Signal::Outcome(outcome, _) = signal {
                let earlier = self.outcome.replace(outcome.name().to_owned());
                assert_eq!(earlier, None, "a second outcome: {}", outcome.name());
            }
        }
    }
}

fn lines(pseudo: &[(&str, &str)], headers: &HeaderLines) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pseudo = pseudo
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.clone()));
    pseudo.chain(headers).collect()
}
