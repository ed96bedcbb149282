//! What it takes to open a session once more: the `initialize` that opened it, in shared data, for a fixed number of
//! sessions. The least recently used one goes.
//!
//! ```text
//! whose    32 bytes   the digest of the session
//! used      8 bytes   milliseconds, little-endian: when it was kept, or its session's use was last written down
//! body     all that is left
//! ```

use crate::config::Config;
use crate::digest::Digest;
use crate::initialize::INITIALIZE_BYTES;
use crate::input::Input;
use crate::memory::CODEC;
use crate::platform::{PlatformError, Store, Stored};
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
            let used = input.number().filter(|_| !is_own).unwrap_or_default();
            if best.is_none_or(|(least, _)| Millis(used) < least) {
                best = Some((Millis(used), slot));
            }
            if is_own {
                break;
            }
        }
        let Some((_, slot)) = best else { return Ok(()) };
        let value = encode(whose, now, body);
        store.write(&self.table.key(slot), &value, None).map(|_| ())
    }

    /// A session was used: what opened it stays for longer than what has not been of use since. Somebody else may take
    /// the slot at the same time, and has it then.
    ///
    /// # Errors
    /// If the store fails.
    pub fn renew(
        &self,
        store: &impl Store,
        whose: &Digest,
        now: Millis,
    ) -> Result<(), PlatformError> {
        let Some((slot, stored)) = self.stored(store, whose)? else {
            return Ok(());
        };
        let value = encode(whose, now, body_of(&stored));
        let written = store.write(&self.table.key(slot), &value, Some(stored.token));
        written.map(|_| ())
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
        let stored = self.stored(store, whose)?;
        Ok(stored.map(|(_, stored)| body_of(&stored).to_vec()))
    }

    /// Where it is kept, and all that is written there.
    fn stored(
        &self,
        store: &impl Store,
        whose: &Digest,
    ) -> Result<Option<(u32, Stored)>, PlatformError> {
        for slot in self.table.neighbours(whose) {
            let stored = store.read(&self.table.key(slot))?.unwrap_or_default();
            let is_whole = stored.value.len() >= HEAD_BYTES;
            if is_whole && stored.value.starts_with(whose.as_bytes()) {
                return Ok(Some((slot, stored)));
            }
        }
        Ok(None)
    }
}

/// What stands before the body.
const HEAD_BYTES: usize = Digest::BYTES + size_of::<u64>();

fn encode(whose: &Digest, used: Millis, body: &[u8]) -> Vec<u8> {
    [whose.as_bytes(), &used.0.to_le_bytes()[..], body].concat()
}

fn body_of(stored: &Stored) -> &[u8] {
    stored.value.get(HEAD_BYTES..).unwrap_or_default()
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
    fn the_least_recently_used_one_goes() {
        let (initializes, store) = initializes(2);
        let keep = |number, now| {
            initializes
                .keep(&store, &whose(number), b"a", Millis(now))
                .unwrap();
        };
        let renew = |number, now| {
            initializes
                .renew(&store, &whose(number), Millis(now))
                .unwrap();
        };
        let known = || {
            [1, 2, 3, 4].map(|number| {
                let found = initializes.find(&store, &whose(number)).unwrap();
                assert!(found.as_deref().is_none_or(|body| body == b"a"));
                found.is_some()
            })
        };
        keep(1, 1);
        keep(2, 2);
        keep(3, 3);
        assert_eq!(known(), [false, true, true, false]);
        renew(2, 4);
        renew(1, 5);
        assert_eq!(known(), [false, true, true, false], "the gone stay gone");
        keep(4, 6);
        assert_eq!(known(), [false, true, false, true]);
        assert_eq!(store.dump().len(), 3, "no more keys come");
    }

    #[test]
    fn one_that_has_lost_its_place_meanwhile_does_not_take_it_back() {
        let (initializes, store) = initializes(1);
        let keep = |number| initializes.keep(&store, &whose(number), b"a", Millis(1));
        keep(1).unwrap();
        store.before_next_write(move |store| {
            let mut slots = store.dump().into_iter();
            let (key, _) = slots.find(|(_, value)| !value.is_empty()).unwrap();
            store.write(&key, b"another", None).unwrap();
        });
        initializes.renew(&store, &whose(1), Millis(2)).unwrap();
        assert_eq!(initializes.find(&store, &whose(1)).unwrap(), None);
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
