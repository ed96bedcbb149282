//! Requests of a caller without a session, for which the filter opens one.

use std::time::Duration;

use super::crowd::{
    LOOK, asked, assert_no_offences, delete, head, initialize, message, open, send, status,
    the_call,
};
use super::exchange::Exchange;
use super::head::Reply;
use super::worker::Worker;
use super::world::World;

const CALL: &str = r#"{"jsonrpc":"2.0","method":"tools/call","id":7}"#;
/// Where headers can be held, and where not.
const HOSTS: [bool; 2] = [true, false];

/// A caller that had a session and ended it.
fn world(can_hold: bool) -> (World, Vec<Worker>) {
    let config = format!(
        r#"{{"on_missing_session":"initialize","hold_request_headers":{can_hold},"memory":{{"replay_bytes":4096}}}}"#
    );
    let world = World::new(config);
    world.state().headers_may_wait_alone = can_hold;
    let workers = vec![world.worker(), world.worker()];
    let mut first = send(&workers[0], &head("a", "POST"), &initialize("1"));
    let reply = Reply::new(200).header("mcp-session-id", "s1");
    first.answer(&reply.body("{}")).close();
    delete(&workers[0], "a", "s1");
    (world, workers)
}

/// A request that is no `initialize`: its version tells that.
fn request(worker: &Worker) -> Exchange {
    let head = head("a", "POST").header("mcp-protocol-version", "2025-06-18");
    let mut exchange = worker.request(&head.header("content-length", CALL.len().to_string()));
    exchange.headers();
    exchange
}

/// A client of the caller "a" opens a session: so the filter remembers an initialize for others, too.
fn open_for_a(workers: &[Worker]) {
    let mut first = send(&workers[0], &head("a", "POST"), &initialize("1"));
    open(workers, "s1");
    first.close();
}

fn assert_sent_in(exchange: &Exchange, session: &str) {
    assert!(exchange.is_sent(), "it goes on");
    let server = exchange.at_server();
    let headers = server.headers.unwrap();
    assert_eq!(headers.text("mcp-session-id"), session);
    assert_ne!(message(&server.body)["id"], 7, "an id of the filter's own");
    if let Some(length) = headers.first("content-length") {
        assert_eq!(length, server.body.len().to_string().as_bytes());
    }
}

/// What a filter in front does that has let the body wait, until all of it was there.
#[test]
fn a_long_body_that_comes_whole_and_at_once_waits_for_no_more_of_it() {
    for kilobytes in [4, 64, 200] {
        let (world, workers) = world(true);
        let text = "x".repeat(kilobytes * 1024);
        let call = format!(
            r#"{{"jsonrpc":"2.0","method":"tools/call","id":7,"params":{{"x":"{text}"}}}}"#
        );
        let mut exchange = workers[0].request(&head("a", "POST"));
        exchange.headers().last_body(&call);
        if !exchange.is_sent() {
            open(&workers, "s2");
        }
        assert!(exchange.is_sent(), "{kilobytes} KiB");
        assert_no_offences(&world);
    }
}

#[test]
fn all_who_need_a_session_at_once_get_the_same_on_whatever_worker() {
    for can_hold in HOSTS {
        let (world, workers) = world(can_hold);
        let before = asked(&workers).len();
        let mut waiting: Vec<_> = (0..6).map(|n| request(&workers[n % 2])).collect();
        for exchange in &mut waiting {
            exchange.body(CALL).end();
            assert!(!exchange.is_sent() && status(exchange) == "none");
        }
        open(&workers, "s2");
        for exchange in &waiting {
            assert_sent_in(exchange, "s2");
        }
        let made = asked(&workers).split_off(before);
        assert_eq!(made, ["initialize", "notifications/initialized"]);
        assert_no_offences(&world);
    }
}

#[test]
fn a_request_amid_its_body_goes_on_with_the_next_piece_of_it() {
    // Behind its method: nothing is opened for what may be an initialize.
    for cut in [40, 45, CALL.len()] {
        let (world, workers) = world(true);
        let mut waiting = request(&workers[0]);
        waiting.body(&CALL[..cut]);
        open(&workers, "s2");
        assert!(!waiting.is_sent(), "not before the next piece");
        waiting.body(&CALL[cut..]).end();
        assert_sent_in(&waiting, "s2");
        assert_no_offences(&world);
    }
}

