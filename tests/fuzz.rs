//! What has to hold for any input, whoever made it. libFuzzer searches for one for which it does not (`make fuzz`); here
//! it is checked on the seeds, and on seeds that are damaged.
//!
//! This file is a test, and the library of the targets in `fuzz/targets`. A finding becomes a seed.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    missing_docs
)]

#[path = "../src/testing/bodies.rs"]
#[allow(dead_code, reason = "its generators make the bodies of other tests")]
mod bodies;
#[path = "fuzz/config.rs"]
pub mod config;
#[path = "core/driver.rs"]
#[allow(dead_code, reason = "scenarios use all of it")]
mod driver;
#[path = "fuzz/events.rs"]
pub mod events;
#[path = "core/faulty.rs"]
#[allow(dead_code, reason = "here no call goes wrong")]
mod faulty;
#[path = "fuzz/headers.rs"]
pub mod headers;
#[path = "fuzz/ids.rs"]
pub mod ids;
#[path = "fuzz/records.rs"]
pub mod records;
#[path = "fuzz/scanner.rs"]
pub mod scanner;
mod scenario;
#[path = "fuzz/sequences.rs"]
pub mod sequences;
#[path = "core/shared_model.rs"]
mod shared_model;
#[path = "../src/testing.rs"]
mod testing;
#[path = "fuzz/traffic.rs"]
mod traffic;
#[path = "../src/testing/translation.rs"]
mod translation;

#[cfg(test)]
#[path = "fuzz/collections.rs"]
mod collections;
#[cfg(test)]
#[path = "fuzz/seeds.rs"]
mod seeds;
