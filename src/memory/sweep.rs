//! Looking through the slots bit by bit: it empties what has expired, and counts the sessions that live.
//!
//! All VMs do it together. Where they are stands in shared data; who takes the next part says so by compare-and-swap.

use super::{Memory, Stored};
use crate::platform::{PlatformError, Store, Written};
use crate::time::Millis;

/// How long a part has to wait for the next, in milliseconds.
const PAUSE: u64 = 1000;
/// In how many parts the table is looked through.
const PARTS: u32 = 32;

/// Where the sweep is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    next_slot: u32,
    /// Sessions seen since the sweep began at slot 0.
    living: u32,
    not_before: Millis,
}

impl Memory {
    /// Looks through the next part of the table if one is due. At its end, says how many sessions live.
    ///
    /// # Errors
    /// If the store fails.
    pub fn sweep(&self, store: &impl Store, now: Millis) -> Result<Option<u32>, PlatformError> {
        let key = self.table.key_of("sweep");
        let stored = store.read(&key)?.unwrap_or_default();
        let mut progress = Progress::decode(&stored.value).unwrap_or_default();
        // A date far ahead was written before the clock was set back.
        let is_early = now < progress.not_before && progress.not_before.0 - now.0 <= 2 * PAUSE;
        if is_early {
            return Ok(None);
        }
        let end = progress
            .next_slot
            .saturating_add(self.table.slots().div_ceil(PARTS))
            .min(self.table.slots());
        for slot in progress.next_slot..end {
            let living = self.sweep_slot(store, slot, now)?;
            progress.living = progress.living.saturating_add(living);
        }
        progress.next_slot = end;
        progress.not_before = Millis(now.0.saturating_add(PAUSE));
        let counted = (end == self.table.slots()).then_some(progress.living);
        if counted.is_some() {
            progress = Progress {
                not_before: progress.not_before,
                ..Progress::default()
            };
        }
        match store.write(&key, &progress.encode(), Some(stored.token))? {
            Written::Done => Ok(counted),
            // Another VM looked through the same part, and counts it.
            Written::Overtaken => Ok(None),
        }
    }

    /// Empties a slot of what has expired, and says how many sessions live in it.
    fn sweep_slot(&self, store: &impl Store, slot: u32, now: Millis) -> Result<u32, PlatformError> {
        let Some(stored) = store.read(&self.table.key(slot))? else {
            return Ok(0);
        };
        let Stored { value, token } = &stored;
        if value.is_empty() {
            return Ok(0);
        }
        let bytes = self
            .living(&stored, now)
            .map(|record| (record.sessions.len(), record.encode()));
        let (living, bytes) = bytes.unwrap_or_default();
        if bytes.len() < value.len() {
            // Overtaken means that somebody uses it: the next round looks again.
            store.write(&self.table.key(slot), &bytes, Some(*token))?;
        }
        Ok(u32::try_from(living).unwrap_or(u32::MAX))
    }
}

impl Progress {
    fn encode(self) -> [u8; 16] {
        let words = (u128::from(self.next_slot) << 96)
            | (u128::from(self.living) << 64)
            | u128::from(self.not_before.0);
        words.to_be_bytes()
    }

    #[expect(clippy::cast_possible_truncation, reason = "it takes the words apart")]
    fn decode(bytes: &[u8]) -> Option<Self> {
        let words = u128::from_be_bytes(bytes.try_into().ok()?);
        Some(Self {
            next_slot: (words >> 96) as u32,
            living: (words >> 64) as u32,
            not_before: Millis(words as u64),
        })
    }
}
