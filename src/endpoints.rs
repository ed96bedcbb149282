//! The digests of the endpoints that a VM has met: most traffic goes to a few, and a digest is the dearest thing that a
//! request's headers are looked at for.

use std::cell::RefCell;

use crate::digest::{Digest, DigestKey};

/// How many endpoints are known.
const MOST: usize = 16;
/// The longest endpoint that is known, in bytes of all its parts.
const MAX_BYTES: usize = 512;

/// See the module. Takes 16 × 512 bytes of text at most, none of it a secret.
#[derive(Default)]
pub struct Endpoints(RefCell<Known>);

#[derive(Default)]
struct Known {
    endpoints: Vec<(Parts, Digest)>,
    /// The one that makes room next.
    oldest: usize,
}

/// Cluster, path and host.
type Parts = [Box<[u8]>; 3];

impl Endpoints {
    /// The digest of an endpoint: where requests of a session go.
    pub fn digest(&self, key: &DigestKey, parts: [&[u8]; 3]) -> Digest {
        // Nobody else has it: a VM does one thing at a time.
        let Ok(mut known) = self.0.try_borrow_mut() else {
            return make(key, parts);
        };
        known.find(parts).unwrap_or_else(|| {
            let digest = make(key, parts);
            known.keep(parts, digest);
            digest
        })
    }
}

fn make(key: &DigestKey, parts: [&[u8]; 3]) -> Digest {
    key.digest("endpoint", parts)
}

impl Known {
    fn find(&self, parts: [&[u8]; 3]) -> Option<Digest> {
        let is_same = |known: &Parts| known.iter().map(Box::as_ref).eq(parts);
        let mut endpoints = self.endpoints.iter();
        endpoints
            .find(|(known, _)| is_same(known))
            .map(|(_, digest)| *digest)
    }

    fn keep(&mut self, parts: [&[u8]; 3], digest: Digest) {
        if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_BYTES {
            return;
        }
        let endpoint = (parts.map(Box::from), digest);
        match self.endpoints.get_mut(self.oldest) {
            Some(oldest) => *oldest = endpoint,
            None => self.endpoints.push(endpoint),
        }
        self.oldest = (self.oldest + 1) % MOST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DigestKey {
        DigestKey::new(&[0; 32], b"")
    }

    fn kept(endpoints: &Endpoints) -> usize {
        endpoints.0.borrow().endpoints.len()
    }

    #[test]
    fn a_known_endpoint_has_the_digest_that_it_had() {
        let endpoints = Endpoints::default();
        let all = [["a", "/b", "c"], ["a/", "b", "c"], ["a", "/b", ""]];
        let all = all.map(|parts| parts.map(str::as_bytes));
        for _ in 0..2 {
            for parts in all {
                assert_eq!(endpoints.digest(&key(), parts), make(&key(), parts));
            }
        }
        assert_eq!(kept(&endpoints), all.len());
    }

    #[test]
    fn no_more_than_16_are_known_and_the_oldest_makes_room() {
        let endpoints = Endpoints::default();
        for number in 0..100_u32 {
            let path = number.to_le_bytes();
            let parts = [b"cluster".as_slice(), &path, b"host"];
            assert_eq!(endpoints.digest(&key(), parts), make(&key(), parts));
            assert!(endpoints.0.borrow().find(parts).is_some());
            assert!(kept(&endpoints) <= MOST);
        }
        assert_eq!(kept(&endpoints), MOST);
    }

    #[test]
    fn an_endpoint_of_more_than_512_bytes_is_not_known_but_digested() {
        let endpoints = Endpoints::default();
        for (length, known) in [(MAX_BYTES - 2, 1), (MAX_BYTES - 1, 1)] {
            let path = vec![b'/'; length];
            let parts = [b"a".as_slice(), &path, b"b"];
            assert_eq!(endpoints.digest(&key(), parts), make(&key(), parts));
            assert_eq!(kept(&endpoints), known);
        }
    }
}
