//! The scanner against `serde_json`, on bodies that are generated and bodies that are broken.
//!
//! The oracle has the whole body at once and reads it with a parser that others wrote. A failing case prints the seed
//! that makes it again.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::indexing_slicing)]

#[path = "../src/testing/bodies.rs"]
mod bodies;

use core::fmt;

use bodies::{Case, Random, damage, list, member, space, string};
use mcp_session_filter::scanner::Kind::{self, Initialize, Other};
use mcp_session_filter::scanner::Scanner;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

const CASES: u64 = 100_000;

#[test]
fn the_verdict_on_generated_bodies_is_the_oracles() {
    let mut initializes = 0;
    for seed in 0..CASES {
        let mut random = Random(seed);
        let case = Case::new(seed, body(&mut random));
        let verdict = verdict_of_any_cut(&case.body, &mut random);
        assert_eq!(Some(verdict), oracle(&case.body));
        initializes += u64::from(verdict == Initialize);
    }
    assert!(
        (CASES / 5..CASES * 4 / 5).contains(&initializes),
        "one-sided: {initializes} of {CASES}"
    );
}

#[test]
fn broken_bodies_get_one_verdict_and_it_is_the_oracles_if_they_are_json_still() {
    let mut readable = 0;
    for seed in CASES..2 * CASES {
        let mut random = Random(seed);
        let mut bytes = body(&mut random);
        for _ in 0..=random.below(3) {
            damage(&mut bytes, &mut random);
        }
        let case = Case::new(seed, bytes);
        let verdict = verdict_of_any_cut(&case.body, &mut random);
        if let Some(expected) = oracle(&case.body) {
            assert_eq!(verdict, expected);
            readable += 1;
        }
    }
    assert!(
        (CASES / 10..CASES * 9 / 10).contains(&readable),
        "one-sided: {readable} of {CASES}"
    );
}

/// Scans whole, byte by byte and in random pieces; all have to agree on the verdict and on the byte that decides.
fn verdict_of_any_cut(body: &[u8], random: &mut Random) -> Kind {
    let mut scanner = Scanner::new();
    let undecided = body
        .iter()
        .take_while(|&&byte| scanner.scan(&[byte]).is_none())
        .count();
    let verdict = scanner.finish();

    let mut pieces = Scanner::new();
    let mut at = 0;
    while at < body.len() {
        let end = body.len().min(at + 1 + random.below(20));
        let early = pieces.scan(&body[at..end]);
        assert_eq!(
            early,
            (end > undecided).then_some(verdict),
            "pieces that end at {end}"
        );
        at = end;
    }
    assert_eq!(pieces.finish(), verdict, "pieces");

    let mut whole = Scanner::new();
    assert_eq!(
        whole.scan(body),
        (undecided < body.len()).then_some(verdict),
        "whole"
    );
    assert_eq!(whole.finish(), verdict, "whole, at its end");
    verdict
}

/// The verdict of a parser that reads everything, or nothing if it refuses the body.
fn oracle(body: &[u8]) -> Option<Kind> {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let kind = match serde_json::from_slice(text).ok()? {
        Value::Object(kind) | Value::Array(Some(kind)) => kind,
        Value::Initialize | Value::Array(None) | Value::Rest => Other,
    };
    Some(kind)
}

/// A JSON value, as far as it matters. (`serde_json::Value` would keep the last of equal keys only.)
enum Value {
    /// The string `initialize`.
    Initialize,
    /// An object, by its first `method`, `result` or `error`.
    Object(Kind),
    /// An array, by its first element if that is an object.
    Array(Option<Kind>),
    /// Anything else.
    Rest,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut decided = None;
        while let Some(key) = members.next_key::<String>()? {
            let kind = match key.as_str() {
                "method" => match members.next_value()? {
                    Value::Initialize => Some(Initialize),
                    Value::Object(_) | Value::Array(_) | Value::Rest => Some(Other),
                },
                "result" | "error" => members.next_value::<IgnoredAny>().map(|_| Some(Other))?,
                _ => members.next_value::<IgnoredAny>().map(|_| None)?,
            };
            decided = decided.or(kind);
        }
        Ok(Value::Object(decided.unwrap_or(Other)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let first = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(match first {
            Some(Value::Object(kind)) => Some(kind),
            Some(Value::Initialize | Value::Array(_) | Value::Rest) | None => None,
        }))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(if text == "initialize" {
            Value::Initialize
        } else {
            Value::Rest
        })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Rest)
    }
}

/// A body that is JSON: mostly one message, else a batch or any value.
fn body(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    if random.one_in(8) {
        text.push('\u{FEFF}');
    }
    space(&mut text, random);
    match random.below(12) {
        0 => value(&mut text, 3, random),
        1 => list(&mut text, "[]", random, message),
        _ => message(&mut text, random),
    }
    space(&mut text, random);
    text.into_bytes()
}

fn message(text: &mut String, random: &mut Random) {
    list(text, "{}", random, |text, random| {
        let key = match random.below(4) {
            0 => "method",
            1 => random.pick(&["result", "error", "methods", "metho", "Method", ""]),
            2 => random.pick(&["id", "m\u{e9}thod", "a long key \"\\"]),
            _ => random.pick(&["id", "params", "jsonrpc"]),
        };
        member(text, key, random, |text, random| {
            if key == "method" && !random.one_in(8) {
                let methods = [
                    "initialize",
                    "initialized",
                    "init",
                    "ping",
                    "",
                    "initialize\0",
                ];
                let method = if random.one_in(4) {
                    random.pick(&methods)
                } else {
                    "initialize"
                };
                string(text, method, random);
            } else {
                value(text, 3, random);
            }
        });
    });
}

fn value(text: &mut String, depth: usize, random: &mut Random) {
    match random.below(if depth == 0 { 5 } else { 7 }) {
        0 => text.push_str(random.pick(&["null", "true", "false"])),
        1 => text.push_str(random.pick(&[
            "0",
            "-1",
            "12.50e+7",
            "1E-9",
            "98765432109876543210987654321098765432109876",
        ])),
        2 => string(
            text,
            random.pick(&["initialize", "method", "{[\"", "]}\\", "\u{1F600}\n\u{7F}"]),
            random,
        ),
        3 => string(
            text,
            random.pick(&["", ",", ":", "\\\"", "\\\\", "\"method\":\"initialize\""]),
            random,
        ),
        4 => string(text, &"\\\"x".repeat(random.below(12)), random),
        5 => list(text, "[]", random, |text, random| {
            value(text, depth - 1, random);
        }),
        _ => list(text, "{}", random, |text, random| {
            let key = random.pick(&["method", "result", "a", "}"]);
            member(text, key, random, |text, random| {
                value(text, depth - 1, random);
            });
        }),
    }
}
