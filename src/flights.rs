//! Which requests of shared sessions are under way, on whatever worker: so that it is clear which one a cancel means.
//!
//! A fixed number of buckets in shared data. A request that goes up adds itself under the digest of its session and
//! original id, and takes itself away when it is over. The nonces of all that are there under one digest are put together by XOR: of a
//! single one that is its own.
//!
//! ```text
//! bucket   crowded   8 bytes   when an entry last found no room, in milliseconds
//! entry    again and again to the end:
//!   whose     16 bytes   the beginning of the digest
//!   count      4 bytes
//!   nonces     8 bytes
//!   changed    8 bytes   milliseconds
//! ```
//! Numbers are little-endian.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::digest::Digest;
use crate::memory::CODEC;
use crate::platform::{PlatformError, Store, Written};
use crate::table::Table;
use crate::time::Millis;

/// How many buckets there are.
pub const BUCKETS: u32 = 256;
/// How many entries a bucket has room for.
pub const ENTRIES: usize = 32;
/// What has not changed for so long belongs to a worker that died.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// How often a change is tried: one that is lost could make a cancel mean another's request.
const TRIES: u32 = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Flights {
    table: Table,
}

/// Who is under way under one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// No request.
    Nobody,
    /// One, with this nonce.
    One(u64),
    /// More than one, or it is not sure.
    Several,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bucket {
    crowded: Option<Millis>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    whose: [u8; 16],
    count: u32,
    nonces: u64,
    changed: Millis,
}

impl Default for Flights {
    fn default() -> Self {
        let buckets = NonZeroU32::new(BUCKETS).unwrap_or(NonZeroU32::MIN);
        Self {
            table: Table::new(format!("mcp_session/{CODEC}/flights"), buckets),
        }
    }
}

