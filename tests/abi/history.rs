//! One random history: clients of several callers, whose requests and answers come in pieces and by turns, at a server
//! that knows whose each session is. What crosses to another caller panics.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::cast::{Client, choose};
use super::crowd::{initialize_of, message};
use super::dice::Dice;
use super::exchange::Exchange;
use super::head::Headers;
use super::ledger::{Ledger, Party};
use super::replay;
use super::shared_data::Random;
use super::trace::Trace;
use super::worker::Worker;
use super::world::World;

/// All that is under way ends within so many looks of half a second: no timeout is longer than a minute.
const PATIENCE: usize = 200;

/// Ids that look alike, the same for all.
const IDS: [&str; 6] = ["1", "2", "3", "\"1\"", "\"2\"", "1.0"];
/// What was looked at.
#[derive(Default)]
pub struct Checked {
    requests: AtomicUsize,
    answers: AtomicUsize,
    sessions: AtomicUsize,
    recovered: AtomicUsize,
    reused: AtomicUsize,
    evicted: AtomicUsize,
}

impl Checked {
    /// Whether the histories did what they are made for.
    pub fn are_many(&self) -> bool {
        let all = [
            &self.answers,
            &self.sessions,
            &self.recovered,
            &self.reused,
            &self.evicted,
        ];
        all.into_iter()
            .all(|count| count.load(Ordering::Relaxed) > 100)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} requests at servers, {} answers and {} session ids at clients, none of them another caller's; {} requests \
             recovered, {} sessions reused, {} evicted",
            of(&self.requests),
            of(&self.answers),
            of(&self.sessions),
            of(&self.recovered),
            of(&self.reused),
            of(&self.evicted),
        )
    }
}

/// A request on its way, and its answer.
struct Trip {
    exchange: Exchange,
    kind: Kind,
    id: String,
    mark: String,
    /// Pieces of the request, then of the answer, that have yet to come; the last one first.
    pieces: Vec<Vec<u8>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Open,
    Call,
    Listen,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Stage {
    Headers,
    Body,
    Up,
    AtServer,
    Answer,
    Said,
}

pub struct History<'a> {
    world: World,
    workers: Vec<Worker>,
    dice: Dice,
    ledger: Ledger,
    clients: Vec<Client>,
    trips: Vec<Option<Trip>>,
    /// Whether ids are translated, and what is shared is never forgotten.
    keeps_ids_apart: bool,
    begun: usize,
    checked: &'a Checked,
    trace: Trace,
}

impl<'a> History<'a> {
    /// Plays as many events of the history with this seed, and then lets all end that is under way.
    pub fn play(seed: u64, events: usize, checked: &'a Checked) {
        let mut dice = Dice::new(seed);
        let (config, may_wait) = choose(&mut dice);
        let (world, workers) = replay::process(&config, may_wait, 2);
        world.state().random = Random::new(seed);
        world.state().log_level = 3;
        world.delay_notices();
        let clients = Client::all(&mut dice);
        let mut history = Self {
            trips: clients.iter().map(|_| None).collect(),
            world,
            workers,
            dice,
            ledger: Ledger::default(),
            clients,
            keeps_ids_apart: !config.contains("\"translate_ids\":false")
                && config.matches("slots\":64").count() == 2,
            begun: 0,
            checked,
            trace: Trace::new(format!("seed {seed}, {config}, {may_wait}")),
        };
        for _ in 0..events {
            history.step();
        }
        history.finish();
    }

    /// One event of any kind.
    fn step(&mut self) {
        match self.dice.below(32) {
            0..22 => {
                let client = self.dice.below(self.clients.len());
                match self.trips[client].take() {
                    Some(trip) => self.go_on(client, trip),
                    None => self.begin(client),
                }
            }
            22..28 => self.answer_call(),
            28 => {
                self.world.settle_one();
            }
            29 if self.dice.once_in(3) => {
                self.trace.note("the server loses sessions".to_owned());
                self.ledger.lose(&mut self.dice);
            }
            29 => {}
            _ => {
                let by = self.dice.below(700);
                self.world.advance(Duration::from_millis(by as u64));
            }
        }
    }

