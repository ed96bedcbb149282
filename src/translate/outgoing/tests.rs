use super::super::tests::{Requests, every_cut, go_up, token};
use super::*;

/// Ids that are translated stand in `«»`, behind their nonce.
const TRANSLATED: &[&str] = &[
    r#"{"method":"ping","id":«0 1»}"#,
    r#"{"id":«0 "a"»,"method":"ping"}"#,
    r#"{"jsonrpc":"2.0","id":«0 1.5e-7»,"method":"","params":{}}"#,
    r#"{"method":"tools/call","params":{"id":1,"method":"x","a":[{"id":2,"method":"y"}]},"id":«0 3»}"#,
    r#"{"id":«0 3»,"params":{"result":1,"error":2,"requestId":3},"method":"n"}"#,
    "\u{FEFF} \t\r\n{ \"id\" : «0 -0» , \"method\" : \"a\"\n}\n",
    r#"{"\u0069d":«0 1»,"m\u0065thod":"\u006e","\u0069\u0064s":1}"#,
    r#"{"id":«0 1»,"method":"a","id":«0 "1"»,"i":2,"ID":3,"id2":4,"":5,"\"":6}"#,
    r#"{"id":«0 1»,"id":«0 1»,"result or so, but longer":7,"id":null,"method":"a","id":[1],"id":{"id":1}}"#,
    r#"{"id":«0 "\u00e9\"\\}"»,"s":"\\","t":"\"id\":1","method":"a"}"#,
    r#"[{"method":"a","id":«0 1»},{"id":«1 1»,"method":"b"},{"id":1,"result":{}},{},{"id":«4 1»,"method":"c"}]"#,
    r#"[7,"id",[{"id":1,"method":"a"}],{"method":"a","id":«0 1»},null , {"id":«1 2»,"method":"a"} ]"#,
    r#"{"method":"notifications/cancelled","id":«0 1»}"#,
    r#"{"method":"a","id":«0 1»,"result":{},"id":«0 2»}"#,
    r#"{"method":"a","params":["x",{"id":1}],"id":«0 "mcpsf~0000000000000001~1"»}"#,
    // Malformed from somewhere on.
    r#"{"method":"a","id":«0 1»,}{"method":"a","id":1}"#,
    r#"[{"method":"a","id":«0 1»,},{"method":"a","id":1}]"#,
    r#"[{"method":"a","id":«0 1»},],{"method":"a","id":1}]"#,
    r#"{"method":"a","id":«0 1»} {"method":"a","id":1}"#,
    r#"[{"method":"a","id":«0 1»}{"method":"a","id":1}]"#,
    r#"[{"method":"a","id":«0 1»}],{"method":"a","id":1}"#,
    r#"{"id":«0 1»,"method":"a" "id":1}"#,
    r#"{"method":"a","id":«0 1»"id":1}"#,
    r#"{"method":"a","id":«0 1» 2,"id":1}"#,
    "{\"id\":«0 1»,\"method\":\"a\n\"}",
];

