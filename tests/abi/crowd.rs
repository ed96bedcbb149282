//! Several clients of one server: how they open a session, and the server that answers what the filter asks it itself.

use std::time::Duration;

use serde_json::Value;

use super::calls::HttpCall;
use super::exchange::Exchange;
use super::head::{Head, Reply};
use super::worker::Worker;
use super::world::World;

/// Clients of one caller share a session, where headers can be held and where not; the last one is for hosts without
/// `allow_on_headers_stop_iteration`.
pub const SHARING: [(&str, bool); 3] = [
    (
        r#"{"on_reinitialize": "reuse", "hold_request_headers": true}"#,
        true,
    ),
    (r#"{"on_reinitialize": "reuse"}"#, true),
    (r#"{"on_reinitialize": "reuse"}"#, false),
];

/// How often who waits looks again by itself.
pub const LOOK: Duration = Duration::from_secs(1);

/// A process on such a host.
pub fn world((config, headers_may_wait_alone): (&str, bool)) -> World {
    let world = World::new(config);
    world.state().headers_may_wait_alone = headers_may_wait_alone;
    world
}

/// The beginning of a request of this caller.
pub fn head(caller: &str, method: &str) -> Head {
    Head::new(method, "/mcp").header("authorization", format!("Bearer {caller}"))
}

/// An initialize with this id, JSON text.
pub fn initialize(id: &str) -> String {
    initialize_of("client", id)
}

/// The same of a client with this name.
pub fn initialize_of(name: &str, id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{{}},"clientInfo":{{"name":"{name}","version":"1"}}}}}}"#
    )
}

/// A client of this caller asks for a session.
pub fn knock(worker: &Worker, caller: &str, id: &str) -> Exchange {
    let mut exchange = worker.request(&head(caller, "POST"));
    exchange.headers().body(initialize(id)).end();
    exchange
}

/// A client sends a request that goes through at once.
pub fn send(worker: &Worker, head: &Head, body: &str) -> Exchange {
    let mut exchange = worker.request(head);
    if body.is_empty() {
        exchange.headers_only();
    } else {
        exchange.headers().body(body).end();
    }
    exchange
}

/// A client ends its session, and the server lets it.
pub fn delete(worker: &Worker, caller: &str, session: &str) {
    let mut exchange = send(
        worker,
        &head(caller, "DELETE").header("mcp-session-id", session),
        "",
    );
    assert!(exchange.is_sent(), "the DELETE goes up");
    exchange.answer(&Reply::new(200)).close();
}

/// What a server answers to an initialize that it opens this session for.
pub fn opened(call: &HttpCall, session: &str) -> Reply {
    opened_by(&call.body, session)
}

/// The same to an initialize with this body.
pub fn opened_by(initialize: &[u8], session: &str) -> Reply {
    let id = &message(initialize)["id"];
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":"{session}"}}}}}}"#
    );
    Reply::new(200)
        .header("content-type", "application/json")
        .header("mcp-session-id", session)
        .body(body)
}

/// A server refuses an initialize.
pub fn refused(call: &HttpCall, status: u16) -> Reply {
    let id = &message(&call.body)["id"];
    Reply::new(status)
        .header("content-type", "application/json")
        .header("www-authenticate", "Bearer scope=\"mcp\"")
        .body(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"no"}}}}"#
        ))
}

/// What a server answers to a call with this mark, as events or as JSON.
pub fn marked(id: &str, mark: &str, events: bool) -> Reply {
    let answer = format!(r#"{{"result":{{"mark":"{mark}","id":{id}}},"id":{id},"jsonrpc":"2.0"}}"#);
    let (media_type, body) = if events {
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
        let data = format!("id: 1\ndata: {progress}\r\n\r\n: ping\n\ndata: {answer}\n\n");
        ("text/event-stream", data)
    } else {
        ("application/json", answer)
    };
    Reply::new(200)
        .header("content-type", media_type)
        .body(body)
}

/// The id of such an answer, to the letter. Panics if it is another call's.
pub fn id_of<'a>(answer: &'a str, mark: &str) -> &'a str {
    let event = answer.split("data: ").last().expect("an answer").trim_end();
    let (result, rest) = event.split_once("},\"id\":").expect("an answer");
    let own = format!(r#"{{"result":{{"mark":"{mark}","#);
    assert!(result.starts_with(&own), "{mark} got {result}");
    rest.trim_end_matches(",\"jsonrpc\":\"2.0\"}")
}

