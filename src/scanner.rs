//! Tells an `initialize`, and the `notifications/initialized` behind it, from every other JSON-RPC body while the body streams past.
//!
//! The FIRST top-level `method` decides. The servers' parsers let the last of two equal keys win, but waiting for it
//! would mean holding every body to its end, and a sender of two methods misleads nobody but itself: the verdict only
//! chooses whether its own request gets the id of its own session.
//!
//! A batch is judged by its first element: the specification forbids `initialize` in a batch, and servers that accept
//! one there accept it alone.
//!
//! What decides nothing is skipped, not checked. So a body that is not JSON may get either verdict, but the same one
//! wherever it was cut; servers refuse it, with or without a session.

use crate::json::{Mark, Method, Walk};

/// What a POST body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An `initialize` request.
    Initialize,
    /// A `notifications/initialized`.
    Initialized,
    /// Another message, or not JSON-RPC at all.
    Other,
}

/// Reads one body piece by piece. Its size is fixed: neither a long body nor a deep one makes it grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    walk: Walk,
    verdict: Option<Kind>,
}

impl Scanner {
    /// Stands before the first byte of a body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next piece; `None` asks for more. A verdict stays, whatever comes after it.
    pub fn scan(&mut self, bytes: &[u8]) -> Option<Kind> {
        let mut rest = bytes;
        while self.verdict.is_none() {
            self.verdict = match self.walk.next(&mut rest).1? {
                Mark::Value(_) | Mark::ValueEnd => None,
                Mark::Method(Method::Initialize) => Some(Kind::Initialize),
                Mark::Method(Method::Initialized) => Some(Kind::Initialized),
                // A `result` or `error` makes the message a response, and may be long: no need to see it.
                Mark::Method(Method::Cancelled | Method::Other | Method::NotText)
                | Mark::Answer
                | Mark::MessageEnd
                | Mark::NoMessage
                | Mark::End => Some(Kind::Other),
            };
        }
        self.verdict
    }

    /// The body has ended: what is undecided by now is no `initialize`.
    pub fn finish(&mut self) -> Kind {
        *self.verdict.get_or_insert(Kind::Other)
    }
}

#[cfg(test)]
mod tests;
