//! Requests that wait for a session: how many may, what becomes of those whose clients leave, and that none is left
//! waiting or answered in the place of another when the host refuses a call.

use std::time::Duration;

use super::crowd::{
    LOOK, SHARING, asked, assert_no_offences, assert_opened, assert_refused, knock, open,
    open_but_for_the_notice, status, the_call, world,
};
use super::exchange::Exchange;
use super::faults::{Fault, When};
use super::head::Reply;
use super::worker::Worker;

const BAD_ARGUMENT: Fault = Fault::Status(2);

fn crowd(worker: &Worker, caller: &str, ids: std::ops::Range<usize>) -> Vec<(String, Exchange)> {
    let knock = |id: usize| (id.to_string(), knock(worker, caller, &id.to_string()));
    ids.map(knock).collect()
}

#[test]
fn a_client_that_leaves_while_it_waits_is_never_answered_and_the_others_are() {
    for host in SHARING {
        for leaver in 0..6 {
            let world = world(host);
            let workers = [world.worker(), world.worker()];
            let mut clients = crowd(&workers[0], "a", 0..3);
            clients.extend(crowd(&workers[1], "a", 3..6));
            world.delay_notices();
            let (worker, call) = open_but_for_the_notice(&workers, "s1");
            worker.answer(&call, Reply::new(202));
            // The other worker has mail that it has not read yet.
            clients[leaver].1.close();
            world.settle();
            for (n, (id, client)) in clients.iter_mut().enumerate() {
                if n != leaver {
                    assert_opened(client, id, "s1");
                } else if n >= 3 {
                    assert_eq!(status(client), "none");
                }
            }
            world.advance(Duration::from_secs(1));
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_context_that_can_not_be_taken_up_has_nobody_get_the_answer_of_another() {
    for host in SHARING {
        // The first one of a callback is the SDK's own, for the context that is called back.
        for refused in 1..12 {
            let world = world(host);
            let workers = [world.worker(), world.worker()];
            let mut clients = crowd(&workers[0], "a", 0..3);
            clients.extend(crowd(&workers[1], "a", 3..6));
            let (worker, call) = open_but_for_the_notice(&workers, "s1");
            world.fail(
                "proxy_set_effective_context",
                When::Nth(refused),
                BAD_ARGUMENT,
            );
            worker.answer(&call, Reply::new(202));
            world.advance(LOOK);
            world.heal();
            for (id, client) in &mut clients {
                assert_opened(client, id, "s1");
            }
            assert_no_offences(&world);
        }
    }
}

#[test]
fn an_opener_that_is_alone_is_answered_though_its_context_could_not_be_taken_up_in_time() {
    for host in SHARING {
        let world = world(host);
        let workers = [world.worker()];
        let mut client = knock(&workers[0], "a", "1");
        let (worker, call) = open_but_for_the_notice(&workers, "s1");
        // After the SDK's own.
        world.fail("proxy_set_effective_context", When::Nth(1), BAD_ARGUMENT);
        worker.answer(&call, Reply::new(202));
        world.heal();
        world.advance(LOOK);
        assert_opened(&mut client, "1", "s1");
        assert_no_offences(&world);
    }
}

#[test]
fn an_opener_whose_context_could_not_be_taken_up_twice_is_answered_the_third_time() {
    for host in SHARING {
        for refused in 0..4 {
            let world = world(host);
            let workers = [world.worker()];
            let mut client = knock(&workers[0], "a", "1");
            let (worker, call) = open_but_for_the_notice(&workers, "s1");
            // After the SDK's own.
            let name = "proxy_set_effective_context";
            world.fail(name, When::Nth(1), BAD_ARGUMENT);
            worker.answer(&call, Reply::new(202));
            world.heal();
            world.fail(name, When::Nth(refused), BAD_ARGUMENT);
            world.advance(LOOK);
            world.heal();
            world.advance(LOOK);
            assert_opened(&mut client, "1", "s1");
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_request_that_can_not_be_answered_when_it_is_woken_goes_on_and_does_not_hang() {
    for host in SHARING {
        let world = world(host);
        let workers = [world.worker(), world.worker()];
        let mut clients = crowd(&workers[0], "a", 0..2);
        clients.extend(crowd(&workers[1], "a", 2..4));
        world.fail("proxy_send_local_response", When::Always, BAD_ARGUMENT);
        open(&workers, "s1");
        world.heal();
        world.advance(Duration::from_secs(40));
        for (id, client) in &mut clients {
            assert!(client.is_sent(), "the initialize {id} goes on as it came");
            client.answer(&Reply::new(200)).close();
        }
        assert_no_offences(&world);
    }
}

#[test]
fn a_server_that_answers_before_its_time_has_the_last_word() {
    for host in &SHARING[1..] {
        let world = world(*host);
        let workers = [world.worker()];
        let mut clients = crowd(&workers[0], "a", 0..3);
        for (id, client) in &mut clients[..2] {
            client.answer(&Reply::new(408).body("too slow"));
            assert_eq!(status(client), "408", "{id}");
            client.close();
        }
        open(&workers, "s1");
        let (id, client) = &mut clients[2];
        assert_opened(client, id, "s1");
        assert_no_offences(&world);
    }
}

#[test]
fn no_more_than_1024_requests_of_a_worker_wait_and_all_of_them_are_answered() {
    let world = world(SHARING[1]);
    let workers = [world.worker()];
    let mut clients = crowd(&workers[0], "a", 0..1024);
    let mut others = crowd(&workers[0], "b", 1024..1026);
    for (id, client) in &mut others {
        let headers = client.at_client().headers.expect("an answer at once");
        assert!(headers.text("retry-after").parse::<u64>().unwrap() > 0);
        assert_refused(client, id, "503");
    }
    clients.pop().unwrap().1.close();
    let mut another = crowd(&workers[0], "a", 2000..2001);
    assert!(!another[0].1.is_answered(), "there is room again");
    clients.append(&mut another);
    open(&workers, "s1");
    for (id, client) in &mut clients {
        assert_opened(client, id, "s1");
    }
    assert_eq!(asked(&workers).len(), 2);
    assert_no_offences(&world);
}

#[test]
fn a_wait_for_a_server_that_never_answers_has_an_end_for_all_but_the_opener() {
    let world = world(SHARING[1]);
    let workers = [world.worker(), world.worker()];
    let mut clients = crowd(&workers[0], "a", 0..2);
    clients.extend(crowd(&workers[1], "a", 2..4));
    world.advance(Duration::from_secs(60) + LOOK);
    for (id, client) in &mut clients[1..] {
        assert_refused(client, id, "503");
    }
    // The host ends the opener's, in time.
    let (worker, call) = the_call(&workers);
    assert_eq!(call.timeout, Duration::from_secs(60));
    worker.reset(&call);
    let (id, client) = &mut clients[0];
    assert_refused(client, id, "504");
    assert_no_offences(&world);
}

#[test]
fn a_session_that_was_idle_too_long_is_not_given_to_anybody_any_more() {
    for host in SHARING {
        let world = world(host);
        let workers = [world.worker()];
        let mut first = knock(&workers[0], "a", "1");
        open(&workers, "s1");
        assert_opened(&mut first, "1", "s1");
        world.sleep(Duration::from_secs(31 * 60));
        let mut late = knock(&workers[0], "a", "2");
        assert_ne!(status(&late), "200", "s1 is forgotten, and about to end");
        let (worker, call) = the_call(&workers);
        assert_eq!(call.headers.text(":method"), "DELETE");
        assert_eq!(call.headers.text("mcp-session-id"), "s1");
        worker.answer(&call, Reply::new(200));
        open(&workers, "s2");
        assert_opened(&mut late, "2", "s2");
        assert_no_offences(&world);
    }
}
