//! Both ways together, and what their tests share.

mod generate;
mod oracle;

use serde_json::Value;

use super::Incoming;
use super::token;
pub(super) use crate::translation::{Requests, come_down, go_up};

/// The token for an original, as text.
pub(super) fn token(nonce: u64, original: &str) -> String {
    String::from_utf8(token::encode(nonce, original.as_bytes()).unwrap()).unwrap()
}

/// Calls back with a body whole, in every two pieces, and byte by byte.
pub(super) fn every_cut(body: &[u8], mut check: impl FnMut(&[&[u8]])) {
    for cut in 0..=body.len() {
        let (head, tail) = body.split_at(cut);
        check(&[head, tail]);
    }
    if !body.is_empty() {
        check(&body.chunks(1).collect::<Vec<_>>());
    }
}

/// What a server that reads JSON and writes it anew answers.
fn echo(request: &[u8]) -> String {
    let request: Value = serde_json::from_slice(request).unwrap();
    let id = &request["id"];
    assert!(id.is_string(), "{id} went up");
    format!(r#"{{"result":{{"echo":{id},"id":1}},"jsonrpc":"2.0","id":{id}}}"#)
}

#[test]
fn an_id_comes_back_as_it_was_spelled_through_a_server_that_writes_its_json_anew() {
    let long = format!("\"{}\"", "\\\" \u{e9}".repeat(60));
    let nested = token(7, "1");
    for original in [
        "0",
        "1",
        "-7",
        "1.0",
        "1.50",
        "1e3",
        "1E+03",
        "-0.0",
        "\"1\"",
        "\"\"",
        "\"~%~22\"",
        "\"a\\u00e9\\\"\\/\\\\b\"",
        "\"\u{1F600}\"",
        "\"\\ud83d\\ude00\"",
        "123456789012345678901234567890",
        &long,
        &nested,
    ] {
        for request in [
            format!(r#"{{"method":"tools/call","params":{{"id":1}},"id":{original}}}"#),
            format!(r#"{{"id": {original} ,"params":{{"id":1}},"method":"tools/call"}}"#),
        ] {
            let (request, _) = go_up(1, &[request.as_bytes()], &mut Requests::default());
            let answer = echo(&request);
            let id = token(1, original);
            let (start, _) = answer.split_once("\"jsonrpc\"").unwrap();
            let expected = format!("{start}\"jsonrpc\":\"2.0\",\"id\":{original}}}");
            assert!(start.contains(&id), "the id in the result stays");

            let json = come_down(Incoming::json(), &[answer.as_bytes()]);
            assert_eq!(String::from_utf8(json).unwrap(), expected);
            let event = |text: &str| format!("id: 7\r\ndata: {text}\r\n\r\n");
            let events = come_down(Incoming::event_stream(), &[event(&answer).as_bytes()]);
            assert_eq!(String::from_utf8(events).unwrap(), event(&expected));
        }
    }
}