    fn begin(&mut self, number: usize) {
        let client = &self.clients[number];
        self.begun += 1;
        let kind = match self.dice.below(16) {
            0..8 if client.session.is_none() => Kind::Open,
            0..2 => Kind::Open,
            2 => Kind::End,
            3 => Kind::Listen,
            _ => Kind::Call,
        };
        let mark = format!("{}/{}", client.party.caller, self.begun);
        let id = IDS[self.dice.below(IDS.len())].to_owned();
        let body = match kind {
            Kind::Open => initialize_of(&client.party.caller, &id),
            Kind::Call => format!(
                r#"{{"method":"tools/call","params":{{"mark":"{mark}"}},"jsonrpc":"2.0","id":{id}}}"#
            ),
            Kind::Listen | Kind::End => String::new(),
        };
        let mut head = client.head.clone();
        let method = ["POST", "POST", "GET", "DELETE"][kind as usize];
        head.headers.set(":method", method.as_bytes());
        if kind != Kind::Open {
            if self.dice.once_in(2) {
                head = head.header("mcp-protocol-version", "2025-06-18");
            }
            let own = client.session.clone().filter(|_| client.echoes);
            let stray = self.dice.once_in(40);
            let anothers = stray.then(|| self.ledger.anothers(&client.party, &mut self.dice));
            if let Some(session) = anothers.flatten() {
                self.ledger.expect_stray(&client.party, &session);
                head = head.header("mcp-session-id", session);
            } else if let Some(session) = own {
                head = head.header("mcp-session-id", session);
            }
        }
        let worker = self.dice.below(self.workers.len());
        let session = head.headers.text("mcp-session-id");
        self.trace.note(format!(
            "{kind:?} {mark} (id {id}, session {session:?}) begins at worker {worker}, {}",
            client.party
        ));
        self.trips[number] = Some(Trip {
            exchange: self.workers[worker].request(&head),
            kind,
            id,
            mark,
            pieces: self.dice.cut(body.as_bytes()),
            stage: Stage::Headers,
        });
    }

    /// The next event of a client's request.
    fn go_on(&mut self, number: usize, mut trip: Trip) {
        if trip.exchange.is_answered() {
            return self.end(number, trip);
        }
        if self.dice.once_in(60) {
            self.trace.note(format!("{} leaves", trip.mark));
            return self.close(trip);
        }
        let exchange = &mut trip.exchange;
        trip.stage = match (trip.stage, trip.pieces.pop()) {
            (Stage::Headers, _) if matches!(trip.kind, Kind::Listen | Kind::End) => {
                exchange.headers_only();
                Stage::Up
            }
            (Stage::Headers, piece) => {
                exchange.headers();
                trip.pieces.extend(piece);
                Stage::Body
            }
            (Stage::Body, Some(piece)) => {
                exchange.body(piece);
                Stage::Body
            }
            (Stage::Body, None) => {
                exchange.end();
                Stage::Up
            }
            (Stage::Up, _) if exchange.is_sent() && !exchange.is_cut_off() => {
                let sent = exchange.at_server();
                let headers = sent.headers.expect("it is sent");
                let events = self.dice.once_in(2);
                let reply = self.ledger.visit(&headers, &sent.body, events);
                let session = headers.text("mcp-session-id");
                self.trace.note(format!(
                    "{} arrives in {session:?}: {}",
                    trip.mark,
                    reply.headers.text(":status")
                ));
                // The last piece is what has the answer's headers go.
                trip.pieces = self.dice.cut(&reply.body);
                exchange.answer_headers(&reply, reply.body.is_empty());
                if reply.body.is_empty() {
                    Stage::Said
                } else {
                    Stage::AtServer
                }
            }
            (Stage::AtServer | Stage::Answer, Some(piece)) => {
                exchange.answer_body(piece);
                Stage::Answer
            }
            (Stage::AtServer | Stage::Answer, None) => {
                exchange.answer_end();
                Stage::Said
            }
            (stage @ (Stage::Up | Stage::Said), _) => stage,
        };
        self.trips[number] = Some(trip);
    }

