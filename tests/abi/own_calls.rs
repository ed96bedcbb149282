//! What must be true of the filter's own requests.

use serde_json::Value;

use super::calls::HttpCall;
use super::head::Headers;
use super::passage::assert_lines;
use crate::scenario::{Call, Request};

/// Panics unless exactly the expected calls were made, in their order.
pub fn assert_made(expected: &[Call], made: &[HttpCall]) {
    let shown: Vec<_> = made.iter().map(shown).collect();
    let wanted = expected.iter();
    let wanted: Vec<_> = wanted
        .map(|call| (call.method.clone(), call.rpc.clone()))
        .collect();
    assert_eq!(shown, wanted, "the filter's own requests");
    for (expected, call) in expected.iter().zip(made) {
        assert_eq!(call.cluster, "mcp_servers", "a call's cluster");
        for (name, lines) in &expected.headers {
            let at = format!("the call {:?}", self::shown(call));
            assert_lines(name, lines, &call.headers, &at);
        }
    }
}

/// Panics unless they went where the client's request went; `server` is what became of that.
pub fn assert_follow(
    request: &Request,
    server: Option<&Headers>,
    expected: &[Call],
    made: &[HttpCall],
) {
    for (n, (expected, call)) in expected.iter().zip(made).enumerate() {
        for (name, value) in [(":path", &request.path), (":authority", &request.authority)] {
            let listed = expected.headers.iter().any(|(listed, _)| listed == name);
            assert!(
                listed || call.headers.text(name) == *value,
                "{name} of a call is {}",
                call.headers.text(name)
            );
        }
        let mut listed = expected.headers.iter().map(|(listed, _)| listed.as_str());
        let is_elsewhere = listed.any(|name| name == "mcp-session-id");
        if let (true, Some(server)) = (expected.is_ping(), server) {
            assert_ping(call);
            assert_like(call, server, &["authorization", "x-api-key"]);
            if !is_elsewhere {
                assert_like(call, server, &["mcp-session-id"]);
                assert_version(call, server, n == 0);
            }
        }
    }
}

fn assert_like(call: &HttpCall, request: &Headers, names: &[&str]) {
    for name in names {
        let (made, sent) = (call.headers.all(name), request.all(name));
        assert_eq!(made, sent, "{name} of a ping");
    }
}

/// Only the first ping names a version.
fn assert_version(call: &HttpCall, request: &Headers, first: bool) {
    let version = if first {
        request.all("mcp-protocol-version")
    } else {
        Vec::new()
    };
    assert_eq!(
        call.headers.all("mcp-protocol-version"),
        version,
        "mcp-protocol-version of a ping"
    );
}

fn assert_ping(call: &HttpCall) {
    let body: Value = serde_json::from_slice(&call.body).expect("a ping is JSON");
    assert_eq!(body["jsonrpc"], "2.0", "a ping's version of JSON-RPC");
    assert!(!body["id"].is_null(), "a ping has an id");
}

/// Its method, and the method of its message; bodies that are no message show themselves.
pub fn shown(call: &HttpCall) -> (String, Option<String>) {
    let rpc = (!call.body.is_empty()).then(|| {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let method = body["method"].as_str().map(str::to_owned);
        method.unwrap_or_else(|| call.body.escape_ascii().to_string())
    });
    (call.headers.text(":method"), rpc)
}
