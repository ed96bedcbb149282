//! Finds the negotiated protocol version in the answer to an `initialize` while it streams past.

use core::slice;

use serde_json::{Deserializer, Value};

use crate::headers::{Headers, is_plain, media_type_of};
use crate::json::ValueEnd;
use crate::session::ProtocolVersion;
use crate::sse::Events;

/// How much of an answer is kept to find the version, in bytes: the JSON body, or one event's data.
pub const INITIALIZE_RESULT_BYTES: usize = 32 * 1024;
/// The longest JSON answer that is read whole, in bytes: a result that can be shared, and as much around it. What is read
/// may take 20 times as much memory, and a VM never gives back what it had.
const READ_BYTES: usize = 2 * INITIALIZE_RESULT_BYTES;

/// Reads one answer piece by piece.
pub struct VersionReader {
    body: Body,
}

/// What the pieces so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It may be in a later piece.
    More,
    /// It is this.
    Found(ProtocolVersion),
    /// The answer does not say it, or is too long.
    GaveUp,
}

impl VersionReader {
    /// Takes the answer's `content-type` and `content-encoding`; nothing if a body like that can't be read.
    #[must_use]
    pub fn new(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Option<Self> {
        if !is_plain(content_encoding) {
            return None;
        }
        let media_type = media_type_of(content_type?);
        let body = if media_type.eq_ignore_ascii_case(b"application/json") {
            Body::json()
        } else if media_type.eq_ignore_ascii_case(b"text/event-stream") {
            Body::event_stream()
        } else {
            return None;
        };
        Some(Self { body })
    }

    /// Reads the next piece. Any reading but `More` is the last: a reader that is read on has given up.
    pub fn read(&mut self, bytes: &[u8]) -> Reading {
        let reading = match &mut self.body {
            Body::Json { kept, end } => read_json(kept, end, bytes),
            Body::EventStream(events) => read_events(events, bytes),
            Body::Done => Reading::GaveUp,
        };
        if reading != Reading::More {
            self.body = Body::Done;
        }
        reading
    }
}

/// The InitializeResult in an answer that is whole.
pub struct InitializeResult {
    /// All of it, as JSON text.
    pub json: Vec<u8>,
    /// The protocol version that it offers.
    pub version: Option<ProtocolVersion>,
}

/// Finds the InitializeResult in the body of an answer with these headers.
#[must_use]
pub fn read_result(headers: &Headers, mut body: &[u8]) -> Option<InitializeResult> {
    if !is_plain(headers.get("content-encoding")) {
        return None;
    }
    let media_type = media_type_of(headers.get("content-type")?);
    let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
    if media_type.eq_ignore_ascii_case(b"application/json") {
        if body.len() > READ_BYTES {
            return None;
        }
        return answer_in(&parse(body)?).and_then(result_of);
    }
    if !media_type.eq_ignore_ascii_case(b"text/event-stream") {
        return None;
    }
    let mut events = Events::new(INITIALIZE_RESULT_BYTES);
    while let Some(data) = events.next_event(&mut body) {
        let message = parse(&data);
        if let Some(answer) = message.as_ref().and_then(answer_in) {
            return result_of(answer);
        }
    }
    None
}

/// The protocol version that an InitializeResult offers.
#[must_use]
pub fn version_in(result: &[u8]) -> Option<ProtocolVersion> {
    let result: Value = serde_json::from_slice(result).ok()?;
    let version = result.get("protocolVersion")?.as_str()?;
    ProtocolVersion::parse(version.as_bytes())
}

fn result_of(answer: &Value) -> Option<InitializeResult> {
    let result = answer.get("result").filter(|result| result.is_object())?;
    Some(InitializeResult {
        json: result.to_string().into_bytes(),
        version: version_of(answer),
    })
}

/// What has to be remembered between two pieces.
enum Body {
    Json { kept: Vec<u8>, end: ValueEnd },
    EventStream(Events),
    Done,
}

impl Body {
    fn json() -> Self {
        Self::Json {
            kept: Vec::new(),
            end: ValueEnd::default(),
        }
    }

