//! The JSON-RPC ids of one exchange in a shared session: tokens on the way up, the originals on the way back.
//!
//! A body that changes its length must not go with a `content-length` of old: what is too much would become the begin
//! of the next request on the connection.

use crate::digest::Digest;
use crate::exchange::{Plugin, Signal};
use crate::flights::UnderWay;
use crate::headers::{ACCEPT_ENCODING, CONTENT_LENGTH, Headers, is_plain, media_type_of};
use crate::platform::Platform;
use crate::repair::Edit;
use crate::session::SessionId;
use crate::translate::{InFlight, Incoming, Outgoing, token};

/// How many requests of one batch are known by their ids; of any more it is only known that there are some.
pub const BATCH_KNOWN: usize = 64;

/// See the module.
pub struct Ids {
    endpoint: Digest,
    session: SessionId,
    up: Option<Up>,
    down: Option<Incoming>,
    begun: Vec<(Digest, u64)>,
}

/// A body on its way up.
struct Up {
    outgoing: Outgoing,
    declared: Declared,
    received: u64,
}

/// What a request's `content-length` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declared {
    /// There is none.
    Nothing,
    /// It is no number, or there are several.
    Unreadable,
    /// So many bytes.
    Bytes(u64),
}

impl Declared {
    fn read(headers: &Headers) -> Self {
        let mut lines = headers.all(CONTENT_LENGTH);
        let Some(line) = lines.next() else {
            return Self::Nothing;
        };
        let number = core::str::from_utf8(line).ok().and_then(|n| n.parse().ok());
        match (number, lines.next()) {
            (Some(bytes), None) => Self::Bytes(bytes),
            _ => Self::Unreadable,
        }
    }
}

/// What becomes of a piece of a request's body.
pub struct Rewritten {
    /// What goes on in its place.
    pub body: Vec<u8>,
    /// Whether that is anything else than the piece.
    pub is_changed: bool,
    /// The piece as it came.
    pub original: Vec<u8>,
    /// What of the body had waited for it.
    pub waited: Vec<u8>,
    /// It is a lone `notifications/cancelled`, and not clear which request that means: it must not go on.
    pub is_lost_cancel: bool,
    /// What there is to count.
    pub signals: Vec<Signal>,
}

impl Ids {
    /// Of a request in this session. `nonce` is one that nobody can foresee.
    #[must_use]
    pub fn new(endpoint: Digest, session: SessionId, headers: &Headers, nonce: u64) -> Self {
        let is_post = headers.get(":method") == Some(b"POST");
        let up = is_post && is_plain(headers.get("content-encoding"));
        Self {
            endpoint,
            session,
            up: up.then(|| Up {
                outgoing: Outgoing::new(nonce),
                declared: Declared::read(headers),
                received: 0,
            }),
            down: None,
            begun: Vec::new(),
        }
    }

    /// What the request's headers have to say otherwise, besides the length: an answer must not come compressed.
    #[must_use]
    pub fn edits(headers: &Headers) -> Vec<Edit> {
        let lines = headers.all(ACCEPT_ENCODING).count();
        // Envoy sets the first of several lines only.
        let others = (lines > 1).then(|| Edit::remove(ACCEPT_ENCODING));
        let asks = (lines > 0).then(|| Edit::set(ACCEPT_ENCODING, b"identity"));
        others.into_iter().chain(asks).collect()
    }

    /// What becomes of the request's `content-length`: the exact one if the body is whole and goes on with so many
    /// bytes, else none. Nothing if it may stay.
    #[must_use]
    pub fn length(&self, bytes: usize) -> Option<Edit> {
        let up = self.up.as_ref()?;
        match up.declared {
            Declared::Nothing => return None,
            Declared::Bytes(declared) if declared == up.received => {}
            Declared::Unreadable | Declared::Bytes(_) => {
                return Some(Edit::remove(CONTENT_LENGTH));
            }
        }
        let is_other = bytes as u64 != up.received;
        is_other.then(|| Edit::set(CONTENT_LENGTH, bytes.to_string().as_bytes()))
    }

    /// Whether the request's body goes on rewritten.
    #[must_use]
    pub fn rewrites_request(&self) -> bool {
        self.up.is_some()
    }

    /// Whether the answer's body goes on rewritten.
    #[must_use]
    pub fn rewrites_answer(&self) -> bool {
        self.down.is_some()
    }

    /// The next piece of the request's body. `ended` if no more come.
    pub fn request_body(
        &mut self,
        plugin: &Plugin,
        platform: &impl Platform,
        original: Vec<u8>,
        ended: bool,
    ) -> Rewritten {
        let mut body = Vec::with_capacity(original.len() + 64);
        let Some(up) = &mut self.up else {
            return Rewritten {
                body: original.clone(),
                is_changed: false,
                original,
                waited: Vec::new(),
                is_lost_cancel: false,
                signals: Vec::new(),
            };
        };
        let mut registry = Registry {
            plugin,
            platform,
            endpoint: &self.endpoint,
            session: &self.session,
            begun: &mut self.begun,
            is_unclear: false,
            signals: Vec::new(),
        };
        let waited = up.outgoing.waiting().to_vec();
        up.received = up.received.saturating_add(original.len() as u64);
        up.outgoing.push(&original, &mut registry, &mut body);
        if ended || up.declared == Declared::Bytes(up.received) {
            up.outgoing.finish(&mut body);
        }
        let is_unclear = registry.is_unclear || up.outgoing.has_unknown_cancel();
        let has_token = up.outgoing.take_change();
        Rewritten {
            body,
            is_changed: has_token || !waited.is_empty() || up.outgoing.held() > 0,
            original,
            waited,
            is_lost_cancel: is_unclear && !up.outgoing.is_batch(),
            signals: registry.signals,
        }
    }