const UNTOUCHED: &[&str] = &[
    r#"{"id":1,"result":{"method":"a","id":2}}"#,
    r#"{"result":{},"id":1}"#,
    r#"{"id":1,"error":{"code":1},"method":"a"}"#,
    r#"{"result":null,"method":"a","id":1}"#,
    r#"{"id":1,"method":null,"result":{}}"#,
    r#"{"id":1,"method":["a"]}"#,
    r#"{"id":1,"METHOD":"a","method ":"a","methods":"a"}"#,
    r#"{"method":"notifications/progress","params":{"requestId":7,"progressToken":7}}"#,
    r#"{"method":"a","id":null}"#,
    r#"{"id":null,"method":"a"}"#,
    r#"{"method":"a","id":true}"#,
    r#"{"method":"a","id":{"id":1}}"#,
    r#"{"id":[1],"method":"a"}"#,
    r#"{"method":"a","id":01}"#,
    r#"{"method":"a","id":1.}"#,
    r#"{"id":NaN,"method":"a"}"#,
    r#"{"method":"a","id":"\x"}"#,
    r#"{,"method":"a","id":1}"#,
    r#"{"method":"a",,"id":1}"#,
    r#"{"id":1;"method":"a"}"#,
    r#"{"id":1]"method":"a"}"#,
    r#"{"id":,"method":"a"}"#,
    r#"{"id" 1,"method":"a"}"#,
    r#"{"params":{,},"method":"a","id":1}"#,
    "{\"a\n\":1,\"method\":\"a\",\"id\":1}",
    "{\"id\":1,\"method\":\"n\n\"}",
    r#"{"id":1,"method":"n\x"}"#,
    "{\"id\":1,\"method\":\"\n",
    r#"[[{"method":"a","id":1}]]"#,
    r#"["method","a","id",1]"#,
    r#"{"method":"a","id":1"#,
    r#"{"method":"a","id":"1"#,
    r#"{"id":1,"method"#,
    r#"{"id":1,"#,
    r#"{"id":1"#,
    r#"{"id":1}"#,
    "",
    " ",
    "{}",
    "[]",
    "[",
    "[]]",
    "\u{FEFF}",
    "\u{FEC0}{\"method\":\"a\",\"id\":1}",
    "\u{FEFF}\u{FEFF}{\"method\":\"a\",\"id\":1}",
    " \u{FEFF}{\"method\":\"a\",\"id\":1}",
    "null",
    "\"method\"",
    "<html>",
];

/// The body as it comes and as it goes on, and the requests that are begun.
fn unmark(marked: &str) -> (String, String, Vec<(String, String)>) {
    let (mut before, mut after) = (String::new(), String::new());
    let mut begun = Vec::new();
    for part in marked.split('»') {
        let (text, id) = part.split_once('«').unwrap_or((part, ""));
        before.push_str(text);
        after.push_str(text);
        if let Some((nonce, original)) = id.split_once(' ') {
            let nonce = nonce.parse().unwrap();
            let token = token(nonce, original);
            before.push_str(original);
            after.push_str(&token);
            if nonce != Requests::OTHER {
                begun.push((original.to_owned(), token));
            }
        }
    }
    (before, after, begun)
}

fn assert_goes_up(marked: &str, has_unknown_cancel: bool) {
    let (before, after, begun) = unmark(marked);
    every_cut(before.as_bytes(), |pieces| {
        let mut requests = Requests {
            other: "7",
            ..Requests::default()
        };
        let (out, outgoing) = go_up(0, pieces, &mut requests);
        let case = format!("{before} cut behind {}", pieces[0].len());
        assert_eq!(String::from_utf8_lossy(&out), after, "{case}");
        assert_eq!(requests.begun, begun, "{case}");
        assert_eq!(outgoing.has_unknown_cancel(), has_unknown_cancel, "{case}");
    });
}

#[test]
fn ids_of_requests_and_nothing_else_are_translated_wherever_the_body_is_cut() {
    for body in TRANSLATED.iter().chain(UNTOUCHED) {
        assert_goes_up(body, false);
    }
}

