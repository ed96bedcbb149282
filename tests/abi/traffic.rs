//! Odd requests, odd answers and clients that leave: the traffic passes, and the worker lives.

use std::time::Duration;

use super::exchange::Exchange;
use super::head::{Head, Reply};
use super::worker::Worker;
use super::world::World;

const CONFIGS: [&str; 2] = ["{}", r#"{"hold_request_headers": true}"#];
const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;

#[test]
fn odd_headers_pass_as_they_came() {
    let post = || Head::post("/mcp").header("authorization", "Bearer b");
    let long = "x".repeat(60_000);
    let heads = [
        (
            "bytes that are no text, in credentials",
            Head::post("/mcp").header("authorization", b"Bearer \xff\xfe"),
        ),
        (
            "bytes that are no text, in an id",
            post().header("mcp-session-id", b"s\xff"),
        ),
        (
            "bytes that are no text, in a version",
            post().header("mcp-protocol-version", b"\xff"),
        ),
        (
            "bytes that are no text, in accept",
            post().header("accept", b"\xff, */*"),
        ),
        (
            "bytes that are no text, anywhere",
            post().header("x-odd", b"\xc3\x28"),
        ),
        ("a header of 60 KB", post().header("x-long", &long)),
        (
            "credentials of 60 KB",
            Head::post("/mcp").header("authorization", &long),
        ),
        ("an id of 60 KB", post().header("mcp-session-id", &long)),
        (
            "credentials without a value",
            Head::post("/mcp").header("authorization", ""),
        ),
        (
            "two ids",
            post()
                .header("mcp-session-id", "s1")
                .header("mcp-session-id", "s2"),
        ),
        ("a path of 60 KB", Head::post(&format!("/mcp?{long}"))),
        ("no address", post().property(&["source", "address"], b"")),
        (
            "an address that is none",
            Head::post("/mcp").property(&["source", "address"], b"\xff\0:"),
        ),
        ("no cluster", post().property(&["xds", "cluster_name"], b"")),
        (
            "a cluster that is no text",
            post().property(&["xds", "cluster_name"], b"\xff"),
        ),
    ];
    for config in CONFIGS {
        let world = World::new(config);
        let worker = with_a_session(&world);
        for (what, head) in &heads {
            for body in [LIST, INITIALIZE] {
                let mut request = worker.request(head);
                request.headers().body(body).end();
                complete(&mut request, body.as_bytes(), what);
                assert_eq!(request.server_headers(), head.headers, "{what}");
            }
        }
        lives(&world, &worker);
    }
}

#[test]
fn an_id_without_a_value_counts_as_none() {
    for config in CONFIGS {
        let world = World::new(config);
        let worker = with_a_session(&world);
        let mut request = worker.request(&stream_head().header("mcp-session-id", ""));
        request.headers_only();
        assert_eq!(
            request.server_headers().all("mcp-session-id"),
            [b"s1"],
            "one id, and the session's"
        );
        complete(&mut request, b"", "an id without a value");
    }
}

#[test]
fn odd_bodies_pass_as_they_came() {
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 9] = [
        b"not JSON at all",
        b"{\"method\":\"tools/li",
        b"\xff\xfe\x00\x01",
        b"\xef\xbb\xbf{\"method\":\"tools/list\"}",
        b"",
        b"null",
        b"{}",
        b"[]",
        deep.as_bytes(),
    ];
    for config in CONFIGS {
        let world = World::new(config);
        let worker = with_a_session(&world);
        for body in bodies {
            for cut in [1, 7, 65_536] {
                for trailers in [false, true] {
                    let mut request = worker.request(&client_head("POST"));
                    request.headers();
                    // Byte by byte the host would show a long body anew for each byte.
                    for piece in body.chunks(cut.max(body.len() / 50)) {
                        request.body(piece);
                    }
                    if trailers {
                        request.trailers()
                    } else {
                        request.end()
                    };
                    complete(&mut request, body, "an odd body");
                }
            }
        }
        lives(&world, &worker);
    }
}

#[test]
fn a_body_that_ends_with_its_last_piece_is_judged_like_any_other() {
    let world = World::new(CONFIGS[1]);
    let worker = with_a_session(&world);
    for (body, id) in [(LIST, "s1"), (INITIALIZE, "")] {
        let mut request = worker.request(&client_head("POST"));
        request.headers().last_body(body);
        assert_eq!(
            request.server_headers().text("mcp-session-id"),
            id,
            "{body}"
        );
        complete(
            &mut request,
            body.as_bytes(),
            "a body that ends with its last piece",
        );
    }
}

#[test]
fn a_client_that_leaves_at_any_point_harms_nobody() {
    let refusal = Reply::new(404)
        .header("content-type", "text/plain")
        .body("no session");
    for config in CONFIGS {
        for host_can_hold in [true, false] {
            let world = World::new(config);
            world.state().headers_may_wait_alone = host_can_hold;
            let worker = with_a_session(&world);
            for last in 0..=8 {
                let mut request =
                    worker.request(&client_head("POST").header("mcp-session-id", "s1"));
                act(&mut request, &refusal, last);
                request.close();
                assert!(
                    worker.calls().is_empty(),
                    "a call of a request that is over is dropped by the host"
                );
                let mut request = worker.request(&client_head("POST"));
                act(&mut request, &Reply::new(200).body("{}"), last);
                request.close();
                world.advance(Duration::from_secs(6));
            }
            lives(&world, &worker);
        }
    }
}

