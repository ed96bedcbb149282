//! A JSON value that is passed over: only its end matters.

use memchr::memchr2;

use super::block::{Block, Place};

/// After so many blocks without a quote or backslash, a text is a long one.
const LONG_TEXT: u32 = 4;

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
            rest = self.over_blocks(rest);
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

    /// Goes on by whole blocks, or up to the byte that ends the value in one of them. Not far into a long text: where
    /// nothing but letters comes, a search for what ends them is faster.
    fn over_blocks<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (mut rest, mut plain) = (bytes, 0);
        while plain < LONG_TEXT
            && let Some((level, place)) = self.place()
            && let Some((block, after)) = Block::split_first(rest, place)
        {
            match block.level_after(level) {
                Ok(level) => *self = Self::at(level, block.end),
                Err(end) => {
                    *self = match level {
                        0 => Self::string(0),
                        _ => Self::Nested(1),
                    };
                    let end = usize::try_from(end).ok();
                    return end.and_then(|end| rest.get(end..)).unwrap_or_default();
                }
            }
            let is_text = block.is_plain && block.end != Place::Outside;
            plain = if is_text { plain + 1 } else { 0 };
            rest = after;
        }
        rest
    }

    /// How many levels deep it is, and where there; nothing for a number or literal.
    fn place(self) -> Option<(u64, Place)> {
        match self {
            Self::Nested(level) => Some((level, Place::Outside)),
            Self::String { escaped, level } => Some((level, Place::String { escaped })),
            Self::Scalar => None,
        }
    }

    fn at(level: u64, place: Place) -> Self {
        match place {
            Place::Outside => Self::Nested(level),
            Place::String { escaped } => Self::String { escaped, level },
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

#[cfg(test)]
mod tests {
    use super::{Skip, Skipped};
    use crate::bodies::Random;

    const CASES: u64 = 20_000;
    /// Several blocks.
    const LONGEST: usize = 400;
    /// What counts, and what does not: among the latter what differs from the former in one bit.
    const BYTES: &[u8] = b"\"\"\\{}[]aaaaaaa,:1 \x02\x7F\xFB\xDB\xDC\xA2\xFF";

    #[test]
    fn ahead_ends_where_single_steps_do() {
        let mut ended = 0;
        for seed in 0..CASES {
            let mut random = Random(seed);
            // Many blocks are free of escapes, and a deep value does not end early.
            let (has_escapes, is_deep) = (random.one_in(2), random.one_in(2));
            let bytes: Vec<u8> = (0..random.below(LONGEST))
                .map(|_| match BYTES[random.below(BYTES.len())] {
                    b'\\' if !has_escapes => b' ',
                    b'}' | b']' if is_deep && random.one_in(2) => b'[',
                    byte => byte,
                })
                .collect();
            let begin = if random.one_in(4) {
                Skip::string(0)
            } else {
                Skip::Nested(1)
            };
            let mut skip = begin;
            let left = skip.ahead(&bytes).len();
            let (expected, expected_left) = by_steps(begin, &bytes);
            assert_eq!(left, expected_left, "seed {seed}");
            if left == 0 {
                assert_eq!(format!("{skip:?}"), format!("{expected:?}"), "seed {seed}");
            } else {
                ended += 1;
            }
        }
        assert!((CASES / 5..CASES * 4 / 5).contains(&ended), "{ended} ended");
    }

    /// What is left before the byte that ends it.
    fn by_steps(mut skip: Skip, bytes: &[u8]) -> (Skip, usize) {
        for (at, byte) in bytes.iter().enumerate() {
            match skip.step(*byte) {
                Skipped::More(more) => skip = more,
                Skipped::Ended | Skipped::EndedBefore => return (skip, bytes.len() - at),
            }
        }
        (skip, 0)
    }
}
