//! The scripted server, as the filter's own calls meet it.

use super::calls::HttpCall;
use super::head::Reply;
use super::worker::Worker;
use crate::scenario::tokens::{self, Translated};
use crate::scenario::{Answer, Call};

/// How many calls one step may lead to.
const MOST_CALLS: usize = 64;

pub struct Server {
    workers: Vec<Worker>,
    script: Vec<Answer>,
    /// The calls that were made before.
    before: usize,
}

impl Server {
    pub fn new(workers: &[Worker], calls: &[Call]) -> Self {
        let mut server = Self {
            workers: workers.to_vec(),
            script: calls.iter().map(|call| call.answer.clone()).collect(),
            before: 0,
        };
        server.before = server.calls().len();
        server
    }

    /// The calls of all workers since this script began, in the order in which they were made.
    pub fn calls(&self) -> Vec<HttpCall> {
        let mut calls: Vec<_> = self.workers.iter().flat_map(Worker::calls_made).collect();
        calls.sort_by_key(|call| call.order);
        calls.split_off(self.before)
    }

    /// Answers all calls, and those that the answers lead to. What the script does not know is answered 200.
    ///
    /// # Panics
    /// If there is no end to it.
    pub fn answer_calls(&self) {
        for _ in 0..MOST_CALLS {
            let open = self.workers.iter().flat_map(|worker| {
                let calls = worker.calls().into_iter();
                calls.map(move |call| (worker, call))
            });
            let Some((worker, call)) = open.min_by_key(|(_, call)| call.order) else {
                return;
            };
            let place = self
                .calls()
                .iter()
                .position(|made| made.order == call.order);
            let script = place.and_then(|place| self.script.get(place));
            let seen = tokens::within(&call.body);
            let answer = script.map_or_else(|| Reply::new(200), |answer| reply(answer, &seen));
            worker.answer(&call, answer);
        }
        panic!("the filter makes call after call");
    }
}

/// A scripted answer as the proxy receives it, from a server that saw these ids.
pub fn reply(answer: &Answer, seen: &[Translated]) -> Reply {
    let body = tokens::answered(answer.body.as_deref().unwrap_or_default(), seen);
    let reply = answer
        .headers
        .iter()
        .fold(Reply::new(answer.status), |reply, (name, value)| {
            reply.header(name, value)
        });
    reply
        .header("content-length", body.len().to_string())
        .body(body)
}
