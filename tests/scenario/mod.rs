//! The scenario files of `tests/scenarios`, read strictly: what a file may say, and nothing else.
//!
//! Every level of the tests reads the same files. A header value is text whose characters are bytes (U+0000 to U+00FF,
//! so that `"\u00ff"` is the byte 0xFF); a body is UTF-8. Whatever the reader does not know is a mistake in the file,
//! and the panic names the file and the scenario.
//!
//! A step is `{"advance": "31m"}`, with the `calls` that this leads to if there are any, or an exchange:
//!
//! ```text
//! request   what the client sends: method, path, headers [[name, value]..], body or json, cut, authority, from
//! answer    what the server answers: status, headers, body or json, host (which upstream host that is) and unreachable
//!           (Envoy can't connect to it); null: it never sees the request whole
//! client    what the client gets if that is not the answer as it is: status, headers, body or json
//! upstream  what the server sees of some headers: {name: value, [values] or null for none}
//! calls     the filter's own requests in order, and their answers: rpc, method, headers, answer
//! pings     short for calls whose rpc is "ping": their answers
//! ids       "translated" or "kept": whether the ids of the requests in the body are the filter's at the server
//! outcome   the outcome property; null if the filter leaves the request alone
//! ```
//!
//! Whether ids are translated or not, in every exchange the server gets the body with nothing else changed. It answers
//! with the ids that it saw where the file has the client's, and the client gets what the file has.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod parse;
mod parts;
mod reader;
pub mod replays;
pub mod tokens;
mod verdict;

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use parts::Parts;

/// Header lines in their order, with names in lower case.
pub type HeaderLines = Vec<(String, Vec<u8>)>;

/// The outcomes that a scenario may expect.
pub const OUTCOMES: &[&str] = &[
    "learned",
    "repaired",
    "passed_own_id",
    "passed_no_session",
    "passed_sessionless",
    "passed_initialize",
    "passed_unknown_method",
    "passed_probe",
    "passed_no_caller",
    "passed_no_cluster",
    "passed_timeout",
    "passed_too_large",
    "would_repair",
    "ended",
    "lost",
    "reused",
    "queue_refused",
    "answered_locally",
    "cancel_dropped",
    "client_left",
    "opened",
    "recovered",
    "renewed",
    "recover_failed",
    "version_repaired",
    "reinitialize_repaired",
];

/// How much of the real thing a scenario runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The core as a library, no host.
    Core,
    /// The compiled module and a mock host.
    Abi,
    /// The compiled module in Envoy.
    Envoy,
}

/// One scenario: a configuration and what happens under it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub file: String,
    /// A sentence that can be false.
    pub name: String,
    /// The plugin configuration.
    pub config: Value,
    /// Where the scenario runs.
    pub levels: Vec<Level>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One step of a scenario.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request, its answer, and what must be seen of both.
    Exchange(Box<Exchange>),
    /// The clock moves, and leads to these requests of the filter's own.
    Advance(Duration, Vec<Call>),
}

/// A request and what must become of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the client sends.
    pub request: Request,
    /// What the server must see of some headers of the request.
    pub upstream: Vec<(String, Expected)>,
    /// What the server answers; `None` if the request must not reach it whole, and not at all if headers are held.
    pub answer: Option<Answer>,
    /// What the client gets; the answer as it is if absent.
    pub client: Option<Client>,
    /// The filter's own requests: exactly these must come, in this order, before, during or after the client's.
    pub calls: Vec<Call>,
    /// What must become of the body's JSON-RPC ids; whatever the filter likes if absent.
    pub ids: Option<Ids>,
    /// The outcome property of the request; `None` if the filter leaves it alone.
    pub outcome: Option<String>,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Request {
    /// `:method`
    pub method: String,
    /// `:path`, with the query
    pub path: String,
    /// `:authority`
    pub authority: String,
    /// The client's address.
    pub from: IpAddr,
    /// Everything else, `content-type` included.
    pub headers: HeaderLines,
    /// The body, if there is one.
    pub body: Option<Vec<u8>>,
    /// The size of the pieces that the body arrives in; in one piece if absent.
    pub cut: Option<usize>,
}

/// What a server answers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `:status`
    pub status: u16,
    /// Everything else.
    pub headers: HeaderLines,
    /// The body, if there is one.
    pub body: Option<Vec<u8>>,
    /// The upstream host that gave it, or should have: `ip:port`.
    pub host: Option<String>,
    /// Whether Envoy gave it, as that host could not be connected to.
    pub is_unreachable: bool,
}

/// A request of the filter's own.
#[derive(Clone, Debug)]
pub struct Call {
    /// `:method`
    pub method: String,
    /// The method of its JSON-RPC message; without one it has no body.
    pub rpc: Option<String>,
    /// What the server must see of some of its headers.
    pub headers: Vec<(String, Expected)>,
    /// What the server answers.
    pub answer: Answer,
}

impl Call {
    /// The question whether a session still lives.
    pub const PING: &str = "ping";

    pub fn is_ping(&self) -> bool {
        self.rpc.as_deref() == Some(Self::PING)
    }
}

/// What a client gets.
#[derive(Clone, Debug)]
pub struct Client {
    /// `:status`
    pub status: u16,
    /// All lines of these names; others are free.
    pub headers: Vec<(String, Expected)>,
    /// The body.
    pub body: Body,
}

/// A body to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// No byte.
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// This value, however it is written.
    Json(Value),
}

/// What becomes of the ids of the requests in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Each is replaced by one of the filter's own.
    Translated,
    /// They reach the server as they are.
    Kept,
}

/// What must be seen of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No such line.
    Absent,
    /// Exactly these lines.
    Lines(Vec<Vec<u8>>),
}

/// The scenarios of all files that run at a level.
pub fn at(level: Level) -> Vec<Scenario> {
    all()
        .into_iter()
        .filter(|scenario| scenario.levels.contains(&level))
        .collect()
}

/// The scenarios of all files, in the order of their names. They are compiled in: not every level can read files.
pub fn all() -> Vec<Scenario> {
    let parts = Parts::parse(PARTS);
    let scenarios = |(name, json): &(&str, &[u8])| parse::scenarios(name, json, &parts);
    FILES.iter().flat_map(scenarios).collect()
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../scenarios/", $name, ".json")))),*]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "callers",
    "endings",
    "hold",
    "hosts",
    "learning",
    "lifetimes",
    "missing",
    "observe",
    "queue",
    "recover",
    "repair",
    "reuse",
    "shared",
    "untouched",
];
const PARTS: &[u8] = include_bytes!("../scenarios/parts.json");
