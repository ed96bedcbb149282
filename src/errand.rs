//! What the filter does at a server by itself, so that a client that leaves strands nothing: it opens a session, or ends
//! one. Each errand is one to three requests of the filter's own.
//!
//! ```text
//!  Open ──initialize──► answered well, shared ──notifications/initialized──► the seat is taken
//!                 │            its version is refused: once more, without ─► the seat is taken
//!                 ├───► answered well, not shared ─────────────────────────► the seat is taken
//!                 └───► answered otherwise ────────────────────────────────► the seat is free
//!  Close ──DELETE─────► answered in any way ───────────────────────────────► the seat is free
//! ```

use crate::digest::Digest;
use crate::exchange::{Plugin, Request, Signal};
use crate::headers::{ACCEPT, ACCEPT_JSON_OR_EVENTS, Headers, SESSION_ID, names_media_type};
use crate::initialize::{INITIALIZED, Initialize};
use crate::initialize_result::read_result;
use crate::memory::{CallerRecord, Lost, Session};
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::reply::{Reply, wants_events};
use crate::seat::{Failure, Holder, Ticket};
use crate::seats::WORDS_BYTES;
use crate::session::{ProtocolVersion, SessionId};
use crate::subrequest::{Message, Subrequest, Target};

/// See the module. It holds a client's headers for as long as it lasts, and no longer.
pub struct Errand {
    seat: Digest,
    ticket: Ticket,
    stage: Stage,
}

enum Stage {
    Open(Box<Opening>),
    Announce(Box<Opened>),
    Close(Box<Closing>),
}

/// A session that a client asked for.
pub struct Opening {
    /// Whose request it is, and where it goes.
    pub request: Request,
    /// The request's headers.
    pub headers: Headers,
    /// The request's body.
    pub initialize: Initialize,
    /// What its client can do.
    pub capabilities: Digest,
    /// Who the session is for.
    pub purpose: Purpose,
}

/// Who a session is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// All clients of one caller.
    Share,
    /// One client.
    Alone,
    /// Clients of one caller that sent no `initialize`.
    Serve,
    /// Whoever was in this one.
    Replace(Lost),
}

/// A session that is open, and not known to be ready yet: so nobody is to know of it.
struct Opened {
    request: Request,
    headers: Headers,
    /// The body of what opened it.
    initialize: Vec<u8>,
    /// The one that it takes the place of.
    lost: Option<Lost>,
    holder: Holder,
    session: Session,
    /// The word that it is ready was refused with a version: this is the second try.
    is_repeated: bool,
    result: Option<Vec<u8>>,
    reply: Reply,
}

/// A session that has to end.
struct Closing {
    holder: Holder,
    /// Of a request of the same caller; none, if another one's request is the reason, or time is.
    headers: Headers,
}

