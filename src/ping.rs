//! The filter's own question to a server: does this session live? A JSON-RPC `ping` (MCP 2025-11-25, Utilities, Ping),
//! sent as the client's request was.

use crate::config::Config;
use crate::headers::{ACCEPT, ACCEPT_JSON_OR_EVENTS, Headers, PROTOCOL_VERSION};
use crate::initialize::INITIALIZED;
use crate::memory::{Lost, Rewritten, Session};
use crate::platform::Platform;
use crate::session::{ProtocolVersion, SessionId};
use crate::subrequest::{Message, Subrequest, Target};
use crate::time::Millis;
use crate::upstream_host::{self, UpstreamHost};

/// A remembered session that a request went up in, with what a ping in it needs.
pub struct InSession {
    /// The session.
    pub id: SessionId,
    /// The protocol version that the request, or the last ping, carried.
    pub version: Option<Vec<u8>>,
    /// The id that the client sent, if the session stands for another one.
    pub named: Option<SessionId>,
    /// Whether the client sent an id.
    pub is_own: bool,
    /// Where a route sends it: a request of the filter's own skips the route.
    pub rewritten: Option<Rewritten>,
    /// The host that holds it, as far as is known.
    pub host: Option<UpstreamHost>,
    /// Whether its server refuses requests that name a version.
    pub versionless: bool,
    /// Whether the filter opened it.
    pub owned: bool,
    /// The id that clients know it by; nothing if none does.
    pub known_as: Option<SessionId>,
    /// When it was opened.
    pub opened: Millis,
    /// The client's headers.
    headers: Headers,
}

impl InSession {
    /// A request in this session, whose client sent an id or did not; `named` is that id, if the session stands for
    /// another one.
    #[must_use]
    pub fn new(
        session: &Session,
        is_own: bool,
        named: Option<SessionId>,
        headers: Headers,
    ) -> Self {
        let negotiated = || session.version.as_ref().map(ProtocolVersion::as_bytes);
        let version = headers.get(PROTOCOL_VERSION);
        let version = version.or_else(|| negotiated().filter(|_| !is_own));
        let known_as = || (!session.hidden).then(|| session.id.clone());
        Self {
            id: session.id.clone(),
            version: version.filter(|_| !session.versionless).map(<[u8]>::to_vec),
            known_as: named.clone().or_else(known_as),
            named,
            is_own,
            rewritten: session.rewritten.clone(),
            host: session.host,
            versionless: session.versionless,
            owned: session.owned,
            opened: session.opened,
            headers,
        }
    }

    /// A request that carries the id itself.
    #[must_use]
    pub fn own(session: &Session, headers: Headers) -> Self {
        Self::new(session, true, None, headers)
    }

    /// A request that was given id and version.
    #[must_use]
    pub fn repaired(session: &Session, headers: Headers) -> Self {
        Self::new(session, false, None, headers)
    }

    /// The headers that the client sent.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The id that the client knows, if it sent one.
    #[must_use]
    pub fn client_id(&self) -> Option<&SessionId> {
        let own = self.is_own.then_some(&self.id);
        self.named.as_ref().or(own)
    }

    /// What is to be known of it once it is lost.
    #[must_use]
    pub fn lost(&self) -> Lost {
        Lost {
            id: self.id.clone(),
            known_as: self.known_as.clone(),
            rewritten: self.rewritten.clone(),
            versionless: self.versionless,
            owned: self.owned,
        }
    }

    /// Whether others' requests may meet this one in this session; what is not remembered may be anything.
    #[must_use]
    pub fn may_be_shared(&self, remembered: Option<&Session>) -> bool {
        !self.is_own || remembered.is_none_or(|session| session.shared)
    }

    /// A request like this one in another session of its caller's.
    #[must_use]
    pub fn beside(&self, other: &Session) -> Self {
        Self::repaired(other, self.headers.clone())
    }

