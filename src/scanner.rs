//! Tells an `initialize` from every other JSON-RPC body while the body streams past.
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

mod word;

use memchr::memchr2;

use self::word::{Read, Word};

/// What a POST body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An `initialize` request.
    Initialize,
    /// Another message, or not JSON-RPC at all.
    Other,
}

/// Reads one body piece by piece. Its size is fixed: neither a long body nor a deep one makes it grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    state: State,
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
        loop {
            if let State::Decided(kind) = self.state {
                return Some(kind);
            }
            let (&byte, after) = self.state.skip_ahead(rest).split_first()?;
            self.state = self.state.step(byte);
            rest = after;
        }
    }

    /// The body has ended: what is undecided by now is no `initialize`.
    pub fn finish(&mut self) -> Kind {
        let kind = self.scan(&[]).unwrap_or(Kind::Other);
        self.state = State::Decided(kind);
        kind
    }
}

/// Finds where a JSON object or array ends, so that it need not be parsed again and again until it is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueEnd {
    state: State,
}

impl Default for ValueEnd {
    fn default() -> Self {
        let state = State::Value(Name::Any);
        Self { state }
    }
}

impl ValueEnd {
    /// Whether the value ended in this piece, or can't be one.
    pub(crate) fn is_reached(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some((&byte, after)) = self.state.skip_ahead(rest).split_first() {
            self.state = self.state.step(byte);
            if matches!(self.state, State::End | State::Decided(_)) {
                return true;
            }
            rest = after;
        }
        false
    }
}

/// Where in the text the scanner stands.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before the first byte.
    #[default]
    Start,
    /// Inside a byte order mark, before this byte of it.
    Mark(u8),
    /// Before the `{` or `[` that begins the text.
    Text,
    /// Before the first element of a batch.
    Batch,
    /// Before a key.
    Member,
    /// Inside a key.
    Key(Word),
    /// Behind a key.
    Colon(Name),
    /// Before the value of a key.
    Value(Name),
    /// Inside the string that is the method.
    Method(Word),
    /// Inside what decides nothing.
    Skipped(Skipped),
    /// Behind a value.
    End,
    /// Nothing more can change the verdict.
    Decided(Kind),
}

/// A key, as far as it matters.
#[derive(Clone, Copy, Debug)]
enum Name {
    Method,
    Any,
}

const INITIALIZE: &[u8] = b"initialize";
const OTHER: State = State::Decided(Kind::Other);

impl State {
    /// One byte further.
    ///
    /// ```text
    /// JSON-text = ws value ws
    /// object    = begin-object [ member *( value-separator member ) ] end-object
    /// member    = string name-separator value
    /// array     = begin-array [ value *( value-separator value ) ] end-array
    /// ws        = *( %x20 / %x09 / %x0A / %x0D )
    /// ```
    ///
    /// RFC 8259, sections 2, 4 and 5; `ws` may stand around each structural character. A byte order mark may be
    /// ignored (section 8.1). Of an array only the way to its first element is followed.
    fn step(self, byte: u8) -> Self {
        match self {
            Self::Start => match byte {
                0xEF => Self::Mark(0xBB),
                _ => Self::Text.step(byte),
            },
            Self::Mark(expected) => match (expected, byte) {
                (0xBB, 0xBB) => Self::Mark(0xBF),
                (0xBF, 0xBF) => Self::Text,
                _ => OTHER,
            },
            Self::Text => match byte {
                b'{' => Self::Member,
                b'[' => Self::Batch,
                _ => self.unless_space(byte),
            },
            Self::Batch => match byte {
                b'{' => Self::Member,
                _ => self.unless_space(byte),
            },
            Self::Member => match byte {
                b'"' => Self::Key(Word::default()),
                // An object that ends here had no method.
                _ => self.unless_space(byte),
            },
            Self::Key(word) => Self::after_key(word.read(byte)),
            Self::Colon(name) => match byte {
                b':' => Self::Value(name),
                _ => self.unless_space(byte),
            },
            Self::Value(Name::Method) => match byte {
                b'"' => Self::Method(Word::default()),
                _ => self.unless_space(byte),
            },
            Self::Value(Name::Any) => match byte {
                b'"' => Self::Skipped(Skipped::string(Within::Value)),
                b'{' | b'[' => Self::Skipped(Skipped::Nested(0)),
                _ if is_scalar(byte) => Self::Skipped(Skipped::Scalar),
                _ => self.unless_space(byte),
            },
            Self::Method(word) => Self::after_method(word.read(byte)),
            Self::Skipped(skipped) => skipped.step(byte),
            Self::End => match byte {
                b',' => Self::Member,
                _ => self.unless_space(byte),
            },
            Self::Decided(_) => self,
        }
    }

