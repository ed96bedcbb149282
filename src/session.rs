//! The words of a session that travel in headers, checked once where they come in.

use core::fmt;

use blake2::{Blake2s256, Digest as _};

/// A session id as a server issued it: 1 to 4096 bytes of visible ASCII.
///
/// The alphabet is that of the MCP specification (2025-11-25, Transports, Session Management); the length is this
/// filter's own bound. An id is a secret: whoever has it has the session, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(Box<[u8]>);

impl SessionId {
    /// The longest id that is remembered, in bytes.
    pub const MAX_BYTES: usize = 4096;

    /// Takes a header value, or nothing if it is empty, too long or has a byte outside of 0x21-0x7E.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let sound =
            (1..=Self::MAX_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        sound.then(|| Self(value.into()))
    }

    /// The id as it goes into a header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Eight hex digits of a hash, for log lines: tells ids apart, opens no session.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = Blake2s256::digest(&self.0);
        let start = hash.first_chunk().copied().unwrap_or_default();
        format!("{:08x}", u32::from_be_bytes(start))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.fingerprint())
    }
}

/// A protocol version that server and client agreed on, such as `2025-11-25`: 1 to 32 bytes of `[0-9A-Za-z.-]`.
///
/// It comes out of a body and goes into a header, so anything that could end a header line is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolVersion(Box<[u8]>);

impl ProtocolVersion {
    /// The longest version that is remembered, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Takes a version, or nothing if it is empty, too long or holds any other byte.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let sound = (1..=Self::MAX_BYTES).contains(&value.len())
            && value
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        sound.then(|| Self(value.into()))
    }

    /// The version as it goes into a header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether a `MCP-Protocol-Version` belongs to the era without sessions (2026-07-28 and later; versions are dates,
/// and dates compare as strings).
#[must_use]
pub fn is_sessionless(version: &[u8]) -> bool {
    version >= b"2026-07-28".as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_visible_ascii_of_bounded_length() {
        assert!(SessionId::parse(b"!~0aZ-").is_some());
        assert!(SessionId::parse(&[b'a'; SessionId::MAX_BYTES]).is_some());
        assert!(SessionId::parse(&[b'a'; SessionId::MAX_BYTES + 1]).is_none());
        for odd in [b"".as_slice(), b"a b", b"a\r\nb", b"\x7f", b"\xff", b"\0"] {
            assert!(SessionId::parse(odd).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn debug_shows_no_byte_of_a_session_id() {
        let shown = format!("{:?}", SessionId::parse(b"zzzz-zzzz"));
        assert!(!shown.contains('z'), "{shown}");
    }

    #[test]
    fn a_protocol_version_can_not_end_a_header_line() {
        assert!(ProtocolVersion::parse(b"2025-11-25").is_some());
        assert!(ProtocolVersion::parse(&[b'1'; ProtocolVersion::MAX_BYTES]).is_some());
        assert!(ProtocolVersion::parse(&[b'1'; ProtocolVersion::MAX_BYTES + 1]).is_none());
        for odd in [b"".as_slice(), b"2025\r\nx: y", b"2025 11", b"\xff"] {
            assert!(ProtocolVersion::parse(odd).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn sessions_ended_with_the_version_of_july_2026() {
        assert!(!is_sessionless(b"2025-11-25"));
        assert!(!is_sessionless(b"2026-07-27"));
        assert!(is_sessionless(b"2026-07-28"));
        assert!(is_sessionless(b"2027-01-01"));
    }
}
