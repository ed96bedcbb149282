//! Sessions that are lost while several requests are under way: each goes on in the successor, as its own.

use std::time::Duration;

use super::calls::HttpCall;
use super::crowd::{
    LOOK, assert_no_offences, assert_opened, delete, head, initialize, knock, message, name, open,
    open_but_for_the_notice, opened, send, status, the_call,
};
use super::exchange::Exchange;
use super::faults::{Fault, When};
use super::head::Reply;
use super::worker::Worker;
use super::world::World;

/// So long a session is too young for its client to be sent back.
const YOUNG: Duration = Duration::from_secs(1);
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#;

fn call_in(worker: &Worker, caller: &str, session: &str) -> Exchange {
    let head = head(caller, "POST").header("mcp-session-id", session);
    let exchange = send(worker, &head, CALL);
    assert!(exchange.is_sent());
    exchange
}

/// The server does not know the session; the call that comes of that.
fn is_lost(exchange: &mut Exchange, workers: &[Worker]) -> (Worker, HttpCall) {
    exchange.answer(&Reply::new(404));
    let (worker, ping) = the_call(workers);
    assert_eq!(name(&ping), "ping");
    worker.answer(&ping, Reply::new(404));
    the_call(workers)
}

/// An initialize that goes up as it is opens this session.
fn open_forwarded(worker: &Worker, caller: &str, session: &str) {
    let mut exchange = send(worker, &head(caller, "POST"), &initialize("1"));
    assert!(exchange.is_sent());
    let reply = Reply::new(200)
        .header("content-type", "application/json")
        .header("mcp-session-id", session);
    exchange.answer(&reply.body("{}")).close();
}

/// An initialize for which the filter opens this session.
fn open_shared(workers: &[Worker], caller: &str, session: &str) {
    let mut first = knock(&workers[0], caller, "1");
    open(workers, session);
    assert_opened(&mut first, "1", session);
}

/// The session "s1" of the caller "a", however this configuration has sessions opened.
fn open_by(config: &str, workers: &[Worker]) {
    if config == "{}" {
        open_forwarded(&workers[0], "a", "s1");
    } else {
        open_shared(workers, "a", "s1");
    }
}

#[test]
fn a_request_whose_session_had_to_make_room_is_sent_again_with_an_id_of_the_filters_own() {
    for hold in [true, false] {
        let config = format!(r#"{{"memory":{{"per_caller":3}},"hold_request_headers":{hold}}}"#);
        let world = World::new(config);
        let worker = world.worker();
        open_forwarded(&worker, "a", "s1");
        let silent = send(&worker, &head("a", "POST"), CALL);
        assert!(silent.is_sent(), "from now on s1 is shared");
        let mut echoing = call_in(&worker, "a", "s1");
        for another in ["s2", "s3", "s4"] {
            world.advance(Duration::from_secs(1));
            open_forwarded(&worker, "a", another);
        }
        let workers = [worker];
        let (_, call) = is_lost(&mut echoing, &workers);
        assert_eq!(name(&call), "initialize");
        open(&workers, "s5");
        let (worker, again) = the_call(&workers);
        assert_eq!(again.headers.text("mcp-session-id"), "s5");
        let id = message(&again.body)["id"].clone();
        assert_ne!(id, 7, "another request may have this id");
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        let reply = Reply::new(200).header("content-type", "application/json");
        worker.answer(&again, reply.body(body));
        assert_eq!(status(&echoing), "200");
        assert_eq!(message(&echoing.at_client().body)["id"], 7);
        // The id that the client knows still leads somewhere.
        let next = call_in(&worker, "a", "s1");
        assert_eq!(next.server_headers().text("mcp-session-id"), "s5");
        assert_no_offences(&world);
    }
}

#[test]
fn who_finds_its_session_lost_after_others_have_a_successor_goes_on_in_that() {
    let world = World::new("{}");
    let workers = [world.worker(), world.worker()];
    open_forwarded(&workers[0], "a", "s1");
    let mut first = call_in(&workers[0], "a", "s1");
    let mut late = call_in(&workers[1], "a", "s1");
    let (_, call) = is_lost(&mut first, &workers);
    assert_eq!(name(&call), "initialize");
    open(&workers, "s2");
    let (worker, again) = the_call(&workers);
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&first), "202");
    // That one is lost as well, and has a successor of its own.
    let mut next = call_in(&workers[0], "a", "s1");
    let (_, call) = is_lost(&mut next, &workers);
    assert_eq!(name(&call), "initialize");
    open(&workers, "s3");
    let (worker, again) = the_call(&workers);
    worker.answer(&again, Reply::new(202));
    let (worker, again) = is_lost(&mut late, &workers);
    assert_eq!(again.headers.text("mcp-session-id"), "s3");
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&late), "202");
    assert_no_offences(&world);
}

