//! Gives requests JSON-RPC ids of the filter's own on their way to the server, and answers the original ids back.
//!
//! Requests that meet in one session may carry equal ids, and servers route answers by the id alone. So each request
//! goes up with a [`token`] that no other has, and from which any worker can tell the original. Nothing else in a body
//! changes, and of a body that turns out not to be JSON nothing changes from there on.

mod event_stream;
mod incoming;
mod outgoing;
pub mod token;

pub use self::incoming::Incoming;
pub use self::outgoing::{HELD_BYTES, InFlight, Outgoing};

#[cfg(test)]
mod tests;
