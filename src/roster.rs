//! Which VMs live, and the mailbox of each: those who wait at one are woken through it.
//!
//! A mailbox is a shared queue of the host's. Queues never go away, so there is a fixed number of them, and a VM takes the
//! one of a VM that is no more. All stand under one key:
//!
//! ```text
//! mailbox   in their order, to the end:
//!   vm        8 bytes   a number that the VM has chosen at random; 0 = nobody
//!   seen      8 bytes   when it last said that it lives, in milliseconds
//! ```

use core::time::Duration;

use crate::input::Input;
use crate::memory::CODEC;
use crate::platform::{PlatformError, Store, Written};
use crate::table::TRIES;
use crate::time::Millis;

/// How many VMs can have a mailbox: workers, times the configurations that share a `vm_id`. Those of any more are woken
/// by their ticks, and count as dead to the others: two could then open a session at the same time.
pub const MAILBOXES: usize = 512;
/// How often a VM says that it lives.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A VM that has said nothing for so long is no more.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster(Vec<Entry>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    vm: u64,
    seen: Millis,
}

impl Roster {
    /// All that is known now.
    ///
    /// # Errors
    /// If the store fails.
    pub fn read(store: &impl Store) -> Result<Self, PlatformError> {
        let stored = store.read(&key())?.unwrap_or_default();
        Ok(Self::decode(&stored.value))
    }

    /// Makes the key; see [`crate::table::Table::create`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn create(store: &impl Store) -> Result<(), PlatformError> {
        if store.read(&key())?.is_none() {
            store.write(&key(), &[], None)?;
        }
        Ok(())
    }

    /// Says that a VM lives. Gives the number of its mailbox, if there is one for it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn sign(store: &impl Store, vm: u64, now: Millis) -> Result<Option<usize>, PlatformError> {
        for _ in 0..TRIES {
            let stored = store.read(&key())?.unwrap_or_default();
            let mut roster = Self::decode(&stored.value);
            let Some(mailbox) = roster.mailbox_for(vm, now) else {
                return Ok(None);
            };
            if roster.0.len() <= mailbox {
                roster.0.push(Entry::default());
            }
            if let Some(entry) = roster.0.get_mut(mailbox) {
                *entry = Entry { vm, seen: now };
            }
            if store.write(&key(), &roster.encode(), Some(stored.token))? == Written::Done {
                return Ok(Some(mailbox));
            }
        }
        Ok(None)
    }

    /// Whether a VM lives, as far as is known.
    #[must_use]
    pub fn is_alive(&self, vm: u64, now: Millis) -> bool {
        self.0
            .iter()
            .any(|entry| entry.vm == vm && entry.is_alive(now))
    }

    /// The mailboxes of all other VMs that live.
    pub fn others(&self, vm: u64, now: Millis) -> impl Iterator<Item = usize> {
        let others = self.0.iter().enumerate();
        others
            .filter(move |(_, entry)| entry.vm != vm && entry.is_alive(now))
            .map(|(mailbox, _)| mailbox)
    }

    fn mailbox_for(&self, vm: u64, now: Millis) -> Option<usize> {
        let own = self.0.iter().position(|entry| entry.vm == vm);
        let vacant = || self.0.iter().position(|entry| !entry.is_alive(now));
        let new = || (self.0.len() < MAILBOXES).then_some(self.0.len());
        own.or_else(vacant).or_else(new)
    }

    fn encode(&self) -> Vec<u8> {
        let number = |entry: &Entry| [entry.vm.to_le_bytes(), entry.seen.0.to_le_bytes()].concat();
        self.0.iter().flat_map(number).collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut input = Input(bytes);
        let mut entry = || {
            Some(Entry {
                vm: input.number()?,
                seen: Millis(input.number()?),
            })
        };
        let entries = core::iter::from_fn(&mut entry).take(MAILBOXES);
        Self(entries.collect())
    }
}

impl Entry {
    fn is_alive(&self, now: Millis) -> bool {
        now.since(self.seen) < DEAD_AFTER
    }
}

fn key() -> String {
    format!("mcp_session/{CODEC}/vms")
}

/// The name of a mailbox's queue.
#[must_use]
pub fn mailbox_name(mailbox: usize) -> String {
    format!("mcp_session/{CODEC}/mailbox/{mailbox}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakePlatform;

    const NOW: Millis = Millis(1_000_000);

    fn sign(store: &FakePlatform, vm: u64, now: Millis) -> Option<usize> {
        Roster::sign(store, vm, now).unwrap()
    }

    #[test]
    fn each_vm_has_a_mailbox_of_its_own_for_as_long_as_it_says_that_it_lives() {
        let store = FakePlatform::default();
        Roster::create(&store).unwrap();
        assert_eq!(sign(&store, 7, NOW), Some(0));
        assert_eq!(sign(&store, 8, NOW), Some(1));
        let later = Millis(NOW.0 + 4_999);
        assert_eq!(sign(&store, 8, later), Some(1));
        assert_eq!(sign(&store, 9, later), Some(2));
        let roster = Roster::read(&store).unwrap();
        assert!(roster.is_alive(7, later));
        assert!(!roster.is_alive(6, later));
        let dead = Millis(NOW.0 + 5_000);
        assert!(!roster.is_alive(7, dead));
        assert_eq!(roster.others(9, dead).collect::<Vec<_>>(), [1]);
        assert_eq!(sign(&store, 10, dead), Some(0), "a dead one's is free");
    }

    #[test]
    fn there_are_no_more_mailboxes_than_the_bound_says() {
        let store = FakePlatform::default();
        Roster::create(&store).unwrap();
        for vm in 1..=512 {
            assert!(sign(&store, vm, NOW).is_some());
        }
        assert_eq!(sign(&store, 513, NOW), None);
        assert_eq!(store.dump()[0].1.len(), 16 * MAILBOXES);
    }

    #[test]
    fn a_roster_that_is_none_reads_as_what_there_is_of_it() {
        let store = FakePlatform::default();
        Roster::create(&store).unwrap();
        sign(&store, 7, NOW);
        sign(&store, 8, NOW);
        let value = store.dump()[0].1.clone();
        let cut = Roster::decode(&value[..20]);
        assert!(cut.is_alive(7, NOW) && !cut.is_alive(8, NOW));
        let long = Roster::decode(&vec![1; 100_000]);
        assert_eq!(long.0.len(), MAILBOXES);
    }
}