/// What a server answered to an errand.
pub struct Answer {
    /// Its headers, with the status.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

/// How an errand goes on.
pub enum Progress {
    /// By one more request.
    Next(Errand),
    /// No more.
    Over(Over),
}

/// What an errand has come to.
pub struct Over {
    /// The seat that it was about.
    pub seat: Digest,
    /// The request that it was done for.
    pub ticket: Ticket,
    /// What that request is answered, and what became of it; nothing if it has to knock again.
    pub reply: Option<(Reply, Outcome)>,
    /// Whether those who wait for the seat have to look again.
    pub wakes: bool,
    /// What could not be written down at the seat, and is to be tried again.
    pub unsettled: Option<Ending>,
}

/// The end of an errand, to be written down at its seat.
pub struct Ending {
    seat: Digest,
    ticket: Ticket,
    change: Change,
    /// The seat was not to be found, or kept for another, when it was looked for.
    is_missing: bool,
}

enum Change {
    /// By this session; its `InitializeResult` if that can be shared.
    Take(Box<(Holder, Option<Vec<u8>>)>),
    /// With what those are told who waited for it, if they are told the same.
    Fail(Box<(Option<Vec<u8>>, Failure)>),
    Free,
}

impl Ending {
    /// Writes it down. For as long as the host refuses that, or shows something else where the seat is, that is kept for
    /// nobody.
    #[must_use]
    pub fn settle(self, plugin: &Plugin, platform: &impl Platform) -> (Over, Vec<Signal>) {
        let (seats, seat, ticket) = (&plugin.seats, self.seat, self.ticket);
        let changed = match &self.change {
            Change::Take(taken) => {
                let (holder, result) = taken.as_ref();
                seats.take(platform, &seat, ticket, holder, result.as_deref())
            }
            Change::Fail(failed) => {
                let (words, failure) = failed.as_ref();
                seats.fail(platform, &seat, ticket, words.as_deref(), *failure)
            }
            Change::Free => seats.free(platform, &seat, ticket),
        };
        let (wakes, unsettled, signals) = match changed {
            Ok(changed) if changed.is_done || self.is_missing => (changed.wakes, None, Vec::new()),
            Ok(_) => {
                let once_more = Self {
                    is_missing: true,
                    ..self
                };
                (false, Some(once_more), Vec::new())
            }
            Err(error) => (false, Some(self), vec![Signal::Failed(error)]),
        };
        let over = Over {
            seat,
            ticket,
            reply: None,
            wakes,
            unsettled,
        };
        (over, signals)
    }
}

impl Errand {
    /// A session is to be opened.
    #[must_use]
    pub fn open(seat: Digest, ticket: Ticket, opening: Opening) -> Self {
        let stage = Stage::Open(Box::new(opening));
        Self {
            seat,
            ticket,
            stage,
        }
    }

    /// A session is to be ended. `headers` are those of a request by this caller, if one is at hand: another's
    /// credentials are not shown to a server in this one's session.
    #[must_use]
    pub fn close(
        seat: Digest,
        ticket: Ticket,
        holder: Holder,
        request: Option<(&Digest, &Headers)>,
    ) -> Self {
        let headers = match request {
            Some((caller, headers)) if *caller == holder.caller => headers.clone(),
            _ => Headers::default(),
        };
        let stage = Stage::Close(Box::new(Closing { holder, headers }));
        Self {
            seat,
            ticket,
            stage,
        }
    }

    /// The request to be sent now.
    #[must_use]
    pub fn call(&self, plugin: &Plugin) -> Subrequest {
        let config = &plugin.config.subrequest;
        match &self.stage {
            Stage::Open(opening) => {
                let accept = opening.headers.get(ACCEPT);
                let accept = accept.and_then(|accept| core::str::from_utf8(accept).ok());
                let message = Message {
                    method: "POST",
                    session: None,
                    version: None,
                    // Servers want both to be accepted on a POST; a GET, say, accepts less.
                    accept: accept
                        .filter(|accept| names_media_type(accept.as_bytes(), "application/json"))
                        .unwrap_or(ACCEPT_JSON_OR_EVENTS),
                    body: opening.initialize.body.clone(),
                    timeout: config.replay_timeout,
                };
                Subrequest::new(
                    &plugin.config,
                    opening.target(plugin),
                    &opening.headers,
                    message,
                )
            }
            Stage::Announce(opened) => {
                let version = opened.version().map(ProtocolVersion::as_bytes);
                let session = &opened.holder.session;
                let message = Message::in_session(session, version, INITIALIZED.to_vec(), config);
                let target = opened.holder.target.clone();
                Subrequest::new(&plugin.config, target, &opened.headers, message)
            }
            Stage::Close(closing) => {
                let message = Message {
                    method: "DELETE",
                    session: Some(&closing.holder.session),
                    version: None,
                    accept: "*/*",
                    body: Vec::new(),
                    timeout: config.timeout,
                };
                let target = closing.holder.target.clone();
                Subrequest::new(&plugin.config, target, &closing.headers, message)
            }
        }
    }

