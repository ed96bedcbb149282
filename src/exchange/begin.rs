//! The first decision: what a request's headers say about what may become of it.

use std::borrow::Cow;

use super::body::Went;
use super::kept::{Body, Keeps};
use super::{Belongs, Exchange, Held, Missing, Plugin, Request, RequestAction, Sent, Signal, Step};
use crate::caller;
use crate::config::{Mode, OnReinitialize, without_query};
use crate::headers::{self, Headers};
use crate::initialize::Initialize;
use crate::memory::{CallerRecord, Session};
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::reply::Reply;
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

impl Exchange {
    /// The headers of a request on one of our paths came. `ended` if it has no body, `may_hold` if headers can wait.
    #[must_use]
    pub fn begin(
        plugin: &Plugin,
        platform: &impl Platform,
        headers: Headers,
        ended: bool,
        may_hold: bool,
    ) -> Went {
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
            .recall(platform, &request.caller, request.came)
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
    let may_be_probe = method == Method::Get && headers.get(headers::SESSION_ID).is_none();
    let asks_for_events = |accept| headers::names_media_type(accept, "text/event-stream");
    let is_probe = may_be_probe && !headers.all(headers::ACCEPT).any(asks_for_events);
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
        let host = in_lower_case(authority);
        let endpoint = [cluster.as_bytes(), without_query(path), &host];
        Ok(Self {
            caller,
            came: platform.now(),
            endpoint: plugin.endpoints.digest(&plugin.key, endpoint),
            cluster,
            path: path.to_vec(),
            authority: authority.to_vec(),
            is_delete: method == Method::Delete,
            has_own_id: headers.get(headers::SESSION_ID).is_some(),
        })
    }
}

