//! A client with one session, for tests that only need some client.

use super::exchange::Exchange;
use super::head::{Head, Reply};
use super::worker::Worker;
use super::world::World;
use crate::scenario::tokens;

/// Both ways to tell an initialize from the rest.
pub const CONFIGS: [&str; 2] = ["{}", r#"{"hold_request_headers": true}"#];
pub const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
pub const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;

/// A worker, and a caller who has the session "s1".
pub fn with_a_session(world: &World) -> Worker {
    let worker = world.worker();
    let mut request = worker.request(&client_head("POST"));
    request.headers().body(INITIALIZE).end();
    request
        .answer(&Reply::new(200).header("mcp-session-id", "s1"))
        .close();
    assert_eq!(request.outcome().as_deref(), Some("learned"));
    worker
}

pub fn client_head(method: &str) -> Head {
    Head::new(method, "/mcp").header("authorization", "Bearer a")
}

pub fn stream_head() -> Head {
    client_head("GET").header("accept", "text/event-stream")
}

/// The exchange goes through to its end, unchanged.
pub fn complete(request: &mut Exchange, body: &[u8], what: &str) {
    assert!(request.is_sent(), "{what}: the request is complete");
    assert!(
        tokens::between(body, &request.at_server().body).is_ok(),
        "{what}: nothing but ids may change in the body at the server"
    );
    let reply = Reply::new(200).header("x-odd", b"\xff").body("{}");
    request.answer(&reply);
    assert!(request.is_answered(), "{what}: the answer is complete");
    assert_eq!(
        request.at_client().headers,
        Some(reply.headers),
        "{what}: the answer's headers"
    );
    request.close();
}

/// The worker still repairs, and has done nothing that no filter should do.
pub fn lives(world: &World, worker: &Worker) {
    assert_eq!(world.offences(), Vec::<String>::new());
    let mut request = worker.request(&stream_head());
    request.headers_only();
    assert_eq!(
        request.server_headers().text("mcp-session-id"),
        "s1",
        "the session is still known"
    );
    request.answer(&Reply::new(200)).close();
}
