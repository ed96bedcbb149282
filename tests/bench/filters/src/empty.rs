//! What any filter on the Rust SDK costs: all callbacks are there, and none does anything.

use proxy_wasm::traits::{Context, HttpContext};

pub struct Empty;

impl Context for Empty {}

impl HttpContext for Empty {}
