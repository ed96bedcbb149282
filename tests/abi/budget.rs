//! What a request costs, in hostcalls and instructions, against a table.

use super::cost::Cost;
use super::crowd::knock;
use super::head::{Head, Reply};
use super::worker::Worker;
use super::world::World;

/// What each kind of request costs, in the order of the README's table: all callbacks of its stream together. The
/// instructions are rounded, as the README has them.
const TABLE: &[Row] = &[
    Row {
        request: "on a path that is not ours",
        instructions: 4_800,
        hostcalls: "1 get_header_map_pairs",
    },
    Row {
        request: "on a path that is not ours, with `upstream_host_header`",
        instructions: 4_900,
        hostcalls: "1 get_header_map_pairs, 2 remove_header_map_value",
    },
    Row {
        request: "of the era without sessions",
        instructions: 7_000,
        hostcalls: "1 get_header_map_pairs, 1 increment_metric, 1 set_property",
    },
    Row {
        request: "GET with an id of its own",
        instructions: 20_900,
        hostcalls: "1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 1 set_property",
    },
    Row {
        request: "POST with an id of its own",
        instructions: 24_300,
        hostcalls: "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 1 set_property",
    },
    Row {
        request: "POST with an id of its own, to its session's host (`upstream_host_header`)",
        instructions: 34_100,
        hostcalls: "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 2 remove_header_map_value, 1 replace_header_map_value, 1 set_property",
    },
    Row {
        request: "GET, repaired",
        instructions: 36_400,
        hostcalls: "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 3 replace_header_map_value, 1 set_property, 1 random_get",
    },
    Row {
        request: "POST, held and repaired",
        instructions: 63_900,
        hostcalls: "2 get_buffer_bytes, 3 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 4 replace_header_map_value, 1 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    },
    Row {
        request: "the same with `translate_ids: false`",
        instructions: 30_700,
        hostcalls: "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 3 replace_header_map_value, 1 set_property",
    },
    Row {
        request: "a POST of 1 MB, its method first, held and repaired",
        instructions: 5_480_000,
        hostcalls: "18 get_buffer_bytes, 3 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 4 replace_header_map_value, 1 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    },
    Row {
        request: "a POST of 1 MB, held and repaired, with `translate_ids: false`",
        instructions: 101_000,
        hostcalls: "2 get_buffer_bytes, 1 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 3 replace_header_map_value, 1 set_property",
    },
    Row {
        request: "POST with an id of its own, in a shared session",
        instructions: 80_700,
        hostcalls: "2 get_buffer_bytes, 6 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 4 get_shared_data, 1 increment_metric, 1 replace_header_map_value, 1 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    },
    Row {
        request: "`initialize`, answered from a shared session's",
        instructions: 101_000,
        hostcalls: "1 get_buffer_bytes, 4 get_current_time_nanoseconds, 1 get_header_map_pairs, 1 get_property, 4 get_shared_data, 1 increment_metric, 1 send_local_response, 1 set_property, 1 random_get",
    },
    Row {
        request: "`notifications/initialized`, answered 202",
        instructions: 38_300,
        hostcalls: "1 get_buffer_bytes, 1 get_current_time_nanoseconds, 1 get_header_map_pairs, 1 get_property, 1 get_shared_data, 1 increment_metric, 1 send_local_response, 1 set_property",
    },
    Row {
        request: "a JSON answer of 1 MB in 16 pieces, in a shared session",
        instructions: 5_720_000,
        hostcalls: "17 get_buffer_bytes, 5 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 1 replace_header_map_value, 2 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    },
    Row {
        request: "100 events of a stream, in a shared session",
        instructions: 1_490_000,
        hostcalls: "101 get_buffer_bytes, 5 get_current_time_nanoseconds, 2 get_header_map_pairs, 1 get_property, 3 get_shared_data, 1 increment_metric, 1 replace_header_map_value, 101 set_buffer_bytes, 1 set_property, 2 set_shared_data, 1 random_get",
    },
    Row {
        request: "`initialize`, learned from",
        instructions: 88_300,
        hostcalls: "2 get_buffer_bytes, 3 get_current_time_nanoseconds, 2 get_header_map_pairs, 3 get_property, 7 get_shared_data, 1 increment_metric, 1 set_property, 3 set_shared_data",
    },
];

struct Row {
    request: &'static str,
    instructions: u64,
    hostcalls: &'static str,
}

/// Another compiler, or a change of something else, makes no more difference than one in so many.
const TOLERANCE: u64 = 10;

#[test]
fn no_request_costs_more_or_less_than_the_table_says() {
    let measured = measure();
    println!("callbacks  hostcalls  instructions  request: hostcalls");
    for (request, cost) in &measured {
        let callbacks: u64 = cost.callbacks.values().sum();
        let hostcalls: u64 = cost.hostcalls.values().sum();
        let (instructions, each) = (cost.instructions, row(cost));
        println!("{callbacks:9}  {hostcalls:9}  {instructions:12}  {request}: {each}");
    }
    for ((request, cost), expected) in measured.iter().zip(TABLE) {
        assert_eq!(*request, expected.request);
        assert_eq!(row(cost), expected.hostcalls, "{request}");
        let off = cost.instructions.abs_diff(expected.instructions);
        assert!(
            off <= expected.instructions / TOLERANCE,
            "{request}: {} instructions, and not about {}",
            cost.instructions,
            expected.instructions
        );
    }
    assert_eq!(measured.len(), TABLE.len());
}

#[test]
fn the_readme_tells_what_the_table_says() {
    let readme = include_str!("../../README.md");
    let rows = TABLE.iter().map(|row| {
        let counts = row.hostcalls.split(", ").map(|call| {
            let (count, _) = call.split_once(' ').unwrap();
            count.parse::<u64>().unwrap()
        });
        let instructions = in_thousands(row.instructions);
        format!(
            "| {} | {} | {instructions} |\n",
            row.request,
            counts.sum::<u64>()
        )
    });
    let rows: String = rows.collect();
    assert!(
        readme.contains(&rows),
        "the README lacks these rows:\n{rows}"
    );
}

fn in_thousands(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", in_thousands(number / 1_000), number % 1_000),
    }
}

fn row(cost: &Cost) -> String {
    let each = cost.hostcalls.iter();
    let each: Vec<_> = each
        .map(|(call, n)| format!("{n} {}", call.trim_start_matches("proxy_")))
        .collect();
    each.join(", ")
}

#[allow(clippy::too_many_lines, reason = "a list")]
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
    let text = "some words that are not short\\n".repeat(34_000);
    let megabyte = format!(
        r#"{{"method":"tools/call","jsonrpc":"2.0","id":2,"params":{{"arguments":{{"text":"{text}"}}}}}}"#
    );
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
            "on a path that is not ours",
            exchange(&open, &Head::post("/other"), list, &ok),
        ),
        (
            "on a path that is not ours, with `upstream_host_header`",
            exchange(&hosts, &Head::post("/other"), list, &ok),
        ),
        (
            "of the era without sessions",
            exchange(&open, &sessionless, list, &ok),
        ),
        (
            "GET with an id of its own",
            exchange(
                &open,
                &own("GET").header("accept", "text/event-stream"),
                "",
                &ok,
            ),
        ),
        (
            "POST with an id of its own",
            exchange(&open, &own("POST"), list, &ok),
        ),
        (
            "POST with an id of its own, to its session's host (`upstream_host_header`)",
            exchange(&hosts, &in_session, list, &ok),
        ),
        ("GET, repaired", exchange(&open, &get, "", &ok)),
        (
            "POST, held and repaired",
            exchange(&held, &client_head("POST"), list, &ok),
        ),
        (
            "the same with `translate_ids: false`",
            exchange(&alone, &client_head("POST"), list, &ok),
        ),
        (
            "a POST of 1 MB, its method first, held and repaired",
            exchange(&held, &client_head("POST"), &megabyte, &ok),
        ),
        (
            "a POST of 1 MB, held and repaired, with `translate_ids: false`",
            exchange(&alone, &client_head("POST"), &megabyte, &ok),
        ),
        (
            "POST with an id of its own, in a shared session",
            exchange(&shared, &in_session, list, &ok),
        ),
        (
            "`initialize`, answered from a shared session's",
            answered(&shared, &client_head("POST"), INITIALIZE),
        ),
        (
            "`notifications/initialized`, answered 202",
            answered(&shared, &in_session, INITIALIZED),
        ),
        (
            "a JSON answer of 1 MB in 16 pieces, in a shared session",
            pieces(&shared, &in_session, "application/json", &large()),
        ),
        (
            "100 events of a stream, in a shared session",
            pieces(&shared, &in_session, "text/event-stream", &events),
        ),
        (
            "`initialize`, learned from",
            exchange(&held, &client_head("POST"), INITIALIZE, &initialized("s1")),
        ),
    ]
}

/// How much Envoy hands on at a time, about.
const PIECE: usize = 65_536;

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
        exchange.headers();
        for piece in body.as_bytes().chunks(PIECE) {
            exchange.body(piece);
        }
        exchange.end();
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
    let chunks = body.as_bytes().chunks(PIECE);
    chunks
        .map(|chunk| String::from_utf8(chunk.to_vec()).unwrap())
        .collect()
}
