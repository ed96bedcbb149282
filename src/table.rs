//! A fixed number of keys in shared data: a host never frees one, so none may come with traffic.
//!
//! What belongs somewhere may be in any of [`NEIGHBOURS`] slots that a digest chooses. A value says whose it is, so that
//! two that meet in one slot are a miss, never a mix-up.

use core::num::NonZeroU32;

use crate::digest::Digest;
use crate::platform::{PlatformError, Store};

/// How many slots something may be in.
pub const NEIGHBOURS: u32 = 4;
/// How often a change is tried before it is given up.
pub const TRIES: u32 = 4;

/// A table of slots.
#[derive(Clone, Debug)]
pub struct Table {
    /// What all keys start with: the codec and the geometry, so that another version or configuration under the same
    /// `vm_id` reads other keys.
    prefix: String,
    slots: NonZeroU32,
}

impl Table {
    /// A table of so many slots, under keys that start so.
    #[must_use]
    pub fn new(prefix: String, slots: NonZeroU32) -> Self {
        Self { prefix, slots }
    }

    /// Makes all slots, once for all VMs: a key that does not exist can't be compared with (proxy-wasm ABI 0.2.1,
    /// `proxy_set_shared_data`). Envoy starts the main thread's VM before any worker's, so that they exist before
    /// traffic comes.
    ///
    /// # Errors
    /// If the store fails; what exists until then stays.
    pub fn create(&self, store: &impl Store) -> Result<(), PlatformError> {
        let done = self.key_of("created");
        if store.read(&done)?.is_some() {
            return Ok(());
        }
        for slot in 0..self.slots.get() {
            let key = self.key(slot);
            if store.read(&key)?.is_none() {
                store.write(&key, &[], None)?;
            }
        }
        store.write(&done, &[], None).map(|_| ())
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots.get()
    }

    /// The key of a slot.
    #[must_use]
    pub fn key(&self, slot: u32) -> String {
        self.key_of(&slot.to_string())
    }

    /// A key of the table's that is no slot.
    #[must_use]
    pub fn key_of(&self, name: &str) -> String {
        [&self.prefix, "/", name].concat()
    }

    /// The first slot that the digest chooses.
    #[must_use]
    pub fn home(&self, digest: &Digest) -> u32 {
        // A remainder is smaller than what it was divided by.
        u32::try_from(digest.number() % u64::from(self.slots.get())).unwrap_or_default()
    }

    /// All slots that the digest chooses.
    pub fn neighbours(&self, digest: &Digest) -> impl Iterator<Item = u32> + use<> {
        let (home, slots) = (self.home(digest), self.slots);
        (0..NEIGHBOURS.min(slots.get())).map(move |step| home.wrapping_add(step) % slots)
    }
}
