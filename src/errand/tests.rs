use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::exchange::{Exchange, RequestAction};
use crate::initialize_result::INITIALIZE_RESULT_BYTES;
use crate::seat::{Knock, Turn};
use crate::seats::Knocked;
use crate::testing::FakePlatform;
use crate::time::Millis;

const REUSE: &str = r#""on_reinitialize": "reuse", "hold_request_headers": true"#;
const QUEUE: &str = r#""on_reinitialize": "queue", "hold_request_headers": true"#;
const INITIALIZE: &str = r#"{"id":"q","method":"initialize","params":{"capabilities":{}}}"#;
const RESULT: &str = r#"{"capabilities":{},"protocolVersion":"2025-06-18"}"#;
const START: u64 = 1_000_000;

fn plugin(config: &str) -> (Plugin, FakePlatform) {
    let config = Config::parse(format!("{{{config}}}").as_bytes()).unwrap();
    let plugin = Plugin::new(config, [7; 32], b"", 1);
    let platform = FakePlatform::default();
    platform.advance(START);
    platform.set_attribute("xds.cluster_name", "server");
    plugin.create_tables(&platform).unwrap();
    (plugin, platform)
}

fn lines(lines: &[(&str, &str)]) -> Headers {
    Headers::new(lines.iter().copied())
}

/// What becomes of a caller's `initialize`, with these headers besides.
fn knock(
    plugin: &Plugin,
    platform: &FakePlatform,
    caller: &str,
    more: &[(&str, &str)],
) -> RequestAction {
    let own = [
        (":method", "POST"),
        (":path", "/mcp?key=secret"),
        (":authority", "mcp.test"),
        ("authorization", caller),
        ("content-length", "99"),
        ("accept-encoding", "gzip"),
    ];
    let headers = lines(&[&own, more].concat());
    let (exchange, _) = Exchange::begin(plugin, platform, headers, false, true);
    let body = INITIALIZE.as_bytes();
    exchange.request_body(plugin, platform, body, true).1.action
}

fn errand_of(action: RequestAction) -> Errand {
    match action {
        RequestAction::Wait(_, Some(errand)) => errand,
        _ => panic!("it does nothing"),
    }
}

fn open(plugin: &Plugin, platform: &FakePlatform) -> Errand {
    errand_of(knock(plugin, platform, "a", &[]))
}

#[allow(clippy::unnecessary_wraps, reason = "an errand may get none")]
fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    Some(Answer {
        headers: lines(&[&[(":status", status)], headers].concat()),
        body: body.as_bytes().to_vec(),
    })
}

#[allow(clippy::unnecessary_wraps, reason = "an errand may get none")]
fn opened(result: &str) -> Option<Answer> {
    let body = format!(r#"{{"jsonrpc":"2.0","id":"q","result":{result}}}"#);
    let headers = [("content-type", "application/json"), (SESSION_ID, "s1")];
    answer("200", &headers, &body)
}

fn next(progress: (Progress, Vec<Signal>)) -> Errand {
    match progress {
        (Progress::Next(errand), _) => errand,
        (Progress::Over(_), _) => panic!("it is over"),
    }
}

fn over(progress: (Progress, Vec<Signal>)) -> Over {
    match progress {
        (Progress::Over(over), _) => over,
        (Progress::Next(_), _) => panic!("it goes on"),
    }
}

fn reply(over: &Over) -> (u16, Outcome, String) {
    let (reply, outcome) = over.reply.clone().unwrap();
    (
        reply.status,
        outcome,
        String::from_utf8(reply.body).unwrap(),
    )
}

fn of<'a>(call: &'a Subrequest, name: &str) -> Vec<&'a str> {
    let lines = call.headers.iter().filter(|(other, _)| other == name);
    lines.map(|(_, value)| value.as_str()).collect()
}

