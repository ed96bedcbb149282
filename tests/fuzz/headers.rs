//! Headers: the host's maps are read whole or not at all, each value is read as a slow and obvious reader does, and
//! whatever a request says of itself, it gets the session of its own caller or none, and nothing else of it changes.

use std::collections::BTreeSet;

use mcp_session_filter::headers::{self, Headers, is_plain, media_type_of, names_media_type};
use mcp_session_filter::session::{ProtocolVersion, SessionId, is_sessionless};
use mcp_session_filter::upstream_host::UpstreamHost;

use crate::driver::Envoy;
use crate::scenario::HeaderLines;
use crate::traffic::{self, Sent, VERSION};

/// Checks bytes: as a map of the host's, as one value, and as the lines of a request (`name: value`).
pub fn check(data: &[u8]) {
    check_map(data);
    check_value(data);
    let lines = lines_of(data);
    LEARNED.with(|envoys| {
        for (envoy, (holds, translates)) in envoys.iter().zip(CONFIGS) {
            for method in ["POST", "GET", "DELETE"] {
                check_request(envoy, (holds, translates), method, &lines);
            }
        }
    });
}

fn check_map(bytes: &[u8]) {
    let Some(headers) = Headers::decode(bytes.to_vec()) else {
        return;
    };
    let lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    if !bytes.is_empty() {
        assert!(Headers::encode(lines.iter()) == bytes);
    }
    for (name, _) in &lines {
        let Ok(name) = core::str::from_utf8(name) else {
            continue;
        };
        let expected = lines.iter().filter(|(other, _)| other == name.as_bytes());
        let expected: Vec<_> = expected.map(|(_, value)| value.as_slice()).collect();
        assert!(headers.all(name).eq(expected.iter().copied()));
        let first = expected.iter().find(|value| !value.is_empty());
        assert_eq!(headers.get(name), first.copied());
    }
}

fn check_value(value: &[u8]) {
    let is_visible = value.iter().all(|byte| (0x21..=0x7E).contains(byte));
    let id = SessionId::parse(value);
    assert_eq!(
        id.is_some(),
        is_visible && (1..=4096).contains(&value.len())
    );
    assert!(id.is_none_or(|id| id.as_bytes() == value));
    if let Some(version) = ProtocolVersion::parse(value) {
        assert!(version.as_bytes() == value && is_visible && value.len() <= 32);
    }
    if let Some(host) = UpstreamHost::parse(value) {
        let text = host.to_string();
        assert!(text.len() <= UpstreamHost::MAX_BYTES);
        assert_eq!(UpstreamHost::parse(text.as_bytes()), Some(host));
    }
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let trim = |text: &str| {
        text.trim_matches(|c: char| c.is_ascii_whitespace())
            .to_owned()
    };
    let before = |text: &str, end| trim(text.split(end).next().unwrap_or_default());
    let media_type = media_type_of(value);
    let shown = String::from_utf8_lossy(media_type).to_ascii_lowercase();
    assert_eq!(shown, before(&text, ';'));
    assert_eq!(
        is_plain(Some(value)),
        matches!(&*trim(&text), "" | "identity")
    );
    let mut ranges = text.split(',').map(|range| before(range, ';'));
    let names = ranges.any(|range| range == "text/event-stream");
    assert_eq!(names_media_type(value, "text/event-stream"), names);
}

thread_local! {
    /// Envoys that remember a session of one caller.
    static LEARNED: [Envoy; 3] = CONFIGS.map(|(holds, translates)| {
        let config = format!(
            r#"{{"hold_request_headers": {holds}, "translate_ids": {translates}, "memory": {{"slots": 2, "bulk_slots": 1}}}}"#
        );
        let mut envoy = Envoy::new(config.as_bytes());
        traffic::open(&mut envoy, "owner", "s1", false);
        envoy
    });
}

/// Whether headers are held, and ids translated.
const CONFIGS: [(bool, bool); 3] = [(true, false), (true, true), (false, true)];

