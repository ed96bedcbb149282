//! Keyed digests: what stands for a caller or an endpoint, so that the raw value is never kept.
//!
//! The key is made of two parts. The **salt** is random, made by the first VM of a process and kept in shared data, so
//! that digests of two processes can't be compared and no table can be made in advance. The **secret** comes from the
//! environment and is never in shared data: only with one does a dump of shared data not suffice to try a list of
//! weak credentials. Neither protects from somebody who reads the whole memory of the process.

use core::fmt;

use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac256, Digest as _};

/// Random bytes that all VMs of one process share.
pub type Salt = [u8; 32];

/// A digest of 32 bytes (keyed BLAKE2s-256, RFC 7693).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// How many bytes a digest has.
    pub const BYTES: usize = 32;

    /// A digest that was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first eight bytes as a number, to choose a place in a table by.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0
            .iter()
            .take(8)
            .fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// What digests are made with.
#[derive(Clone)]
pub struct DigestKey(Blake2sMac256);

impl DigestKey {
    /// A key of the process's salt and the operator's secret (empty if there is none).
    #[must_use]
    pub fn new(salt: &Salt, secret: &[u8]) -> Self {
        let secret = Blake2s256::digest(secret);
        let key = Blake2s256::new().chain_update(secret).chain_update(salt);
        // A key takes a block of its own, which is worked in only once more follows: not anew for each digest.
        Self(Blake2sMac256::new(&key.finalize()).chain_update([0]))
    }

    /// The digest of some parts. `domain` keeps digests of different kinds apart; lengths are part of what is
    /// digested, so that no two lists of parts run together.
    pub fn digest<'a>(
        &self,
        domain: &'static str,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Digest {
        let mut mac = self.0.clone();
        for part in core::iter::once(domain.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        Digest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &DigestKey, parts: &[&str]) -> Digest {
        key.digest("test", parts.iter().map(|part| part.as_bytes()))
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = DigestKey::new(&[1; 32], b"");
        assert_eq!(of(&key, &["ab", "c"]), of(&key, &["ab", "c"]));
        assert_ne!(of(&key, &["ab", "c"]), of(&key, &["a", "bc"]));
        assert_ne!(of(&key, &["ab"]), of(&key, &["ab", ""]));
        assert_ne!(of(&key, &["a"]), key.digest("other", [b"a".as_slice()]));
    }

    #[test]
    fn salt_and_secret_both_change_every_digest() {
        let plain = of(&DigestKey::new(&[1; 32], b""), &["a"]);
        assert_ne!(plain, of(&DigestKey::new(&[2; 32], b""), &["a"]));
        assert_ne!(plain, of(&DigestKey::new(&[1; 32], b"secret"), &["a"]));
    }
}
