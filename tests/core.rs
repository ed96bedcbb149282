//! The core alone: all scenarios, and every short sequence of events, on a platform in memory.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "abi/attempt.rs"]
mod attempt;
#[path = "core/driver.rs"]
mod driver;
#[path = "core/failures.rs"]
mod failures;
#[path = "core/faulty.rs"]
mod faulty;
#[path = "core/run.rs"]
mod run;
mod scenario;
#[path = "core/sequences.rs"]
mod sequences;
#[path = "core/shared_model.rs"]
mod shared_model;
#[path = "core/sharing.rs"]
mod sharing;
#[path = "../src/testing.rs"]
mod testing;

use std::panic::catch_unwind;

use scenario::{Level, Scenario};

#[test]
fn every_scenario_holds_in_the_core() {
    let scenarios = scenario::at(Level::Core);
    let fails = |scenario: &&Scenario| catch_unwind(|| run::run(scenario)).is_err();
    let failed = scenarios.iter().filter(fails);
    let failed: Vec<_> = failed
        .map(|scenario| format!("{}.json: '{}'", scenario.file, scenario.name))
        .collect();
    assert!(failed.is_empty(), "see above:\n{}", failed.join("\n"));
    println!("{} scenarios", scenarios.len());
}

#[test]
fn no_scenario_file_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let names = paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "parts").collect();
    names.sort();
    let mut read: Vec<String> = scenario::all()
        .into_iter()
        .map(|scenario| scenario.file)
        .collect();
    read.dedup();
    assert_eq!(read, names);
}
