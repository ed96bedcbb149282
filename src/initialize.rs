//! What an `initialize` says of its client.

use serde_json::{Value, json};

use crate::json::{Mark, Member, Walk};
use crate::session::ProtocolVersion;

/// The longest `initialize` that can be sent in a client's place, in bytes.
pub const INITIALIZE_BYTES: usize = 8 * 1024;

/// What says that a session is ready (MCP 2025-11-25, Lifecycle, Initialization).
pub const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// An `initialize` request (MCP 2025-11-25, Lifecycle, Initialization).
#[derive(Clone, PartialEq, Eq)]
pub struct Initialize {
    /// The JSON text of its id.
    pub id: Vec<u8>,
    /// What its client can do: equal texts for equal capabilities, whatever the order of their keys.
    pub capabilities: String,
    /// All of it.
    pub body: Vec<u8>,
}

impl Initialize {
    /// Reads a body, or nothing if it is no request with an id, or part of a batch.
    #[must_use]
    pub fn parse(body: Vec<u8>) -> Option<Self> {
        let message: Value = serde_json::from_slice(without_mark(&body)).ok()?;
        if message.get("method")? != "initialize" {
            return None;
        }
        let id = message.get("id")?;
        if !(id.is_string() || id.is_number()) {
            return None;
        }
        // `Value` keeps keys in their order: equal objects are equal texts.
        let capabilities = message.pointer("/params/capabilities");
        let none = || "{}".to_owned();
        Some(Self {
            id: id_of(&body)?,
            capabilities: capabilities.map_or_else(none, Value::to_string),
            body,
        })
    }

    /// An `initialize` that any client could have sent: with the version of this one, and nothing else of it. Nothing if
    /// this one's client declares anything that it can do, as others may not.
    #[must_use]
    pub fn for_anybody(&self) -> Option<Vec<u8>> {
        let message: Value = serde_json::from_slice(without_mark(&self.body)).ok()?;
        let version = message.pointer("/params/protocolVersion")?.as_str()?;
        // It goes up with the credentials of another caller: no place for a text of this one's choice.
        ProtocolVersion::parse(version.as_bytes())?;
        let body = json!({
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": version,
                "capabilities": {},
                "clientInfo": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
            },
        });
        (self.capabilities == "{}").then(|| body.to_string().into_bytes())
    }
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

/// The JSON text of a message's last `id`: of two equal keys parsers take that one. Of a batch it is one of many.
#[must_use]
pub fn id_of(body: &[u8]) -> Option<Vec<u8>> {
    let (mut walk, mut rest) = (Walk::new(), body);
    let (mut is_reading, mut id) = (false, None);
    loop {
        let (piece, mark) = walk.next(&mut rest);
        if is_reading {
            id.get_or_insert_with(Vec::new).extend_from_slice(piece);
        }
        match mark {
            None | Some(Mark::End | Mark::MessageEnd) => return id,
            Some(Mark::Value(Member::Id)) => (is_reading, id) = (true, None),
            Some(Mark::ValueEnd) => is_reading = false,
            Some(
                Mark::Value(Member::RequestId) | Mark::Method(_) | Mark::Answer | Mark::NoMessage,
            ) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<(String, String)> {
        let parsed = Initialize::parse(body.as_bytes().to_vec())?;
        assert_eq!(parsed.body, body.as_bytes());
        Some((String::from_utf8(parsed.id).unwrap(), parsed.capabilities))
    }

    #[test]
    fn an_id_is_what_stands_there_to_the_letter() {
        for id in ["0", "1.0", "-3E+2", r#""1""#, r#""a\u00e9\"""#, r#""é""#] {
            for body in [
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{}}}}"#),
                format!("\u{feff} {{\"method\" : \"initialize\" , \"id\" : {id} }}"),
                format!(r#"{{"id":7,"method":"initialize","params":{{"id":8}},"id":{id}}}"#),
            ] {
                assert_eq!(
                    parse(&body).map(|parsed| parsed.0).as_deref(),
                    Some(id),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn equal_capabilities_are_equal_texts() {
        let of = |capabilities: &str| {
            let body = format!(
                r#"{{"id":1,"method":"initialize","params":{{"capabilities":{capabilities}}}}}"#
            );
            parse(&body).unwrap().1
        };
        assert_eq!(
            of(r#"{"roots":{"listChanged":true},"sampling":{}}"#),
            of(r#"{ "sampling": {}, "roots": {"listChanged": true} }"#)
        );
        assert_ne!(of(r#"{"sampling":{}}"#), of("{}"));
        assert_ne!(
            of(r#"{"roots":{"listChanged":true}}"#),
            of(r#"{"roots":{}}"#)
        );
        let none = parse(r#"{"id":1,"method":"initialize"}"#).unwrap().1;
        assert_eq!(none, of("{ }"));
    }

    #[test]
    fn nothing_but_a_version_of_one_client_goes_up_for_another() {
        let for_anybody = |version: &str, capabilities: &str| {
            let body = format!(
                r#"{{"id":"secret","method":"initialize","params":{{"protocolVersion":{version},
                    "capabilities":{capabilities},"clientInfo":{{"name":"secret"}}}}}}"#
            );
            let initialize = Initialize::parse(body.into_bytes()).unwrap();
            initialize
                .for_anybody()
                .map(|body| String::from_utf8(body).unwrap())
        };
        let body = for_anybody(r#""2025-11-25""#, "{}").unwrap();
        assert!(body.contains(r#""protocolVersion":"2025-11-25""#), "{body}");
        assert!(!body.contains("secret"), "{body}");
        assert_eq!(for_anybody(r#""2025-11-25""#, r#"{"roots":{}}"#), None);
        let long = format!("\"{}\"", "1".repeat(ProtocolVersion::MAX_BYTES + 1));
        for odd in ["1", "null", r#""""#, r#""a b""#, r#""\u0000""#, &long] {
            assert_eq!(for_anybody(odd, "{}"), None, "{odd}");
        }
    }

    #[test]
    fn what_has_no_id_or_is_a_batch_or_no_initialize_is_none() {
        for body in [
            r#"{"method":"initialize"}"#,
            r#"{"id":null,"method":"initialize"}"#,
            r#"{"id":[1],"method":"initialize"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"initialize","method":"ping"}"#,
            r#"[{"id":1,"method":"initialize"}]"#,
            r#"{"id":1,"method":"initialize""#,
            "",
        ] {
            assert_eq!(parse(body), None, "{body}");
        }
    }
}
