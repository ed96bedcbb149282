//! An `initialize` that waits: for a session that is being opened, or for its turn to open one.

use super::body::Went;
use super::kept::Body;
use super::settle::{Settled, finished};
use super::waiter::{Patience, Waiter};
use super::{AnswerAction, Exchange, Plugin, Request, RequestAction, Sent, Signal, Step};
use crate::errand::{Over, Purpose};
use crate::headers::Headers;
use crate::initialize::Initialize;
use crate::initialize_result::version_in;
use crate::memory::Session;
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::reply::Reply;
use crate::seat::{Holder, Turn};
use crate::seats::Knocked;
use crate::time::Millis;

/// See the module.
pub struct Waiting {
    request: Request,
    headers: Headers,
    /// The session that its headers were put into, as they did not wait.
    session: Option<InSession>,
    initialize: Initialize,
    waiter: Waiter,
    /// It has waited, so what failed meanwhile is what it waited for.
    has_waited: bool,
    /// The headers of an answer that says nothing but that this session is dead.
    refusal: Option<Headers>,
}

impl Exchange {
    /// Something has changed at the seat that the request waits for, or may have.
    #[must_use]
    pub fn woken(self, plugin: &Plugin, platform: &impl Platform) -> Woken {
        match self {
            Self::Waiting(waiting) => {
                waiting.woken(plugin, platform, |waiting| {
                    // What it does itself decides.
                    if waiting.waiter.is_away() {
                        return waiting.wait();
                    }
                    waiting.knock(plugin, platform)
                })
            }
            Self::Missing(missing) => missing.knock(plugin, platform).into(),
            Self::Recovering(recovering) => recovering.knock(plugin, platform).into(),
            other => (other, Step::from(RequestAction::Continue)).into(),
        }
    }

    /// A tick came.
    #[must_use]
    pub fn ticked(self, plugin: &Plugin, platform: &impl Platform) -> Woken {
        match self {
            Self::Waiting(waiting) => {
                waiting.woken(plugin, platform, |waiting| waiting.ticked(plugin, platform))
            }
            Self::Missing(missing) => missing.ticked(plugin, platform).into(),
            Self::Recovering(recovering) => recovering.ticked(plugin, platform).into(),
            other => (other, Step::from(RequestAction::Continue)).into(),
        }
    }

    /// An errand at the seat that the request waits for is over.
    #[must_use]
    pub fn errand_over(self, plugin: &Plugin, platform: &impl Platform, over: &Over) -> Woken {
        match self {
            Self::Missing(missing) => missing.errand_over(plugin, platform, over).into(),
            Self::Recovering(recovering) => recovering.errand_over(plugin, platform, over).into(),
            Self::Waiting(waiting) => waiting.woken(plugin, platform, |mut waiting| {
                let is_own = waiting.waiter.errand_over(over);
                match &over.reply {
                    Some((reply, outcome)) if is_own => {
                        // Its VM may have been taken for dead, and it stands in line again.
                        let left = waiting.leave(plugin, platform);
                        let (exchange, step) = replied(reply.clone(), *outcome);
                        (exchange, step.after(left))
                    }
                    _ if waiting.waiter.is_away() => waiting.wait(),
                    _ => waiting.knock(plugin, platform),
                }
            }),
            other => (other, Step::from(RequestAction::Continue)).into(),
        }
    }

    /// The host refused a call: the request waits for nothing any more.
    #[must_use]
    pub fn give_up(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        match self {
            Self::Waiting(waiting) => waiting.leave(plugin, platform),
            Self::Missing(missing) => missing.leave(plugin, platform),
            Self::Recovering(recovering) => recovering.leave(plugin, platform),
            Self::Replaying(replaying) => replaying.leave(plugin, platform),
            _ => Vec::new(),
        }
    }
}

/// What became of an exchange that was woken: its request goes on, or its answer does.
pub enum Woken {
    /// It waited with its request.
    Request(Exchange, Step<RequestAction>),
    /// It waited with its answer.
    Answer(Exchange, Step<AnswerAction>),
}

impl From<Went> for Woken {
    fn from((exchange, step): Went) -> Self {
        Self::Request(exchange, step)
    }
}

impl From<Settled> for Woken {
    fn from((exchange, step): Settled) -> Self {
        Self::Answer(exchange, step)
    }
}

