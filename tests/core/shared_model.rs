//! What should be true between callers and a server under `reuse`: a model that is obvious.
//!
//! It knows the one session that a caller has, and whether its server still does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::driver::{Envoy, Seen};
use crate::scenario::{Answer, Call, Exchange, Request};

pub const CALLERS: usize = 2;

/// What may happen next, to one of the callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An initialize, which the server would answer well.
    Open,
    /// An initialize, which the server would refuse.
    FailToOpen,
    /// A call without an id.
    Call,
    /// A call with the id that its caller was given last.
    CallWithId,
    /// A call that the server answers 401.
    Revoke,
    /// A DELETE without an id.
    Delete,
    /// The server forgets all sessions of the caller.
    Restart,
}

pub const EVENTS: [Event; 7] = [
    Event::Open,
    Event::FailToOpen,
    Event::Call,
    Event::CallWithId,
    Event::Revoke,
    Event::Delete,
    Event::Restart,
];

/// A caller's session.
#[derive(Clone)]
struct Session {
    id: String,
    is_trusted: bool,
}

/// What should be true.
#[derive(Default)]
pub struct Model {
    opened: usize,
    /// By caller, until it is found lost.
    sessions: [Option<Session>; CALLERS],
    /// By caller: the id that its clients have heard of last.
    given: [Option<String>; CALLERS],
    /// What the server knows.
    living: BTreeSet<String>,
}

/// The configuration that it is a model of.
pub fn config(hold: bool) -> Value {
    json!({
        "on_reinitialize": "reuse",
        "hold_request_headers": hold,
        "on_session_lost": "forget",
        "memory": {"slots": 8, "bulk_slots": 8},
    })
}

impl Model {
    pub fn step(&mut self, envoy: &mut Envoy, event: Event, caller: usize, at: &str) {
        match event {
            Event::Open | Event::FailToOpen => self.initialize(envoy, event, caller, at),
            Event::Call | Event::CallWithId | Event::Revoke => {
                self.call(envoy, event, caller, at);
            }
            Event::Delete => {
                let request = request("DELETE", caller, None, None);
                let seen = send(envoy, request, 405, Vec::new());
                assert_eq!(
                    seen.reply.is_some(),
                    self.sessions[caller].is_some(),
                    "{at}"
                );
                assert_eq!(id_of(&seen), None, "{at}");
            }
            Event::Restart => {
                let own = self.sessions[caller].as_ref().map(|session| &session.id);
                self.living.retain(|id| Some(id) != own);
            }
        }
    }

    fn initialize(&mut self, envoy: &mut Envoy, event: Event, caller: usize, at: &str) {
        let before = self.sessions[caller].clone();
        let is_shared = before.as_ref().is_some_and(|session| session.is_trusted);
        let mut calls = Vec::new();
        if !is_shared {
            calls.extend(before.as_ref().map(|_| ("DELETE", None, 200, None)));
            self.sessions[caller] = None;
            if let Some(session) = before {
                self.living.remove(&session.id);
            }
            if event == Event::FailToOpen {
                calls.push(("POST", Some("initialize"), 500, None));
            } else {
                self.opened += 1;
                let id = format!("s{}", self.opened);
                calls.push(("POST", Some("initialize"), 200, Some(id.clone())));
                calls.push(("POST", Some("notifications/initialized"), 202, None));
                self.living.insert(id.clone());
                self.sessions[caller] = Some(Session {
                    id,
                    is_trusted: true,
                });
            }
        }
        let made = calls.len();
        let calls = calls.into_iter().map(answered).collect();
        let request = request("POST", caller, Some("initialize"), None);
        let seen = send(envoy, request, 599, calls);
        assert_eq!(seen.calls.len(), made, "{at}: calls for {event:?}");
        let reply = seen.reply.as_ref().expect("the filter answers");
        let given = reply
            .headers
            .iter()
            .find(|(name, _)| name == b"mcp-session-id");
        let given = given.map(|(_, id)| String::from_utf8(id.clone()).unwrap());
        let own = self.sessions[caller]
            .as_ref()
            .map(|session| session.id.clone());
        assert_eq!(given, own, "{at}: given to {caller}");
        assert_eq!(reply.status, if own.is_some() { 200 } else { 500 }, "{at}");
        self.given[caller] = own.or(self.given[caller].take());
    }