    /// A client has an answer: it is its own.
    fn end(&mut self, number: usize, trip: Trip) {
        let Client { party, .. } = &self.clients[number];
        let answer = trip.exchange.at_client();
        let headers = answer.headers.expect("an answer");
        let (status, session) = (headers.text(":status"), headers.text("mcp-session-id"));
        let outcome = trip.exchange.outcome().unwrap_or_default();
        self.trace
            .note(format!("{} gets {status} {session} ({outcome})", trip.mark));
        if !session.is_empty() {
            let is_own = self.ledger.belongs(&session, party);
            assert!(is_own, "{party} is told of session {session}");
            count(&self.checked.sessions);
        }
        if let Some(told) = told(&headers, &answer.body) {
            count(&self.checked.answers);
            let id: Value = message(trip.id.as_bytes());
            assert!(
                told["id"] == id || told["id"].is_null(),
                "{}: {told}",
                trip.mark
            );
            let result = &told["result"];
            match trip.kind {
                Kind::Call if status == "200" => {
                    assert_eq!(result["mark"], trip.mark.as_str(), "whose answer it is");
                    assert_eq!(
                        result["caller"],
                        party.caller.as_str(),
                        "whose answer it is"
                    );
                }
                Kind::Open if status == "200" => {
                    assert_eq!(
                        result["serverInfo"]["name"],
                        session.as_str(),
                        "{}",
                        trip.mark
                    );
                }
                _ => {}
            }
        }
        match outcome.as_str() {
            "recovered" => count(&self.checked.recovered),
            "reused" => count(&self.checked.reused),
            _ => {}
        }
        let client = &mut self.clients[number];
        match trip.kind {
            Kind::Open if status == "200" => client.session = Some(session),
            Kind::End => client.session = None,
            _ => {}
        }
        self.close(trip);
    }

    fn close(&mut self, mut trip: Trip) {
        let sent = trip.exchange.at_server();
        if let (Some(headers), true) = (&sent.headers, trip.stage > Stage::Up) {
            self.ledger.leave(headers, &sent.body);
        }
        trip.exchange.close();
    }

    /// One of the filter's own calls is answered.
    fn answer_call(&mut self) {
        let calls = self.workers.iter().flat_map(|worker| {
            let calls = worker.calls().into_iter();
            calls.map(move |call| (worker, call))
        });
        let mut calls: Vec<_> = calls.collect();
        if calls.is_empty() {
            return;
        }
        let (worker, call) = calls.swap_remove(self.dice.below(calls.len()));
        if self.dice.once_in(20) {
            self.trace
                .note("a call of the filter's own is reset".to_owned());
            return worker.reset(&call);
        }
        let reply = self.ledger.visit(&call.headers, &call.body, false);
        self.trace.note(format!(
            "a call {} of {} in {:?}: {}",
            super::crowd::name(&call),
            Party::of(&call.headers),
            call.headers.text("mcp-session-id"),
            reply.headers.text(":status")
        ));
        worker.answer(&call, reply);
        self.ledger.leave(&call.headers, &call.body);
    }

    /// Lets all that is under way end, and looks at what has come about.
    fn finish(mut self) {
        for _ in 0..PATIENCE {
            if self.trips.iter().all(Option::is_none) {
                break;
            }
            for number in 0..self.trips.len() {
                for _ in 0..8 {
                    if let Some(trip) = self.trips[number].take() {
                        self.go_on(number, trip);
                    }
                }
            }
            for _ in 0..8 {
                self.answer_call();
                self.world.settle();
            }
            self.world.advance(Duration::from_millis(500));
        }
        if let Some(trip) = self.trips.iter().flatten().next() {
            panic!("{} hangs", trip.mark);
        }
        assert!(
            !self.keeps_ids_apart || self.ledger.equals == 0,
            "equal ids in a session at once"
        );
        assert_eq!(self.world.offences(), Vec::<String>::new());
        // A client that stalls looks like a host that can't hold headers.
        let mut errors = self.world.errors();
        errors.retain(|line| !line.contains("no body came"));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(self.world.metric("host_error"), 0);
        self.checked
            .requests
            .fetch_add(self.ledger.visits, Ordering::Relaxed);
        let evicted = usize::try_from(self.world.metric("evicted")).expect("few");
        self.checked.evicted.fetch_add(evicted, Ordering::Relaxed);
    }
}

fn count(what: &AtomicUsize) {
    what.fetch_add(1, Ordering::Relaxed);
}

/// The JSON-RPC message in an answer; the last one of a stream.
fn told(headers: &Headers, body: &[u8]) -> Option<Value> {
    let text = String::from_utf8(body.to_vec()).ok()?;
    let text = if headers.text("content-type") == "text/event-stream" {
        text.rsplit_once("data: ")?.1.trim_end().to_owned()
    } else {
        text
    };
    (!text.is_empty()).then(|| message(text.as_bytes()))
}
