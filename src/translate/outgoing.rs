//! Puts tokens for the ids of requests on their way from the client to the server.
//!
//! A message is a request if it has a `method` that is a string; one with a `result` or `error` is the client's answer
//! to a request of the server, and keeps its id. The FIRST of these keys decides, so that nothing waits for the end of
//! a long message. Where an id stands twice both are translated: whichever the server takes is ours.
//!
//! An id that comes before the message is known waits for that, with all that follows it. What waited too long goes on
//! as it came. Such an id never meets a token, but it can meet another id that was not translated.

use core::mem;

use super::token;
use crate::json::{Mark, Member, Method, Walk};

/// How much of a message may wait until it is known what it is, in bytes.
pub const HELD_BYTES: usize = 64 * 1024;

/// The requests of a session that are under way, as far as the caller of [`Outgoing::push`] remembers them.
pub trait InFlight {
    /// A request goes up with `token` in place of the id `original`, both JSON text.
    fn begun(&mut self, original: &[u8], token: &[u8]);

    /// The token of the request that a `notifications/cancelled` means by `original`, if it is clear which one.
    fn token_of(&mut self, original: &[u8]) -> Option<Vec<u8>>;
}

/// Rewrites one body while it streams past.
///
/// It keeps what waits ([`HELD_BYTES`], or one id of [`token::MAX_ORIGINAL_BYTES`] in a message that is known), and
/// where the ids in it are.
pub struct Outgoing {
    walk: Walk,
    /// Of the message that the walk is in.
    nonce: u64,
    kind: Kind,
    held: Held,
    /// A token was put in.
    has_changed: bool,
    has_unknown_cancel: bool,
}

/// What a message is, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unknown {
        /// A `requestId` could not wait any longer.
        request_id_gone: bool,
    },
    Request,
    /// A `notifications/cancelled`.
    Cancel,
    Answer,
}

/// Bytes that wait.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    values: Vec<Value>,
    /// The value that is being read, and where it starts.
    open: Option<(Member, usize)>,
}

/// A value in the bytes that wait.
struct Value {
    member: Member,
    start: usize,
    end: usize,
}

impl Outgoing {
    /// Stands before the first byte of a body. Message n of a batch gets the n-th nonce from this one on: draw it at
    /// random, so that no client can guess the token of another.
    #[must_use]
    pub fn new(nonce: u64) -> Self {
        Self {
            walk: Walk::new(),
            nonce,
            kind: Kind::UNREAD,
            held: Held::default(),
            has_changed: false,
            has_unknown_cancel: false,
        }
    }

