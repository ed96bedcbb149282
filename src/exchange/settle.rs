//! The decisions that an answer brings: a session is learned, lives on, or has ended.

use super::plugin::woken;
use super::reinitialize::Reinitializing;
use super::replay::{Refused, Replay};
use super::{
    ANSWER_BYTES, AnswerAction, Asking, Exchange, Learned, Plugin, Request, Sent, Signal, Step,
};
use crate::config::{Mode, without_query};
use crate::errand::Answer;
use crate::headers::{Headers, SESSION_ID};
use crate::initialize_result::{Reading, VersionReader};
use crate::memory::{CallerRecord, Rewritten, Session};
use crate::outcome::Outcome;
use crate::ping::{InSession, Verdict};
use crate::platform::Platform;
use crate::reply::Reply;
use crate::session::SessionId;
use crate::subrequest::Subrequest;
use crate::upstream_host::{self, UpstreamHost};

pub(super) type Settled = (Exchange, Step<AnswerAction>);

impl Exchange {
    /// The headers of the answer came.
    #[must_use]
    pub fn answer_headers(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        headers: &Headers,
    ) -> Settled {
        match self {
            // A server, or Envoy, may answer before it has read the request.
            Self::Held(held) => held
                .pass(Outcome::PassedUnknownMethod)
                .answer_headers(plugin, platform, headers),
            Self::Knocking(knocking) => knocking
                .cut_short()
                .answer_headers(plugin, platform, headers),
            Self::Waiting(waiting) => waiting.answered(plugin, platform, headers),
            Self::Missing(missing) => finished(missing.over(plugin, platform)),
            Self::Replying(replying) => {
                let outcome = Signal::Outcome(replying.outcome, replying.session);
                finished(vec![outcome])
            }
            Self::Sent(sent) => sent.answered(plugin, platform, headers),
            other => (other, AnswerAction::Continue.into()),
        }
    }

    /// The next bytes of the answer's body (none are needed unless [`Self::reads_answer`]). `waiting` counts all bytes
    /// that wait in the host.
    #[must_use]
    pub fn answer_body(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
        waiting: usize,
    ) -> Settled {
        match self {
            Self::Learned(learned) => learned.read(plugin, platform, bytes),
            waits if waits.holds_answer() && waiting > ANSWER_BYTES => {
                finished(waits.over(plugin, platform))
            }
            waits if waits.holds_answer() => (waits, AnswerAction::Hold.into()),
            other => (other, AnswerAction::Continue.into()),
        }
    }

    /// A request of the filter's own that was sent for this one was answered, or not at all.
    #[must_use]
    pub fn call_answered(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<Answer>,
    ) -> Settled {
        match self {
            Self::Asking(asking) => {
                let headers = answer.map(|answer| answer.headers);
                asking.answered(plugin, platform, headers.as_ref())
            }
            Self::Checking(checking) => {
                let headers = answer.map(|answer| answer.headers);
                checking.answered(plugin, platform, headers.as_ref())
            }
            Self::Replaying(replaying) => replaying.answered(plugin, platform, answer),
            Self::Reinitializing(again) => again.answered(plugin, platform, answer),
            other => (other, AnswerAction::Continue.into()),
        }
    }
}

