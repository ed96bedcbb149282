//! The scanner against `serde_json`, on bodies that are generated and bodies that are broken.
//!
//! The oracle has the whole body at once and reads it with a parser that others wrote. A failing case prints the seed
//! that makes it again.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::indexing_slicing)]

#[path = "../src/testing/bodies.rs"]
mod bodies;
#[path = "fuzz/scanner.rs"]
#[allow(dead_code, reason = "here bodies are made, not given")]
mod scanner;

use bodies::{Case, Random, damage, list, member, space, string};
use mcp_session_filter::scanner::Kind::Initialize;
use scanner::{oracle, verdict_of_any_cut};

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
