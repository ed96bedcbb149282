//! What the VMs of a process share besides queues: keys with values, and where "random" bytes come from.

use std::collections::HashMap;
use std::rc::Rc;

use super::status::{Answered, Status};

type Bytes = Rc<[u8]>;

/// Envoy's shared data: one map, values with a token of their last write.
#[derive(Clone, Default)]
pub struct SharedData {
    // Thousands of replays begin with a copy.
    entries: HashMap<Bytes, (Bytes, u32)>,
    writes: u32,
}

impl SharedData {
    pub fn read(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        let (value, token) = self.entries.get(key).ok_or(Status::NOT_FOUND)?;
        Ok((value.to_vec(), *token))
    }

    /// A token is only looked at if the key is there: no key can be created conditionally. Token 0 means "anyhow".
    pub fn write(&mut self, key: &[u8], value: &[u8], cas: u32) -> Answered {
        if let Some((_, current)) = self.entries.get(key)
            && cas != 0
            && cas != *current
        {
            return Err(Status::CAS_MISMATCH);
        }
        self.writes += 1;
        self.entries.insert(key.into(), (value.into(), self.writes));
        Ok(())
    }

    /// What stands under another key: the nth of those that have a value, from this key on and round.
    pub fn other(&self, key: &[u8], n: usize) -> Option<Vec<u8>> {
        let full = self
            .entries
            .iter()
            .filter(|(_, (value, _))| !value.is_empty());
        let named = full.map(|(other, (value, _))| (other.as_ref(), value.as_ref()));
        let mut others: Vec<(&[u8], &[u8])> = named.filter(|(other, _)| *other != key).collect();
        others.sort_by_key(|(other, _)| (*other < key, *other));
        let (_, value) = others.get(n % others.len().max(1))?;
        Some(value.to_vec())
    }

    /// How many keys there are, and the bytes in keys and values.
    pub fn size(&self) -> (usize, usize) {
        let bytes = self
            .entries
            .iter()
            .map(|(key, (value, _))| key.len() + value.len())
            .sum();
        (self.entries.len(), bytes)
    }

    /// Whether any key or value contains these bytes.
    pub fn contains(&self, needle: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.entries
            .iter()
            .any(|(key, (value, _))| within(key) || within(value))
    }
}

/// The same "random" bytes in every run (the splitmix64 generator).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()[0]
    }
}
