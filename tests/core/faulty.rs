//! A platform in memory whose calls go wrong on demand.

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use mcp_session_filter::platform::{Platform, PlatformError, Store, Stored, Written};
use mcp_session_filter::time::Millis;

use crate::testing::FakePlatform;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    Now,
    Nonce,
    MayWait,
    Attribute,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The host refuses the call: an error of the store's, else nothing, zero or no.
    Refused,
    /// What is read is not there; somebody else was faster to write.
    Missing,
    /// No bytes.
    Empty,
    /// The first half of the bytes.
    Cut,
    /// As many bytes, or a number, with no bit set.
    Zeros,
    /// As many bytes, or a number, with all bits set.
    Ones,
    /// As many other bytes, by no rule.
    Garbage,
    /// The bytes, with some more behind them.
    Junk,
    /// What stands under the next key that has a value.
    Other,
    /// The value, with the token 0 that stands for "unconditionally".
    NoToken,
    /// The host says that it has written, and has not.
    Lost,
}

impl Fault {
    /// All that may become of a call.
    pub fn of(call: Call) -> &'static [Self] {
        use Fault::{
            Cut, Empty, Garbage, Junk, Lost, Missing, NoToken, Ones, Other, Refused, Zeros,
        };
        match call {
            Call::Read => &[
                Refused, Missing, Empty, Cut, Zeros, Ones, Garbage, Junk, Other, NoToken,
            ],
            Call::Write => &[Refused, Missing, Lost],
            Call::Now | Call::Nonce => &[Zeros, Ones],
            Call::MayWait => &[Refused],
            Call::Attribute => &[Refused, Cut, Zeros, Ones, Garbage, Junk],
        }
    }

    fn garbled(self, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        match self {
            Self::Empty => value.clear(),
            Self::Cut => value.truncate(value.len() / 2),
            Self::Zeros => value.fill(0),
            Self::Ones => value.fill(0xFF),
            Self::Garbage => {
                let mut last = 7_u8;
                value.fill_with(|| {
                    last = last.wrapping_mul(181).wrapping_add(47);
                    last
                });
            }
            Self::Junk => value.extend(b"junk\0\xFF\x01\0\0\0"),
            Self::Refused | Self::Missing | Self::Other | Self::NoToken | Self::Lost => {}
        }
        value
    }

    fn number(self) -> u64 {
        match self {
            Self::Ones => u64::MAX,
            _ => 0,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Faulty {
    platform: FakePlatform,
    calls: Cell<usize>,
    /// All calls, if anybody wants to know.
    made: RefCell<Option<Vec<Call>>>,
    /// Which call fails, and how.
    faults: RefCell<Vec<(usize, Fault)>>,
    /// From which call on all fail, and how.
    broken: Cell<Option<(usize, Fault)>>,
}

#[allow(dead_code, reason = "each test uses some of it")]
impl Faulty {
    /// Another one that is as this one is now, and sound.
    pub fn copy(&self) -> Self {
        Self {
            platform: self.platform.copy(),
            ..Self::default()
        }
    }

    /// From now on calls are written down.
    pub fn record(&self) {
        self.calls.set(0);
        *self.made.borrow_mut() = Some(Vec::new());
    }

    /// What was called since.
    pub fn recorded(&self) -> Vec<Call> {
        self.made.borrow_mut().take().unwrap_or_default()
    }

    /// The call with this number, counted from 0, goes wrong.
    pub fn fail(&self, call: usize, fault: Fault) {
        self.faults.borrow_mut().push((call, fault));
    }

    /// The call with this number goes wrong, and so do all others after it.
    pub fn fail_from(&self, call: usize, fault: Fault) {
        self.broken.set(Some((call, fault)));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.faults.borrow_mut().clear();
        self.broken.set(None);
    }

    fn meet(&self, call: Call) -> Option<Fault> {
        let number = self.calls.replace(self.calls.get() + 1);
        if let Some(made) = &mut *self.made.borrow_mut() {
            made.push(call);
        }
        let broken = self.broken.get().filter(|(first, _)| number >= *first);
        let faults = self.faults.borrow();
        let own = faults.iter().find(|(failing, _)| *failing == number);
        let (_, fault) = own.copied().or(broken)?;
        Fault::of(call).contains(&fault).then_some(fault)
    }

    fn other(&self, key: &str) -> Vec<u8> {
        let mut all = self.platform.dump();
        all.retain(|(other, value)| other != key && !value.is_empty());
        let next = all.iter().position(|(other, _)| other.as_str() > key);
        let next = all.into_iter().nth(next.unwrap_or(0));
        next.map(|(_, value)| value).unwrap_or_default()
    }
}

/// A host's refusal: nobody tells its status from others.
fn refused(call: &'static str) -> PlatformError {
    PlatformError { call, status: 10 }
}

impl Deref for Faulty {
    type Target = FakePlatform;

    fn deref(&self) -> &FakePlatform {
        &self.platform
    }
}

impl Store for Faulty {
    fn read(&self, key: &str) -> Result<Option<Stored>, PlatformError> {
        let Some(fault) = self.meet(Call::Read) else {
            return self.platform.read(key);
        };
        let stored = self.platform.read(key)?;
        Ok(match fault {
            Fault::Refused => return Err(refused("read")),
            Fault::Missing => None,
            Fault::NoToken => stored.map(|stored| Stored { token: 0, ..stored }),
            Fault::Other => stored.map(|stored| Stored {
                value: self.other(key),
                ..stored
            }),
            fault => stored.map(|stored| Stored {
                value: fault.garbled(&stored.value),
                ..stored
            }),
        })
    }

    fn write(&self, key: &str, value: &[u8], token: Option<u32>) -> Result<Written, PlatformError> {
        match self.meet(Call::Write) {
            Some(Fault::Refused) => Err(refused("write")),
            Some(Fault::Missing) => Ok(Written::Overtaken),
            Some(_) => Ok(Written::Done),
            // As with the host, 0 is no token.
            None => self
                .platform
                .write(key, value, token.filter(|token| *token > 0)),
        }
    }
}

impl Platform for Faulty {
    fn now(&self) -> Millis {
        self.meet(Call::Now).map_or_else(
            || self.platform.now(),
            // The host's clock has nanoseconds.
            |fault| Millis(fault.number() / 1_000_000),
        )
    }

    fn nonce(&self) -> u64 {
        self.meet(Call::Nonce)
            .map_or_else(|| self.platform.nonce(), Fault::number)
    }

    fn may_wait(&self) -> bool {
        self.meet(Call::MayWait).is_none() && self.platform.may_wait()
    }

    fn attribute(&self, path: &[&str]) -> Option<Vec<u8>> {
        let value = self.platform.attribute(path);
        match self.meet(Call::Attribute) {
            None => value,
            Some(Fault::Refused) => None,
            Some(fault) => value.map(|value| fault.garbled(&value)),
        }
    }
}
