//! A scenario step, acted out: the client, the server and the proxy between them, around the filter.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::calls::HttpCall;
use super::exchange::Exchange;
use super::flow::{End, Passed};
use super::head::{Head, Headers, Reply};
use super::image::Image;
use super::vm::Vm;
use super::worker::Worker;
use super::world::{State, World};
use crate::scenario::{self, Scenario, Step};

/// When servers answer the filter's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAnswers {
    /// As soon as they are made.
    AtOnce,
    /// Once the proxy has nothing else to do for the request.
    Late,
}

/// What a scenario leaves open.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How many workers take turns.
    pub workers: usize,
    pub call_answers: CallAnswers,
    /// `allow_on_headers_stop_iteration`; always on where the configuration needs it.
    pub headers_may_wait_alone: bool,
    /// How long the driver waits for a request or an answer that is held.
    pub patience: Duration,
    /// Whether the process sleeps while the clock moves, and its ticks with it.
    pub sleeps: bool,
}

/// What was seen of one step.
#[derive(Debug)]
pub struct Seen {
    pub sent: Headers,
    pub server: Passed,
    pub client: Passed,
    pub calls: Vec<HttpCall>,
    pub outcome: Option<String>,
}

/// The process and the workers that a scenario is replayed on.
pub struct Stage {
    pub world: World,
    pub workers: Vec<Worker>,
    manner: Manner,
    turn: usize,
}

impl Stage {
    pub fn new(scenario: &Scenario, manner: Manner) -> Self {
        let held = scenario.config["hold_request_headers"] == true;
        let may_wait = manner.headers_may_wait_alone || held;
        let start = Start::of(&scenario.config.to_string(), may_wait, manner.workers);
        let world = World::with(start.state.clone());
        let workers = start
            .vms
            .iter()
            .map(|image| world.employ(Vm::of(image, &world)))
            .collect();
        Self {
            world,
            workers,
            manner,
            turn: 0,
        }
    }

    /// Acts all steps out and shows what was seen of each exchange.
    pub fn play(
        &mut self,
        scenario: &Scenario,
        mut look: impl FnMut(&World, usize, &scenario::Exchange, &Seen),
    ) {
        for (n, step) in scenario.steps.iter().enumerate() {
            match step {
                Step::Advance(by) if self.manner.sleeps => self.world.sleep(*by),
                Step::Advance(by) => self.world.advance(*by),
                Step::Exchange(exchange) => {
                    let seen = self.exchange(exchange);
                    look(&self.world, n, exchange, &seen);
                }
            }
        }
    }

    /// Acts one exchange out on the worker whose turn it is.
    pub fn exchange(&mut self, spec: &scenario::Exchange) -> Seen {
        let worker = self.workers[self.turn % self.workers.len()].clone();
        self.turn += 1;
        let mut server = Server {
            worker,
            pings: spec.pings.iter().map(reply).collect(),
        };
        let before = server.worker.calls_made().len();
        let head = head(&spec.request);
        let mut exchange = server.worker.request(&head);
        send(&mut exchange, &spec.request);
        if !exchange.is_sent() {
            self.world.advance(self.manner.patience);
        }
        if exchange.is_sent() {
            self.answer(&mut exchange, &mut server, &reply(&spec.answer));
        }
        exchange.close();
        server.answer_calls();
        let mut calls = server.worker.calls_made();
        Seen {
            sent: head.headers,
            server: exchange.at_server(),
            client: exchange.at_client(),
            calls: calls.split_off(before),
            outcome: exchange.outcome(),
        }
    }

    fn answer(&self, exchange: &mut Exchange, server: &mut Server, reply: &Reply) {
        exchange.answer_headers(reply, reply.body.is_empty());
        if self.manner.call_answers == CallAnswers::AtOnce {
            server.answer_calls();
        }
        if !reply.body.is_empty() {
            exchange.answer_body(&reply.body);
            exchange.answer_end();
        }
        if exchange.answer_waits() {
            server.answer_calls();
        }
        if !exchange.is_answered() {
            self.world.advance(self.manner.patience);
        }
    }
}

/// A process right after its start. Thousands of replays begin like this, so each configuration starts once.
struct Start {
    state: State,
    vms: Vec<Image>,
}

impl Start {
    fn of(config: &str, headers_may_wait_alone: bool, workers: usize) -> Rc<Self> {
        thread_local! {
            static STARTS: RefCell<HashMap<(String, bool, usize), Rc<Start>>> = RefCell::default();
        }
        let known = (config.to_owned(), headers_may_wait_alone, workers);
        if let Some(start) = STARTS.with_borrow(|starts| starts.get(&known).cloned()) {
            return start;
        }
        let world = World::new(config);
        world.state().headers_may_wait_alone = headers_may_wait_alone;
        let vms = (0..workers).map(|_| world.worker().vm().image()).collect();
        let start = Rc::new(Self {
            state: world.state().clone(),
            vms,
        });
        STARTS.with_borrow_mut(|starts| starts.insert(known, start.clone()));
        start
    }
}

/// The scripted server, as the filter's own calls meet it.
struct Server {
    worker: Worker,
    pings: Vec<Reply>,
}

impl Server {
    /// Answers all calls, and those that the answers lead to. What the script does not know is answered 200.
    fn answer_calls(&mut self) {
        for _ in 0..8 {
            let Some(call) = self.worker.calls().first().cloned() else {
                return;
            };
            let answer = if self.pings.is_empty() {
                Reply::new(200)
            } else {
                self.pings.remove(0)
            };
            self.worker.answer(&call, answer);
        }
        panic!("the filter makes call after call");
    }
}

fn send(exchange: &mut Exchange, request: &scenario::Request) {
    let Some(body) = &request.body else {
        exchange.headers_only();
        return;
    };
    exchange.headers();
    for piece in body.chunks(request.cut.unwrap_or(body.len()).max(1)) {
        exchange.body(piece);
    }
    exchange.end();
}

fn head(request: &scenario::Request) -> Head {
    let mut head = Head::new(&request.method, &request.path)
        .authority(&request.authority)
        .from(request.from);
    head = head
        .header("x-forwarded-proto", "http")
        .header("x-request-id", "6f1c7b1e-0000-4000-8000-000000000000");
    if let (Some(body), None) = (&request.body, request.cut) {
        head = head.header("content-length", body.len().to_string());
    }
    request
        .headers
        .iter()
        .fold(head, |head, (name, value)| head.header(name, value))
}

/// A scripted answer as the proxy receives it.
pub fn reply(answer: &scenario::Answer) -> Reply {
    let body = answer.body.clone().unwrap_or_default();
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

/// Panics unless the whole request has reached the server, and the whole answer the client as it was given.
pub fn assert_traffic_passed(spec: &scenario::Exchange, seen: &Seen) {
    let body = spec.request.body.clone().unwrap_or_default();
    assert!(
        seen.server.headers.is_some(),
        "the request did not reach the server"
    );
    assert_eq!(
        seen.server.body.escape_ascii().to_string(),
        body.escape_ascii().to_string(),
        "the body at the server"
    );
    assert_eq!(
        seen.server.end,
        Some(End::Body),
        "the request's end at the server"
    );
    let reply = reply(&spec.answer);
    assert_eq!(
        seen.client.headers.as_ref(),
        Some(&reply.headers),
        "the answer's headers at the client"
    );
    assert_eq!(
        seen.client.body, reply.body,
        "the answer's body at the client"
    );
    assert_eq!(
        seen.client.end,
        Some(End::Body),
        "the answer's end at the client"
    );
}