#[test]
fn a_request_that_was_sent_again_keeps_its_session_from_those_who_wait() {
    let config = r#"{"on_reinitialize":"queue","hold_request_headers":true,"session":{"queue_timeout":"5m"}}"#;
    let world = World::new(config);
    let workers = [world.worker(), world.worker()];
    let mut holder = knock(&workers[0], "a", "1");
    open(&workers, "s1");
    assert_opened(&mut holder, "1", "s1");
    let mut lost = call_in(&workers[0], "a", "s1");
    let (_, call) = is_lost(&mut lost, &workers);
    assert_eq!(name(&call), "initialize");
    open(&workers, "s2");
    let (worker, again) = the_call(&workers);
    let mut other = knock(&workers[1], "b", "1");
    for _ in 0..30 {
        world.advance(LOOK);
        // Its answer takes longer than a lease.
        assert_eq!(the_call(&workers).1.order, again.order);
    }
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&lost), "202");
    lost.close();
    world.advance(Duration::from_secs(7));
    let (worker, call) = the_call(&workers);
    assert_eq!(name(&call), "DELETE");
    worker.answer(&call, Reply::new(200));
    open(&workers, "s3");
    assert_opened(&mut other, "1", "s3");
    assert_no_offences(&world);
}

#[test]
fn a_request_in_a_lost_session_waits_in_line_for_as_long_as_an_initialize_does() {
    let config = r#"{"on_reinitialize":"queue","hold_request_headers":true,"replay_timeout":"2s","session":{"lease":"1m","queue_timeout":"10s"}}"#;
    for seconds in [8, 11] {
        let world = World::new(config);
        let workers = [world.worker()];
        open_shared(&workers, "a", "s1");
        let mut lost = call_in(&workers[0], "a", "s1");
        let mut other = knock(&workers[0], "b", "1");
        let (_, call) = is_lost(&mut lost, &workers);
        assert_eq!(name(&call), "initialize");
        open(&workers, "s2");
        assert_opened(&mut other, "1", "s2");
        for _ in 0..seconds {
            world.advance(LOOK);
        }
        if seconds > 10 {
            assert_eq!(status(&lost), "404", "the server's own answer");
            continue;
        }
        assert!(lost.answer_waits());
        delete(&workers[0], "b", "s2");
        open(&workers, "s3");
        let (worker, again) = the_call(&workers);
        assert_eq!(again.headers.text("mcp-session-id"), "s3");
        worker.answer(&again, Reply::new(202));
        assert_eq!(status(&lost), "202");
        assert_no_offences(&world);
    }
}

#[test]
fn an_initialize_that_finds_no_seat_opens_a_session_and_is_in_no_older_one() {
    let config = r#"{"on_reinitialize":"reuse","memory":{"bulk_slots":1}}"#;
    for can_hold in [true, false] {
        let world = World::new(config);
        world.state().headers_may_wait_alone = can_hold;
        let worker = world.worker();
        let workers = [worker.clone()];
        open_shared(&workers, "a", "s1");
        // The only seat is somebody else's by now.
        let _opening = knock(&worker, "b", "1");
        let (_, others) = the_call(&workers);
        let mut second = send(&worker, &head("a", "POST"), &initialize("2"));
        assert_eq!(second.server_headers().text("mcp-session-id"), "s1");
        second.answer(&Reply::new(400));
        let calls = worker.calls();
        let again = calls.iter().find(|call| call.order != others.order);
        let again = again.expect("it is sent again");
        assert_eq!(again.headers.text("mcp-session-id"), "");
        worker.answer(again, opened(again, "s2"));
        assert_eq!(status(&second), "200");
        let headers = second.at_client().headers.unwrap();
        assert_eq!(headers.text("mcp-session-id"), "s2");
        assert_no_offences(&world);
    }
}