impl Waiting {
    /// A request that is going to wait, with all of its body; or what becomes of it if it is none that may.
    pub(super) fn new(
        plugin: &Plugin,
        platform: &impl Platform,
        request: Request,
        headers: Headers,
        session: Option<InSession>,
        body: Vec<u8>,
    ) -> Result<Self, Box<Exchange>> {
        let (seat, parsed) = (plugin.seat(&request), Initialize::parse(body.clone()));
        let (Some(seat), Some(initialize), true) = (seat, parsed, request.is_bounded()) else {
            return Err(Box::new(passed_initialize(request, session, body)));
        };
        let capabilities = plugin.capabilities(&initialize);
        let mut waiter = Waiter::new(plugin, platform, seat, capabilities);
        waiter.knock.shares = plugin.shares();
        waiter.knock.is_told = true;
        Ok(Self {
            request,
            headers,
            session,
            initialize,
            waiter,
            has_waited: false,
            refusal: None,
        })
    }

    /// Asks for its turn, if it may wait for one.
    pub(super) fn come(self, plugin: &Plugin, platform: &impl Platform) -> Went {
        if platform.may_wait() {
            self.knock(plugin, platform)
        } else {
            self.refuse(
                plugin,
                "too many requests wait for a session: try again later",
            )
        }
    }

    /// Something happened. Should it go up as it came, its answer is there already, maybe.
    fn woken(
        mut self,
        plugin: &Plugin,
        platform: &impl Platform,
        happened: impl FnOnce(Self) -> Went,
    ) -> Woken {
        let refusal = self.refusal.take();
        match (happened(self), refusal) {
            ((Exchange::Waiting(waiting), step), refusal) => {
                let waiting = Self {
                    refusal,
                    ..*waiting
                };
                Woken::Request(Exchange::Waiting(Box::new(waiting)), step)
            }
            ((exchange @ Exchange::Sent(_), before), Some(headers)) => {
                let (exchange, step) = exchange.answer_headers(plugin, platform, &headers);
                Woken::Answer(exchange, step.after(before.signals))
            }
            (went, _) => went.into(),
        }
    }

    /// Whether an answer waits that is none to this request.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Its server, or Envoy, has answered before its time.
    pub(super) fn answered(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        headers: &Headers,
    ) -> Settled {
        let status = headers.status();
        let is_refused = |session: &InSession| match status {
            Some(400 | 404) => true,
            // Its headers went to a host that can't be connected to.
            Some(503) => session.has_missed_host(status, platform),
            _ => false,
        };
        if self.session.as_ref().is_some_and(is_refused) {
            self.refusal = Some(headers.clone());
            return (Exchange::Waiting(self), AnswerAction::Hold.into());
        }
        finished(self.over(plugin, platform))
    }

    /// It waits on.
    fn wait(self) -> Went {
        let step = RequestAction::Wait(self.waiter.seat, None).into();
        (Exchange::Waiting(Box::new(self)), step)
    }

    fn knock(self, plugin: &Plugin, platform: &impl Platform) -> Went {
        let mut knock = self.waiter.knock;
        if !self.has_waited {
            // Times alone don't say so: clocks are set back, and much happens in a millisecond.
            knock.arrived = Millis(u64::MAX);
        }
        let knocked = plugin.knock(platform, &self.waiter.seat, &knock);
        match knocked {
            Ok(Knocked::Join(holder, result)) => self.join(plugin, platform, &holder, &result),
            Ok(Knocked::Failed(words)) => match Reply::decode(&words) {
                Some(reply) => {
                    let reply = reply.with_id(&self.initialize.id);
                    replied(reply, Outcome::PassedInitialize)
                }
                None => self.go_on(plugin, platform, None),
            },
            Ok(Knocked::NoSeat) => self.go_on(plugin, platform, Some(Signal::NoSeat)),
            Err(error) => self.go_on(plugin, platform, Some(Signal::Failed(error))),
            Ok(Knocked::Turn(turn)) => self.take_turn(plugin, turn),
        }
    }

