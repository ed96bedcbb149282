//! What it takes to open a session once more: the `initialize` that opened it, in shared data, for a fixed number of
//! sessions. The one that was kept the longest goes.
//!
//! ```text
//! whose    32 bytes   the digest of the session
//! kept      8 bytes   milliseconds, little-endian
//! body     all that is left
//! ```

use crate::config::Config;
use crate::digest::Digest;
use crate::initialize::INITIALIZE_BYTES;
use crate::input::Input;
use crate::memory::CODEC;
use crate::platform::{PlatformError, Store};
use crate::table::Table;
use crate::time::Millis;

/// See the module.
#[derive(Clone, Debug)]
pub struct Initializes {
    table: Table,
}

impl Initializes {
    /// As many as are configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let slots = config.memory.bulk_slots;
        Self {
            table: Table::new(format!("mcp_session/{CODEC}/initializes/{slots}"), slots),
        }
    }

    /// Makes all slots; see [`Table::create`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn create(&self, store: &impl Store) -> Result<(), PlatformError> {
        self.table.create(store)
    }

    /// Keeps the body of an `initialize`, unless it is too long. Somebody else may take the slot at the same time: then
    /// one of the two sessions can't be opened again.
    ///
    /// # Errors
    /// If the store fails.
    pub fn keep(
        &self,
        store: &impl Store,
        whose: &Digest,
        body: &[u8],
        now: Millis,
    ) -> Result<(), PlatformError> {
        if body.len() > INITIALIZE_BYTES {
            return Ok(());
        }
        let mut best: Option<(Millis, u32)> = None;
        for slot in self.table.neighbours(whose) {
            let stored = store.read(&self.table.key(slot))?.unwrap_or_default();
            let mut input = Input(&stored.value);
            let is_own = input.digest() == Some(*whose);
            let kept = input.number().filter(|_| !is_own).unwrap_or_default();
            if best.is_none_or(|(least, _)| Millis(kept) < least) {
                best = Some((Millis(kept), slot));
            }
            if is_own {
                break;
            }
        }
        let Some((_, slot)) = best else { return Ok(()) };
        let value = [whose.as_bytes(), &now.0.to_le_bytes()[..], body].concat();
        store.write(&self.table.key(slot), &value, None).map(|_| ())
    }

    /// The `initialize` that opened a session, if it is still known.
    ///
    /// # Errors
    /// If the store fails.
    pub fn find(
        &self,
        store: &impl Store,
        whose: &Digest,
    ) -> Result<Option<Vec<u8>>, PlatformError> {
        for slot in self.table.neighbours(whose) {
            let stored = store.read(&self.table.key(slot))?.unwrap_or_default();
            let mut input = Input(&stored.value);
            if input.digest() == Some(*whose) && input.number().is_some() {
                return Ok(Some(input.0.to_vec()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakePlatform;

    fn initializes(slots: u32) -> (Initializes, FakePlatform) {
        let json = format!(r#"{{"memory": {{"bulk_slots": {slots}}}}}"#);
        let config = Config::parse(json.as_bytes()).unwrap();
        let (initializes, store) = (Initializes::new(&config), FakePlatform::default());
        initializes.create(&store).unwrap();
        (initializes, store)
    }

    fn whose(number: u8) -> Digest {
        let mut bytes = [0; 32];
        bytes[31] = number;
        Digest::from_bytes(bytes)
    }

    #[test]
    fn what_is_kept_is_found_under_its_own_session_only() {
        let (initializes, store) = initializes(8);
        initializes
            .keep(&store, &whose(1), b"a", Millis(1))
            .unwrap();
        initializes
            .keep(&store, &whose(2), b"b", Millis(1))
            .unwrap();
        let find = |number| initializes.find(&store, &whose(number)).unwrap();
        assert_eq!(find(1).as_deref(), Some(b"a".as_slice()));
        assert_eq!(find(2).as_deref(), Some(b"b".as_slice()));
        assert_eq!(find(3), None);
        initializes
            .keep(&store, &whose(1), b"c", Millis(2))
            .unwrap();
        assert_eq!(find(1).as_deref(), Some(b"c".as_slice()));
        assert_eq!(find(2).as_deref(), Some(b"b".as_slice()));
    }

    #[test]
    fn the_one_that_was_kept_the_longest_goes() {
        let (initializes, store) = initializes(2);
        for number in 1..=3 {
            let now = Millis(u64::from(number));
            initializes.keep(&store, &whose(number), b"a", now).unwrap();
        }
        let known = [1, 2, 3].map(|number| {
            let found = initializes.find(&store, &whose(number)).unwrap();
            found.is_some()
        });
        assert_eq!(known, [false, true, true]);
        assert_eq!(store.dump().len(), 3, "no more keys come");
    }

    #[test]
    fn one_over_the_bound_is_not_kept() {
        let (initializes, store) = initializes(2);
        let long = vec![b' '; INITIALIZE_BYTES + 1];
        initializes
            .keep(&store, &whose(1), &long, Millis(1))
            .unwrap();
        assert_eq!(initializes.find(&store, &whose(1)).unwrap(), None);
        initializes
            .keep(&store, &whose(1), &long[1..], Millis(1))
            .unwrap();
        assert!(initializes.find(&store, &whose(1)).unwrap().is_some());
    }
}
