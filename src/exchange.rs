//! One request and its answer, from the first header to the last decision: events in, steps out.
//!
//! ```text
//!  request headers ──► Passing                              nothing (more) to do
//!        ├───────────► Held ──method known, too late──┐     headers wait for the method
//!        │              └─initialize─► Knocking       │     ... and for the whole of the body
//!        │                ▲                │          │
//!        │   ┌─initialize─┘                ▼          ▼
//!        └───┴─► Sent ◄─no seat─────── Waiting ◄──► a seat  the request waits for a session, or for an answer
//!                 │ └─is for the filter─► Replying          the filter answers as soon as the request is whole
//!                 │
//!    Passing ◄────┼─► Learned                               an initialize opened a session
//!                 └─► Asking                                404 or 400 in a session: is it alive?
//! ```
//! A transition takes the old state by value. The step that it yields says what the host is to do, and what to note.

mod begin;
mod body;
mod plugin;
mod settle;
mod wait;

use crate::digest::Digest;
use crate::errand::Errand;
use crate::headers::Headers;
use crate::ids::Ids;
use crate::initialize_result::VersionReader;
use crate::memory::Session;
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::{Platform, PlatformError};
use crate::repair::Edit;
use crate::reply::Reply;
use crate::seat::Ticket;
use crate::session::SessionId;
use crate::subrequest::Subrequest;

use self::body::Body;
pub use self::plugin::{Plugin, Request};
pub use self::wait::{Waiting, leave_line};

/// How much of a request's body is looked at for its method, in bytes: one that names it later counts as no
/// `initialize`, and headers wait for no more than this.
pub const SCAN_BYTES: usize = 64 * 1024;
/// How much of an answer's body may wait for a ping, in bytes: past it the answer goes on, and the session stays.
pub const ANSWER_BYTES: usize = 64 * 1024;

/// What the host is to do, and what there is to note.
pub struct Step<A> {
    /// To be done now.
    pub action: A,
    /// To be counted, logged, or passed on to others.
    pub signals: Vec<Signal>,
}

/// What becomes of a request.
pub enum RequestAction {
    /// It goes on.
    Continue,
    /// It waits: headers that have not gone on, and the body.
    Hold,
    /// It goes on with these changes of its headers, and with its JSON-RPC ids translated.
    Forward(Vec<Edit>, Option<Box<Ids>>),
    /// It is answered by the filter.
    Reply(Reply),
    /// It waits for its turn at this seat, until [`Exchange::woken`] says otherwise. The errand is to be done meanwhile.
    Wait(Digest, Option<Errand>),
}

/// What an answer waits for.
pub enum AnswerAction {
    /// Nothing: it goes on.
    Continue,
    /// The ping under way.
    Hold,
    /// A ping to be sent now.
    Ask(Subrequest),
}

/// Something to be noted.
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
    /// An `initialize` waits in the line of a seat.
    Queued,
    /// All seats are in use: the request went on without.
    NoSeat,
    /// An answer came in a form in which its ids can't be put back.
    Untranslated,
    /// Who waits for this seat has to look again, on all workers.
    Wake(Digest),
    /// This ticket could not be taken out of the line of this seat: that is to be tried again.
    Stays(Digest, Ticket),
    /// A POST in this session, which has this seat, is under way until the exchange is over.
    Attends(Digest, SessionId),
}

/// Where an exchange is.
#[derive(Default)]
pub enum Exchange {
    /// Nothing is left to do.
    #[default]
    Passing,
    /// The headers of a POST wait for its method.
    Held(Held),
    /// An `initialize` that may not go up as it is waits until it is whole.
    Knocking(Knocking),
    /// The request waits for a session.
    Waiting(Box<Waiting>),
    /// The filter answers once the request is whole.
    Replying(Replying),
    /// The request went up.
    Sent(Sent),
    /// The answer opened a session; its body is read as it streams, and at its end where the route led.
    Learned(Learned),
    /// The answer waits for a ping.
    Asking(Asking),
}

/// A session that a request belongs to.
struct Belongs {
    session: Session,
    /// The request names it itself.
    is_own: bool,
}

/// See [`Exchange::Held`].
pub struct Held {
    request: Request,
    headers: Headers,
    belongs: Option<Belongs>,
    body: Body,
}

/// See [`Exchange::Knocking`].
pub struct Knocking {
    request: Request,
    headers: Headers,
    /// Whether the request's headers wait too.
    is_held: bool,
    body: Vec<u8>,
}

/// See [`Exchange::Replying`].
pub struct Replying {
    reply: Reply,
    outcome: Outcome,
    session: Option<SessionId>,
    received: usize,
}

/// See [`Exchange::Sent`].
pub struct Sent {
    request: Request,
    body: Body,
    /// The remembered session that the request belongs to.
    session: Option<InSession>,
    /// Whether the filter opened that session.
    is_owned: bool,
    /// What becomes of it, unless the body or the answer says otherwise.
    outcome: Outcome,
    /// The request's headers, if an `initialize` may not go on.
    knocks: Option<Headers>,
    /// What is to be said of its lease once it is known to be no such `initialize`.
    attends: Option<Signal>,
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

impl Exchange {
    /// Whether the request's headers wait.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Held(_) | Self::Knocking(Knocking { is_held: true, .. })
        )
    }

    /// Whether the request waits for a session.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// Whether the answer's headers say anything to this exchange.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        match self {
            Self::Held(_)
            | Self::Knocking(_)
            | Self::Waiting(_)
            | Self::Replying(_)
            | Self::Sent(_) => true,
            Self::Passing | Self::Learned(_) | Self::Asking(_) => false,
        }
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

    /// The filter has answered by itself.
    #[must_use]
    pub fn replied(outcome: Outcome, session: Option<SessionId>) -> (Self, Vec<Signal>) {
        (Self::Passing, vec![Signal::Outcome(outcome, session)])
    }

    /// The exchange is over, maybe before its time: what is left to be remembered and counted.
    #[must_use]
    pub fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let (outcome, session) = match self {
            Self::Held(held) => {
                let session = held.belongs.map(|belongs| belongs.session.id);
                (Outcome::PassedUnknownMethod, session)
            }
            Self::Knocking(_) => (Outcome::PassedInitialize, None),
            Self::Waiting(waiting) => return waiting.over(plugin, platform),
            Self::Replying(replying) => (replying.outcome, replying.session),
            Self::Sent(sent) if sent.body.is_initialize() => (Outcome::PassedInitialize, None),
            Self::Sent(sent) => (sent.outcome, sent.session.map(|session| session.id)),
            Self::Asking(asking) => (asking.outcome, Some(asking.session.id)),
            Self::Learned(learned) => return learned.over(plugin, platform),
            Self::Passing => return Vec::new(),
        };
        vec![Signal::Outcome(outcome, session)]
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
