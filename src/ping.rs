//! The filter's own question to a server: does this session live? A JSON-RPC `ping` (MCP 2025-11-25, Utilities, Ping),
//! sent as the client's request was.

use core::time::Duration;

use crate::config::SubrequestConfig;
use crate::headers::{ACCEPT, ACCEPT_JSON_OR_EVENTS, Headers, PROTOCOL_VERSION, SESSION_ID};
use crate::session::SessionId;

/// A request of the filter's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The upstream cluster.
    pub cluster: String,
    /// Headers, pseudo-headers first.
    pub headers: Vec<(String, String)>,
    /// The JSON-RPC request.
    pub body: Vec<u8>,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// What an answer says of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered in it.
    Lives,
    /// The server refused it.
    Refused,
    /// The server said nothing about it: it was down, slow, or wanted credentials.
    Unknown,
}

impl Verdict {
    /// By the status of the answer; none if there was no answer.
    #[must_use]
    pub fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..=299) => Self::Lives,
            Some(400 | 404) => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// Headers that belong to the client's body or connection, or that the ping sets itself.
const NOT_COPIED: [&str; 18] = [
    ":method",
    ":path",
    ":authority",
    "host",
    ACCEPT,
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "last-event-id",
    PROTOCOL_VERSION,
    SESSION_ID,
    "te",
    "transfer-encoding",
    "upgrade",
];

impl Ping {
    /// A ping in a session, like a request that had these headers. `nonce` keeps its JSON-RPC id apart from others.
    #[must_use]
    pub fn new(
        like: &Headers,
        cluster: &str,
        session: &SessionId,
        version: Option<&[u8]>,
        config: &SubrequestConfig,
        nonce: u64,
    ) -> Self {
        let text = |bytes: &[u8]| core::str::from_utf8(bytes).ok().map(str::to_owned);
        let of = |name| like.get(name).and_then(text).unwrap_or_default();
        let path = config.path.clone().unwrap_or_else(|| of(":path"));
        let authority = config.authority.clone().unwrap_or_else(|| of(":authority"));
        let own = [
            (":method", Some("POST".to_owned())),
            (":path", Some(path)),
            (":authority", Some(authority)),
            ("content-type", Some("application/json".to_owned())),
            (ACCEPT, Some(ACCEPT_JSON_OR_EVENTS.to_owned())),
            (SESSION_ID, text(session.as_bytes())),
            (PROTOCOL_VERSION, version.and_then(text)),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        // The call takes text only: a header of other bytes can't go along.
        let copied = like.iter().filter_map(|(name, value)| {
            let name = text(name)?;
            (!NOT_COPIED.contains(&name.as_str())).then_some((name, text(value)?))
        });
        Self {
            cluster: cluster.to_owned(),
            headers: own.chain(copied).collect(),
            body: format!(
                r#"{{"jsonrpc":"2.0","id":"mcp-session-filter-{nonce:016x}","method":"ping"}}"#
            )
            .into_bytes(),
            timeout: config.timeout,
        }
    }
}
