//! What servers have given so far, to whom: what a repair may put into a request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::flow::Passed;
use super::head::Headers;
use crate::scenario::{Answer, Call, Exchange, Scenario};

/// The ids of each caller.
pub struct Given {
    caller_headers: Vec<String>,
    /// Whether any request may go into a session before it is known what it is: where headers don't wait.
    any_goes: bool,
    ids: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// The statuses and bodies of the answers to each caller's `initialize`s that the filter made.
    answers: BTreeMap<String, BTreeSet<(u16, Vec<u8>)>>,
    /// The upstream hosts that have answered anybody.
    hosts: BTreeSet<Vec<u8>>,
}

/// What the scenarios have as `upstream_host_header`.
pub const HOST_HEADER: &str = "x-mcp-upstream-host";

impl Given {
    pub fn new(scenario: &Scenario) -> Self {
        let config = &scenario.config;
        let names = config["caller"]["headers"].as_array().cloned();
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
            any_goes: config["hold_request_headers"] != true,
            ids: BTreeMap::new(),
            answers: BTreeMap::new(),
            hosts: BTreeSet::new(),
        }
    }

    /// Nobody can tell any more what is an `initialize`.
    pub fn take_any_for_an_initialize(&mut self) {
        self.any_goes = true;
    }

    pub fn note(&mut self, spec: &Exchange) {
        self.note_answers(spec, spec.answer.iter());
    }

    /// What the filter's own calls open may already serve the exchange that they belong to.
    pub fn note_calls(&mut self, spec: &Exchange) {
        self.note_answers(spec, spec.calls.iter().map(|call| &call.answer));
        let opening = |call: &&Call| call.rpc.as_deref() == Some("initialize");
        let answers = spec.calls.iter().filter(opening).map(|call| {
            let Answer { status, body, .. } = &call.answer;
            (*status, body.clone().unwrap_or_default())
        });
        // One that the scenario does not know of is answered like this.
        let answers = answers.chain([(200, Vec::new())]);
        self.answers
            .entry(self.whose(spec))
            .or_default()
            .extend(answers);
    }

    /// Whether the filter may have answered an `initialize` like this: with what a server said to one that it made for
    /// this caller, or with a session of this caller's that it has not heard the end of.
    pub fn may_answer(&self, spec: &Exchange, client: &Passed) -> bool {
        let Some(headers) = client.headers.as_ref().filter(|_| is_initialize(spec)) else {
            return false;
        };
        let whose = self.whose(spec);
        let status = headers.text(":status");
        let heard = self.answers.get(&whose).is_some_and(|answers| {
            let mut answers = answers.iter();
            answers.any(|(code, body)| code.to_string() == status && *body == client.body)
        });
        let session = headers.first("mcp-session-id");
        let lives = session.is_some_and(|id| {
            let ids = self.ids.get(&whose);
            ids.is_some_and(|ids| ids.contains(id))
        });
        heard || lives && status == "200"
    }

    fn note_answers<'a>(&mut self, spec: &Exchange, answers: impl Iterator<Item = &'a Answer>) {
        let answers: Vec<_> = answers.collect();
        let named = answers.iter().flat_map(|answer| &answer.headers);
        let named = named.filter(|(name, _)| name == HOST_HEADER);
        self.hosts.extend(named.map(|(_, host)| host.clone()));
        let ids = answers
            .into_iter()
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
                own && (self.any_goes || !is_initialize(spec))
            }
            "mcp-protocol-version" => value.starts_with(b"20"),
            HOST_HEADER => self.hosts.contains(value),
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
