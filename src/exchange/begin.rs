//! The first decision: what a request's headers say about what may become of it.

use core::mem;

use super::{Body, Exchange, Held, Plugin, Request, RequestAction, Sent, Signal, Step};
use crate::caller;
use crate::config::{Mode, without_query};
use crate::headers::{self, Headers};
use crate::memory::{CallerRecord, Session};
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::repair;
use crate::scanner::Kind;
use crate::session::{SessionId, is_sessionless};

/// The methods of the transport (MCP 2025-11-25, Transports).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Post,
    Get,
    Delete,
}

impl Method {
    fn parse(method: &[u8]) -> Option<Self> {
        match method {
            b"POST" => Some(Self::Post),
            b"GET" => Some(Self::Get),
            b"DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

type Begun = (Exchange, Step<RequestAction>);

impl Exchange {
    /// The headers of a request on one of our paths came. `ended` if it has no body, `may_hold` if headers can wait.
    #[must_use]
    pub fn begin(
        plugin: &Plugin,
        platform: &impl Platform,
        headers: Headers,
        ended: bool,
        may_hold: bool,
    ) -> Begun {
        let Some(method) = headers.get(":method").and_then(Method::parse) else {
            return (Exchange::Passing, RequestAction::Continue.into());
        };
        if let Some(outcome) = needs_no_session(method, &headers) {
            return pass(outcome, Vec::new());
        }
        let request = match Request::identify(plugin, platform, method, &headers) {
            Ok(request) => request,
            Err(outcome) => return pass(outcome, Vec::new()),
        };
        let record = match plugin
            .memory
            .recall(platform, &request.caller, platform.now())
        {
            Ok(record) => record,
            Err(error) => return pass(Outcome::HostError, vec![Signal::Failed(error)]),
        };
        let arrival = Arrival {
            plugin,
            platform,
            method,
            ended,
            may_hold,
            request,
            headers,
        };
        arrival.join(record.as_ref())
    }
}

/// Requests that are left alone whatever is remembered.
fn needs_no_session(method: Method, headers: &Headers) -> Option<Outcome> {
    let version = headers.get(headers::PROTOCOL_VERSION);
    if headers.has(headers::METHOD) || version.is_some_and(is_sessionless) {
        return Some(Outcome::PassedSessionless);
    }
    // OAuth discovery probes look like this.
    let asks_for_events = headers
        .all(headers::ACCEPT)
        .any(|accept| headers::names_media_type(accept, "text/event-stream"));
    let is_probe =
        method == Method::Get && headers.get(headers::SESSION_ID).is_none() && !asks_for_events;
    is_probe.then_some(Outcome::PassedProbe)
}

impl Request {
    fn identify(
        plugin: &Plugin,
        platform: &impl Platform,
        method: Method,
        headers: &Headers,
    ) -> Result<Self, Outcome> {
        let cluster = platform
            .attribute(&["xds", "cluster_name"])
            .and_then(|name| String::from_utf8(name).ok())
            .ok_or(Outcome::PassedNoCluster)?;
        let caller = caller::identify(&plugin.config.caller, headers, platform, &plugin.key)
            .ok_or(Outcome::PassedNoCaller)?;
        let path = headers.get(":path").unwrap_or_default();
        let authority = headers.get(":authority").unwrap_or_default();
        let host = authority.to_ascii_lowercase();
        let endpoint = [cluster.as_bytes(), without_query(path), &host];
        Ok(Self {
            caller,
            endpoint: plugin.key.digest("endpoint", endpoint),
            cluster,
            path: path.to_vec(),
            authority: authority.to_vec(),
            is_delete: method == Method::Delete,
            has_own_id: headers.get(headers::SESSION_ID).is_some(),
        })
    }
}

/// A request that a session may matter to.
struct Arrival<'a, P> {
    plugin: &'a Plugin,
    platform: &'a P,
    method: Method,
    ended: bool,
    may_hold: bool,
    request: Request,
    headers: Headers,
}

impl<P: Platform> Arrival<'_, P> {
    fn join(mut self, record: Option<&CallerRecord>) -> Begun {
        let own_id = self.headers.get(headers::SESSION_ID).map(SessionId::parse);
        match own_id {
            Some(own_id) => {
                let session = own_id
                    .zip(record)
                    .and_then(|(id, record)| record.session(&self.request.endpoint, &id));
                let signals = session.map_or_else(Vec::new, |session| self.refresh(session));
                let headers = mem::take(&mut self.headers);
                let session = session.map(|session| InSession::own(session, headers));
                self.send(session, Outcome::PassedOwnId, signals)
            }
            None => match record.and_then(|record| record.latest(&self.request.endpoint)) {
                Some(session) => self.join_latest(session),
                None => self.send(None, Outcome::PassedNoSession, Vec::new()),
            },
        }
    }

    /// The request has no id, its caller has a session.
    fn join_latest(mut self, session: &Session) -> Begun {
        let may_be_initialize = self.may_be_initialize();
        let holds = self.plugin.config.hold_request_headers;
        let is_observing = self.plugin.config.mode == Mode::Observe;
        let has_version = self.headers.get(headers::PROTOCOL_VERSION).is_some();
        let waits = may_be_initialize && holds && self.may_hold && !is_observing;
        // Where headers can't wait: a client that names a version has had its answer to an initialize before. Should it
        // still be one, the server refuses it in the old session.
        let is_certain = !may_be_initialize || has_version;
        let will_know = waits || (is_observing && holds);
        if !is_certain && !will_know {
            return self.send(None, Outcome::PassedUnknownMethod, Vec::new());
        }
        let signals = self.refresh(session);
        if is_observing {
            return self.send(None, Outcome::WouldRepair, signals);
        }
        if waits {
            let held = Held {
                request: self.request,
                headers: self.headers,
                session: session.clone(),
                body: Body::unread(),
            };
            return (
                Exchange::Held(held),
                Step::new(RequestAction::Hold, signals),
            );
        }
        let edits = repair::edits(session, &self.headers);
        let in_session = InSession::repaired(session, mem::take(&mut self.headers));
        let (exchange, step) = self.send(Some(in_session), Outcome::Repaired, signals);
        (
            exchange,
            Step::new(RequestAction::Repair(edits), step.signals),
        )
    }

    fn may_be_initialize(&self) -> bool {
        self.method == Method::Post && !self.ended
    }

    fn refresh(&self, session: &Session) -> Vec<Signal> {
        let now = self.platform.now();
        if !self.plugin.memory.is_refresh_due(session, now) {
            return Vec::new();
        }
        let used = |record: &mut CallerRecord| {
            if let Some(session) = record.session_mut(&self.request.endpoint, &session.id) {
                session.used = now;
            }
        };
        self.plugin.remember(self.platform, &self.request, used).1
    }

    fn send(self, session: Option<InSession>, outcome: Outcome, signals: Vec<Signal>) -> Begun {
        let body = if self.may_be_initialize() {
            Body::unread()
        } else {
            Body::Read(Kind::Other)
        };
        let sent = Sent {
            request: self.request,
            body,
            session,
            outcome,
        };
        (
            Exchange::Sent(sent),
            Step::new(RequestAction::Continue, signals),
        )
    }
}

fn pass(outcome: Outcome, mut signals: Vec<Signal>) -> Begun {
    signals.push(Signal::Outcome(outcome, None));
    (
        Exchange::Passing,
        Step::new(RequestAction::Continue, signals),
    )
}
