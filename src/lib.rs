//! An Envoy filter that keeps MCP sessions whole: it remembers the session id that a server gave to a caller, and
//! adds it to the caller's later requests that lack it.
//!
//! ```text
//!             callbacks                 events                        verdicts, changes
//!  Envoy ◄──────────────► filter ────────────────► exchange ──────────────────────────► memory
//!             hostcalls    (shell)  ◄──────────────  (core)    recall, change           (shared data)
//!                                       steps
//! ```
//! One way through: request headers, body, verdict, answer headers, change of the memory. The core decides and the
//! shell obeys: only the shell (`filter`, `stream`,
//! `worker`, `metrics`, `host`) can name the host, and it is built for `wasm32-wasip1` alone.
//!
//! | what is it? | where it is decided |
//! | --- | --- |
//! | how the filter is set up | [`config`] |
//! | what a request is, and what becomes of it | [`exchange`], named by [`outcome`] |
//! | whether a body is an `initialize`, and what it says | [`scanner`], [`initialize`] |
//! | which version was agreed on | [`initialize_result`], through [`sse`] |
//! | who sent a request | [`caller`], as a [`digest`] |
//! | what is remembered, and how | [`memory`], in a [`table`] |
//! | who may open a session, and who waits for it | [`seat`], one of the [`seats`] |
//! | which VMs live, and how they are woken | [`roster`] |
//! | for how long a session is in use | [`attendance`] |
//! | what the filter does at a server by itself | [`errand`], by a [`subrequest`] |
//! | what the filter answers by itself | [`reply`] |
//! | how ids of several clients are kept apart | [`ids`], by [`translate`] |
//! | which request a cancel means | [`flights`] |
//! | what a repair changes | [`repair`] |
//! | whether a session lives | [`ping`] |
//! | which replica holds it | [`upstream_host`] |
//! | how long headers wait | [`hold`] |
//! | what the host has to offer | [`platform`] |

extern crate alloc;

pub mod attendance;
pub mod caller;
pub mod config;
pub mod digest;
pub mod endpoints;
pub mod errand;
pub mod exchange;
pub mod flights;
pub mod headers;
pub mod hold;
pub mod ids;
pub mod initialize;
pub mod initialize_result;
pub mod initializes;
mod input;
mod json;
pub mod memory;
pub mod outcome;
pub mod ping;
pub mod platform;
pub mod repair;
pub mod reply;
pub mod roster;
pub mod scanner;
pub mod seat;
pub mod seats;
pub mod session;
pub mod sse;
pub mod subrequest;
pub mod table;
pub mod time;
pub mod translate;
pub mod upstream_host;

#[cfg(target_os = "wasi")]
mod filter;
#[cfg(target_os = "wasi")]
mod host;
#[cfg(target_os = "wasi")]
mod metrics;
#[cfg(target_os = "wasi")]
mod stream;
#[cfg(all(target_os = "wasi", feature = "trap"))]
mod trap;
#[cfg(target_os = "wasi")]
mod worker;

#[cfg(test)]
#[path = "testing/bodies.rs"]
mod bodies;
#[cfg(test)]
mod forms;
#[cfg(test)]
extern crate self as mcp_session_filter;
#[cfg(test)]
mod testing;
#[cfg(test)]
#[path = "testing/translation.rs"]
mod translation;
