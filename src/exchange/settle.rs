//! The decisions that an answer brings: a session is learned, lives on, or has ended.

use super::plugin::woken;
use super::{
    ANSWER_BYTES, AnswerAction, Asking, Exchange, Learned, Plugin, Request, Sent, Signal, Step,
};
use crate::config::{Mode, without_query};
use crate::headers::{Headers, SESSION_ID};
use crate::initialize_result::{Reading, VersionReader};
use crate::memory::{CallerRecord, Rewritten, Session};
use crate::outcome::Outcome;
use crate::ping::{InSession, Verdict};
use crate::platform::Platform;
use crate::session::SessionId;
use crate::subrequest::Subrequest;

type Settled = (Exchange, Step<AnswerAction>);

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
            Self::Knocking(_) => finished(vec![Signal::Outcome(Outcome::PassedInitialize, None)]),
            Self::Waiting(waiting) => finished(waiting.over(plugin, platform)),
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
            Self::Asking(asking) if waiting > ANSWER_BYTES => {
                settled(asking.outcome, asking.session.id, Vec::new())
            }
            Self::Asking(asking) => (Self::Asking(asking), AnswerAction::Hold.into()),
            other => (other, AnswerAction::Continue.into()),
        }
    }

    /// The ping was answered with this status, or not at all.
    #[must_use]
    pub fn ping_answered(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        status: Option<u16>,
    ) -> Settled {
        match self {
            Self::Asking(asking) => asking.answered(plugin, platform, status),
            other => (other, AnswerAction::Continue.into()),
        }
    }
}

impl Sent {
    fn answered(mut self, plugin: &Plugin, platform: &impl Platform, headers: &Headers) -> Settled {
        let status = headers.status();
        if self.body.is_initialize() {
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
            Some(status @ (400 | 404)) if !is_observing => {
                let ping = self.request.ping(plugin, platform, &session);
                let asking = Asking {
                    request: self.request,
                    session,
                    outcome: self.outcome,
                    status,
                };
                (Exchange::Asking(asking), AnswerAction::Ask(ping).into())
            }
            Some(401 | 403) if self.is_owned => {
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
    fn opened(self, plugin: &Plugin, platform: &impl Platform, headers: &Headers) -> Settled {
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
        let now = platform.now();
        let (is_learned, signals) = plugin.remember(platform, &self.request, |record| {
            record.learn(Session {
                endpoint,
                id: id.clone(),
                version: None,
                rewritten: None,
                opened: now,
                used: now,
                latest: true,
                shared: false,
                owned: false,
            });
        });
        if !is_learned {
            return finished(with(signals, Outcome::PassedInitialize, Some(id)));
        }
        let signals = with(signals, Outcome::Learned, Some(id.clone()));
        let (media_type, encoding) = (headers.get("content-type"), headers.get("content-encoding"));
        let learned = Learned {
            request: self.request,
            id,
            reader: VersionReader::new(media_type, encoding),
        };
        (
            Exchange::Learned(learned),
            Step::new(AnswerAction::Continue, signals),
        )
    }
}

impl Learned {
    fn read(mut self, plugin: &Plugin, platform: &impl Platform, bytes: &[u8]) -> Settled {
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
    fn answered(
        mut self,
        plugin: &Plugin,
        platform: &impl Platform,
        status: Option<u16>,
    ) -> Settled {
        match (Verdict::of(status), self.session.version.take()) {
            // Some gateways refuse the version that they agreed on: is it that, or the session?
            (Verdict::Refused(_), Some(_)) => {
                let ping = self.request.ping(plugin, platform, &self.session);
                (Exchange::Asking(self), AnswerAction::Ask(ping).into())
            }
            // Refused for the same reason as the request. For another, the request's fault was its own, and the ping
            // may have met a replica that never knew the session.
            (Verdict::Refused(status), None) if status == self.status => self.request.forget(
                plugin,
                platform,
                self.session.id,
                Outcome::Lost,
                self.outcome,
            ),
            (Verdict::Lives | Verdict::Unknown | Verdict::Refused(_), _) => {
                settled(self.outcome, self.session.id, Vec::new())
            }
        }
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
        signals.extend(plugin.seat(self).and_then(|seat| {
            let changed = plugin.seats.release(platform, &seat, &session);
            woken(seat, changed)
        }));
        settled(outcome, session, signals)
    }

    fn ping(&self, plugin: &Plugin, platform: &impl Platform, session: &InSession) -> Subrequest {
        let config = &plugin.config.subrequest;
        session.ping(&self.cluster, config, platform.nonce())
    }
}

fn with(mut signals: Vec<Signal>, outcome: Outcome, session: Option<SessionId>) -> Vec<Signal> {
    signals.push(Signal::Outcome(outcome, session));
    signals
}

fn settled(outcome: Outcome, session: SessionId, signals: Vec<Signal>) -> Settled {
    finished(with(signals, outcome, Some(session)))
}

fn finished(signals: Vec<Signal>) -> Settled {
    (
        Exchange::Passing,
        Step::new(AnswerAction::Continue, signals),
    )
}
