//! The decisions that a request's body brings: what it is, and whether it goes on.

use super::kept::Body;
use super::{
    Belongs, Exchange, Held, Knocking, Missing, Plugin, Replying, Request, RequestAction, Sent,
    Signal, Step, Waiting,
};
use crate::config::OnReinitialize;
use crate::headers::Headers;
use crate::ids::Ids;
use crate::initialize::INITIALIZE_BYTES;
use crate::memory::{CallerRecord, Lost, Session};
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::repair;
use crate::reply::Reply;
use crate::scanner::Kind;
use crate::session::SessionId;

/// How much of a body may come behind one that the filter answers, in bytes, before it is answered amid it.
const REST_BYTES: usize = 64 * 1024;

/// What becomes of a request.
pub(super) type Went = (Exchange, Step<RequestAction>);

impl Exchange {
    /// How many bytes of the request's body the next [`Self::request_body`] is to be given at most.
    #[must_use]
    pub fn wanted_request_bytes(&self) -> usize {
        match self {
            Self::Held(held) => held.body.wanted(),
            Self::Sent(sent) => sent.body.wanted(),
            // One more than fits tells that it does not fit.
            Self::Knocking(knocking) => (INITIALIZE_BYTES + 1).saturating_sub(knocking.body.len()),
            Self::Replying(_) => usize::MAX,
            Self::Missing(missing) => missing.wanted(),
            Self::Asking(asking) => asking.refused.body.wanted(),
            Self::Recovering(recovering) => recovering.wanted(),
            Self::Checking(checking) => checking.wanted(),
            Self::Passing
            | Self::Waiting(_)
            | Self::Learned(_)
            | Self::Replaying(_)
            | Self::Reinitializing(_) => 0,
        }
    }

    /// The next bytes of the request's body, [`Self::wanted_request_bytes`] at most. `ended` if the host has all of it,
    /// also of one of which more is there than is wanted.
    #[must_use]
    pub fn request_body(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
        ended: bool,
    ) -> Went {
        match self {
            Self::Held(held) => held.body_came(plugin, platform, bytes, ended),
            Self::Sent(sent) => sent.body_came(plugin, platform, bytes, ended),
            Self::Knocking(knocking) => knocking.body_came(plugin, platform, bytes, ended),
            Self::Replying(replying) => replying.body_came(bytes, ended),
            Self::Waiting(waiting) => (Self::Waiting(waiting), RequestAction::Hold.into()),
            Self::Missing(missing) => missing.body_came(plugin, platform, bytes, ended),
            // Its answer came before all of it.
            Self::Asking(mut asking) => {
                asking.refused.body_came(bytes, ended);
                (Self::Asking(asking), RequestAction::Continue.into())
            }
            Self::Recovering(mut recovering) => {
                recovering.body_came(bytes, ended);
                (Self::Recovering(recovering), RequestAction::Continue.into())
            }
            Self::Checking(mut checking) => {
                checking.body_came(bytes, ended);
                (Self::Checking(checking), RequestAction::Continue.into())
            }
            other @ (Self::Passing
            | Self::Learned(_)
            | Self::Replaying(_)
            | Self::Reinitializing(_)) => (other, RequestAction::Continue.into()),
        }
    }

    /// The headers of the request waited too long: it goes on as it came.
    #[must_use]
    pub fn let_go(self) -> Self {
        match self {
            Self::Held(held) => held.pass(Outcome::PassedTimeout),
            Self::Knocking(knocking) => knocking.pass(Outcome::PassedTimeout),
            other => other,
        }
    }

    /// From now on the filter answers, in the place of a server.
    #[must_use]
    pub fn replying(reply: Reply, outcome: Outcome) -> Self {
        Self::Replying(Box::new(Replying {
            reply,
            outcome,
            session: None,
            received: 0,
        }))
    }

    /// It went up.
    pub(super) fn sent(sent: Sent) -> Self {
        Self::Sent(Box::new(sent))
    }

    /// An `initialize` with these headers may not go on as it is.
    pub(super) fn knocking(self, headers: Headers) -> Self {
        match self {
            Self::Sent(mut sent) => {
                sent.knocks = Some(headers);
                Self::Sent(sent)
            }
            other => other,
        }
    }
}

impl Held {
    fn body_came(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
        ended: bool,
    ) -> Went {
        self.body.scan(bytes, ended);
        let mut held = self;
        let is_owned = held.is_owned();
        match held.body.kind() {
            None if held.body.is_too_long() => {
                held.go_on(plugin, platform, Outcome::PassedTooLarge)
            }
            None => (Exchange::Held(held), RequestAction::Hold.into()),
            Some(Kind::Initialize)
                if !held.request.has_own_id
                    && plugin.on_reinitialize() == OnReinitialize::Forward =>
            {
                held.go_on(plugin, platform, Outcome::PassedInitialize)
            }
            Some(Kind::Initialize) if !held.request.has_own_id => match held.body.initialize() {
                Some(body) => {
                    let knocking = Box::new(Knocking {
                        request: held.request,
                        headers: held.headers,
                        is_held: true,
                        session: None,
                        body,
                    });
                    knocking.body_came(plugin, platform, &[], ended)
                }
                None => held.go_on(plugin, platform, Outcome::PassedInitialize),
            },
            Some(Kind::Initialized) if is_owned => {
                let session = held.belongs.map(|belongs| belongs.session.id);
                announced(session).body_came(bytes, ended)
            }
            Some(Kind::Initialize | Kind::Initialized | Kind::Other) => {
                held.go_in(plugin, platform, ended)
            }
        }
    }

