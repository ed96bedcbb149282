//! A request whose session was lost: a new session takes its place, and the request is sent again in that one.
//!
//! A server that does not know a session has not run the request: so sending it again is safe, once. Whoever loses the
//! same session at the same time waits for the same successor, on whatever worker.

use core::time::Duration;

use super::plugin::woken;
use super::replay::{Refused, Replay};
use super::settle::{Settled, finished, settled};
use super::waiter::{Asked, BACKOFF, Patience, Waiter};
use super::{AnswerAction, Exchange, Plugin, Signal, Step};
use crate::errand::{Over, Purpose};
use crate::headers::Headers;
use crate::initialize::Initialize;
use crate::memory::{CallerRecord, Session};
use crate::outcome::Outcome;
use crate::ping::{InSession, Verdict};
use crate::platform::Platform;
use crate::seat::{Gone, Holder};
use crate::time::Millis;

/// A request in a session that had so lately taken the place of another one is not sent back to its client, who might
/// have no end of that.
const YOUNG: Duration = Duration::from_secs(1);

/// It waits for the session that takes the place of its own.
pub struct Recovering {
    refused: Refused,
    initialize: Initialize,
    waiter: Waiter,
    /// A session that was opened before it came was lost as well.
    has_checked: bool,
}

/// The answer waits for a ping in a session that may take the place of its own.
pub struct Checking {
    recovering: Box<Recovering>,
    holder: Box<Holder>,
    /// A request like its own there.
    there: InSession,
}

impl Refused {
    /// The server does not know the session any more.
    pub(super) fn recover(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
    ) -> Result<Settled, Box<Self>> {
        let mut signals = vec![Signal::Leaves];
        if let Some(successor) = self.successor(plugin, platform) {
            let (exchange, step) = self.go_on(plugin, platform, &successor);
            return Ok((exchange, step.after(signals)));
        }
        let seat = plugin.seat(&self.request);
        if self.is_stream() && seat.is_some() {
            // Its session may have ended to make room. To listen is no reason to end another one: its next POST is.
            let Self {
                outcome, session, ..
            } = self;
            return Ok(settled(outcome, session.id, signals));
        }
        let (request, lost) = (&self.request, &self.session.id);
        let Some(initialize) = plugin.kept_initialize(platform, request, lost) else {
            return Err(Box::new(self));
        };
        let (seat, since) = match seat {
            // There may be one session at a time: a new one waits in line with all others, or for who opens it.
            Some(seat) => (seat, Millis(0)),
            // What stands there from an earlier loss may be lost since, too.
            None => (plugin.digest_of("recovery", request, lost), request.came),
        };
        let gone = Gone {
            caller: &request.caller,
            session: lost,
            // Some servers give the successor the same id. And it may have waited for this one to be opened.
            opened_by: request.came.max(self.session.opened),
        };
        let released = plugin.seats.release(platform, &seat, gone);
        // Else it would be taken for one that lives.
        let may_knock = released.is_ok() && platform.may_wait();
        signals.extend(woken(seat, released));
        let capabilities = if self.session.owned && plugin.shares() {
            // With those who share the session that they knock for.
            plugin.capabilities(&initialize)
        } else {
            // Nobody but those who lost the same session can share its successor.
            plugin.digest_of("successor", request, lost)
        };
        let mut waiter = Waiter::new(plugin, platform, seat, capabilities);
        waiter.knock.backoff = BACKOFF;
        waiter.knock.since = since;
        let recovering = Box::new(Recovering {
            refused: self,
            initialize,
            waiter,
            has_checked: false,
        });
        let (exchange, step) = if may_knock {
            recovering.knock(plugin, platform)
        } else {
            recovering.give_up(plugin, platform, None)
        };
        Ok((exchange, step.after(signals)))
    }