/// A request whose client has sent so much of it by the time that its server says that its session is lost.
fn refused_early(worker: &Worker, sent: &str, answer_ends: bool) -> Exchange {
    open_forwarded(worker, "a", "s1");
    early_in(worker, "s1", sent, answer_ends)
}

fn early_in(worker: &Worker, session: &str, sent: &str, answer_ends: bool) -> Exchange {
    let head = head("a", "POST").header("mcp-session-id", session);
    let mut early = worker.request(&head.header("content-length", CALL.len().to_string()));
    early.headers();
    if !sent.is_empty() {
        early.body(sent);
    }
    early.answer_headers(&Reply::new(404), answer_ends);
    early
}

/// The server says that it does not know the session, and opens another one.
fn lose(workers: &[Worker], successor: &str) {
    let (worker, ping) = the_call(workers);
    assert_eq!(name(&ping), "ping");
    worker.answer(&ping, Reply::new(404));
    open(workers, successor);
}

#[test]
fn a_request_whose_rest_comes_while_its_answer_waits_is_sent_again_whole() {
    for cut in [0, 1, 20, CALL.len()] {
        let world = World::new("{}");
        let workers = [world.worker()];
        let mut early = refused_early(&workers[0], &CALL[..cut], false);
        early.body(&CALL[cut..]).end();
        early.answer_end();
        lose(&workers, "s2");
        let (worker, again) = the_call(&workers);
        assert_eq!(again.body, CALL.as_bytes());
        worker.answer(&again, Reply::new(202));
        assert_eq!(status(&early), "202");
        assert_no_offences(&world);
    }
}

#[test]
fn a_client_whose_request_was_refused_before_all_of_it_came_is_told_to_send_it_once_more() {
    for cut in [0, 1, 20, CALL.len()] {
        let world = World::new("{}");
        let workers = [world.worker()];
        // From now on Envoy shows nothing more of the request.
        let mut early = refused_early(&workers[0], &CALL[..cut], true);
        early.body(&CALL[cut..]).end();
        lose(&workers, "s2");
        assert_eq!(status(&early), "307");
        let headers = early.at_client().headers.unwrap();
        assert_eq!(headers.text("location"), "./mcp");
        early.close();
        assert_eq!(early.outcome().as_deref(), Some("redirected"));
        let again = call_in(&workers[0], "a", "s1");
        assert_eq!(again.server_headers().text("mcp-session-id"), "s2");
        assert_no_offences(&world);
    }
}

#[test]
fn who_loses_each_session_at_once_is_not_sent_back_again_and_again() {
    for age in [0, 999, 1_000].map(Duration::from_millis) {
        let world = World::new("{}");
        let workers = [world.worker()];
        let mut first = refused_early(&workers[0], "", true);
        lose(&workers, "s2");
        assert_eq!(status(&first), "307");
        first.close();
        world.advance(age);
        let mut again = early_in(&workers[0], "s1", "", true);
        assert_eq!(again.server_headers().text("mcp-session-id"), "s2");
        lose(&workers, "s3");
        let is_young = age < YOUNG;
        assert_eq!(status(&again), if is_young { "404" } else { "307" });
        again.close();
        let outcome = if is_young { "renewed" } else { "redirected" };
        assert_eq!(again.outcome().as_deref(), Some(outcome));
        let next = call_in(&workers[0], "a", "s1");
        assert_eq!(next.server_headers().text("mcp-session-id"), "s3");
        assert_no_offences(&world);
    }
}

#[test]
fn a_request_of_which_a_piece_could_not_be_read_is_not_sent_again() {
    let world = World::new("{}");
    let worker = world.worker();
    let mut early = refused_early(&worker, &CALL[..10], false);
    let workers = [worker];
    world.fail("proxy_get_buffer_bytes", When::Always, Fault::Status(2));
    early.body(&CALL[10..20]);
    world.heal();
    early.body(&CALL[20..]).end();
    early.answer_end();
    lose(&workers, "s2");
    let left: Vec<_> = workers[0].calls().iter().map(name).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(status(&early), "404");
    early.close();
    assert_eq!(early.outcome().as_deref(), Some("renewed"));
}