pub fn message(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("no JSON: {}", body.escape_ascii()))
}

/// What a call is: the method of its message, or that of HTTP.
pub fn name(call: &HttpCall) -> String {
    if call.body.is_empty() {
        return call.headers.text(":method");
    }
    let message = message(&call.body);
    message["method"].as_str().expect("a request").to_owned()
}

/// The one call that is under way, and whose worker made it.
pub fn the_call(workers: &[Worker]) -> (Worker, HttpCall) {
    let mut calls = workers.iter().flat_map(|worker| {
        worker
            .calls()
            .into_iter()
            .map(|call| (worker.clone(), call))
    });
    let call = calls.next().expect("a call is under way");
    let more: Vec<_> = calls.map(|(_, call)| name(&call)).collect();
    assert_eq!(more, Vec::<String>::new(), "no other call is under way");
    call
}

/// The server opens this session for the one initialize under way, and hears that it is ready if clients share it.
pub fn open(workers: &[Worker], session: &str) {
    let (worker, call) = the_call(workers);
    assert_eq!(name(&call), "initialize");
    worker.answer(&call, opened(&call, session));
    for worker in workers {
        for call in worker.calls() {
            if name(&call) == "notifications/initialized" {
                assert_eq!(call.headers.text("mcp-session-id"), session);
                worker.answer(&call, Reply::new(202));
            }
        }
    }
}

/// The server opens this session for the one initialize under way. What it is yet to hear, that it is ready, is given
/// back with its worker.
pub fn open_but_for_the_notice(workers: &[Worker], session: &str) -> (Worker, HttpCall) {
    let (worker, call) = the_call(workers);
    worker.answer(&call, opened(&call, session));
    the_call(workers)
}

/// All that the filter has asked the server so far, in order.
pub fn asked(workers: &[Worker]) -> Vec<String> {
    let mut calls: Vec<_> = workers.iter().flat_map(Worker::calls_made).collect();
    calls.sort_by_key(|call| call.order);
    calls.iter().map(name).collect()
}

/// The status that a client got.
pub fn status(exchange: &Exchange) -> String {
    let headers = exchange.at_client().headers;
    headers.map_or_else(|| "none".to_owned(), |headers| headers.text(":status"))
}

/// Whether nothing of the request has gone up, or what has was reset before its end.
pub fn is_kept_from_the_server(exchange: &Exchange) -> bool {
    let server = exchange.at_server();
    server.end.is_none() && (server.headers.is_none() || exchange.upstream_was_reset())
}

/// Panics unless the client has this session, in an answer with the id that it sent.
pub fn assert_opened(exchange: &mut Exchange, id: &str, session: &str) {
    assert!(exchange.is_answered(), "the initialize {id} is answered");
    assert!(is_kept_from_the_server(exchange), "{id} is the filter's");
    let client = exchange.at_client();
    let headers = client.headers.unwrap();
    assert_eq!(headers.text(":status"), "200", "{id}");
    assert_eq!(headers.text("mcp-session-id"), session, "{id}");
    let answer = message(&client.body);
    assert_eq!(answer["id"].to_string(), id, "its own id");
    assert_eq!(answer["result"]["serverInfo"]["name"], session, "{id}");
    exchange.close();
}

/// Panics unless the client got this error, with the id that it sent.
pub fn assert_refused(exchange: &mut Exchange, id: &str, status: &str) {
    assert_eq!(self::status(exchange), status, "{id}");
    assert!(exchange.is_answered() && is_kept_from_the_server(exchange));
    let answer = message(&exchange.at_client().body);
    assert_eq!(answer["id"].to_string(), id, "its own id");
    assert!(answer["error"].is_object(), "{answer}");
    exchange.close();
}

pub fn assert_no_offences(world: &World) {
    assert_eq!(world.offences(), Vec::<String>::new());
}
