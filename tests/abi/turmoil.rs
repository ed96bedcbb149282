//! All that can happen between sixteen clients, two workers and a server that dies again and again, in any order.

use std::collections::BTreeSet;
use std::time::Duration;

use super::callers::{CLIENTS, Client, Group, Kind, clients};
use super::crowd::assert_no_offences;
use super::dice::Dice;
use super::errands::{self, Errands};
use super::journey::Journey;
use super::mortal::{Health, Holds, Mortal};
use super::shared_data::Random;
use super::trace::Trace;
use super::worker::Worker;
use super::world::{World, nanoseconds};

const WORKERS: usize = 2;
/// In so many events every client gets an answer, and in so many all that is under way ends.
const PATIENCE: usize = 40_000;
/// The same where they take turns.
const LONG_PATIENCE: usize = 400_000;
/// How many chances to send something a client lets pass, so that its lease may end.
const REST: usize = 100;
/// After a session could not be opened, for so long clients may get the server's refusals.
const BACKOFF: Duration = Duration::from_millis(1_001);
/// So long a server is silent: that is nothing, too long for a ping, too long for anything.
const SILENCES: [u64; 3] = [1, 7, 70];

pub struct Turmoil {
    pub world: World,
    workers: Vec<Worker>,
    dice: Dice,
    server: Mortal,
    holds: Holds,
    clients: Vec<Client>,
    groups: Vec<Group>,
    journeys: Vec<Option<Journey>>,
    errands: Errands,
    /// How many sessions may be opened in this life of the server.
    openings: usize,
    /// How often the server has been out of reach.
    troubles: usize,
    /// Until when it is silent.
    silent: u64,
    /// Whether nobody begins anything more.
    is_ending: bool,
    begun: usize,
    /// How many have left: what they asked for may still arrive, so nobody sends the same id again.
    left: usize,
    /// How many calls of each client were answered in this life of the server.
    answered: Vec<usize>,
    trace: Trace,
}

impl Turmoil {
    /// The server answers so in a session that it does not know.
    pub fn new(config: &str, unknown: u16, holds: Holds, seed: u64) -> Self {
        let world = World::new(config);
        world.state().random = Random::new(seed);
        world.state().log_level = 3;
        let workers = (0..WORKERS).map(|_| world.worker()).collect();
        world.delay_notices();
        Self {
            world,
            workers,
            dice: Dice::new(seed),
            server: Mortal::new(unknown, holds),
            holds,
            clients: clients(),
            groups: (0..CLIENTS).map(|_| Group::default()).collect(),
            journeys: (0..CLIENTS).map(|_| None).collect(),
            errands: Errands::default(),
            openings: 0,
            troubles: 0,
            silent: 0,
            is_ending: false,
            begun: 0,
            left: 0,
            answered: vec![0; CLIENTS],
            trace: Trace::new(format!("{config}, {unknown}, seed {seed}")),
        }
    }

    /// One event of any kind.
    fn step(&mut self) {
        match self.dice.below(16) {
            0..9 => {
                let client = self.dice.below(CLIENTS);
                match self.journeys[client].take() {
                    Some(journey) => self.journeys[client] = self.go_on(client, journey),
                    None if self.is_ending => {}
                    // Who never rests makes no room for others.
                    None if self.holds == Holds::One && !self.dice.once_in(REST) => {}
                    None => self.begin(client),
                }
            }
            9..13 => {
                let Self {
                    errands, workers, ..
                } = self;
                errands.step(workers, &mut self.server, &mut self.dice, &mut self.trace);
            }
            13 | 14 => {
                self.world.settle_one();
            }
            _ => self.wait(),
        }
    }

    fn now(&self) -> u64 {
        self.world.state().now
    }

    fn wait(&mut self) {
        let is_silent = self.server.health == Health::Silent;
        let most = if is_silent {
            // A client that stalled for so long amid its request would go without a session.
            for journey in self.journeys.iter_mut().flatten() {
                while journey.is_being_sent() {
                    journey.step(&mut self.server, &mut self.dice);
                }
            }
            1_000
        } else {
            100
        };
        let by = Duration::from_millis(self.dice.below(most) as u64);
        self.world.advance(by);
        if is_silent && self.now() >= self.silent {
            self.trace.note("the server speaks again".to_owned());
            self.server.health = Health::Well;
        } else if self.server.health == Health::Well && self.dice.once_in(300) {
            let seconds = SILENCES[self.dice.below(SILENCES.len())];
            self.trace
                .note(format!("the server is silent for {seconds} s"));
            self.silent = self.now() + nanoseconds(Duration::from_secs(seconds));
            self.troubles += 1;
            self.server.health = Health::Silent;
        }
    }

    fn begin(&mut self, number: usize) {
        let client = &self.clients[number];
        let group = &self.groups[client.group];
        self.begun += 1;
        let Some(request) = client.next(group, self.begun, self.left, &mut self.dice) else {
            return;
        };
        let worker = self.dice.below(WORKERS);
        self.trace
            .note(format!("{request} begins at worker {worker}"));
        self.openings += usize::from(request.kind == Kind::Open);
        let worker = &self.workers[worker];
        let journey = Journey::new(request, worker, self.troubles, &mut self.dice);
        self.journeys[number] = Some(journey);
    }

