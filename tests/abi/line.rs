//! What may become of those who stand in the line for a server's one session, and that the line goes on behind them.

use std::time::Duration;

use super::crowd::{LOOK, assert_no_offences, assert_opened, delete, knock, open, the_call};
use super::exchange::Exchange;
use super::faults::{Fault, When};
use super::head::Reply;
use super::worker::Worker;
use super::world::World;

const QUEUE: &str = r#"{"on_reinitialize":"queue","hold_request_headers":true,
    "session":{"lease":"1m","queue_timeout":"1m"}}"#;

/// One who holds the session "s1", and three of other callers in the line, on three workers.
fn line(world: &World) -> (Vec<Worker>, Vec<Exchange>) {
    let workers: Vec<_> = (0..3).map(|_| world.worker()).collect();
    let mut holder = knock(&workers[0], "a", "1");
    open(&workers, "s1");
    assert_opened(&mut holder, "1", "s1");
    let places = ["b", "c", "d"].into_iter().zip(&workers);
    let line = places.map(|(caller, worker)| knock(worker, caller, "1"));
    let line = line.collect();
    (workers, line)
}

/// Panics unless it is this one's turn, and it gets its session.
fn assert_goes_on(workers: &[Worker], next: &mut Exchange, caller: &str) {
    let (_, call) = the_call(workers);
    let authorization = call.headers.text("authorization");
    assert_eq!(authorization, format!("Bearer {caller}"));
    open(workers, "s2");
    assert_opened(next, "1", "s2");
}

#[test]
fn a_client_that_leaves_the_line_lets_the_next_one_go() {
    for leaves_after_its_turn_came in [false, true] {
        let world = World::new(QUEUE);
        let (workers, mut line) = line(&world);
        if leaves_after_its_turn_came {
            world.delay_notices();
            delete(&workers[0], "a", "s1");
            line[0].close();
            world.settle();
        } else {
            line[0].close();
            delete(&workers[0], "a", "s1");
        }
        assert_goes_on(&workers, &mut line[1], "c");
        assert_no_offences(&world);
    }
}

#[test]
fn a_client_that_leaves_while_its_session_opens_keeps_it_for_a_lease_at_most() {
    let world = World::new(QUEUE);
    let (workers, mut line) = line(&world);
    delete(&workers[0], "a", "s1");
    line[0].close();
    open(&workers, "s2");
    world.advance(Duration::from_secs(50));
    assert!(workers.iter().all(|worker| worker.calls().is_empty()));
    let mut late = knock(&workers[1], "e", "1");
    world.advance(Duration::from_secs(25) + LOOK);
    let (worker, call) = the_call(&workers);
    assert_eq!(call.headers.text(":method"), "DELETE");
    assert_eq!(call.headers.text("mcp-session-id"), "s2");
    worker.answer(&call, Reply::new(200));
    assert_goes_on(&workers, &mut late, "e");
    assert_no_offences(&world);
}

#[test]
fn a_client_that_leaves_while_it_ends_the_session_before_it_lets_the_next_one_go() {
    let world = World::new(QUEUE.replace("1m\",\"q", "1s\",\"q"));
    let (workers, mut line) = line(&world);
    world.advance(Duration::from_secs(1) + LOOK);
    let (worker, call) = the_call(&workers);
    assert_eq!(call.headers.text(":method"), "DELETE");
    line[0].close();
    worker.answer(&call, Reply::new(200));
    assert_goes_on(&workers, &mut line[1], "c");
    assert_no_offences(&world);
}

#[test]
fn the_line_goes_on_when_the_worker_of_its_first_one_dies() {
    let world = World::new(QUEUE);
    let (mut workers, mut line) = line(&world);
    workers.remove(0).die();
    delete(&workers[0], "a", "s1");
    world.advance(Duration::from_millis(4_500));
    assert!(workers.iter().all(|worker| worker.calls().is_empty()));
    world.advance(Duration::from_millis(500) + LOOK);
    assert_goes_on(&workers, &mut line[1], "c");
    assert_no_offences(&world);
}

#[test]
fn the_line_goes_on_when_the_worker_dies_that_opens_or_ends_a_session() {
    for ends in [false, true] {
        let config = QUEUE.replace("1m\",\"q", "1s\",\"q");
        let world = World::new(if ends { &config } else { QUEUE });
        let (mut workers, mut line) = line(&world);
        if ends {
            world.advance(Duration::from_secs(1) + LOOK);
            let (_, call) = the_call(&workers);
            assert_eq!(call.headers.text(":method"), "DELETE");
        } else {
            delete(&workers[0], "a", "s1");
            assert_eq!(workers[0].calls().len(), 1, "it is b's turn");
        }
        workers.remove(0).die();
        world.advance(Duration::from_secs(5) + LOOK);
        assert_goes_on(&workers, &mut line[1], "c");
        assert_no_offences(&world);
    }
}

#[test]
fn who_leaves_the_line_by_an_error_does_not_stand_in_it_any_more() {
    let calls = [
        "proxy_get_shared_data",
        "proxy_set_shared_data",
        "proxy_set_effective_context",
        "proxy_continue_stream",
        "proxy_send_local_response",
        "proxy_http_call",
        "proxy_enqueue_shared_queue",
        "proxy_resolve_shared_queue",
        "proxy_dequeue_shared_queue",
    ];
    for call in calls {
        for nth in 0.. {
            let world = World::new(QUEUE);
            let (workers, mut line) = line(&world);
            world.fail(call, When::Nth(nth), Fault::Status(10));
            // A tick of all workers.
            world.advance(LOOK);
            if !world.something_failed() {
                break;
            }
            world.heal();
            delete(&workers[0], "a", "s1");
            for (n, waiting) in line.iter_mut().enumerate() {
                if waiting.is_sent() {
                    waiting.answer(&Reply::new(503)).close();
                    continue;
                }
                let session = format!("s{}", n + 2);
                open(&workers, &session);
                assert_opened(waiting, "1", &session);
                delete(&workers[0], ["b", "c", "d"][n], &session);
            }
            let mut late = knock(&workers[1], "e", "1");
            assert_goes_on(&workers, &mut late, "e");
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_client_that_could_not_leave_the_line_when_it_left_is_out_of_it_with_the_next_tick() {
    for call in ["proxy_get_shared_data", "proxy_set_shared_data"] {
        for status in [8, 10] {
            let world = World::new(QUEUE);
            let (workers, mut line) = line(&world);
            world.fail(call, When::Always, Fault::Status(status));
            line[0].close();
            world.heal();
            world.advance(LOOK);
            delete(&workers[1], "a", "s1");
            assert_goes_on(&workers, &mut line[1], "c");
            assert_no_offences(&world);
        }
    }
}
