//! Headers that wait for a method: for how long, on which hosts, and what becomes of requests that stall or leave.

use std::time::Duration;

use super::exchange::Exchange;
use super::faults::{Fault, When};
use super::head::{Head, Reply};
use super::worker::Worker;
use super::world::World;

const HOLD: &str = r#"{"hold_request_headers": true}"#;
const LIST: &str = r#"{"method":"tools/list","jsonrpc":"2.0","id":2}"#;
const A_SECOND: Duration = Duration::from_secs(1);

#[test]
fn without_the_hosts_setting_three_requests_wait_a_second_at_most_and_later_ones_not_at_all() {
    let world = World::new(HOLD).without_stop_iteration();
    let worker = with_a_session(&world);
    for n in 1..=3 {
        let mut request = post(&worker);
        request.headers().body(LIST).end();
        assert!(request.waits(), "request {n} waits");
        world.advance(A_SECOND);
        assert!(request.is_sent(), "request {n} is let go within a second");
        assert_eq!(
            request.at_server().body,
            LIST.as_bytes(),
            "the body of request {n}"
        );
        assert_eq!(
            request.server_headers().all("mcp-session-id").len(),
            0,
            "request {n} passes as it came"
        );
        assert_eq!(world.metric("hold_unsupported"), n);
        finish(&mut request);
    }
    assert_eq!(
        world.errors().len(),
        1,
        "one error says what is missing: {:?}",
        world.errors()
    );
    assert!(
        world.errors()[0].contains("allow_on_headers_stop_iteration"),
        "{:?}",
        world.errors()
    );
    for _ in 0..3 {
        let mut request = post(&worker);
        request.headers();
        assert!(
            !request.waits(),
            "the VM goes on as if headers were not to be held"
        );
        request.body(LIST).end();
        finish(&mut request);
    }
    assert_eq!(
        (world.metric("hold_unsupported"), world.errors().len()),
        (3, 1),
        "nothing is told twice"
    );
    assert_eq!(world.offences(), Vec::<String>::new());
}

#[test]
fn without_the_hosts_setting_each_worker_finds_out_for_itself() {
    let world = World::new(HOLD).without_stop_iteration();
    let (first, second) = (with_a_session(&world), world.worker());
    for _ in 0..3 {
        let mut request = post(&first);
        request.headers().body(LIST).end();
        world.advance(A_SECOND);
        finish(&mut request);
    }
    let mut request = post(&second);
    request.headers();
    assert!(request.waits(), "the other worker has seen nothing yet");
    world.advance(A_SECOND);
    request.body(LIST).end();
    finish(&mut request);
}

#[test]
fn three_clients_that_send_headers_alone_don_t_end_holding_once_a_body_came_while_headers_waited() {
    let world = World::new(HOLD);
    let worker = with_a_session(&world);
    let mut request = post(&worker);
    request.headers().body(LIST).end();
    finish(&mut request);
    for _ in 0..4 {
        let mut slow = post(&worker);
        slow.headers();
        world.advance(Duration::from_secs(6));
        assert!(!slow.waits(), "nothing waits for more than five seconds");
        slow.body(LIST).end();
        finish(&mut slow);
    }
    let mut request = post(&worker);
    request.headers();
    assert!(request.waits(), "headers are still held");
    request.body(LIST).end();
    assert_eq!(request.server_headers().text("mcp-session-id"), "s1");
    finish(&mut request);
    assert_eq!(
        (world.metric("hold_unsupported"), world.errors()),
        (0, Vec::new())
    );
}

