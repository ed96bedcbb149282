//! Odd requests and clients that leave: the traffic passes, and the worker lives.

use std::time::Duration;

use super::client::{
    CONFIGS, INITIALIZE, LIST, client_head, complete, lives, stream_head, with_a_session,
};
use super::exchange::Exchange;
use super::head::{Head, Reply};
use super::world::World;

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
    for request in &mut requests {
        request.headers();
    }
    assert!(requests.iter().all(Exchange::waits), "all wait");
    for request in requests.iter_mut().rev() {
        request.body(&LIST[..20]);
    }
    for request in &mut requests {
        request.body(&LIST[20..]).end();
    }
    for (n, request) in requests.iter_mut().enumerate() {
        assert_eq!(
            request.server_headers().text("mcp-session-id"),
            format!("of-{n}")
        );
        complete(request, LIST.as_bytes(), "one of many");
    }
}
