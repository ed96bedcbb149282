//! Clients that wait for a server's one session: one at a time, in order, until its holder ends it or leaves it alone.

use std::time::Duration;

use super::crowd::{
    LOOK, asked, assert_no_offences, assert_opened, assert_refused, delete, head, knock, name,
    open, opened, send, status, the_call,
};
use super::exchange::Exchange;
use super::head::Reply;
use super::worker::Worker;
use super::world::{World, nanoseconds};

const CALLERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;

fn queue(session: &str) -> (World, Vec<Worker>) {
    let world = World::new(format!(
        r#"{{"on_reinitialize":"queue","hold_request_headers":true,"session":{{{session}}}}}"#
    ));
    let workers = (0..3).map(|_| world.worker()).collect();
    (world, workers)
}

fn line(workers: &[Worker], callers: &[&str]) -> Vec<Exchange> {
    let places = callers.iter().zip(workers.iter().cycle());
    places
        .map(|(caller, worker)| knock(worker, caller, "1"))
        .collect()
}

/// The caller whose initialize is under way.
fn turn(workers: &[Worker]) -> String {
    let (_, call) = the_call(workers);
    assert_eq!(name(&call), "initialize");
    call.headers.text("authorization").replace("Bearer ", "")
}

fn is_idle(workers: &[Worker]) -> bool {
    workers.iter().all(|worker| worker.calls().is_empty())
}

/// Moves the clock until the filter asks the server something, and says how long that took.
fn until_asked(world: &World, workers: &[Worker], most: Duration) -> Duration {
    let mut passed = Duration::ZERO;
    while is_idle(workers) && passed < most {
        world.advance(LOOK / 20);
        passed += LOOK / 20;
    }
    passed
}

#[test]
fn clients_of_several_callers_go_on_one_at_a_time_in_order_and_the_end_of_one_wakes_the_next() {
    let (world, workers) = queue("");
    let mut knocks = line(&workers, &CALLERS);
    for (n, caller) in CALLERS.into_iter().enumerate() {
        assert_eq!(turn(&workers), caller, "without any tick");
        let session = format!("of-{caller}");
        open(&workers, &session);
        assert_opened(&mut knocks[n], "1", &session);
        assert!(is_idle(&workers), "the next one waits");
        let rest = &knocks[n + 1..];
        assert!(
            rest.iter()
                .all(|knock| knock.waits() && !knock.is_answered())
        );
        world.advance(Duration::from_secs(1));
        delete(&workers[(n + 1) % 3], caller, &session);
    }
    assert_eq!(asked(&workers), ["initialize"; 5]);
    assert_no_offences(&world);
}

