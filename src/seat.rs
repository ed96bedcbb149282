//! The place for the one session that a server, or a caller at an endpoint, may have at a time, and who waits for it.
//!
//! ```text
//!           open                 answered well
//!  Free ───────────► Opening ──────────────────► Taken ──┐ lease over, somebody waits
//!   ▲                   │ answered otherwise        │    ▼
//!   └───────────────────┴── ended, lost ◄───────────┴─ Closing
//! ```
//! Whoever changes it does so by compare-and-swap, so each transition is a function of what is written down. A worker
//! that dies while it opens or closes leaves the place free.

mod codec;

use core::time::Duration;

use crate::digest::Digest;
use crate::session::SessionId;
use crate::subrequest::Target;
use crate::time::Millis;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose it is.
    pub key: Digest,
    /// What is there now.
    pub state: State,
    /// Who waits for a session of its own, in order.
    pub line: Vec<Ticket>,
    /// Whether somebody waits for what is under way to end.
    pub watched: bool,
    /// When a session could last not be opened, and for clients that can do what, if what the server said to that is kept.
    pub failed: Option<Failure>,
}

/// A session that could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When that was known.
    pub at: Millis,
    /// What its client declared that it can do.
    pub capabilities: Digest,
}

/// A session that has ended, or is lost.
#[derive(Clone, Copy, Debug)]
pub struct Gone<'a> {
    /// Whose it was: servers may give one id to several callers, one after the other.
    pub caller: &'a Digest,
    /// Its id.
    pub session: &'a SessionId,
    /// One that was opened later is another with the same id.
    pub opened_by: Millis,
}

/// What is at a seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Free,
    /// An `initialize` of this one is under way.
    Opening(Ticket),
    /// A session.
    Taken(Box<Holder>),
    /// A DELETE for this one is under way.
    Closing(Ticket),
}

/// Who waits: a request at a worker's VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Chosen at random for the request.
    pub number: u64,
    /// Chosen at random for the VM.
    pub vm: u64,
}

/// The session at a seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub caller: Digest,
    /// Where it was opened.
    pub endpoint: Digest,
    /// Where it can be ended.
    pub target: Target,
    /// Its id.
    pub session: SessionId,
    /// What its client declared that it can do.
    pub capabilities: Digest,
    /// The number of the ticket that opened it.
    pub opening: u64,
    /// When it was opened.
    pub opened: Millis,
    /// When a POST in it was last under way, to a quarter of the lease.
    pub used: Millis,
}

/// An `initialize` that wants a session.
#[derive(Clone, Copy, Debug)]
pub struct Knock {
    /// Its ticket.
    pub ticket: Ticket,
    /// When it came.
    pub arrived: Millis,
    /// What its client declares that it can do.
    pub capabilities: Digest,
    /// Whether it may share a session.
    pub shares: bool,
    /// Whether it has to be told what the server said when that was opened.
    pub is_told: bool,
    /// For how long nobody is to try again after a failure.
    pub backoff: Duration,
    /// What was opened at its seat before that is of no use to it, and is left as it is.
    pub since: Millis,
}

/// What an `initialize` is to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It opens a session: the seat is its own until that has an end.
    Open,
    /// It shares this one.
    Join(Box<Holder>),
    /// The one that it waited for was answered otherwise: so is it.
    Failed,
    /// It ends this one, and then knocks again.
    Close(Box<Holder>),
    /// It waits, and knocks again when it is woken.
    Wait {
        /// Whether it is in the line since just now.
        queued: bool,
    },
    /// Too many wait already.
    Refuse,
}

impl Seat {
    /// A seat that nothing is at.
    #[must_use]
    pub fn new(key: Digest) -> Self {
        Self {
            key,
            state: State::Free,
            line: Vec::new(),
            watched: false,
            failed: None,
        }
    }

    /// Whether anything that is written down here depends on a VM that may be no more.
    #[must_use]
    pub fn names_vms(&self) -> bool {
        let is_under_way = matches!(self.state, State::Opening(_) | State::Closing(_));
        is_under_way || !self.line.is_empty()
    }

    /// Forgets what VMs left that are no more.
    pub fn forget_dead(&mut self, lives: impl Fn(u64) -> bool) {
        self.line.retain(|ticket| lives(ticket.vm));
        if let State::Opening(ticket) | State::Closing(ticket) = self.state
            && !lives(ticket.vm)
        {
            self.state = State::Free;
        }
    }

    /// An `initialize` came, or was woken.
    pub fn knock(&mut self, knock: &Knock, now: Millis, lease: Duration, most: usize) -> Turn {
        let first = self.line.first();
        let is_next = first.is_none_or(|first| *first == knock.ticket);
        if let State::Taken(holder) = &self.state
            && holder.opened < knock.since
            // Not what it has opened itself, even if the clock was set back meanwhile.
            && holder.opening != knock.ticket.number
        {
            self.state = State::Free;
        }
        match &self.state {
            State::Free if knock.shares && self.has_failed(knock, now) => {
                self.leave(knock.ticket);
                Turn::Failed
            }
            State::Free if is_next => {
                self.leave(knock.ticket);
                self.state = State::Opening(knock.ticket);
                self.failed = None;
                Turn::Open
            }
            State::Taken(holder) if knock.shares && holder.capabilities == knock.capabilities => {
                let holder = holder.clone();
                self.leave(knock.ticket);
                Turn::Join(holder)
            }
            State::Taken(holder) if is_next && holder.makes_room(now, lease) => {
                let holder = holder.clone();
                if self.line.is_empty() {
                    self.line.push(knock.ticket);
                }
                self.state = State::Closing(knock.ticket);
                Turn::Close(holder)
            }
            State::Opening(ticket) | State::Closing(ticket) if *ticket == knock.ticket => {
                Turn::Wait { queued: false }
            }
            // Maybe it can share what comes.
            State::Opening(_) | State::Closing(_) if knock.shares => {
                self.watched = true;
                Turn::Wait { queued: false }
            }
            State::Free | State::Taken(_) | State::Opening(_) | State::Closing(_) => {
                self.line_up(knock.ticket, most)
            }
        }
    }

