//! The scenario files of `tests/scenarios`, read strictly: what a file may say, and nothing else.
//!
//! Every level of the tests reads the same files. A header value is text whose characters are bytes (U+0000 to U+00FF,
//! so that `"\u00ff"` is the byte 0xFF); a body is UTF-8. Whatever the reader does not know is a mistake in the file,
//! and the panic names the file and the scenario.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod parse;
mod parts;
mod reader;

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
    /// The clock moves.
    Advance(Duration),
}

/// A request and what must become of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the client sends.
    pub request: Request,
    /// What the server must see of some headers of the request.
    pub upstream: Vec<(String, Expected)>,
    /// What the server answers.
    pub answer: Answer,
    /// What the server answers to the filter's own pings: exactly so many must come.
    pub pings: Vec<Answer>,
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
#[derive(Clone, Debug)]
pub struct Answer {
    /// `:status`
    pub status: u16,
    /// Everything else.
    pub headers: HeaderLines,
    /// The body, if there is one.
    pub body: Option<Vec<u8>>,
}

/// What the server must see of one header.
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
    "learning",
    "lifetimes",
    "observe",
    "repair",
    "untouched",
];
const PARTS: &[u8] = include_bytes!("../scenarios/parts.json");