/// A session of the caller's as it is remembered: whether it is shared, and the filter's to end.
fn known(plugin: &Plugin, platform: &FakePlatform) -> Option<(bool, bool, bool)> {
    let headers = lines(&[(":path", "/mcp"), ("authorization", "a")]);
    let caller = &plugin.config.caller;
    let caller = crate::caller::identify(caller, &headers, platform, &plugin.key).unwrap();
    let record = plugin.memory.recall(platform, &caller, platform.now());
    let record = record.unwrap()?;
    let session = record.sessions.first()?;
    Some((session.shared, session.owned, session.latest))
}

const MISSING: Option<(bool, bool, bool)> = None;
const SHARED: Option<(bool, bool, bool)> = Some((true, true, true));
const ALONE: Option<(bool, bool, bool)> = Some((false, false, true));

#[test]
fn a_session_is_asked_for_as_its_client_did() {
    let (plugin, platform) = plugin(REUSE);
    let accept = "application/json;q=0.5, text/event-stream";
    let more = [(ACCEPT, accept), ("x-trace", "t")];
    let call = errand_of(knock(&plugin, &platform, "a", &more)).call(&plugin);
    assert_eq!(call.cluster, "server");
    assert_eq!(call.body, INITIALIZE.as_bytes());
    assert_eq!(call.timeout, Duration::from_secs(60));
    for (name, expected) in [
        (":method", &["POST"][..]),
        (":path", &["/mcp?key=secret"]),
        (":authority", &["mcp.test"]),
        ("authorization", &["a"]),
        ("x-trace", &["t"]),
        ("content-type", &["application/json"]),
        (ACCEPT, &[accept]),
        (SESSION_ID, &[]),
        ("mcp-protocol-version", &[]),
        ("accept-encoding", &[]),
        ("content-length", &[]),
    ] {
        assert_eq!(of(&call, name), expected, "{name}");
    }
}

#[test]
fn what_does_not_accept_json_by_its_name_asks_for_both() {
    for more in [
        &[][..],
        &[(ACCEPT, "*/*")],
        &[(ACCEPT, " */* ")],
        &[(ACCEPT, "text/event-stream")],
    ] {
        let (plugin, platform) = plugin(REUSE);
        let call = errand_of(knock(&plugin, &platform, "a", more)).call(&plugin);
        assert_eq!(of(&call, ACCEPT), [ACCEPT_JSON_OR_EVENTS]);
    }
}

#[test]
fn a_session_that_is_shared_is_said_to_be_ready_before_anybody_gets_it() {
    let events = format!("event: message\ndata: {{\"id\":\"q\",\"result\":{RESULT}}}\n\n");
    let as_events = [("content-type", "text/event-stream"), (SESSION_ID, "s1")];
    for answered in [
        opened(RESULT).unwrap(),
        answer("200", &as_events, &events).unwrap(),
    ] {
        let (plugin, platform) = plugin(REUSE);
        let body = String::from_utf8(answered.body.clone()).unwrap();
        let errand = open(&plugin, &platform).answered(&plugin, &platform, Some(answered));
        let errand = next(errand);
        let call = errand.call(&plugin);
        assert_eq!(
            call.body,
            br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
        );
        assert_eq!(of(&call, ":method"), ["POST"]);
        assert_eq!(of(&call, ":path"), ["/mcp"], "a query is one request's");
        assert_eq!(of(&call, "authorization"), ["a"]);
        assert_eq!(of(&call, SESSION_ID), ["s1"]);
        assert_eq!(of(&call, "mcp-protocol-version"), ["2025-06-18"]);
        assert_eq!(call.timeout, Duration::from_secs(5));
        let waits = knock(&plugin, &platform, "a", &[]);
        assert!(matches!(waits, RequestAction::Wait(_, None)));
        assert_eq!(known(&plugin, &platform), MISSING, "by any other way");

        let over = over(errand.answered(&plugin, &platform, answer("202", &[], "")));
        assert_eq!(reply(&over), (200, Outcome::Learned, body));
        assert!(over.wakes, "somebody watches");
        assert_eq!(known(&plugin, &platform), SHARED);
        let joins = knock(&plugin, &platform, "a", &[]);
        assert!(matches!(joins, RequestAction::Reply(reply) if reply.status == 200));
    }
}

