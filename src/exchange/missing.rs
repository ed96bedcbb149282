//! A request of a caller that has no session, or whose session is just being ended for another: the filter opens one, with
//! an `initialize` that it remembers, and the request goes on in that. Who comes meanwhile waits for the same one, on
//! whatever worker.

use super::body::{Went, announced};
use super::kept::Body;
use super::waiter::{Asked, BACKOFF, Patience, Waiter};
use super::{
    Belongs, Exchange, Held, Knocking, Plugin, Request, RequestAction, Sent, Signal, Step,
};
use crate::config::OnReinitialize;
use crate::errand::{Over, Purpose};
use crate::headers::Headers;
use crate::initialize::Initialize;
use crate::memory::Session;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::scanner::Kind;
use crate::seat::Holder;

/// See the module.
pub struct Missing {
    request: Request,
    headers: Headers,
    body: Body,
    /// The session that it belonged to, and that is just being ended.
    ended: Option<Belongs>,
    initialize: Initialize,
    waiter: Waiter,
    /// Some of the request's body waits, and more is to come.
    is_amid_body: bool,
    until: Until,
}

/// What it waits for.
enum Until {
    /// A session, at its seat.
    Session,
    /// The next piece of its body, to go on with it in this session, or in none: to resume a request from outside amid
    /// its body has Envoy send parts of it twice, or lose them.
    NextPiece(Option<Session>),
}

impl Missing {
    /// One that is going to wait for a session that this `initialize` opens.
    pub(super) fn new(
        plugin: &Plugin,
        platform: &impl Platform,
        held: Held,
        is_amid_body: bool,
        initialize: Initialize,
    ) -> Box<Self> {
        let Held {
            request,
            headers,
            belongs: ended,
            body,
        } = held;
        let own = match &ended {
            // Others that lost it share what takes its place.
            Some(ended) => plugin.digest_of("successor", &request, &ended.session.id),
            None => plugin.digest_at("missing", &request.endpoint, &request.caller),
        };
        let mode = plugin.on_reinitialize();
        let (seat, capabilities) = match (mode, plugin.seat(&request)) {
            // All clients of the caller share what is opened.
            (OnReinitialize::Reuse, Some(seat)) => (seat, plugin.capabilities(&initialize)),
            // It waits in line with all others.
            (OnReinitialize::Queue, Some(seat)) => (seat, own),
            _ => (own, own),
        };
        let mut waiter = Waiter::new(plugin, platform, seat, capabilities);
        waiter.knock.backoff = BACKOFF;
        if mode == OnReinitialize::Forward {
            // What was opened there before is the caller's session no more.
            waiter.knock.since = request.came;
        }
        Box::new(Self {
            request,
            headers,
            body,
            ended,
            initialize,
            waiter,
            is_amid_body,
            until: Until::Session,
        })
    }

    /// Whether it waits at its seat.
    pub(super) fn waits_at_seat(&self) -> bool {
        matches!(self.until, Until::Session)
    }

    /// Whether all of its body waits.
    pub(super) fn is_whole(&self) -> bool {
        self.body.is_over()
    }

    /// How many more bytes of it are worth a look.
    pub(super) fn wanted(&self) -> usize {
        self.body.wanted()
    }

    /// The next bytes of its body.
    pub(super) fn body_came(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
        ended: bool,
    ) -> Went {
        self.body.scan(bytes, ended);
        if self.body.is_initialize()
            && self.knocks(plugin)
            && let Some(body) = self.body.initialize()
        {
            // What is being opened may be for it, too.
            let left = self.leave(plugin, platform);
            let knocking = Box::new(Knocking {
                request: self.request,
                headers: self.headers,
                is_held: false,
                session: None,
                body,
            });
            let (exchange, step) = knocking.body_came(plugin, platform, &[], ended);
            return (exchange, step.after(left));
        }
        if let Until::NextPiece(session) = self.until {
            self.until = Until::Session;
            return self.go_on(plugin, platform, session);
        }
        if !self.body.is_kept() || self.body.is_initialize() {
            let left = self.leave(plugin, platform);
            let (exchange, step) = self.go_on(plugin, platform, None);
            return (exchange, step.after(left));
        }
        self.is_amid_body = !ended;
        (Exchange::Missing(self), RequestAction::Hold.into())
    }

