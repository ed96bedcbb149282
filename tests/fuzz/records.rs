//! What is written down: any bytes are read or refused, what is read is written down as it was, and whatever another
//! worker left there, nobody gets into a session of somebody else.
//!
//! The first byte of an input says which of these is tried on the rest.

use std::time::Duration;

use mcp_session_filter::digest::Digest;
use mcp_session_filter::memory::{CallerRecord, Lost, Rewritten, Session};
use mcp_session_filter::platform::Store;
use mcp_session_filter::reply::Reply;
use mcp_session_filter::seat::Seat;
use mcp_session_filter::session::{ProtocolVersion, SessionId};
use mcp_session_filter::time::Millis;
use mcp_session_filter::translate::token;
use mcp_session_filter::upstream_host::UpstreamHost;

use crate::driver::Envoy;
use crate::traffic::{self, Sent};

/// Checks bytes that were written down, or makes something of them that is.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => check_record(rest),
        1 => check_seat(rest),
        2 => check_reply(rest),
        3 => check_token(rest),
        4 => check_changes(rest),
        _ => check_odd_store(rest),
    }
}

fn check_record(bytes: &[u8]) {
    if let Some(record) = CallerRecord::decode(bytes) {
        assert!(record.encode() == bytes, "there is one way to write it");
    }
}

fn check_seat(bytes: &[u8]) {
    if let Some(seat) = Seat::decode(bytes) {
        assert!(seat.encode() == bytes, "there is one way to write it");
    }
}

fn check_reply(bytes: &[u8]) {
    if let Some(reply) = Reply::decode(bytes) {
        assert!(reply.encode() == bytes, "there is one way to write it");
    }
}

fn check_token(bytes: &[u8]) {
    if let Some(original) = token::decode(bytes) {
        let nonce = token::nonce(bytes).expect("it has one");
        assert_eq!(token::encode(nonce, &original).as_deref(), Some(bytes));
    }
    let Some((nonce, original)) = bytes.split_first_chunk() else {
        return;
    };
    let nonce = u64::from_le_bytes(*nonce);
    if let Some(token) = token::encode(nonce, original) {
        assert!(token.len() <= token::MAX_BYTES);
        assert_eq!(token::nonce(&token), Some(nonce));
        assert_eq!(token::decode(&token).as_deref(), Some(original));
        let text: String = serde_json::from_slice(&token).expect("a JSON string");
        assert_eq!(text.len(), token.len() - 2, "nothing in it is escaped");
    }
}

/// Bytes as choices, one after the other; zeros where there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let first = self.0.split_first();
        let (byte, rest) = first.map_or((0, &[][..]), |(byte, rest)| (*byte, rest));
        self.0 = rest;
        byte
    }

    fn id(&mut self) -> SessionId {
        let byte = self.next();
        let length = if byte > 250 { 4096 } else { 1 };
        SessionId::parse(&vec![b'a' + byte % 6; length]).unwrap()
    }

    fn digest(&mut self) -> Digest {
        Digest::from_bytes([self.next() % 2; 32])
    }

    fn session(&mut self, now: Millis) -> Session {
        let (endpoint, id, marks) = (self.digest(), self.id(), self.next());
        Session {
            version: (marks & 1 != 0).then(|| ProtocolVersion::parse(b"2025-11-25").unwrap()),
            rewritten: (marks & 2 != 0).then(|| Rewritten::parse(b"/mcp", b"a").unwrap()),
            host: (marks & 4 != 0).then(|| UpstreamHost::parse(b"10.0.0.1:80").unwrap()),
            shared: marks & 8 != 0,
            owned: marks & 16 != 0,
            versionless: marks & 32 != 0,
            ..Session::new(endpoint, id, now)
        }
    }
}

