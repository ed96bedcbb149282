use super::super::tests::{come_down, every_cut, token};
use super::*;

/// `@1` stands for a token of the id 1 before, and for 1 after; so does `@"`, for an id that is a string.
const BODIES: &[&str] = &[
    r#"{"jsonrpc":"2.0","id":@1,"result":{}}"#,
    r#"{"id":@","error":{"id":#}}"#,
    r#"{"result":{"id":#,"result":[{"id":#}]},"id" : @1 }"#,
    r#"{"id":@1,"\u0069d":@","id":2,"i":#,"id ":#}"#,
    r#"{"id":7,"method":"ping"}"#,
    r#"{"method":"sampling/createMessage","params":{"id":#,"requestId":#},"id":"server-7"}"#,
    r#"{"id":null,"error":{}}"#,
    r#"[{"id":@1,"result":1},7,[{"id":#}],{"method":"a","params":[#]},{"result":{},"id":@"}]"#,
    r#"{"id":"mcpsf~","id":"mcpsf~0000000000000001~","id":"mcpsf-0000000000000001~1","id":@1}"#,
    r#"{"id":"mcpsf~0000000000000001~01","id":"mcpsf","id":"","id":[#]}"#,
    r#"{"id":[#],"id":{"id":#},"id":@1}"#,
    r#"{"id":@1,"id":@1,}{"id":#}"#,
    r#"{"id":@1} {"id":#}"#,
    r#"{"id":@1"id":#}"#,
    r#"{"id" #}"#,
    r#"["id",#]"#,
    "#",
    "{}",
    "",
    "<html>",
];

const STREAMS: &[&str] = &[
    "data: {\"id\":@1}\n\ndata:{\"id\":@\"}\n\n",
    "data: {\"id\":@1}\r\rdata: {\"id\":@1}\r\r",
    "data: {\"id\":@1}\r\n\r\ndata: {\"id\":@1}\r\n\r\n",
    "data: {\"id\":@1}\r\n\rdata: {\"id\":@1}\n\r\n",
    "\u{FEFF}data: {\"id\":@1}\n\n",
    "\u{FEFF}\u{FEFF}data: {\"id\":#}\n\ndata: {\"id\":@1}\n\n",
    "data: {\ndata: \"id\"\ndata\ndata::@1\n\n",
    "data: {\ndata: \"id\"\ndata:\ndata:   : @1\ndata: ,\"id\":@\"\ndata:}\n\n",
    "data: {\"id\":7\ndata: ,\"id\":@1}\n\n",
    "data: {\"id\":\r\n: a comment\r\nevent: message\r\ndata: @1\r\nid: #\r\nretry: 3\r\ndata:,\r\ndata:\"id\":@1}\r\n\r\n",
    ":{\"id\":#}\nid: {\"id\":#}\nevent: {\"id\":#}\nretry: 7\n\ndata: {\"id\":@1}\n\n",
    "dat: {\"id\":#}\ndatas: {\"id\":#}\n data: {\"id\":#}\nDATA: {\"id\":#}\n\n",
    "data:\n\ndata\n\n:\n\n\n\ndata: {\"id\":@1}\n\n",
    // What one event leaves open, the next one does not go on with.
    "data: {\"id\":\n\ndata: #}\n\ndata: {\"id\":@1}\n\n",
    "data: not JSON\n\ndata: [{\"id\":@1},{\"id\":@1}]\n\n",
    "data: {\"a\":\"\n\ndata: {\"id\":@1}\n\n",
    "data: {\"id\":\"mcpsf~0000000000000001\ndata: ~1\"}\n\n",
    "data: {\"id\":\"mcpsf~0000000000000001~1\ndata: \"}\n\ndata: {\"id\":@1}\n\n",
    "data: {\"id\":\"mcpsf~0000000000000001~1",
    "data: {\"id\":\"mcpsf~0000000000000001~1\n",
    "data: {\"id\":@1}",
    "data: {\"id\":@1,\"a\":\"data: {\\\"id\\\":#}\"}\n",
    "{\"id\":#}\n\n",
    "\n\n",
    "\u{FEFF}",
    "",
];

fn unmark(marked: &str) -> (String, String) {
    let unmark = |number: &str, string: &str| {
        let text = marked.replace("@1", number).replace("@\"", string);
        text.replace('#', &token(1, "1"))
    };
    (
        unmark(&token(1, "1"), &token(2, "\"\u{e9}\"")),
        unmark("1", "\"\u{e9}\""),
    )
}

fn assert_comes_down(start: fn() -> Incoming, marked: &str) {
    let (before, after) = unmark(marked);
    every_cut(before.as_bytes(), |pieces| {
        let out = come_down(start(), pieces);
        let case = format!("{before:?} cut behind {}", pieces[0].len());
        assert_eq!(String::from_utf8(out).unwrap(), after, "{case}");
    });
}

#[test]
fn tokens_at_the_place_of_an_id_and_no_others_become_originals_wherever_the_body_is_cut() {
    for body in BODIES {
        assert_comes_down(Incoming::json, body);
        assert_comes_down(Incoming::json, &format!("\u{FEFF} {body}\n"));
        assert_comes_down(Incoming::event_stream, &format!("id: 7\ndata: {body}\n\n"));
    }
}

#[test]
fn a_stream_keeps_its_own_bytes_wherever_it_is_cut() {
    for stream in STREAMS {
        assert_comes_down(Incoming::event_stream, stream);
    }
}

#[test]
fn nothing_waits_but_a_token_that_is_not_over() {
    let token = token(1, "1");
    let body = format!(
        r#"{{"result":{{"id":{token}}},"a":{token},"id":{token},"id":"server-7","id":[{token}]}}"#
    );
    for (mut incoming, body) in [
        (Incoming::json(), body.clone()),
        (
            Incoming::event_stream(),
            format!("retry: 7\r\ndata: {body}\r\n\r\n"),
        ),
    ] {
        let mut out = Vec::new();
        let start = body.find(r#","id":"#).unwrap() + r#","id":"#.len();
        for (at, &byte) in body.as_bytes().iter().enumerate() {
            incoming.push(&[byte], &mut out);
            let behind = at + 1;
            let held = if (start..start + token.len()).contains(&behind) {
                behind - start
            } else {
                // One that is not ours is let go at the first letter that differs.
                let quote = body.find("\"server").unwrap();
                usize::from(at == quote)
            };
            assert_eq!(incoming.held(), held, "behind {}", &body[..behind]);
        }
    }
}

#[test]
fn what_is_longer_than_any_token_does_not_wait() {
    let head = "{\"id\":\"mcpsf~0000000000000001~";
    let body = format!("{head}{}\"}}", "1".repeat(5_000_000));
    for piece in [1000, 65_536, body.len()] {
        let (mut incoming, mut out) = (Incoming::json(), Vec::new());
        for piece in body.as_bytes().chunks(piece) {
            incoming.push(piece, &mut out);
            assert!(incoming.held() <= token::MAX_BYTES);
        }
        assert_eq!(incoming.held(), 0);
        assert!(out == body.as_bytes());
    }
}
