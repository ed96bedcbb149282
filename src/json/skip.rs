//! A JSON value that is passed over: only its end matters.

use memchr::memchr2;

/// Inside a value. Levels are counted, not kept, so depth costs nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Skip {
    /// A number or literal.
    Scalar,
    /// A string, this many levels below.
    String { escaped: bool, level: u64 },
    /// Objects and arrays, this many of them open.
    Nested(u64),
}

/// A value after one more byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Skipped {
    More(Skip),
    /// The byte was its last.
    Ended,
    /// The byte is the first that is not its own.
    EndedBefore,
}

impl Skip {
    /// The value that begins with this byte, if one can.
    pub(crate) fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'"' => Some(Self::string(0)),
            b'{' | b'[' => Some(Self::Nested(1)),
            _ if is_scalar(byte) => Some(Self::Scalar),
            _ => None,
        }
    }

    /// Behind an opening quote, or any letter that is not part of an escape.
    pub(crate) fn string(level: u64) -> Self {
        let escaped = false;
        Self::String { escaped, level }
    }

    /// One byte further.
    ///
    /// ```text
    /// value  = false / null / true / object / array / number / string
    /// number = [ minus ] int [ frac ] [ exp ]
    /// string = quotation-mark *char quotation-mark
    /// ```
    ///
    /// RFC 8259, sections 3, 6 and 7. Whether a `}` closes a `{` need not be known: in a well-formed text it does, and
    /// another has no right answer. The counter can't overflow in practice; it saturates, so that not even then it
    /// panics.
    pub(crate) fn step(self, byte: u8) -> Skipped {
        Skipped::More(match self {
            Self::Scalar if is_scalar(byte) => self,
            Self::Scalar => return Skipped::EndedBefore,
            Self::String {
                escaped: false,
                level,
            } if byte == b'"' => match level {
                0 => return Skipped::Ended,
                _ => Self::Nested(level),
            },
            Self::String { escaped, level } => {
                let escaped = !escaped && byte == b'\\';
                Self::String { escaped, level }
            }
            Self::Nested(level) => match byte {
                b'"' => Self::string(level),
                b'{' | b'[' => Self::Nested(level.saturating_add(1)),
                b'}' | b']' if level <= 1 => return Skipped::Ended,
                b'}' | b']' => Self::Nested(level - 1),
                _ => self,
            },
        })
    }

    /// Goes on up to the byte that ends the value, and gives what begins with that byte; nothing if it is not among these.
    /// In a large body that is nearly all of them.
    pub(crate) fn ahead<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        loop {
            let next = match self {
                Self::Scalar | Self::String { escaped: true, .. } => Some(0),
                Self::String { .. } => memchr2(b'"', b'\\', rest),
                Self::Nested(_) => rest.iter().position(|byte| is_structural(*byte)),
            };
            rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
            let Some((&byte, after)) = rest.split_first() else {
                return rest;
            };
            let Skipped::More(skip) = self.step(byte) else {
                return rest;
            };
            *self = skip;
            rest = after;
        }
    }
}

/// A quote, bracket or brace: `[` and `{`, `]` and `}` differ in one bit.
fn is_structural(byte: u8) -> bool {
    byte == b'"' || matches!(byte | 0x20, b'{' | b'}')
}

/// Bytes of numbers and literals, in any order. `NaN`, which some servers read, passes like `null`.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}
