//! JSON values that know where they stand, so that every complaint says where.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

/// A value and its place, such as `repair.json 'a name'.steps[0].request.path`.
pub struct Node {
    at: String,
    value: Value,
}

impl Node {
    pub fn new(at: String, value: Value) -> Self {
        Self { at, value }
    }

    pub fn at(&self) -> &str {
        &self.at
    }

    pub fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// `None` for `null`.
    pub fn nullable(self) -> Option<Self> {
        (!self.value.is_null()).then_some(self)
    }

    pub fn list(self) -> Vec<Self> {
        let Value::Array(items) = self.value else {
            panic!("{}: a list, please", self.at)
        };
        items
            .into_iter()
            .enumerate()
            .map(|(n, item)| Self::new(format!("{}[{n}]", self.at), item))
            .collect()
    }

    /// A header as `[name, value]`.
    pub fn pair(self) -> (Self, Self) {
        let at = self.at.clone();
        let [name, value]: [Self; 2] = self
            .list()
            .try_into()
            .unwrap_or_else(|_| panic!("{at}: a header is [name, value]"));
        (name, value)
    }

    /// As it is.
    pub fn value(self) -> Value {
        self.value
    }

    pub fn fields(self) -> Fields {
        let Value::Object(values) = self.value else {
            panic!("{}: an object, please", self.at)
        };
        Fields {
            at: self.at,
            values,
        }
    }

    /// All entries of an object whose keys are header names.
    pub fn entries(self) -> Vec<(String, Self)> {
        let Value::Object(values) = self.value else {
            panic!("{}: an object, please", self.at)
        };
        values
            .into_iter()
            .map(|(key, value)| {
                let node = Self::new(format!("{}.{key}", self.at), value);
                (header_name(&node.at, &key), node)
            })
            .collect()
    }

    pub fn object(self) -> Value {
        assert!(self.value.is_object(), "{}: an object, please", self.at);
        self.value
    }

    pub fn text(self) -> String {
        let Value::String(text) = self.value else {
            panic!("{}: a string, please", self.at)
        };
        text
    }

    pub fn flag(self) -> bool {
        let Value::Bool(flag) = self.value else {
            panic!("{}: true or false, please", self.at)
        };
        flag
    }

    pub fn address(self) -> IpAddr {
        let at = self.at.clone();
        self.text()
            .parse()
            .unwrap_or_else(|_| panic!("{at}: an IP address, please"))
    }

    pub fn positive(self) -> usize {
        let number = self
            .value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        number
            .filter(|number| *number > 0)
            .unwrap_or_else(|| panic!("{}: a number above 0, please", self.at))
    }

    pub fn status(self) -> u16 {
        let status = self
            .value
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        status
            .filter(|status| (200..600).contains(status))
            .unwrap_or_else(|| panic!("{}: a status from 200 to 599, please", self.at))
    }

    pub fn header_name(self) -> String {
        let at = self.at.clone();
        header_name(&at, &self.text())
    }

    /// Each character is a byte.
    pub fn header_value(self) -> Vec<u8> {
        let at = self.at.clone();
        let byte = |c: char| {
            u8::try_from(u32::from(c)).unwrap_or_else(|_| panic!("{at}: {c:?} is no byte"))
        };
        self.text().chars().map(byte).collect()
    }

    /// `"250ms"`, `"5s"`, `"31m"` or `"24h"`.
    pub fn duration(self) -> Duration {
        let at = self.at.clone();
        let text = self.text();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number
            .parse()
            .unwrap_or_else(|_| panic!("{at}: a duration such as \"31m\", please"));
        match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number * 60),
            "h" => Duration::from_secs(number * 3600),
            _ => panic!("{at}: the unit of a duration is ms, s, m or h"),
        }
    }
}

fn header_name(at: &str, name: &str) -> String {
    let fine = !name.is_empty()
        && !name.contains(|c: char| c.is_ascii_uppercase() || !c.is_ascii_graphic());
    assert!(fine, "{at}: '{name}' is not a header name in lower case");
    name.to_owned()
}

/// An object whose keys are taken out one by one; a key that nobody takes is a mistake.
pub struct Fields {
    at: String,
    values: Map<String, Value>,
}

impl Fields {
    /// Gives the object a better name for complaints about its fields.
    pub fn rename(&mut self, at: &str) {
        at.clone_into(&mut self.at);
    }

    pub fn optional(&mut self, key: &str) -> Option<Node> {
        let value = self.values.remove(key)?;
        Some(Node::new(format!("{}.{key}", self.at), value))
    }

    pub fn required(&mut self, key: &str) -> Node {
        self.optional(key)
            .unwrap_or_else(|| panic!("{}: '{key}' is missing", self.at))
    }

    /// `body` as text or `json` as a value, if either is there.
    pub fn body(&mut self) -> Option<Vec<u8>> {
        match (self.optional("body"), self.optional("json")) {
            (None, None) => None,
            (Some(body), None) => Some(body.text().into_bytes()),
            (None, Some(json)) => Some(json.value.to_string().into_bytes()),
            (Some(_), Some(_)) => panic!("{}: either 'body' or 'json'", self.at),
        }
    }

    /// Complains about what nobody asked for; answers the object's place.
    pub fn finish(self) -> String {
        if let Some(key) = self.values.keys().next() {
            panic!("{}: '{key}' is not known here", self.at);
        }
        self.at
    }
}
