//! The mock process itself: several workers with exchanges at the same time, queues between them, local replies.

use std::time::Duration;

use super::client::{LIST, client_head, lives, stream_head, with_a_session};
use super::deferred::Deferred;
use super::exchange::Exchange;
use super::head::{Headers, Reply};
use super::local_reply::LocalReply;
use super::vm::Vm;
use super::worker::Worker;
use super::world::World;

#[test]
fn each_entry_of_a_queue_tells_the_worker_that_registered_last_and_no_dead_one() {
    let world = World::new("{}");
    let workers = [world.worker(), world.worker()];
    let enqueue = || world.state().queues.enqueue(1, vec![1]).unwrap();
    register(&world, &workers[0]);
    enqueue();
    register(&world, &workers[1]);
    enqueue();
    enqueue();
    world.settle();
    assert_eq!(workers.each_ref().map(told), [1, 2]);

    let [first, second] = workers;
    enqueue();
    second.clone().die();
    let ticks = [&first, &second].map(ticks);
    world.advance(Duration::from_secs(2));
    assert!(ticks[0] < self::ticks(&first), "the living one ticks");
    assert_eq!(ticks[1], self::ticks(&second), "the dead one does not");
    enqueue();
    world.settle();
    assert_eq!(
        [&first, &second].map(told),
        [1, 2],
        "what it was due is lost"
    );

    let third = world.worker();
    register(&world, &third);
    enqueue();
    world.settle();
    assert_eq!(told(&third), 1, "one that starts later takes over");
    let lengths = world.state().queues.lengths();
    assert_eq!(
        lengths,
        [("q".to_owned(), 0)],
        "and reads all that is in it"
    );
}

#[test]
fn notices_come_after_the_next_event_of_any_worker_unless_a_test_delays_them() {
    let world = World::new("{}");
    let (first, second) = (world.worker(), world.worker());
    register(&world, &second);
    world.state().queues.enqueue(1, vec![]).unwrap();
    first.request(&stream_head()).headers_only().close();
    assert_eq!(told(&second), 1);
    world.delay_notices();
    world.state().queues.enqueue(1, vec![]).unwrap();
    first.request(&stream_head()).headers_only().close();
    world.advance(Duration::from_secs(2));
    assert_eq!(told(&second), 1);
    world.settle();
    assert_eq!(told(&second), 2);
}

#[test]
fn an_image_of_a_worker_keeps_its_queues() {
    let before = World::new("{}");
    let worker = before.worker();
    register(&before, &worker);
    let image = worker.vm().image().expect("no stream is open");
    let world = World::with(before.state().clone());
    let worker = world.employ(Vm::of(&image, &world));
    let other = world.worker();
    world.state().queues.enqueue(1, vec![]).unwrap();
    world.settle();
    assert_eq!([&worker, &other].map(told), [1, 0]);
}

#[test]
fn a_local_reply_passes_the_filters_and_ends_the_request() {
    for piece_before in [false, true] {
        let world = World::new("{}");
        let worker = with_a_session(&world);
        let mut request = worker.request(&client_head("POST").header("mcp-session-id", "s1"));
        if piece_before {
            request.headers();
        }
        let answers = callbacks(&worker, "proxy_on_response_body");
        answer_after_next_callback(&worker, &request, 405, "no");
        if piece_before {
            request.body(&LIST[..9]);
        } else {
            request.headers();
        }
        let bodies = callbacks(&worker, "proxy_on_request_body");
        request.body(LIST).end().answer(&Reply::new(200));
        assert_eq!(callbacks(&worker, "proxy_on_request_body"), bodies);
        assert_eq!(callbacks(&worker, "proxy_on_response_body"), answers + 1);

        assert!(request.is_answered() && !request.is_sent() && request.is_cut_off());
        assert_eq!(request.upstream_was_reset(), piece_before);
        assert_eq!(request.at_server().headers.is_some(), piece_before);
        let reply = request.local_reply().unwrap();
        assert_eq!((reply.status, reply.details.as_str()), (405, "test"));
        let client = request.at_client();
        assert_eq!(client.headers.unwrap().text(":status"), "405");
        assert_eq!(client.body, b"no");
        request.close();
        lives(&world, &worker);
    }
}

#[test]
fn a_local_reply_takes_the_place_of_an_answer_that_waits_and_breaks_one_that_does_not() {
    let world = World::new("{}");
    let worker = with_a_session(&world);
    let mut request = worker.request(&stream_head());
    request.headers_only().answer(&Reply::new(404));
    assert!(request.answer_waits());
    answer_after_next_callback(&worker, &request, 200, "");
    worker.answer(&worker.calls()[0], Reply::new(500));
    let client = request.at_client();
    assert_eq!(client.headers.unwrap().text(":status"), "200");
    assert!(client.end.is_some() && !request.upstream_was_reset());
    request.close();
    lives(&world, &worker);

    let mut request = worker.request(&stream_head());
    request
        .headers_only()
        .answer_headers(&Reply::new(200), false);
    answer_after_next_callback(&worker, &request, 405, "");
    request.answer_body("x").answer_end();
    assert!(!request.is_answered() && request.local_reply().is_none());
    assert_eq!(world.offences().len(), 1, "{:?}", world.offences());
}

/// As if the module had asked for it in the callback that comes next.
fn answer_after_next_callback(worker: &Worker, request: &Exchange, status: u16, body: &str) {
    let lines = Headers::default();
    let reply = LocalReply::new(status, lines, body.into(), "test".to_owned());
    let reply = Deferred::Reply(request.context(), reply);
    worker.vm().host().deferred.push(reply);
}

fn register(world: &World, worker: &Worker) {
    let number = worker.vm().number();
    world.state().queues.register(b"q", number);
}

fn told(worker: &Worker) -> u64 {
    callbacks(worker, "proxy_on_queue_ready")
}

fn ticks(worker: &Worker) -> u64 {
    callbacks(worker, "proxy_on_tick")
}

fn callbacks(worker: &Worker, name: &str) -> u64 {
    worker.cost().callbacks.get(name).copied().unwrap_or(0)
}
