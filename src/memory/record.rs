//! How a caller's sessions are written down, and what is read back: anything odd reads as nothing.
//!
//! ```text
//! caller    32 bytes   whose sessions these are
//! session   again and again to the end:
//!   endpoint  32 bytes
//!   opened     8 bytes   milliseconds
//!   used       8 bytes   milliseconds
//!   marks      1 byte    1 = the latest, 2 = shared, 4 = owned, 8 = without version, 16 = hidden, added up
//!   version    1 byte    its length, then so many bytes; 0 = not known
//!   path       2 bytes   its length, then so many bytes; 0 = not rewritten
//!   authority  1 byte    its length, then so many bytes; 0 = not rewritten
//!   host       1 byte    its length, then so many bytes; 0 = not known
//!   id         2 bytes   its length, then so many bytes
//!   successor  2 bytes   its length, then so many bytes; 0 = it lives
//! ```
//! Numbers are little-endian. The codec's version is part of the keys' names ([`super::CODEC`]), so that records of
//! two codecs never meet.

use core::time::Duration;

use crate::config::without_query;
use crate::digest::Digest;
use crate::input::{Input, put_host, put_short_text, put_text};
use crate::session::{ProtocolVersion, SessionId};
use crate::time::Millis;
use crate::upstream_host::UpstreamHost;

/// What is remembered of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "marks that have nothing to do with each other"
)]
pub struct Session {
    /// The digest of where it was opened: upstream cluster, path and authority.
    pub endpoint: Digest,
    /// The id that the server gave it.
    pub id: SessionId,
    /// The protocol version agreed on, once it is known.
    pub version: Option<ProtocolVersion>,
    /// Where the server sees its requests, if a route rewrites path or authority.
    pub rewritten: Option<Rewritten>,
    /// The host that holds it, if that is to be known.
    pub host: Option<UpstreamHost>,
    /// When it was opened.
    pub opened: Millis,
    /// When it was last used, to an eighth of the idle timeout.
    pub used: Millis,
    /// Whether it is its caller's latest at its endpoint: requests without an id belong to it.
    pub latest: bool,
    /// Whether requests of several clients may meet in it: its JSON-RPC ids are translated.
    pub shared: bool,
    /// Whether the filter opened it, so that its end is the filter's affair too.
    pub owned: bool,
    /// Whether its server refuses the version that it agreed on, if a request names it.
    pub versionless: bool,
    /// Whether no client knows its id: it stands for one that was lost.
    pub hidden: bool,
    /// The session that stands for this one, if this one was lost.
    pub successor: Option<SessionId>,
}

impl Session {
    /// A session that was opened just now, of which nothing more is known. It is its caller's latest.
    #[must_use]
    pub fn new(endpoint: Digest, id: SessionId, now: Millis) -> Self {
        Self {
            endpoint,
            id,
            version: None,
            rewritten: None,
            host: None,
            opened: now,
            used: now,
            latest: true,
            shared: false,
            owned: false,
            versionless: false,
            hidden: false,
            successor: None,
        }
    }

    fn marks(&self) -> u8 {
        let marks = [
            self.latest,
            self.shared,
            self.owned,
            self.versionless,
            self.hidden,
        ];
        marks
            .iter()
            .rev()
            .fold(0, |sum, mark| sum << 1 | u8::from(*mark))
    }
}

/// A session that was lost, as the request knows it that has found out: by now it may not be remembered any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub id: SessionId,
    /// The id that clients know it by; nothing if none does.
    pub known_as: Option<SessionId>,
    /// See [`Session::rewritten`].
    pub rewritten: Option<Rewritten>,
    /// See [`Session::versionless`].
    pub versionless: bool,
    /// See [`Session::owned`].
    pub owned: bool,
}

/// What a route made of a request's path and authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    path: Box<[u8]>,
    authority: Box<[u8]>,
}

