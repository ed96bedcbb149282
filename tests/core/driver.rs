//! Stands in for Envoy and the shell: hands the core one request and its answer, and does what its steps say.

use mcp_session_filter::config::Config;
use mcp_session_filter::digest::DigestKey;
use mcp_session_filter::exchange::{AnswerAction, Exchange, Plugin, RequestAction, Signal, Step};
use mcp_session_filter::headers::Headers;
use mcp_session_filter::memory::Memory;
use mcp_session_filter::repair::Edit;

use crate::scenario::{self, HeaderLines};
use crate::testing::FakePlatform;

/// A proxy with the filter's core in it.
pub struct Envoy {
    pub platform: FakePlatform,
    plugin: Plugin,
}

/// What a server and a client's operator saw of a request.
#[derive(Debug)]
pub struct Seen {
    pub upstream: Lines,
    pub outcome: Option<String>,
    pub pings: usize,
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
        let config = Config::parse(config).unwrap();
        let platform = FakePlatform::default();
        platform.set_attribute("xds.cluster_name", "server");
        let plugin = Plugin::new(config, [7; 32], b"", 1);
        plugin.create_tables(&platform).unwrap();
        Self { platform, plugin }
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
        let lines = lines(&pseudo, &request.headers);
        let mut seen = Seen {
            upstream: Lines(lines.clone()),
            outcome: None,
            pings: 0,
        };
        if !self.plugin.config.paths.contain(request.path.as_bytes()) {
            return seen;
        }
        let body = request.body.as_deref().unwrap_or_default();
        let begun = Exchange::begin(
            &self.plugin,
            &self.platform,
            Headers::new(lines),
            body.is_empty(),
            true,
        );
        let mut state = seen.obey(begun);
        for piece in body.chunks(request.cut.unwrap_or(usize::MAX)) {
            let wanted = state.wanted_request_bytes().min(piece.len());
            state = seen.obey(state.request_body(&piece[..wanted], false));
        }
        if !body.is_empty() {
            state = seen.obey(state.request_body(&[], true));
        }
        assert!(!state.is_held(), "a request that ended still waits");
        self.answer(state, exchange, &mut seen);
        seen
    }

    fn answer(&mut self, mut state: Exchange, exchange: &scenario::Exchange, seen: &mut Seen) {
        let mut pings = exchange.calls.iter().map(|call| call.answer.status);
        let answer = exchange.answer.as_ref().expect("the server answers");
        let status = answer.status.to_string();
        let headers = Headers::new(lines(&[(":status", &status)], &answer.headers));
        let (next, mut step) = state.answer_headers(&self.plugin, &self.platform, &headers);
        state = next;
        while let AnswerAction::Ask(_) = &step.action {
            seen.note(&step.signals);
            seen.pings += 1;
            (state, step) = state.ping_answered(&self.plugin, &self.platform, pings.next());
        }
        seen.note(&step.signals);
        let body = answer.body.as_deref().unwrap_or_default();
        let (state, step) = state.answer_body(&self.plugin, &self.platform, body, body.len());
        seen.note(&step.signals);
        seen.note(&state.over(&self.plugin, &self.platform));
    }
}

impl Seen {
    fn obey(&mut self, (state, step): (Exchange, Step<RequestAction>)) -> Exchange {
        self.note(&step.signals);
        if let RequestAction::Repair(edits) = step.action {
            for edit in edits {
                self.upstream.apply(edit);
            }
        }
        state
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
