//! An `initialize` that got the id of an older session, since headers could not wait for its method: it is sent once more,
//! without.
//!
//! Some servers start the older session over, and answer nobody in it until they are told that it is ready: so they are.

use super::settle::Settled;
use super::{AnswerAction, Exchange, Plugin, Request, Signal, Step};
use crate::errand::Answer;
use crate::headers::SESSION_ID;
use crate::initialize::id_of;
use crate::initialize_result::read_result;
use crate::memory::{CallerRecord, Session};
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::reply::Reply;
use crate::session::SessionId;

/// See the module.
pub struct Reinitializing {
    request: Request,
    /// The older session.
    session: InSession,
    body: Vec<u8>,
    /// What the filter asks now is that the older session goes on.
    is_restoring: bool,
}

impl Reinitializing {
    /// The server has not opened a session for this body. `is_taken` if it answered well in the older one.
    pub(super) fn begin(
        plugin: &Plugin,
        request: Request,
        session: InSession,
        body: Vec<u8>,
        is_taken: bool,
    ) -> Settled {
        let again = Self {
            request,
            session,
            body,
            is_restoring: is_taken,
        };
        again.ask(plugin)
    }

    fn ask(self, plugin: &Plugin) -> Settled {
        let (cluster, config) = (&self.request.cluster, &plugin.config);
        let call = if self.is_restoring {
            self.session.announce(cluster, config)
        } else {
            self.session.again_alone(cluster, config, self.body.clone())
        };
        let exchange = Exchange::Reinitializing(Box::new(self));
        (exchange, AnswerAction::Ask(call).into())
    }

    /// The server has answered, or it has not.
    pub(super) fn answered(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        answer: Option<Answer>,
    ) -> Settled {
        if self.is_restoring {
            let alone = Self {
                is_restoring: false,
                ..self
            };
            return alone.ask(plugin);
        }
        let Self {
            request,
            session: older,
            body,
            ..
        } = self;
        let status = answer.as_ref().and_then(|answer| answer.headers.status());
        let (Some(answer), Some(status)) = (answer, status) else {
            let words = "the MCP server did not answer the initialize in time";
            let outcome = Signal::Outcome(Outcome::PassedInitialize, None);
            let id = id_of(&body);
            let reply = Reply::error(504, id.as_deref().unwrap_or(b"null"), words);
            let action = AnswerAction::Reply(reply);
            return (Exchange::Passing, Step::new(action, vec![outcome]));
        };
        let opened = (200..=299)
            .contains(&status)
            .then(|| answer.headers.get(SESSION_ID));
        let mut signals = Vec::new();
        let opened = opened.flatten().and_then(SessionId::parse);
        if let Some(id) = &opened {
            let now = platform.now();
            let version = read_result(&answer.headers, &answer.body);
            let session = Session {
                version: version.and_then(|result| result.version),
                rewritten: older.rewritten,
                host: plugin.host_of(&answer.headers),
                ..Session::new(request.endpoint, id.clone(), now)
            };
            let learn = |record: &mut CallerRecord| record.learn(session.clone());
            signals = plugin.remember(platform, &request, learn).1;
            signals.extend(plugin.keep_initialize(platform, &request, id, &body));
            signals.extend(plugin.unpinned(session.host));
        }
        let outcome = if opened.is_some() {
            Outcome::ReinitializeRepaired
        } else {
            Outcome::PassedInitialize
        };
        signals.push(Signal::Outcome(outcome, opened));
        let reply = plugin.passed_on(status, &answer.headers, answer.body);
        let step = Step::new(AnswerAction::Reply(reply), signals);
        (Exchange::Passing, step)
    }
}
