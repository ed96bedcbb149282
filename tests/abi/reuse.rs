//! Clients of one caller that ask for a session at the same time, on several workers: there is one, and all get it.

use std::time::Duration;

use super::crowd::{
    LOOK, SHARING, asked, assert_no_offences, assert_opened, assert_refused, head, initialize,
    knock, name, open, opened, refused, send, status, the_call, world,
};
use super::exchange::Exchange;
use super::faults::{Fault, When};
use super::head::Reply;
use super::worker::Worker;
use super::world::World;

const IDS: [&str; 8] = ["0", "1", "\"0\"", "\"a\"", "1.5", "0", "-7", "\"\u{e9}\""];
const ONE_OPENING: [&str; 2] = ["initialize", "notifications/initialized"];

/// Three workers, and clients with all ids on them in turn, none of them answered.
fn crowd(world: &World, caller: &str) -> (Vec<Worker>, Vec<Exchange>) {
    let workers: Vec<_> = (0..3).map(|_| world.worker()).collect();
    let knocks = clients(&workers, caller);
    (workers, knocks)
}

fn clients(workers: &[Worker], caller: &str) -> Vec<Exchange> {
    let places = IDS.iter().zip(workers.iter().cycle());
    places
        .map(|(id, worker)| knock(worker, caller, id))
        .collect()
}

#[test]
fn eight_first_initializes_on_three_workers_open_one_session_and_no_tick_is_needed() {
    for host in SHARING {
        for all_before_the_first_call in [false, true] {
            let world = world(host);
            if all_before_the_first_call {
                world.delay_notices();
            }
            let (workers, mut knocks) = crowd(&world, "a");
            world.settle();
            assert!(knocks.iter().all(|knock| !knock.is_answered()), "{host:?}");
            let (worker, call) = the_call(&workers);
            worker.answer(&call, opened(&call, "s1"));
            world.settle();
            let (worker, call) = the_call(&workers);
            worker.answer(&call, Reply::new(202));
            world.settle();
            for (knock, id) in knocks.iter_mut().zip(IDS) {
                assert_opened(knock, id, "s1");
            }
            let mut late = knock(&workers[2], "a", "9");
            assert_opened(&mut late, "9", "s1");
            assert_eq!(asked(&workers), ONE_OPENING);
            assert_no_offences(&world);
        }
    }
}