    /// Where nothing else is expected, space changes nothing and anything else is malformed.
    fn unless_space(self, byte: u8) -> Self {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => self,
            _ => OTHER,
        }
    }

    /// Keys are compared whole. A `result` or `error` makes the message a response, and may be long: no need to see it.
    fn after_key(read: Read) -> Self {
        match read {
            Read::More(word) => Self::Key(word),
            Read::Whole(word) => match word.letters() {
                b"method" => Self::Colon(Name::Method),
                b"result" | b"error" => OTHER,
                _ => Self::Colon(Name::Any),
            },
            Read::TooLong => Self::Skipped(Skipped::string(Within::Key)),
            Read::Malformed => OTHER,
        }
    }

    /// A method is decided at the first letter that `initialize` lacks, or at the closing quote.
    fn after_method(read: Read) -> Self {
        match read {
            Read::More(word) if INITIALIZE.starts_with(word.letters()) => Self::Method(word),
            Read::Whole(word) if word.letters() == INITIALIZE => Self::Decided(Kind::Initialize),
            Read::More(_) | Read::Whole(_) | Read::TooLong | Read::Malformed => OTHER,
        }
    }

    /// Leaves out leading bytes that would not change the state. In a large body that is nearly all of them.
    fn skip_ahead(self, bytes: &[u8]) -> &[u8] {
        let next = match self {
            Self::Skipped(Skipped::String { escaped: false, .. }) => memchr2(b'"', b'\\', bytes),
            Self::Skipped(Skipped::Nested(_)) => {
                let matters = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
                bytes.iter().position(matters)
            }
            _ => Some(0),
        };
        next.and_then(|next| bytes.get(next..)).unwrap_or_default()
    }
}

/// What decides nothing: the value of another key than `method`, or the rest of a key longer than any of ours.
#[derive(Clone, Copy, Debug)]
enum Skipped {
    /// A number or literal.
    Scalar,
    /// A string.
    String { escaped: bool, within: Within },
    /// An object or array, this many levels below its own.
    Nested(u64),
}

/// Where a skipped string stands.
#[derive(Clone, Copy, Debug)]
enum Within {
    Key,
    Value,
    Nested(u64),
}

impl Skipped {
    fn string(within: Within) -> Self {
        let escaped = false;
        Self::String { escaped, within }
    }

    /// One byte further.
    ///
    /// ```text
    /// value  = false / null / true / object / array / number / string
    /// number = [ minus ] int [ frac ] [ exp ]
    /// string = quotation-mark *char quotation-mark
    /// ```
    ///
    /// RFC 8259, sections 3, 6 and 7. Levels are counted, not kept, so depth costs nothing. Whether a `}` closes a `{`
    /// need not be known: in a well-formed text it does, and another has no right answer. The counter can't overflow
    /// in practice; it saturates, so that not even then it panics.
    fn step(self, byte: u8) -> State {
        match self {
            Self::Scalar if is_scalar(byte) => State::Skipped(self),
            Self::Scalar => State::End.step(byte),
            Self::String {
                escaped: false,
                within,
            } if byte == b'"' => match within {
                Within::Key => State::Colon(Name::Any),
                Within::Value => State::End,
                Within::Nested(level) => State::Skipped(Self::Nested(level)),
            },
            Self::String { escaped, within } => {
                let escaped = !escaped && byte == b'\\';
                State::Skipped(Self::String { escaped, within })
            }
            Self::Nested(level) => match byte {
                b'"' => State::Skipped(Self::string(Within::Nested(level))),
                b'{' | b'[' => State::Skipped(Self::Nested(level.saturating_add(1))),
                b'}' | b']' => match level.checked_sub(1) {
                    Some(level) => State::Skipped(Self::Nested(level)),
                    None => State::End,
                },
                _ => State::Skipped(self),
            },
        }
    }
}

/// Bytes of numbers and literals, in any order. `NaN`, which some servers read, passes like `null`.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests;