impl Sent {
    fn answered(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        headers: &Headers,
    ) -> Settled {
        let status = headers.status();
        if self.body.is_initialize() {
            let is_misplaced = !self.request.has_own_id;
            if let Some(session) = self.session.take_if(|_| is_misplaced) {
                let id = headers.get(SESSION_ID);
                let is_new = id.is_some_and(|id| id != session.id.as_bytes());
                let is_taken = matches!(status, Some(200..=299));
                if !(is_taken && is_new)
                    && let Some(body) = self.body.whole()
                {
                    return Reinitializing::begin(plugin, self.request, session, body, is_taken);
                }
                self.session = Some(session);
            }
            if matches!(status, Some(200..=299)) {
                return self.opened(plugin, platform, headers);
            }
            self.outcome = Outcome::PassedInitialize;
        }
        let Some(session) = self.session else {
            return finished(vec![Signal::Outcome(self.outcome, None)]);
        };
        let is_observing = plugin.config.mode == Mode::Observe;
        match status {
            Some(200..=299 | 404 | 405) if self.request.is_delete => {
                self.request
                    .forget(plugin, platform, session.id, Outcome::Ended, self.outcome)
            }
            // Nothing of the request has reached a server, but another host may do: is the session to move there?
            Some(503)
                if session.host.is_none() || !upstream_host::is_unreachable(status, platform) =>
            {
                settled(self.outcome, session.id, Vec::new())
            }
            Some(400 | 404) if upstream_host::is_envoys_own(platform) => {
                settled(self.outcome, session.id, Vec::new())
            }
            Some(status @ (400 | 404 | 503)) if !is_observing => {
                let ping = self.request.ping(plugin, platform, &session);
                let has_missed_host = session.has_missed_host(Some(status), platform);
                let refused = Refused {
                    request: self.request,
                    session,
                    body: self.body,
                    outcome: self.outcome,
                    status,
                    has_missed_host,
                };
                let asking = Asking {
                    refused,
                    dropped_version: None,
                    is_elsewhere: false,
                };
                let step = AnswerAction::Ask(ping).into();
                (Exchange::Asking(Box::new(asking)), step)
            }
            Some(401 | 403) if session.owned => {
                // A credential that was revoked gets nothing from memory.
                let seat = plugin.seat(&self.request);
                let distrust = |seat| {
                    let changed = plugin.seats.distrust(platform, &seat, &session.id);
                    woken(seat, changed)
                };
                let signals = seat.and_then(distrust).into_iter().collect();
                settled(self.outcome, session.id, signals)
            }
            _ => settled(self.outcome, session.id, Vec::new()),
        }
    }

    /// An initialize was answered well.
    fn opened(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        headers: &Headers,
    ) -> Settled {
        let endpoint = self.request.endpoint;
        let Some(id) = headers.get(SESSION_ID).and_then(SessionId::parse) else {
            // In a session of the client's own a server need not repeat the id. Else it has no sessions, or one that
            // can't be carried; an older one is not what its client means from now on.
            let signals = if self.request.has_own_id {
                Vec::new()
            } else {
                let unset = |record: &mut CallerRecord| record.unset_latest(&endpoint);
                plugin.remember(platform, &self.request, unset).1
            };
            return finished(with(signals, Outcome::PassedInitialize, None));
        };
        let is_pinned = plugin.config.upstream_host_header.is_some();
        let host = is_pinned.then(|| UpstreamHost::of_request(platform));
        let (now, host) = (platform.now(), host.flatten());
        let (is_learned, signals) = plugin.remember(platform, &self.request, |record| {
            record.learn(Session {
                host,
                ..Session::new(endpoint, id.clone(), now)
            });
        });
        if !is_learned {
            return finished(with(signals, Outcome::PassedInitialize, Some(id)));
        }
        let mut signals = signals;
        signals.extend(plugin.unpinned(host));
        if let Some(body) = self.body.whole() {
            signals.extend(plugin.keep_initialize(platform, &self.request, &id, &body));
        }
        let signals = with(signals, Outcome::Learned, Some(id.clone()));
        let (media_type, encoding) = (headers.get("content-type"), headers.get("content-encoding"));
        let learned = Learned {
            request: self.request,
            id,
            reader: VersionReader::new(media_type, encoding),
        };
        (
            Exchange::Learned(Box::new(learned)),
            Step::new(AnswerAction::Continue, signals),
        )
    }
}

impl Learned {
    fn read(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        bytes: &[u8],
    ) -> Settled {
        let reading = self.reader.as_mut().map(|reader| reader.read(bytes));
        let signals = match reading {
            None | Some(Reading::More) => Vec::new(),
            Some(Reading::GaveUp) => {
                self.reader = None;
                Vec::new()
            }
            Some(Reading::Found(version)) => {
                self.reader = None;
                self.complete(plugin, platform, |session| {
                    session.version = Some(version.clone());
                })
            }
        };
        (
            Exchange::Learned(self),
            Step::new(AnswerAction::Continue, signals),
        )
    }

