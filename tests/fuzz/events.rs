//! Event streams: they are read as a slow and obvious reader does, and nothing but ids changes in them, wherever they
//! are cut.

use mcp_session_filter::headers::Headers;
use mcp_session_filter::initialize_result::{Reading, VersionReader, read_result};
use mcp_session_filter::session::ProtocolVersion;
use mcp_session_filter::sse::Events;
use mcp_session_filter::translate::Incoming;
use serde_json::Value;

use crate::bodies::Random;
use crate::ids::put_back;
use crate::translation::{align, come_down, pieces};

/// A bound that streams pass now and then.
const SMALL: usize = 40;

/// Checks a stream; as an answer to an `initialize`, it may be JSON as well.
pub fn check(stream: &[u8]) {
    let mut random = Random::of(stream);
    for most in [SMALL, usize::MAX] {
        let expected = events_of_whole(stream, most);
        for pieces in [
            vec![stream],
            stream.chunks(1).collect(),
            pieces(stream, &mut random),
        ] {
            assert!(events_of_pieces(&pieces, most) == expected, "events");
        }
    }

    let out = come_down(Incoming::event_stream(), &[stream]);
    let cut = pieces(stream, &mut random);
    assert!(come_down(Incoming::event_stream(), &cut) == out, "cut");
    assert!(put_back(Incoming::event_stream(), &cut) == out, "put back");
    align(stream, &out);
    let expected: Vec<_> = events_of_whole(stream, usize::MAX)
        .into_iter()
        .map(alone)
        .collect();
    assert!(
        events_of_whole(&out, usize::MAX) == expected,
        "events after"
    );

    for content_type in ["text/event-stream", "application/json"] {
        check_version(stream, content_type, &pieces(stream, &mut random));
    }
}

/// What becomes of an event's data as a body. A byte order mark belongs to bodies and streams, not to data.
fn alone(data: Vec<u8>) -> Vec<u8> {
    if data.starts_with(b"\xEF\xBB\xBF") {
        return data;
    }
    come_down(Incoming::json(), &[&data])
}

pub(crate) fn events_of_pieces(pieces: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
    let mut events = Events::new(most);
    let mut found = Vec::new();
    for mut piece in pieces.iter().copied() {
        while let Some(data) = events.next_event(&mut piece) {
            found.push(data);
        }
        assert!(piece.is_empty());
    }
    found
}

/// The model: the steps of the HTML standard (9.2.6) with all of the stream at hand.
fn events_of_whole(stream: &[u8], most: usize) -> Vec<Vec<u8>> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut events = Vec::new();
    let mut data: Vec<&[u8]> = Vec::new();
    for line in lines(stream) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        if field == b"data" {
            data.push(value.strip_prefix(b" ").unwrap_or(value));
        } else if line.is_empty() && !data.is_empty() {
            let joined = data.join(&b'\n');
            data.clear();
            events.extend((joined.len() <= most).then_some(joined));
        }
    }
    events
}

/// All lines that have an end: LF, CR, or both.
fn lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&text[..end]);
        let is_pair = text[end..].starts_with(b"\r\n");
        text = &text[end + 1 + usize::from(is_pair)..];
    }
    lines
}

/// The version that was agreed on is found wherever the answer is cut, and is the one that is found in the whole.
fn check_version(body: &[u8], content_type: &str, pieces: &[&[u8]]) {
    let read = |pieces: &[&[u8]]| -> Option<ProtocolVersion> {
        let mut reader = VersionReader::new(Some(content_type.as_bytes()), None).unwrap();
        let readings = pieces.iter().map(|piece| reader.read(piece));
        match readings.into_iter().find(|it| *it != Reading::More)? {
            Reading::Found(version) => Some(version),
            Reading::More | Reading::GaveUp => None,
        }
    };
    let version = read(&[body]);
    assert_eq!(read(pieces), version, "{content_type} cut");
    let headers = Headers::new([("content-type", content_type)]);
    let result = read_result(&headers, body);
    if content_type == "text/event-stream" || serde_json::from_slice::<Value>(body).is_ok() {
        let result = result.and_then(|result| result.version);
        assert_eq!(result, version, "{content_type} whole");
    }
}
