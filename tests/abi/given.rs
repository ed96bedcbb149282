//! What servers have given so far, to whom: what a repair may put into a request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::head::Headers;
use crate::scenario::{Answer, Exchange, Scenario};

/// The ids of each caller.
pub struct Given {
    caller_headers: Vec<String>,
    ids: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Given {
    pub fn new(scenario: &Scenario) -> Self {
        let names = scenario.config["caller"]["headers"].as_array().cloned();
        let names = names.map(|names| {
            names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_ascii_lowercase)
                .collect()
        });
        let caller_headers =
            names.unwrap_or_else(|| vec!["authorization".to_owned(), "x-api-key".to_owned()]);
        Self {
            caller_headers,
            ids: BTreeMap::new(),
        }
    }

    pub fn note(&mut self, spec: &Exchange) {
        self.note_answers(spec, spec.answer.iter());
    }

    /// What the filter's own calls open may already serve the exchange that they belong to.
    pub fn note_calls(&mut self, spec: &Exchange) {
        self.note_answers(spec, spec.calls.iter().map(|call| &call.answer));
    }

    fn note_answers<'a>(&mut self, spec: &Exchange, answers: impl Iterator<Item = &'a Answer>) {
        let ids = answers
            .flat_map(|answer| &answer.headers)
            .filter(|(name, _)| name == "mcp-session-id")
            .map(|(_, id)| id.clone());
        self.ids.entry(self.whose(spec)).or_default().extend(ids);
    }

    /// Whether this is the id of a session that anybody has had.
    pub fn to_anybody(&self, id: &[u8]) -> bool {
        self.ids.values().any(|ids| ids.contains(id))
    }

    /// Whether a repair may have put this value there.
    pub fn may_set(&self, spec: &Exchange, name: &str, value: &[u8]) -> bool {
        match name {
            "mcp-session-id" => {
                let own = self
                    .ids
                    .get(&self.whose(spec))
                    .is_some_and(|ids| ids.contains(value));
                own && !is_initialize(spec)
            }
            "mcp-protocol-version" => value.starts_with(b"20"),
            _ => value == b"application/json, text/event-stream",
        }
    }

    /// The caller and the endpoint of a request, as words.
    fn whose(&self, spec: &Exchange) -> String {
        let request = &spec.request;
        let headers = Headers(request.headers.clone());
        let known = self.caller_headers.iter().map(|name| headers.all(name));
        let known: Vec<_> = known
            .map(|lines| {
                lines
                    .iter()
                    .map(|line| line.escape_ascii().to_string())
                    .collect::<Vec<_>>()
            })
            .collect();
        let anonymous = known.iter().all(Vec::is_empty);
        let address = anonymous.then_some(request.from);
        let path = request.path.split('?').next();
        format!(
            "{known:?} {address:?} {path:?} {}",
            request.authority.to_ascii_lowercase()
        )
    }
}

fn is_initialize(spec: &Exchange) -> bool {
    let body = spec.request.body.as_deref().unwrap_or_default();
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["method"] == "initialize")
}