    /// Only now can be read where the route led (Envoy shows it to access logs).
    pub(super) fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let attribute = |name| platform.attribute(&["request", name]);
        let path = attribute("path").unwrap_or_else(|| self.request.path.clone());
        let authority = attribute("host").unwrap_or_else(|| self.request.authority.clone());
        let is_same_path = without_query(&path) == without_query(&self.request.path);
        if is_same_path && authority == self.request.authority {
            return Vec::new();
        }
        let rewritten = Rewritten::parse(&path, &authority);
        self.complete(plugin, platform, |session| {
            session.rewritten.clone_from(&rewritten);
        })
    }

    /// Adds to what is remembered of the session.
    fn complete(
        &self,
        plugin: &Plugin,
        platform: &impl Platform,
        change: impl Fn(&mut Session),
    ) -> Vec<Signal> {
        let complete = |record: &mut CallerRecord| {
            if let Some(session) = record.session_mut(&self.request.endpoint, &self.id) {
                change(session);
            }
        };
        plugin.remember(platform, &self.request, complete).1
    }
}

impl Asking {
    fn ask(self: Box<Self>, plugin: &Plugin, platform: &impl Platform) -> Settled {
        let refused = &self.refused;
        let ping = refused.request.ping(plugin, platform, &refused.session);
        (Exchange::Asking(self), AnswerAction::Ask(ping).into())
    }

    fn answered(
        mut self: Box<Self>,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<&Headers>,
    ) -> Settled {
        let status = answer.and_then(Headers::status);
        let refused = &mut self.refused;
        let is_misplaced = refused.is_misplaced_initialize();
        if is_misplaced && (refused.body.is_over() || plugin.seat(&refused.request).is_some()) {
            return self.refused.reinitialize(plugin, platform);
        }
        // Then whom else the cluster has is to say whether the session lives.
        if refused.session.host.is_some() && refused.is_host_gone(plugin, answer) {
            refused.session.host = None;
            self.is_elsewhere = true;
            return self.ask(plugin, platform);
        }
        match (Verdict::of(status), refused.session.version.is_some()) {
            // Some gateways refuse the version that they agreed on: is it that, or the session?
            (Verdict::Refused(_), true) => {
                self.dropped_version = refused.session.version.take();
                self.ask(plugin, platform)
            }
            // Refused for the same reason as the request. For another, the request's fault was its own, and the ping
            // may have met a replica that never knew the session.
            (Verdict::Refused(status), false) if refused.is_lost_by(status) => {
                if is_misplaced {
                    return self.refused.reinitialize(plugin, platform);
                }
                let version = self.dropped_version.take();
                self.refused.session.version = version;
                self.refused.lost(plugin, platform)
            }
            (Verdict::Lives, _)
                if self.dropped_version.is_some()
                    && !self.is_elsewhere
                    && plugin.repairs_version() =>
            {
                self.refused.repair_version(plugin, platform)
            }
            (Verdict::Lives, _) if self.refused.may_reach_host(plugin, answer) => {
                let Self {
                    mut refused,
                    dropped_version,
                    is_elsewhere,
                } = *self;
                refused.session.version = dropped_version.or(refused.session.version);
                refused.reach_host(plugin, platform, is_elsewhere)
            }
            (Verdict::Lives | Verdict::Unknown | Verdict::Refused(_), _) => {
                let Refused {
                    outcome, session, ..
                } = self.refused;
                settled(outcome, session.id, Vec::new())
            }
        }
    }
}

impl Refused {
    /// An `initialize` that was put into this session is sent again: by the filter, or by its client if its server
    /// refused it amid its body, or if it may not go up by itself.
    pub(super) fn reinitialize(mut self, plugin: &Plugin, platform: &impl Platform) -> Settled {
        if plugin.seat(&self.request).is_none()
            && let Some(body) = self.body.whole()
        {
            return Reinitializing::begin(plugin, self.request, self.session, body, false);
        }
        if !self.body.is_kept() {
            return finished(vec![Signal::Outcome(Outcome::PassedInitialize, None)]);
        }
        // When it comes again, it is not to be put into the same session.
        let (endpoint, session) = (&self.request.endpoint, &self.session.id);
        let (is_unset, mut signals) = plugin.remember(platform, &self.request, |record| {
            if record
                .latest(endpoint)
                .is_some_and(|latest| latest.id == *session)
            {
                record.unset_latest(endpoint);
            }
        });
        if !is_unset {
            return finished(with(signals, Outcome::PassedInitialize, None));
        }
        signals.push(Signal::Outcome(Outcome::Redirected, None));
        let action = AnswerAction::Reply(Reply::redirect_to_itself(&self.request.path));
        (Exchange::Passing, Step::new(action, signals))
    }