    /// Takes the next piece of the body, and adds to `out` what can go on.
    pub fn push(&mut self, bytes: &[u8], in_flight: &mut impl InFlight, out: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            let (piece, mark) = self.walk.next(&mut rest);
            self.pass(piece, out);
            let Some(mark) = mark else { return };
            match mark {
                Mark::Value(member) if self.kind.concerns(member) => self.held.begin(member),
                Mark::Value(_) | Mark::Method(Method::NotText) | Mark::NoMessage => {}
                Mark::ValueEnd => {
                    self.held.end();
                    self.settle(in_flight, out);
                }
                Mark::Method(Method::Cancelled) => self.decide(Kind::Cancel, in_flight, out),
                Mark::Method(Method::Initialize | Method::Initialized | Method::Other) => {
                    self.decide(Kind::Request, in_flight, out);
                }
                Mark::Answer => self.decide(Kind::Answer, in_flight, out),
                Mark::MessageEnd => {
                    self.release(out);
                    self.kind = Kind::UNREAD;
                    self.nonce = self.nonce.wrapping_add(1);
                }
                Mark::End => self.release(out),
            }
        }
    }

    /// The body has ended: what still waits is not whole, and goes on as it came.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(out);
    }

    /// Whether a token was put in since this was last asked.
    pub fn take_change(&mut self) -> bool {
        mem::take(&mut self.has_changed)
    }

    /// How many bytes wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.bytes.len()
    }

    /// The bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        &self.held.bytes
    }

    /// Whether a `notifications/cancelled` went on with a `requestId` that is no token.
    #[must_use]
    pub fn has_unknown_cancel(&self) -> bool {
        self.has_unknown_cancel
    }

    /// Whether the body is a batch.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.walk.is_in_batch()
    }

    fn pass(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let bound = match self.kind {
            Kind::Unknown { .. } => HELD_BYTES,
            Kind::Request | Kind::Cancel | Kind::Answer => token::MAX_ORIGINAL_BYTES,
        };
        if self.held.is_waiting() && self.held.bytes.len().saturating_add(piece.len()) <= bound {
            self.held.bytes.extend_from_slice(piece);
        } else {
            self.release(out);
            out.extend_from_slice(piece);
        }
    }

    fn decide(&mut self, kind: Kind, in_flight: &mut impl InFlight, out: &mut Vec<u8>) {
        if let Kind::Unknown { request_id_gone } = self.kind {
            self.has_unknown_cancel |= request_id_gone && kind == Kind::Cancel;
            self.kind = kind;
            self.settle(in_flight, out);
        }
    }

    /// Lets go of what waits for nothing more, translated.
    fn settle(&mut self, in_flight: &mut impl InFlight, out: &mut Vec<u8>) {
        if matches!(self.kind, Kind::Unknown { .. }) {
            return;
        }
        let Held { bytes, values, .. } = mem::take(&mut self.held);
        let mut from = 0;
        for Value { member, start, end } in values {
            let original = bytes.get(start..end).unwrap_or_default();
            if let Some(token) = self.translate(member, original, in_flight) {
                out.extend_from_slice(bytes.get(from..start).unwrap_or_default());
                out.extend_from_slice(&token);
                from = end;
                self.has_changed = true;
            }
        }
        out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    }

    fn translate(
        &mut self,
        member: Member,
        original: &[u8],
        in_flight: &mut impl InFlight,
    ) -> Option<Vec<u8>> {
        match (self.kind, member) {
            (Kind::Request | Kind::Cancel, Member::Id) => {
                let token = token::encode(self.nonce, original)?;
                in_flight.begun(original, &token);
                Some(token)
            }
            (Kind::Cancel, Member::RequestId) => {
                let token = in_flight.token_of(original);
                self.has_unknown_cancel |= token.is_none();
                token
            }
            (Kind::Unknown { .. } | Kind::Answer, _) | (Kind::Request, Member::RequestId) => None,
        }
    }

    /// Lets go of all that waits, as it came.
    fn release(&mut self, out: &mut Vec<u8>) {
        let held = mem::take(&mut self.held);
        out.extend_from_slice(&held.bytes);
        if held.has_request_id() {
            match &mut self.kind {
                Kind::Unknown { request_id_gone } => *request_id_gone = true,
                Kind::Cancel => self.has_unknown_cancel = true,
                Kind::Request | Kind::Answer => {}
            }
        }
    }
}

impl Kind {
    const UNREAD: Self = Self::Unknown {
        request_id_gone: false,
    };

    /// Whether a value of this member may have to be translated.
    fn concerns(self, member: Member) -> bool {
        match self {
            Self::Unknown { .. } | Self::Cancel => true,
            Self::Request => member == Member::Id,
            Self::Answer => false,
        }
    }
}

impl Held {
    fn is_waiting(&self) -> bool {
        self.open.is_some() || !self.values.is_empty()
    }

    fn has_request_id(&self) -> bool {
        let mut members = self.values.iter().map(|value| value.member);
        let open = self.open.map(|(member, _)| member);
        open == Some(Member::RequestId) || members.any(|member| member == Member::RequestId)
    }

    fn begin(&mut self, member: Member) {
        self.open = Some((member, self.bytes.len()));
    }

    fn end(&mut self) {
        if let Some((member, start)) = self.open.take() {
            let end = self.bytes.len();
            self.values.push(Value { member, start, end });
        }
    }
}

#[cfg(test)]
mod tests;