    /// The session that took the place of this one while the request was under way.
    fn successor(&self, plugin: &Plugin, platform: &impl Platform) -> Option<Session> {
        let living = self.living(plugin, platform);
        living.filter(|living| living.id != self.session.id)
    }

    /// The session that the request would go up in now.
    fn living(&self, plugin: &Plugin, platform: &impl Platform) -> Option<Session> {
        let record = plugin.recall(platform, &self.request)?;
        let endpoint = &self.request.endpoint;
        let living = match self.session.client_id() {
            Some(id) => record.living(endpoint, id),
            None => record.latest(endpoint),
        };
        living.cloned()
    }

    /// It goes up once more, in the session that took the place of its own.
    fn go_on(self, plugin: &Plugin, platform: &impl Platform, successor: &Session) -> Settled {
        if self.is_misplaced_initialize() {
            return self.reinitialize(plugin, platform);
        }
        // Was it opened just now in the place of another, for the client that was sent back then?
        let stands_for_another = self.session.known_as.as_ref() != Some(&self.session.id);
        let is_again = stands_for_another || self.session.id == successor.id;
        let is_young = is_again && self.request.came.since(self.session.opened) < YOUNG;
        let seat = plugin.seat(&self.request);
        let is_post = self.session.headers().get(":method") == Some(b"POST");
        let attends = seat.filter(|_| is_post);
        let attends = attends.map(|seat| Signal::Attends(seat, successor.id.clone()));
        let is_shared = self.session.may_be_shared(Some(successor));
        let mut moved = Self {
            session: self.session.moved(successor),
            ..self
        };
        let replay = match moved.replay() {
            // A server that forgets each session at once would have its client sent back again and again.
            Replay::Late if is_young => Replay::Gone,
            replay => replay,
        };
        let outcome = Outcome::Recovered;
        let (exchange, step) = moved.send_again(plugin, platform, replay, is_shared, outcome);
        (exchange, step.after(attends.into_iter().collect()))
    }
}

impl Recovering {
    /// The next bytes of the request.
    pub(super) fn body_came(&mut self, bytes: &[u8], ended: bool) {
        self.refused.body_came(bytes, ended);
    }

    pub(super) fn lose_body(&mut self) {
        self.refused.body.lose();
    }

    /// How many more bytes of the request are worth a look.
    pub(super) fn wanted(&self) -> usize {
        self.refused.body.wanted()
    }