    fn call(&mut self, envoy: &mut Envoy, event: Event, caller: usize, at: &str) {
        let own = (event == Event::CallWithId)
            .then(|| self.given[caller].clone())
            .flatten();
        let session = self.sessions[caller].clone().map(|session| session.id);
        let expected = own.clone().or(session.clone());
        let is_known = expected.is_some() && expected == session;
        let lives = expected.as_ref().is_some_and(|id| self.living.contains(id));
        let status = match &expected {
            _ if event == Event::Revoke => 401,
            Some(_) if lives => 200,
            Some(_) => 404,
            None => 400,
        };
        let pings = if status == 404 && is_known { 2 } else { 0 };
        let calls = vec![answered(("POST", Some("ping"), 404, None)); pings];
        let request = request("POST", caller, Some("tools/list"), own.as_deref());
        let seen = send(envoy, request, status, calls);
        assert!(seen.reply.is_none(), "{at}: {event:?} went up");
        assert_eq!(id_of(&seen), expected, "{at}: {event:?} in its own session");
        assert_eq!(seen.calls.len(), pings, "{at}: pings after {event:?}");
        let is_translated = seen.body.windows(6).any(|bytes| bytes == b"mcpsf~");
        assert_eq!(
            is_translated, is_known,
            "{at}: {event:?} with an id of the filter's"
        );
        if pings > 0 {
            self.sessions[caller] = None;
        }
        if status == 401
            && let Some(session) = &mut self.sessions[caller]
        {
            session.is_trusted = false;
        }
    }
}

/// The session that a request went up in.
fn id_of(seen: &Seen) -> Option<String> {
    let mut sent = seen.upstream.all("mcp-session-id");
    let id = sent
        .next()
        .map(|id| String::from_utf8(id.to_vec()).unwrap());
    assert_eq!(sent.next(), None);
    id
}

fn send(envoy: &mut Envoy, request: Request, status: u16, calls: Vec<Call>) -> Seen {
    envoy.exchange(&Exchange {
        request,
        upstream: Vec::new(),
        answer: Some(Answer {
            status,
            ..Answer::default()
        }),
        client: None,
        calls,
        ids: None,
        outcome: None,
    })
}

fn answered((method, rpc, status, id): (&str, Option<&str>, u16, Option<String>)) -> Call {
    let line = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let body = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let mut headers = vec![line("content-type", "application/json")];
    headers.extend(id.as_deref().map(|id| line("mcp-session-id", id)));
    Call {
        method: method.to_owned(),
        rpc: rpc.map(str::to_owned),
        headers: Vec::new(),
        answer: Answer {
            status,
            headers,
            body: Some(body.to_vec()),
            ..Answer::default()
        },
    }
}

fn request(method: &str, caller: usize, rpc: Option<&str>, own: Option<&str>) -> Request {
    let line = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut headers = vec![line("authorization", &format!("Bearer {caller}"))];
    if rpc == Some("tools/list") {
        headers.push(line("mcp-protocol-version", "2025-06-18"));
    }
    headers.extend(own.map(|id| line("mcp-session-id", id)));
    let body = rpc.map(|rpc| json!({"jsonrpc": "2.0", "id": 1, "method": rpc}));
    Request {
        method: method.to_owned(),
        path: "/mcp".to_owned(),
        authority: "mcp.test".to_owned(),
        from: [127, 0, 0, 1].into(),
        headers,
        body: body.map(|body| body.to_string().into_bytes()),
        cut: None,
    }
}
