//! A `notifications/cancelled` in a shared session, on whatever worker: it ends the request that it means, or none.

use serde_json::Value;

use super::crowd::{SHARING, is_kept_from_the_server, world};
use super::crowd::{assert_no_offences, assert_opened, head, knock, message, open, send, status};
use super::exchange::Exchange;
use super::head::Reply;
use super::worker::Worker;
use super::world::World;

fn in_a_shared_session(host: (&str, bool)) -> (World, Vec<Worker>) {
    let world = world(host);
    let workers: Vec<_> = (0..3).map(|_| world.worker()).collect();
    let mut first = knock(&workers[0], "a", "0");
    open(&workers, "s1");
    assert_opened(&mut first, "0", "s1");
    (world, workers)
}

fn post(worker: &Worker, body: &str) -> Exchange {
    send(
        worker,
        &head("a", "POST").header("mcp-session-id", "s1"),
        body,
    )
}

/// A request with this id, under way.
fn call(worker: &Worker, id: &str) -> Exchange {
    let request = post(
        worker,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#),
    );
    assert!(request.is_sent());
    request
}

fn cancel(worker: &Worker, id: &str) -> Exchange {
    let body = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"no"}}}}"#
    );
    post(worker, &body)
}

fn id(request: &Exchange) -> Value {
    message(&request.at_server().body)["id"].clone()
}

#[track_caller]
fn assert_ends(mut cancel: Exchange, request: &Exchange) {
    assert!(cancel.is_sent(), "it is clear what it means");
    let seen = message(&cancel.at_server().body);
    assert_eq!(seen["params"]["requestId"], id(request));
    cancel.answer(&Reply::new(202)).close();
}

#[track_caller]
fn assert_dropped(mut cancel: Exchange) {
    assert_eq!(status(&cancel), "202");
    assert!(cancel.is_answered() && is_kept_from_the_server(&cancel));
    cancel.close();
    assert_eq!(cancel.outcome().as_deref(), Some("cancel_dropped"));
}

fn finish(mut request: Exchange) {
    request.answer(&Reply::new(200).body("{}")).close();
}

#[test]
fn a_cancel_on_another_worker_names_the_request_as_the_server_knows_it() {
    for host in SHARING {
        let (world, workers) = in_a_shared_session(host);
        for original in ["1", "\"1\"", "1.0", "\"\u{e9}\""] {
            let request = call(&workers[0], original);
            assert_ne!(id(&request).to_string(), original);
            assert_ends(cancel(&workers[1], original), &request);
            finish(request);
        }
        assert_no_offences(&world);
    }
}

#[test]
fn a_cancel_that_could_mean_two_requests_ends_none_until_one_of_them_is_over() {
    for host in SHARING {
        for first_is_over_first in [true, false] {
            let (world, workers) = in_a_shared_session(host);
            let (first, second) = (call(&workers[0], "7"), call(&workers[1], "7"));
            let other = call(&workers[2], "\"7\"");
            for worker in &workers {
                assert_dropped(cancel(worker, "7"));
            }
            assert_ends(cancel(&workers[0], "\"7\""), &other);
            let left = if first_is_over_first {
                finish(first);
                second
            } else {
                finish(second);
                first
            };
            for worker in &workers {
                assert_ends(cancel(worker, "7"), &left);
            }
            finish(left);
            assert_dropped(cancel(&workers[2], "7"));
            assert_no_offences(&world);
        }
    }
}

#[test]
fn a_cancel_of_a_request_that_nobody_made_or_whose_client_left_is_dropped() {
    for host in SHARING {
        let (world, workers) = in_a_shared_session(host);
        assert_dropped(cancel(&workers[0], "7"));
        for answered_in_part in [false, true] {
            let mut request = call(&workers[0], "7");
            if answered_in_part {
                request.answer_headers(
                    &Reply::new(200).header("content-type", "text/event-stream"),
                    false,
                );
                request.answer_body("data: {");
            }
            request.close();
            assert_dropped(cancel(&workers[1], "7"));
        }
        assert_no_offences(&world);
    }
}

#[test]
fn what_a_dead_worker_left_under_way_never_has_a_cancel_end_anothers_request() {
    for host in SHARING {
        let (world, mut workers) = in_a_shared_session(host);
        let lost = call(&workers[2], "7");
        workers.pop().unwrap().die();
        let living = call(&workers[0], "7");
        assert_dropped(cancel(&workers[1], "7"));
        finish(living);
        // It can only be the one that is lost: nobody else's.
        assert_ends(cancel(&workers[1], "7"), &lost);
        // An hour later nobody remembers it.
        world.sleep(std::time::Duration::from_secs(3_601));
        let mut again = knock(&workers[0], "a", "0");
        while !again.is_answered() {
            let (worker, call) = super::crowd::the_call(&workers);
            match call.headers.text(":method").as_str() {
                "DELETE" => worker.answer(&call, Reply::new(200)),
                _ => open(&workers, "s1"),
            }
        }
        again.close();
        assert_dropped(cancel(&workers[1], "7"));
        let living = call(&workers[0], "7");
        assert_ends(cancel(&workers[1], "7"), &living);
        assert_no_offences(&world);
    }
}

#[test]
fn a_cancel_in_pieces_is_dropped_whole_or_goes_on_whole() {
    for host in SHARING {
        let (world, workers) = in_a_shared_session(host);
        for id_is_first in [false, true] {
            let body = if id_is_first {
                r#"{"params":{"requestId":7},"jsonrpc":"2.0","method":"notifications/cancelled"}"#
            } else {
                r#"{"method":"notifications/cancelled","jsonrpc":"2.0","params":{"requestId":7}}"#
            };
            for cut in 0..body.len() {
                for is_clear in [false, true] {
                    let under_way = is_clear.then(|| call(&workers[0], "7"));
                    let head = head("a", "POST").header("mcp-session-id", "s1");
                    let mut cancel = workers[1].request(&head);
                    let (start, end) = body.split_at(cut);
                    cancel.headers().body(start).body(end).end();
                    match under_way {
                        Some(request) => {
                            assert_ends(cancel, &request);
                            finish(request);
                        }
                        None => assert_dropped(cancel),
                    }
                }
            }
        }
        assert_no_offences(&world);
    }
}

#[test]
fn a_cancel_whose_answer_is_on_its_way_gets_no_other() {
    for refusal in [401, 403, 500] {
        let (world, workers) = in_a_shared_session(SHARING[1]);
        let body =
            r#"{"method":"notifications/cancelled","jsonrpc":"2.0","params":{"requestId":7}}"#;
        let mut cancel = workers[1].request(&head("a", "POST").header("mcp-session-id", "s1"));
        cancel.headers().body(&body[..70]);
        cancel.answer_headers(&Reply::new(refusal), false);
        cancel.body(&body[70..]).end();
        cancel.answer_body("no").answer_end();
        assert!(cancel.local_reply().is_none());
        let client = cancel.at_client();
        assert_eq!(client.headers.unwrap().text(":status"), refusal.to_string());
        assert_eq!(client.body, b"no");
        assert_no_offences(&world);
    }
}