    pub(super) fn ticked(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
    ) -> Settled {
        match self.waiter.tick(plugin) {
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
        // Another try at once would be no better.
        if is_own && matches!(over.reply, Some((_, Outcome::PassedInitialize))) {
            return self.give_up(plugin, platform, None);
        }
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
        let turn = match self.waiter.ask(plugin, platform) {
            Asked::Joins(holder) => return self.check(plugin, platform, holder),
            Asked::Takes(turn) => turn,
            Asked::EndsUp(signal) => return self.give_up(plugin, platform, signal),
        };
        let (request, session) = (&self.refused.request, &self.refused.session);
        let purpose = || Purpose::Replace(session.lost());
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

    /// A session is there that may take the place of its own. If that was there before, it may be lost, too.
    fn check(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        holder: Box<Holder>,
    ) -> Settled {
        let Refused {
            request, session, ..
        } = &self.refused;
        // Two callers never meet, whatever stands there.
        if holder.caller != request.caller {
            return self.give_up(plugin, platform, None);
        }
        let is_lost = holder.session == session.id && holder.opened <= session.opened;
        if holder.opened >= request.came && !is_lost {
            return self.join(plugin, platform, &holder);
        }
        if self.has_checked {
            return self.give_up(plugin, platform, None);
        }
        self.has_checked = true;
        if is_lost {
            return self.make_room(plugin, platform, &holder);
        }
        let Refused {
            request, session, ..
        } = &self.refused;
        let there = session.beside(&plugin.session_at(platform, request, &holder));
        let checking = Checking {
            recovering: self,
            holder,
            there,
        };
        checking.ask(plugin, platform)
    }

    /// A session that is lost stands where another is to be opened.
    fn make_room(
        self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        holder: &Holder,
    ) -> Settled {
        let gone = Gone {
            caller: &holder.caller,
            session: &holder.session,
            opened_by: holder.opened,
        };
        let seat = self.waiter.seat;
        let woken = woken(seat, plugin.seats.release(platform, &seat, gone));
        let (exchange, step) = self.knock(plugin, platform);
        (exchange, step.after(woken.into_iter().collect()))
    }

    /// The session that took the place of its own is there. Who opened it may not have known that it does.
    fn join(self, plugin: &Plugin, platform: &impl Platform, holder: &Holder) -> Settled {
        let request = &self.refused.request;
        let endpoint = &request.endpoint;
        // That may have been lost and replaced meanwhile, as well.
        if let Some(living) = self.refused.living(plugin, platform)
            && (living.id == holder.session || living.id != self.refused.session.id)
        {
            return self.refused.go_on(plugin, platform, &living);
        }
        let lost = self.refused.session.lost();
        let unknown = plugin.session_of(holder, None, lost.owned, platform.now());
        let follow =
            |record: &mut CallerRecord| match record.session(endpoint, &holder.session).cloned() {
                Some(known) => drop(record.follow(&lost, &known)),
                None => record.succeed(&lost, unknown.clone()),
            };
        let (_, signals) = plugin.remember(platform, request, follow);
        let successor = plugin.session_at(platform, request, holder);
        let (exchange, step) = self.refused.go_on(plugin, platform, &successor);
        (exchange, step.after(signals))
    }

    /// The client gets the server's own answer; its next request tries again.
    fn give_up(
        self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        signal: Option<Signal>,
    ) -> Settled {
        if self.refused.is_misplaced_initialize() {
            let left = signal.into_iter().chain(self.leave(plugin, platform));
            let left = left.collect();
            let (exchange, step) = self.refused.reinitialize(plugin, platform);
            return (exchange, step.after(left));
        }
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

impl Checking {
    /// The next bytes of the request.
    pub(super) fn body_came(&mut self, bytes: &[u8], ended: bool) {
        self.recovering.body_came(bytes, ended);
    }

    pub(super) fn lose_body(&mut self) {
        self.recovering.lose_body();
    }

    /// How many more bytes of the request are worth a look.
    pub(super) fn wanted(&self) -> usize {
        self.recovering.wanted()
    }

    fn ask(self, plugin: &Plugin, platform: &impl Platform) -> Settled {
        let request = &self.recovering.refused.request;
        let ping = request.ping(plugin, platform, &self.there);
        let exchange = Exchange::Checking(Box::new(self));
        (exchange, AnswerAction::Ask(ping).into())
    }

    /// The server has said whether it knows the other session, or nothing.
    pub(super) fn answered(
        mut self,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<&Headers>,
    ) -> Settled {
        let refused = &self.recovering.refused;
        if self.there.host.is_some() && refused.is_host_gone(plugin, answer) {
            self.there.host = None;
            return self.ask(plugin, platform);
        }
        let verdict = Verdict::of(answer.and_then(Headers::status));
        if matches!(verdict, Verdict::Refused(_)) && self.there.version.take().is_some() {
            return self.ask(plugin, platform);
        }
        let Self {
            recovering, holder, ..
        } = self;
        match verdict {
            Verdict::Lives => recovering.join(plugin, platform, &holder),
            // Refused in the same way as its own session.
            Verdict::Refused(status) if recovering.refused.is_lost_by(status) => {
                recovering.make_room(plugin, platform, &holder)
            }
            Verdict::Refused(_) | Verdict::Unknown => recovering.give_up(plugin, platform, None),
        }
    }

    /// Its client has gone, or its answer does not wait any longer.
    pub(super) fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        self.recovering.over(plugin, platform)
    }
}