#[test]
fn a_body_too_long_to_wait_goes_up_as_it_came() {
    let (world, workers) = world(true);
    let mut waiting = request(&workers[0]);
    waiting.body(CALL.trim_end_matches('}'));
    let padding = format!(r#","params":"{}"}}"#, "x".repeat(5000));
    waiting.body(&padding);
    let server = waiting.at_server();
    let headers = server.headers.expect("it goes on");
    assert_eq!(headers.text("mcp-session-id"), "");
    assert_eq!(message(&waiting.end().at_server().body)["id"], 7);
    assert_no_offences(&world);
}

/// A request with a body that is longer than what is looked at, and than what is kept.
fn long_call() -> String {
    let padding = format!(r#","params":"{}"}}"#, "x".repeat(200_000));
    CALL.trim_end_matches('}').to_owned() + &padding
}

#[test]
fn a_long_body_that_is_handed_over_whole_waits_for_the_session_that_is_opened() {
    let (world, workers) = world(true);
    let body = long_call();
    let mut waiting = workers[0].request(&head("a", "POST"));
    waiting.headers().last_body(&body);
    open(&workers, "s2");
    assert_sent_in(&waiting, "s2");
    let server = waiting.at_server();
    assert!(message(&server.body)["params"] == message(body.as_bytes())["params"]);
    assert_no_offences(&world);
}

#[test]
fn a_body_too_long_to_be_kept_that_is_still_coming_does_not_wait() {
    let (world, workers) = world(true);
    let before = asked(&workers).len();
    let body = long_call();
    let mut passing = workers[0].request(&head("a", "POST"));
    passing.headers().body(&body[..10_000]);
    let headers = passing.at_server().headers.expect("it goes on");
    assert_eq!(headers.text("mcp-session-id"), "");
    passing.body(&body[10_000..]).end();
    assert!(passing.at_server().body == body.as_bytes());
    assert_eq!(asked(&workers).len(), before, "nothing is opened for it");
    assert_no_offences(&world);
}

#[test]
fn a_long_notice_that_is_handed_over_whole_is_answered_in_a_session_of_the_filters_own() {
    let config = r#"{"on_missing_session":"initialize","on_reinitialize":"reuse","hold_request_headers":true,"memory":{"replay_bytes":4096}}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    let mut first = send(&workers[0], &head("a", "POST"), &initialize("1"));
    open(&workers, "s1");
    first.close();
    let padding = "x".repeat(200_000);
    let ready =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/initialized","params":"{padding}"}}"#);
    for caller in ["a", "b"] {
        let mut notice = workers[0].request(&head(caller, "POST"));
        notice.headers().last_body(&ready);
        if caller == "b" {
            open(&workers, "s2");
        }
        assert_eq!(status(&notice), "202", "{caller}");
        assert!(super::crowd::is_kept_from_the_server(&notice));
        notice.close();
    }
    assert_no_offences(&world);
}

#[test]
fn who_leaves_strands_nobody_and_what_was_opened_is_used() {
    for can_hold in HOSTS {
        let (world, workers) = world(can_hold);
        let mut leaver = request(&workers[0]);
        leaver.body(CALL).end();
        let mut other = request(&workers[1]);
        other.body(CALL).end();
        leaver.close();
        open(&workers, "s2");
        world.advance(LOOK);
        assert_sent_in(&other, "s2");
        assert_eq!(leaver.outcome().as_deref(), Some("client_left"));
        assert_no_offences(&world);
    }
}

#[test]
fn a_server_that_does_not_answer_lets_requests_go_as_they_came() {
    for can_hold in HOSTS {
        let (world, workers) = world(can_hold);
        let mut waiting = request(&workers[0]);
        waiting.body(CALL).end();
        let (worker, call) = the_call(&workers);
        worker.reset(&call);
        assert!(waiting.is_sent());
        let server = waiting.at_server();
        assert_eq!(server.body, CALL.as_bytes());
        assert_eq!(server.headers.unwrap().text("mcp-session-id"), "");
        assert_no_offences(&world);
    }
}

#[test]
fn a_body_with_trailers_goes_up_to_the_letter() {
    let (world, workers) = world(true);
    let mut waiting = request(&workers[0]);
    waiting.body(CALL).trailers();
    open(&workers, "s2");
    assert!(waiting.is_sent());
    let server = waiting.at_server();
    assert_eq!(server.headers.unwrap().text("mcp-session-id"), "s2");
    assert_eq!(server.body, CALL.as_bytes());
    assert_no_offences(&world);
}

#[test]
fn what_was_opened_long_ago_for_a_request_is_not_ended_for_the_next_one() {
    let config = r#"{"on_missing_session":"initialize","session":{"idle_timeout":"30m"}}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    let open_forwarded = |session: &str| {
        let mut first = send(&workers[0], &head("a", "POST"), &initialize("1"));
        let reply = Reply::new(200).header("mcp-session-id", session);
        first.answer(&reply.body("{}")).close();
        delete(&workers[0], "a", session);
    };
    open_forwarded("s1");
    request(&workers[0]).body(CALL).end();
    open(&workers, "s2");
    // Somebody uses it all the time, but the seat does not know that.
    for _ in 0..4 {
        world.advance(LOOK * 60 * 10);
        let echoing = head("a", "POST").header("mcp-session-id", "s2");
        send(&workers[0], &echoing, CALL)
            .answer(&Reply::new(202))
            .close();
    }
    // Another client was here meanwhile.
    open_forwarded("s3");
    request(&workers[0]).body(CALL).end();
    assert_eq!(super::crowd::name(&the_call(&workers).1), "initialize");
    assert_no_offences(&world);
}

#[test]
fn a_session_whose_result_can_not_be_told_serves_a_caller_without_one_all_the_same() {
    let config = r#"{"on_missing_session":"initialize","on_reinitialize":"reuse"}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    open_for_a(&workers);
    let head = head("b", "POST").header("mcp-protocol-version", "2025-06-18");
    let mut late = send(&workers[0], &head, CALL);
    let (worker, call) = the_call(&workers);
    // Compressed, say.
    let reply = Reply::new(200).header("mcp-session-id", "s2").body("?");
    worker.answer(&call, reply);
    let (worker, ready) = the_call(&workers);
    assert_eq!(ready.headers.text("mcp-session-id"), "s2");
    worker.answer(&ready, Reply::new(202));
    assert_sent_in(&late, "s2");
    // What an initialize is to be told nobody knows: so it waits for a session of its own.
    let other = send(&workers[0], &self::head("b", "POST"), &initialize("2"));
    assert!(other.at_server().end.is_none() && status(&other) == "none");
    late.close();
    world.advance(Duration::from_secs(7));
    let (worker, ending) = the_call(&workers);
    assert_eq!(ending.headers.text("mcp-session-id"), "s2");
    worker.answer(&ending, Reply::new(200));
    open(&workers, "s3");
    assert_eq!(status(&other), "200");
    assert_no_offences(&world);
}

#[test]
fn who_waited_for_a_session_that_is_lost_at_once_is_not_sent_into_it_again() {
    let config = r#"{"on_missing_session":"initialize","on_reinitialize":"reuse"}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    open_for_a(&workers);
    let head = head("b", "POST").header("mcp-protocol-version", "2025-06-18");
    let mut late = send(&workers[0], &head, CALL);
    world.advance(LOOK);
    open(&workers, "s2");
    assert_sent_in(&late, "s2");
    late.answer(&Reply::new(404));
    for _ in 0..2 {
        let (worker, ping) = the_call(&workers);
        worker.answer(&ping, Reply::new(404));
        if asked(&workers).last().unwrap() == "initialize" {
            break;
        }
    }
    open(&workers, "s3");
    let (worker, again) = the_call(&workers);
    assert_eq!(again.headers.text("mcp-session-id"), "s3");
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&late), "202");
    assert_no_offences(&world);
}

