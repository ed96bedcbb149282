//! A request that was refused, and is sent again: by the filter, with its answer in the place of the first, or by its
//! client.

use super::kept::Body;
use super::settle::{Settled, settled};
use super::{AnswerAction, Exchange, Plugin, Request, Signal, Step};
use crate::errand::Answer;
use crate::headers::{Headers, is_plain};
use crate::ids::Ids;
use crate::initialize::id_of;
use crate::outcome::Outcome;
use crate::ping::InSession;
use crate::platform::Platform;
use crate::reply::Reply;

/// A request that was refused, with what it takes to send it again.
pub(super) struct Refused {
    pub(super) request: Request,
    pub(super) session: InSession,
    /// A server may refuse a request before it has read it: the rest of it still comes.
    pub(super) body: Body,
    pub(super) outcome: Outcome,
    /// What the server answered: 400 or 404. Or 503, from Envoy, as its host could not be connected to.
    pub(super) status: u16,
    /// It has not reached the host that holds its session: nobody could connect to that, or a retry led to another one.
    pub(super) has_missed_host: bool,
}

/// How a request can be sent again.
pub(super) enum Replay {
    /// With this body.
    Body(Vec<u8>),
    /// By its client: it asked for a stream, and asks again when that ends.
    Stream,
    /// By its client: its server answered before all of it came, and the host shows no more of a request then.
    Late,
    /// Not at all: its body is compressed, too long to be kept, or for no session.
    Gone,
}

/// It was sent again.
pub struct Replaying {
    /// The JSON text of its JSON-RPC id, if it has one.
    id: Option<Vec<u8>>,
    session: InSession,
    ids: Option<Box<Ids>>,
    outcome: Outcome,
}

impl Refused {
    /// It was put into a session before its method came.
    pub(super) fn is_misplaced_initialize(&self) -> bool {
        self.body.is_initialize() && !self.request.has_own_id
    }

    /// Whether a ping that is refused with this status says that the session is lost: the request was refused for the same
    /// reason, or did not reach a server.
    pub(super) fn is_lost_by(&self, status: u16) -> bool {
        self.status == status || self.status == 503
    }

    /// Whether the answer to a ping says that nobody can connect to the host that holds the session. Envoy names no host in
    /// an answer of its own.
    pub(super) fn is_host_gone(&self, plugin: &Plugin, answer: Option<&Headers>) -> bool {
        let is_named = || answer.is_some_and(|headers| plugin.host_of(headers).is_some());
        let is_overloaded = || answer.is_some_and(|headers| headers.has("x-envoy-overloaded"));
        match answer.and_then(Headers::status) {
            Some(503) => !is_named() && !is_overloaded(),
            // It may take longer to find that out than a ping waits.
            None | Some(504) => self.has_missed_host && !is_named(),
            Some(_) => false,
        }
    }

    /// Whether it may go up once more after a ping was answered well: it has reached no host at all, or not the one of its
    /// session, which has answered the ping.
    pub(super) fn may_reach_host(&self, plugin: &Plugin, answer: Option<&Headers>) -> bool {
        let answered = answer.and_then(|headers| plugin.host_of(headers));
        let is_own = answered.is_some() && answered == self.session.host;
        self.has_missed_host && (self.status == 503 || is_own)
    }

    /// It asks for a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.session.headers().get(":method") == Some(b"GET")
    }

    /// The next bytes of the request.
    pub(super) fn body_came(&mut self, bytes: &[u8], ended: bool) {
        self.body.scan(bytes, ended);
    }

    /// How it can be sent again now.
    pub(super) fn replay(&mut self) -> Replay {
        if self.is_stream() {
            return Replay::Stream;
        }
        // What the filter sends is not compressed.
        let is_readable = is_plain(self.session.headers().get("content-encoding"));
        if !is_readable || self.is_misplaced_initialize() {
            return Replay::Gone;
        }
        if self.body.may_become_whole() {
            return Replay::Late;
        }
        self.body.whole().map_or(Replay::Gone, Replay::Body)
    }

    /// It goes up once more.
    pub(super) fn send_again(
        self,
        plugin: &Plugin,
        platform: &impl Platform,
        replay: Replay,
        is_shared: bool,
        outcome: Outcome,
    ) -> Settled {
        let Self {
            request, session, ..
        } = self;
        let mut text = match replay {
            Replay::Gone => return settled(Outcome::Renewed, session.id, Vec::new()),
            Replay::Late => {
                let signals = vec![Signal::Outcome(Outcome::Redirected, Some(session.id))];
                let action = AnswerAction::Reply(Reply::redirect_to_itself(&request.path));
                return (Exchange::Passing, Step::new(action, signals));
            }
            Replay::Stream => {
                let signals = vec![Signal::Outcome(outcome, Some(session.id))];
                let action = AnswerAction::Reply(Reply::ended_stream());
                return (Exchange::Passing, Step::new(action, signals));
            }
            Replay::Body(body) => body,
        };
        let id = id_of(&text);
        let mut signals = Vec::new();
        let mut ids = None;
        if plugin.config.translate_ids && is_shared {
            let (endpoint, nonce) = (request.endpoint, platform.nonce());
            let own = Ids::new(endpoint, session.id.clone(), session.headers(), nonce);
            let own = ids.insert(Box::new(own));
            let rewritten = own.request_body(plugin, platform, text, true);
            signals.extend(rewritten.signals);
            text = rewritten.body;
        }
        let call = session.again(&request.cluster, &plugin.config, text);
        let replaying = Replaying {
            id,
            session,
            ids,
            outcome,
        };
        let step = Step::new(AnswerAction::Ask(call), signals);
        (Exchange::Replaying(Box::new(replaying)), step)
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
            id,
            session,
            mut ids,
            outcome,
        } = self;
        let mut signals = Vec::new();
        let status = answer.as_ref().and_then(|answer| answer.headers.status());
        let reply = match (answer, status) {
            (Some(Answer { headers, body }), Some(status)) => {
                let body = match &mut ids {
                    Some(ids) => {
                        ids.answer_headers(&headers);
                        let is_unread = ids.cannot_read(&headers);
                        signals.extend(is_unread.then_some(Signal::Untranslated));
                        ids.answer_body(&body, true).unwrap_or(body)
                    }
                    None => body,
                };
                let reply = plugin.passed_on(status, &headers, body);
                reply.in_session(session.client_id())
            }
            // It may have run all the same: nobody sends it a third time.
            _ => Reply::error(
                504,
                id.as_deref().unwrap_or(b"null"),
                "the MCP server did not answer the repeated request in time",
            ),
        };
        signals.push(Signal::Outcome(outcome, Some(session.id)));
        if let Some(ids) = ids {
            signals.extend(ids.over(plugin, platform));
        }
        let step = Step::new(AnswerAction::Reply(reply), signals);
        (Exchange::Passing, step)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn leave(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let ids = self.ids.map(|ids| ids.over(plugin, platform));
        ids.unwrap_or_default()
    }

    /// Its client has gone, or its answer could not wait any longer.
    pub(super) fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        let outcome = Signal::Outcome(self.outcome, Some(self.session.id.clone()));
        let left = self.leave(plugin, platform);
        [outcome].into_iter().chain(left).collect()
    }
}