#[test]
fn whatever_a_server_says_to_its_being_ready_the_session_is_there() {
    for answered in [answer("500", &[], "no"), answer("404", &[], ""), None] {
        let (plugin, platform) = plugin(REUSE);
        let errand = open(&plugin, &platform);
        let errand = next(errand.answered(&plugin, &platform, opened(RESULT)));
        let over = over(errand.answered(&plugin, &platform, answered));
        assert_eq!(reply(&over).1, Outcome::Learned);
        let joins = knock(&plugin, &platform, "a", &[]);
        assert!(matches!(joins, RequestAction::Reply(_)));
    }
}

#[test]
fn a_session_whose_result_can_not_be_kept_is_its_clients_alone() {
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(INITIALIZE_RESULT_BYTES));
    let json = ("content-type", "application/json");
    let error = r#"{"jsonrpc":"2.0","id":"q","error":{"code":1,"message":"no"}}"#;
    for answered in [
        opened(&long),
        answer("200", &[json, (SESSION_ID, "s1")], error),
        answer("200", &[(SESSION_ID, "s1")], INITIALIZE),
        answer(
            "200",
            &[json, (SESSION_ID, "s1"), ("content-encoding", "gzip")],
            INITIALIZE,
        ),
        answer("202", &[(SESSION_ID, "s1")], ""),
    ] {
        let (plugin, platform) = plugin(REUSE);
        let body = String::from_utf8(answered.as_ref().unwrap().body.clone()).unwrap();
        let over = over(open(&plugin, &platform).answered(&plugin, &platform, answered));
        let (_, outcome, got) = reply(&over);
        assert_eq!((outcome, got), (Outcome::Learned, body));
        assert_eq!(known(&plugin, &platform), ALONE);
        let waits = knock(&plugin, &platform, "a", &[]);
        assert!(matches!(waits, RequestAction::Wait(_, None)));
    }
}

