//! Random histories of callers at endpoints on two workers, in every mode and with hardly a slot for them: no answer, no
//! session and no JSON-RPC id reaches anybody but the caller whose it is.
//!
//! A history is made from its seed alone: `ISOLATION_SEED=7 cargo test --test abi histories` plays one again, and
//! `ISOLATION_HISTORIES` says how many there are. One that fails is cut short as far as it fails like that, and told.

use std::sync::Mutex;

use super::attempt::attempt;
use super::history::{Checked, History};
use crate::scenario::replays::for_each;

const HISTORIES: usize = 4_000;
const LONG_HISTORIES: usize = 200_000;
const EVENTS: usize = 160;

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
    let seeds: Vec<u64> = (first..end).collect();
    let checked = Checked::default();
    let failed = Mutex::new(Vec::new());
    for_each(&seeds, |seed| {
        if !failed.lock().expect("no thread panicked").is_empty() {
            return;
        }
        if let Err(what) = attempt(|| History::play(*seed, EVENTS, &checked)) {
            let told = format!("seed {seed}, {}: {what}", shortest(*seed));
            failed.lock().expect("no thread panicked").push(told);
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