impl Rewritten {
    /// The longest path that is remembered, in bytes.
    pub const MAX_PATH_BYTES: usize = 1024;
    /// The longest authority that is remembered, in bytes.
    pub const MAX_AUTHORITY_BYTES: usize = 255;

    /// Takes both, the path up to its query, or nothing if either is empty, too long or has a byte outside of 0x21-0x7E.
    #[must_use]
    pub fn parse(path: &[u8], authority: &[u8]) -> Option<Self> {
        let sound = |text: &[u8], most| {
            (1..=most).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
        };
        let path = without_query(path);
        let is_sound =
            sound(path, Self::MAX_PATH_BYTES) && sound(authority, Self::MAX_AUTHORITY_BYTES);
        is_sound.then(|| Self {
            path: path.into(),
            authority: authority.into(),
        })
    }

    /// The path as the server sees it, without a query: that may hold a secret of one request.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The authority as the server sees it.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }
}

/// One caller's sessions, in the order in which they were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRecord {
    /// The caller's digest.
    pub caller: Digest,
    /// Its sessions at all endpoints.
    pub sessions: Vec<Session>,
}

impl CallerRecord {
    /// A caller of whom nothing is known.
    #[must_use]
    pub fn new(caller: Digest) -> Self {
        Self {
            caller,
            sessions: Vec::new(),
        }
    }

    /// The session that requests without an id belong to.
    #[must_use]
    pub fn latest(&self, endpoint: &Digest) -> Option<&Session> {
        self.sessions
            .iter()
            .find(|session| session.latest && session.endpoint == *endpoint)
    }

    /// The session with this id.
    #[must_use]
    pub fn session(&self, endpoint: &Digest, id: &SessionId) -> Option<&Session> {
        self.sessions
            .iter()
            .find(|session| session.id == *id && session.endpoint == *endpoint)
    }

