//! What is remembered across workers: one slot in shared data for each caller, a fixed number of slots.
//!
//! A session can be found only through the digest of the caller that opened it, so no caller reaches another's. All
//! of a caller's sessions share one slot: a repair reads one key, a caller that opens many sessions evicts only its
//! own, and successors of one session are changed in one write. The slot is one of [`crate::table::NEIGHBOURS`] that the digest
//! chooses; if all hold other callers, the least recently used caller goes. Every change is a compare-and-swap that
//! gives up after [`TRIES`]: a lost race is a session not remembered, never one mixed up.

mod record;
mod sweep;

use core::time::Duration;

pub use self::record::{CallerRecord, Lost, Rewritten, Session};
use crate::config::Config;
use crate::digest::{Digest, Salt};
use crate::platform::{PlatformError, Store, Stored, Written};
use crate::table::{TRIES, Table};
use crate::time::Millis;

/// The version of what the keys hold. It is part of their names.
pub const CODEC: u32 = 5;

/// The table of slots and its bounds.
#[derive(Clone, Debug)]
pub struct Memory {
    table: Table,
    per_caller: usize,
    slot_bytes: usize,
    idle_timeout: Duration,
    max_age: Duration,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It took place.
    Done {
        /// How many sessions of this or another caller had to make room.
        evicted: usize,
    },
    /// Others wrote faster every time, and nothing was changed.
    GivenUp,
}

impl Memory {
    /// A table as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let memory = &config.memory;
        let (slots, bytes) = (memory.slots, memory.slot_bytes());
        Self {
            table: Table::new(format!("mcp_session/{CODEC}/{slots}x{bytes}"), slots),
            per_caller: memory.per_caller as usize,
            slot_bytes: bytes,
            idle_timeout: config.session.idle_timeout,
            max_age: config.session.max_age,
        }
    }

    /// Makes all slots; see [`Table::create`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn create_slots(&self, store: &impl Store) -> Result<(), PlatformError> {
        self.table.create(store)
    }

    /// What is remembered of a caller, or nothing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn recall(
        &self,
        store: &impl Store,
        caller: &Digest,
        now: Millis,
    ) -> Result<Option<CallerRecord>, PlatformError> {
        for slot in self.table.neighbours(caller) {
            let stored = store.read(&self.table.key(slot))?.unwrap_or_default();
            let Some(mut record) = own(&stored, caller) else {
                continue;
            };
            record.expire(now, self.idle_timeout, self.max_age);
            return Ok((!record.sessions.is_empty()).then_some(record));
        }
        Ok(None)
    }

    /// Changes what is remembered of a caller. `change` may run several times, each time on what is there by then.
    ///
    /// # Errors
    /// If the store fails.
    pub fn change(
        &self,
        store: &impl Store,
        caller: &Digest,
        now: Millis,
        change: impl Fn(&mut CallerRecord),
    ) -> Result<Change, PlatformError> {
        for _ in 0..TRIES {
            let place = self.place(store, caller, now)?;
            let mut record = place.record;
            let before = record.clone();
            change(&mut record);
            if record == before {
                return Ok(Change::Done { evicted: 0 });
            }
            let gone = record.shrink(self.per_caller, self.slot_bytes);
            match store.write(&self.table.key(place.slot), &record.encode(), place.token)? {
                Written::Overtaken => {}
                Written::Done => {
                    return Ok(Change::Done {
                        evicted: gone + place.evicts,
                    });
                }
            }
        }
        Ok(Change::GivenUp)
    }

    /// Whether a use of this session is worth writing down: at most eight times in an idle timeout.
    #[must_use]
    pub fn is_refresh_due(&self, session: &Session, now: Millis) -> bool {
        now.since(session.used) >= self.idle_timeout / 8
    }

    /// Where the caller is, or else where it may go: a vacant slot, or that of the least recently used caller.
    fn place(
        &self,
        store: &impl Store,
        caller: &Digest,
        now: Millis,
    ) -> Result<Place, PlatformError> {
        let mut best: Option<(Millis, Place)> = None;
        for slot in self.table.neighbours(caller) {
            let stored = store.read(&self.table.key(slot))?;
            let token = stored.as_ref().map(|stored| stored.token);
            let place = |record, evicts| Place {
                slot,
                token,
                record,
                evicts,
            };
            let stored = stored.unwrap_or_default();
            if let Some(mut record) = own(&stored, caller) {
                record.expire(now, self.idle_timeout, self.max_age);
                return Ok(place(record, 0));
            }
            let (used, evicts) = match self.living(&stored, now) {
                Some(other) => (other.used(), other.sessions.len()),
                None => (Millis(0), 0),
            };
            if best.as_ref().is_none_or(|(least, _)| used < *least) {
                best = Some((used, place(CallerRecord::new(*caller), evicts)));
            }
        }
        let home = || Place::vacant(self.table.home(caller), caller);
        Ok(best.map_or_else(home, |(_, place)| place))
    }

    /// A slot's record without what has expired; nothing if that is all, or if it is no record.
    fn living(&self, stored: &Stored, now: Millis) -> Option<CallerRecord> {
        let mut record = CallerRecord::decode(&stored.value)?;
        record.expire(now, self.idle_timeout, self.max_age);
        (!record.sessions.is_empty()).then_some(record)
    }
}

/// The salt that all VMs use: the one in the store, or the offered one if there is none yet.
///
/// # Errors
/// If the store fails.
pub fn agree_on_salt(
    store: &impl Store,
    offer: impl FnOnce() -> Option<Salt>,
) -> Result<Option<Salt>, PlatformError> {
    let key = format!("mcp_session/{CODEC}/salt");
    let kept = |stored: Option<Stored>| stored.and_then(|stored| stored.value.try_into().ok());
    if let Some(salt) = kept(store.read(&key)?) {
        return Ok(Some(salt));
    }
    if let Some(salt) = offer() {
        store.write(&key, &salt, None)?;
    }
    // Not the one offered: another VM may have written meanwhile.
    Ok(kept(store.read(&key)?))
}

/// A slot that a caller has or may take.
struct Place {
    slot: u32,
    /// For the write; none if the key does not exist.
    token: Option<u32>,
    record: CallerRecord,
    /// How many sessions of another caller go with it.
    evicts: usize,
}

impl Place {
    fn vacant(slot: u32, caller: &Digest) -> Self {
        Self {
            slot,
            token: None,
            record: CallerRecord::new(*caller),
            evicts: 0,
        }
    }
}

/// A slot's record, if it is this caller's: its first bytes tell without reading it all.
fn own(stored: &Stored, caller: &Digest) -> Option<CallerRecord> {
    let is_own = stored.value.starts_with(caller.as_bytes());
    is_own
        .then(|| CallerRecord::decode(&stored.value))
        .flatten()
}

#[cfg(test)]
mod tests;
