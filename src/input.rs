//! Bytes that were written down, taken apart from the front. Anything that does not fit reads as nothing.

use crate::digest::Digest;
use crate::upstream_host::UpstreamHost;

/// What is left to be read.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest::from_bytes)
    }

    /// A text behind one byte of length.
    pub(crate) fn short_text(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.bytes(length.into())
    }

    /// A host, or none.
    #[expect(clippy::option_option, reason = "nothing fits, or none is there")]
    pub(crate) fn host(&mut self) -> Option<Option<UpstreamHost>> {
        let text = self.short_text()?;
        if text.is_empty() {
            return Some(None);
        }
        let host = UpstreamHost::parse(text)?;
        (host.to_string().as_bytes() == text).then_some(Some(host))
    }

    /// A text behind two bytes of length.
    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        self.bytes(length.into())
    }
}

/// Writes a host down as [`Input::host`] reads it.
pub(crate) fn put_host(bytes: &mut Vec<u8>, host: Option<UpstreamHost>) {
    let text = host.map(|host| host.to_string()).unwrap_or_default();
    put_short_text(bytes, text.as_bytes());
}

/// Writes a text behind one byte of length. What is too long for that is no text that the types allow: it is left out.
pub(crate) fn put_short_text(bytes: &mut Vec<u8>, text: &[u8]) {
    let length = u8::try_from(text.len());
    bytes.push(length.unwrap_or_default());
    bytes.extend_from_slice(if length.is_ok() { text } else { b"" });
}

/// Writes a text behind two bytes of length, like [`put_short_text`].
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len());
    bytes.extend_from_slice(&length.unwrap_or_default().to_le_bytes());
    bytes.extend_from_slice(if length.is_ok() { text } else { b"" });
}
