//! What sharing must not take for granted: room in the memory, a clock that only goes on, few workers, prompt workers.

use std::time::Duration;

use super::client::{LIST, client_head, with_a_session};
use super::crowd::{
    LOOK, SHARING, asked, assert_no_offences, assert_opened, assert_refused, delete, head, knock,
    marked, message, name, open, opened, refused, send, status, the_call, world,
};
use super::head::Reply;
use super::world::World;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;

#[test]
fn a_session_that_the_memory_had_no_room_for_is_remembered_when_it_is_shared_again() {
    let world = World::new(r#"{"on_reinitialize":"reuse","memory":{"slots":1}}"#);
    let workers = [world.worker()];
    for caller in ["a", "b"] {
        let session = format!("of-{caller}");
        let mut first = knock(&workers[0], caller, "1");
        open(&workers, &session);
        assert_opened(&mut first, "1", &session);
        world.advance(Duration::from_secs(1));
    }
    let mut second = knock(&workers[0], "a", "1");
    assert_opened(&mut second, "1", "of-a");
    let head = head("a", "POST").header("mcp-session-id", "of-a");
    let request = send(&workers[0], &head, CALL);
    let id = &message(&request.at_server().body)["id"];
    assert!(id.to_string().starts_with("\"mcpsf~"), "{id}");
    assert_no_offences(&world);
}

#[test]
fn an_initialize_that_comes_after_a_failure_is_tried_whatever_the_clock_says() {
    for host in SHARING {
        for set_back in [Duration::ZERO, Duration::from_secs(3_600)] {
            let world = world(host);
            let workers = [world.worker(), world.worker()];
            let mut waited = [knock(&workers[0], "a", "1"), knock(&workers[1], "a", "2")];
            let (worker, call) = the_call(&workers);
            worker.answer(&call, refused(&call, 500));
            for (knock, id) in waited.iter_mut().zip(["1", "2"]) {
                assert_refused(knock, id, "500");
            }
            world.state().now -= super::world::nanoseconds(set_back);
            let mut next = knock(&workers[1], "a", "3");
            open(&workers, "s1");
            assert_opened(&mut next, "3", "s1");
            assert_no_offences(&world);
        }
    }
}

#[test]
fn waits_end_though_the_clock_is_set_back() {
    for host in SHARING {
        let world = world(host);
        let workers = [world.worker(), world.worker()];
        let _opener = knock(&workers[0], "a", "1");
        let mut waiting = knock(&workers[1], "a", "2");
        world.advance(LOOK);
        world.state().now -= super::world::nanoseconds(Duration::from_secs(3_600));
        world.advance(Duration::from_secs(3_660) + LOOK);
        assert_refused(&mut waiting, "2", "503");
        assert_no_offences(&world);
    }
}

#[test]
fn the_turns_of_a_hundred_workers_come_one_at_a_time() {
    let world = World::new(
        r#"{"on_reinitialize":"queue","hold_request_headers":true,"session":{"queue":100},
            "memory":{"slots":16,"bulk_slots":16}}"#,
    );
    let workers: Vec<_> = (0..100).map(|_| world.worker()).collect();
    let callers: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let knock = |n: usize| knock(&workers[n], &callers[n], "1");
    let mut knocks: Vec<_> = (0..100).map(knock).collect();
    for (n, knock) in knocks.iter_mut().enumerate() {
        let (_, call) = the_call(&workers);
        let caller = &callers[n];
        assert_eq!(
            call.headers.text("authorization"),
            format!("Bearer {caller}")
        );
        open(&workers, caller);
        assert_opened(knock, "1", caller);
        if n % 10 == 0 {
            world.advance(LOOK);
        }
        delete(&workers[n], caller, caller);
    }
    assert_no_offences(&world);
}

#[test]
fn an_opener_whose_worker_was_taken_for_dead_still_gets_what_it_opened() {
    for host in SHARING {
        let world = world(host);
        let workers = [world.worker(), world.worker()];
        let mut slow = knock(&workers[0], "a", "1");
        let mut waiting = knock(&workers[1], "a", "2");
        // Nobody's ticks come for a while.
        world.state().now += super::world::nanoseconds(Duration::from_secs(6));
        let mut late = knock(&workers[1], "a", "3");
        assert_eq!(asked(&workers), ["initialize"; 2]);
        let calls = [workers[0].calls(), workers[1].calls()].concat();
        assert_eq!(calls.len(), 2);
        for (worker, (call, session)) in workers.iter().zip(calls.iter().zip(["s1", "s2"])) {
            worker.answer(call, opened(call, session));
            let call = worker.calls().remove(0);
            assert_eq!(name(&call), "notifications/initialized");
            worker.answer(&call, Reply::new(202));
        }
        assert_opened(&mut slow, "1", "s1");
        assert_opened(&mut waiting, "2", "s2");
        assert_opened(&mut late, "3", "s2");
        let head = head("a", "POST").header("mcp-session-id", "s1");
        let request = send(&workers[0], &head, CALL);
        assert_eq!(request.server_headers().text("mcp-session-id"), "s1");
        assert_no_offences(&world);
    }
}

#[test]
fn where_headers_can_not_wait_sharing_begins_when_the_filter_has_found_that_out() {
    let world = world((SHARING[0].0, false));
    let workers = [world.worker()];
    for n in 0..3 {
        let mut early = knock(&workers[0], "a", "1");
        world.advance(Duration::from_secs(1));
        assert!(early.is_sent(), "{n} goes up as it came");
        early.answer(&Reply::new(503)).close();
    }
    let mut clients = ["1", "2", "3"].map(|id| (knock(&workers[0], "a", id), id));
    open(&workers, "s1");
    for (client, id) in &mut clients {
        assert_opened(client, id, "s1");
    }
    assert_no_offences(&world);
}

#[test]
fn who_loses_a_session_late_joins_its_successor_though_its_initialize_is_forgotten() {
    for bulk_slots in [1, 256] {
        let world = World::new(format!(r#"{{"memory":{{"bulk_slots":{bulk_slots}}}}}"#));
        let worker = with_a_session(&world);
        let in_session = || client_head("POST").header("mcp-session-id", "s1");
        let requests = [(); 2].map(|()| {
            let mut request = send(&worker, &in_session(), LIST);
            request.answer(&Reply::new(404));
            request
        });
        // The second one's ping is answered last of all.
        let late = worker.calls().pop().unwrap();
        let answer_others = || {
            let calls = worker.calls().into_iter();
            let mut calls = calls.filter(|call| call.token != late.token);
            let call = calls.next()?;
            let reply = match name(&call).as_str() {
                "ping" => Reply::new(404),
                "initialize" => opened(&call, "s2"),
                "notifications/initialized" => Reply::new(202),
                _ => marked("2", "list", false),
            };
            worker.answer(&call, reply);
            Some(())
        };
        while answer_others().is_some() {}
        assert_eq!(status(&requests[0]), "200");
        worker.answer(&late, Reply::new(404));
        while answer_others().is_some() {}
        assert_eq!(status(&requests[1]), "200", "{bulk_slots}");
        let next = send(&worker, &in_session(), LIST);
        assert_eq!(next.server_headers().text("mcp-session-id"), "s2");
        assert_no_offences(&world);
    }
}
