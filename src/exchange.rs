//! One request and its answer, from the first header to the last decision: events in, steps out.
//!
//! ```text
//!  request headers ──► Passing                        nothing (more) to do
//!        │ ├─────────► Held ──method known, too late──┐   headers wait for the method
//!        │ └─────────────────────────────────────────►▼
//!        └───────────────────────────────────────► Sent   the body is scanned as it streams; the answer is awaited
//!                                                     │
//!                        Passing ◄── any other answer ┼─► Learned   an initialize opened a session
//!                                                     └─► Asking    404 or 400 in a session: is it alive?
//! ```
//! A transition takes the old state by value. The step that it yields says what the host is to do, and what to count.

mod begin;
mod settle;

use crate::config::Config;
use crate::digest::{Digest, DigestKey, Salt};
use crate::headers::Headers;
use crate::initialize_result::VersionReader;
use crate::memory::{CallerRecord, Change, Memory, Session};
use crate::outcome::Outcome;
use crate::ping::{InSession, Ping};
use crate::platform::{Platform, PlatformError};
use crate::repair::{self, Edit};
use crate::scanner::{Kind, Scanner};
use crate::session::SessionId;

/// How much of a request's body is looked at for its method, in bytes: one that names it later counts as no
/// `initialize`, and headers wait for no more than this.
pub const SCAN_BYTES: usize = 64 * 1024;
/// How much of an answer's body may wait for a ping, in bytes: past it the answer goes on, and the session stays.
pub const ANSWER_BYTES: usize = 64 * 1024;

/// What all requests of a VM share.
pub struct Plugin {
    /// What the filter is told to do.
    pub config: Config,
    /// What is remembered.
    pub memory: Memory,
    /// What digests are made with.
    pub key: DigestKey,
    /// The salt that the key was made of.
    pub salt: Salt,
}

/// What the host is to do, and what there is to count.
#[derive(Debug)]
pub struct Step<A> {
    /// To be done now.
    pub action: A,
    /// To be counted and logged.
    pub signals: Vec<Signal>,
}

/// What a request waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestAction {
    /// Nothing: it goes on.
    Continue,
    /// Its method: headers and body wait.
    Hold,
    /// It goes on with these changes.
    Repair(Vec<Edit>),
}

/// What an answer waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerAction {
    /// Nothing: it goes on.
    Continue,
    /// The ping under way.
    Hold,
    /// A ping to be sent now.
    Ask(Ping),
}

/// Something to be counted.
#[derive(Debug, PartialEq, Eq)]
pub enum Signal {
    /// The outcome of the request, and the session that it is about.
    Outcome(Outcome, Option<SessionId>),
    /// So many sessions had to make room.
    Evicted(usize),
    /// Other workers changed the same slot faster, again and again: nothing was written.
    Contended,
    /// The host refused a call; the request went on without.
    Failed(PlatformError),
}

/// Where an exchange is.
#[derive(Default)]
pub enum Exchange {
    /// Nothing is left to do.
    #[default]
    Passing,
    /// The headers of a POST wait; its caller has a session.
    Held(Held),
    /// The request went up.
    Sent(Sent),
    /// The answer opened a session; its body is read as it streams, and at its end where the route led.
    Learned(Learned),
    /// The answer waits for a ping.
    Asking(Asking),
}

/// Whose request it is, and where it goes.
struct Request {
    caller: Digest,
    endpoint: Digest,
    cluster: String,
    path: Vec<u8>,
    authority: Vec<u8>,
    is_delete: bool,
    has_own_id: bool,
}

/// See [`Exchange::Held`].
pub struct Held {
    request: Request,
    headers: Headers,
    session: Session,
    body: Body,
}

/// See [`Exchange::Sent`].
pub struct Sent {
    request: Request,
    body: Body,
    /// The remembered session that the request belongs to.
    session: Option<InSession>,
    /// What becomes of it, unless the body or the answer says otherwise.
    outcome: Outcome,
}

/// See [`Exchange::Learned`].
pub struct Learned {
    request: Request,
    id: SessionId,
    /// Until the version is found, or can't be.
    reader: Option<VersionReader>,
}

/// See [`Exchange::Asking`].
pub struct Asking {
    request: Request,
    session: InSession,
    outcome: Outcome,
    /// What the server answered to the request: 400 or 404.
    status: u16,
}

/// A request's body as far as it was looked at.
enum Body {
    Unread { scanner: Scanner, scanned: usize },
    Read(Kind),
}

impl Body {
    fn unread() -> Self {
        Self::Unread {
            scanner: Scanner::new(),
            scanned: 0,
        }
    }

    /// How many more bytes are worth a look.
    fn wanted(&self) -> usize {
        match self {
            Self::Unread { scanned, .. } => SCAN_BYTES.saturating_sub(*scanned),
            Self::Read(_) => 0,
        }
    }

