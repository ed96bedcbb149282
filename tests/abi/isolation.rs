//! Random histories of callers at endpoints on two workers, in every mode and with hardly a slot for them: no answer, no
//! session and no JSON-RPC id reaches anybody but the caller whose it is.
//!
//! A history is made from its seed alone: `ISOLATION_SEED=7 cargo test --test abi histories` plays one again, and
//! `ISOLATION_HISTORIES` says how many there are. One that fails is cut short as far as it fails like that, and told.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::attempt::attempt;
use super::crowd::{initialize_of, message};
use super::dice::Dice;
use super::exchange::Exchange;
use super::head::{Head, Headers};
use super::ledger::{Ledger, Party, WHO};
use super::replay;
use super::shared_data::Random;
use super::trace::Trace;
use super::worker::Worker;
use super::world::World;

const HISTORIES: usize = 4_000;
const LONG_HISTORIES: usize = 200_000;
const EVENTS: usize = 160;
/// All that is under way ends within so many looks of half a second: no timeout is longer than a minute.
const PATIENCE: usize = 200;

/// The headers that tell a caller.
type Evidence = &'static [(&'static str, &'static str)];

/// Callers whose evidence looks alike: what they show, and where they come from.
const CALLERS: [(&str, Evidence, [u8; 4]); 6] = [
    ("ann", &[("authorization", "k")], [10, 0, 0, 1]),
    ("bob", &[("x-api-key", "k")], [10, 0, 0, 1]),
    (
        "cid",
        &[("authorization", "k"), ("x-api-key", "k")],
        [10, 0, 0, 1],
    ),
    ("dan", &[("authorization", "kk")], [10, 0, 0, 1]),
    ("eve", &[], [10, 0, 0, 1]),
    ("fay", &[], [10, 0, 0, 2]),
];
const ENDPOINTS: [(&str, &str); 3] = [("a.test", "/mcp"), ("b.test", "/mcp"), ("a.test", "/mcp/b")];
/// Ids that look alike, the same for all.
const IDS: [&str; 6] = ["1", "2", "3", "\"1\"", "\"2\"", "1.0"];
/// Clients of one caller at one endpoint.
const CLIENTS: usize = 2;

#[test]
fn no_history_lets_an_answer_a_session_or_an_id_cross_to_another_caller() {
    play_all(HISTORIES);
}

#[test]
#[ignore = "takes minutes"]
fn no_long_series_of_histories_lets_anything_cross_to_another_caller() {
    play_all(LONG_HISTORIES);
}

fn number_in(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value} is no number")),
    )
}

fn play_all(histories: usize) {
    let only = number_in("ISOLATION_SEED");
    let histories = number_in("ISOLATION_HISTORIES").unwrap_or(histories as u64);
    let (first, end) = only.map_or((1, histories + 1), |seed| (seed, seed + 1));
    let next = AtomicU64::new(first);
    let checked = Checked::default();
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || !failed.lock().expect("no thread panicked").is_empty() {
                        return;
                    }
                    if let Err(what) = attempt(|| History::play(seed, EVENTS, &checked)) {
                        let told = format!("seed {seed}, {}: {what}", shortest(seed));
                        failed.lock().expect("no thread panicked").push(told);
                    }
                }
            });
        }
    });
    println!("{} histories: {checked}", end - first);
    let failed = failed.into_inner().expect("no thread panicked");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(only.is_some() || checked.are_many(), "{checked}");
}

/// A history that fails fails in one of its first events as well.
fn shortest(seed: u64) -> String {
    let fails = |events| attempt(|| History::play(seed, events, &Checked::default())).is_err();
    let (mut well, mut bad) = (0, EVENTS);
    while bad - well > 1 {
        let middle = usize::midpoint(well, bad);
        if fails(middle) {
            bad = middle;
        } else {
            well = middle;
        }
    }
    format!("its first {bad} events")
}

/// What was looked at.
#[derive(Default)]
struct Checked {
    requests: AtomicUsize,
    answers: AtomicUsize,
    sessions: AtomicUsize,
    recovered: AtomicUsize,
    reused: AtomicUsize,
    evicted: AtomicUsize,
}

impl Checked {
    /// Whether the histories did what they are made for.
    fn are_many(&self) -> bool {
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

/// A configuration, and whether the host lets headers wait alone.
fn choose(dice: &mut Dice) -> (String, bool) {
    let mode = ["forward", "forward", "reuse", "queue"][dice.below(4)];
    let hold = mode == "queue" || dice.once_in(2);
    let config = serde_json::json!({
        "paths": ["/mcp*"],
        "on_reinitialize": mode,
        "hold_request_headers": hold,
        "on_session_lost": if dice.once_in(3) { "forget" } else { "recover" },
        "on_missing_session": if dice.once_in(3) { "initialize" } else { "pass" },
        "translate_ids": !dice.once_in(4),
        "session": {"lease": "1s", "queue_timeout": "5s"},
        "memory": {
            "slots": few_or_many(dice),
            "per_caller": few_or_many(dice),
            "bulk_slots": few_or_many(dice),
        },
    });
    (config.to_string(), hold || dice.once_in(2))
}

fn few_or_many(dice: &mut Dice) -> u32 {
    [1, 2, 64][dice.below(3)]
}

/// A client of a caller at an endpoint, and the session that it knows.
struct Client {
    party: Party,
    head: Head,
    session: Option<String>,
    echoes: bool,
}

impl Client {
    fn all(dice: &mut Dice) -> Vec<Self> {
        let mut clients = Vec::new();
        // Few of them: they are to meet.
        let (mut callers, mut endpoints) = (CALLERS.to_vec(), ENDPOINTS.to_vec());
        while callers.len() > 3 {
            callers.swap_remove(dice.below(callers.len()));
        }
        while endpoints.len() > 1 + dice.below(2) {
            endpoints.swap_remove(dice.below(endpoints.len()));
        }
        for (caller, evidence, address) in callers {
            for (authority, path) in &endpoints {
                for _ in 0..CLIENTS {
                    let head = Head::new("POST", path)
                        .authority(authority)
                        .from(address.into())
                        .header(WHO, caller)
                        .header("accept", "application/json, text/event-stream");
                    let head = evidence
                        .iter()
                        .fold(head, |head, (name, value)| head.header(name, value));
                    clients.push(Self {
                        party: Party::of(&head.headers),
                        head,
                        session: None,
                        echoes: dice.once_in(2),
                    });
                }
            }
        }
        clients
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

struct History<'a> {
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
    fn play(seed: u64, events: usize, checked: &'a Checked) {
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