    /// It goes on in its session; if one is just being ended, in what is opened in the place of its own.
    fn go_in(self: Box<Self>, plugin: &Plugin, platform: &impl Platform, ended: bool) -> Went {
        let initialize = self.belongs.as_ref().and_then(|belongs| {
            plugin.initialize_after_ending(platform, &self.request, &belongs.session)
        });
        let may_wait = self.may_wait(ended);
        if let Some(initialize) = initialize.filter(|_| may_wait) {
            return Missing::new(plugin, platform, *self, !ended, initialize)
                .knock(plugin, platform);
        }
        match self.belongs {
            Some(belongs) => {
                belongs.forward(plugin, platform, self.request, self.headers, self.body)
            }
            None => self.go_without(plugin, platform, ended),
        }
    }

    /// Its caller has no session.
    fn go_without(self: Box<Self>, plugin: &Plugin, platform: &impl Platform, ended: bool) -> Went {
        let may_wait = self.may_wait(ended);
        let remembered = || plugin.remembered_initialize(platform, &self.request);
        let Some(initialize) = may_wait.then(remembered).flatten() else {
            return (
                self.pass(Outcome::PassedNoSession),
                RequestAction::Continue.into(),
            );
        };
        Missing::new(plugin, platform, *self, !ended, initialize).knock(plugin, platform)
    }

    /// Whether it can wait for a session. One that is too long to be kept and is still coming can't: the host has no room for
    /// all of it.
    fn may_wait(&self, ended: bool) -> bool {
        ended || self.body.is_kept()
    }

    fn is_owned(&self) -> bool {
        let belongs = self.belongs.as_ref();
        belongs.is_some_and(|belongs| belongs.session.owned)
    }

    /// It goes on without an id that it did not bring.
    fn go_on(self: Box<Self>, plugin: &Plugin, platform: &impl Platform, outcome: Outcome) -> Went {
        match self.belongs {
            Some(belongs) if belongs.is_own => {
                belongs.forward(plugin, platform, self.request, self.headers, self.body)
            }
            _ => (self.pass(outcome), RequestAction::Continue.into()),
        }
    }

    pub(super) fn pass(self, outcome: Outcome) -> Exchange {
        let own = self.belongs.filter(|belongs| belongs.is_own);
        let outcome = if own.is_some() {
            Outcome::PassedOwnId
        } else {
            outcome
        };
        Exchange::sent(Sent {
            session: own.map(|own| InSession::own(&own.session, self.headers)),
            ..Sent::new(self.request, self.body, outcome)
        })
    }
}

impl Sent {
    fn body_came(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
        ended: bool,
    ) -> Went {
        let was_known = self.body.kind().is_some();
        self.body.scan(bytes, ended);
        let mut sent = self;
        let is_settled = sent.body.kind().is_some() || sent.body.is_too_long();
        let attends = sent.attends.take_if(|_| is_settled);
        match sent.body.kind() {
            Some(Kind::Initialize) if !was_known => {
                if let Some(headers) = sent.knocks.take()
                    && let Some(body) = sent.body.initialize()
                {
                    let knocking = Box::new(Knocking {
                        request: sent.request,
                        headers,
                        is_held: false,
                        session: sent.session,
                        body,
                    });
                    return knocking.body_came(plugin, platform, &[], ended);
                }
            }
            Some(Kind::Initialized) if !was_known && sent.is_owned() => {
                let session = sent.session.map(|session| session.id);
                return announced(session).body_came(bytes, ended);
            }
            Some(Kind::Initialize | Kind::Initialized | Kind::Other) | None => {}
        }
        let mut signals: Vec<Signal> = attends.into_iter().collect();
        let is_initialize = sent.body.is_initialize();
        let shares = sent.shares.take_if(|_| is_settled);
        if let Some(session) = shares.filter(|_| !is_initialize) {
            signals.extend(plugin.refresh(platform, &sent.request, &session, true));
        }
        (
            Exchange::Sent(sent),
            Step::new(RequestAction::Continue, signals),
        )
    }
}

/// The filter has said `notifications/initialized` itself.
pub(super) fn announced(session: Option<SessionId>) -> Replying {
    Replying {
        reply: Reply::empty(202),
        outcome: Outcome::AnsweredLocally,
        session,
        received: 0,
    }
}

