//! Request bodies: the scanner's verdict does not depend on where a body is cut, and is the oracle's if that can read it.

use core::fmt;

use mcp_session_filter::scanner::Kind::{self, Initialize, Initialized, Other};
use mcp_session_filter::scanner::Scanner;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::bodies::Random;

/// Checks a body.
pub fn check(body: &[u8]) {
    let verdict = verdict_of_any_cut(body, &mut Random::of(body));
    if let Some(expected) = oracle(body) {
        assert_eq!(verdict, expected);
    }
    if Scanner::new().scan(body).is_none() {
        assert_eq!(verdict, Other, "undecided at its end");
    }
}

/// Scans whole, byte by byte and in random pieces; all have to agree on the verdict and on the byte that decides.
pub(crate) fn verdict_of_any_cut(body: &[u8], random: &mut Random) -> Kind {
    let mut scanner = Scanner::new();
    let undecided = body
        .iter()
        .take_while(|&&byte| scanner.scan(&[byte]).is_none())
        .count();
    let verdict = scanner.finish();

    let mut pieces = Scanner::new();
    let mut at = 0;
    while at < body.len() {
        let end = body.len().min(at + 1 + random.below(20));
        let early = pieces.scan(&body[at..end]);
        assert_eq!(
            early,
            (end > undecided).then_some(verdict),
            "pieces that end at {end}"
        );
        at = end;
    }
    assert_eq!(pieces.finish(), verdict, "pieces");

    let mut whole = Scanner::new();
    assert_eq!(
        whole.scan(body),
        (undecided < body.len()).then_some(verdict),
        "whole"
    );
    assert_eq!(whole.finish(), verdict, "whole, at its end");
    verdict
}

/// The verdict of a parser that reads everything, or nothing if it refuses the body.
pub(crate) fn oracle(body: &[u8]) -> Option<Kind> {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let kind = match serde_json::from_slice(text).ok()? {
        Value::Object(kind) | Value::Array(Some(kind)) => kind,
        Value::Text(_) | Value::Array(None) | Value::Rest => Other,
    };
    Some(kind)
}

/// A JSON value, as far as it matters. (`serde_json::Value` would keep the last of equal keys only.)
enum Value {
    /// A string, and what it is as a method.
    Text(Kind),
    /// An object, by its first `method`, `result` or `error`.
    Object(Kind),
    /// An array, by its first element if that is an object.
    Array(Option<Kind>),
    /// Anything else.
    Rest,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut decided = None;
        while let Some(key) = members.next_key::<String>()? {
            let kind = match key.as_str() {
                "method" => match members.next_value()? {
                    Value::Text(kind) => Some(kind),
                    Value::Object(_) | Value::Array(_) | Value::Rest => Some(Other),
                },
                "result" | "error" => members.next_value::<IgnoredAny>().map(|_| Some(Other))?,
                _ => members.next_value::<IgnoredAny>().map(|_| None)?,
            };
            decided = decided.or(kind);
        }
        Ok(Value::Object(decided.unwrap_or(Other)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let first = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(match first {
            Some(Value::Object(kind)) => Some(kind),
            Some(Value::Text(_) | Value::Array(_) | Value::Rest) | None => None,
        }))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(match text {
            "initialize" => Initialize,
            "notifications/initialized" => Initialized,
            _ => Other,
        }))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Rest)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Rest)
    }
}