#[test]
fn a_body_that_stalls_before_its_method_goes_on_without_an_id_with_its_next_piece() {
    let world = World::new(HOLD);
    let worker = with_a_session(&world);
    let mut request = post(&worker);
    request.headers().body(r#"{"params":{"#);
    world.advance(Duration::from_secs(4));
    request.body(r#""a":1"#);
    assert!(request.waits(), "it may take four seconds");
    world.advance(A_SECOND);
    request.body("},");
    assert!(!request.waits(), "it may not take more than five");
    request.body(r#""method":"tools/list"}"#).end();
    assert_eq!(
        request.at_server().body,
        br#"{"params":{"a":1},"method":"tools/list"}"#
    );
    assert_eq!(
        request.server_headers().all("mcp-session-id").len(),
        0,
        "it passes as it came"
    );
    finish(&mut request);
    assert_eq!(request.outcome().as_deref(), Some("passed_timeout"));
    assert_eq!(world.offences(), Vec::<String>::new());
}

#[test]
fn a_body_that_names_no_method_in_64_kib_is_let_go_without_an_id() {
    let world = World::new(HOLD);
    let worker = with_a_session(&world);
    let mut request = post(&worker);
    request.headers().body(r#"{"params":""#);
    for _ in 0..16 {
        assert!(request.waits(), "less than 64 KiB came");
        request.body([b'x'; 4096]);
    }
    assert!(!request.waits(), "64 KiB came");
    request
        .body(vec![b'x'; 100_000])
        .body(r#"","method":"tools/list"}"#)
        .end();
    assert_eq!(
        request.server_headers().all("mcp-session-id").len(),
        0,
        "it passes as it came"
    );
    finish(&mut request);
    assert_eq!(request.outcome().as_deref(), Some("passed_too_large"));
}

#[test]
fn pieces_of_no_bytes_don_t_let_a_request_go() {
    let world = World::new(HOLD);
    let worker = with_a_session(&world);
    let mut request = post(&worker);
    request.headers().body("").body("{").body("");
    assert!(request.waits(), "the method is not known yet");
    request.body(r#""method":"tools/list"}"#).end();
    assert_eq!(request.server_headers().text("mcp-session-id"), "s1");
    finish(&mut request);
    world.advance(Duration::from_secs(6));
    assert_eq!(world.offences(), Vec::<String>::new());
}

#[test]
fn trailers_end_a_body_that_headers_wait_for() {
    let world = World::new(HOLD);
    let worker = with_a_session(&world);
    for (body, id) in [(LIST, "s1"), (r#"{"params":{}}"#, "s1"), (INITIALIZE, "")] {
        let mut request = post(&worker);
        request.headers().body(body).trailers();
        assert!(request.is_sent(), "trailers end {body}");
        assert_eq!(
            request.server_headers().text("mcp-session-id"),
            id,
            "{body}"
        );
        finish(&mut request);
    }
}

#[test]
fn a_client_that_leaves_while_its_headers_wait_has_nobody_else_s_request_let_go() {
    for host_can_hold in [true, false] {
        let world = World::new(HOLD);
        world.state().headers_may_wait_alone = host_can_hold;
        let worker = with_a_session(&world);
        let [mut before, mut gone, mut after] = [(); 3].map(|()| post(&worker));
        for request in [&mut before, &mut gone, &mut after] {
            request.headers();
        }
        gone.close();
        // Refused, a change of the context leaves the one before in effect: the first request would go on twice.
        world.advance(Duration::from_secs(6));
        for request in [&mut before, &mut after] {
            assert!(!request.waits(), "its time has come");
            request.body(LIST).end();
            finish(request);
        }
        assert_eq!(world.offences(), Vec::<String>::new());
    }
}

#[test]
fn a_request_that_an_error_let_through_is_not_let_go_a_second_time() {
    let world = World::new(HOLD);
    let worker = with_a_session(&world);
    world.fail("proxy_get_buffer_bytes", When::Always, Fault::Status(10));
    let mut request = post(&worker);
    request.headers().body(LIST);
    assert!(
        !request.waits(),
        "a body that can't be read is not waited for"
    );
    world.heal();
    world.advance(Duration::from_secs(6));
    request.end();
    assert_eq!(request.at_server().body, LIST.as_bytes());
    finish(&mut request);
    assert_eq!(world.offences(), Vec::<String>::new());
}

#[test]
fn a_request_that_could_not_be_let_go_is_let_go_by_a_later_tick() {
    for refused in ["proxy_set_effective_context", "proxy_continue_stream"] {
        for host_can_hold in [true, false] {
            let world = World::new(HOLD);
            world.state().headers_may_wait_alone = host_can_hold;
            let worker = with_a_session(&world);
            world.fail(refused, When::Nth(0), Fault::Status(10));
            let mut request = post(&worker);
            request.headers();
            world.advance(Duration::from_secs(6));
            assert!(world.something_failed(), "{refused} was called");
            assert!(!request.waits(), "one refused {refused} is not the end");
            request.body(LIST).end();
            finish(&mut request);
            assert_eq!(world.offences(), Vec::<String>::new());
        }
    }
}

const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;

/// A worker, and a caller who has the session "s1".
fn with_a_session(world: &World) -> Worker {
    let worker = world.worker();
    let mut request = post(&worker);
    request.headers().body(INITIALIZE).end();
    assert!(
        request.is_sent(),
        "where no session is known, nothing waits"
    );
    request
        .answer(&Reply::new(200).header("mcp-session-id", "s1"))
        .close();
    worker
}

fn post(worker: &Worker) -> Exchange {
    worker.request(&Head::post("/mcp").header("authorization", "Bearer a"))
}

fn finish(request: &mut Exchange) {
    assert!(request.is_sent(), "the request is complete");
    request.answer(&Reply::new(200).body("{}"));
    assert!(request.is_answered(), "the answer is complete");
    request.close();
}
