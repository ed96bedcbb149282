//! What a repair changes in a request's headers.

use core::fmt;
use std::borrow::Cow;

use crate::config::Config;
use crate::headers::{ACCEPT, ACCEPT_JSON_OR_EVENTS, Headers, PROTOCOL_VERSION, SESSION_ID};
use crate::memory::Session;

/// One change of a header. Its value may be a session's id: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Edit {
    /// All lines with this name go.
    Remove(Cow<'static, str>),
    /// One line with this name and value takes the place of any other: TypeScript servers break on a second one.
    Set(Cow<'static, str>, Vec<u8>),
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(name) => write!(f, "Remove({name})"),
            Self::Set(name, _) => write!(f, "Set({name})"),
        }
    }
}

impl Edit {
    /// See [`Edit::Remove`].
    pub fn remove(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Remove(name.into())
    }

    /// See [`Edit::Set`].
    pub fn set(name: impl Into<Cow<'static, str>>, value: &[u8]) -> Self {
        Self::Set(name.into(), value.to_vec())
    }
}

/// The changes that put a request into a session. `is_own` if it names one itself, `is_renamed` if that one was lost.
#[must_use]
pub fn edits(
    config: &Config,
    session: &Session,
    headers: &Headers,
    is_own: bool,
    is_renamed: bool,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    // What the client says of it was removed before.
    if let (Some(name), Some(host)) = (&config.upstream_host_header, session.host) {
        edits.push(Edit::set(name.clone(), host.to_string().as_bytes()));
    }
    if session.versionless && headers.has(PROTOCOL_VERSION) {
        edits.push(Edit::remove(PROTOCOL_VERSION));
    }
    if is_own && !is_renamed {
        return edits;
    }
    let mut set = |name: &'static str, value: &[u8]| {
        // Envoy sets the first of several lines only.
        if headers.all(name).count() > 1 {
            edits.push(Edit::remove(name));
        }
        edits.push(Edit::set(name, value));
    };
    set(SESSION_ID, session.id.as_bytes());
    if is_own {
        return edits;
    }
    let version = session.version.as_ref().filter(|_| !session.versionless);
    if let (None, Some(version)) = (headers.get(PROTOCOL_VERSION), version) {
        set(PROTOCOL_VERSION, version.as_bytes());
    }
    // Servers answer 406 to a POST that accepts anything rather than both.
    let accepts_anything = matches!(
        headers.get(ACCEPT).map(<[u8]>::trim_ascii),
        None | Some(b"*/*")
    );
    if accepts_anything && headers.get(":method") == Some(b"POST") {
        set(ACCEPT, ACCEPT_JSON_OR_EVENTS.as_bytes());
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::session::{ProtocolVersion, SessionId};
    use crate::time::Millis;
    use crate::upstream_host::UpstreamHost;

    fn edits_of(version: Option<&str>, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let (endpoint, id) = (Digest::from_bytes([0; 32]), SessionId::parse(b"s1"));
        let session = Session {
            version: version.and_then(|v| ProtocolVersion::parse(v.as_bytes())),
            ..Session::new(endpoint, id.unwrap(), Millis(0))
        };
        let headers = Headers::new(headers.iter().copied());
        shown(edits(&Config::default(), &session, &headers, false, false))
    }

    fn shown(edits: Vec<Edit>) -> Vec<(String, String)> {
        let shown = edits.into_iter().map(|edit| match edit {
            Edit::Remove(name) => (name.into_owned(), "-".to_owned()),
            Edit::Set(name, value) => (name.into_owned(), String::from_utf8(value).unwrap()),
        });
        shown.collect()
    }

    #[test]
    fn a_request_with_an_id_of_its_own_gets_its_host_as_well_if_a_header_is_configured_for_it() {
        let id = SessionId::parse(b"s1").unwrap();
        let session = Session {
            host: UpstreamHost::parse(b"10.0.0.1:80"),
            ..Session::new(Digest::from_bytes([0; 32]), id, Millis(0))
        };
        let own = |config: &Config| edits(config, &session, &Headers::default(), true, false);
        let named = Config {
            upstream_host_header: Some("x-host".to_owned()),
            ..Config::default()
        };
        assert_eq!(shown(own(&named)), [pair("x-host", "10.0.0.1:80")]);
        assert_eq!(own(&Config::default()), []);
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_post_gets_what_it_lacks() {
        let all = edits_of(
            Some("2025-06-18"),
            &[(":method", "POST"), ("accept", " */* ")],
        );
        let expected = [
            pair("mcp-session-id", "s1"),
            pair("mcp-protocol-version", "2025-06-18"),
            pair("accept", "application/json, text/event-stream"),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn what_a_client_said_stays() {
        let post = [
            (":method", "POST"),
            ("accept", "application/json"),
            ("mcp-protocol-version", "2025-03-26"),
        ];
        assert_eq!(
            edits_of(Some("2025-06-18"), &post),
            [pair("mcp-session-id", "s1")]
        );
        let get = [(":method", "GET"), ("accept", "*/*")];
        assert_eq!(edits_of(None, &get), [pair("mcp-session-id", "s1")]);
    }

    #[test]
    fn several_empty_lines_become_one() {
        let lines = [
            (":method", "DELETE"),
            ("mcp-session-id", ""),
            ("mcp-session-id", ""),
        ];
        let expected = [pair("mcp-session-id", "-"), pair("mcp-session-id", "s1")];
        assert_eq!(edits_of(None, &lines), expected);
    }
}
