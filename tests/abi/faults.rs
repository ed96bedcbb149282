//! Hostcalls that go wrong on demand.

use super::shared_data::Random;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call does nothing and answers this status.
    Status(u32),
    /// "Ok", a null pointer and no bytes.
    Empty,
    /// "Ok" and the first half of the bytes.
    Cut,
    /// "Ok" and the bytes with the first number in them far too large.
    Lying,
    /// "Ok" and the value, with the token 0 that stands for "unconditionally".
    NoCas,
    /// "Ok" and as many other bytes, by no rule.
    Garbage,
    /// "Ok" and as many bytes, or a number, with no bit set.
    Zeros,
    /// "Ok" and as many bytes, or a number, with all bits set.
    Ones,
    /// "Ok" and the bytes, with some more behind them.
    Junk,
    /// "Ok" and what stands under another key of the shared data: under the nth that has a value, from this key on.
    Other(usize),
}

impl Fault {
    /// What is handed over in the place of these bytes.
    pub fn garbled(self, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        match self {
            Self::Empty => value.clear(),
            Self::Cut => value.truncate(value.len() / 2),
            Self::Lying => value.iter_mut().take(4).for_each(|byte| *byte = 0x7F),
            Self::Garbage => {
                let mut random = Random::new(value.len() as u64);
                value.fill_with(|| random.byte());
            }
            Self::Zeros => value.fill(0),
            Self::Ones => value.fill(0xFF),
            Self::Junk => value.extend(b"junk\0\xFF\x01\0\0\0"),
            Self::NoCas | Self::Other(_) | Self::Status(_) => {}
        }
        value
    }
}

/// Which calls of a name go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The nth from now, counted from 0.
    Nth(usize),
    /// The nth from now and all after it.
    From(usize),
    Always,
}

impl When {
    fn is_met(self, seen: usize) -> bool {
        match self {
            Self::Nth(n) => seen == n,
            Self::From(n) => seen >= n,
            Self::Always => true,
        }
    }
}

/// A hostcall as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub name: &'static str,
    /// The callback that made it.
    pub during: &'static str,
    /// Whether it was the first of that callback.
    pub opens: bool,
}

impl Made {
    /// Whether the SDK makes this call, which it panics on by itself if it is refused: the first of all calls in its
    /// dispatcher of HTTP call answers.
    pub fn is_the_sdks(&self) -> bool {
        self.opens
            && self.during == "proxy_on_http_call_response"
            && self.name == "proxy_set_effective_context"
    }
}

/// What was made of late, and what is to go wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    made: Vec<Made>,
    recording: bool,
    hits: usize,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Any call if absent.
    name: Option<String>,
    when: When,
    fault: Fault,
    seen: usize,
}

impl Faults {
    pub fn add(&mut self, name: Option<&str>, when: When, fault: Fault) {
        self.rules.push(Rule {
            name: name.map(str::to_owned),
            when,
            fault,
            seen: 0,
        });
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// How many calls were made to fail.
    pub fn hits(&self) -> usize {
        self.hits
    }

    /// From now on calls are recorded.
    pub fn record(&mut self) {
        self.recording = true;
    }

    pub fn recorded(&self) -> &[Made] {
        &self.made
    }

    /// A call is made: what goes wrong with it, if anything.
    pub fn meet(&mut self, made: Made) -> Option<Fault> {
        if self.recording {
            self.made.push(made);
        }
        let mut met = None;
        for rule in &mut self.rules {
            if rule.name.as_ref().is_some_and(|name| name != made.name) {
                continue;
            }
            if rule.when.is_met(rule.seen) && !made.is_the_sdks() {
                met = Some(rule.fault);
            }
            rule.seen += 1;
        }
        self.hits += usize::from(met.is_some());
        met
    }
}
