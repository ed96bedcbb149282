//! What translated bodies have to be, for tests: a model that has the whole body at once and reads it with a parser that
//! others wrote.

use core::fmt;
use core::iter::zip;

use mcp_session_filter::translate::{InFlight, Incoming, Outgoing, token};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::bodies::Random;

/// Remembers what went up in this body, and one request of another.
#[derive(Default)]
pub struct Requests {
    /// Originals and their tokens.
    pub begun: Vec<(String, String)>,
    /// The original of the other request, whose token has [`Requests::OTHER`] for its nonce.
    pub other: &'static str,
}

impl Requests {
    pub const OTHER: u64 = 99;
}

impl InFlight for Requests {
    fn begun(&mut self, original: &[u8], token: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.begun.push((text(original), text(token)));
    }

    fn token_of(&mut self, original: &[u8]) -> Option<Vec<u8>> {
        if original == self.other.as_bytes() {
            return token::encode(Self::OTHER, original);
        }
        let mut tokens = self.begun.iter();
        let found = tokens.find(|(begun, _)| begun.as_bytes() == original);
        found.map(|(_, token)| token.clone().into_bytes())
    }
}

pub fn go_up(nonce: u64, pieces: &[&[u8]], requests: &mut impl InFlight) -> (Vec<u8>, Outgoing) {
    let mut outgoing = Outgoing::new(nonce);
    let mut out = Vec::new();
    for piece in pieces {
        outgoing.push(piece, requests, &mut out);
    }
    outgoing.finish(&mut out);
    (out, outgoing)
}

pub fn come_down(mut incoming: Incoming, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        incoming.push(piece, &mut out);
    }
    incoming.finish(&mut out);
    out
}

/// No request is in flight: cancels stay as they are.
pub struct Nothing;

impl InFlight for Nothing {
    fn begun(&mut self, _: &[u8], _: &[u8]) {}

    fn token_of(&mut self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

pub fn pieces<'a>(mut body: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !body.is_empty() {
        let (piece, rest) = body.split_at(body.len().min(1 + random.below(20)));
        pieces.push(piece);
        body = rest;
    }
    pieces
}

/// Whole, byte by byte and in random pieces it has to come out the same, and as the model says if the oracle reads it.
/// Tells whether anything was translated then.
pub fn check(body: &[u8], random: &mut Random) -> Option<bool> {
    let start = || Requests {
        other: "2",
        ..Requests::default()
    };
    let mut requests = start();
    let (out, outgoing) = go_up(5, &[body], &mut requests);
    for pieces in [body.chunks(1).collect(), pieces(body, random)] {
        let mut again = start();
        let (same, cut) = go_up(5, &pieces, &mut again);
        assert!(same == out, "cut");
        assert_eq!(again.begun, requests.begun);
        assert_eq!(cut.has_unknown_cancel(), outgoing.has_unknown_cancel());
    }
    align(&out, body);

    let (ids, _) = go_up(5, &[body], &mut Nothing);
    let back = come_down(Incoming::json(), &pieces(&ids, random));
    if come_down(Incoming::json(), &[body]) == body {
        assert!(back == body, "there and back");
    } else {
        // It has tokens of its own.
        align(&ids, &back);
    }

    let before = Json::read(body)?;
    let after = Json::read(&out).expect("what was JSON is JSON still");
    let mut outgoing = Outgoing::new(5);
    outgoing.push(body, &mut Nothing, &mut Vec::new());
    assert_eq!(outgoing.held(), 0, "nothing waits behind a whole body");
    match (&before, &after) {
        (Json::Array(before), Json::Array(after)) => {
            assert_eq!(before.len(), after.len());
            let mut nonce = 5;
            for (before, after) in zip(before, after) {
                assert_message(before, after, nonce);
                nonce += u64::from(matches!(before, Json::Object(_)));
            }
        }
        _ => assert_message(&before, &after, 5),
    }
    Some(out != body)
}

/// With its tokens replaced by their originals, `with_tokens` is `body`.
pub fn align(mut with_tokens: &[u8], mut body: &[u8]) {
    while let Some((byte, rest)) = with_tokens.split_first() {
        let quotes = with_tokens
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'"');
        let end = quotes.map(|(at, _)| at + 1).nth(1).unwrap_or_default();
        let (token, behind) = with_tokens.split_at(end);
        let original = token::decode(token).and_then(|original| body.strip_prefix(&original[..]));
        (with_tokens, body) = match original {
            Some(rest) => (behind, rest),
            None => (rest, body.strip_prefix(&[*byte]).expect("aligned")),
        };
    }
    assert_eq!(body, b"", "lost at the end");
}

/// The slow model: what becomes of a message that is whole.
fn assert_message(before: &Json, after: &Json, nonce: u64) {
    let (Json::Object(before), Json::Object(after)) = (before, after) else {
        assert_eq!(before, after);
        return;
    };
    let decisive = before.iter().find(|(key, value)| match key.as_str() {
        "method" => matches!(value, Json::Leaf(Value::String(_))),
        key => matches!(key, "result" | "error"),
    });
    let method = match decisive {
        Some((key, Json::Leaf(Value::String(method)))) if key == "method" => Some(method.as_str()),
        _ => None,
    };
    let is_cancel = method == Some("notifications/cancelled");
    assert_eq!(before.len(), after.len());
    for ((key, before), (same, after)) in zip(before, after) {
        assert_eq!(key, same);
        match (key.as_str(), before, after) {
            ("id", Json::Leaf(Value::String(_) | Value::Number(_)), _) if method.is_some() => {
                assert_eq!(after.original(), Some((nonce, before.clone())));
            }
            ("params", Json::Object(before), Json::Object(after)) if is_cancel => {
                assert_params(before, after);
            }
            _ => assert_eq!(before, after),
        }
    }
}

fn assert_params(before: &[(String, Json)], after: &[(String, Json)]) {
    assert_eq!(before.len(), after.len());
    for ((key, before), (same, after)) in zip(before, after) {
        assert_eq!(key, same);
        let known = Json::Leaf(2.into());
        if key == "requestId" && (*before == known || before != after) {
            let (nonce, original) = after.original().expect("a token");
            assert_eq!(original, *before);
            assert_eq!(nonce == Requests::OTHER, *before == known);
        } else {
            assert_eq!(before, after);
        }
    }
}

/// A JSON value with all of its members in order. (`serde_json::Value` would keep the last of equal keys only.)
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Leaf(Value),
}

impl Json {
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        serde_json::from_slice(text).ok()
    }

    /// The nonce and original of a token.
    fn original(&self) -> Option<(u64, Self)> {
        let Self::Leaf(Value::String(text)) = self else {
            return None;
        };
        let original = token::decode(format!("\"{text}\"").as_bytes())?;
        let nonce = u64::from_str_radix(text.split('~').nth(1)?, 16).ok()?;
        Some((nonce, Self::read(&original)?))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Leaf(text.into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Leaf(value.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Leaf(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Leaf(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Leaf(number.into()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Leaf(Value::Null))
    }
}