    /// The request was answered, or came to nothing.
    pub fn answered(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<Answer>,
    ) -> (Progress, Vec<Signal>) {
        let Self {
            seat,
            ticket,
            stage,
        } = self;
        let over = |(reply, change, mut signals): End| {
            let ending = Ending {
                seat,
                ticket,
                change,
                is_missing: false,
            };
            let (over, failed) = ending.settle(plugin, platform);
            signals.extend(failed);
            (Progress::Over(Over { reply, ..over }), signals)
        };
        let opened = match stage {
            Stage::Open(opening) => opening.answered(plugin, platform, ticket, answer),
            Stage::Announce(opened) => opened.answered(plugin, platform, answer),
            Stage::Close(closing) => {
                let signals = closing.forget(plugin, platform);
                Err((None, Change::Free, signals))
            }
        };
        match opened {
            Ok((opened, signals)) => {
                let stage = Stage::Announce(Box::new(opened));
                let next = Self {
                    seat,
                    ticket,
                    stage,
                };
                (Progress::Next(next), signals)
            }
            Err(end) => over(end),
        }
    }
}

type End = (Option<(Reply, Outcome)>, Change, Vec<Signal>);

impl Opening {
    /// Where the request goes.
    fn target(&self, plugin: &Plugin) -> Target {
        let config = &plugin.config.subrequest;
        let rewritten = self.lost().and_then(|lost| lost.rewritten.as_ref());
        Target::of(&self.request.cluster, &self.headers, rewritten, config)
    }

    fn lost(&self) -> Option<&Lost> {
        match &self.purpose {
            Purpose::Replace(lost) => Some(lost),
            Purpose::Share | Purpose::Serve | Purpose::Alone => None,
        }
    }

    fn answered(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        ticket: Ticket,
        answer: Option<Answer>,
    ) -> Result<(Opened, Vec<Signal>), End> {
        let status = answer.as_ref().and_then(|answer| answer.headers.status());
        let (Some(answer), Some(status)) = (answer, status) else {
            let words = "the MCP server did not answer the initialize in time";
            let reply = Reply::error(504, &self.initialize.id, words);
            return Err(self.failed(plugin, platform, reply));
        };
        let Answer { headers, body } = answer;
        let opened = (200..=299)
            .contains(&status)
            .then(|| headers.get(SESSION_ID));
        let session = opened.flatten().and_then(SessionId::parse);
        let result = read_result(&headers, &body);
        let reply = plugin.passed_on(status, &headers, body);
        let Some(id) = session else {
            return Err(self.failed(plugin, platform, reply));
        };
        let (now, host) = (platform.now(), plugin.host_of(&headers));
        let holder = Holder {
            caller: self.request.caller,
            endpoint: self.request.endpoint,
            target: self.target(plugin).without_query().on(host),
            session: id,
            capabilities: self.capabilities,
            opening: ticket.number,
            opened: now,
            used: now,
        };
        let version = result.as_ref().and_then(|result| result.version.clone());
        let result = result.map(|result| result.json);
        // It was asked for in either form.
        let reply = match &result {
            Some(json) if wants_events(&self.headers) => {
                Reply::initialized(&self.headers, &self.initialize.id, &holder.session, json)
            }
            _ => reply,
        };
        // What can't be kept can't be shared: then its client has the session alone.
        let shareable = result.filter(|json| json.len() <= WORDS_BYTES);
        let is_for_all = self.is_for_all(plugin);
        let result = match &self.purpose {
            Purpose::Share => shareable,
            Purpose::Alone => None,
            // Clients go on as if nothing had happened; only who comes later is told.
            Purpose::Serve | Purpose::Replace(_) if is_for_all => {
                Some(shareable.unwrap_or_default())
            }
            Purpose::Serve | Purpose::Replace(_) => Some(Vec::new()),
        };
        let is_shared = is_for_all && result.is_some();
        let session = plugin.session_of(&holder, version, is_shared, now);
        let lost = self.lost().cloned();
        let session = Session {
            versionless: lost.as_ref().is_some_and(|lost| lost.versionless),
            ..session
        };
        let opened = Opened {
            request: self.request,
            headers: self.headers,
            initialize: self.initialize.body,
            lost,
            holder,
            session,
            is_repeated: false,
            result,
            reply,
        };
        if opened.result.is_some() {
            return Ok((opened, Vec::new()));
        }
        Err(opened.take(plugin, platform))
    }

