//! How fast bodies are read: the scanner beside `serde_json`'s fastest way to the same answer, and beside `memchr`, which
//! only looks for one byte that is not there.
//!
//! Each round times each of them once, and medians are told. `make bench-scanner` runs it.

use core::fmt;
use core::hint::black_box;
use std::time::Instant;

use mcp_session_filter::scanner::{Kind, Scanner};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

const ROUNDS: usize = 15;
const REPEATS: u32 = 20;
const SIZE: usize = 1 << 20;
/// As Envoy hands a body over.
const PIECE: usize = 16 << 10;

type Reader = (&'static str, fn(&[u8]) -> bool);

/// Whether a body is an `initialize`; of `memchr`, nothing.
const READERS: [Reader; 3] = [
    ("the scanner", by_scanner),
    ("serde_json", by_serde_json),
    ("memchr", by_memchr),
];

fn main() {
    println!(
        "| MB/s, on 1 MiB with method and id last | the scanner | serde_json | memchr | the scanner, of serde_json |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    let bodies = [
        (
            "one long text",
            around(&format!("\"{}\"", "x".repeat(SIZE))),
        ),
        (
            "a text with an escape in each line",
            around(&format!("\"{}\"", repeated(LINE))),
        ),
        (
            "many small values",
            around(&format!("[{}0]", repeated(VALUE))),
        ),
    ];
    for (name, body) in bodies {
        let [scanner, serde_json, memchr] = speeds(body.as_bytes());
        let times = scanner / serde_json;
        println!("| {name} | {scanner:.0} | {serde_json:.0} | {memchr:.0} | {times:.1} times |");
    }
}

const LINE: &str = "a line of a source file, as agents send them to and fro, of usual length\\n";
const VALUE: &str = r#"{"name":"search","score":0.25,"tags":["a","b"],"found":true},"#;

fn repeated(text: &str) -> String {
    text.repeat(SIZE / text.len())
}

fn around(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","params":{{"data":{params}}},"method":"tools/call","id":1}}"#)
}

/// The median speed of each reader, in megabytes a second.
fn speeds(body: &[u8]) -> [f64; 3] {
    let mut seconds = READERS.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((_, read), seconds) in READERS.iter().zip(&mut seconds) {
            let start = Instant::now();
            for _ in 0..REPEATS {
                assert!(!read(black_box(body)), "not an initialize");
            }
            seconds.push(start.elapsed().as_secs_f64() / f64::from(REPEATS));
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let megabytes = body.len() as f64 / 1e6;
    seconds.map(|seconds| megabytes / median(seconds))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.swap_remove(values.len() / 2)
}

fn by_scanner(body: &[u8]) -> bool {
    let mut scanner = Scanner::new();
    let verdict = body.chunks(PIECE).find_map(|piece| scanner.scan(piece));
    verdict.unwrap_or_else(|| scanner.finish()) == Kind::Initialize
}

fn by_memchr(body: &[u8]) -> bool {
    memchr::memchr(0, body).is_some()
}

/// Borrows what it can, builds nothing, and skips what it need not know.
fn by_serde_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IsInitialize>(body).is_ok_and(|found| found.0)
}

struct IsInitialize(bool);

impl<'de> Deserialize<'de> for IsInitialize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Message)
    }
}

struct Message;

impl<'de> Visitor<'de> for Message {
    type Value = IsInitialize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<IsInitialize, A::Error> {
        let mut found = false;
        while let Some(key) = members.next_key::<&str>()? {
            if key == "method" {
                found = members.next_value::<&str>()? == "initialize";
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(IsInitialize(found))
    }
}
