//! Answers that wait for a ping, or come early: they reach their client, and the worker lives.

use std::time::Duration;

use super::client::{CONFIGS, LIST, client_head, lives, stream_head, with_a_session};
use super::head::Reply;
use super::world::World;

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
fn a_refusal_of_envoys_own_says_nothing_of_a_session_and_does_not_wait() {
    for (details, asks) in [("http1.codec_error", 0), ("via_upstream", 1)] {
        for status in [400, 404] {
            let world = World::new("{}");
            let worker = with_a_session(&world);
            let head = stream_head().property(&["response", "code_details"], details.as_bytes());
            let mut request = worker.request(&head);
            request.headers_only().answer(&Reply::new(status));
            assert_eq!(worker.calls().len(), asks, "{status} {details}");
            assert_eq!(request.is_answered(), asks == 0, "{status} {details}");
            for call in &worker.calls() {
                worker.reset(call);
            }
            request.close();
            lives(&world, &worker);
        }
    }
}
