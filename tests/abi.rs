//! The shipped module, run through the proxy-wasm ABI (0.2.1) in a mock host that can make any hostcall fail.
//!
//! The mock host does what Envoy 1.40 was seen to do, its traps included; `abi/` has one idea per file, from the
//! host's state (`world`, `flow`) over the module and its imports to the driver (`worker`, `exchange`) and the tests.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod abi {
    pub mod attempt;
    pub mod bodies;
    pub mod callers;
    pub mod calls;
    pub mod cast;
    pub mod client;
    pub mod cost;
    pub mod crowd;
    pub mod deferred;
    pub mod dice;
    pub mod errands;
    pub mod exchange;
    pub mod faults;
    pub mod flow;
    pub mod given;
    pub mod guest;
    pub mod head;
    pub mod header_maps;
    pub mod history;
    pub mod host;
    pub mod image;
    pub mod imports;
    pub mod journey;
    pub mod ledger;
    pub mod length;
    pub mod local_reply;
    pub mod module;
    pub mod mortal;
    pub mod own_calls;
    pub mod passage;
    pub mod queue_calls;
    pub mod queues;
    pub mod replay;
    pub mod scripted;
    pub mod shared_data;
    pub mod status;
    pub mod stream;
    pub mod sweep;
    pub mod trace;
    pub mod turmoil;
    pub mod vm;
    pub mod wasi;
    pub mod worker;
    pub mod world;

    mod answers;
    mod budget;
    mod cancel;
    mod failures;
    mod forgotten;
    mod framing;
    mod holding;
    mod isolation;
    mod line;
    mod missing;
    mod mixing;
    mod process;
    mod queue;
    mod recovery;
    mod restarts;
    mod reuse;
    mod scenarios;
    mod startup;
    mod traffic;
    mod waiting;
}
mod scenario;