    /// The same request in this session, which took the place of its own.
    #[must_use]
    pub fn moved(self, successor: &Session) -> Self {
        let named = self.client_id().cloned();
        Self::new(successor, self.is_own, named, self.headers)
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

impl InSession {
    /// Whether the answer to a request in it comes from another host than the one that holds it, or from none.
    #[must_use]
    pub fn has_missed_host(&self, status: Option<u16>, platform: &impl Platform) -> bool {
        let Some(own) = self.host else { return false };
        let is_other = |host| host != own;
        upstream_host::is_unreachable(status, platform)
            || UpstreamHost::of_request(platform).is_some_and(is_other)
    }

    /// A ping like the request that went up in this session, through this cluster. `nonce` keeps its JSON-RPC id apart
    /// from others.
    #[must_use]
    pub fn ping(&self, cluster: &str, config: &Config, nonce: u64) -> Subrequest {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"mcp-session-filter-{nonce:016x}","method":"ping"}}"#
        );
        self.say(cluster, config, body.into_bytes())
    }

    /// Word to the server that this session is ready (MCP 2025-11-25, Lifecycle, Initialization).
    #[must_use]
    pub fn announce(&self, cluster: &str, config: &Config) -> Subrequest {
        self.say(cluster, config, INITIALIZED.to_vec())
    }

    fn say(&self, cluster: &str, config: &Config, body: Vec<u8>) -> Subrequest {
        let (target, version) = (self.target(cluster, config), self.version.as_deref());
        let message = Message::in_session(&self.id, version, body, &config.subrequest);
        Subrequest::new(config, target.on(self.host), &self.headers, message)
    }

    /// The client's request, with this body, once more.
    #[must_use]
    pub fn again(&self, cluster: &str, config: &Config, body: Vec<u8>) -> Subrequest {
        let target = self.target(cluster, config).on(self.host);
        let version = self.version.as_deref();
        self.send_again(target, config, body, Some(&self.id), version)
    }

    /// The client's request, with this body, once more, in no session.
    #[must_use]
    pub fn again_alone(&self, cluster: &str, config: &Config, body: Vec<u8>) -> Subrequest {
        let target = self.target(cluster, config);
        self.send_again(target, config, body, None, None)
    }

    /// Where the session's requests go, on any host.
    fn target(&self, cluster: &str, config: &Config) -> Target {
        let rewritten = self.rewritten.as_ref();
        Target::of(cluster, &self.headers, rewritten, &config.subrequest)
    }

    fn send_again(
        &self,
        target: Target,
        config: &Config,
        body: Vec<u8>,
        session: Option<&SessionId>,
        version: Option<&[u8]>,
    ) -> Subrequest {
        let accept = self.headers.get(ACCEPT);
        let accept = accept.and_then(|accept| core::str::from_utf8(accept).ok());
        let message = Message {
            method: "POST",
            session,
            version,
            accept: accept
                .filter(|accept| accept.trim() != "*/*")
                .unwrap_or(ACCEPT_JSON_OR_EVENTS),
            body,
            timeout: config.subrequest.replay_timeout,
        };
        Subrequest::new(config, target, &self.headers, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn ping(config: &str, rewritten: Option<Rewritten>, headers: &[(&str, &[u8])]) -> Subrequest {
        let within = InSession {
            id: SessionId::parse(b"s1").unwrap(),
            version: Some(b"2025-06-18".to_vec()),
            named: None,
            is_own: true,
            rewritten,
            host: None,
            versionless: false,
            owned: false,
            known_as: None,
            opened: Millis(0),
            headers: Headers::new(headers.iter().copied()),
        };
        let config = Config::parse(config.as_bytes()).unwrap();
        within.ping("server", &config, 0xab)
    }

    fn of<'a>(ping: &'a Subrequest, name: &str) -> Vec<&'a str> {
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
        let target =
            |ping: &Subrequest| format!("{}{}", of(ping, ":authority")[0], of(ping, ":path")[0]);
        assert_eq!(target(&ping("", None, &request)), "a.test/mcp?q");
        assert_eq!(
            target(&ping("", learned.clone(), &request)),
            "learned.test/learned?q"
        );
        assert_eq!(target(&ping(config, learned, &request)), "set.test/set");
    }
}
