//! What scenario files say shortly, spelt out: `"@name"` stands for a part of `parts.json`,
//! `{"repeat": "x", "times": 9}` for a long text, and `{"join": [..]}` for texts put together.

use serde_json::{Map, Value};

/// The named values of `parts.json`. They may name others.
pub struct Parts(Map<String, Value>);

impl Parts {
    pub fn parse(json: &[u8]) -> Self {
        let root: Value =
            serde_json::from_slice(json).unwrap_or_else(|e| panic!("parts.json: {e}"));
        let Value::Object(parts) = root else {
            panic!("parts.json: an object, please")
        };
        Self(parts)
    }

    pub fn spell_out(&self, value: Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix('@') {
                None => Value::String(text),
                Some(name) => {
                    let part = self.0.get(name);
                    let part = part.unwrap_or_else(|| panic!("parts.json has no '{name}'"));
                    self.spell_out(part.clone())
                }
            },
            Value::Array(items) => items.into_iter().map(|item| self.spell_out(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter();
                let fields: Map<_, _> = fields
                    .map(|(key, value)| (key, self.spell_out(value)))
                    .collect();
                text_of(&fields).map_or(Value::Object(fields), Value::String)
            }
            other => other,
        }
    }
}

fn text_of(fields: &Map<String, Value>) -> Option<String> {
    if let (2, Some(text), Some(times)) = (fields.len(), fields.get("repeat"), fields.get("times"))
    {
        return Some(
            text.as_str()?
                .repeat(usize::try_from(times.as_u64()?).ok()?),
        );
    }
    let (1, Some(texts)) = (fields.len(), fields.get("join")) else {
        return None;
    };
    texts.as_array()?.iter().map(Value::as_str).collect()
}
