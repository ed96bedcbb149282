//! The scripted server, as the filter's own calls meet it.

use super::calls::HttpCall;
use super::head::Reply;
use super::own_calls;
use super::worker::Worker;
use crate::scenario::tokens::{self, Translated};
use crate::scenario::{Answer, Call};

/// How many calls one step may lead to.
const MOST_CALLS: usize = 64;

pub struct Server {
    workers: Vec<Worker>,
    script: Vec<Call>,
    /// The calls that were made before.
    before: usize,
}

impl Server {
    pub fn new(workers: &[Worker], calls: &[Call]) -> Self {
        let mut server = Self {
            workers: workers.to_vec(),
            script: calls.to_vec(),
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

    /// Answers all calls, and those that the answers lead to: the nth of a kind as the script answers the nth of that
    /// kind. What the script does not know is answered 200.
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
            worker.answer(&call, self.answer_to(&call));
        }
        panic!("the filter makes call after call");
    }

    /// The script's answer to a call of this kind: the first one's to the first, and so on.
    fn answer_to(&self, call: &HttpCall) -> Reply {
        let kind = own_calls::shown(call);
        let made = self.calls().into_iter();
        let before = made.filter(|made| made.order < call.order && own_calls::shown(made) == kind);
        let mut of_kind = self
            .script
            .iter()
            .filter(|scripted| (&scripted.method, &scripted.rpc) == (&kind.0, &kind.1));
        let seen = tokens::within(&call.body);
        of_kind.nth(before.count()).map_or_else(
            || Reply::new(200),
            |scripted| reply(&scripted.answer, &seen),
        )
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
