//! The core compiled to wasm32, under Node: all scenarios once more, where `usize` has 32 bits.
#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "core/driver.rs"]
mod driver;
#[path = "core/faulty.rs"]
mod faulty;
#[path = "core/run.rs"]
mod run;
mod scenario;
#[path = "../src/testing.rs"]
mod testing;

use scenario::Level;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
fn every_scenario_holds_in_the_core_as_wasm() {
    scenario::at(Level::Core).iter().for_each(run::run);
}
