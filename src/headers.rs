//! The headers of one request or answer, as the host hands them over: names in lower case, values any bytes.

/// `Mcp-Session-Id` (MCP 2025-11-25, Transports, Session Management).
pub const SESSION_ID: &str = "mcp-session-id";
/// `MCP-Protocol-Version` (MCP 2025-11-25, Transports, Protocol Version Header).
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// `Mcp-Method`, required from MCP 2026-07-28 on.
pub const METHOD: &str = "mcp-method";
/// `Accept` (RFC 9110, 12.5.1).
pub const ACCEPT: &str = "accept";
/// `Accept-Encoding` (RFC 9110, 12.5.3).
pub const ACCEPT_ENCODING: &str = "accept-encoding";
/// `Content-Length` (RFC 9110, 8.6).
pub const CONTENT_LENGTH: &str = "content-length";
/// What a client of Streamable HTTP has to accept on a POST (MCP 2025-11-25, Transports, Sending Messages).
pub const ACCEPT_JSON_OR_EVENTS: &str = "application/json, text/event-stream";

/// A header: its name in lower case and its value.
pub type Header = (Vec<u8>, Vec<u8>);

/// Headers in the order of the wire, pseudo-headers included.
#[derive(Clone, Default)]
pub struct Headers {
    /// As the host handed them over, so that a request costs no memory for each of its lines.
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

/// Where a header is: its name, a zero, its value.
#[derive(Clone, Copy)]
struct Line {
    start: usize,
    name: usize,
    value: usize,
}

impl Headers {
    /// Headers that no host gave.
    #[must_use]
    pub fn new<T: AsRef<[u8]>, U: AsRef<[u8]>>(lines: impl IntoIterator<Item = (T, U)>) -> Self {
        let lines = lines.into_iter();
        let lines = lines.map(|(name, value)| (name.as_ref().to_vec(), value.as_ref().to_vec()));
        let lines: Vec<_> = lines.collect();
        Self::decode(Self::encode(lines.iter())).unwrap_or_default()
    }

    /// Reads a header map as the host hands it over: a count, all lengths (each name's, then its value's), then all
    /// names and values, a zero after each; numbers of 32 bits, little-endian (proxy-wasm ABI 0.2.1, Serialization).
    #[must_use]
    pub fn decode(bytes: Vec<u8>) -> Option<Self> {
        fn number<'a>(lengths: &mut impl Iterator<Item = &'a [u8; 4]>) -> Option<usize> {
            usize::try_from(u32::from_le_bytes(*lengths.next()?)).ok()
        }
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (words, _) = bytes.as_chunks::<4>();
        let mut lengths = words.iter();
        let count = number(&mut lengths)?;
        let mut start = count.checked_mul(8)?.checked_add(4)?;
        bytes.get(start..)?;
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, value) = (number(&mut lengths)?, number(&mut lengths)?);
            let between = start.checked_add(name)?;
            let end = between.checked_add(value)?.checked_add(1)?;
            if bytes.get(between) != Some(&0) || bytes.get(end) != Some(&0) {
                return None;
            }
            lines.push(Line { start, name, value });
            start = end + 1;
        }
        (start == bytes.len()).then_some(Self { bytes, lines })
    }

    /// Writes a header map down as [`Self::decode`] reads it.
    pub fn encode<'a>(lines: impl Iterator<Item = &'a Header> + Clone) -> Vec<u8> {
        let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = word(lines.clone().count()).to_vec();
        for (name, value) in lines.clone() {
            bytes.extend_from_slice(&word(name.len()));
            bytes.extend_from_slice(&word(value.len()));
        }
        for text in lines.flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        bytes
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| {
            let text = self.bytes.get(line.start..).unwrap_or_default();
            let (name, value) = text.split_at_checked(line.name).unwrap_or_default();
            (name, value.get(1..=line.value).unwrap_or_default())
        })
    }

    /// The values of all lines with this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(other, _)| *other == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The first value under this name that is not empty: an empty header counts as none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(other, value)| *other == name.as_bytes() && !value.is_empty())
            .map(|(_, value)| value)
    }

    /// The status of an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let status = core::str::from_utf8(self.get(":status")?).ok()?;
        status.parse().ok()
    }

    /// Whether a line with this name is there, empty or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

/// The media type of a `Content-Type`, without its parameters.
///
/// `media-type = type "/" subtype *( OWS ";" OWS [ parameter ] )` (RFC 9110, sections 5.6.6 and 8.3.1)
#[must_use]
pub fn media_type_of(content_type: &[u8]) -> &[u8] {
    let mut parts = content_type.split(|byte| *byte == b';');
    parts.next().unwrap_or_default().trim_ascii()
}

/// Whether a body is sent as it is (RFC 9110, section 8.4).
#[must_use]
pub fn is_plain(content_encoding: Option<&[u8]>) -> bool {
    let encoding = content_encoding.unwrap_or_default().trim_ascii();
    encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity")
}

/// Whether an `Accept` names this media type itself (wildcards don't count).
#[must_use]
pub fn names_media_type(accept: &[u8], media_type: &str) -> bool {
    accept
        .split(|byte| *byte == b',')
        .filter_map(|range| range.split(|byte| *byte == b';').next())
        .any(|range| {
            range
                .trim_ascii()
                .eq_ignore_ascii_case(media_type.as_bytes())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_header_counts_as_none() {
        let headers = Headers::new([("a", ""), ("a", "1"), ("b", "")]);
        assert_eq!(headers.get("a"), Some(b"1".as_slice()));
        assert_eq!(headers.get("b"), None);
        assert!(headers.has("b") && !headers.has("c"));
        assert_eq!(headers.all("a").count(), 2);
    }

    #[test]
    fn a_map_from_the_host_is_read_whole_or_not_at_all() {
        let lines = [("a", "1"), ("bc", ""), ("a", "x\0y")];
        let lines =
            lines.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let bytes = Headers::encode(lines.iter());
        let read = Headers::decode(bytes.clone()).unwrap();
        let lines = lines.iter().map(|(name, value)| (&name[..], &value[..]));
        assert!(read.iter().eq(lines));
        for length in 1..bytes.len() {
            assert!(
                Headers::decode(bytes[..length].to_vec()).is_none(),
                "{length}"
            );
        }
        for index in 0..28 {
            for flip in [1, 0x80, 0xff] {
                let mut lying = bytes.clone();
                lying[index] ^= flip;
                assert!(Headers::decode(lying).is_none(), "{index} {flip}");
            }
        }
        assert_eq!(Headers::decode(Vec::new()).unwrap().iter().count(), 0);
        assert!(Headers::decode(vec![0xff; 64]).is_none());
    }

    #[test]
    fn a_wildcard_does_not_name_a_media_type() {
        for accept in ["text/event-stream", "a/b, Text/Event-Stream;q=0.5"] {
            assert!(names_media_type(accept.as_bytes(), "text/event-stream"));
        }
        for accept in ["*/*", "text/*", "text/event-streams", ""] {
            assert!(!names_media_type(accept.as_bytes(), "text/event-stream"));
        }
    }
}