#[test]
fn nobody_goes_on_in_a_successor_that_has_not_been_told_that_it_is_ready() {
    for config in ["{}", r#"{"on_reinitialize":"reuse"}"#] {
        let world = World::new(config);
        let workers = [world.worker(), world.worker()];
        open_by(config, &workers);
        world.advance(YOUNG);
        let mut first = call_in(&workers[0], "a", "s1");
        let mut second = call_in(&workers[1], "a", "s1");
        let mut third = call_in(&workers[1], "a", "s1");
        let (_, call) = is_lost(&mut first, &workers);
        assert_eq!(name(&call), "initialize");
        third.answer(&Reply::new(404));
        let ping = &workers[1].calls()[0];
        workers[1].answer(ping, Reply::new(404));
        let (opener, ready) = open_but_for_the_notice(&workers, "s2");
        assert_eq!(name(&ready), "notifications/initialized");
        second.answer(&Reply::new(404));
        let ping = &workers[1].calls()[0];
        assert_eq!(name(ping), "ping");
        workers[1].answer(ping, Reply::new(404));
        world.advance(LOOK);
        assert_eq!(the_call(&workers).1.order, ready.order, "all wait for this");
        let early = call_in(&workers[1], "a", "s1");
        assert_eq!(early.server_headers().text("mcp-session-id"), "s1");
        opener.answer(&ready, Reply::new(202));
        world.settle();
        for _ in 0..3 {
            let worker = workers.iter().find(|worker| !worker.calls().is_empty());
            let worker = worker.expect("it is sent again");
            let again = &worker.calls()[0];
            assert_eq!(again.headers.text("mcp-session-id"), "s2");
            assert_eq!(name(again), "tools/call");
            worker.answer(again, Reply::new(202));
        }
        for exchange in [&first, &second, &third] {
            assert_eq!(status(exchange), "202");
        }
        assert_no_offences(&world);
    }
}