    fn lost(self, plugin: &Plugin, platform: &impl Platform) -> Settled {
        let refused = if plugin.recovers() && !self.request.is_delete {
            match self.recover(plugin, platform) {
                Ok(settled) => return settled,
                Err(refused) => *refused,
            }
        } else {
            self
        };
        let (request, session) = (refused.request, refused.session.id);
        request.forget(plugin, platform, session, Outcome::Lost, refused.outcome)
    }

    /// The request goes up once more, to a host that knows its session: it has reached none of them. `is_elsewhere` if that
    /// is not the session's own: servers may share their sessions.
    fn reach_host(
        mut self,
        plugin: &Plugin,
        platform: &impl Platform,
        is_elsewhere: bool,
    ) -> Settled {
        let (id, outcome) = (self.session.id.clone(), self.outcome);
        let unset = |record: &mut CallerRecord| {
            if let Some(session) = record.session_mut(&self.request.endpoint, &id) {
                session.host = None;
            }
        };
        let signals = if is_elsewhere {
            plugin.remember(platform, &self.request, unset).1
        } else {
            Vec::new()
        };
        let replay = match self.replay() {
            // Its client could be sent back again and again.
            Replay::Late | Replay::Gone => return settled(outcome, id, signals),
            replay @ (Replay::Body(_) | Replay::Stream) => replay,
        };
        self.go_up_again(plugin, platform, replay, outcome, signals)
    }

    /// It goes up once more in its own session.
    fn go_up_again(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        replay: Replay,
        outcome: Outcome,
        signals: Vec<Signal>,
    ) -> Settled {
        let known = plugin.known_session(platform, &self.request, &self.session.id);
        let is_shared = self.session.may_be_shared(known.as_ref());
        let (exchange, step) = self.send_again(plugin, platform, replay, is_shared, outcome);
        (exchange, step.after(signals))
    }

    /// The server takes the session, but not the version that goes with it: so the request goes up without.
    fn repair_version(mut self, plugin: &Plugin, platform: &impl Platform) -> Settled {
        let replay = self.replay();
        let id = &self.session.id;
        let (is_dropped, signals) = plugin.drop_version(platform, &self.request, id);
        // From its client it would come with the version again.
        let is_same = matches!(replay, Replay::Late) && !is_dropped;
        if matches!(replay, Replay::Gone) || is_same {
            return settled(self.outcome, self.session.id, signals);
        }
        self.go_up_again(plugin, platform, replay, Outcome::VersionRepaired, signals)
    }
}

impl Request {
    /// The session goes. Where that fails, the outcome is what it would have been.
    fn forget(
        &self,
        plugin: &Plugin,
        platform: &impl Platform,
        session: SessionId,
        done: Outcome,
        otherwise: Outcome,
    ) -> Settled {
        let (is_forgotten, signals) = plugin.remember(platform, self, |record| {
            record.forget(&self.endpoint, &session);
        });
        let outcome = if is_forgotten { done } else { otherwise };
        let mut signals = signals;
        signals.extend(plugin.release(platform, self, &session));
        settled(outcome, session, signals)
    }

    pub(super) fn ping(
        &self,
        plugin: &Plugin,
        platform: &impl Platform,
        session: &InSession,
    ) -> Subrequest {
        session.ping(&self.cluster, &plugin.config, platform.nonce())
    }
}

fn with(mut signals: Vec<Signal>, outcome: Outcome, session: Option<SessionId>) -> Vec<Signal> {
    signals.push(Signal::Outcome(outcome, session));
    signals
}

pub(super) fn settled(outcome: Outcome, session: SessionId, signals: Vec<Signal>) -> Settled {
    finished(with(signals, outcome, Some(session)))
}

pub(super) fn finished(signals: Vec<Signal>) -> Settled {
    (
        Exchange::Passing,
        Step::new(AnswerAction::Continue, signals),
    )
}
