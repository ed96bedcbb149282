//! A scenario step, acted out: the client, the server and the proxy between them, around the filter.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::calls::HttpCall;
use super::exchange::Exchange;
use super::faults::Faults;
use super::flow::Passed;
use super::head::{Head, Headers, Reply};
use super::image::Image;
use super::scripted::{Server, reply};
use super::vm::Vm;
use super::worker::Worker;
use super::world::{State, World};
use crate::scenario::tokens::{self, Translated};
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

/// How often the driver waits for something that is held.
const MOST_WAITS: usize = 8;

/// What was seen of one exchange.
#[derive(Debug)]
pub struct Seen {
    /// Whether the configuration holds headers.
    pub headers_held: bool,
    pub sent: Headers,
    pub server: Passed,
    pub upstream_reset: bool,
    /// The ids in the body that reached the server as others.
    pub translated: Vec<Translated>,
    /// What the server answered, with the ids that the client sent; nothing if it did not see the request whole.
    pub answer: Option<Reply>,
    pub client: Passed,
    pub answered_locally: bool,
    pub calls: Vec<HttpCall>,
    pub outcome: Option<String>,
}

/// One step, acted out.
#[derive(Clone, Copy)]
pub enum Sight<'a> {
    Exchange(&'a scenario::Exchange, &'a Seen),
    /// The clock has moved: the calls that should have been made, and those that were.
    Advance(&'a [scenario::Call], &'a [HttpCall]),
}

/// The process and the workers that a scenario is replayed on.
pub struct Stage {
    pub world: World,
    pub workers: Vec<Worker>,
    manner: Manner,
    headers_held: bool,
    turn: usize,
}

/// A stage between two steps, to be had again.
pub struct Scene {
    state: State,
    vms: Vec<Image>,
    manner: Manner,
    headers_held: bool,
    turn: usize,
}

impl Stage {
    pub fn new(scenario: &Scenario, manner: Manner) -> Self {
        let held = scenario.config["hold_request_headers"] == true;
        let may_wait = manner.headers_may_wait_alone || held;
        let config = scenario.config.to_string();
        let (world, workers) = process(&config, may_wait, manner.workers);
        Self {
            world,
            workers,
            manner,
            headers_held: held,
            turn: 0,
        }
    }

    /// The stage as it is now; nothing if something is under way. What was logged and recorded is left out.
    pub fn scene(&self) -> Option<Scene> {
        let images = self.workers.iter().map(|worker| worker.vm().image());
        let vms = images.collect::<Option<Vec<_>>>()?;
        let mut state = self.world.state().clone();
        state.log.clear();
        state.faults = Faults::default();
        Some(Scene {
            state,
            vms,
            manner: self.manner,
            headers_held: self.headers_held,
            turn: self.turn,
        })
    }

    /// A stage as it was then.
    pub fn again(scene: &Scene) -> Self {
        let (world, workers) = employ(&scene.state, &scene.vms);
        Self {
            world,
            workers,
            manner: scene.manner,
            headers_held: scene.headers_held,
            turn: scene.turn,
        }
    }