#[test]
fn an_initialize_that_waits_is_not_given_the_refusal_of_the_dead_session_that_it_was_put_into() {
    for ended in [true, false] {
        let world = World::new(r#"{"on_reinitialize":"reuse"}"#);
        let workers = [world.worker()];
        let worker = &workers[0];
        open_shared(&workers, "a", "s1");
        let mut waiting = worker.request(&head("a", "POST"));
        waiting.headers();
        assert_eq!(waiting.server_headers().text("mcp-session-id"), "s1");
        waiting.body(OTHER).end();
        waiting.answer_headers(&Reply::new(404), ended);
        if !ended {
            waiting.answer_body("not found").answer_end();
        }
        assert_eq!(status(&waiting), "none");
        world.advance(Duration::from_secs(7));
        let (_, call) = the_call(&workers);
        assert_eq!(name(&call), "DELETE");
        worker.answer(&call, Reply::new(404));
        open(&workers, "s2");
        assert_eq!(status(&waiting), "200");
        let headers = waiting.at_client().headers.unwrap();
        assert_eq!(headers.text("mcp-session-id"), "s2");
        waiting.close();
        assert_no_offences(&world);
    }
}

/// An initialize of a client that can do more than the others.
const OTHER: &str = r#"{"jsonrpc":"2.0","id":"1","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"sampling":{}},"clientInfo":{"name":"other","version":"1"}}}"#;

#[test]
fn an_initialize_that_can_wait_no_longer_is_sent_again_if_it_was_refused_in_a_dead_session() {
    let world = World::new(r#"{"on_reinitialize":"reuse"}"#);
    let workers = [world.worker()];
    open_shared(&workers, "a", "s1");
    let mut waiting = workers[0].request(&head("a", "POST"));
    waiting.headers().body(OTHER).end();
    waiting.answer(&Reply::new(404).body("not found"));
    world.fail("proxy_get_shared_data", When::Always, Fault::Status(10));
    world.advance(LOOK);
    world.heal();
    let (worker, again) = the_call(&workers);
    assert_eq!(name(&again), "initialize");
    assert_eq!(again.headers.text("mcp-session-id"), "");
    worker.answer(&again, opened(&again, "s2"));
    assert_eq!(status(&waiting), "200");
    let headers = waiting.at_client().headers.unwrap();
    assert_eq!(headers.text("mcp-session-id"), "s2");
    assert_no_offences(&world);
}

#[test]
fn an_answer_that_waited_in_vain_goes_on_though_the_client_can_not_be_told_anything_better() {
    for refusal in [Reply::new(404), Reply::new(404).body("not found")] {
        let world = World::new(r#"{"on_reinitialize":"reuse"}"#);
        let workers = [world.worker()];
        open_shared(&workers, "a", "s1");
        let mut waiting = workers[0].request(&head("a", "POST"));
        waiting.headers().body(OTHER).end();
        waiting.answer(&refusal);
        world.advance(Duration::from_secs(7));
        let (worker, call) = the_call(&workers);
        worker.answer(&call, Reply::new(404));
        let (worker, call) = the_call(&workers);
        world.fail("proxy_send_local_response", When::Always, Fault::Status(2));
        worker.answer(&call, Reply::new(503));
        world.heal();
        assert_eq!(status(&waiting), "404");
        assert!(waiting.is_answered());
    }
}

#[test]
fn an_initialize_that_was_refused_amid_its_body_comes_again_and_is_in_no_older_session() {
    for config in ["{}", r#"{"on_reinitialize":"reuse"}"#] {
        for cut in [0, 20, 60] {
            let world = World::new(config);
            let workers = [world.worker()];
            let worker = &workers[0];
            open_by(config, &workers);
            let body = initialize("2");
            let mut early = worker.request(&head("a", "POST"));
            early.headers();
            assert_eq!(early.server_headers().text("mcp-session-id"), "s1");
            if cut > 0 {
                early.body(&body[..cut]);
            }
            early.answer_headers(&Reply::new(404), false);
            early.body(&body[cut..]).end();
            early.answer_end();
            // Whether its method was known by then decides who sends it again.
            let (_, ping) = the_call(&workers);
            assert_eq!(name(&ping), "ping");
            worker.answer(&ping, Reply::new(404));
            if config != "{}" {
                assert_sent_back(&mut early);
                let again = knock(worker, "a", "2");
                assert_eq!(status(&again), "200", "it shares s1, as far as is known");
                continue;
            }
            let (_, again) = the_call(&workers);
            assert_eq!(name(&again), "initialize");
            assert_eq!(again.headers.text("mcp-session-id"), "");
            worker.answer(&again, opened(&again, "s2"));
            assert_eq!(status(&early), "200");
            let headers = early.at_client().headers.unwrap();
            assert_eq!(headers.text("mcp-session-id"), "s2");
            assert_no_offences(&world);
        }
    }
}

fn assert_sent_back(early: &mut Exchange) {
    assert_eq!(status(early), "307");
    early.close();
    assert_eq!(early.outcome().as_deref(), Some("redirected"));
}

#[test]
fn an_initialize_of_which_no_more_is_shown_comes_again_unless_its_session_lives() {
    for config in ["{}", r#"{"on_reinitialize":"reuse"}"#] {
        for lives in [false, true] {
            let world = World::new(config);
            let workers = [world.worker()];
            let worker = &workers[0];
            open_by(config, &workers);
            let body = initialize("2");
            let mut early = worker.request(&head("a", "POST"));
            early.headers();
            assert_eq!(early.server_headers().text("mcp-session-id"), "s1");
            early.body(&body[..60]);
            early.answer_headers(&Reply::new(404), true);
            let (_, ping) = the_call(&workers);
            worker.answer(&ping, Reply::new(if lives { 200 } else { 404 }));
            if lives && config == "{}" {
                assert_eq!(status(&early), "404");
                let silent = send(worker, &head("a", "POST"), CALL);
                let session = silent.server_headers().text("mcp-session-id");
                assert_eq!(session, "s1", "it is still the caller's");
                continue;
            }
            assert_sent_back(&mut early);
            let again = worker
                .request(&head("a", "POST"))
                .headers()
                .server_headers();
            assert_eq!(again.text("mcp-session-id"), "");
        }
    }
}

#[test]
fn an_initialize_whose_method_comes_while_its_session_is_recovered_is_sent_again_alone() {
    for is_opened in [true, false] {
        let world = World::new("{}");
        let workers = [world.worker()];
        let worker = &workers[0];
        open_forwarded(worker, "a", "s1");
        let body = initialize("2");
        let mut early = worker.request(&head("a", "POST"));
        early.headers().answer_headers(&Reply::new(404), false);
        let (_, ping) = the_call(&workers);
        worker.answer(&ping, Reply::new(404));
        early.body(&body).end();
        early.answer_end();
        if is_opened {
            open(&workers, "s2");
        } else {
            let (_, call) = the_call(&workers);
            worker.answer(&call, Reply::new(503));
        }
        let (_, again) = the_call(&workers);
        assert_eq!(again.body, body.as_bytes());
        assert_eq!(again.headers.text("mcp-session-id"), "");
        worker.answer(&again, opened(&again, "s3"));
        assert_eq!(status(&early), "200");
        let headers = early.at_client().headers.unwrap();
        assert_eq!(headers.text("mcp-session-id"), "s3");
        assert_no_offences(&world);
    }
}

#[test]
fn a_cancel_that_is_refused_amid_its_body_leaves_nobody_standing_in_line() {
    let config = r#"{"on_reinitialize":"queue","hold_request_headers":true,"session":{"queue_timeout":"5m"}}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    let worker = &workers[0];
    let mut holder = knock(worker, "a", "1");
    open(&workers, "s1");
    assert_opened(&mut holder, "1", "s1");
    let silent = send(worker, &head("a", "POST"), CALL);
    assert!(silent.is_sent(), "from now on s1 is shared");
    drop(silent);
    let mut other = knock(worker, "b", "1");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}"#;
    let (start, rest) = cancel.split_at(60);
    let mut early = worker.request(&head("a", "POST").header("mcp-session-id", "s1"));
    early.headers().body(start);
    assert!(early.at_server().headers.is_some());
    early.answer_headers(&Reply::new(404), false);
    let (_, ping) = the_call(&workers);
    worker.answer(&ping, Reply::new(404));
    open(&workers, "s2");
    assert_opened(&mut other, "1", "s2");
    // It means no request that anybody knows of.
    early.body(rest).end();
    early.answer_end();
    delete(worker, "b", "s2");
    open(&workers, "s3");
    let (_, again) = the_call(&workers);
    assert_eq!(again.headers.text("mcp-session-id"), "s3");
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&early), "202");
    early.close();
    delete(worker, "a", "s1");
    let mut next = knock(worker, "b", "1");
    open(&workers, "s4");
    assert_opened(&mut next, "1", "s4");
    assert_no_offences(&world);
}

