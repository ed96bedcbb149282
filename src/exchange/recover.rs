//! A request whose session was lost: a new session takes its place, and the request is sent again in that one.
//!
//! A server that does not know a session has not run the request: so sending it again is safe, once. Whoever loses the
//! same session at the same time waits for the same successor, on whatever worker.

use core::time::Duration;

use super::plugin::woken;
use super::settle::{Settled, finished, settled};
use super::waiter::{Patience, Waiter};
use super::{AnswerAction, Exchange, Plugin, Request, Signal, Step};
use crate::config::OnReinitialize;
use crate::errand::{Answer, Over, Purpose};
use crate::ids::Ids;
use crate::initialize::Initialize;
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::reply::Reply;
use crate::seats::Knocked;
use crate::session::SessionId;

/// After a session could not be opened, for so long nobody tries again: a server that just comes up is not to be met by
/// all at once.
const BACKOFF: Duration = Duration::from_secs(1);

/// A request that was refused, with what it takes to send it again.
pub(super) struct Refused {
    pub(super) request: Request,
    pub(super) session: InSession,
    pub(super) replay: Replay,
    pub(super) outcome: Outcome,
}

/// How a request can be sent again.
pub(super) enum Replay {
    /// With this body.
    Body(Vec<u8>),
    /// By its client: it asked for a stream, and asks again when that ends.
    Stream,
    /// Not at all: its body was too long to be kept, or was not whole.
    Gone,
}

/// It waits for the session that takes the place of its own.
pub struct Recovering {
    refused: Refused,
    initialize: Initialize,
    waiter: Waiter,
}

/// It was sent again.
pub struct Replaying {
    session: InSession,
    ids: Option<Box<Ids>>,
    outcome: Outcome,
}

impl Refused {
    /// The server does not know the session any more.
    pub(super) fn recover(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
    ) -> Result<Settled, Box<Self>> {
        let whose = plugin.whose_initialize(&self.request.endpoint, &self.session.id);
        let kept = plugin.initializes.find(platform, &whose);
        let Some(initialize) = kept.ok().flatten().and_then(Initialize::parse) else {
            return Err(Box::new(self));
        };
        let lost = self.session.id.as_bytes();
        let own_seat = || {
            let parts = [self.request.endpoint.as_bytes().as_slice(), lost];
            plugin.key.digest("recovery", parts)
        };
        let mut signals = vec![Signal::Leaves];
        // Where a server can hold one session only, a new one waits in line with all others.
        let seat = match (plugin.on_reinitialize(), plugin.seat(&self.request)) {
            (OnReinitialize::Queue, Some(seat)) => {
                let released = plugin.seats.release(platform, &seat, &self.session.id);
                signals.extend(woken(seat, released));
                seat
            }
            _ => own_seat(),
        };
        // Nobody but those who lost the same session can share its successor.
        let capabilities = plugin.key.digest("successor", [lost]);
        let mut waiter = Waiter::new(plugin, platform, seat, capabilities);
        waiter.knock.backoff = BACKOFF;
        let recovering = Box::new(Recovering {
            refused: self,
            initialize,
            waiter,
        });
        if !platform.may_wait() {
            return Ok(recovering.give_up(plugin, platform, None));
        }
        let (exchange, mut step) = recovering.knock(plugin, platform);
        signals.append(&mut step.signals);
        Ok((exchange, Step::new(step.action, signals)))
    }

    /// It goes up once more, in this session.
    pub(super) fn send_again(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        id: SessionId,
        outcome: Outcome,
    ) -> Settled {
        let Self {
            request,
            mut session,
            replay,
            ..
        } = self;
        let body = match replay {
            Replay::Gone => return settled(Outcome::Renewed, id, Vec::new()),
            Replay::Stream => {
                let signals = vec![Signal::Outcome(outcome, Some(id))];
                let action = AnswerAction::Reply(Reply::ended_stream());
                return (Exchange::Passing, Step::new(action, signals));
            }
            Replay::Body(body) => body,
        };
        session = session.moved(id);
        let known = plugin
            .memory
            .recall(platform, &request.caller, platform.now());
        let known = known.ok().flatten();
        let remembered = known
            .as_ref()
            .and_then(|record| record.session(&request.endpoint, &session.id));
        let is_shared = remembered.is_some_and(|session| session.shared);
        let mut signals = Vec::new();
        let mut ids = None;
        let mut text = body;
        if plugin.config.translate_ids && is_shared {
            let (endpoint, nonce) = (request.endpoint, platform.nonce());
            let own = Ids::new(endpoint, session.id.clone(), session.headers(), nonce);
            let own = ids.insert(Box::new(own));
            let rewritten = own.request_body(plugin, platform, text, true);
            signals.extend(rewritten.signals);
            text = rewritten.body;
        }
        let call = session.again(&request.cluster, &plugin.config.subrequest, text);
        let replaying = Replaying {
            session,
            ids,
            outcome,
        };
        let step = Step::new(AnswerAction::Ask(call), signals);
        (Exchange::Replaying(Box::new(replaying)), step)
    }
}