    /// Like [`Self::session`], to change it.
    pub fn session_mut(&mut self, endpoint: &Digest, id: &SessionId) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|session| session.id == *id && session.endpoint == *endpoint)
    }

    /// Adds a session as the latest of its endpoint. One that is known already is still shared: some servers answer an
    /// `initialize` in a session well.
    pub fn learn(&mut self, new: Session) {
        let known = self.session(&new.endpoint, &new.id);
        let (is_shared, is_owned) =
            known.map_or((false, false), |known| (known.shared, known.owned));
        self.sessions
            .retain(|session| session.id != new.id || session.endpoint != new.endpoint);
        self.unset_latest(&new.endpoint);
        self.sessions.push(Session {
            latest: true,
            shared: is_shared || new.shared,
            owned: is_owned || new.owned,
            ..new
        });
    }

    /// From now on no session of this endpoint is the latest.
    pub fn unset_latest(&mut self, endpoint: &Digest) {
        for session in &mut self.sessions {
            session.latest &= session.endpoint != *endpoint;
        }
    }

    /// Forgets the session with this id, and those that it stands for; others of the same endpoint stay as they are.
    pub fn forget(&mut self, endpoint: &Digest, id: &SessionId) {
        self.sessions.retain(|session| {
            let is_it = session.id == *id || session.successor.as_ref() == Some(id);
            !is_it || session.endpoint != *endpoint
        });
    }

    /// The session that a request with this id goes up in: the one with the id, or the one that stands for it.
    #[must_use]
    pub fn living(&self, endpoint: &Digest, id: &SessionId) -> Option<&Session> {
        let named = self.session(endpoint, id)?;
        match &named.successor {
            Some(successor) => self.session(endpoint, successor),
            None => Some(named),
        }
    }

    /// From now on `new`, which was just opened, stands for the session `lost`, and for all that `lost` stood for. It takes
    /// over what `lost` was to its caller.
    pub fn succeed(&mut self, lost: &Lost, new: Session) {
        let endpoint = new.endpoint;
        // Some servers give the same id again: then a client knows it, whatever it stands for.
        let is_known = |session: &Session| {
            session.id == new.id && session.endpoint == endpoint && !session.hidden
        };
        let hidden = !self.sessions.iter().any(is_known);
        let old = self.follow(lost, &new);
        self.sessions
            .retain(|session| session.id != new.id || session.endpoint != endpoint);
        self.sessions.push(Session {
            latest: old.latest,
            shared: old.shared,
            versionless: old.versionless || new.versionless,
            rewritten: new.rewritten.or(old.rewritten),
            hidden,
            ..new
        });
    }

    /// From now on `living` stands for the session `lost`, and for all that `lost` stood for. Gives what `lost` was: of
    /// one that had to make room meanwhile nothing is known but what its request knew, and it may have been shared.
    pub fn follow(&mut self, lost: &Lost, living: &Session) -> Session {
        let endpoint = living.endpoint;
        let find = |id| self.session(&endpoint, id);
        let old = find(&lost.id).or_else(|| lost.known_as.as_ref().and_then(find));
        let old = old.cloned().unwrap_or_else(|| {
            let name = lost.known_as.as_ref().unwrap_or(&lost.id);
            let unknown = Session {
                latest: self.latest(&endpoint).is_none(),
                shared: true,
                owned: lost.owned,
                versionless: lost.versionless,
                rewritten: lost.rewritten.clone(),
                ..Session::new(endpoint, name.clone(), living.opened)
            };
            if lost.known_as.is_some() {
                self.sessions.push(unknown.clone());
            }
            unknown
        });
        if old.hidden {
            self.sessions
                .retain(|session| session.id != old.id || session.endpoint != endpoint);
        }
        for session in &mut self.sessions {
            let is_named = lost.known_as.as_ref() == Some(&session.id);
            let stood_for = session.successor.as_ref() == Some(&lost.id);
            let is_meant = is_named || stood_for || session.id == lost.id;
            if is_meant && session.endpoint == endpoint && session.id != living.id {
                session.successor = Some(living.id.clone());
                session.latest = false;
                session.used = living.used;
            }
        }
        if old.latest
            && let Some(living) = self.session_mut(&endpoint, &living.id)
        {
            living.latest = true;
        }
        old
    }

    /// This session was used, and with it those that it stands for.
    pub fn touch(&mut self, endpoint: &Digest, id: &SessionId, now: Millis) {
        for session in &mut self.sessions {
            let is_it = session.id == *id || session.successor.as_ref() == Some(id);
            if is_it && session.endpoint == *endpoint {
                session.used = now;
            }
        }
    }

    /// Forgets what was idle for too long or is too old. One that was lost is known for as long as its successor is.
    pub fn expire(&mut self, now: Millis, idle_timeout: Duration, max_age: Duration) {
        let lives = |session: &Session| {
            now.since(session.used) < idle_timeout && now.since(session.opened) < max_age
        };
        self.sessions
            .retain(|session| session.successor.is_some() || lives(session));
        if self
            .sessions
            .iter()
            .all(|session| session.successor.is_none())
        {
            return;
        }
        let living = self.sessions.iter().filter(|s| s.successor.is_none());
        let living: Vec<_> = living.map(|s| (s.endpoint, s.id.clone())).collect();
        self.sessions.retain(|session| {
            let stands_for_it = |(endpoint, id): &(Digest, SessionId)| {
                *endpoint == session.endpoint && session.successor.as_ref() == Some(id)
            };
            session.successor.is_none() || living.iter().any(stands_for_it)
        });
    }

    /// Forgets the least recently used sessions until at most so many are left in so many bytes, and says how many
    /// went. The one opened last stays in any case.
    pub fn shrink(&mut self, sessions: usize, bytes: usize) -> usize {
        let mut gone = 0;
        while self.sessions.len() > sessions.max(1) || self.encoded_len() > bytes {
            let Some(older) = self.sessions.len().checked_sub(1).filter(|n| *n > 0) else {
                break;
            };
            let least = self.sessions.iter().take(older).enumerate();
            if let Some((index, _)) = least.min_by_key(|(_, session)| session.used) {
                self.sessions.remove(index);
                gone += 1;
            }
        }
        gone
    }

    /// When any of them was last used.
    #[must_use]
    pub fn used(&self) -> Millis {
        let used = self.sessions.iter().map(|session| session.used);
        used.max().unwrap_or_default()
    }

    /// The record as bytes; none at all if there is no session to remember.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if self.sessions.is_empty() {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend_from_slice(self.caller.as_bytes());
        for session in &self.sessions {
            let version = session.version.as_ref().map_or(&b""[..], |v| v.as_bytes());
            let id = session.id.as_bytes();
            bytes.extend_from_slice(session.endpoint.as_bytes());
            bytes.extend_from_slice(&session.opened.0.to_le_bytes());
            bytes.extend_from_slice(&session.used.0.to_le_bytes());
            bytes.push(session.marks());
            let (path, authority) = session
                .rewritten
                .as_ref()
                .map_or_else(Default::default, |r| (r.path(), r.authority()));
            put_short_text(&mut bytes, version);
            put_text(&mut bytes, path);
            put_short_text(&mut bytes, authority);
            put_host(&mut bytes, session.host);
            put_text(&mut bytes, id);
            let successor = session
                .successor
                .as_ref()
                .map_or(&b""[..], |s| s.as_bytes());
            put_text(&mut bytes, successor);
        }
        bytes
    }

    /// Reads a record back, or nothing if any byte of it is not as it should be.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let mut record = Self::new(input.digest()?);
        while !input.0.is_empty() {
            record.sessions.push(input.session()?);
        }
        (!record.sessions.is_empty()).then_some(record)
    }

    fn encoded_len(&self) -> usize {
        let sessions = self.sessions.iter().map(|session| {
            let version = session.version.as_ref().map_or(0, |v| v.as_bytes().len());
            let rewritten = session.rewritten.as_ref();
            let rewritten = rewritten.map_or(0, |r| r.path().len() + r.authority().len());
            let host = session.host.map_or(0, |host| host.to_string().len());
            let successor = session.successor.as_ref().map_or(0, |s| s.as_bytes().len());
            SESSION_BYTES + version + rewritten + host + session.id.as_bytes().len() + successor
        });
        Digest::BYTES + sessions.sum::<usize>()
    }
}

