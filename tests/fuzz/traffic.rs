//! Requests and answers for those targets that have a whole filter before them.

use crate::driver::{Envoy, Seen};
use crate::scenario::{Answer, Call, Exchange, HeaderLines, Request};

/// The version that sessions agree on.
pub const VERSION: &str = "2025-06-18";

/// A request, and what a server answers to it and to those that the filter makes of it.
#[derive(Clone)]
pub struct Sent {
    pub method: &'static str,
    pub path: &'static str,
    pub headers: HeaderLines,
    /// What a POST calls.
    pub rpc: &'static str,
    pub answer: Answer,
    pub calls: Vec<Call>,
}

impl Sent {
    /// A request of this caller that is answered well: of a method's usual kind, and without an id.
    pub fn call(method: &'static str, caller: &str) -> Self {
        let mut headers = vec![line("authorization", &format!("Bearer {caller}"))];
        if method == "GET" {
            headers.push(line("accept", "text/event-stream"));
        }
        Self {
            method,
            path: "/mcp",
            headers,
            rpc: "tools/list",
            answer: answer(200, None),
            calls: Vec::new(),
        }
    }
}

/// The body of a POST that calls this.
pub fn body_of(rpc: &str) -> Vec<u8> {
    let params = format!(r#"{{"protocolVersion":"{VERSION}","capabilities":{{}}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{rpc}","params":{params}}}"#).into_bytes()
}

pub fn send(envoy: &mut Envoy, sent: &Sent) -> Seen {
    envoy.pass_time();
    envoy.exchange(&Exchange {
        request: Request {
            method: sent.method.to_owned(),
            path: sent.path.to_owned(),
            authority: "mcp.test".to_owned(),
            from: [127, 0, 0, 1].into(),
            headers: sent.headers.clone(),
            body: (sent.method == "POST").then(|| body_of(sent.rpc)),
            cut: None,
        },
        upstream: Vec::new(),
        answer: Some(sent.answer.clone()),
        client: None,
        calls: sent.calls.clone(),
        ids: None,
        outcome: None,
    })
}

/// Opens a session; by the filter if it is to be shared.
pub fn open(envoy: &mut Envoy, caller: &str, id: &str, is_shared: bool) {
    let mut sent = Sent {
        rpc: "initialize",
        ..Sent::call("POST", caller)
    };
    if is_shared {
        let initialize = call("initialize", answer(200, Some(id)));
        let initialized = call("notifications/initialized", answer(202, None));
        sent.calls = vec![initialize, initialized];
    } else {
        sent.answer = answer(200, Some(id));
    }
    let seen = send(envoy, &sent);
    assert_eq!(seen.outcome.as_deref(), Some("learned"));
}

/// An answer; one that opens a session has an InitializeResult.
pub fn answer(status: u16, opened: Option<&str>) -> Answer {
    let mut headers = vec![line("content-type", "application/json")];
    headers.extend(opened.map(|id| line("mcp-session-id", id)));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"{VERSION}","capabilities":{{}}}}}}"#
    );
    Answer {
        status,
        headers,
        body: Some(body.into_bytes()),
        ..Answer::default()
    }
}

/// A request of the filter's own, and its answer.
pub fn call(rpc: &str, answer: Answer) -> Call {
    Call {
        method: "POST".to_owned(),
        rpc: Some(rpc.to_owned()),
        headers: Vec::new(),
        answer,
    }
}

pub fn line(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}
