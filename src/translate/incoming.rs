//! Puts the original ids back into messages on their way from the server to the client.
//!
//! An id that is a token is put back, in any message; all others are of the server's own requests, or never were
//! translated.

use std::mem;

use super::event_stream::EventStream;
use super::token;
use crate::json::{Mark, Member, Walk};

/// Rewrites one answer, or one stream of messages, while it streams past. Holds one token at most, until its end.
pub struct Incoming {
    body: Body,
}

enum Body {
    Json(Restore),
    EventStream(EventStream),
}

impl Incoming {
    /// Stands before the first byte of an `application/json` body.
    #[must_use]
    pub fn json() -> Self {
        let body = Body::Json(Restore::default());
        Self { body }
    }

    /// Stands before the first byte of a `text/event-stream` body.
    #[must_use]
    pub fn event_stream() -> Self {
        let body = Body::EventStream(EventStream::default());
        Self { body }
    }

    /// Takes the next piece of the body, and adds to `out` what can go on.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.body {
            Body::Json(message) => message.push(bytes, out),
            Body::EventStream(events) => events.push(bytes, out),
        }
    }

    /// The body has ended: what still waits is not whole, and goes on as it came.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.message().release(out);
    }

    /// How many bytes wait: those of a token that is not over, [`token::MAX_BYTES`] at most.
    #[must_use]
    pub fn held(&mut self) -> usize {
        self.message().held.len()
    }

    /// The next piece of the body with the original ids, and all that waits if it `ended`; nothing if that is just the piece.
    #[must_use]
    pub fn put_back(&mut self, bytes: &[u8], ended: bool) -> Option<Vec<u8>> {
        let waited = self.held() > 0;
        let mut out = Vec::with_capacity(bytes.len());
        self.push(bytes, &mut out);
        if ended {
            self.finish(&mut out);
        }
        let has_changed = mem::take(&mut self.message().has_changed);
        (has_changed || waited || self.held() > 0).then_some(out)
    }

    /// The bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        match &self.body {
            Body::Json(message) => &message.held,
            Body::EventStream(events) => events.waiting(),
        }
    }

    fn message(&mut self) -> &mut Restore {
        match &mut self.body {
            Body::Json(message) => message,
            Body::EventStream(events) => events.data(),
        }
    }
}

/// Rewrites one JSON text: a message or a batch.
#[derive(Default)]
pub(super) struct Restore {
    walk: Walk,
    is_reading: bool,
    /// An id was put back.
    has_changed: bool,
    pub(super) held: Vec<u8>,
}

impl Restore {
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            let (piece, mark) = self.walk.next(&mut rest);
            self.pass(piece, out);
            let Some(mark) = mark else { return };
            match mark {
                Mark::Value(Member::Id) => self.is_reading = true,
                Mark::ValueEnd => self.settle(out),
                Mark::Value(Member::RequestId)
                | Mark::Method(_)
                | Mark::Answer
                | Mark::NoMessage
                | Mark::MessageEnd
                | Mark::End => {}
            }
        }
    }

    /// Another text begins.
    pub(super) fn begin_anew(&mut self) {
        let has_changed = self.has_changed;
        *self = Self {
            has_changed,
            ..Self::default()
        };
    }

    /// Reads a line break that is part of the text, but not of the stream. Nothing may wait at this place.
    pub(super) fn break_line(&mut self) {
        // Even left for a next step it would be mere space.
        self.walk.next(&mut b"\n".as_slice());
    }

    /// Lets go of what waits.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        self.is_reading = false;
        out.append(&mut self.held);
    }

    fn pass(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if !self.is_reading {
            out.extend_from_slice(piece);
            return;
        }
        self.held.extend_from_slice(piece);
        if !token::may_begin(&self.held) {
            self.release(out);
        }
    }

    fn settle(&mut self, out: &mut Vec<u8>) {
        if let Some(original) = token::decode(&self.held) {
            self.held = original;
            self.has_changed = true;
        }
        self.release(out);
    }
}

#[cfg(test)]
mod tests;