/// What a session takes beside its texts.
const SESSION_BYTES: usize = Digest::BYTES + 8 + 8 + 1 + 1 + 2 + 1 + 1 + 2 + 2;

impl Input<'_> {
    fn session(&mut self) -> Option<Session> {
        let endpoint = self.digest()?;
        let opened = Millis(self.number()?);
        let used = Millis(self.number()?);
        let [marks] = self.array()?;
        if marks > 31 {
            return None;
        }
        let version = match self.short_text()? {
            b"" => None,
            version => Some(ProtocolVersion::parse(version)?),
        };
        let rewritten = match (self.text()?, self.short_text()?) {
            (b"", b"") => None,
            // What is written down has lost its query: one that has it is none of ours.
            (path, authority) => {
                Some(Rewritten::parse(path, authority).filter(|it| it.path() == path)?)
            }
        };
        let host = self.host()?;
        let id = SessionId::parse(self.text()?)?;
        let successor = match self.text()? {
            b"" => None,
            successor => Some(SessionId::parse(successor)?),
        };
        Some(Session {
            endpoint,
            id,
            version,
            rewritten,
            host,
            opened,
            used,
            latest: marks & 1 != 0,
            shared: marks & 2 != 0,
            owned: marks & 4 != 0,
            versionless: marks & 8 != 0,
            hidden: marks & 16 != 0,
            successor,
        })
    }
}

#[cfg(test)]
mod tests;