/// Hardly a client writes a host in upper case.
fn in_lower_case(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
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
    fn join(self, record: Option<&CallerRecord>) -> Went {
        let endpoint = &self.request.endpoint;
        let own_id = self.headers.get(headers::SESSION_ID).map(SessionId::parse);
        let is_own = own_id.is_some();
        let session = record.and_then(|record| match &own_id {
            Some(own_id) => record.living(endpoint, own_id.as_ref()?),
            None => record.latest(endpoint),
        });
        let own_id = own_id.flatten();
        let session = session.cloned();
        let session = session.or_else(|| self.shared_session(own_id.as_ref()?));
        let belongs = session.map(|session| Belongs {
            named: own_id.filter(|own_id| *own_id != session.id),
            session,
            is_own,
        });
        match belongs {
            Some(belongs) => self.join_session(belongs),
            None if is_own => self.send(None, Outcome::PassedOwnId, Vec::new()),
            None if self.needs_session() => self.open(),
            None => self.go_without(),
        }
    }

    /// Whether it is sure to be no `initialize`, so that a session can be opened for it at once: a client knows a version
    /// only after one.
    fn needs_session(&self) -> bool {
        let knows_version = self.headers.has(headers::PROTOCOL_VERSION);
        let is_sure = match self.method {
            // To listen is no reason to end another's session, and one that is shared has no streams.
            Method::Get => self.plugin.on_reinitialize() == OnReinitialize::Forward,
            Method::Post => knows_version && !self.can_hold(),
            Method::Delete => false,
        };
        is_sure && self.plugin.opens_missing()
    }

    /// Whether a session is opened for it, if it turns out to be no `initialize`.
    fn may_need_session(&self) -> bool {
        self.can_hold() && self.plugin.opens_missing()
    }

    fn open(self) -> Went {
        let (plugin, platform) = (self.plugin, self.platform);
        let Some(initialize) = plugin.remembered_initialize(platform, &self.request) else {
            return self.go_without();
        };
        self.wait_for_session(None, initialize)
    }

    fn wait_for_session(self, belongs: Option<Belongs>, initialize: Initialize) -> Went {
        let (plugin, platform) = (self.plugin, self.platform);
        let held = Held {
            body: self.body(true),
            request: self.request,
            headers: self.headers,
            belongs,
        };
        Missing::new(plugin, platform, held, false, initialize).knock(plugin, platform)
    }

    fn go_without(self) -> Went {
        if self.is_initialize_ours() || self.may_need_session() {
            self.watch(None, Outcome::PassedNoSession)
        } else {
            self.send(None, Outcome::PassedNoSession, Vec::new())
        }
    }

    /// A session that its caller's clients share is known at its seat as well: there it is found when the memory had no
    /// room for it any more. Otherwise its ids would go up as they come.
    fn shared_session(&self, own_id: &SessionId) -> Option<Session> {
        if !self.plugin.shares() {
            return None;
        }
        let seat = self.plugin.seat(&self.request)?;
        let holder = self.plugin.seats.shared(self.platform, &seat, own_id);
        let holder = holder.ok()??;
        let now = self.platform.now();
        Some(self.plugin.session_of(&holder, None, true, now))
    }

    fn join_session(self, belongs: Belongs) -> Went {
        let Belongs {
            session, is_own, ..
        } = &belongs;
        if self.is_observing() {
            return self.observe(&belongs);
        }
        if session.owned && self.method != Method::Post {
            // The filter ends it, once nobody is in it; and streams from the server are not shared.
            let reply = match self.method {
                Method::Get => Reply::no_stream(),
                Method::Post | Method::Delete => Reply::empty(200),
            };
            let id = Some(session.id.clone());
            let (exchange, signals) = Exchange::replied(Outcome::AnsweredLocally, id);
            return (exchange, Step::new(RequestAction::Reply(reply), signals));
        }
        if !self.has_body() {
            return self.forward(belongs);
        }
        let is_translated = self.plugin.translates(&belongs);
        let needs_method = !is_own || session.owned;
        if self.can_hold() && (is_translated || needs_method) {
            return self.hold(Some(belongs));
        }
        if self.can_hold() {
            return self.go_in(belongs);
        }
        // Where headers can't wait, it gets its session at once. Should it turn out to be an initialize, the filter
        // answers it, or sends it once more.
        self.forward(belongs)
    }

    /// It goes on in the session that it names; if one is just being ended, in what is opened in the place of its own.
    fn go_in(self, belongs: Belongs) -> Went {
        let (plugin, platform, session) = (self.plugin, self.platform, &belongs.session);
        let initialize = plugin.initialize_after_ending(platform, &self.request, session);
        let Some(initialize) = initialize else {
            return self.forward(belongs);
        };
        self.wait_for_session(Some(belongs), initialize)
    }

    fn observe(self, belongs: &Belongs) -> Went {
        let outcome = if belongs.is_own {
            Outcome::PassedOwnId
        } else {
            Outcome::WouldRepair
        };
        let signals = self
            .plugin
            .refresh(self.platform, &self.request, &belongs.session, false);
        let session = belongs
            .is_own
            .then(|| InSession::own(&belongs.session, self.headers.clone()));
        self.send(session, outcome, signals)
    }

    /// A POST of a caller without a session may be the initialize that opens one.
    fn watch(self, belongs: Option<Belongs>, outcome: Outcome) -> Went {
        if self.can_hold() {
            return self.hold(belongs);
        }
        let knocks = self.headers.clone();
        let (exchange, step) = self.send(None, outcome, Vec::new());
        (exchange.knocking(knocks), step)
    }

    fn hold(self, belongs: Option<Belongs>) -> Went {
        let keeps = self.keeps(belongs.is_some() || self.plugin.opens_missing());
        let held = Held {
            request: self.request,
            headers: self.headers,
            belongs,
            body: Body::unread(keeps),
        };
        (Exchange::Held(Box::new(held)), RequestAction::Hold.into())
    }

    fn forward(self, belongs: Belongs) -> Went {
        let knocks = self.is_initialize_ours().then(|| self.headers.clone());
        let body = self.body(true);
        let (exchange, step) =
            belongs.forward(self.plugin, self.platform, self.request, self.headers, body);
        match knocks {
            Some(knocks) => (exchange.knocking(knocks), step),
            None => (exchange, step),
        }
    }

    fn has_body(&self) -> bool {
        self.method == Method::Post && !self.ended
    }

    fn is_observing(&self) -> bool {
        self.plugin.config.mode == Mode::Observe
    }

    fn can_hold(&self) -> bool {
        self.has_body()
            && self.may_hold
            && self.plugin.config.hold_request_headers
            && !self.is_observing()
    }

    /// Whether the filter would answer this request by itself, if it is an initialize.
    fn is_initialize_ours(&self) -> bool {
        self.has_body()
            && !self.request.has_own_id
            && self.plugin.on_reinitialize() != OnReinitialize::Forward
    }

    fn body(&self, in_session: bool) -> Body {
        if self.has_body() {
            Body::unread(self.keeps(in_session))
        } else {
            Body::none()
        }
    }

    fn keeps(&self, in_session: bool) -> Keeps {
        let recovers = self.plugin.recovers();
        let repairs = recovers || self.plugin.repairs_version() || self.plugin.opens_missing();
        Keeps {
            initialize: self.is_initialize_ours() || !self.request.has_own_id,
            replay: if in_session && repairs {
                self.plugin.config.memory.replay_bytes
            } else {
                0
            },
        }
    }

    fn send(self, session: Option<InSession>, outcome: Outcome, signals: Vec<Signal>) -> Went {
        let body = self.body(false);
        let sent = Sent {
            session,
            ..Sent::new(self.request, body, outcome)
        };
        (
            Exchange::sent(sent),
            Step::new(RequestAction::Continue, signals),
        )
    }
}

fn pass(outcome: Outcome, mut signals: Vec<Signal>) -> Went {
    signals.push(Signal::Outcome(outcome, None));
    (
        Exchange::Passing,
        Step::new(RequestAction::Continue, signals),
    )
}