impl Flights {
    /// Makes all buckets; see [`Table::create`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn create(&self, store: &impl Store) -> Result<(), PlatformError> {
        self.table.create(store)
    }

    /// A request with this nonce goes up.
    ///
    /// # Errors
    /// If the store fails.
    pub fn begin(
        &self,
        store: &impl Store,
        whose: &Digest,
        nonce: u64,
        now: Millis,
    ) -> Result<(), PlatformError> {
        self.change(store, whose, now, |bucket, whose| {
            let Some(entry) = bucket.entry(whose) else {
                let entry = Entry {
                    whose,
                    count: 1,
                    nonces: nonce,
                    changed: now,
                };
                return bucket.add(entry, now);
            };
            entry.count = entry.count.saturating_add(1);
            entry.nonces ^= nonce;
            entry.changed = now;
        })
    }

    /// The request with this nonce is over.
    ///
    /// # Errors
    /// If the store fails.
    pub fn end(
        &self,
        store: &impl Store,
        whose: &Digest,
        nonce: u64,
        now: Millis,
    ) -> Result<(), PlatformError> {
        self.change(store, whose, now, |bucket, whose| {
            if let Some(entry) = bucket.entry(whose) {
                entry.count = entry.count.saturating_sub(1);
                entry.nonces ^= nonce;
                entry.changed = now;
            }
            bucket.entries.retain(|entry| entry.count > 0);
        })
    }

    /// Who is under way there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn under_way(
        &self,
        store: &impl Store,
        whose: &Digest,
        now: Millis,
    ) -> Result<UnderWay, PlatformError> {
        let key = self.table.key(self.table.home(whose));
        let stored = store.read(&key)?.unwrap_or_default();
        let mut bucket = Bucket::decode(&stored.value).unwrap_or_default();
        bucket.expire(now);
        if bucket.crowded.is_some() {
            return Ok(UnderWay::Several);
        }
        Ok(match bucket.entry(start(whose)) {
            None => UnderWay::Nobody,
            Some(Entry {
                count: 1, nonces, ..
            }) => UnderWay::One(*nonces),
            Some(_) => UnderWay::Several,
        })
    }

    fn change(
        &self,
        store: &impl Store,
        whose: &Digest,
        now: Millis,
        change: impl Fn(&mut Bucket, [u8; 16]),
    ) -> Result<(), PlatformError> {
        let key = self.table.key(self.table.home(whose));
        for _ in 0..TRIES {
            let stored = store.read(&key)?;
            let token = stored.as_ref().map(|stored| stored.token);
            let value = stored.unwrap_or_default().value;
            let mut bucket = Bucket::decode(&value).unwrap_or_default();
            bucket.expire(now);
            change(&mut bucket, start(whose));
            if store.write(&key, &bucket.encode(), token)? == Written::Done {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn start(whose: &Digest) -> [u8; 16] {
    let (start, _) = whose.as_bytes().split_at(16);
    start.try_into().unwrap_or_default()
}

impl Bucket {
    fn entry(&mut self, whose: [u8; 16]) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.whose == whose)
    }

    fn add(&mut self, entry: Entry, now: Millis) {
        if self.entries.len() < ENTRIES {
            self.entries.push(entry);
        } else {
            self.crowded = Some(now);
        }
    }

    fn expire(&mut self, now: Millis) {
        let is_known = |changed: Millis| now.since(changed) < FORGOTTEN_AFTER;
        self.crowded = self.crowded.filter(|since| is_known(*since));
        self.entries.retain(|entry| is_known(entry.changed));
    }

    fn encode(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let mut bytes = self.crowded.unwrap_or_default().0.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.whose);
            bytes.extend_from_slice(&entry.count.to_le_bytes());
            bytes.extend_from_slice(&entry.nonces.to_le_bytes());
            bytes.extend_from_slice(&entry.changed.0.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (crowded, mut rest) = bytes.split_first_chunk()?;
        let crowded = u64::from_le_bytes(*crowded);
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let whose;
            let count;
            let nonces;
            let changed;
            (whose, rest) = rest.split_first_chunk()?;
            (count, rest) = rest.split_first_chunk()?;
            (nonces, rest) = rest.split_first_chunk()?;
            (changed, rest) = rest.split_first_chunk()?;
            entries.push(Entry {
                whose: *whose,
                count: u32::from_le_bytes(*count),
                nonces: u64::from_le_bytes(*nonces),
                changed: Millis(u64::from_le_bytes(*changed)),
            });
        }
        Some(Self {
            crowded: (crowded > 0).then_some(Millis(crowded)),
            entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::UnderWay::{Nobody, One, Several};
    use super::*;
    use crate::testing::FakePlatform;

    const A: Digest = Digest::from_bytes([1; 32]);
    const NOW: Millis = Millis(1_000_000);

    fn flights() -> (Flights, FakePlatform) {
        let (flights, store) = (Flights::default(), FakePlatform::default());
        flights.create(&store).unwrap();
        (flights, store)
    }

    fn at(flights: &Flights, store: &FakePlatform, whose: &Digest) -> UnderWay {
        flights.under_way(store, whose, NOW).unwrap()
    }

    #[test]
    fn a_request_is_the_only_one_from_its_begin_to_its_end_unless_another_has_its_id() {
        let (flights, store) = flights();
        assert_eq!(at(&flights, &store, &A), Nobody);
        flights.begin(&store, &A, 7, NOW).unwrap();
        assert_eq!(at(&flights, &store, &A), One(7));
        flights.begin(&store, &A, 9, NOW).unwrap();
        assert_eq!(at(&flights, &store, &A), Several);
        flights.end(&store, &A, 7, NOW).unwrap();
        assert_eq!(at(&flights, &store, &A), One(9));
        flights.end(&store, &A, 9, NOW).unwrap();
        assert_eq!(at(&flights, &store, &A), Nobody);
        flights.end(&store, &A, 9, NOW).unwrap();
        assert_eq!(at(&flights, &store, &A), Nobody);
    }

    #[test]
    fn two_that_meet_in_a_bucket_stay_apart() {
        let (flights, store) = flights();
        let mut bytes = [1; 32];
        bytes[15] = 2;
        let other = Digest::from_bytes(bytes);
        flights.begin(&store, &A, 7, NOW).unwrap();
        flights.begin(&store, &other, 9, NOW).unwrap();
        assert_eq!(at(&flights, &store, &A), One(7));
        assert_eq!(at(&flights, &store, &other), One(9));
    }

    #[test]
    fn in_a_crowded_bucket_nothing_is_clear_for_as_long_as_an_entry_may_be_missing() {
        let (flights, store) = flights();
        for number in 0..=ENTRIES {
            let mut bytes = [1; 32];
            bytes[15] = u8::try_from(number).unwrap();
            let whose = Digest::from_bytes(bytes);
            flights.begin(&store, &whose, 7, NOW).unwrap();
        }
        let size = store.dump().iter().map(|(_, value)| value.len()).max();
        assert_eq!(size, Some(8 + 36 * ENTRIES), "the bound of a bucket");
        assert_eq!(at(&flights, &store, &A), Several);
    }

    #[test]
    fn what_a_dead_worker_left_is_forgotten_after_an_hour() {
        let (flights, store) = flights();
        flights.begin(&store, &A, 7, NOW).unwrap();
        let later = Millis(NOW.0 + 3_600_000);
        flights.begin(&store, &A, 9, later).unwrap();
        assert_eq!(flights.under_way(&store, &A, later).unwrap(), One(9));
    }

    #[test]
    fn a_bucket_that_is_none_reads_as_empty() {
        let (flights, store) = flights();
        flights.begin(&store, &A, 7, NOW).unwrap();
        let (key, value) = store
            .dump()
            .into_iter()
            .find(|(_, value)| !value.is_empty())
            .unwrap();
        for length in 0..value.len() {
            let whole = length == 8;
            let cut = Bucket::decode(&value[..length]);
            assert_eq!(cut.is_some(), whole, "{length}");
        }
        store.write(&key, b"odd", None).unwrap();
        assert_eq!(at(&flights, &store, &A), Nobody);
    }
}