impl Knocking {
    pub(super) fn body_came(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
        ended: bool,
    ) -> Went {
        self.body.extend_from_slice(bytes);
        if self.body.len() > INITIALIZE_BYTES {
            return (
                self.pass(Outcome::PassedInitialize),
                RequestAction::Continue.into(),
            );
        }
        if !ended {
            return (Exchange::Knocking(self), RequestAction::Hold.into());
        }
        let Self {
            request,
            headers,
            session,
            body,
            ..
        } = *self;
        match Waiting::new(plugin, platform, request, headers, session, body) {
            Ok(waiting) => waiting.come(plugin, platform),
            Err(exchange) => (*exchange, RequestAction::Continue.into()),
        }
    }

    /// Its server, or Envoy, has answered before all of it came.
    pub(super) fn cut_short(self) -> Exchange {
        let body = Body::start_of_initialize(self.body);
        Exchange::sent(Sent {
            session: self.session,
            ..Sent::new(self.request, body, Outcome::PassedInitialize)
        })
    }

    /// It goes up as it came, in the session that its headers were put into.
    fn pass(self, outcome: Outcome) -> Exchange {
        Exchange::sent(Sent {
            session: self.session,
            ..Sent::new(self.request, Body::known(Kind::Initialize), outcome)
        })
    }
}

impl Replying {
    /// Who is answered amid a request loses the connection: so the filter waits for its end, if that is near.
    pub(super) fn body_came(mut self, bytes: &[u8], ended: bool) -> Went {
        self.received = self.received.saturating_add(bytes.len());
        if !ended && self.received <= REST_BYTES {
            return (
                Exchange::Replying(Box::new(self)),
                RequestAction::Hold.into(),
            );
        }
        let (exchange, signals) = Exchange::replied(self.outcome, self.session);
        (
            exchange,
            Step::new(RequestAction::Reply(self.reply), signals),
        )
    }
}

impl Belongs {
    /// What is to be known of its session once that is lost.
    pub(super) fn lost(&self) -> Lost {
        let named = self.named.clone();
        InSession::new(&self.session, self.is_own, named, Headers::default()).lost()
    }

    /// The same in this session, which took the place of its own.
    pub(super) fn moved(self, session: Session) -> Self {
        let own = self.is_own.then_some(self.session.id);
        Self {
            session,
            is_own: self.is_own,
            named: self.named.or(own),
        }
    }

    /// The request goes up in its session.
    pub(super) fn forward(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        request: Request,
        headers: Headers,
        body: Body,
    ) -> Went {
        let is_translated = plugin.translates(&self);
        let Self {
            session,
            is_own,
            named,
        } = self;
        let is_known = body.kind().is_some();
        let is_shared = is_translated && is_known;
        let mut signals = plugin.refresh(platform, &request, &session, is_shared);
        let is_new = is_translated && !session.shared;
        // Its use is written down by now, if that was due.
        let used = || Session {
            used: request.came,
            ..session.clone()
        };
        let shares = (is_new && !is_known).then(|| Box::new(used()));
        let is_post = headers.get(":method") == Some(b"POST");
        let mut attends = plugin
            .seat(&request)
            .filter(|_| is_post)
            .map(|seat| Signal::Attends(seat, session.id.clone()));
        // An initialize may still have to wait for the very lease that it would renew.
        signals.extend(attends.take_if(|_| body.kind().is_some()));
        let mut edits = repair::edits(&plugin.config, &session, &headers, is_own, named.is_some());
        let ids = is_translated.then(|| {
            edits.extend(Ids::edits(&headers));
            let (endpoint, id) = (request.endpoint, session.id.clone());
            Box::new(Ids::new(endpoint, id, &headers, platform.nonce()))
        });
        let action = if edits.is_empty() && ids.is_none() {
            RequestAction::Continue
        } else {
            RequestAction::Forward(edits, ids)
        };
        let is_renamed = named.is_some();
        let in_session = InSession::new(&session, is_own, named, headers);
        let outcome = if is_own && !is_renamed {
            Outcome::PassedOwnId
        } else {
            Outcome::Repaired
        };
        let sent = Sent {
            session: Some(in_session),
            attends,
            shares,
            ..Sent::new(request, body, outcome)
        };
        (Exchange::sent(sent), Step::new(action, signals))
    }
}

impl Plugin {
    /// Whether a request goes up with an id of the filter's own: in a session that is shared, or is from now on.
    pub(super) fn translates(&self, belongs: &Belongs) -> bool {
        self.config.translate_ids && (belongs.session.shared || !belongs.is_own)
    }

    /// Writes down that a session was used, if that is due, and that it is shared, if that is new.
    pub(super) fn refresh(
        &self,
        platform: &impl Platform,
        request: &Request,
        session: &Session,
        is_shared: bool,
    ) -> Vec<Signal> {
        // Near enough, and spares a call for the time.
        let now = request.came;
        let is_new = is_shared && !session.shared;
        let is_due = self.memory.is_refresh_due(session, now);
        if !is_new && !is_due {
            return Vec::new();
        }
        let used = |record: &mut CallerRecord| {
            record.touch(&request.endpoint, &session.id, now);
            if let Some(session) = record.session_mut(&request.endpoint, &session.id) {
                session.shared |= is_shared;
            }
        };
        let mut signals = self.remember(platform, request, used).1;
        if is_due {
            signals.extend(self.renew_initialize(platform, request, &session.id));
        }
        signals
    }
}
