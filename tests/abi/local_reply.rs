//! Answers that the filter gives by itself, as Envoy makes them (`proxy_send_local_response`).

use super::head::{Headers, Reply};

/// What the module asked for, as it enters the encoder.
#[derive(Clone, Debug)]
pub struct LocalReply {
    pub status: u16,
    /// With `:status`, and what Envoy adds: the length and the type of a body.
    pub headers: Headers,
    pub body: Vec<u8>,
    /// What an access log shows for `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
}

impl LocalReply {
    /// Envoy adds the module's lines to its own and replaces none. Without a body there is neither length nor type.
    pub fn new(status: u16, lines: Headers, body: Vec<u8>, details: String) -> Self {
        let mut headers = Reply::new(status).headers;
        headers.0.extend(lines.0);
        if body.is_empty() {
            headers.remove("content-length");
            headers.remove("content-type");
        } else {
            headers.set("content-length", body.len().to_string().as_bytes());
            if headers.first("content-type").is_none() {
                headers.add("content-type", b"text/plain");
            }
        }
        Self {
            status,
            headers,
            body,
            details,
        }
    }

    /// A HEAD request gets the headers alone.
    pub fn headers_only(&mut self) {
        self.body.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(lines: &[(&str, &str)], body: &str) -> Headers {
        let lines = lines.iter();
        let lines = lines.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let lines = Headers(lines.collect());
        LocalReply::new(202, lines, body.into(), String::new()).headers
    }

    #[test]
    fn a_body_has_its_length_and_a_type() {
        let headers = reply(&[("content-length", "9")], "ab");
        assert_eq!(headers.all(":status"), [b"202"]);
        assert_eq!(headers.all("content-length"), [b"2"]);
        assert_eq!(headers.text("content-type"), "text/plain");
        let headers = reply(&[("content-type", "text/event-stream")], "ab");
        assert_eq!(headers.all("content-type"), [b"text/event-stream"]);
    }

    #[test]
    fn without_a_body_there_is_neither() {
        let headers = reply(&[("content-type", "text/x"), ("x-a", "1")], "");
        assert_eq!(headers.without(&[":status", "x-a"]), Headers::default());
        assert_eq!(headers.text("x-a"), "1");
    }
}
