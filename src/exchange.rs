//! One request and its answer, from the first header to the last decision: events in, steps out.
//!
//! ```text
//!  request headers ──► Passing                              nothing (more) to do
//!        ├───────────► Missing ◄──► a seat ──► Sent         a session is opened for it; Held may come here as well
//!        ├───────────► Held ──method known, too late──┐     headers wait for the method
//!        │              └─initialize─► Knocking       │     ... and for the whole of the body
//!        │                ▲                │          │
//!        │   ┌─initialize─┘                ▼          ▼
//!        └───┴─► Sent ◄─no seat─────── Waiting ◄──► a seat  the request waits for a session, or for an answer
//!                 │ └─is for the filter─► Replying          the filter answers as soon as the request is whole
//!                 │
//!    Passing ◄────┼─► Learned                               an initialize opened a session
//!                 └─► Asking                                404 or 400 in a session: is it alive?
//!                       ├─is lost─► Recovering ◄──► a seat  the answer waits for a session that takes its place
//!                       │            │ └─is old─► Checking  ... and for a ping in one that was there before
//!                       └─────────► Replaying ◄──┘          the request was sent again
//! ```
//! A transition takes the old state by value. The step that it yields says what the host is to do, and what to note.

mod begin;
mod body;
mod kept;
mod missing;
mod plugin;
mod recover;
mod reinitialize;
mod replay;
mod settle;
mod wait;
mod waiter;

use crate::digest::Digest;
use crate::errand::Errand;
use crate::headers::{Headers, SESSION_ID};
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

use self::kept::Body;
pub use self::missing::Missing;
pub use self::plugin::{Plugin, Request};
pub use self::recover::{Checking, Recovering};
pub use self::reinitialize::Reinitializing;
use self::replay::Refused;
pub use self::replay::Replaying;
pub use self::wait::{Waiting, Woken};
pub use self::waiter::leave_line;

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
    /// What is under way.
    Hold,
    /// A request of the filter's own is to be sent now.
    Ask(Subrequest),
    /// It goes no further: this goes in its place.
    Reply(Reply),
    /// It waits for its request's turn at this seat, until [`Exchange::woken`] says otherwise. The errand is to be done
    /// meanwhile.
    Wait(Digest, Option<Errand>),
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
    /// It is not known which host a new session is on.
    Unpinned,
    /// Who waits for this seat has to look again, on all workers.
    Wake(Digest),
    /// This ticket could not be taken out of the line of this seat: that is to be tried again.
    Stays(Digest, Ticket),
    /// A POST in this session, which has this seat, is under way until the exchange is over.
    Attends(Digest, SessionId),
    /// That POST's session is lost: it keeps nobody from having another one in its place.
    Leaves,
}

/// Where an exchange is. Boxed, as it moves with every event.
#[derive(Default)]
pub enum Exchange {
    /// Nothing is left to do.
    #[default]
    Passing,
    /// The headers of a POST wait for its method.
    Held(Box<Held>),
    /// An `initialize` that may not go up as it is waits until it is whole.
    Knocking(Box<Knocking>),
    /// The request waits for a session.
    Waiting(Box<Waiting>),
    /// The request waits for the session that is opened for it.
    Missing(Box<Missing>),
    /// The filter answers once the request is whole.
    Replying(Box<Replying>),
    /// The request went up.
    Sent(Box<Sent>),
    /// The answer opened a session; its body is read as it streams, and at its end where the route led.
    Learned(Box<Learned>),
    /// The answer waits for a ping.
    Asking(Box<Asking>),
    /// The answer waits for another session.
    Recovering(Box<Recovering>),
    /// The answer waits for a ping in another session.
    Checking(Box<Checking>),
    /// The request was sent again, and its first answer waits for the second.
    Replaying(Box<Replaying>),
    /// An `initialize` was sent again, and its first answer waits for the second.
    Reinitializing(Box<Reinitializing>),
}

/// A session that a request belongs to.
struct Belongs {
    session: Session,
    /// The request names it itself, or one that it stands for.
    is_own: bool,
    /// The one that the request names, if this one stands for it.
    named: Option<SessionId>,
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
    /// The session that its headers were put into, as they did not wait.
    session: Option<InSession>,
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
    /// What becomes of it, unless the body or the answer says otherwise.
    outcome: Outcome,
    /// The request's headers, if an `initialize` may not go on.
    knocks: Option<Headers>,
    /// What is to be said of its lease once it is known to be no such `initialize`.
    attends: Option<Signal>,
    /// The session that is shared from now on, unless this is an `initialize`.
    shares: Option<Box<Session>>,
}