    /// Whether all clients of its caller share it.
    fn is_for_all(&self, plugin: &Plugin) -> bool {
        let is_for_several = match &self.purpose {
            Purpose::Share | Purpose::Serve => true,
            Purpose::Replace(lost) => lost.owned,
            Purpose::Alone => false,
        };
        is_for_several && plugin.shares()
    }

    /// The server opened no session.
    fn failed(&self, plugin: &Plugin, platform: &impl Platform, reply: Reply) -> End {
        let endpoint = self.request.endpoint;
        let is_sessionless = (200..=299).contains(&reply.status);
        let signals = if is_sessionless {
            let unset = |record: &mut CallerRecord| record.unset_latest(&endpoint);
            plugin.remember(platform, &self.request, unset).1
        } else {
            Vec::new()
        };
        // Who waited for a session gets the same refusal. Where none are opened, each gets an answer of its own.
        let refusal = (!is_sessionless).then(|| reply.encode());
        let refusal = refusal.filter(|words| words.len() <= WORDS_BYTES);
        let words = match &self.purpose {
            Purpose::Share => refusal,
            Purpose::Alone => None,
            // Each gets what its server says to its own request; only who waited with an initialize is told.
            Purpose::Serve | Purpose::Replace(_) if self.is_for_all(plugin) => {
                Some(refusal.unwrap_or_default())
            }
            Purpose::Serve | Purpose::Replace(_) => Some(Vec::new()),
        };
        let failure = Failure {
            at: platform.now(),
            capabilities: self.capabilities,
        };
        let change = Change::Fail(Box::new((words, failure)));
        (Some((reply, Outcome::PassedInitialize)), change, signals)
    }
}

impl Opened {
    /// Whatever the answer was, the session is open: if it is not ready, its clients will hear of it. But some gateways
    /// refuse the version that they agreed on.
    fn answered(
        mut self,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<Answer>,
    ) -> Result<(Self, Vec<Signal>), End> {
        let status = answer.and_then(|answer| answer.headers.status());
        let is_refused = status == Some(400) && self.version().is_some();
        if is_refused && plugin.repairs_version() {
            self.is_repeated = true;
            return Ok((self, Vec::new()));
        }
        self.session.versionless |= self.is_repeated && matches!(status, Some(200..=299));
        Err(self.take(plugin, platform))
    }

    /// What goes with what is announced.
    fn version(&self) -> Option<&ProtocolVersion> {
        let is_named = !self.session.versionless && !self.is_repeated;
        self.session.version.as_ref().filter(|_| is_named)
    }

    fn take(self, plugin: &Plugin, platform: &impl Platform) -> End {
        // Who came before that had no way to know of it.
        let now = platform.now();
        let session = &Session {
            opened: now,
            used: now,
            ..self.session
        };
        let holder = Holder {
            opened: now,
            used: now,
            ..self.holder
        };
        let learn = |record: &mut CallerRecord| match &self.lost {
            Some(lost) => record.succeed(lost, session.clone()),
            None => record.learn(session.clone()),
        };
        let (is_learned, mut signals) = plugin.remember(platform, &self.request, learn);
        let (request, body) = (&self.request, &self.initialize);
        signals.extend(plugin.keep_initialize(platform, request, &session.id, body));
        signals.extend(plugin.unpinned(session.host));
        // What is not remembered is not shared: its ids would not be translated.
        let result = self.result.filter(|_| is_learned);
        let change = Change::Take(Box::new((holder, result)));
        (Some((self.reply, Outcome::Learned)), change, signals)
    }
}

impl Closing {
    fn forget(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        // A holder that comes back later has lost its session like any other.
        if plugin.recovers() {
            return Vec::new();
        }
        let Holder {
            caller,
            endpoint,
            session,
            ..
        } = self.holder;
        plugin
            .change(platform, &caller, |record| {
                record.forget(&endpoint, &session);
            })
            .1
    }
}

#[cfg(test)]
mod tests;