#[test]
fn an_opener_whose_client_leaves_strands_nobody() {
    for host in SHARING {
        for leaves_late in [false, true] {
            let world = world(host);
            let (workers, mut knocks) = crowd(&world, "a");
            if leaves_late {
                let (worker, call) = the_call(&workers);
                worker.answer(&call, opened(&call, "s1"));
                knocks[0].close();
                let (worker, call) = the_call(&workers);
                worker.answer(&call, Reply::new(202));
            } else {
                knocks[0].close();
                open(&workers, "s1");
            }
            for (knock, id) in knocks.iter_mut().zip(IDS).skip(1) {
                assert_opened(knock, id, "s1");
            }
            assert_eq!(asked(&workers), ONE_OPENING);
            assert_eq!(status(&knocks[0]), "none");
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_session_that_is_opened_when_everybody_has_left_is_still_shared_later() {
    for host in SHARING {
        let world = world(host);
        let (workers, mut knocks) = crowd(&world, "a");
        for knock in &mut knocks {
            knock.close();
        }
        open(&workers, "s1");
        world.advance(Duration::from_secs(600));
        let mut late = knock(&workers[1], "a", "\"late\"");
        assert_opened(&mut late, "\"late\"", "s1");
        assert_eq!(asked(&workers), ONE_OPENING);
        let request = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let request = send(&workers[2], &head("a", "POST"), request);
        assert_eq!(request.server_headers().text("mcp-session-id"), "s1");
        assert_no_offences(&world);
    }
}

#[test]
fn all_who_waited_get_the_servers_refusal_and_the_next_one_tries_again() {
    for host in SHARING {
        for failure in [500, 401, 0] {
            let world = world(host);
            let (workers, mut knocks) = crowd(&world, "a");
            world.advance(Duration::from_millis(100));
            let (worker, call) = the_call(&workers);
            if failure == 0 {
                worker.reset(&call);
            } else {
                worker.answer(&call, refused(&call, failure));
            }
            let expected = if failure == 0 { 504 } else { failure };
            for (knock, id) in knocks.iter_mut().zip(IDS) {
                assert_refused(knock, id, &expected.to_string());
                let headers = knock.at_client().headers.unwrap();
                let lines = headers.all("www-authenticate").len();
                assert_eq!(lines, usize::from(failure != 0), "{id}");
            }
            assert_eq!(asked(&workers), ["initialize"]);

            world.advance(Duration::from_millis(1));
            let mut knocks = clients(&workers, "a");
            open(&workers, "s1");
            for (knock, id) in knocks.iter_mut().zip(IDS) {
                assert_opened(knock, id, "s1");
            }
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_server_without_sessions_answers_each_client_itself() {
    let world = world(SHARING[1]);
    let (workers, mut knocks) = crowd(&world, "a");
    for _ in 0..IDS.len() {
        let (worker, call) = the_call(&workers);
        let mut reply = opened(&call, "none");
        reply.headers.remove("mcp-session-id");
        worker.answer(&call, reply);
    }
    for (knock, id) in knocks.iter_mut().zip(IDS) {
        assert!(knock.is_answered(), "{id}");
        let body = super::crowd::message(&knock.at_client().body);
        assert_eq!(body["id"].to_string(), id);
        knock.close();
    }
    assert_eq!(asked(&workers), ["initialize"; 8]);
    assert_no_offences(&world);
}

#[test]
fn when_the_openers_worker_dies_another_one_opens_as_soon_as_that_is_known() {
    for host in SHARING {
        let world = world(host);
        let (mut workers, mut knocks) = crowd(&world, "a");
        let (opener, call) = the_call(&workers);
        workers.remove(0).die();
        knocks = knocks
            .into_iter()
            .enumerate()
            .filter(|(n, _)| n % 3 != 0)
            .map(|(_, knock)| knock)
            .collect();
        world.advance(Duration::from_millis(4_500));
        assert_eq!(asked(&workers), [""; 0], "it may still live");
        world.advance(Duration::from_millis(500) + LOOK);
        open(&workers, "s2");
        let ids = IDS.iter().enumerate().filter(|(n, _)| n % 3 != 0);
        for (knock, (_, id)) in knocks.iter_mut().zip(ids) {
            assert_opened(knock, id, "s2");
        }
        assert_eq!(asked(&workers), ONE_OPENING);
        assert_eq!(name(&call), "initialize");
        drop(opener);
        assert_no_offences(&world);
    }
}

#[test]
fn two_callers_at_once_open_two_sessions_that_never_meet() {
    for host in SHARING {
        let world = world(host);
        let workers: Vec<_> = (0..3).map(|_| world.worker()).collect();
        let mut first = clients(&workers, "a");
        let mut second = clients(&workers, "b");
        let calls = workers
            .iter()
            .flat_map(|worker| worker.calls().into_iter().map(move |call| (worker, call)));
        // The second caller's session is opened first.
        let mut calls: Vec<_> = calls.collect();
        assert_eq!(calls.len(), 2);
        calls.sort_by_key(|(_, call)| std::cmp::Reverse(call.headers.text("authorization")));
        for (worker, call) in calls {
            let session = call.headers.text("authorization").replace("Bearer ", "of-");
            worker.answer(&call, opened(&call, &session));
            let (worker, call) = workers
                .iter()
                .flat_map(|worker| worker.calls().into_iter().map(move |call| (worker, call)))
                .find(|(_, call)| name(call) == "notifications/initialized")
                .unwrap();
            assert_eq!(call.headers.text("mcp-session-id"), session);
            worker.answer(&call, Reply::new(202));
        }
        for (n, id) in IDS.into_iter().enumerate() {
            assert_opened(&mut first[n], id, "of-a");
            assert_opened(&mut second[n], id, "of-b");
        }
        let mut third = knock(&workers[0], "c", "1");
        assert!(!third.is_answered(), "a third caller gets neither");
        assert!(!third.is_sent(), "its own session comes first");
        third.close();
        assert_no_offences(&world);
    }
}

#[test]
fn an_empty_piece_amid_an_initialize_does_not_let_it_go_up() {
    for host in SHARING {
        let world = world(host);
        let workers = [world.worker()];
        let body = initialize("1");
        let (start, rest) = body.split_at(body.len() - 3);
        let mut knock = workers[0].request(&head("a", "POST"));
        knock.headers().body(start).body("").body(rest).end();
        open(&workers, "s1");
        assert_opened(&mut knock, "1", "s1");
        assert_no_offences(&world);
    }
}

#[test]
fn a_vm_that_got_no_mailbox_counts_as_living_for_as_long_as_somebody_waits_there() {
    let world = World::new(SHARING[0].0);
    let workers = [world.worker(), world.worker()];
    world.fail(
        "proxy_register_shared_queue",
        When::Nth(0),
        Fault::Status(2),
    );
    let mut first = knock(&workers[0], "a", "1");
    world.heal();
    world.advance(Duration::from_secs(8));
    let mut second = knock(&workers[1], "a", "2");
    // One, and no other: the server takes its time.
    open(&workers, "s1");
    assert_opened(&mut first, "1", "s1");
    world.advance(LOOK);
    assert_opened(&mut second, "2", "s1");
    assert_no_offences(&world);
}

#[test]
fn a_session_in_which_a_request_was_forbidden_is_not_ended_while_others_use_it() {
    let world = World::new(r#"{"on_reinitialize":"reuse","memory":{"bulk_slots":4}}"#);
    let workers = [world.worker()];
    let mut first = knock(&workers[0], "a", "1");
    open(&workers, "s1");
    assert_opened(&mut first, "1", "s1");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    let head = head("a", "POST").header("mcp-session-id", "s1");
    let mut forbidden = send(&workers[0], &head, call);
    let mut busy = send(&workers[0], &head, call);
    forbidden.answer(&Reply::new(403)).close();
    world.advance(Duration::from_secs(60));
    assert_eq!(workers[0].calls().len(), 0, "nobody ends it");
    busy.answer(&Reply::new(202)).close();
    // But nobody new is told what its InitializeResult was.
    let mut other = knock(&workers[0], "a", "2");
    let (worker, ending) = the_call(&workers);
    assert_eq!(name(&ending), "DELETE");
    worker.answer(&ending, Reply::new(200));
    open(&workers, "s2");
    assert_opened(&mut other, "2", "s2");
    assert_no_offences(&world);
}