    /// Acts all steps out and shows each.
    pub fn play(&mut self, scenario: &Scenario, mut look: impl FnMut(&World, usize, Sight<'_>)) {
        for (n, step) in scenario.steps.iter().enumerate() {
            self.step(step, |world, sight| look(world, n, sight));
        }
    }

    /// Acts one step out and shows it.
    pub fn step(&mut self, step: &Step, look: impl FnOnce(&World, Sight<'_>)) {
        match step {
            Step::Advance(by, calls) => {
                let made = self.advance(*by, calls);
                look(&self.world, Sight::Advance(calls, &made));
            }
            Step::Exchange(exchange) => {
                // No exchange begins in the same moment as the one before it.
                self.world.advance(Duration::from_millis(1));
                let seen = self.exchange(exchange);
                look(&self.world, Sight::Exchange(exchange, &seen));
            }
        }
    }

    fn advance(&self, by: Duration, calls: &[scenario::Call]) -> Vec<HttpCall> {
        let server = Server::new(&self.workers, calls);
        if self.manner.sleeps {
            self.world.sleep(by);
        } else {
            self.world.advance_and(by, || self.at_once(&server));
        }
        server.answer_calls();
        server.calls()
    }

    /// Acts one exchange out on the worker whose turn it is.
    pub fn exchange(&mut self, spec: &scenario::Exchange) -> Seen {
        let worker = self.workers[self.turn % self.workers.len()].clone();
        self.turn += 1;
        let server = Server::new(&self.workers, &spec.calls);
        let head = with_answer(head(&spec.request), spec.answer.as_ref());
        let mut exchange = worker.request(&head);
        self.send(&mut exchange, &spec.request, &server);
        let goes_on = |exchange: &Exchange| exchange.is_sent() || exchange.is_answered();
        self.wait_for(&exchange, &server, goes_on);

        let body = spec.request.body.as_deref().unwrap_or_default();
        let translated = tokens::between(body, &exchange.at_server().body).unwrap_or_default();
        let mut answer = None;
        if exchange.is_sent() && !exchange.is_cut_off() {
            let scripted = |seen: &[Translated]| match &spec.answer {
                Some(answer) => reply(answer, seen),
                // Something has gone wrong.
                None => Reply::new(500),
            };
            self.answer(&mut exchange, &server, &scripted(&translated));
            answer = Some(scripted(&[]));
        }
        exchange.close();
        server.answer_calls();
        Seen {
            headers_held: self.headers_held,
            sent: head.headers,
            server: exchange.at_server(),
            upstream_reset: exchange.upstream_was_reset(),
            translated,
            answer,
            client: exchange.at_client(),
            answered_locally: exchange.local_reply().is_some(),
            calls: server.calls(),
            outcome: exchange.outcome(),
        }
    }

    fn send(&self, exchange: &mut Exchange, request: &scenario::Request, server: &Server) {
        let Some(body) = &request.body else {
            exchange.headers_only();
            return;
        };
        exchange.headers();
        for piece in body.chunks(request.cut.unwrap_or(body.len()).max(1)) {
            self.at_once(server);
            exchange.body(piece);
        }
        self.at_once(server);
        exchange.end();
    }

    fn answer(&self, exchange: &mut Exchange, server: &Server, reply: &Reply) {
        exchange.answer_headers(reply, reply.body.is_empty());
        self.at_once(server);
        if !reply.body.is_empty() {
            exchange.answer_body(&reply.body);
            exchange.answer_end();
        }
        self.wait_for(exchange, server, Exchange::is_answered);
    }

    fn at_once(&self, server: &Server) {
        if self.manner.call_answers == CallAnswers::AtOnce {
            server.answer_calls();
        }
    }

    /// What is held waits for the filter's own calls, or for the clock.
    fn wait_for(&self, exchange: &Exchange, server: &Server, is_there: impl Fn(&Exchange) -> bool) {
        for _ in 0..MOST_WAITS {
            if !is_there(exchange) {
                server.answer_calls();
            }
            if is_there(exchange) || self.manner.patience.is_zero() {
                return;
            }
            self.world.advance(self.manner.patience);
        }
    }
}

/// A process that has just started.
pub fn process(config: &str, headers_may_wait_alone: bool, workers: usize) -> (World, Vec<Worker>) {
    let start = Start::of(config, headers_may_wait_alone, workers);
    employ(&start.state, &start.vms)
}

fn employ(state: &State, vms: &[Image]) -> (World, Vec<Worker>) {
    let world = World::with(state.clone());
    let employ = |image| world.employ(Vm::of(image, &world));
    let workers = vms.iter().map(employ).collect();
    (world, workers)
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
        let started = (0..workers).map(|_| world.worker().vm().image());
        let vms = started.map(|image| image.expect("nothing is under way"));
        let vms = vms.collect();
        let start = Rc::new(Self {
            state: world.state().clone(),
            vms,
        });
        STARTS.with_borrow_mut(|starts| starts.insert(known, start.clone()));
        start
    }
}

/// What Envoy knows of the answer once it is there.
fn with_answer(head: Head, answer: Option<&scenario::Answer>) -> Head {
    let Some(answer) = answer else { return head };
    let head = match &answer.host {
        Some(host) => head.property(&["upstream", "address"], host.as_bytes()),
        None => head,
    };
    let flags: u64 = if answer.is_unreachable { 0x20 } else { 0 };
    head.property(&["response", "flags"], &flags.to_le_bytes())
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
