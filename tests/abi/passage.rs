//! What must be true of a request's way to the server, and of an answer's way to the client.

use serde_json::Value;

use super::flow::{End, Passed};
use super::head::{Headers, Reply};
use super::replay::Seen;
use crate::scenario::{self, Body, Exchange, Expected, Ids, tokens};

/// Panics unless the server got the whole request, and nothing but ids was changed in its body.
pub fn assert_arrived(spec: &Exchange, seen: &Seen) {
    let body = spec.request.body.as_deref().unwrap_or_default();
    let server = &seen.server;
    assert!(
        server.headers.is_some(),
        "the request did not reach the server"
    );
    assert!(
        tokens::between(body, &server.body).is_ok(),
        "the body at the server is {}, not {}",
        server.body.escape_ascii(),
        body.escape_ascii()
    );
    assert_eq!(server.end, Some(End::Body), "the request's end there");
    // Whoever is answered by the filter leaves the rest of the server's answer.
    let reset = seen.upstream_reset && spec.client.is_none();
    assert!(!reset, "the request was reset upstream");
    assert_length("the server", server);
}

/// Panics if the server got the whole request, or anything at all of one whose headers were held.
pub fn assert_kept_from_the_server(seen: &Seen) {
    let server = &seen.server;
    assert_eq!(server.end, None, "the request's end at the server");
    let begun = server.headers.is_some();
    assert!(
        !(begun && seen.headers_held),
        "the request reached the server"
    );
    assert!(
        !begun || seen.upstream_reset,
        "the request goes on upstream without an end"
    );
}

/// Panics unless the client got what it should have.
pub fn assert_client_got_its_answer(spec: &Exchange, seen: &Seen) {
    if let Some(client) = &spec.client {
        return compare(client, &seen.client).unwrap_or_else(|what| panic!("{what}"));
    }
    let reply = seen.answer.as_ref().expect("the server answered");
    let mut free = Vec::new();
    if may_be_rewritten(spec, seen) {
        free.push("content-length");
        assert_length("the client", &seen.client);
    }
    assert_client_got(reply, seen, &free);
    assert_eq!(
        seen.client.body.escape_ascii().to_string(),
        reply.body.escape_ascii().to_string(),
        "the answer's body at the client"
    );
}

/// When a hostcall failed: the traffic has passed, be it with ids of the filter's, or the filter answered as it
/// should have, or it said that it could not.
pub fn assert_traffic_passed(spec: &Exchange, seen: &Seen) {
    if let Some(client) = &spec.client {
        let status = seen.client.headers.as_ref();
        let status = status.map_or_else(String::new, |headers| headers.text(":status"));
        let excused = seen.answered_locally && ["503", "504"].contains(&status.as_str());
        if excused || compare(client, &seen.client).is_ok() {
            return;
        }
    }
    assert_arrived(spec, seen);
    let reply = seen.answer.as_ref().expect("the server answered");
    assert_length("the client", &seen.client);
    assert_client_got(reply, seen, &["content-length"]);
    assert!(
        tokens::between(&reply.body, &seen.client.body).is_ok(),
        "the answer's body at the client is {}",
        seen.client.body.escape_ascii()
    );
}

fn assert_client_got(reply: &Reply, seen: &Seen, free: &[&str]) {
    let headers = seen.client.headers.as_ref();
    assert_eq!(
        headers.map(|headers| headers.without(free)),
        Some(reply.headers.without(free)),
        "the answer's headers at the client"
    );
    assert_eq!(
        seen.client.end,
        Some(End::Body),
        "the answer's end at the client"
    );
}

/// Whether lengths may go and the encoding may be another: ids were translated, or would have been if there were any.
pub fn may_be_rewritten(spec: &Exchange, seen: &Seen) -> bool {
    let headers = seen.server.headers.as_ref();
    let is_in_session = headers.is_some_and(|headers| headers.first("mcp-session-id").is_some());
    is_in_session && spec.ids != Some(Ids::Kept)
}

