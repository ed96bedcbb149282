use super::*;
use crate::config::Config;
use crate::testing::FakePlatform;
use crate::translate::token;

const ENDPOINT: Digest = Digest::from_bytes([0xE; 32]);
/// The first nonce of all bodies here.
const NONCE: u64 = 0xA0;

fn plugin() -> (Plugin, FakePlatform) {
    let plugin = Plugin::new(Config::default(), [7; 32], b"", 1);
    let platform = FakePlatform::default();
    plugin.create_tables(&platform).unwrap();
    (plugin, platform)
}

fn headers(lines: &[(&str, &str)]) -> Headers {
    Headers::new(lines.iter().copied())
}

fn ids(nonce: u64, more: &[(&str, &str)]) -> Ids {
    let session = SessionId::parse(b"s1").unwrap();
    let lines = [&[(":method", "POST")], more].concat();
    Ids::new(ENDPOINT, session, &headers(&lines), nonce)
}

fn token(nonce: u64, original: &str) -> String {
    let token = token::encode(nonce, original.as_bytes()).unwrap();
    String::from_utf8(token).unwrap()
}

fn request(id: &str) -> String {
    format!(r#"{{"id":{id},"method":"tools/call"}}"#)
}

fn cancel(id: &str) -> String {
    format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

fn send(ids: &mut Ids, plugin: &Plugin, platform: &FakePlatform, body: &str) -> Rewritten {
    let rewritten = ids.request_body(plugin, platform, body.as_bytes().to_vec(), true);
    assert_eq!(rewritten.is_changed, rewritten.body != rewritten.original);
    rewritten
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap()
}

/// A request with this id goes up, and is under way until what comes back is over.
fn goes_up(plugin: &Plugin, platform: &FakePlatform, nonce: u64, body: &str) -> Ids {
    let mut ids = ids(nonce, &[]);
    let rewritten = send(&mut ids, plugin, platform, body);
    assert!(!rewritten.is_lost_cancel && rewritten.signals.is_empty());
    ids
}

/// What a cancel becomes that comes now.
fn cancels(plugin: &Plugin, platform: &FakePlatform, body: &str) -> (String, bool) {
    let mut ids = ids(0xC0, &[]);
    let rewritten = send(&mut ids, plugin, platform, body);
    assert!(ids.over(plugin, platform).is_empty());
    (text(&rewritten.body).to_owned(), rewritten.is_lost_cancel)
}

#[test]
fn a_length_is_exact_for_a_body_that_is_whole_and_goes_with_one_that_is_not() {
    let (plugin, platform) = plugin();
    let body = request("7");
    let length = body.len().to_string();
    let mut whole = ids(NONCE, &[(CONTENT_LENGTH, &length)]);
    let piece = body.as_bytes().to_vec();
    // With the last byte that was announced a body is whole, before its end is told.
    let rewritten = whole.request_body(&plugin, &platform, piece, false);
    let expected = body.replace('7', &token(NONCE, "7"));
    assert_eq!(text(&rewritten.body), expected);
    let size = expected.len().to_string();
    assert_eq!(
        whole.length(rewritten.body.len()),
        Some(Edit::set(CONTENT_LENGTH, size.as_bytes()))
    );

    for (cut, ended) in [(10, false), (body.len() - 1, true)] {
        let mut part = ids(NONCE, &[(CONTENT_LENGTH, &length)]);
        let piece = body.as_bytes()[..cut].to_vec();
        let rewritten = part.request_body(&plugin, &platform, piece, ended);
        assert_eq!(
            part.length(rewritten.body.len()),
            Some(Edit::remove(CONTENT_LENGTH))
        );
    }
    let before = ids(NONCE, &[(CONTENT_LENGTH, &length)]);
    assert_eq!(before.length(0), Some(Edit::remove(CONTENT_LENGTH)));
}

#[test]
fn a_length_stays_where_it_is_right_and_none_comes_where_none_was() {
    let (plugin, platform) = plugin();
    let body = r#"{"method":"notifications/progress"}"#;
    let mut same = ids(NONCE, &[(CONTENT_LENGTH, &body.len().to_string())]);
    let rewritten = send(&mut same, &plugin, &platform, body);
    assert_eq!(text(&rewritten.body), body);
    assert_eq!(same.length(body.len()), None);
    let mut chunked = ids(NONCE, &[]);
    let rewritten = send(&mut chunked, &plugin, &platform, &request("7"));
    assert_eq!(chunked.length(rewritten.body.len()), None);
}

#[test]
fn a_length_that_is_no_number_or_beyond_32_or_64_bits_goes() {
    let (plugin, platform) = plugin();
    let body = request("7");
    let right = body.len().to_string();
    let beyond_32 = (body.len() + (1 << 32)).to_string();
    for lines in [
        &["many"][..],
        &[""],
        &["-1"],
        &["4294967296"],
        &[&beyond_32],
        &["18446744073709551616"],
        &[&right, &right],
    ] {
        let lines: Vec<_> = lines.iter().map(|line| (CONTENT_LENGTH, *line)).collect();
        let mut odd = ids(NONCE, &lines);
        let removed = Some(Edit::remove(CONTENT_LENGTH));
        assert_eq!(odd.length(0), removed, "{lines:?}");
        let rewritten = send(&mut odd, &plugin, &platform, &body);
        assert_eq!(odd.length(rewritten.body.len()), removed, "{lines:?}");
    }
}

#[test]
fn an_answer_is_asked_for_uncompressed_by_those_who_ask_at_all() {
    let identity = Edit::set(ACCEPT_ENCODING, b"identity");
    let asks = headers(&[(ACCEPT_ENCODING, "gzip")]);
    assert_eq!(Ids::edits(&asks), core::slice::from_ref(&identity));
    let asks_twice = headers(&[(ACCEPT_ENCODING, "gzip"), (ACCEPT_ENCODING, "br")]);
    let none_stays = Edit::remove(ACCEPT_ENCODING);
    assert_eq!(Ids::edits(&asks_twice), [none_stays, identity]);
    assert_eq!(Ids::edits(&headers(&[])), []);
}

#[test]
fn a_body_that_is_compressed_or_no_posts_goes_up_as_it_is() {
    let (plugin, platform) = plugin();
    let get = Ids::new(
        ENDPOINT,
        SessionId::parse(b"s1").unwrap(),
        &headers(&[(":method", "GET"), (CONTENT_LENGTH, "0")]),
        NONCE,
    );
    let gzip = ids(
        NONCE,
        &[("content-encoding", "gzip"), (CONTENT_LENGTH, "9")],
    );
    for mut ids in [get, gzip] {
        assert!(!ids.rewrites_request());
        let rewritten = send(&mut ids, &plugin, &platform, &request("7"));
        assert_eq!(text(&rewritten.body), request("7"));
        assert_eq!(ids.length(5), None);
        assert!(ids.over(&plugin, &platform).is_empty());
        assert!(cancels(&plugin, &platform, &cancel("7")).1);
    }
    assert!(ids(NONCE, &[("content-encoding", "identity")]).rewrites_request());
}

#[test]
fn a_cancel_means_the_one_request_with_that_id_that_is_under_way() {
    let (plugin, platform) = plugin();
    assert!(cancels(&plugin, &platform, &cancel("7")).1, "none is");
    let first = goes_up(&plugin, &platform, NONCE, &request("7"));
    let expected = (cancel(&token(NONCE, "7")), false);
    assert_eq!(cancels(&plugin, &platform, &cancel("7")), expected);
    for other in ["\"7\"", "8", "7.0"] {
        assert!(cancels(&plugin, &platform, &cancel(other)).1, "{other}");
    }
    let second = goes_up(&plugin, &platform, 0xB0, &request("7"));
    assert!(cancels(&plugin, &platform, &cancel("7")).1, "two are");
    assert!(first.over(&plugin, &platform).is_empty());
    let expected = (cancel(&token(0xB0, "7")), false);
    assert_eq!(cancels(&plugin, &platform, &cancel("7")), expected);
    assert!(second.over(&plugin, &platform).is_empty());
    assert!(cancels(&plugin, &platform, &cancel("7")).1, "it is over");
}

#[test]
fn a_cancel_means_nobody_in_another_session_or_at_another_endpoint() {
    let (plugin, platform) = plugin();
    let _under_way = goes_up(&plugin, &platform, NONCE, &request("7"));
    let post = headers(&[(":method", "POST")]);
    for (endpoint, session) in [(ENDPOINT, b"s2"), (Digest::from_bytes([1; 32]), b"s1")] {
        let session = SessionId::parse(session).unwrap();
        let mut other = Ids::new(endpoint, session, &post, 0xC0);
        let rewritten = send(&mut other, &plugin, &platform, &cancel("7"));
        assert!(rewritten.is_lost_cancel);
    }
}

#[test]
fn in_a_batch_a_cancel_that_is_unclear_goes_on_as_one_of_a_request_that_nobody_made() {
    let (plugin, platform) = plugin();
    let _under_way = goes_up(&plugin, &platform, NONCE, &request("7"));
    let batch = format!("[{},{}]", cancel("8"), cancel("7"));
    let (body, is_lost) = cancels(&plugin, &platform, &batch);
    assert!(!is_lost);
    let messages: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    let token_of = |message: &serde_json::Value| message["params"]["requestId"].to_string();
    assert_eq!(token_of(&messages[1]), token(NONCE, "7"));
    let nobodys = token_of(&messages[0]);
    assert_eq!(token::decode(nobodys.as_bytes()).unwrap(), b"8");
    assert_ne!(nobodys, token(NONCE, "8"));
}

#[test]
fn more_requests_in_a_batch_than_are_known_make_all_cancels_unclear_until_it_is_over() {
    let (plugin, platform) = plugin();
    let batch = |size: usize| {
        let requests: Vec<String> = (0..size).map(|id| request(&id.to_string())).collect();
        format!("[{}]", requests.join(","))
    };
    let known = goes_up(&plugin, &platform, NONCE, &batch(BATCH_KNOWN));
    assert_eq!(known.begun.len(), BATCH_KNOWN);
    assert!(!cancels(&plugin, &platform, &cancel("0")).1);
    assert!(known.over(&plugin, &platform).is_empty());

    let more = goes_up(&plugin, &platform, NONCE, &batch(10 * BATCH_KNOWN));
    assert_eq!(more.begun.len(), BATCH_KNOWN + 1, "the bound");
    let single = goes_up(&plugin, &platform, 0xB0, &request("\"x\""));
    for id in ["0", "63", "64", "639", "\"x\""] {
        assert!(cancels(&plugin, &platform, &cancel(id)).1, "{id}");
    }
    assert!(more.over(&plugin, &platform).is_empty());
    assert!(!cancels(&plugin, &platform, &cancel("\"x\"")).1);
    assert!(single.over(&plugin, &platform).is_empty());
    assert!(cancels(&plugin, &platform, &cancel("\"x\"")).1);
}

#[test]
fn what_goes_up_is_under_way_until_it_is_over_whatever_its_ids_are() {
    let (plugin, platform) = plugin();
    let before = platform.dump();
    let twice = format!("[{},{}]", request("7"), request("7"));
    let ids = goes_up(&plugin, &platform, NONCE, &twice);
    assert!(cancels(&plugin, &platform, &cancel("7")).1);
    assert!(ids.over(&plugin, &platform).is_empty());
    assert!(platform.dump() == before);
}

#[test]
fn where_the_store_fails_a_cancel_is_unclear_and_the_request_goes_up_all_the_same() {
    let (plugin, platform) = plugin();
    platform.fail_in(0);
    let mut up = ids(NONCE, &[]);
    let rewritten = send(&mut up, &plugin, &platform, &request("7"));
    assert!(matches!(rewritten.signals[..], [Signal::Failed(_)]));
    assert_eq!(text(&rewritten.body), request(&token(NONCE, "7")));
    let _under_way = goes_up(&plugin, &platform, 0xB0, &request("8"));
    platform.fail_in(0);
    let mut cancelling = ids(0xC0, &[]);
    let rewritten = send(&mut cancelling, &plugin, &platform, &cancel("8"));
    assert!(rewritten.is_lost_cancel);
    assert!(matches!(rewritten.signals[..], [Signal::Failed(_)]));
    platform.fail_in(0);
    assert!(matches!(
        up.over(&plugin, &platform)[..],
        [Signal::Failed(_)]
    ));
}

#[test]
fn what_waits_of_a_request_comes_out_when_it_is_given_up() {
    let (plugin, platform) = plugin();
    let mut ids = ids(NONCE, &[]);
    let piece = br#"{"id":7,"#.to_vec();
    let rewritten = ids.request_body(&plugin, &platform, piece, false);
    assert_eq!(text(&rewritten.body), r#"{"id":"#);
    assert!(rewritten.waited.is_empty());
    let rewritten = ids.request_body(&plugin, &platform, br#""a":"#.to_vec(), false);
    assert_eq!(text(&rewritten.waited), "7,");
    assert_eq!(text(&rewritten.original), r#""a":"#);
    assert_eq!(text(&ids.leave_request()), r#"7,"a":"#);
    assert!(!ids.rewrites_request());
}

#[test]
fn an_answer_is_read_if_it_is_plain_json_or_events() {
    let json = ("content-type", "application/json; charset=utf-8");
    let events = ("content-type", "Text/Event-Stream");
    for (lines, is_read) in [
        (&[json][..], true),
        (&[events], true),
        (&[json, ("content-encoding", "identity")], true),
        (&[json, ("content-encoding", "gzip")], false),
        (&[("content-type", "text/plain")], false),
        (&[], false),
    ] {
        let mut ids = ids(NONCE, &[]);
        assert_eq!(ids.answer_headers(&headers(lines)), None);
        assert_eq!(ids.rewrites_answer(), is_read, "{lines:?}");
        let is_gzip = lines.contains(&("content-encoding", "gzip"));
        assert_eq!(ids.cannot_read(&headers(lines)), is_gzip);
        let answer = format!("{{\"id\":{}}}", token(NONCE, "7"));
        let framed = if lines.contains(&events) {
            format!("data: {answer}\n\n")
        } else {
            answer
        };
        let expected = if is_read {
            framed.replace(&token(NONCE, "7"), "7")
        } else {
            framed.clone()
        };
        let put_back = ids.answer_body(framed.as_bytes(), true);
        assert_eq!(put_back.is_some(), is_read);
        let body = put_back.unwrap_or(framed.into_bytes());
        assert_eq!(text(&body), expected);
    }
}

#[test]
fn an_answer_whose_length_may_change_goes_without_one() {
    let mut json = ids(NONCE, &[]);
    let lines = headers(&[("content-type", "application/json"), (CONTENT_LENGTH, "9")]);
    assert_eq!(
        json.answer_headers(&lines),
        Some(Edit::remove(CONTENT_LENGTH))
    );
    let mut other = ids(NONCE, &[]);
    let lines = headers(&[("content-type", "text/plain"), (CONTENT_LENGTH, "9")]);
    assert_eq!(other.answer_headers(&lines), None);
}