#[test]
fn a_holder_that_sends_nothing_makes_room_after_its_lease_and_is_ended_without_anothers_credentials()
 {
    for same_caller in [false, true] {
        let (world, workers) = queue(r#""lease":"4s","queue_timeout":"5m""#);
        let next = if same_caller { "a" } else { "b" };
        let mut knocks = line(&workers, &["a", next]);
        open(&workers, "s1");
        assert_opened(&mut knocks[0], "1", "s1");
        let passed = until_asked(&world, &workers, Duration::from_secs(20));
        assert!(passed >= Duration::from_secs(4), "{passed:?}");
        assert!(passed <= Duration::from_secs(5) + LOOK, "{passed:?}");
        let (worker, call) = the_call(&workers);
        assert_eq!(call.headers.text(":method"), "DELETE");
        assert_eq!(call.headers.text("mcp-session-id"), "s1");
        let shown = call.headers.text("authorization");
        assert_eq!(shown, if same_caller { "Bearer a" } else { "" });
        worker.answer(&call, Reply::new(200));
        assert_eq!(turn(&workers), next);
        open(&workers, "s2");
        assert_opened(&mut knocks[1], "1", "s2");
        let late = send(
            &workers[0],
            &head("a", "POST").header("mcp-session-id", "s1"),
            CALL,
        );
        assert_eq!(late.server_headers().text("mcp-session-id"), "s1");
        assert_no_offences(&world);
    }
}

#[test]
fn a_delete_that_fails_makes_room_all_the_same() {
    for answers in [false, true] {
        let (world, workers) = queue(r#""lease":"1s""#);
        let mut knocks = line(&workers, &["a", "b"]);
        open(&workers, "s1");
        until_asked(&world, &workers, Duration::from_secs(5));
        let (worker, call) = the_call(&workers);
        if answers {
            worker.answer(&call, Reply::new(500));
        } else {
            worker.reset(&call);
        }
        open(&workers, "s2");
        assert_opened(&mut knocks[1], "1", "s2");
        assert_no_offences(&world);
    }
}

#[test]
fn a_long_call_keeps_the_lease_and_a_stream_of_events_does_not() {
    for repaired in [false, true] {
        let (world, workers) = queue(r#""queue_timeout":"10m""#);
        let mut knocks = line(&workers, &["a", "b"]);
        open(&workers, "s1");
        assert_opened(&mut knocks[0], "1", "s1");
        let in_session = |method| {
            let head = head("a", method).header("accept", "text/event-stream, application/json");
            if repaired {
                head
            } else {
                head.header("mcp-session-id", "s1")
            }
        };
        let mut stream = send(&workers[1], &in_session("GET"), "");
        assert_eq!(stream.server_headers().text("mcp-session-id"), "s1");
        stream.answer_headers(
            &Reply::new(200).header("content-type", "text/event-stream"),
            false,
        );
        let mut call = send(&workers[2], &in_session("POST"), CALL);
        assert!(call.is_sent());
        world.advance(Duration::from_secs(300));
        assert!(is_idle(&workers), "the call is under way");
        stream.answer_body(": still there\n\n");
        call.answer(&Reply::new(200).body("{}")).close();
        let passed = until_asked(&world, &workers, Duration::from_secs(20));
        assert!(passed >= Duration::from_secs(5), "{passed:?}");
        let lease = Duration::from_millis(6_250);
        assert!(passed <= lease + LOOK, "{passed:?}");
        assert_eq!(name(&the_call(&workers).1), "DELETE");
        assert_no_offences(&world);
    }
}

#[test]
fn past_its_bound_the_line_takes_nobody_and_who_waits_too_long_is_told_so() {
    let (world, workers) = queue(r#""queue":2,"queue_timeout":"3s","lease":"1m""#);
    let mut knocks = line(&workers, &CALLERS);
    let retry_after = |knock: &Exchange| {
        let headers = knock.at_client().headers.expect("an answer");
        headers.text("retry-after").parse::<u64>().unwrap()
    };
    for knock in &mut knocks[3..] {
        assert!(retry_after(knock) > 0);
        assert_refused(knock, "1", "503");
    }
    open(&workers, "s1");
    assert_opened(&mut knocks[0], "1", "s1");
    world.advance(Duration::from_secs(2));
    assert!(knocks[1].waits() && knocks[2].waits());
    world.advance(Duration::from_secs(1) + LOOK);
    for knock in &mut knocks[1..3] {
        assert!(retry_after(knock) > 0);
        assert_refused(knock, "1", "503");
    }
    let mut late = line(&workers, &["f", "g"]);
    delete(&workers[0], "a", "s1");
    assert_eq!(turn(&workers), "f", "those who were refused left the line");
    open(&workers, "s2");
    assert_opened(&mut late[0], "1", "s2");
    assert_no_offences(&world);
}

#[test]
fn a_server_that_opens_no_session_has_the_next_one_try() {
    let (world, workers) = queue("");
    let mut knocks = line(&workers, &["a", "b", "c", "d"]);
    let (worker, call) = the_call(&workers);
    worker.answer(&call, super::crowd::refused(&call, 401));
    assert_refused(&mut knocks[0], "1", "401");
    let (worker, call) = the_call(&workers);
    worker.reset(&call);
    assert_refused(&mut knocks[1], "1", "504");
    let (worker, call) = the_call(&workers);
    let mut reply = opened(&call, "none");
    reply.headers.remove("mcp-session-id");
    worker.answer(&call, reply);
    assert_eq!(status(&knocks[2]), "200");
    assert_eq!(turn(&workers), "d");
    assert_no_offences(&world);
}

#[test]
fn a_post_that_comes_while_its_session_is_being_ended_waits_for_the_next_one() {
    const CALL: &str = r#"{"method":"tools/call","jsonrpc":"2.0","id":7}"#;
    for echoes in [true, false] {
        for cut in [20, CALL.len()] {
            let (world, workers) = queue(r#""lease":"1s","queue_timeout":"5m""#);
            let mut holder = knock(&workers[0], "a", "1");
            open(&workers, "s1");
            assert_opened(&mut holder, "1", "s1");
            let mut other = knock(&workers[1], "b", "1");
            world.advance(Duration::from_secs(2));
            let (worker, ending) = the_call(&workers);
            assert_eq!(name(&ending), "DELETE");
            let mut head = head("a", "POST");
            if echoes {
                head = head.header("mcp-session-id", "s1");
            }
            let mut late = workers[0].request(&head);
            late.headers().body(&CALL[..cut]).body(&CALL[cut..]).end();
            assert!(late.at_server().headers.is_none(), "the server ends s1");
            worker.answer(&ending, Reply::new(200));
            open(&workers, "s2");
            assert_opened(&mut other, "1", "s2");
            world.advance(Duration::from_secs(2));
            let (worker, ending) = the_call(&workers);
            worker.answer(&ending, Reply::new(200));
            open(&workers, "s3");
            let up = late.server_headers();
            assert_eq!(up.text("mcp-session-id"), "s3");
            late.answer(&Reply::new(202).header("mcp-session-id", "s3"));
            let client = late.at_client().headers.unwrap();
            let told = if echoes { "s1" } else { "s3" };
            assert_eq!(client.text("mcp-session-id"), told);
            late.close();
            assert_eq!(late.outcome().as_deref(), Some("recovered"));
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_long_post_that_is_handed_over_whole_while_its_session_is_being_ended_waits_for_the_next_one() {
    let (world, workers) = queue(r#""lease":"1s","queue_timeout":"5m""#);
    let mut holder = knock(&workers[0], "a", "1");
    open(&workers, "s1");
    assert_opened(&mut holder, "1", "s1");
    let mut other = knock(&workers[1], "b", "1");
    world.advance(Duration::from_secs(2));
    let (worker, ending) = the_call(&workers);
    let padding = format!(r#","params":"{}"}}"#, "x".repeat(200_000));
    let mut late = workers[0].request(&head("a", "POST"));
    late.headers()
        .last_body(CALL.trim_end_matches('}').to_owned() + &padding);
    worker.answer(&ending, Reply::new(200));
    open(&workers, "s2");
    assert_opened(&mut other, "1", "s2");
    delete(&workers[1], "b", "s2");
    open(&workers, "s3");
    assert_eq!(late.server_headers().text("mcp-session-id"), "s3");
    assert!(late.is_sent());
    assert_no_offences(&world);
}

#[test]
fn an_opener_whose_worker_was_taken_for_dead_leaves_nobody_standing_in_line() {
    let (world, workers) = queue(r#""queue_timeout":"5m""#);
    let workers = &workers[..2];
    let mut slow = knock(&workers[0], "a", "1");
    // Nobody's ticks come for a while.
    world.state().now += nanoseconds(Duration::from_secs(6));
    let mut other = knock(&workers[1], "b", "1");
    let mut third = knock(&workers[1], "c", "1");
    world.advance(LOOK);
    let calls = [workers[0].calls(), workers[1].calls()].concat();
    assert_eq!(calls.len(), 2, "both open");
    workers[1].answer(&calls[1], opened(&calls[1], "s2"));
    assert_opened(&mut other, "1", "s2");
    // The slow one hears of that first, and of its own session then.
    world.settle();
    workers[0].answer(&calls[0], opened(&calls[0], "s1"));
    assert_opened(&mut slow, "1", "s1");
    delete(&workers[1], "b", "s2");
    open(workers, "s3");
    assert_opened(&mut third, "1", "s3");
    delete(&workers[1], "c", "s3");
    let mut last = knock(&workers[1], "d", "1");
    open(workers, "s4");
    assert_opened(&mut last, "1", "s4");
    assert_no_offences(&world);
}