    /// The next event of a client's request.
    fn go_on(&mut self, number: usize, mut journey: Journey) -> Option<Journey> {
        if journey.request.kind == Kind::End {
            // However it is answered.
            self.groups[self.clients[number].group] = Group::default();
        }
        if journey.exchange.is_answered() {
            self.end(number, journey);
            return None;
        }
        if self.dice.once_in(2_000) {
            self.trace.note(format!("{} leaves", journey.request));
            journey.close(&mut self.server);
            self.left += 1;
            self.errands.forget_gone(&self.workers, &mut self.server);
            return None;
        }
        if let Some(what) = journey.step(&mut self.server, &mut self.dice) {
            self.trace.note(format!("{} {what}", journey.request));
        }
        (!journey.is_broken()).then_some(journey)
    }

    /// A client has an answer.
    fn end(&mut self, number: usize, journey: Journey) {
        let client = &self.clients[number];
        let (request, exchange) = (&journey.request, &journey.exchange);
        let headers = exchange.at_client().headers.expect("an answer");
        self.trace
            .note(format!("{request} gets {}", headers.text(":status")));
        let succeeded = request.succeeded(exchange, client.caller, &self.server);
        let failed = self.errands.failed.get(client.caller);
        // To listen is no reason to end another's session.
        let has_no_turn = self.holds == Holds::One && request.kind == Kind::Listen;
        let is_excused = journey.is_cut
            || has_no_turn
            || journey.troubles != self.troubles
            || failed.is_some_and(|at| journey.began <= at + nanoseconds(BACKOFF));
        let outcome = exchange.outcome();
        assert!(succeeded || is_excused, "{request} fails: {outcome:?}");
        let group = &mut self.groups[client.group];
        match request.kind {
            Kind::Open if succeeded => group.session = Some(headers.text("mcp-session-id")),
            Kind::Ready => group.is_ready = succeeded,
            Kind::Call => self.answered[number] += usize::from(succeeded),
            Kind::Open | Kind::Listen | Kind::End => {}
        }
        journey.close(&mut self.server);
    }

    /// The server dies with all that is under way to it, and after a while it begins anew.
    pub fn die(&mut self) {
        self.trace.note("the server dies".to_owned());
        if self.holds != Holds::One {
            let opened = &self.server.openings;
            let names: BTreeSet<_> = opened.iter().collect();
            assert_eq!(names.len(), opened.len(), "opened once each: {opened:?}");
            let most = self.openings;
            assert!(opened.len() <= most, "{most} may be opened: {opened:?}");
        }
        self.troubles += 1;
        self.server.die();
        for journey in self.journeys.iter_mut().flatten() {
            journey.lose_server(&mut self.dice);
        }
        self.errands.lose_server(&self.workers, &mut self.dice);
        // What clients know of can have been lost, and whoever opens one may get it in the next life.
        let known = self
            .groups
            .iter()
            .filter_map(|group| group.session.as_ref());
        let known: BTreeSet<_> = known.collect();
        let journeys = self.journeys.iter().flatten();
        let opens = journeys.filter(|journey| journey.request.kind == Kind::Open);
        self.openings = known.len() + opens.count();
        for _ in 0..self.dice.below(100) {
            self.step();
        }
        self.trace.note("the server begins".to_owned());
        self.server.health = Health::Well;
        self.answered = vec![0; CLIENTS];
    }

    /// Every other life of the server lasts until each client has an answer; the others end at any time.
    pub fn live(&mut self) {
        let patience = self.patience();
        let most = if self.dice.once_in(2) {
            self.dice.below(patience / 100)
        } else {
            patience
        };
        for _ in 0..most {
            if self.answered.iter().all(|answered| *answered > 0) {
                return;
            }
            self.step();
        }
        assert!(most < patience, "answered: {:?}", self.answered);
    }

    fn patience(&self) -> usize {
        match self.holds {
            Holds::Many | Holds::OneOfEachCaller => PATIENCE,
            Holds::One => LONG_PATIENCE,
        }
    }

    /// Lets all that is under way end.
    pub fn finish(mut self) {
        self.is_ending = true;
        for _ in 0..self.patience() {
            if self.journeys.iter().all(Option::is_none) && errands::count(&self.workers) == 0 {
                break;
            }
            self.step();
        }
        if let Some(journey) = self.journeys.iter().flatten().next() {
            panic!("{} hangs", journey.request);
        }
        let errands = errands::count(&self.workers);
        assert_eq!(errands, 0, "calls of the filter's own hang");
        self.world.settle();
        let lengths = self.world.state().queues.lengths();
        assert!(
            lengths.iter().all(|(_, length)| *length == 0),
            "{lengths:?}"
        );
        assert_no_offences(&self.world);
        assert_eq!(self.world.errors(), Vec::<String>::new());
        assert_eq!(self.world.metric("host_error"), 0);
    }
}
