//! The filter's own question to a server: does this session live? A JSON-RPC `ping` (MCP 2025-11-25, Utilities, Ping),
//! sent as the client's request was.

use core::fmt;
use core::time::Duration;

use crate::config::{SubrequestConfig, without_query};
use crate::headers::{ACCEPT, ACCEPT_JSON_OR_EVENTS, Headers, PROTOCOL_VERSION, SESSION_ID};
use crate::memory::{Rewritten, Session};
use crate::session::SessionId;

/// A request of the filter's own. It carries a client's credentials and a session's id: `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
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

/// A remembered session that a request went up in, with what a ping in it needs.
pub struct InSession {
    /// The session.
    pub id: SessionId,
    /// The protocol version that the request, or the last ping, carried.
    pub version: Option<Vec<u8>>,
    /// Where a route sends it: a request of the filter's own skips the route.
    rewritten: Option<Rewritten>,
    /// The client's headers.
    headers: Headers,
}

impl InSession {
    /// A request that carries the id itself.
    #[must_use]
    pub fn own(session: &Session, headers: Headers) -> Self {
        Self {
            id: session.id.clone(),
            version: headers.get(PROTOCOL_VERSION).map(<[u8]>::to_vec),
            rewritten: session.rewritten.clone(),
            headers,
        }
    }

    /// A request that was given id and version.
    #[must_use]
    pub fn repaired(session: &Session, headers: Headers) -> Self {
        let negotiated = session
            .version
            .as_ref()
            .map(|version| version.as_bytes().to_vec());
        let own = Self::own(session, headers);
        Self {
            version: own.version.or(negotiated),
            ..own
        }
    }
}

/// What an answer says of the session that the request was refused in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered in it.
    Lives,
    /// The server refused it, with this status.
    Refused(u16),
    /// The server said nothing about it: it was down, slow, or wanted credentials.
    Unknown,
}

impl Verdict {
    /// By the status of the answer; none if there was no answer.
    #[must_use]
    pub fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..=299) => Self::Lives,
            Some(status @ (400 | 404)) => Self::Refused(status),
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

/// Envoy's own headers would set the ping's timeout and retries.
fn is_left_out(name: &str) -> bool {
    NOT_COPIED.contains(&name) || name.starts_with("x-envoy-")
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ping(to {})", self.cluster)
    }
}

impl Ping {
    /// A ping like the request that went up in this session and cluster. `nonce` keeps its JSON-RPC id apart from
    /// others.
    #[must_use]
    pub fn new(within: &InSession, cluster: &str, config: &SubrequestConfig, nonce: u64) -> Self {
        let like = &within.headers;
        let rewritten = within.rewritten.as_ref();
        let text = |bytes: &[u8]| core::str::from_utf8(bytes).ok().map(str::to_owned);
        let of = |name| like.get(name).and_then(text);
        let path = config.path.clone();
        let path = path.or_else(|| {
            let path = of(":path")?;
            let query = path
                .split_at_checked(without_query(path.as_bytes()).len())?
                .1;
            Some(text(rewritten?.path())? + query)
        });
        let authority = config.authority.clone();
        let authority = authority.or_else(|| rewritten.and_then(|to| text(to.authority())));
        let own = [
            (":method", Some("POST".to_owned())),
            (":path", path.or_else(|| of(":path"))),
            (":authority", authority.or_else(|| of(":authority"))),
            ("content-type", Some("application/json".to_owned())),
            (ACCEPT, Some(ACCEPT_JSON_OR_EVENTS.to_owned())),
            (SESSION_ID, text(within.id.as_bytes())),
            (PROTOCOL_VERSION, within.version.as_deref().and_then(text)),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        // The call takes text only: a header of other bytes can't go along.
        let copied = like.iter().filter_map(|(name, value)| {
            let name = text(name)?;
            (!is_left_out(&name)).then_some((name, text(value)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn ping(config: &str, rewritten: Option<Rewritten>, headers: &[(&str, &[u8])]) -> Ping {
        let lines = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        let within = InSession {
            id: SessionId::parse(b"s1").unwrap(),
            version: Some(b"2025-06-18".to_vec()),
            rewritten,
            headers: Headers::new(lines.collect()),
        };
        let config = Config::parse(config.as_bytes()).unwrap();
        Ping::new(&within, "server", &config.subrequest, 0xab)
    }

    fn of<'a>(ping: &'a Ping, name: &str) -> Vec<&'a str> {
        let lines = ping.headers.iter().filter(|(other, _)| other == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn a_ping_goes_where_the_request_went_with_what_the_client_showed() {
        let ping = ping(
            "",
            None,
            &[
                (":method", b"DELETE"),
                (":path", b"/mcp?a=b"),
                (":authority", b"mcp.test"),
                (":scheme", b"http"),
                ("authorization", b"Bearer a"),
                ("content-length", b"5"),
                ("transfer-encoding", b"chunked"),
                ("mcp-session-id", b"other"),
                ("accept", b"*/*"),
                ("x-envoy-upstream-rq-timeout-ms", b"60000"),
                ("x-odd", b"\xff"),
            ],
        );
        let expected = [
            (":method", vec!["POST"]),
            (":path", vec!["/mcp?a=b"]),
            (":authority", vec!["mcp.test"]),
            (":scheme", vec!["http"]),
            ("authorization", vec!["Bearer a"]),
            ("content-length", vec![]),
            ("transfer-encoding", vec![]),
            ("mcp-session-id", vec!["s1"]),
            ("mcp-protocol-version", vec!["2025-06-18"]),
            ("accept", vec!["application/json, text/event-stream"]),
            ("x-envoy-upstream-rq-timeout-ms", vec![]),
            ("x-odd", vec![]),
        ];
        for (name, lines) in expected {
            assert_eq!(of(&ping, name), lines, "{name}");
        }
        let body: serde_json::Value = serde_json::from_slice(&ping.body).unwrap();
        assert_eq!(body["method"], "ping");
        assert_eq!(body["id"], "mcp-session-filter-00000000000000ab");
    }

    #[test]
    fn what_is_configured_goes_before_what_was_learned_and_that_before_the_request() {
        let request = [(":path", b"/mcp?q".as_slice()), (":authority", b"a.test")];
        let learned = Rewritten::parse(b"/learned", b"learned.test");
        let config = r#"{"subrequest": {"path": "/set", "authority": "set.test"}}"#;
        let target = |ping: &Ping| format!("{}{}", of(ping, ":authority")[0], of(ping, ":path")[0]);
        assert_eq!(target(&ping("", None, &request)), "a.test/mcp?q");
        assert_eq!(
            target(&ping("", learned.clone(), &request)),
            "learned.test/learned?q"
        );
        assert_eq!(target(&ping(config, learned, &request)), "set.test/set");
    }
}
