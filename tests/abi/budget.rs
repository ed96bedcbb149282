//! What a request costs: its hostcalls against a table, and its instructions to be looked at.

use super::cost::Cost;
use super::crowd::knock;
use super::head::{Head, Reply};
use super::worker::Worker;
use super::world::World;

/// The hostcalls of each kind of request, all callbacks of its stream together.
const TABLE: &[(&str, &str)] = &[
    ("a path that is not ours", "1 get_header_map_pairs"),
    (
        "a sessionless request",
        "1 get_header_map_pairs, 1 increment_metric, 1 set_property",
    ),
    (
        "an own id, no body",
        "1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 1 set_property",
    ),
    (
        "an own id, POST",
        "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 1 set_property",
    ),
    (
        "a path that is not ours, with a header for hosts",
        "1 get_header_map_pairs, 2 remove_header_map_value",
    ),
    (
        "an own id, POST, to its session's host",
        "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 2 remove_header_map_value, 1 replace_header_map_value, 1 set_property",
    ),
    (
        "a repair (GET)",
        "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 3 replace_header_map_value, 1 set_property, 1 random_get",
    ),
    (
        "a repair (held POST)",
        "2 get_buffer_bytes, 3 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 4 replace_header_map_value, 1 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    ),
    (
        "a repair (held POST, ids left alone)",
        "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 3 replace_header_map_value, 1 set_property",
    ),
    (
        "an own id in a shared session, POST",
        "2 get_buffer_bytes, 6 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 4 get_shared_data, 1 increment_metric, 1 replace_header_map_value, 1 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    ),
    (
        "an initialize answered from memory",
        "1 get_buffer_bytes, 4 get_current_time_nanoseconds, 1 get_header_map_pairs, 1 get_property, 4 get_shared_data, 1 increment_metric, 1 send_local_response, 1 set_property, 1 random_get",
    ),
    (
        "an initialized answered by the filter",
        "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 1 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 1 send_local_response, 1 set_property",
    ),
    (
        "a JSON answer of 1 MB in 16 pieces, ids put back",
        "17 get_buffer_bytes, 5 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 1 replace_header_map_value, 2 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    ),
    (
        "100 events in a piece each, ids put back",
        "101 get_buffer_bytes, 5 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 1 replace_header_map_value, 101 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    ),
    (
        "a learning",
        "2 get_buffer_bytes, 3 get_current_time_nanoseconds, 2 get_header_map_pairs, 3 get_property, 7 get_shared_data, 1 increment_metric, 1 set_property, 3 set_shared_data",
    ),
];

#[test]
fn hostcalls_per_request_stay_within_the_table() {
    let measured = measure();
    println!("callbacks  hostcalls  instructions  request: hostcalls");
    for (name, cost) in &measured {
        let callbacks: u64 = cost.callbacks.values().sum();
        let hostcalls: u64 = cost.hostcalls.values().sum();
        let (instructions, each) = (cost.instructions, row(cost));
        println!("{callbacks:9}  {hostcalls:9}  {instructions:12}  {name}: {each}");
    }
    let measured: Vec<_> = measured
        .iter()
        .map(|(name, cost)| (*name, row(cost)))
        .collect();
    let table: Vec<_> = TABLE
        .iter()
        .map(|(name, calls)| (*name, (*calls).to_owned()))
        .collect();
    assert_eq!(measured, table);
}

fn row(cost: &Cost) -> String {
    let each = cost.hostcalls.iter();
    let each: Vec<_> = each
        .map(|(call, n)| format!("{n} {}", call.trim_start_matches("proxy_")))
        .collect();
    each.join(", ")
}

fn measure() -> Vec<(&'static str, Cost)> {
    let worker = |config: &str| {
        let world = World::new(config);
        world.state().log_level = WARN;
        world.worker()
    };
    let open = worker("{}");
    let held = worker(r#"{"hold_request_headers": true}"#);
    let alone = worker(r#"{"hold_request_headers": true, "translate_ids": false}"#);
    let hosts = worker(r#"{"upstream_host_header": "x-host"}"#);
    let shared = worker(r#"{"hold_request_headers": true, "on_reinitialize": "reuse"}"#);
    let get = client_head("GET").header("accept", "text/event-stream");
    let list = r#"{"method":"tools/list","jsonrpc":"2.0","id":2}"#;
    // What is done once, for the first request, is not what a request costs: nor that a session becomes a shared one.
    for worker in [&open, &held, &alone] {
        exchange(worker, &client_head("POST"), INITIALIZE, &initialized("s0"));
        exchange(worker, &get, "", &Reply::new(200));
    }
    let on_host = client_head("POST").property(&["upstream", "address"], b"10.0.0.1:80");
    exchange(&hosts, &on_host, INITIALIZE, &initialized("s0"));
    knock(&shared, "abcdefgh", "1");
    super::crowd::open(std::slice::from_ref(&shared), "s0");
    let ok = Reply::new(200)
        .header("content-type", "application/json")
        .body(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    let own = |method| client_head(method).header("mcp-session-id", "s9");
    let in_session = client_head("POST").header("mcp-session-id", "s0");
    let event = r#"{"jsonrpc":"2.0","id":TOKEN,"result":{"content":[{"type":"text","text":"some words"}]}}"#;
    let events = vec![format!("event: message\ndata: {event}\n\n"); 100];
    let sessionless = client_head("POST").header("mcp-protocol-version", "2026-07-28");
    vec![
        (
            "a path that is not ours",
            exchange(&open, &Head::post("/other"), list, &ok),
        ),
        (
            "a sessionless request",
            exchange(&open, &sessionless, list, &ok),
        ),
        (
            "an own id, no body",
            exchange(
                &open,
                &own("GET").header("accept", "text/event-stream"),
                "",
                &ok,
            ),
        ),
        ("an own id, POST", exchange(&open, &own("POST"), list, &ok)),
        (
            "a path that is not ours, with a header for hosts",
            exchange(&hosts, &Head::post("/other"), list, &ok),
        ),
        (
            "an own id, POST, to its session's host",
            exchange(&hosts, &in_session, list, &ok),
        ),
        ("a repair (GET)", exchange(&open, &get, "", &ok)),
        (
            "a repair (held POST)",
            exchange(&held, &client_head("POST"), list, &ok),
        ),
        (
            "a repair (held POST, ids left alone)",
            exchange(&alone, &client_head("POST"), list, &ok),
        ),
        (
            "an own id in a shared session, POST",
            exchange(&shared, &in_session, list, &ok),
        ),
        (
            "an initialize answered from memory",
            answered(&shared, &client_head("POST"), INITIALIZE),
        ),
        (
            "an initialized answered by the filter",
            answered(&shared, &in_session, INITIALIZED),
        ),
        (
            "a JSON answer of 1 MB in 16 pieces, ids put back",
            pieces(&shared, &in_session, "application/json", &large()),
        ),
        (
            "100 events in a piece each, ids put back",
            pieces(&shared, &in_session, "text/event-stream", &events),
        ),
        (
            "a learning",
            exchange(&held, &client_head("POST"), INITIALIZE, &initialized("s1")),
        ),
    ]
}

/// Envoy's level for wasm, unless somebody looks closer.
const WARN: u32 = 3;

const INITIALIZE: &str = concat!(
    r#"{"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"#,
    r#""clientInfo":{"name":"client","version":"1"}},"jsonrpc":"2.0","id":1}"#
);

const INITIALIZED: &str = r#"{"method":"notifications/initialized","jsonrpc":"2.0"}"#;

fn initialized(id: &str) -> Reply {
    let body = concat!(
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"#,
        r#""serverInfo":{"name":"server","version":"1"}}}"#
    );
    Reply::new(200)
        .header("content-type", "application/json")
        .header("mcp-session-id", id)
        .body(body)
}

fn client_head(method: &str) -> Head {
    let head = Head::new(method, "/mcp")
        .header("authorization", "Bearer abcdefgh")
        .header("user-agent", "client/1.0");
    head.header("accept-encoding", "gzip, deflate")
        .header("x-forwarded-for", "127.0.0.1")
}

fn exchange(worker: &Worker, head: &Head, body: &str, reply: &Reply) -> Cost {
    let before = worker.cost();
    let mut exchange = worker.request(head);
    if body.is_empty() {
        exchange.headers_only();
    } else {
        exchange.headers().body(body).end();
    }
    exchange.answer(reply);
    assert!(
        exchange.is_sent() && exchange.is_answered(),
        "the exchange is complete"
    );
    exchange.close();
    worker.cost().since(&before)
}

/// The filter answers.
fn answered(worker: &Worker, head: &Head, body: &str) -> Cost {
    let before = worker.cost();
    let mut exchange = worker.request(head);
    exchange.headers().body(body).end();
    assert!(exchange.is_answered() && exchange.local_reply().is_some());
    exchange.close();
    worker.cost().since(&before)
}

/// The server answers a request in pieces, with the id that it saw.
fn pieces(worker: &Worker, head: &Head, media_type: &str, pieces: &[String]) -> Cost {
    let request = r#"{"method":"tools/call","jsonrpc":"2.0","id":2}"#;
    let before = worker.cost();
    let mut exchange = worker.request(head);
    exchange.headers().body(request).end();
    let seen = super::crowd::message(&exchange.at_server().body);
    let token = seen["id"].to_string();
    exchange.answer_headers(&Reply::new(200).header("content-type", media_type), false);
    for piece in pieces {
        exchange.answer_body(piece.replace("TOKEN", &token));
    }
    exchange.answer_end();
    let expected = pieces.concat().replace("TOKEN", "2");
    assert!(exchange.at_client().body == expected.as_bytes());
    exchange.close();
    worker.cost().since(&before)
}

fn large() -> Vec<String> {
    let content = r#"{"type":"text","text":"some words that are not short"},"#.repeat(18_000);
    let body = format!(r#"{{"jsonrpc":"2.0","result":{{"content":[{content}{{}}]}},"id":TOKEN}}"#);
    let chunks = body.as_bytes().chunks(65_536);
    chunks
        .map(|chunk| String::from_utf8(chunk.to_vec()).unwrap())
        .collect()
}
