//! Walks over a JSON-RPC body while it streams past, and marks the few places that matter.
//!
//! What does not matter is skipped, not checked. So a body that is not JSON may get any marks, but the same ones
//! wherever it was cut.

mod block;
mod skip;
mod value_end;
mod word;

pub(crate) use self::value_end::ValueEnd;

use self::skip::{Skip, Skipped};
use self::word::{Read, Word};

/// A place in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Before the value of this member.
    Value(Member),
    /// Behind the value of any member.
    ValueEnd,
    /// Inside the value of `method`, behind the byte that tells which one it is.
    Method(Method),
    /// Behind the key `result` or `error`.
    Answer,
    /// Inside an element of a batch that is no message.
    NoMessage,
    /// Behind the `}` of a message.
    MessageEnd,
    /// No mark comes after this one: the batch has ended, or the body is not JSON.
    End,
}

/// A member whose value matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// The `id` of a message.
    Id,
    /// The `requestId` in the `params` of a message.
    RequestId,
}

/// A method, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Initialize,
    Initialized,
    Cancelled,
    Other,
    /// No string, so none at all.
    NotText,
}

impl Method {
    /// Those that matter.
    const KNOWN: [(&[u8], Self); 3] = [
        (b"initialize", Self::Initialize),
        (b"notifications/initialized", Self::Initialized),
        (b"notifications/cancelled", Self::Cancelled),
    ];
}

/// Reads one body piece by piece. Its size is fixed: neither a long body nor a deep one makes it grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    state: State,
    level: Level,
    in_batch: bool,
}

/// Where in the text the walk stands.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before the first byte.
    #[default]
    Start,
    /// Inside a byte order mark, before this byte of it.
    ByteOrderMark(u8),
    /// Before the `{` or `[` that begins the text.
    Text,
    /// Before an element of the batch or a member of an object.
    Item { first: bool },
    /// Inside a key.
    Key(Word),
    /// Inside a key that is longer than any that matters.
    LongKey(Skip),
    /// Behind a key.
    Colon(Name),
    /// Before the value of a key.
    Value(Name),
    /// Inside the string that is the method.
    Method(Word),
    /// Inside a value.
    Skip(Skip),
    /// Behind a value.
    AfterValue,
    /// Behind the last mark.
    Done,
}

/// What is being read item by item.
#[derive(Clone, Copy, Debug, Default)]
enum Level {
    #[default]
    Batch,
    Message,
    Params,
}

/// A key, as far as it matters.
#[derive(Clone, Copy, Debug)]
enum Name {
    Method,
    Params,
    Marked(Member),
    Any,
}

/// What became of one byte.
enum Step {
    /// It was taken; the mark stands behind it.
    Over(Option<Mark>),
    /// It was left to the next step; the mark stands before it.
    Before(Option<Mark>),
}

impl Walk {
    /// Stands before the first byte of a body.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether the text began as a batch.
    pub(crate) fn is_in_batch(&self) -> bool {
        self.in_batch
    }

