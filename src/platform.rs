//! What the core needs from the place it runs in, as two small traits.

use core::fmt;

use crate::time::Millis;

/// A key-value store that all workers share, with compare-and-swap. Keys are never deleted.
pub trait Store {
    /// The value under a key, or nothing if the key does not exist.
    ///
    /// # Errors
    /// If the host says anything but "here it is" or "there is none".
    fn read(&self, key: &str) -> Result<Option<Stored>, PlatformError>;

    /// Sets the value under a key if nobody has since `token` was read; without a token, unconditionally.
    ///
    /// # Errors
    /// If the host says anything but "set" or "somebody was faster".
    fn write(&self, key: &str, value: &[u8], token: Option<u32>) -> Result<Written, PlatformError>;
}

/// A value and the token of the write that made it. Values hold session ids: `Debug` does not show them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The bytes; empty if the key was emptied or only created.
    pub value: Vec<u8>,
    /// To be handed back with the write that replaces this value.
    pub token: u32,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({} bytes)", self.value.len())
    }
}

/// Whether a write took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It did.
    Done,
    /// Somebody else wrote first.
    Overtaken,
}

/// The store, the clock and the attributes of the request at hand.
pub trait Platform: Store {
    /// The time now.
    fn now(&self) -> Millis;

    /// A number that nobody can foresee.
    fn nonce(&self) -> u64;

    /// Whether one more request may wait for others.
    fn may_wait(&self) -> bool;

    /// An attribute of the request (Envoy, Advanced, Attributes), or nothing if it is absent or empty.
    fn attribute(&self, path: &[&str]) -> Option<Vec<u8>>;
}

/// The host refused a call or answered nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformError {
    /// Which call.
    pub call: &'static str,
    /// Its status (proxy-wasm ABI 0.2.1, `proxy_status_t`).
    pub status: u32,
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered status {}", self.call, self.status)
    }
}

impl core::error::Error for PlatformError {}
