//! The core alone: all scenarios, and every short sequence of events, on a platform in memory.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "core/driver.rs"]
mod driver;
#[path = "core/run.rs"]
mod run;
mod scenario;
#[path = "core/sequences.rs"]
mod sequences;
#[path = "../src/testing.rs"]
mod testing;

use scenario::Level;

#[test]
fn every_scenario_holds_in_the_core() {
    let scenarios = scenario::at(Level::Core);
    scenarios.iter().for_each(run::run);
    println!("{} scenarios", scenarios.len());
}
