use super::Kind::{Initialize, Other};
use super::Scanner;

/// A `|` stands behind the byte that decides.
const INITIALIZES: &[&[u8]] = &[
    br#"{"method":"initialize"|}"#,
    br#"{"jsonrpc":"2.0","id":0,"method":"initialize"|,"params":{}}"#,
    br#"{"params":{"a":[{"method":"ping"}]},"method":"initialize"|}"#,
    b"\xEF\xBB\xBF \t\r\n{ \"id\" : -1.5e+9 , \"method\" : \"initialize\"| }",
    br#"{"\u006dethod":"\u0069nitial\u0069ze"|}"#,
    br#"{"METHOD":"x","\u006D\u0065thod":"initialize"|}"#,
    br#"{"a":"\\","b":"\"","c":["\\\"]}"],"method":"initialize"|}"#,
    br#"{"method or so, but longer\"":null,"method":"initialize"|}"#,
    br#"{"methods":1,"metho":2,"":3,"\"\\\/\b\f\n\r\t":4,"method":"initialize"|}"#,
    b"{\"\xC3\xA9\":\"\xFF\xC0\",\"n\":[\"\xED\xA0\x80}\"],\"method\":\"initialize\"|}",
    br#"{"n":1234567890123456789012345678901234567890e999,"method":"initialize"|}"#,
    br#"{"n":NaN,"t":true,"f":[false,null],"method":"initialize"|}"#,
    br#"{"results":{"result":1,"error":2},"method":"initialize"|}"#,
    br#"[ {"method":"initialize"|}]"#,
    br#"{"method":"initialize"|,"method":"ping"}"#,
    br#"{"method":"initialize"|,"result":{}}"#,
];

const OTHERS: &[&[u8]] = &[
    br#"{"method":"p|ing","method":"initialize"}"#,
    br#"{"method":"initialized|"}"#,
    br#"{"method":"init"|}"#,
    br#"{"method":""|}"#,
    br#"{"method":"inb|ox/list"}"#,
    br#"{"method":"I|nitialize"}"#,
    br#"{"method":"\u0169|nitialize"}"#,
    br#"{"method":"\n|"}"#,
    br#"{"method": 7|}"#,
    br#"{"method":[|"initialize"]}"#,
    br#"{"method":n|ull,"method":"initialize"}"#,
    br#"{"jsonrpc":"2.0","result"|:{"method":"initialize"}}"#,
    br#"{"error"|:null,"method":"initialize"}"#,
    br#"{"id":1,"params":{"method":"initialize"}}|"#,
    br#"{"id":1}| {"method":"initialize"}"#,
    br#"[{"id":1}|,{"method":"initialize"}]"#,
    br#"[{"method":"p|ing"},{"method":"initialize"}]"#,
    br#"[[|{"method":"initialize"}]]"#,
    b"[]|",
    b"{}|",
    b"n|ull",
    b"\"|method\"",
    b"<|html>",
    b"\xFF|\xFE{\0",
    b"\xEF\xBB{|",
    b"\xEF\xBB\xBF\xEF|",
    br#"{"method" "|initialize"}"#,
    br#"{"id":,|"method":"initialize"}"#,
    br#"{"id":1;|"method":"initialize"}"#,
    br#"{"id":1 2|,"method":"initialize"}"#,
    br#"{"id":1]|,"method":"initialize"}"#,
    br#"{,|"method":"initialize"}"#,
    br#"{"id":1,}|"#,
    br#"{"\x|6dethod":"initialize"}"#,
    br#"{"\u00g|0":1,"method":"initialize"}"#,
    b"{\"a\n|b\":1,\"method\":\"initialize\"}",
];

#[test]
fn every_body_is_judged_at_its_first_decisive_byte_wherever_it_is_cut() {
    let initializes = INITIALIZES.iter().map(|body| (*body, Initialize));
    for (marked, kind) in initializes.chain(OTHERS.iter().map(|body| (*body, Other))) {
        let text = marked.escape_ascii();
        let decisive = marked.iter().take_while(|&&byte| byte != b'|').count();
        let body: Vec<u8> = marked
            .iter()
            .copied()
            .filter(|&byte| byte != b'|')
            .collect();
        for cut in 0..=body.len() {
            let (head, tail) = body.split_at(cut);
            let verdict = (cut >= decisive).then_some(kind);
            let mut scanner = Scanner::new();
            assert_eq!(scanner.scan(head), verdict, "{text} after {cut} bytes");
            assert_eq!(scanner.scan(tail), Some(kind), "{text} cut at {cut}");
            assert_eq!(scanner.finish(), kind, "{text} at its end");
        }
        let mut scanner = Scanner::new();
        for (at, &byte) in body.iter().enumerate() {
            let verdict = (at + 1 >= decisive).then_some(kind);
            assert_eq!(
                scanner.scan(&[byte]),
                verdict,
                "{text} byte by byte, at {at}"
            );
        }
    }
}

#[test]
fn a_body_that_ends_undecided_is_no_initialize() {
    let bodies = [
        "",
        " \n",
        "\u{FEFF}",
        "{",
        "[",
        "{\"a",
        "{\"a\":1",
        "{\"a\":[[\"",
        "{\"method\":\"initialize",
    ];
    for body in bodies {
        let mut scanner = Scanner::new();
        assert_eq!(scanner.scan(body.as_bytes()), None, "{body}");
        assert_eq!(scanner.finish(), Other, "{body}");
        assert_eq!(
            scanner.scan(br#"{"method":"initialize"}"#),
            Some(Other),
            "{body}"
        );
    }
}

#[test]
fn megabytes_before_the_method_are_passed_over() {
    let text = r#"\"{[\\ "#.repeat(150_000);
    for params in [
        format!(r#"["{text}"]"#),
        format!(r#""{text}""#),
        "1".repeat(1_000_000),
    ] {
        let body = format!(r#"{{"params":{params},"{text}":{params},"method":"initialize"}}"#);
        for piece in [1, 4096, body.len()] {
            let mut scanner = Scanner::new();
            let verdict = body
                .as_bytes()
                .chunks(piece)
                .find_map(|bytes| scanner.scan(bytes));
            assert_eq!(verdict, Some(Initialize), "pieces of {piece}");
        }
    }
}

#[test]
fn ten_million_levels_take_no_memory() {
    const DEPTH: usize = 10_000_000;
    let mut scanner = Scanner::new();
    assert_eq!(scanner.scan(br#"{"params":"#), None);
    assert_eq!(scanner.scan(&vec![b'['; DEPTH]), None);
    assert_eq!(scanner.scan(&vec![b']'; DEPTH - 1]), None);
    assert_eq!(
        scanner.scan(br#","method":"ping"],"#),
        None,
        "one level was still open"
    );
    assert_eq!(scanner.scan(br#""method":"initialize""#), Some(Initialize));
    assert!(
        size_of::<Scanner>() <= 48,
        "a scanner is a few words, {} bytes",
        size_of::<Scanner>()
    );
}
