//! A request of the filter's own: straight to the upstream cluster, with what a client's request showed.
//!
//! It skips the route. So where a route rewrites path or authority, these come from the configuration, or from what was
//! learned when a request had passed.

use core::fmt;
use core::time::Duration;

use crate::config::{Config, SubrequestConfig, without_query};
use crate::headers::{ACCEPT, ACCEPT_JSON_OR_EVENTS, Headers, PROTOCOL_VERSION, SESSION_ID};
use crate::memory::Rewritten;
use crate::session::SessionId;
use crate::upstream_host::UpstreamHost;

/// A request to be sent. It may carry a client's credentials and a session's id: `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Subrequest {
    /// The upstream cluster.
    pub cluster: String,
    /// Headers, pseudo-headers first.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl fmt::Debug for Subrequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subrequest(to {})", self.cluster)
    }
}

/// Where a server is, past all routes. A query may hold a secret of one request, and belongs to that one only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The upstream cluster.
    pub cluster: String,
    /// The path, as the server knows it.
    pub path: String,
    /// The authority, as the server knows it.
    pub authority: String,
    /// The host of the cluster that the request is for; nothing if any will do.
    pub host: Option<UpstreamHost>,
}

impl Target {
    /// Where a request with these headers goes, on any host: what is configured comes first, then what was learned.
    #[must_use]
    pub fn of(
        cluster: &str,
        headers: &Headers,
        rewritten: Option<&Rewritten>,
        config: &SubrequestConfig,
    ) -> Self {
        let of = |name| headers.get(name).and_then(text).unwrap_or_default();
        let query = |path: &str| {
            let end = without_query(path.as_bytes()).len();
            path.get(end..).unwrap_or_default().to_owned()
        };
        let path = config.path.clone().or_else(|| {
            let path = text(rewritten?.path())?;
            Some(path + &query(&of(":path")))
        });
        let authority = config.authority.clone();
        let authority = authority.or_else(|| text(rewritten?.authority()));
        Self {
            cluster: cluster.to_owned(),
            path: path.unwrap_or_else(|| of(":path")),
            authority: authority.unwrap_or_else(|| of(":authority")),
            host: None,
        }
    }

    /// The same on this host.
    #[must_use]
    pub fn on(self, host: Option<UpstreamHost>) -> Self {
        Self { host, ..self }
    }

    /// The same without a query, to be remembered.
    #[must_use]
    pub fn without_query(mut self) -> Self {
        let end = without_query(self.path.as_bytes()).len();
        self.path.truncate(end);
        self
    }
}

/// What a request of the filter's own says.
pub struct Message<'a> {
    /// `:method`
    pub method: &'static str,
    /// The session that it belongs to.
    pub session: Option<&'a SessionId>,
    /// `MCP-Protocol-Version`
    pub version: Option<&'a [u8]>,
    /// `Accept`
    pub accept: &'a str,
    /// A JSON-RPC message; empty for none.
    pub body: Vec<u8>,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl<'a> Message<'a> {
    /// A JSON-RPC message of the filter's own in a session.
    #[must_use]
    pub fn in_session(
        session: &'a SessionId,
        version: Option<&'a [u8]>,
        body: Vec<u8>,
        config: &SubrequestConfig,
    ) -> Self {
        Self {
            method: "POST",
            session: Some(session),
            version,
            accept: ACCEPT_JSON_OR_EVENTS,
            body,
            timeout: config.timeout,
        }
    }
}

impl Subrequest {
    /// A request like the one that had these headers, but for what the message says.
    #[must_use]
    pub fn new(config: &Config, target: Target, like: &Headers, message: Message<'_>) -> Self {
        let host_header = config.upstream_host_header.as_deref();
        let content_type = (!message.body.is_empty()).then(|| "application/json".to_owned());
        let own = [
            (":method", Some(message.method.to_owned())),
            (":path", Some(target.path)),
            (":authority", Some(target.authority)),
            ("content-type", content_type),
            (ACCEPT, Some(message.accept.to_owned())),
            (
                SESSION_ID,
                message.session.and_then(|id| text(id.as_bytes())),
            ),
            (PROTOCOL_VERSION, message.version.and_then(text)),
        ];
        // Where there are several hosts, one that can't be connected to is no reason to give up; but a session's own is
        // to say whether it lives.
        let any_host = [
            ("x-envoy-retry-on", "connect-failure,refused-stream"),
            ("x-envoy-max-retries", "3"),
        ];
        let routing = match (host_header, target.host) {
            (None, _) => Vec::new(),
            (Some(name), Some(host)) => vec![(name.to_owned(), host.to_string())],
            (Some(_), None) => any_host
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .chain(routing);
        // The call takes text only: a header of other bytes can't go along.
        let copied = like.iter().filter_map(|(name, value)| {
            let name = text(name)?;
            let is_left_out = is_left_out(&name) || host_header == Some(&name);
            (!is_left_out).then_some((name, text(value)?))
        });
        Self {
            cluster: target.cluster,
            headers: own.chain(copied).collect(),
            body: message.body,
            timeout: message.timeout,
        }
    }
}

/// Headers that belong to the client's body or connection, or that the request sets itself.
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

/// Envoy's own headers would set the request's timeout and retries.
fn is_left_out(name: &str) -> bool {
    NOT_COPIED.contains(&name) || name.starts_with("x-envoy-")
}

fn text(bytes: &[u8]) -> Option<String> {
    core::str::from_utf8(bytes).ok().map(str::to_owned)
}
