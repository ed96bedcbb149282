//! What the module does, counted.

use std::collections::BTreeMap;

/// What callbacks cost.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    pub callbacks: BTreeMap<&'static str, u64>,
    pub hostcalls: BTreeMap<&'static str, u64>,
    pub instructions: u64,
}

impl Cost {
    /// What came on top of an earlier cost.
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |now: &BTreeMap<&'static str, u64>, then: &BTreeMap<&'static str, u64>| {
            let more = now
                .iter()
                .map(|(name, n)| (*name, n - then.get(name).unwrap_or(&0)));
            more.filter(|(_, n)| *n > 0).collect()
        };
        Self {
            callbacks: since(&self.callbacks, &earlier.callbacks),
            hostcalls: since(&self.hostcalls, &earlier.hostcalls),
            instructions: self.instructions - earlier.instructions,
        }
    }
}