    /// Takes bytes from the front of `bytes` up to the next mark, and gives both. Without a mark all bytes are taken.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> (&'a [u8], Option<Mark>) {
        let all = *bytes;
        let mut rest = all;
        let mark = loop {
            rest = self.ahead(rest);
            let Some((&byte, after)) = rest.split_first() else {
                break None;
            };
            let mark = match self.step(byte) {
                Step::Over(mark) => {
                    rest = after;
                    mark
                }
                Step::Before(mark) => mark,
            };
            if mark.is_some() {
                break mark;
            }
        };
        *bytes = rest;
        let taken = all.len() - rest.len();
        (all.get(..taken).unwrap_or_default(), mark)
    }

    fn ahead<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match &mut self.state {
            State::Skip(skip) | State::LongKey(skip) => skip.ahead(bytes),
            State::Key(word) => word.ahead(bytes),
            State::Done => &[],
            _ => bytes,
        }
    }

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
    /// ignored (section 8.1).
    fn step(&mut self, byte: u8) -> Step {
        match (self.state, byte) {
            (State::Start, 0xEF) => self.go(State::ByteOrderMark(0xBB)),
            (State::Start, _) => {
                self.state = State::Text;
                Step::Before(None)
            }
            (State::ByteOrderMark(0xBB), 0xBB) => self.go(State::ByteOrderMark(0xBF)),
            (State::ByteOrderMark(0xBF), 0xBF) => self.go(State::Text),
            (State::Key(word), _) => self.after_key(word.read(byte)),
            (State::LongKey(skip), _) => self.after_long_key(skip.step(byte)),
            (State::Method(word), _) => self.after_method(word.read(byte)),
            (State::Skip(skip), _) => self.after_skip(skip.step(byte)),
            (
                State::Text
                | State::Item { .. }
                | State::Colon(_)
                | State::Value(_)
                | State::AfterValue,
                b' ' | b'\t' | b'\n' | b'\r',
            ) => Step::Over(None),
            (State::Text, b'{') => self.open(Level::Message),
            (State::Text, b'[') => {
                self.in_batch = true;
                self.open(Level::Batch)
            }
            (State::Item { first }, _) => self.item(first, byte),
            (State::Colon(name), b':') => self.go(State::Value(name)),
            (State::Value(name), _) => self.value(name, byte),
            (State::AfterValue, b',') => self.go(State::Item { first: false }),
            (State::AfterValue, _) => self.close(byte),
            (State::ByteOrderMark(_) | State::Text | State::Colon(_) | State::Done, _) => {
                self.end()
            }
        }
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Step::Over(None)
    }

    fn end(&mut self) -> Step {
        self.state = State::Done;
        Step::Over(Some(Mark::End))
    }

    fn open(&mut self, level: Level) -> Step {
        self.level = level;
        self.go(State::Item { first: true })
    }

    fn close(&mut self, byte: u8) -> Step {
        match (self.level, byte) {
            (Level::Message, b'}') => {
                self.level = Level::Batch;
                self.state = if self.in_batch {
                    State::AfterValue
                } else {
                    State::Done
                };
                Step::Over(Some(Mark::MessageEnd))
            }
            (Level::Params, b'}') => {
                self.level = Level::Message;
                self.go(State::AfterValue)
            }
            // Either the `]` of a batch, or malformed.
            (Level::Batch | Level::Message | Level::Params, _) => self.end(),
        }
    }

    fn item(&mut self, first: bool, byte: u8) -> Step {
        match (self.level, byte) {
            (_, b'}' | b']') if first => self.close(byte),
            (Level::Batch, b'{') => self.open(Level::Message),
            (Level::Batch, _) => self.skip(byte, Some(Mark::NoMessage)),
            (Level::Message | Level::Params, b'"') => self.go(State::Key(Word::default())),
            (Level::Message | Level::Params, _) => self.end(),
        }
    }

    /// Keys are compared whole.
    fn after_key(&mut self, read: Read) -> Step {
        let word = match read {
            Read::More(word) => return self.go(State::Key(word)),
            Read::Whole(word) => word,
            Read::TooLong => return self.go(State::LongKey(Skip::string(0))),
            Read::Malformed => return self.end(),
        };
        let name = match (self.level, word.letters()) {
            (Level::Message, b"id") => Name::Marked(Member::Id),
            (Level::Message, b"method") => Name::Method,
            (Level::Message, b"params") => Name::Params,
            (Level::Message, b"result" | b"error") => {
                self.state = State::Colon(Name::Any);
                return Step::Over(Some(Mark::Answer));
            }
            (Level::Params, b"requestId") => Name::Marked(Member::RequestId),
            (Level::Batch | Level::Message | Level::Params, _) => Name::Any,
        };
        self.go(State::Colon(name))
    }

    fn after_long_key(&mut self, skipped: Skipped) -> Step {
        self.go(match skipped {
            Skipped::More(skip) => State::LongKey(skip),
            Skipped::Ended | Skipped::EndedBefore => State::Colon(Name::Any),
        })
    }

    fn value(&mut self, name: Name, byte: u8) -> Step {
        match (name, byte) {
            (Name::Method, b'"') => self.go(State::Method(Word::default())),
            (Name::Params, b'{') => self.open(Level::Params),
            (Name::Marked(member), _) => {
                self.state = State::Value(Name::Any);
                Step::Before(Some(Mark::Value(member)))
            }
            (Name::Method, _) => self.skip(byte, Some(Mark::Method(Method::NotText))),
            (Name::Params | Name::Any, _) => self.skip(byte, None),
        }
    }

    fn skip(&mut self, byte: u8, mark: Option<Mark>) -> Step {
        let Some(skip) = Skip::begin(byte) else {
            return self.end();
        };
        self.state = State::Skip(skip);
        Step::Over(mark)
    }

    fn after_skip(&mut self, skipped: Skipped) -> Step {
        let step = match skipped {
            Skipped::More(skip) => return self.go(State::Skip(skip)),
            Skipped::Ended => Step::Over(Some(Mark::ValueEnd)),
            Skipped::EndedBefore => Step::Before(Some(Mark::ValueEnd)),
        };
        self.state = State::AfterValue;
        step
    }

    /// A method is known at the first letter that the ones that matter lack, or at the closing quote.
    fn after_method(&mut self, read: Read) -> Step {
        let (state, method) = match read {
            Read::More(word) => {
                let mut known = Method::KNOWN.iter();
                if known.any(|(name, _)| name.starts_with(word.letters())) {
                    return self.go(State::Method(word));
                }
                (State::Skip(Skip::string(0)), Method::Other)
            }
            Read::TooLong => (State::Skip(Skip::string(0)), Method::Other),
            Read::Whole(word) => {
                let mut known = Method::KNOWN.iter();
                let found = known.find(|(name, _)| *name == word.letters());
                (
                    State::AfterValue,
                    found.map_or(Method::Other, |known| known.1),
                )
            }
            Read::Malformed => return self.end(),
        };
        self.state = state;
        Step::Over(Some(Mark::Method(method)))
    }
}