/// Lines `name: value`, their names in lower case as the host hands them over. A length that is none of the body's is
/// refused by Envoy, and not handed over at all.
fn lines_of(data: &[u8]) -> HeaderLines {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = core::str::from_utf8(&line[..colon]).ok()?;
        let value = line[colon + 1..].strip_prefix(b" ");
        let value = value.unwrap_or(&line[colon + 1..]).to_vec();
        let name = name.to_ascii_lowercase();
        let is_sound = !name.is_empty() && name != headers::CONTENT_LENGTH;
        is_sound.then_some((name, value))
    });
    lines.collect()
}

/// What goes up are the lines that came, but for those that a repair changes in a request of the session's owner.
fn check_request(
    envoy: &Envoy,
    (holds, translates): (bool, bool),
    method: &'static str,
    lines: &HeaderLines,
) {
    let mut sent = Sent {
        headers: lines.clone(),
        ..Sent::call(method, "")
    };
    let lines = &mut sent.headers;
    if method == "POST" {
        let length = traffic::body_of(sent.rpc).len().to_string();
        lines.push(traffic::line(headers::CONTENT_LENGTH, &length));
    }
    let seen = traffic::send(&mut envoy.copy(), &sent);
    let lines = &sent.headers;
    assert!(seen.reply.is_none(), "it went up");
    let mut expected = lines.clone();
    let is_repaired = is_owners(lines) && needs_session(method, lines);
    if is_repaired {
        replace(&mut expected, headers::SESSION_ID, "s1");
        if first(lines, headers::PROTOCOL_VERSION).is_none() {
            replace(&mut expected, headers::PROTOCOL_VERSION, VERSION);
        }
        let accept = first(lines, headers::ACCEPT).map(<[u8]>::trim_ascii);
        if method == "POST" && matches!(accept, None | Some(b"*/*")) {
            let both = headers::ACCEPT_JSON_OR_EVENTS;
            replace(&mut expected, headers::ACCEPT, both);
        }
        if translates
            && lines
                .iter()
                .any(|(name, _)| name == headers::ACCEPT_ENCODING)
        {
            replace(&mut expected, headers::ACCEPT_ENCODING, "identity");
        }
        if translates && method == "POST" && is_plain(first(lines, "content-encoding")) {
            // Another body is longer. Headers that have waited for all of it say how much.
            let length = seen.body.len().to_string();
            expected.retain(|(name, _)| name != headers::CONTENT_LENGTH);
            let length = holds.then(|| traffic::line(headers::CONTENT_LENGTH, &length));
            expected.extend(length);
        }
    }
    let mut names: BTreeSet<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
    names.extend([
        headers::SESSION_ID,
        headers::PROTOCOL_VERSION,
        headers::ACCEPT,
    ]);
    for name in names {
        let expected = expected.iter().filter(|(other, _)| other == name);
        let expected: Vec<_> = expected.map(|(_, value)| value.as_slice()).collect();
        let seen: Vec<_> = seen.upstream.all(name).collect();
        assert_eq!(seen, expected, "{name} of a {method}");
    }
}

fn is_owners(lines: &HeaderLines) -> bool {
    let credentials = ["authorization", "x-api-key"].into_iter().flat_map(|name| {
        let lines = lines.iter();
        lines.filter(move |(other, value)| other == name && !value.is_empty())
    });
    credentials.eq([&traffic::line("authorization", "Bearer owner")])
}

fn needs_session(method: &str, lines: &HeaderLines) -> bool {
    let is_modern = lines.iter().any(|(name, _)| name == headers::METHOD)
        || first(lines, headers::PROTOCOL_VERSION).is_some_and(is_sessionless);
    let mut accepts = lines.iter().filter(|(name, _)| name == headers::ACCEPT);
    let listens = accepts.any(|(_, accept)| names_media_type(accept, "text/event-stream"));
    let has_id = first(lines, headers::SESSION_ID).is_some();
    !is_modern && !has_id && (method != "GET" || listens)
}

/// The first that is not empty.
fn first<'a>(lines: &'a HeaderLines, name: &str) -> Option<&'a [u8]> {
    let mut lines = lines.iter();
    let line = lines.find(|(other, value)| other == name && !value.is_empty());
    line.map(|(_, value)| value.as_slice())
}

fn replace(lines: &mut HeaderLines, name: &str, value: &str) {
    lines.retain(|(other, _)| other != name);
    lines.push(traffic::line(name, value));
}