    /// Asks for its turn.
    pub(super) fn knock(mut self: Box<Self>, plugin: &Plugin, platform: &impl Platform) -> Went {
        let turn = match self.waiter.ask(plugin, platform) {
            Asked::Joins(holder) => return self.join(plugin, platform, &holder),
            Asked::Takes(turn) => turn,
            Asked::EndsUp(signal) => return self.give_up(plugin, platform, signal),
        };
        let (request, headers) = (&self.request, &self.headers);
        let purpose = || match &self.ended {
            Some(ended) => Purpose::Replace(ended.lost()),
            None => Purpose::Serve,
        };
        let taken = self
            .waiter
            .take_turn(turn, request, headers, &self.initialize, purpose);
        let Some((errand, signals)) = taken else {
            return self.give_up(plugin, platform, None);
        };
        let step = Step::new(RequestAction::Wait(self.waiter.seat, errand), signals);
        (Exchange::Missing(self), step)
    }

    pub(super) fn ticked(mut self: Box<Self>, plugin: &Plugin, platform: &impl Platform) -> Went {
        match self.waiter.tick(plugin) {
            Patience::Ends => self.give_up(plugin, platform, None),
            Patience::Knocks => self.knock(plugin, platform),
            Patience::Waits => {
                let step = RequestAction::Wait(self.waiter.seat, None).into();
                (Exchange::Missing(self), step)
            }
        }
    }

    pub(super) fn errand_over(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        over: &Over,
    ) -> Went {
        let is_own = self.waiter.errand_over(over);
        let is_refused = matches!(over.reply, Some((_, Outcome::PassedInitialize)));
        if is_own && is_refused {
            return self.give_up(plugin, platform, None);
        }
        self.knock(plugin, platform)
    }

    /// The session is there.
    fn join(self: Box<Self>, plugin: &Plugin, platform: &impl Platform, at: &Holder) -> Went {
        let session = plugin.session_at(platform, &self.request, at);
        self.over_at_seat(plugin, platform, Some(session), Vec::new())
    }

    /// It waits at its seat no more.
    fn over_at_seat(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        session: Option<Session>,
        signals: Vec<Signal>,
    ) -> Went {
        if self.is_amid_body {
            self.until = Until::NextPiece(session);
            let step = Step::new(RequestAction::Hold, signals);
            return (Exchange::Missing(self), step);
        }
        let (exchange, step) = self.go_on(plugin, platform, session);
        (exchange, step.after(signals))
    }

    /// Whether it may not go up as it is, should it turn out to be an `initialize`.
    fn knocks(&self, plugin: &Plugin) -> bool {
        !self.request.has_own_id && plugin.on_reinitialize() != OnReinitialize::Forward
    }

    /// It goes up: in this session, or as it came.
    fn go_on(self, plugin: &Plugin, platform: &impl Platform, session: Option<Session>) -> Went {
        let may_be_one = self.body.kind().is_none() && self.knocks(plugin);
        let knocks = may_be_one.then(|| self.headers.clone());
        let (exchange, step) = self.go_in(plugin, platform, session);
        match knocks {
            Some(knocks) => (exchange.knocking(knocks), step),
            None => (exchange, step),
        }
    }

    fn go_in(self, plugin: &Plugin, platform: &impl Platform, session: Option<Session>) -> Went {
        let Self {
            request,
            headers,
            body,
            ended,
            ..
        } = self;
        let (belongs, outcome) = match (session, ended) {
            (None, None) => {
                let sent = Sent::new(request, body, Outcome::PassedNoSession);
                return (Exchange::sent(sent), RequestAction::Continue.into());
            }
            (None, Some(ended)) => return ended.forward(plugin, platform, request, headers, body),
            (Some(session), None) => {
                let belongs = Belongs {
                    session,
                    is_own: false,
                    named: None,
                };
                (belongs, Outcome::Opened)
            }
            (Some(session), Some(ended)) => (ended.moved(session), Outcome::Recovered),
        };
        if belongs.session.owned && body.kind() == Some(Kind::Initialized) {
            // The filter has said so itself.
            let ended = body.is_over();
            return announced(Some(belongs.session.id)).body_came(&[], ended);
        }
        let (exchange, step) = belongs.forward(plugin, platform, request, headers, body);
        match exchange {
            Exchange::Sent(mut sent) => {
                sent.outcome = outcome;
                (Exchange::Sent(sent), step)
            }
            other => (other, step),
        }
    }

    /// There is no session for it.
    fn give_up(
        self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        signal: Option<Signal>,
    ) -> Went {
        let left = self.leave(plugin, platform);
        let signals = signal.into_iter().chain(left).collect();
        self.over_at_seat(plugin, platform, None, signals)
    }

    /// It waits in no line any more.
    pub(super) fn leave(&self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        self.waiter.leave(plugin, platform)
    }

    /// Its client has gone, or a server has answered before its time.
    pub(super) fn over(self: Box<Self>, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let outcome = Signal::Outcome(Outcome::ClientLeft, None);
        let left = self.leave(plugin, platform);
        [outcome].into_iter().chain(left).collect()
    }
}