/// The first events of an exchange.
fn act(request: &mut Exchange, reply: &Reply, last: usize) {
    for n in 0..last {
        match n {
            0 => request.headers(),
            1 => request.body(&LIST[..10]),
            2 => request.body(&LIST[10..]),
            3 => request.end(),
            // A server answers what it has seen.
            _ if !request.is_sent() => return,
            4 => request.answer_headers(reply, false),
            5 => request.answer_body(&reply.body[..1]),
            6 => request.answer_body(&reply.body[1..]),
            _ => request.answer_trailers(),
        };
        if n == 7 {
            return;
        }
    }
}

#[test]
fn a_ping_that_comes_to_nothing_lets_the_answer_through_and_the_session_live() {
    for host_can_hold in [true, false] {
        let world = World::new("{}");
        world.state().headers_may_wait_alone = host_can_hold;
        let worker = with_a_session(&world);
        let mut request = worker.request(&stream_head());
        request.headers_only();
        request.answer(&Reply::new(404).body("no session"));
        let calls = worker.calls();
        assert_eq!(calls.len(), 1, "one ping is under way");
        assert_eq!(
            calls[0].timeout,
            Duration::from_secs(5),
            "the default of subrequest_timeout"
        );
        assert!(!request.is_answered(), "the answer waits for it");
        worker.reset(&calls[0]);
        assert!(request.is_answered(), "the answer does not wait any more");
        request.close();
        lives(&world, &worker);
    }
}

#[test]
fn an_answer_that_waits_for_a_ping_never_outgrows_the_hosts_buffer() {
    let world = World::new("{}");
    let worker = with_a_session(&world);
    for ends_with_trailers in [false, true] {
        let mut request = worker.request(&stream_head());
        request
            .headers_only()
            .answer_headers(&Reply::new(404), false);
        for _ in 0..200 {
            request.answer_body([b'x'; 10_000]);
        }
        if ends_with_trailers {
            request.answer_trailers()
        } else {
            request.answer_end()
        };
        worker
            .calls()
            .iter()
            .for_each(|call| worker.answer(call, Reply::new(200)));
        assert!(request.is_answered(), "the answer is complete");
        assert_eq!(request.at_client().body.len(), 2_000_000);
        request.close();
    }
    lives(&world, &worker);
}

#[test]
fn a_short_answer_that_trailers_end_waits_for_its_ping_too() {
    let world = World::new("{}");
    let worker = with_a_session(&world);
    let mut request = worker.request(&stream_head());
    request
        .headers_only()
        .answer_headers(&Reply::new(404), false)
        .answer_body("no")
        .answer_trailers();
    assert!(request.at_client().headers.is_none(), "the answer waits");
    worker.answer(&worker.calls()[0], Reply::new(200));
    assert!(request.is_answered(), "the answer is complete");
    assert_eq!(request.at_client().body, b"no");
    request.close();
    lives(&world, &worker);
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_reaches_its_client() {
    for config in CONFIGS {
        let world = World::new(config);
        let worker = with_a_session(&world);
        let mut request = worker.request(&client_head("POST"));
        request
            .headers()
            .body(LIST)
            .answer(&Reply::new(413).body("too much"));
        assert!(request.is_answered(), "the answer is complete");
        request.body("more").end().close();
        lives(&world, &worker);
    }
}

#[test]
fn requests_that_wait_at_the_same_time_get_their_own_callers_ids() {
    let world = World::new(CONFIGS[1]);
    let worker = world.worker();
    let head = |n: usize| Head::post("/mcp").header("authorization", format!("Bearer {n}"));
    for n in 0..8 {
        let mut request = worker.request(&head(n));
        request.headers().body(INITIALIZE).end();
        request
            .answer(&Reply::new(200).header("mcp-session-id", format!("of-{n}")))
            .close();
    }
    let mut requests: Vec<_> = (0..8).map(|n| worker.request(&head(n))).collect();
    requests
        .iter_mut()
        .for_each(|request| _ = request.headers());
    assert!(requests.iter().all(Exchange::waits), "all wait");
    requests
        .iter_mut()
        .rev()
        .for_each(|request| _ = request.body(&LIST[..20]));
    requests
        .iter_mut()
        .for_each(|request| _ = request.body(&LIST[20..]).end());
    for (n, request) in requests.iter_mut().enumerate() {
        assert_eq!(
            request.server_headers().text("mcp-session-id"),
            format!("of-{n}")
        );
        complete(request, LIST.as_bytes(), "one of many");
    }
}

/// A worker, and a caller who has the session "s1".
fn with_a_session(world: &World) -> Worker {
    let worker = world.worker();
    let mut request = worker.request(&client_head("POST"));
    request.headers().body(INITIALIZE).end();
    request
        .answer(&Reply::new(200).header("mcp-session-id", "s1"))
        .close();
    assert_eq!(request.outcome().as_deref(), Some("learned"));
    worker
}

fn client_head(method: &str) -> Head {
    Head::new(method, "/mcp").header("authorization", "Bearer a")
}

fn stream_head() -> Head {
    client_head("GET").header("accept", "text/event-stream")
}

/// The exchange goes through to its end, unchanged.
fn complete(request: &mut Exchange, body: &[u8], what: &str) {
    assert!(request.is_sent(), "{what}: the request is complete");
    assert!(
        request.at_server().body == body,
        "{what}: the body at the server"
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
fn lives(world: &World, worker: &Worker) {
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