    fn event_stream() -> Self {
        Self::EventStream(Events::new(INITIALIZE_RESULT_BYTES))
    }
}

/// Parses the body once, as soon as it is whole, without waiting for the stream to end.
fn read_json(body: &mut Vec<u8>, end: &mut ValueEnd, bytes: &[u8]) -> Reading {
    if body.len() + bytes.len() > INITIALIZE_RESULT_BYTES {
        return Reading::GaveUp;
    }
    body.extend_from_slice(bytes);
    if !end.is_reached(bytes) {
        return Reading::More;
    }
    // A stream of values, because what follows the first one in this piece might as well not have come yet.
    let message = Deserializer::from_slice(body).into_iter().next();
    let reading = message.and_then(|message| read_answer(&message.ok()?));
    reading.unwrap_or(Reading::GaveUp)
}

/// Before its answer a server may send notifications, requests, and events that are no messages.
fn read_events(events: &mut Events, mut bytes: &[u8]) -> Reading {
    while let Some(data) = events.next_event(&mut bytes) {
        let message = serde_json::from_slice(&data).ok();
        if let Some(reading) = message.and_then(|message| read_answer(&message)) {
            return reading;
        }
    }
    Reading::More
}

/// Nothing if the message, or each one in the batch, is something else than an answer.
fn read_answer(message: &Value) -> Option<Reading> {
    let answer = answer_in(message)?;
    Some(version_of(answer).map_or(Reading::GaveUp, Reading::Found))
}

/// The message, or the first one of a batch, that is an answer.
fn answer_in(message: &Value) -> Option<&Value> {
    let messages = match message {
        Value::Array(messages) => messages.as_slice(),
        message => slice::from_ref(message),
    };
    let answers = |message: &&Value| {
        message.get("method").is_none()
            && (message.get("result").or(message.get("error"))).is_some()
    };
    messages.iter().find(answers)
}

fn version_of(answer: &Value) -> Option<ProtocolVersion> {
    let version = answer.pointer("/result/protocolVersion")?;
    ProtocolVersion::parse(version.as_str()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"capabilities":{"tools":{}},"protocolVersion":"2025-11-25","serverInfo":{"name":"{\"}"}}}"#;
    const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"result":{"protocolVersion":"1"}}}"#;
    const REQUEST: &str =
        r#"{"jsonrpc":"2.0","id":0,"method":"roots/list","result":{"protocolVersion":"1"}}"#;
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#;

    fn json() -> VersionReader {
        VersionReader { body: Body::json() }
    }

    fn event_stream() -> VersionReader {
        VersionReader {
            body: Body::event_stream(),
        }
    }

    fn found(version: &str) -> Reading {
        ProtocolVersion::parse(version.as_bytes()).map_or(Reading::GaveUp, Reading::Found)
    }

    /// The reading after the last piece that was needed, for every two pieces and byte by byte.
    fn assert_reading(start: impl Fn() -> VersionReader, body: &str, expected: &Reading) {
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut reader = start();
            pieces
                .map(|piece| reader.read(piece))
                .find(|reading| *reading != Reading::More)
                .unwrap_or(Reading::More)
        };
        for cut in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(cut);
            assert_eq!(
                read(&mut [head, tail].into_iter()),
                *expected,
                "{body} cut at {cut}"
            );
        }
        assert_eq!(
            read(&mut body.as_bytes().chunks(1)),
            *expected,
            "{body} byte by byte"
        );
    }

    #[test]
    fn the_version_in_a_json_answer_is_found_wherever_it_is_cut() {
        for body in [
            RESULT.to_owned(),
            format!(" {RESULT}\r\n"),
            format!("{RESULT}{ERROR}"),
            format!("[{RESULT}]"),
            format!("[{PROGRESS}, {RESULT}]\n"),
        ] {
            assert_reading(json, &body, &found("2025-11-25"));
        }
    }

    #[test]
    fn the_version_in_an_event_stream_is_found_behind_other_events() {
        let lines = RESULT.replace(',', ",\ndata:");
        for body in [
            format!("data: {RESULT}\n\n"),
            format!("event: message\r\nid: 7\r\ndata: {RESULT}\r\n\r\n"),
            format!(
                "id: 7\ndata:\n\n: ping\n\ndata: {PROGRESS}\n\ndata: {REQUEST}\n\ndata: {lines}\n\n"
            ),
            format!("data: not JSON\n\ndata: [{PROGRESS},{RESULT}]\n\ndata: {ERROR}\n\n"),
        ] {
            assert_reading(event_stream, &body, &found("2025-11-25"));
        }
    }

    #[test]
    fn an_answer_without_a_sound_version_is_given_up() {
        let results = [
            r#"{"result":{"protocolVersion":"2025-11-25\r\nx-injected: 1"}}"#,
            r#"{"result":{"protocolVersion":"2025-11-25\u000a"}}"#,
            r#"{"result":{"protocolVersion":""}}"#,
            r#"{"result":{"protocolVersion":20251125}}"#,
            r#"{"result":{"protocolversion":"2025-11-25"}}"#,
            r#"{"result":null,"protocolVersion":"2025-11-25"}"#,
            r#"{"result":["protocolVersion"]}"#,
            ERROR,
        ];
        for body in results {
            assert_reading(json, body, &Reading::GaveUp);
            assert_reading(event_stream, &format!("data: {body}\n\n"), &Reading::GaveUp);
        }
        for body in [
            "{}",
            "[]",
            "[[]]",
            "{]",
            "{,}",
            "<html>",
            r#"{"result":{}}}"#,
            PROGRESS,
            REQUEST,
        ] {
            assert_reading(json, body, &Reading::GaveUp);
        }
    }

    #[test]
    fn an_answer_that_is_not_over_asks_for_more() {
        for body in [
            "",
            "\n",
            "{",
            r#"{"result":{"protocolVersion":"2025-11-25"}"#,
        ] {
            assert_reading(json, body, &Reading::More);
        }
        assert_reading(event_stream, &format!("data: {RESULT}\n"), &Reading::More);
    }

    #[test]
    fn a_reader_that_is_done_finds_nothing_more() {
        for (start, answer) in [
            (json(), RESULT.to_owned()),
            (event_stream(), format!("data: {RESULT}\n\n")),
        ] {
            let mut reader = start;
            assert_eq!(reader.read(answer.as_bytes()), found("2025-11-25"));
            assert_eq!(reader.read(answer.as_bytes()), Reading::GaveUp);
        }
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let fill = |bytes: usize| format!("{}{RESULT}", " ".repeat(bytes - RESULT.len()));
        let (fits, does_not) = (
            fill(INITIALIZE_RESULT_BYTES),
            fill(INITIALIZE_RESULT_BYTES + 1),
        );
        assert_eq!(json().read(fits.as_bytes()), found("2025-11-25"));
        assert_eq!(json().read(does_not.as_bytes()), Reading::GaveUp);
        let mut reader = json();
        assert_eq!(
            reader.read(&vec![b' '; INITIALIZE_RESULT_BYTES]),
            Reading::More
        );
        assert_eq!(reader.read(b" "), Reading::GaveUp);

        assert_eq!(
            event_stream().read(format!("data:{}\n\n", &fits[1..]).as_bytes()),
            found("2025-11-25")
        );
        assert_eq!(
            event_stream().read(format!("data: {does_not}\n\n").as_bytes()),
            Reading::More
        );
    }

    #[test]
    fn a_json_answer_is_read_whole_up_to_the_bound() {
        let headers = Headers::new([("content-type", "application/json")]);
        let version = |bytes: usize| {
            let body = format!("{RESULT}{}", " ".repeat(bytes - RESULT.len()));
            read_result(&headers, body.as_bytes()).map(|result| result.version)
        };
        let offered = ProtocolVersion::parse(b"2025-11-25");
        assert_eq!(version(READ_BYTES), Some(offered));
        assert_eq!(version(READ_BYTES + 1), None);
    }

    #[test]
    fn only_plain_json_and_event_streams_are_read() {
        let new = |content_type: &str, encoding: Option<&str>| {
            let reader =
                VersionReader::new(Some(content_type.as_bytes()), encoding.map(str::as_bytes));
            reader.map(|reader| matches!(reader.body, Body::EventStream(_)))
        };
        assert_eq!(new("application/json", None), Some(false));
        assert_eq!(
            new("Application/JSON ; charset=utf-8", Some("Identity")),
            Some(false)
        );
        assert_eq!(new("text/event-stream;charset=utf-8", Some("")), Some(true));
        assert_eq!(new(" TEXT/Event-Stream", None), Some(true));
        for other in [
            "",
            ";",
            "text/html",
            "application/jsonl",
            "application/json-rpc",
            "text/plain; application/json",
        ] {
            assert_eq!(new(other, None), None, "{other}");
        }
        for encoding in ["gzip", "br", "identity, gzip", "\u{FF}"] {
            assert_eq!(new("application/json", Some(encoding)), None, "{encoding}");
        }
        assert!(VersionReader::new(None, None).is_none());
    }
}