impl Recovering {
    pub(super) fn ticked(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
    ) -> Settled {
        match self.waiter.tick(plugin.config.subrequest.replay_timeout) {
            Patience::Ends => self.give_up(plugin, platform, None),
            Patience::Knocks => self.knock(plugin, platform),
            Patience::Waits => {
                let step = AnswerAction::Wait(self.waiter.seat, None).into();
                (Exchange::Recovering(self), step)
            }
        }
    }

    pub(super) fn errand_over(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        over: &Over,
    ) -> Settled {
        let is_own = self.waiter.errand_over(over);
        let (exchange, step) = self.knock(plugin, platform);
        match (exchange, &step.action) {
            // What it has come to could not be written down: nobody would ever wake it.
            (Exchange::Recovering(recovering), AnswerAction::Wait(_, None)) if is_own => {
                recovering.give_up(plugin, platform, None)
            }
            (exchange, _) => (exchange, step),
        }
    }

    /// Asks for its turn.
    pub(super) fn knock(mut self: Box<Self>, plugin: &Plugin, platform: &impl Platform) -> Settled {
        let knocked = plugin.knock(platform, &self.waiter.seat, &self.waiter.knock);
        let turn = match knocked {
            Ok(Knocked::Join(holder, _)) => {
                return self.refused.send_again(
                    plugin,
                    platform,
                    holder.session,
                    Outcome::Recovered,
                );
            }
            Ok(Knocked::Turn(turn)) => turn,
            Ok(Knocked::Failed(_)) => return self.give_up(plugin, platform, None),
            Ok(Knocked::NoSeat) => return self.give_up(plugin, platform, Some(Signal::NoSeat)),
            Err(error) => return self.give_up(plugin, platform, Some(Signal::Failed(error))),
        };
        let (request, session) = (&self.refused.request, &self.refused.session);
        let purpose = || Purpose::Replace(session.id.clone());
        let headers = session.headers();
        let taken = self
            .waiter
            .take_turn(turn, request, headers, &self.initialize, purpose);
        let Some((errand, signals)) = taken else {
            return self.give_up(plugin, platform, None);
        };
        let step = Step::new(AnswerAction::Wait(self.waiter.seat, errand), signals);
        (Exchange::Recovering(self), step)
    }

    /// The client gets the server's own answer; its next request tries again.
    fn give_up(
        self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        signal: Option<Signal>,
    ) -> Settled {
        let mut signals = self.over(plugin, platform);
        signals.extend(signal);
        finished(signals)
    }

    /// It waits in no line any more.
    pub(super) fn leave(&self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        self.waiter.leave(plugin, platform)
    }

    /// Its client has gone, or its answer does not wait any longer.
    pub(super) fn over(self: Box<Self>, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let left = self.leave(plugin, platform);
        let session = Some(self.refused.session.id);
        let outcome = Signal::Outcome(Outcome::RecoverFailed, session);
        [outcome].into_iter().chain(left).collect()
    }
}

impl Replaying {
    /// The server has answered, or it has not.
    pub(super) fn answered(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<Answer>,
    ) -> Settled {
        let Self {
            session,
            mut ids,
            outcome,
        } = self;
        let status = answer.as_ref().and_then(|answer| answer.headers.status());
        let reply = match (answer, status) {
            (Some(Answer { headers, body }), Some(status)) => {
                let body = match &mut ids {
                    Some(ids) => {
                        ids.answer_headers(&headers);
                        ids.answer_body(&body, true)
                    }
                    None => body,
                };
                Reply::passed_on(status, &headers, body).in_session(session.client_id())
            }
            // It may have run all the same: nobody sends it a third time.
            _ => Reply::error(
                504,
                b"null",
                "the MCP server did not answer the repeated request in time",
            ),
        };
        let mut signals = vec![Signal::Outcome(outcome, Some(session.id))];
        if let Some(ids) = ids {
            signals.extend(ids.over(plugin, platform));
        }
        let step = Step::new(AnswerAction::Reply(reply), signals);
        (Exchange::Passing, step)
    }

    /// Its client has gone, or its answer could not wait any longer.
    pub(super) fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let outcome = Signal::Outcome(self.outcome, Some(self.session.id));
        let ids = self.ids.map(|ids| ids.over(plugin, platform));
        [outcome]
            .into_iter()
            .chain(ids.unwrap_or_default())
            .collect()
    }
}