#[test]
fn an_answer_that_could_not_be_resumed_at_once_is_though_its_request_still_comes() {
    let world = World::new("{}");
    let workers = [world.worker()];
    let mut early = refused_early(&workers[0], &CALL[..10], false);
    let (worker, ping) = the_call(&workers);
    world.fail("proxy_continue_stream", When::Always, Fault::Status(2));
    worker.answer(&ping, Reply::new(200));
    world.heal();
    early.body(&CALL[10..]).end();
    assert_eq!(status(&early), "none");
    world.advance(Duration::from_millis(250));
    assert_eq!(status(&early), "404");
    early.answer_end();
    assert!(early.is_answered());
}

#[test]
fn nobody_is_sent_back_for_a_version_that_could_not_be_dropped() {
    for fails in [false, true] {
        let world = World::new("{}");
        let workers = [world.worker()];
        let worker = &workers[0];
        open_forwarded(worker, "a", "s1");
        let head = head("a", "POST").header("mcp-session-id", "s1");
        let head = head.header("mcp-protocol-version", "2025-06-18");
        let mut early = worker.request(&head);
        early.headers().answer_headers(&Reply::new(400), true);
        let (_, ping) = the_call(&workers);
        worker.answer(&ping, Reply::new(400));
        let (_, ping) = the_call(&workers);
        if fails {
            world.fail("proxy_set_shared_data", When::Always, Fault::Status(10));
        }
        worker.answer(&ping, Reply::new(200));
        world.heal();
        assert_eq!(status(&early), if fails { "400" } else { "307" });
    }
}

#[test]
fn a_shared_session_whose_server_refuses_at_length_is_not_asked_for_again_at_once() {
    let config = r#"{"on_reinitialize":"reuse"}"#;
    let world = World::new(config);
    let workers = [world.worker()];
    let worker = &workers[0];
    open_shared(&workers, "a", "s1");
    world.advance(YOUNG);
    let mut lost = call_in(worker, "a", "s1");
    let mut other = call_in(worker, "a", "s1");
    let (_, call) = is_lost(&mut lost, &workers);
    other.answer(&Reply::new(404));
    let ping = worker.calls().into_iter().find(|call| name(call) == "ping");
    worker.answer(&ping.expect("it asks"), Reply::new(404));
    worker.answer(&call, Reply::new(502).body("x".repeat(40_000)));
    assert_eq!(worker.calls().len(), 0, "nobody tries at once");
    assert_eq!(status(&lost), "404");
    assert_eq!(status(&other), "404");
    assert_no_offences(&world);
}

