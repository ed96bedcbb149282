//! Answers that the filter gives by itself.

use core::fmt;
use core::time::Duration;

use serde_json::Value;

use crate::config::without_query;
use crate::headers::{ACCEPT, Headers, SESSION_ID, media_type_of, names_media_type};
use crate::input::{Input, put_text};
use crate::session::SessionId;

/// An answer to a client. It may carry a session's id: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header lines, names in lower case; without a length.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", self.status)
    }
}

/// Headers of an answer that belong to its connection, or that Envoy sets anew.
const NOT_COPIED: [&[u8]; 9] = [
    b":status",
    b"connection",
    b"content-length",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-envoy-upstream-service-time",
];

impl Reply {
    /// Nothing but a status.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// 405 to a GET: there is no stream from the server (MCP 2025-11-25, Transports, Listening for Messages).
    #[must_use]
    pub fn no_stream() -> Self {
        Self::empty(405).with("allow", b"POST, DELETE")
    }

    /// An error that the filter reports in the place of a server, to the request with this id (JSON text).
    #[must_use]
    pub fn error(status: u16, id: &[u8], words: &str) -> Self {
        let message = Value::from(words);
        let error = format!(r#","error":{{"code":-32000,"message":{message}}}}}"#);
        let body = [br#"{"jsonrpc":"2.0","id":"#, id, error.as_bytes()].concat();
        Self {
            body,
            ..Self::empty(status)
        }
        .with("content-type", b"application/json")
    }

    /// 503, to be tried again after a while.
    #[must_use]
    pub fn busy(id: &[u8], words: &str, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs().max(1).to_string();
        Self::error(503, id, words).with("retry-after", seconds.as_bytes())
    }

    /// The InitializeResult of a session, for the request with this id and these headers: JSON, or an event stream if
    /// that is all that its client accepts.
    #[must_use]
    pub fn initialized(headers: &Headers, id: &[u8], session: &SessionId, result: &[u8]) -> Self {
        let message = [
            br#"{"jsonrpc":"2.0","id":"#,
            id,
            br#","result":"#,
            result,
            b"}",
        ]
        .concat();
        let (media_type, body) = if wants_events(headers) {
            let event = [b"event: message\ndata: ", message.as_slice(), b"\n\n"].concat();
            ("text/event-stream", event)
        } else {
            ("application/json", message)
        };
        Self {
            body,
            ..Self::empty(200)
        }
        .with("content-type", media_type.as_bytes())
        .with(SESSION_ID, session.as_bytes())
    }

    /// 307: its client sends the same request once more, to the same place (RFC 9110, 15.4.8). A relative reference, as
    /// the path may be another one where the client is (RFC 3986, 4.2).
    #[must_use]
    pub fn redirect_to_itself(path: &[u8]) -> Self {
        let end = without_query(path).len();
        let start = path.iter().take(end).rposition(|byte| *byte == b'/');
        let last = path.get(start.map_or(0, |slash| slash + 1)..);
        let location = [b"./", last.unwrap_or_default()].concat();
        Self::empty(307).with("location", &location)
    }

    /// An event stream that ends at once: its client asks for it again.
    #[must_use]
    pub fn ended_stream() -> Self {
        Self {
            // Without a body Envoy would leave out what type it has.
            body: b": this session goes on in another stream\n\n".to_vec(),
            ..Self::empty(200)
        }
        .with("content-type", b"text/event-stream")
        .with("cache-control", b"no-cache")
    }

    /// The same answer with the session id that its client knows; with none, if it knows none.
    #[must_use]
    pub fn in_session(mut self, id: Option<&SessionId>) -> Self {
        for (name, value) in &mut self.headers {
            if let (true, Some(id)) = (name == SESSION_ID.as_bytes(), id) {
                *value = id.as_bytes().to_vec();
            }
        }
        self.headers
            .retain(|(name, _)| id.is_some() || name != SESSION_ID.as_bytes());
        self
    }

    /// What a server answered to a request of the filter's own, for the client that it was made for.
    #[must_use]
    pub fn passed_on(status: u16, headers: &Headers, body: Vec<u8>) -> Self {
        let headers = headers
            .iter()
            .filter(|(name, _)| !NOT_COPIED.contains(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()));
        Self {
            status,
            headers: headers.collect(),
            body,
        }
    }

    /// The same answer without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name.as_bytes());
        self
    }

    /// The same answer for another request: the id in a JSON body is that one's.
    #[must_use]
    pub fn with_id(mut self, id: &[u8]) -> Self {
        let content_type = self
            .headers
            .iter()
            .find(|(name, _)| name == b"content-type");
        let is_json = content_type.is_some_and(|(_, value)| {
            media_type_of(value).eq_ignore_ascii_case(b"application/json")
        });
        let message = is_json.then(|| serde_json::from_slice(&self.body).ok());
        if let (Some(Some(Value::Object(mut message))), Ok(id)) =
            (message, serde_json::from_slice::<Value>(id))
            && message.get("id").is_some_and(|id| !id.is_null())
        {
            message.insert("id".to_owned(), id);
            self.body = Value::Object(message).to_string().into_bytes();
        }
        self
    }

    /// The answer as bytes, to be kept for others who wait for it.
    ///
    /// ```text
    /// status    2 bytes
    /// header    1 = one more; name and value: 2 bytes of length, then so many bytes
    /// end       0
    /// body      all that is left
    /// ```
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.status.to_le_bytes().to_vec();
        for (name, value) in &self.headers {
            bytes.push(1);
            put_text(&mut bytes, name);
            put_text(&mut bytes, value);
        }
        bytes.push(0);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Reads an answer back, or nothing if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let mut reply = Self::empty(u16::from_le_bytes(input.array()?));
        loop {
            match input.array()? {
                [0] => break,
                [1] => {
                    let header = (input.text()?.to_vec(), input.text()?.to_vec());
                    reply.headers.push(header);
                }
                _ => return None,
            }
        }
        reply.body = input.0.to_vec();
        Some(reply)
    }

    fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.headers
            .push((name.as_bytes().to_vec(), value.to_vec()));
        self
    }
}

/// Whether a client accepts an event stream, and no JSON.
pub(crate) fn wants_events(headers: &Headers) -> bool {
    let accepts = |media_type| {
        headers
            .all(ACCEPT)
            .any(|accept| names_media_type(accept, media_type))
    };
    accepts("text/event-stream") && !accepts("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        Headers::new(lines.iter().copied())
    }

    fn text(bytes: &[u8]) -> &str {
        core::str::from_utf8(bytes).unwrap()
    }

    fn header(reply: &Reply, name: &str) -> Option<String> {
        let mut lines = reply.headers.iter();
        let line = lines.find(|(other, _)| other == name.as_bytes());
        line.map(|(_, value)| text(value).to_owned())
    }

    #[test]
    fn an_initialize_is_answered_with_its_own_id_in_what_its_client_accepts() {
        let session = SessionId::parse(b"s1").unwrap();
        let answer =
            |accept| Reply::initialized(&headers(accept), b"1.0", &session, br#"{"a":[]}"#);
        let json = r#"{"jsonrpc":"2.0","id":1.0,"result":{"a":[]}}"#;
        for accept in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "application/json, text/event-stream")],
            &[
                ("accept", "text/event-stream"),
                ("accept", "application/json"),
            ],
        ] {
            let reply = answer(accept);
            assert_eq!(text(&reply.body), json);
            assert_eq!(
                header(&reply, "content-type").as_deref(),
                Some("application/json")
            );
            assert_eq!(header(&reply, "mcp-session-id").as_deref(), Some("s1"));
        }
        let events = answer(&[("accept", "text/event-stream")]);
        assert_eq!(
            text(&events.body),
            format!("event: message\ndata: {json}\n\n")
        );
        assert_eq!(
            header(&events, "content-type").as_deref(),
            Some("text/event-stream")
        );
    }

    #[test]
    fn what_a_server_answered_is_passed_on_without_what_belongs_to_its_connection() {
        let answer = headers(&[
            (":status", "401"),
            ("www-authenticate", "Bearer"),
            ("content-length", "3"),
            ("connection", "close"),
            ("content-type", "application/json; charset=utf-8"),
        ]);
        let reply = Reply::passed_on(401, &answer, br#"{"error":{},"id":7}"#.to_vec());
        assert_eq!(reply.status, 401);
        assert_eq!(
            header(&reply, "www-authenticate").as_deref(),
            Some("Bearer")
        );
        assert_eq!(header(&reply, "content-length"), None);
        assert_eq!(header(&reply, "connection"), None);
        assert_eq!(
            text(&reply.with_id(br#""b""#).body),
            r#"{"error":{},"id":"b"}"#
        );
        for body in [r#"{"error":{},"id":null}"#, "[]", "no", ""] {
            let reply = Reply::passed_on(400, &answer, body.as_bytes().to_vec());
            assert_eq!(text(&reply.with_id(b"1").body), body);
        }
    }

    #[test]
    fn an_answer_that_is_kept_comes_back_as_it_was() {
        let reply = Reply::busy(b"1", "later", Duration::from_secs(3));
        let bytes = reply.encode();
        assert!(Reply::decode(&bytes) == Some(reply.clone()));
        let head = bytes.len() - reply.body.len();
        for length in 0..head {
            assert!(Reply::decode(&bytes[..length]).is_none(), "{length}");
        }
        let odd_end = [&bytes[..head - 1], b"\x02", &reply.body].concat();
        assert!(Reply::decode(&odd_end).is_none());
    }

    #[test]
    fn a_redirect_to_itself_leads_there_wherever_the_client_sees_it() {
        for (path, location) in [
            (&b"/mcp"[..], "./mcp"),
            (b"/a/mcp?x=/y", "./mcp?x=/y"),
            (b"/a/", "./"),
            (b"/a:b", "./a:b"),
            (b"", "./"),
        ] {
            let reply = Reply::redirect_to_itself(path);
            assert_eq!(reply.status, 307);
            let expected = (b"location".to_vec(), location.as_bytes().to_vec());
            assert_eq!(reply.headers, [expected]);
        }
    }

    #[test]
    fn an_error_of_the_filters_own_is_json_rpc() {
        let reply = Reply::busy(b"\"a\"", "a \"quoted\" word", Duration::from_millis(5));
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["id"], "a");
        assert_eq!(body["error"]["message"], "a \"quoted\" word");
        assert_eq!(reply.status, 503);
        assert_eq!(header(&reply, "retry-after").as_deref(), Some("1"));
    }
}