/// Panics unless the ids of the body's requests were translated, or kept, as expected.
pub fn assert_ids(spec: &Exchange, seen: &Seen) {
    let body = spec.request.body.as_deref().unwrap_or_default();
    match spec.ids {
        None => {}
        Some(Ids::Kept) => assert!(
            seen.translated.is_empty(),
            "ids were translated: {}",
            seen.server.body.escape_ascii()
        ),
        Some(Ids::Translated) => {
            let kept = requests(&seen.server.body)
                .into_iter()
                .filter(|id| !is_token(id));
            let kept: Vec<_> = kept.collect();
            assert!(kept.is_empty(), "ids that were not translated: {kept:?}");
            let any = requests(body).is_empty() || !seen.translated.is_empty();
            assert!(any, "no id was translated");
        }
    }
    for again in tokens::sent_again(body, seen.calls.iter().map(|call| &call.body)) {
        let is_right = match spec.ids {
            None => true,
            Some(Ids::Kept) => again.is_empty(),
            Some(Ids::Translated) => !again.is_empty() || requests(body).is_empty(),
        };
        assert!(is_right, "ids of a request that was sent again: {again:?}");
    }
}

/// The ids of the requests in a JSON-RPC message or batch.
fn requests(body: &[u8]) -> Vec<Value> {
    let messages = match serde_json::from_slice(body) {
        Ok(Value::Array(messages)) => messages,
        Ok(message) => vec![message],
        Err(_) => Vec::new(),
    };
    let id = |message: &Value| {
        let is_request = message.get("method").is_some();
        message.get("id").filter(|_| is_request).cloned()
    };
    messages
        .iter()
        .filter_map(id)
        .filter(|id| id.is_string() || id.is_number())
        .collect()
}

fn is_token(id: &Value) -> bool {
    let text = id.to_string();
    tokens::within(text.as_bytes())
        .first()
        .is_some_and(|found| found.token == text.as_bytes())
}

/// Whether these are the lines of that name.
pub fn assert_lines(name: &str, expected: &Expected, headers: &Headers, at: &str) {
    assert_eq!(shown(&headers.all(name)), lines(expected), "{name} at {at}");
}

fn lines(expected: &Expected) -> Vec<String> {
    match expected {
        Expected::Absent => Vec::new(),
        Expected::Lines(lines) => shown(lines),
    }
}

fn shown(lines: &[impl AsRef<[u8]>]) -> Vec<String> {
    let shown = |line: &dyn AsRef<[u8]>| line.as_ref().escape_ascii().to_string();
    lines.iter().map(|line| shown(line)).collect()
}

fn compare(expected: &scenario::Client, got: &Passed) -> Result<(), String> {
    let headers = got.headers.as_ref().ok_or("the client got no answer")?;
    let same = |what: &str, got: String, expected: String| {
        let wrong = format!("{what} at the client is {got}, not {expected}");
        (got == expected).then_some(()).ok_or(wrong)
    };
    let status = expected.status.to_string();
    same(":status", headers.text(":status"), status)?;
    for (name, expected) in &expected.headers {
        let got = format!("{:?}", shown(&headers.all(name)));
        same(name, got, format!("{:?}", lines(expected)))?;
    }
    let text = got.body.escape_ascii().to_string();
    match &expected.body {
        Body::Empty => same("the body", text, String::new())?,
        Body::Bytes(bytes) => same("the body", text, bytes.escape_ascii().to_string())?,
        Body::Json(value) => {
            let got = serde_json::from_slice::<Value>(&got.body);
            let got = got.map_err(|_| format!("the body at the client is no JSON: {text}"))?;
            same("the body", got.to_string(), value.to_string())?;
        }
    }
    let ended = got.end == Some(End::Body);
    ended
        .then_some(())
        .ok_or_else(|| "the answer at the client has no end".to_owned())
}

/// A length that is there is right.
fn assert_length(at: &str, passed: &Passed) {
    let headers = passed.headers.clone().unwrap_or_default();
    let length = passed.body.len().to_string();
    for line in headers.all("content-length") {
        assert_eq!(
            line.escape_ascii().to_string(),
            length,
            "content-length at {at}"
        );
    }
}