#[test]
fn two_callers_whose_sessions_were_shared_before_never_meet_where_sessions_take_turns() {
    let world = World::new(r#"{"on_reinitialize":"reuse"}"#);
    let old = [world.worker()];
    for (caller, session) in [("a", "s1"), ("b", "s2")] {
        open_shared(&old, caller, session);
    }
    world.state().config =
        br#"{"on_reinitialize":"queue","hold_request_headers":true,"session":{"lease":"1s"}}"#
            .to_vec();
    let workers = [world.worker(), world.worker()];
    world.advance(YOUNG);
    let mut one = call_in(&workers[0], "a", "s1");
    let mut other = call_in(&workers[1], "b", "s2");
    let (_, call) = is_lost(&mut one, &workers);
    assert_eq!(name(&call), "initialize");
    other.answer(&Reply::new(404));
    workers[1].answer(&workers[1].calls()[0], Reply::new(404));
    open(&workers, "s3");
    let (worker, again) = the_call(&workers);
    assert_eq!(again.headers.text("authorization"), "Bearer a");
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&one), "202");
    one.close();
    assert_eq!(status(&other), "none");
    world.advance(Duration::from_secs(2));
    let (worker, ending) = the_call(&workers);
    assert_eq!(name(&ending), "DELETE");
    worker.answer(&ending, Reply::new(200));
    open(&workers, "s4");
    let (worker, again) = the_call(&workers);
    assert_eq!(again.headers.text("authorization"), "Bearer b");
    assert_eq!(again.headers.text("mcp-session-id"), "s4");
    worker.answer(&again, Reply::new(202));
    assert_eq!(status(&other), "202");
    assert_no_offences(&world);
}

#[test]
fn a_session_that_others_share_is_lost_only_if_it_is_refused_without_a_version_as_well() {
    let answers: [(&[u16], Option<&str>); 4] = [
        (&[400, 200], Some("tools/call")),
        (&[400, 400], None),
        (&[400, 404], Some("initialize")),
        (&[503], None),
    ];
    for (answers, expected) in answers {
        let world = World::new(r#"{"on_reinitialize":"reuse"}"#);
        let workers = [world.worker()];
        let worker = &workers[0];
        open_shared(&workers, "a", "s1");
        world.advance(YOUNG);
        let mut failing = call_in(worker, "a", "s1");
        let (_, call) = is_lost(&mut failing, &workers);
        worker.answer(&call, Reply::new(503));
        assert_eq!(status(&failing), "404");
        let mut second = knock(worker, "a", "1");
        open(&workers, "s2");
        assert_opened(&mut second, "1", "s2");
        world.advance(YOUNG);
        let mut late = call_in(worker, "a", "s1");
        let (_, ping) = is_lost(&mut late, &workers);
        assert_eq!(ping.headers.text("mcp-session-id"), "s2");
        assert_eq!(ping.headers.text("mcp-protocol-version"), "2025-06-18");
        worker.answer(&ping, Reply::new(answers[0]));
        if let Some(answer) = answers.get(1) {
            let (_, ping) = the_call(&workers);
            assert_eq!(ping.headers.text("mcp-protocol-version"), "");
            worker.answer(&ping, Reply::new(*answer));
        }
        let next = worker.calls().first().map(name);
        assert_eq!(next.as_deref(), expected, "{answers:?}");
        let told = if expected.is_none() { "404" } else { "none" };
        assert_eq!(status(&late), told, "{answers:?}");
    }
}

#[test]
fn nobody_is_sent_back_for_a_version_of_a_session_that_is_not_remembered() {
    let world = World::new(r#"{"on_reinitialize":"reuse","memory":{"slots":1}}"#);
    let workers = [world.worker()];
    let worker = &workers[0];
    for (caller, session) in [("a", "s1"), ("b", "s2")] {
        open_shared(&workers, caller, session);
    }
    let head = head("a", "POST").header("mcp-session-id", "s1");
    let mut early = worker.request(&head.header("mcp-protocol-version", "2025-06-18"));
    early.headers().answer_headers(&Reply::new(400), true);
    for status in [400, 200] {
        let (_, ping) = the_call(&workers);
        worker.answer(&ping, Reply::new(status));
    }
    assert_eq!(status(&early), "400");
}