    fn has_failed(&self, knock: &Knock, now: Millis) -> bool {
        let is_late = |at: Millis| at >= knock.arrived || now.since(at) < knock.backoff;
        let concerns =
            |failure: Failure| failure.capabilities == knock.capabilities && is_late(failure.at);
        self.failed.is_some_and(concerns)
    }

    fn line_up(&mut self, ticket: Ticket, most: usize) -> Turn {
        let stands = self.line.contains(&ticket);
        if !stands && self.line.len() >= most {
            return Turn::Refuse;
        }
        if !stands {
            self.line.push(ticket);
        }
        Turn::Wait { queued: !stands }
    }

    /// A request waits no more.
    pub fn leave(&mut self, ticket: Ticket) {
        self.line.retain(|other| *other != ticket);
    }

    /// A session was opened. Says whether the seat was still kept for it.
    pub fn take(&mut self, holder: &Holder, ticket: Ticket) -> bool {
        let is_kept = self.state == State::Opening(ticket);
        if is_kept {
            self.state = State::Taken(Box::new(holder.clone()));
        }
        is_kept
    }

    /// What this one was about has come to an end, and nothing is there.
    pub fn free(&mut self, ticket: Ticket, failed: Option<Failure>) {
        if matches!(self.state, State::Opening(own) | State::Closing(own) if own == ticket) {
            self.state = State::Free;
            self.failed = failed;
        }
    }

    /// This session has ended, or is lost.
    pub fn release(&mut self, gone: Gone<'_>) {
        let is_gone =
            |holder: &mut Holder| holder.caller == *gone.caller && holder.opened <= gone.opened_by;
        if self.holder(gone.session).is_some_and(is_gone) {
            self.state = State::Free;
        }
    }

    /// A POST in this session is under way.
    pub fn touch(&mut self, session: &SessionId, now: Millis) {
        if let Some(holder) = self.holder(session) {
            holder.used = now;
        }
    }

    /// A POST in this session is about to go up. Says whether it may: not while a session is being ended here, as that
    /// may be the one. `part` of a lease may pass before its use is written down.
    pub fn enter(&mut self, session: &SessionId, now: Millis, part: Duration) -> bool {
        let is_due = |holder: &mut Holder| now.since(holder.used) >= part;
        if self.holder(session).is_some_and(is_due) {
            self.touch(session, now);
        }
        !matches!(self.state, State::Closing(_))
    }

    /// Nobody is to share this session any more, and it need not be waited for.
    pub fn distrust(&mut self, session: &SessionId) {
        if let Some(holder) = self.holder(session) {
            holder.capabilities = NOBODYS;
        }
    }

    /// A session that was idle for too long, or is too old, is not given to anybody any more.
    pub fn retire(&mut self, now: Millis, idle_timeout: Duration, max_age: Duration) {
        if let State::Taken(holder) = &self.state
            && holder.is_over(now, idle_timeout, max_age)
        {
            let session = holder.session.clone();
            self.distrust(&session);
        }
    }

    /// The session there was idle for too long, or is too old: who looked ends it.
    pub fn expire(
        &mut self,
        ticket: Ticket,
        now: Millis,
        idle_timeout: Duration,
        max_age: Duration,
    ) -> Option<Box<Holder>> {
        let State::Taken(holder) = &self.state else {
            return None;
        };
        let is_over = holder.is_over(now, idle_timeout, max_age);
        let holder = is_over.then(|| holder.clone())?;
        self.state = State::Closing(ticket);
        Some(holder)
    }

    /// Stands for the time of use of a seat that somebody waits for.
    pub const WANTED: Millis = Millis(u64::MAX);

    /// When it was last of use; nothing if nothing is there.
    #[must_use]
    pub fn used(&self) -> Option<Millis> {
        match &self.state {
            State::Free if self.line.is_empty() => None,
            State::Taken(holder) if self.line.is_empty() => Some(holder.used),
            State::Free | State::Taken(_) | State::Opening(_) | State::Closing(_) => {
                Some(Self::WANTED)
            }
        }
    }

    fn holder(&mut self, session: &SessionId) -> Option<&mut Holder> {
        match &mut self.state {
            State::Taken(holder) if holder.session == *session => Some(holder),
            State::Free | State::Taken(_) | State::Opening(_) | State::Closing(_) => None,
        }
    }
}

impl Holder {
    /// Whether it is to be ended for who waits.
    fn makes_room(&self, now: Millis, lease: Duration) -> bool {
        self.capabilities == NOBODYS || now.since(self.used) >= lease
    }

    fn is_over(&self, now: Millis, idle_timeout: Duration, max_age: Duration) -> bool {
        now.since(self.used) >= idle_timeout || now.since(self.opened) >= max_age
    }
}

/// No client's capabilities.
const NOBODYS: Digest = Digest::from_bytes([0; 32]);

#[cfg(test)]
mod tests;
