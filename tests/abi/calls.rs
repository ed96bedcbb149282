//! The HTTP calls that the filter makes by itself.

use std::time::Duration;

use super::head::Headers;

/// A call under way.
#[derive(Clone, Debug)]
pub struct HttpCall {
    pub token: u32,
    /// Which call it is of all that the process has made.
    pub order: u64,
    /// The context that made it, be it the root context; the call is dropped when that context goes.
    pub context: u32,
    pub cluster: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub timeout: Duration,
}