    /// Gives up on the request's body, and gives what waits of it: it goes on as it comes.
    pub fn leave_request(&mut self) -> Vec<u8> {
        let mut waiting = Vec::new();
        if let Some(mut up) = self.up.take() {
            up.outgoing.finish(&mut waiting);
        }
        waiting
    }

    /// The answer's headers came: what they have to say otherwise if its body is going to be rewritten.
    pub fn answer_headers(&mut self, headers: &Headers) -> Option<Edit> {
        if !is_plain(headers.get("content-encoding")) {
            return None;
        }
        let media_type = media_type_of(headers.get("content-type")?);
        self.down = if media_type.eq_ignore_ascii_case(b"application/json") {
            Some(Incoming::json())
        } else if media_type.eq_ignore_ascii_case(b"text/event-stream") {
            Some(Incoming::event_stream())
        } else {
            None
        };
        let changes_length = self.down.is_some() && headers.has(CONTENT_LENGTH);
        changes_length.then_some(Edit::remove(CONTENT_LENGTH))
    }

    /// Whether this answer comes in a form in which its ids can't be put back, though it may well have some.
    #[must_use]
    pub fn cannot_read(&self, headers: &Headers) -> bool {
        let media_type = headers.get("content-type").map(media_type_of);
        let may_have = media_type.is_some_and(|media_type| {
            media_type.eq_ignore_ascii_case(b"application/json")
                || media_type.eq_ignore_ascii_case(b"text/event-stream")
        });
        self.down.is_none() && may_have
    }

    /// The next piece of the answer's body, as it goes on; nothing if that is as it came. `ended` if no more come.
    pub fn answer_body(&mut self, bytes: &[u8], ended: bool) -> Option<Vec<u8>> {
        self.down.as_mut()?.put_back(bytes, ended)
    }

    /// What waits of the answer's body.
    #[must_use]
    pub fn answer_waiting(&self) -> &[u8] {
        self.down.as_ref().map_or(&[], Incoming::waiting)
    }

    /// Gives up on the answer's body: it goes on as it comes.
    pub fn leave_answer(&mut self) {
        self.down = None;
    }

    /// The exchange is over: its requests are under way no more.
    #[must_use]
    pub fn over(self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        if self.begun.is_empty() {
            return Vec::new();
        }
        let now = platform.now();
        let end = |(whose, nonce): (Digest, u64)| {
            let ended = plugin.flights.end(platform, &whose, nonce, now);
            ended.err().map(Signal::Failed)
        };
        self.begun.into_iter().filter_map(end).collect()
    }
}

/// The requests of one session that are under way, on all workers.
struct Registry<'a, P> {
    plugin: &'a Plugin,
    platform: &'a P,
    endpoint: &'a Digest,
    session: &'a SessionId,
    begun: &'a mut Vec<(Digest, u64)>,
    /// There was a cancel of which it is not clear what it means.
    is_unclear: bool,
    signals: Vec<Signal>,
}

impl<P: Platform> Registry<'_, P> {
    /// What stands for an id; for no id, what stands for those that are not known one by one.
    fn whose(&self, original: &[u8]) -> Digest {
        let parts = [
            self.endpoint.as_bytes().as_slice(),
            self.session.as_bytes(),
            original,
        ];
        self.plugin.key.digest("flight", parts)
    }

    fn under_way(&mut self, original: &[u8]) -> UnderWay {
        let (whose, now) = (self.whose(original), self.platform.now());
        let under_way = self.plugin.flights.under_way(self.platform, &whose, now);
        under_way.unwrap_or_else(|error| {
            self.signals.push(Signal::Failed(error));
            UnderWay::Several
        })
    }
}

impl<P: Platform> InFlight for Registry<'_, P> {
    fn begun(&mut self, original: &[u8], token: &[u8]) {
        let Some(nonce) = token::nonce(token) else {
            return;
        };
        let whose = match self.begun.len() {
            known if known < BATCH_KNOWN => self.whose(original),
            BATCH_KNOWN => self.whose(b""),
            _ => return,
        };
        let now = self.platform.now();
        if let Err(error) = self.plugin.flights.begin(self.platform, &whose, nonce, now) {
            self.signals.push(Signal::Failed(error));
        }
        self.begun.push((whose, nonce));
    }

    fn token_of(&mut self, original: &[u8]) -> Option<Vec<u8>> {
        let under_way = (self.under_way(original), self.under_way(b""));
        if let (UnderWay::One(nonce), UnderWay::Nobody) = under_way {
            return token::encode(nonce, original);
        }
        // In a batch it has to go on: as one of a request that nobody made.
        self.is_unclear = true;
        token::encode(self.platform.nonce(), original)
    }
}

#[cfg(test)]
mod tests;
