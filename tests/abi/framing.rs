//! Where a request in a shared session ends: no server may take a part of its body for another request.

use std::time::Duration;

use super::crowd::{SHARING, assert_no_offences, assert_opened, head, knock, open, world};
use super::exchange::Exchange;
use super::faults::{Fault, When};
use super::head::Reply;
use super::worker::Worker;
use super::world::World;

const BODY: &str = r#"{"jsonrpc":"2.0","method":"tools/list","id":12345}"#;
/// In the middle of the id: what came of that waits for the rest.
const CUT: usize = BODY.len() - 3;

fn in_a_shared_session(host: (&str, bool)) -> (World, Worker) {
    let world = world(host);
    let worker = world.worker();
    let mut first = knock(&worker, "a", "0");
    open(std::slice::from_ref(&worker), "s1");
    assert_opened(&mut first, "0", "s1");
    (world, worker)
}

fn request(worker: &Worker, length: &str) -> Exchange {
    let head = head("a", "POST")
        .header("mcp-session-id", "s1")
        .header("content-length", length);
    worker.request(&head)
}

#[test]
fn a_length_of_more_than_32_bits_does_not_stay_on_a_body_that_is_rewritten() {
    for host in SHARING {
        for length in ["4294967296", "4294967346", "18446744073709551616"] {
            let (world, worker) = in_a_shared_session(host);
            let mut request = request(&worker, length);
            request.headers().body(BODY).end();
            assert!(request.is_sent());
            let seen = request.at_server();
            assert_ne!(seen.body, BODY.as_bytes(), "its id is the filter's own");
            let lengths = seen.headers.unwrap().all("content-length").len();
            assert_eq!(lengths, 0, "{length}");
            request.answer(&Reply::new(202)).close();
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_body_whose_length_can_not_be_changed_goes_up_once_and_as_it_came() {
    for (call, cut) in [
        ("proxy_remove_header_map_value", CUT),
        ("proxy_replace_header_map_value", BODY.len()),
        ("proxy_set_buffer_bytes", CUT),
        ("proxy_set_buffer_bytes", BODY.len()),
    ] {
        let (world, worker) = in_a_shared_session(SHARING[0]);
        let mut request = request(&worker, &BODY.len().to_string());
        request.headers();
        world.fail(call, When::Always, Fault::Status(2));
        request.body(&BODY[..cut]);
        world.heal();
        if cut < BODY.len() {
            request.body(&BODY[cut..]);
        }
        request.end();
        assert!(request.is_sent(), "{call}");
        let body = request.at_server().body;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(body, BODY, "{call} fails, cut at {cut}");
        request.answer(&Reply::new(202)).close();
    }
}

#[test]
fn a_request_whose_answer_can_not_be_read_goes_up_whole_all_the_same() {
    for host in SHARING {
        let (world, worker) = in_a_shared_session(host);
        let mut request = request(&worker, &BODY.len().to_string());
        request.headers().body(&BODY[..CUT]);
        world.fail("proxy_get_header_map_pairs", When::Always, Fault::Status(2));
        request.answer_headers(&Reply::new(202), false);
        world.heal();
        request.body(&BODY[CUT..]).end();
        let body = request.at_server().body;
        let body = String::from_utf8_lossy(&body);
        assert!(body.ends_with(r#"~12345"}"#), "{body}");
        request.close();
        assert_no_offences(&world);
    }
}

#[test]
fn a_body_that_was_rewritten_never_goes_up_with_the_length_of_the_old_one() {
    let ends: [fn(&mut Exchange) -> &mut Exchange; 3] = [
        |request| request.last_body(BODY),
        |request| request.body(BODY).end(),
        |request| request.body(BODY).trailers(),
    ];
    for end in ends {
        let (world, worker) = in_a_shared_session(SHARING[0]);
        let mut request = request(&worker, &BODY.len().to_string());
        request.headers();
        let refuses = Fault::Status(2);
        // It is rewritten; neither its length can be, nor can it be put back, nor can the client be told.
        world.fail("proxy_set_buffer_bytes", When::Nth(1), refuses);
        world.fail("proxy_replace_header_map_value", When::Always, refuses);
        world.fail("proxy_send_local_response", When::Always, refuses);
        end(&mut request);
        assert!(!request.is_sent());
        world.heal();
        world.advance(Duration::from_secs(10));
        assert!(!request.is_sent(), "nobody lets it go later");
        request.close();
    }
}
