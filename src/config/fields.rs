//! A JSON object that is read key by key, strictly: what is left unread at the end is an unknown key.

use core::cell::RefCell;
use core::ops::RangeInclusive;
use core::time::Duration;

use serde_json::{Map, Value};

use super::ConfigError;

/// One object of the configuration and where it stands in the whole.
pub(super) struct Fields {
    prefix: String,
    values: Map<String, Value>,
    /// The keys that were asked for.
    known: RefCell<Vec<&'static str>>,
}

impl Fields {
    pub(super) fn root(values: Map<String, Value>) -> Self {
        Self {
            prefix: String::new(),
            values,
            known: RefCell::default(),
        }
    }

    /// Refuses any key that was not asked for.
    pub(super) fn finish(&self) -> Result<(), ConfigError> {
        let known = self.known.borrow();
        let unknown = self
            .values
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()));
        match unknown {
            None => Ok(()),
            Some((key, value)) => {
                let known = known.join(", ");
                let expected = match key.split_once('.') {
                    Some((outer, inner)) => {
                        format!("it nested: {{\"{outer}\": {{\"{inner}\": ..}}}}")
                    }
                    None => format!("no such key; known here: {known}"),
                };
                Err(self.error(key, value, &expected))
            }
        }
    }

    pub(super) fn error(&self, key: &str, found: &Value, expected: &str) -> ConfigError {
        ConfigError::new(&format!("{}{key}", self.prefix), found, expected)
    }

    /// A nested object; absent means empty.
    pub(super) fn section<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Fields) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let values = match self.value(key) {
            None => Map::new(),
            Some(Value::Object(values)) => values.clone(),
            Some(other) => return Err(self.error(key, other, "an object")),
        };
        let fields = Fields {
            prefix: format!("{}{key}.", self.prefix),
            values,
            known: RefCell::default(),
        };
        let section = read(&fields)?;
        fields.finish()?;
        Ok(section)
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.error(key, other, "true or false")),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let chosen = choices
            .iter()
            .find(|(word, _)| value.as_str() == Some(*word));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let words = choices.iter().map(|(word, _)| *word);
            self.error(key, value, &one_of(words))
        })
    }

    /// A whole number. One written `4096.0` is taken as well: protobuf's Struct knows no other numbers.
    pub(super) fn number(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let whole = value.as_f64().filter(|number| number.fract() == 0.0);
        let number = whole.and_then(|number| format!("{number}").parse().ok());
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            self.error(key, value, &expected)
        })
    }

    /// A duration such as `"30m"`.
    pub(super) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let duration = value.as_str().and_then(parse_duration);
        let duration = duration.filter(|duration| range.contains(duration));
        duration.ok_or_else(|| {
            let expected = format!(
                "a whole number with a unit (ms, s, m, h, d), such as \"{}s\", from {:?} to {:?}",
                default.as_secs(),
                range.start(),
                range.end()
            );
            self.error(key, value, &expected)
        })
    }

    /// A list of texts.
    pub(super) fn texts(
        &self,
        key: &'static str,
        count: RangeInclusive<usize>,
        expected: &str,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let texts: Option<Vec<String>> = value
            .as_array()
            .filter(|list| count.contains(&list.len()))
            .and_then(|list| {
                list.iter()
                    .map(|text| text.as_str().filter(|text| !text.is_empty()))
                    .map(|text| text.map(str::to_owned))
                    .collect()
            });
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.error(key, value, expected)),
        }
    }

    /// A list of texts, or null for none.
    pub(super) fn texts_or_null(
        &self,
        key: &'static str,
        count: RangeInclusive<usize>,
        expected: &str,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        match self.value(key) {
            Some(Value::Null) => Ok(None),
            _ => self.texts(key, count, expected),
        }
    }

    /// A text that passes a check, or null for none.
    pub(super) fn text_or_null(
        &self,
        key: &'static str,
        expected: &str,
        sound: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, ConfigError> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if sound(text) => Ok(Some(text.clone())),
            Some(other) => Err(self.error(key, other, expected)),
        }
    }

    fn value(&self, key: &'static str) -> Option<&Value> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.values.get(key)
    }
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    quoted.join(" or ")
}

/// `30m`, `5s`, `1500ms`: ASCII digits and one unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}