#[test]
fn a_result_that_fits_to_the_byte_is_shared() {
    let rest = r#"{"x":""}"#.len();
    for (size, is_shared) in [
        (INITIALIZE_RESULT_BYTES, true),
        (INITIALIZE_RESULT_BYTES + 1, false),
    ] {
        let (plugin, platform) = plugin(REUSE);
        let result = format!(r#"{{"x":"{}"}}"#, "x".repeat(size - rest));
        let (progress, _) = open(&plugin, &platform).answered(&plugin, &platform, opened(&result));
        assert_eq!(matches!(progress, Progress::Next(_)), is_shared, "{size}");
    }
}

#[test]
fn in_a_queue_a_session_is_its_clients_alone_and_its_client_says_when_it_is_ready() {
    let (plugin, platform) = plugin(QUEUE);
    let over = over(open(&plugin, &platform).answered(&plugin, &platform, opened(RESULT)));
    assert_eq!(reply(&over).1, Outcome::Learned);
    assert_eq!(known(&plugin, &platform), ALONE);
}

#[test]
fn a_session_that_is_not_remembered_is_not_shared() {
    let (plugin, platform) = plugin(REUSE);
    let errand = open(&plugin, &platform);
    let errand = next(errand.answered(&plugin, &platform, opened(RESULT)));
    platform.fail_in(0);
    let (progress, signals) = errand.answered(&plugin, &platform, answer("202", &[], ""));
    assert!(matches!(signals[..], [Signal::Failed(_)]));
    let over = over((progress, signals));
    assert_eq!(reply(&over).1, Outcome::Learned);
    assert_eq!(known(&plugin, &platform), MISSING);
    let waits = knock(&plugin, &platform, "a", &[]);
    assert!(matches!(waits, RequestAction::Wait(_, None)));
}

#[test]
fn of_a_server_without_sessions_each_client_hears_itself() {
    let (plugin, platform) = plugin(REUSE);
    let json = [("content-type", "application/json")];
    let too_long = "x".repeat(SessionId::MAX_BYTES + 1);
    for id in [None, Some(""), Some("a b"), Some(too_long.as_str())] {
        let headers = [
            json.to_vec(),
            id.map(|id| (SESSION_ID, id)).into_iter().collect(),
        ];
        let headers = headers.concat();
        let errand = open(&plugin, &platform);
        let waits = knock(&plugin, &platform, "a", &[]);
        assert!(matches!(waits, RequestAction::Wait(_, None)));
        let over = over(errand.answered(&plugin, &platform, answer("200", &headers, "{}")));
        assert_eq!(
            reply(&over),
            (200, Outcome::PassedInitialize, "{}".to_owned())
        );
        assert!(over.wakes);
        assert_eq!(known(&plugin, &platform), MISSING);
    }
}

#[test]
fn a_refusal_goes_to_the_client_as_it_is_and_to_those_who_wait_with_their_ids() {
    let error = r#"{"error":{"code":1},"id":"q","jsonrpc":"2.0"}"#;
    let headers = [("content-type", "application/json"), ("retry-after", "7")];
    for status in ["401", "500", "503", "302"] {
        let (plugin, platform) = plugin(REUSE);
        let errand = open(&plugin, &platform);
        let answered = answer(status, &headers, error);
        let over = over(errand.answered(&plugin, &platform, answered));
        let (code, outcome, body) = reply(&over);
        assert_eq!(code.to_string(), status);
        assert_eq!((outcome, body.as_str()), (Outcome::PassedInitialize, error));
        assert_eq!(known(&plugin, &platform), MISSING);
        let words = words_at(&plugin, &platform, &over, true).unwrap();
        let given = Reply::decode(&words).unwrap().with_id(b"8");
        assert_eq!(
            String::from_utf8(given.body).unwrap(),
            error.replace("\"q\"", "8")
        );
        assert!(
            given
                .headers
                .contains(&(b"retry-after".to_vec(), b"7".to_vec()))
        );
    }
}

/// What one is told that came before the refusal.
fn words_at(
    plugin: &Plugin,
    platform: &FakePlatform,
    over: &Over,
    shares: bool,
) -> Option<Vec<u8>> {
    let knock = Knock {
        ticket: Ticket { number: 77, vm: 1 },
        arrived: platform.now(),
        capabilities: plugin.key.digest("capabilities", [b"{}".as_slice()]),
        shares,
        is_told: false,
        backoff: core::time::Duration::ZERO,
        since: Millis(0),
    };
    let now = platform.now();
    match plugin.seats.knock(platform, &over.seat, &knock, now) {
        Ok(Knocked::Failed(words)) => Some(words),
        Ok(Knocked::Turn(Turn::Open)) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_each_has_its_own_a_refusal_concerns_nobody_else() {
    let (plugin, platform) = plugin(QUEUE);
    let errand = open(&plugin, &platform);
    let over = over(errand.answered(&plugin, &platform, answer("503", &[], "no")));
    assert_eq!(words_at(&plugin, &platform, &over, false), None);
}

#[test]
fn a_server_that_does_not_answer_is_a_504_with_the_requests_id() {
    let silent = [
        None,
        Some(Answer {
            headers: lines(&[]),
            body: Vec::new(),
        }),
    ];
    for answered in silent {
        let (plugin, platform) = plugin(REUSE);
        let over = over(open(&plugin, &platform).answered(&plugin, &platform, answered));
        let (status, outcome, body) = reply(&over);
        assert_eq!((status, outcome), (504, Outcome::PassedInitialize));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["id"], "q");
        assert!(words_at(&plugin, &platform, &over, true).is_some());
    }
}

#[test]
fn an_end_that_the_host_refused_to_write_down_is_written_down_later() {
    for answered in [|| opened("[]"), || answer("503", &[], "no"), || None] {
        let mut unsettled = 0;
        for call in 0.. {
            let (plugin, platform) = plugin(QUEUE);
            let errand = open(&plugin, &platform);
            platform.fail_in(call);
            let mut told = over(errand.answered(&plugin, &platform, answered()));
            if platform.is_failure_pending() {
                break;
            }
            assert!(told.reply.is_some(), "its client waits for nothing");
            let Some(ending) = told.unsettled.take() else {
                continue;
            };
            unsettled += 1;
            let waits = knock(&plugin, &platform, "b", &[]);
            assert!(matches!(waits, RequestAction::Wait(_, None)));
            platform.fail_in(0);
            let (mut again, signals) = ending.settle(&plugin, &platform);
            assert!(matches!(signals[..], [Signal::Failed(_)]));
            let (settled, signals) = again.unsettled.take().unwrap().settle(&plugin, &platform);
            assert!(signals.is_empty() && settled.unsettled.is_none());
            assert!(settled.wakes && settled.reply.is_none());
        }
        assert!(unsettled >= 2, "reading and writing");
    }
}

#[test]
fn a_seat_that_is_gone_is_looked_for_once_more_and_no_longer() {
    let (plugin, platform) = plugin(REUSE);
    let errand = open(&plugin, &platform);
    for (key, _) in platform.dump() {
        if key.contains("/seats/") {
            crate::platform::Store::write(&platform, &key, b"", None).unwrap();
        }
    }
    let mut told = over(errand.answered(&plugin, &platform, None));
    let ending = told.unsettled.take().unwrap();
    assert!(ending.settle(&plugin, &platform).0.unsettled.is_none());
}

/// The session of caller "a" is closed because of a request by this one, or of nobody's.
fn close(plugin: &Plugin, platform: &FakePlatform, because: Option<&str>) -> Errand {
    over(open(plugin, platform).answered(plugin, platform, opened(RESULT)));
    let Some(caller) = because else {
        let ticket = Ticket { number: 5, vm: 1 };
        let now = Millis(u64::MAX);
        let expired = (0..256).find_map(|slot| {
            let found = plugin
                .seats
                .expire(platform, slot, ticket, now, |_, _| true);
            found.unwrap()
        });
        let (seat, holder) = expired.unwrap();
        return Errand::close(seat, ticket, *holder, None);
    };
    platform.advance(6_250);
    errand_of(knock(plugin, platform, caller, &[("x-trace", "t")]))
}

#[test]
fn a_session_is_closed_with_its_own_callers_credentials_or_with_none() {
    for (because, credentials) in [(Some("a"), &["a"][..]), (Some("b"), &[]), (None, &[])] {
        let (plugin, platform) = plugin(QUEUE);
        let errand = close(&plugin, &platform, because);
        let call = errand.call(&plugin);
        assert_eq!(of(&call, "authorization"), credentials);
        assert_eq!(of(&call, "x-trace").len(), credentials.len());
        assert_eq!(of(&call, ":method"), ["DELETE"]);
        assert_eq!(of(&call, ":path"), ["/mcp"]);
        assert_eq!(of(&call, ":authority"), ["mcp.test"]);
        assert_eq!(of(&call, SESSION_ID), ["s1"]);
        assert_eq!(of(&call, "content-type"), [""; 0]);
        assert!(call.body.is_empty());
        assert_eq!(call.timeout, Duration::from_secs(5));
    }
}

#[test]
fn whatever_a_server_says_to_a_delete_the_session_is_over_and_the_seat_is_free() {
    for answered in [
        answer("200", &[], ""),
        answer("404", &[], ""),
        answer("405", &[], ""),
        answer("500", &[], ""),
        None,
    ] {
        let forgetting = [QUEUE, r#""on_session_lost": "forget""#].join(", ");
        // A holder that comes back is to find out that its session was lost.
        for (config, left) in [(forgetting.as_str(), MISSING), (QUEUE, ALONE)] {
            let (plugin, platform) = plugin(config);
            let errand = close(&plugin, &platform, Some("b"));
            assert_eq!(known(&plugin, &platform), ALONE);
            let answered = answered.as_ref().map(|answer| Answer {
                headers: answer.headers.clone(),
                body: answer.body.clone(),
            });
            let over = over(errand.answered(&plugin, &platform, answered));
            assert!(over.reply.is_none(), "its request knocks again");
            assert!(over.wakes);
            assert_eq!(known(&plugin, &platform), left);
        }
    }
}