/// Whatever happens to a caller's sessions: it is read back as it was, each id is known once, at most one session of an
/// endpoint is the latest, and that one lives.
fn check_changes(data: &[u8]) {
    let mut choices = Choices(data);
    let mut record = CallerRecord::new(Digest::from_bytes([7; 32]));
    let mut now = Millis(1_000_000);
    while !choices.0.is_empty() {
        now.0 += 1;
        match choices.next() % 8 {
            0 | 1 => record.learn(choices.session(now)),
            2 => record.forget(&choices.digest(), &choices.id()),
            3 => record.unset_latest(&choices.digest()),
            4 => {
                let (id, new) = (choices.id(), choices.session(now));
                let known = record.living(&new.endpoint, &id).map(|it| it.id.clone());
                let lost = Lost {
                    known_as: (choices.next() % 2 == 0).then(|| id.clone()),
                    id: known.unwrap_or(id),
                    rewritten: None,
                    versionless: false,
                    owned: false,
                };
                record.succeed(&lost, new);
            }
            5 => record.touch(&choices.digest(), &choices.id(), now),
            6 => {
                now.0 += u64::from(choices.next()) * 10;
                let idle = Duration::from_secs(1);
                record.expire(now, idle, Duration::from_secs(10));
            }
            _ => {
                let sessions = usize::from(choices.next() % 8);
                let bytes = usize::from(choices.next()) * 64;
                let before = record.sessions.len();
                let gone = record.shrink(sessions, bytes);
                assert_eq!(before - gone, record.sessions.len());
                assert!(record.sessions.len() <= sessions.max(1));
                assert!(record.encode().len() <= bytes || record.sessions.len() <= 1);
            }
        }
        check_sound(&record);
    }
}

fn check_sound(record: &CallerRecord) {
    let bytes = record.encode();
    let expected = (!record.sessions.is_empty()).then(|| record.clone());
    assert_eq!(CallerRecord::decode(&bytes), expected);
    for session in &record.sessions {
        let of_endpoint = || {
            let sessions = record.sessions.iter();
            sessions.filter(|other| other.endpoint == session.endpoint)
        };
        let same = of_endpoint().filter(|other| other.id == session.id);
        assert_eq!(same.count(), 1, "an id is known once");
        let latest = of_endpoint().filter(|other| other.latest);
        assert!(latest.count() <= 1, "one is the latest");
        assert!(!(session.latest && session.successor.is_some()), "it lives");
    }
}

thread_local! {
    /// Envoys that remember a session of one caller: opened by a client, and opened by the filter to be shared.
    static LEARNED: [Envoy; 2] = ["forward", "reuse"].map(|mode| {
        let config = format!(
            r#"{{"hold_request_headers": true, "on_reinitialize": "{mode}", "memory": {{"slots": 2, "bulk_slots": 2}}}}"#
        );
        let mut envoy = Envoy::new(config.as_bytes());
        traffic::open(&mut envoy, "owner", "s1", mode == "reuse");
        envoy
    });
}

/// Changes one value in shared data; requests go on, and never in somebody else's session.
fn check_odd_store(data: &[u8]) {
    let mut choices = Choices(data);
    let which = usize::from(choices.next() % 2);
    let mut envoy = LEARNED.with(|envoys| envoys[which].copy());
    for _ in 0..=choices.next() % 2 {
        let mut filled = envoy.platform.dump();
        filled.retain(|(_, value)| !value.is_empty());
        let (key, value) = &filled[usize::from(choices.next()) % filled.len()];
        let at = value.len().min(choices.next().into());
        let replaced = usize::from(choices.next() % 40);
        let added = usize::from(choices.next() % 40).min(choices.0.len());
        let (new, rest) = choices.0.split_at(added);
        choices.0 = rest;
        let behind = value.len().min(at + replaced);
        let changed = [&value[..at], new, &value[behind..]].concat();
        envoy.platform.write(key, &changed, None).unwrap();
    }
    for method in ["POST", "GET", "DELETE"] {
        let stranger = traffic::send(&mut envoy, &Sent::call(method, "stranger"));
        let sent: Vec<_> = stranger.upstream.all("mcp-session-id").collect();
        assert!(sent.is_empty(), "a stranger's {method} in a session");
        assert!(stranger.reply.is_none(), "a stranger's {method} answered");
        let owner = traffic::send(&mut envoy, &Sent::call(method, "owner"));
        let sent: Vec<_> = owner.upstream.all("mcp-session-id").collect();
        assert!(sent.len() <= 1);
        assert!(sent.iter().all(|id| SessionId::parse(id).is_some()));
    }
    envoy.advance(Duration::from_secs(60), &[]);
}
