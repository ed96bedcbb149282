//! What a step expects: at the server, at the client, of the filter's own requests.

use super::parse::answer;
use super::reader::{Fields, Node};
use super::{Body, Call, Client, Expected, Ids, OUTCOMES};

/// The filter's own requests, under either name.
pub fn calls(fields: &mut Fields) -> Vec<Call> {
    let (calls, pings) = (fields.optional("calls"), fields.optional("pings"));
    match (calls, pings) {
        (None, None) => Vec::new(),
        (Some(calls), None) => calls.list().into_iter().map(call).collect(),
        (None, Some(pings)) => pings.list().into_iter().map(ping).collect(),
        (Some(_), Some(pings)) => panic!("{}: either 'calls' or 'pings'", pings.at()),
    }
}

fn ping(node: Node) -> Call {
    Call {
        method: "POST".to_owned(),
        rpc: Some(Call::PING.to_owned()),
        headers: Vec::new(),
        answer: answer(node),
    }
}

fn call(node: Node) -> Call {
    let mut fields = node.fields();
    let method = fields
        .optional("method")
        .map_or_else(|| "POST".to_owned(), Node::text);
    let rpc = fields.required("rpc").nullable().map(Node::text);
    let headers = fields
        .optional("headers")
        .map(expectations)
        .unwrap_or_default();
    let answer = answer(fields.required("answer"));
    fields.finish();
    Call {
        method,
        rpc,
        headers,
        answer,
    }
}

pub fn client(node: Node) -> Client {
    let mut fields = node.fields();
    let status = fields.required("status").status();
    let headers = fields
        .optional("headers")
        .map(lines_or_none)
        .unwrap_or_default();
    let body = match (fields.optional("body"), fields.optional("json")) {
        (None, None) => Body::Empty,
        (Some(body), None) => Body::Bytes(body.text().into_bytes()),
        (None, Some(json)) => Body::Json(json.value()),
        (Some(body), Some(_)) => panic!("{}: either 'body' or 'json'", body.at()),
    };
    fields.finish();
    Client {
        status,
        headers,
        body,
    }
}

/// `[name, value]` for each line of a name, or `[name, null]` for none.
fn lines_or_none(node: Node) -> Vec<(String, Expected)> {
    let mut all: Vec<(String, Expected)> = Vec::new();
    for line in node.list() {
        let (name, value) = line.pair();
        let (at, name) = (name.at().to_owned(), name.header_name());
        let value = value.nullable().map(Node::header_value);
        let known = all.iter_mut().find(|(known, _)| *known == name);
        match (known, value) {
            (None, None) => all.push((name, Expected::Absent)),
            (None, Some(value)) => all.push((name, Expected::Lines(vec![value]))),
            (Some((_, Expected::Lines(lines))), Some(value)) => lines.push(value),
            (Some(_), _) => panic!("{at}: '{name}' is there or not, please"),
        }
    }
    all
}

pub fn ids(node: Node) -> Ids {
    let at = node.at().to_owned();
    match node.text().as_str() {
        "translated" => Ids::Translated,
        "kept" => Ids::Kept,
        other => panic!("{at}: ids are translated or kept, not '{other}'"),
    }
}

pub fn outcome(node: Node) -> String {
    let at = node.at().to_owned();
    let outcome = node.text();
    assert!(
        OUTCOMES.contains(&outcome.as_str()),
        "{at}: no outcome is named '{outcome}'"
    );
    outcome
}

pub fn expectations(node: Node) -> Vec<(String, Expected)> {
    node.entries()
        .into_iter()
        .map(|(name, node)| {
            let expected = match node.nullable() {
                None => Expected::Absent,
                Some(node) if node.is_list() => {
                    Expected::Lines(node.list().into_iter().map(Node::header_value).collect())
                }
                Some(node) => Expected::Lines(vec![node.header_value()]),
            };
            (name, expected)
        })
        .collect()
}