#[test]
fn a_stream_alone_takes_no_turn_from_anybody() {
    let config = r#"{"on_missing_session":"initialize","on_reinitialize":"queue","hold_request_headers":true,"on_session_lost":"forget"}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    open_for_a(&workers);
    let mut other = send(&workers[0], &head("b", "POST"), &initialize("1"));
    world.advance(Duration::from_secs(7));
    let (worker, ending) = the_call(&workers);
    worker.answer(&ending, Reply::new(200));
    open(&workers, "s2");
    other.close();
    let listens = head("a", "GET").header("accept", "text/event-stream");
    let stream = send(&workers[0], &listens, "");
    assert!(stream.is_sent());
    assert_eq!(stream.server_headers().text("mcp-session-id"), "");
    let asked_so_far = asked(&workers).len();
    world.advance(Duration::from_secs(60));
    assert_eq!(asked(&workers).len(), asked_so_far);
}

#[test]
fn an_initialize_that_names_a_version_opens_no_session_beside_the_one_that_is_opened_for_it() {
    for (can_hold, is_cut) in HOSTS
        .into_iter()
        .flat_map(|host| [(host, false), (host, true)])
    {
        let config = r#"{"on_missing_session":"initialize","on_reinitialize":"reuse"}"#;
        let world = World::new(config);
        world.state().headers_may_wait_alone = can_hold;
        let workers = [world.worker()];
        open_for_a(&workers);
        let head = head("b", "POST").header("mcp-protocol-version", "2025-06-18");
        let mut odd = workers[0].request(&head);
        let body = initialize("2");
        odd.headers();
        if is_cut {
            odd.body(&body[..20]);
            open(&workers, "s2");
            odd.body(&body[20..]).end();
        } else {
            odd.body(body).end();
            open(&workers, "s2");
        }
        world.advance(LOOK);
        assert_eq!(workers[0].calls().len(), 0, "one is enough");
        assert_eq!(status(&odd), "200", "{can_hold}");
        let headers = odd.at_client().headers.unwrap();
        assert_eq!(headers.text("mcp-session-id"), "s2");
        assert!(super::crowd::is_kept_from_the_server(&odd));
        odd.close();
        assert_no_offences(&world);
    }
}

#[test]
fn where_clients_share_nobody_opens_a_session_to_listen_or_says_twice_that_it_is_ready() {
    let config = r#"{"on_missing_session":"initialize","on_reinitialize":"reuse","hold_request_headers":true}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    open_for_a(&workers);
    let listens = head("b", "GET").header("accept", "text/event-stream");
    let stream = send(&workers[0], &listens, "");
    assert!(stream.is_sent() && workers[0].calls().is_empty());
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let mut ready = {
        let mut exchange = workers[0].request(&head("b", "POST"));
        exchange.headers().body(ready).end();
        exchange
    };
    open(&workers, "s2");
    assert_eq!(status(&ready), "202");
    assert!(super::crowd::is_kept_from_the_server(&ready));
    ready.close();
    assert_no_offences(&world);
}
