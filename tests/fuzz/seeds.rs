//! Every seed, and what becomes of seeds that are damaged: what `make fuzz` begins with, without libFuzzer.

use std::fs;
use std::path::Path;

use crate::bodies::{Case, Random, damage};

/// How often each seed is damaged.
const DAMAGES: u64 = 100;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let mut paths: Vec<_> = fs::read_dir(folder.join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 1, "{target} has seeds");
    println!("{target}: {} seeds", paths.len());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn replay(target: &str, check: impl Fn(&[u8])) {
    for seed in seeds(target) {
        check(&Case::new(0, seed.clone()).body);
        for number in 1..=DAMAGES {
            let mut random = Random(number);
            let mut bytes = seed.clone();
            for _ in 0..=random.below(4) {
                damage(&mut bytes, &mut random);
            }
            check(&Case::new(number, bytes).body);
        }
    }
}

/// All texts that differ from one in one byte.
fn with_one_byte_changed(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let places = (0..text.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte)));
    places.map(|(at, byte)| {
        let mut changed = text.to_vec();
        changed[at] = byte;
        changed
    })
}

#[test]
fn a_body_has_one_verdict_wherever_it_is_cut_and_it_is_the_oracles() {
    replay("scanner", crate::scanner::check);
}

#[test]
fn nothing_but_ids_changes_in_a_body_and_all_come_back() {
    replay("ids", crate::ids::check);
}

#[test]
fn an_event_stream_is_read_as_the_obvious_reader_reads_it() {
    replay("events", crate::events::check);
}

#[test]
fn what_is_written_down_is_read_back_or_refused_and_is_nobody_elses() {
    replay("records", crate::records::check);
}

#[test]
fn what_is_written_down_has_no_second_spelling_one_byte_away() {
    let seeds = seeds("records");
    for (number, changed) in (0..).zip(seeds.iter().flat_map(|seed| with_one_byte_changed(seed))) {
        crate::records::check(&Case::new(number, changed).body);
    }
}

#[test]
fn a_configuration_is_within_its_bounds_or_refused_by_an_error_that_names_a_key() {
    replay("config", crate::config::check);
}

#[test]
fn no_header_gives_a_request_another_callers_session_or_changes_what_is_none_of_ours() {
    replay("headers", crate::headers::check);
}

#[test]
fn no_long_sequence_of_events_puts_a_request_into_a_wrong_session() {
    replay("sequences", crate::sequences::check);
}
