//! Hostcalls that go wrong on demand.

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
}

/// Which calls of a name go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The nth from now, counted from 0.
    Nth(usize),
    Always,
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
            if rule.when == When::Always || rule.when == When::Nth(rule.seen) {
                met = Some(rule.fault);
            }
            rule.seen += 1;
        }
        self.hits += usize::from(met.is_some());
        met
    }
}