#[test]
fn a_cancel_names_the_token_of_a_request_that_is_known() {
    for body in [
        r#"{"method":"notifications/cancelled","params":{"requestId":«99 7»,"reason":"7"}}"#,
        r#"{"params":{"reason":"7","requestId":«99 7»},"jsonrpc":"2.0","method":"notifications/cancelled"}"#,
        r#"{"method":"notifications\/cancelle\u0064","params":{"_meta":{"requestId":7},"\u0072equestId" : «99 7» }}"#,
        r#"{"id":«0 7»,"params":{"requestId":«99 7»,"requestId":«99 7»},"method":"notifications/cancelled"}"#,
        r#"[{"method":"a","id":«0 7»},{"params":{"requestId":«99 7»},"method":"notifications/cancelled"}]"#,
        r#"{"method":"notifications/cancelled","params":{"requestID":7,"id":7}}"#,
        r#"{"method":"notifications/cancelled","params":[{"requestId":7}],"requestId":7}"#,
        r#"{"method":"notifications/cancelled2","params":{"requestId":7}}"#,
        r#"{"params":{"requestId":7},"method":"notifications/cancelle"}"#,
        r#"{"params":{"requestId":7},"result":1,"method":"notifications/cancelled"}"#,
        r#"{"method":"a","method":"notifications/cancelled","params":{"requestId":7}}"#,
        r#"{"params":{"requestId":7}}"#,
    ] {
        assert_goes_up(body, false);
    }
    let both =
        r#"[{"method":"a","id":5},{"method":"notifications/cancelled","params":{"requestId":5}}]"#;
    let (out, _) = go_up(0, &[both.as_bytes()], &mut Requests::default());
    let twice = String::from_utf8(out)
        .unwrap()
        .matches(&token(0, "5"))
        .count();
    assert_eq!(twice, 2, "a cancel in the batch of its request");
}

#[test]
fn a_cancel_of_a_request_that_is_not_known_goes_on_and_is_told() {
    for body in [
        r#"{"method":"notifications/cancelled","params":{"requestId":"7"}}"#,
        r#"{"params":{"requestId":7.0},"method":"notifications/cancelled"}"#,
        r#"{"method":"notifications/cancelled","params":{"requestId":null}}"#,
        r#"{"method":"notifications/cancelled","params":{"requestId":«99 7»,"requestId":8}}"#,
        r#"{"method":"notifications/cancelled","params":{"requestId":7"#,
    ] {
        assert_goes_up(body, true);
    }
    let long = format!("\"{}\"", "7".repeat(HELD_BYTES));
    for body in [
        format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{long}}}}}"#),
        format!(r#"{{"params":{{"requestId":{long}}},"method":"notifications/cancelled"}}"#),
        format!(r#"{{"params":{{"requestId":7,"a":{long}}},"method":"notifications/cancelled"}}"#),
    ] {
        let other = body.replace("cancelled", "others");
        let (out, outgoing) = go_up(0, &[body.as_bytes()], &mut Requests::default());
        assert_eq!(out, body.as_bytes());
        assert!(outgoing.has_unknown_cancel());

        let (_, outgoing) = go_up(0, &[other.as_bytes()], &mut Requests::default());
        assert!(!outgoing.has_unknown_cancel(), "another method");
    }
}

#[test]
fn every_message_of_a_batch_has_a_nonce_of_its_own() {
    let body = br#"[{"id":1,"method":"a"},{"id":1,"method":"a"},{"id":1,"method":"a"}]"#;
    let mut requests = Requests::default();
    go_up(u64::MAX, &[body], &mut requests);
    let tokens: Vec<_> = requests.begun.into_iter().map(|(_, token)| token).collect();
    assert_eq!(tokens, [token(u64::MAX, "1"), token(0, "1"), token(1, "1")]);
}

/// Pushes pieces, and gives the most that was held behind any of them.
fn most_held(outgoing: &mut Outgoing, body: &str, piece: usize, out: &mut Vec<u8>) -> usize {
    let pieces = body.as_bytes().chunks(piece).map(|piece| {
        outgoing.push(piece, &mut Requests::default(), out);
        outgoing.held()
    });
    pieces.max().unwrap_or_default()
}