impl Sent {
    /// Whether the filter opened the session that it is in.
    fn is_owned(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.owned)
    }

    /// A request that is in no session.
    fn new(request: Request, body: Body, outcome: Outcome) -> Self {
        Self {
            request,
            body,
            session: None,
            outcome,
            knocks: None,
            attends: None,
            shares: None,
        }
    }
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
    refused: Refused,
    /// The version that the request had, if the server was asked without.
    dropped_version: Option<Vec<u8>>,
    /// The session's host could not be connected to: another one was asked.
    is_elsewhere: bool,
}

impl Exchange {
    /// Whether the request's headers wait.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match self {
            Self::Held(_) => true,
            Self::Knocking(knocking) => knocking.is_held,
            _ => false,
        }
    }

    /// Whether the request's body waits, for more of itself or for something else.
    #[must_use]
    pub fn holds_request(&self) -> bool {
        matches!(
            self,
            Self::Held(_)
                | Self::Knocking(_)
                | Self::Waiting(_)
                | Self::Missing(_)
                | Self::Replying(_)
        )
    }

    /// Whether a change at a seat says anything to this exchange.
    #[must_use]
    pub fn waits_at_seat(&self) -> bool {
        match self {
            Self::Waiting(_) | Self::Recovering(_) => true,
            Self::Missing(missing) => missing.waits_at_seat(),
            _ => false,
        }
    }

    /// Whether all of the request's body waits for a session, so that it goes on as soon as that is there.
    #[must_use]
    pub fn holds_whole_body(&self) -> bool {
        matches!(self, Self::Missing(missing) if missing.is_whole())
    }

    /// Whether the answer's headers say anything to this exchange.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        match self {
            Self::Held(_)
            | Self::Knocking(_)
            | Self::Waiting(_)
            | Self::Missing(_)
            | Self::Replying(_)
            | Self::Sent(_) => true,
            Self::Passing
            | Self::Learned(_)
            | Self::Asking(_)
            | Self::Recovering(_)
            | Self::Checking(_)
            | Self::Replaying(_)
            | Self::Reinitializing(_) => false,
        }
    }

    /// Whether the answer's body says anything to this exchange.
    #[must_use]
    pub fn reads_answer(&self) -> bool {
        matches!(self, Self::Learned(learned) if learned.reader.is_some())
    }

    /// Whether it has a say in what becomes of the answer's body; else that goes on as it comes.
    #[must_use]
    pub fn follows_answer(&self) -> bool {
        matches!(self, Self::Learned(_)) || self.holds_answer()
    }

    /// Whether the answer waits: what still comes of the request is kept, and goes on.
    #[must_use]
    pub fn holds_answer(&self) -> bool {
        match self {
            Self::Recovering(_) => true,
            Self::Waiting(waiting) => waiting.is_refused(),
            _ => self.asks(),
        }
    }

    /// A piece of the request can't be read: it can't be sent again.
    pub fn lose_body(&mut self) {
        match self {
            Self::Asking(asking) => asking.refused.body.lose(),
            Self::Recovering(recovering) => recovering.lose_body(),
            Self::Checking(checking) => checking.lose_body(),
            _ => {}
        }
    }

    /// Whether a request of the filter's own is under way for it.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(
            self,
            Self::Asking(_) | Self::Checking(_) | Self::Replaying(_) | Self::Reinitializing(_)
        )
    }

    /// What the answer's session id has to be, if its client knows another one.
    #[must_use]
    pub fn renames_session(&self, headers: &Headers) -> Option<Edit> {
        let Self::Sent(sent) = self else { return None };
        let session = sent.session.as_ref()?;
        let named = session.named.as_ref()?;
        let is_it = headers.get(SESSION_ID) == Some(session.id.as_bytes());
        is_it.then(|| Edit::set(SESSION_ID, named.as_bytes()))
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
            Self::Knocking(_) | Self::Reinitializing(_) => (Outcome::PassedInitialize, None),
            Self::Waiting(waiting) => return waiting.over(plugin, platform),
            Self::Missing(missing) => return missing.over(plugin, platform),
            Self::Replying(replying) => (replying.outcome, replying.session),
            Self::Sent(sent) if sent.body.is_initialize() => (Outcome::PassedInitialize, None),
            Self::Sent(sent) => (sent.outcome, sent.session.map(|session| session.id)),
            Self::Asking(asking) => {
                let Refused {
                    outcome, session, ..
                } = asking.refused;
                (outcome, Some(session.id))
            }
            Self::Recovering(recovering) => return recovering.over(plugin, platform),
            Self::Checking(checking) => return checking.over(plugin, platform),
            Self::Replaying(replaying) => return replaying.over(plugin, platform),
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

    /// The same, once these are noted.
    fn after(mut self, mut signals: Vec<Signal>) -> Self {
        signals.append(&mut self.signals);
        Self { signals, ..self }
    }
}

impl<A> From<A> for Step<A> {
    fn from(action: A) -> Self {
        Self::new(action, Vec::new())
    }
}