    /// It shares a session. That has to be known, or its requests would go up as they come.
    fn join(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        holder: &Holder,
        result: &[u8],
    ) -> Went {
        let now = platform.now();
        let known = plugin.memory.recall(platform, &holder.caller, now);
        let known = known.ok().flatten().and_then(|record| {
            let session = record.session(&holder.endpoint, &holder.session)?;
            let is_told = session.latest && !session.hidden;
            let is_due = !is_told || plugin.memory.is_refresh_due(session, now);
            Some((is_due, session.hidden))
        });
        let mut signals = Vec::new();
        if known.is_none_or(|(is_due, _)| is_due) {
            let (is_done, noted) = plugin.remember(platform, &self.request, |record| {
                let known = record.session(&holder.endpoint, &holder.session).cloned();
                record.learn(known.map_or_else(
                    || plugin.session_of(holder, version_in(result), true, now),
                    |known| Session {
                        used: now,
                        hidden: false,
                        ..known
                    },
                ));
            });
            // One that is hidden would be forgotten once it is lost, and its client told nothing.
            if !is_done && known.is_none_or(|(_, is_hidden)| is_hidden) {
                return self.go_on(plugin, platform, noted.into_iter().next());
            }
            signals = noted;
            let session = &holder.session;
            signals.extend(plugin.renew_initialize(platform, &self.request, session));
        }
        let (id, session) = (&self.initialize.id, &holder.session);
        let reply = Reply::initialized(&self.headers, id, session, result);
        let (exchange, outcome) = Exchange::replied(Outcome::Reused, Some(session.clone()));
        signals.extend(outcome);
        // To join is to use.
        signals.push(Signal::Attends(self.waiter.seat, session.clone()));
        (exchange, Step::new(RequestAction::Reply(reply), signals))
    }

    fn take_turn(mut self, plugin: &Plugin, turn: Turn) -> Went {
        self.has_waited = true;
        let purpose = if self.waiter.knock.shares {
            Purpose::Share
        } else {
            Purpose::Alone
        };
        let (request, headers) = (&self.request, &self.headers);
        let taken = self
            .waiter
            .take_turn(turn, request, headers, &self.initialize, || purpose);
        let Some((errand, signals)) = taken else {
            let words = "too many wait for the MCP server's one session: try again later";
            return self.refuse(plugin, words);
        };
        let step = Step::new(RequestAction::Wait(self.waiter.seat, errand), signals);
        (Exchange::Waiting(Box::new(self)), step)
    }

    fn ticked(mut self, plugin: &Plugin, platform: &impl Platform) -> Went {
        match self.waiter.tick(plugin) {
            Patience::Ends => self.time_out(plugin, platform),
            Patience::Knocks => self.knock(plugin, platform),
            Patience::Waits => self.wait(),
        }
    }

    fn time_out(self, plugin: &Plugin, platform: &impl Platform) -> Went {
        let left = self.leave(plugin, platform);
        let words = "no session at the MCP server was to be had in time: try again later";
        let (exchange, mut step) = self.refuse(plugin, words);
        step.signals.extend(left);
        (exchange, step)
    }

    fn refuse(self, plugin: &Plugin, words: &str) -> Went {
        let reply = Reply::busy(&self.initialize.id, words, plugin.seats.lease());
        replied(reply, Outcome::QueueRefused)
    }

    /// There is no seat to wait for: the request goes up as it came.
    fn go_on(self, plugin: &Plugin, platform: &impl Platform, signal: Option<Signal>) -> Went {
        let left = self.leave(plugin, platform);
        let signals = signal.into_iter().chain(left).collect();
        let step = Step::new(RequestAction::Continue, signals);
        let body = self.initialize.body;
        (passed_initialize(self.request, self.session, body), step)
    }

    fn leave(&self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        self.waiter.leave(plugin, platform)
    }

    /// Its client has gone, or an answer goes on that is not for it.
    pub(super) fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let outcome = Signal::Outcome(Outcome::ClientLeft, None);
        let left = self.leave(plugin, platform);
        [outcome].into_iter().chain(left).collect()
    }
}

/// An `initialize` that goes up as it came, in the session that its headers were put into.
fn passed_initialize(request: Request, session: Option<InSession>, body: Vec<u8>) -> Exchange {
    let body = Body::of_initialize(body);
    Exchange::sent(Sent {
        session,
        ..Sent::new(request, body, Outcome::PassedInitialize)
    })
}

fn replied(reply: Reply, outcome: Outcome) -> Went {
    let (exchange, signals) = Exchange::replied(outcome, None);
    (exchange, Step::new(RequestAction::Reply(reply), signals))
}