#[test]
fn megabytes_before_the_id_do_not_wait() {
    let text = r#"\"{[\\ "#.repeat(5_000_000 / 7);
    for params in [
        format!(r#"["{text}"]"#),
        format!(r#"{{"{text}":"{text}"}}"#),
    ] {
        let start = format!(r#"{{"method":"tools/call","params":{params},"id":"#);
        let id = format!("\"{}\"", "x".repeat(300));
        for piece in [1000, 65_536, start.len()] {
            let (mut outgoing, mut out) = (Outgoing::new(1), Vec::new());
            assert_eq!(most_held(&mut outgoing, &start, piece, &mut out), 0);
            assert_eq!(out.len(), start.len());
            assert_eq!(most_held(&mut outgoing, &id[..300], piece, &mut out), 300);
            assert_eq!(most_held(&mut outgoing, &id[300..], piece, &mut out), 0);
            assert!(out == [start.as_bytes(), token(1, &id).as_bytes()].concat());
        }
    }
}

#[test]
fn an_id_waits_for_the_method_as_long_as_the_bound_allows() {
    // What waits: the id, and all up to the byte that tells the method.
    let filled = |bytes: usize| {
        let start = r#"1,"p":""#;
        let rest = r#"","method":"a"#;
        let fill = "x".repeat(bytes - start.len() - rest.len());
        format!(r#"{{"id":{start}{fill}{rest}","id":2}}"#)
    };
    for (bytes, translated) in [(HELD_BYTES, true), (HELD_BYTES + 1, false)] {
        let body = filled(bytes);
        let ids = body.replacen("\"id\":1", &format!("\"id\":{}", token(0, "1")), 1);
        let expected = if translated { ids } else { body.clone() };
        let expected = expected.replace("\"id\":2", &format!("\"id\":{}", token(0, "2")));
        for piece in [1, 1000, body.len()] {
            let (mut outgoing, mut out) = (Outgoing::new(0), Vec::new());
            let held = most_held(&mut outgoing, &body, piece, &mut out);
            assert!(held <= HELD_BYTES, "{held}");
            assert!(
                String::from_utf8(out).unwrap() == expected,
                "{bytes} in {piece}"
            );
        }
    }
}

#[test]
fn an_id_past_its_own_bound_goes_on_as_it_is() {
    for (bytes, translated) in [
        (token::MAX_ORIGINAL_BYTES, true),
        (token::MAX_ORIGINAL_BYTES + 1, false),
        (token::MAX_ORIGINAL_BYTES * 2, false),
    ] {
        let id = format!("\"{}\"", "x".repeat(bytes - 2));
        for (head, tail) in [
            (r#"{"method":"a","id":"#, "}"),
            (r#"{"id":"#, r#","method":"a"}"#),
        ] {
            let body = format!("{head}{id}{tail}");
            let token = translated.then(|| token(0, &id));
            let expected = format!("{head}{}{tail}", token.as_ref().unwrap_or(&id));
            for piece in [1, 1000, body.len()] {
                let (mut outgoing, mut out) = (Outgoing::new(0), Vec::new());
                let held = most_held(&mut outgoing, &body, piece, &mut out);
                assert!(
                    held <= if tail == "}" {
                        token::MAX_ORIGINAL_BYTES
                    } else {
                        bytes + 30
                    }
                );
                assert!(
                    String::from_utf8(out).unwrap() == expected,
                    "{bytes} in {piece}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_translated_does_not_wait() {
    for body in [
        r#"{"result":1,"id":"server-7"#,
        r#"{"error":1,"params":{"requestId":1"#,
        r#"{"method":"a","params":{"requestId":1"#,
        r#"{"id":1,"method":"a"#,
        r#"{"id":1,"method":1,"result""#,
        r#"{"id":1}"#,
        // Not JSON any more.
        r#"{"id":1 2"#,
        r#"{"id":1,,"params":{},"#,
        r#"{"method":"notifications/cancelled","params":{"requestId":}"#,
        r#"{"id":1,"method":"n\x"#,
    ] {
        let (mut outgoing, mut out) = (Outgoing::new(0), Vec::new());
        outgoing.push(body.as_bytes(), &mut Requests::default(), &mut out);
        assert_eq!(outgoing.held(), 0, "{body}");
        assert!(out.len() >= body.len(), "{body}");
    }
}