    fn scan(self, bytes: &[u8], ended: bool) -> Self {
        match self {
            Self::Read(kind) => Self::Read(kind),
            Self::Unread {
                mut scanner,
                scanned,
            } => match scanner.scan(bytes) {
                Some(kind) => Self::Read(kind),
                None if ended => Self::Read(scanner.finish()),
                None => Self::Unread {
                    scanner,
                    scanned: scanned.saturating_add(bytes.len()),
                },
            },
        }
    }

    fn is_initialize(&self) -> bool {
        matches!(self, Self::Read(Kind::Initialize))
    }
}

impl Exchange {
    /// How many bytes of the request's body the next [`Self::request_body`] is to be given at most.
    #[must_use]
    pub fn wanted_request_bytes(&self) -> usize {
        match self {
            Self::Held(held) => held.body.wanted(),
            Self::Sent(sent) => sent.body.wanted(),
            Self::Passing | Self::Learned(_) | Self::Asking(_) => 0,
        }
    }

    /// Whether the request's headers wait.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Whether the answer's headers say anything to this exchange.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        matches!(self, Self::Sent(_) | Self::Held(_))
    }

    /// Whether the answer's body says anything to this exchange.
    #[must_use]
    pub fn reads_answer(&self) -> bool {
        matches!(self, Self::Learned(learned) if learned.reader.is_some())
    }

    /// Whether a ping is under way.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(self, Self::Asking(_))
    }

    /// The next bytes of the request's body. `ended` if no more come.
    #[must_use]
    pub fn request_body(self, bytes: &[u8], ended: bool) -> (Self, Step<RequestAction>) {
        match self {
            Self::Held(held) => held.body_came(bytes, ended),
            Self::Sent(mut sent) => {
                sent.body = sent.body.scan(bytes, ended);
                (Self::Sent(sent), RequestAction::Continue.into())
            }
            other @ (Self::Passing | Self::Learned(_) | Self::Asking(_)) => {
                (other, RequestAction::Continue.into())
            }
        }
    }

    /// The headers of the request waited too long: it goes on as it came.
    #[must_use]
    pub fn let_go(self) -> Self {
        match self {
            Self::Held(held) => held.pass(Outcome::PassedTimeout),
            other => other,
        }
    }

    /// The exchange is over, maybe before its time: what is left to be remembered and counted.
    #[must_use]
    pub fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let (outcome, session) = match self {
            Self::Held(held) => (Outcome::PassedUnknownMethod, Some(held.session.id)),
            Self::Sent(sent) if sent.body.is_initialize() => (Outcome::PassedInitialize, None),
            Self::Sent(sent) => (sent.outcome, sent.session.map(|session| session.id)),
            Self::Asking(asking) => (asking.outcome, Some(asking.session.id)),
            Self::Learned(learned) => return learned.over(plugin, platform),
            Self::Passing => return Vec::new(),
        };
        vec![Signal::Outcome(outcome, session)]
    }
}

impl Held {
    fn body_came(self, bytes: &[u8], ended: bool) -> (Exchange, Step<RequestAction>) {
        let body = self.body.scan(bytes, ended);
        let held = Self { body, ..self };
        match held.body {
            Body::Read(Kind::Other) => held.repair(),
            Body::Read(Kind::Initialize) => (
                held.pass(Outcome::PassedInitialize),
                RequestAction::Continue.into(),
            ),
            Body::Unread { scanned, .. } if scanned >= SCAN_BYTES => (
                held.pass(Outcome::PassedTooLarge),
                RequestAction::Continue.into(),
            ),
            Body::Unread { .. } => (Exchange::Held(held), RequestAction::Hold.into()),
        }
    }

    fn repair(self) -> (Exchange, Step<RequestAction>) {
        let edits = repair::edits(&self.session, &self.headers);
        let sent = Sent {
            session: Some(InSession::repaired(&self.session, self.headers)),
            request: self.request,
            body: self.body,
            outcome: Outcome::Repaired,
        };
        (Exchange::Sent(sent), RequestAction::Repair(edits).into())
    }

    fn pass(self, outcome: Outcome) -> Exchange {
        Exchange::Sent(Sent {
            request: self.request,
            body: self.body,
            session: None,
            outcome,
        })
    }
}

impl Plugin {
    /// Changes what is remembered of the request's caller. Says whether that took place, and what there is to count.
    fn remember(
        &self,
        platform: &impl Platform,
        request: &Request,
        change: impl Fn(&mut CallerRecord),
    ) -> (bool, Vec<Signal>) {
        let memory = &self.memory;
        match memory.change(platform, &request.caller, platform.now(), change) {
            Ok(Change::Done { evicted: 0 }) => (true, Vec::new()),
            Ok(Change::Done { evicted }) => (true, vec![Signal::Evicted(evicted)]),
            Ok(Change::GivenUp) => (false, vec![Signal::Contended]),
            Err(error) => (false, vec![Signal::Failed(error)]),
        }
    }
}

impl<A> Step<A> {
    fn new(action: A, signals: Vec<Signal>) -> Self {
        Self { action, signals }
    }
}

impl<A> From<A> for Step<A> {
    fn from(action: A) -> Self {
        Self::new(action, Vec::new())
    }
}
