//! From JSON to scenarios, key by key.

use std::net::IpAddr;

use serde_json::Value;

use super::parts::Parts;
use super::reader::Node;
use super::{Answer, Exchange, Expected, HeaderLines, Level, OUTCOMES, Request, Scenario, Step};

/// The scenarios of one file's text.
pub fn scenarios(file: &str, json: &[u8], parts: &Parts) -> Vec<Scenario> {
    let root: Value = serde_json::from_slice(json).unwrap_or_else(|e| panic!("{file}.json: {e}"));
    let root = parts.spell_out(root);
    let scenarios: Vec<Scenario> = Node::new(format!("{file}.json"), root)
        .list()
        .into_iter()
        .map(|node| scenario(file, node))
        .collect();
    for (n, scenario) in scenarios.iter().enumerate() {
        let twin = scenarios
            .iter()
            .take(n)
            .any(|other| other.name == scenario.name);
        assert!(
            !twin,
            "{file}.json: two scenarios are named '{}'",
            scenario.name
        );
    }
    scenarios
}

fn scenario(file: &str, node: Node) -> Scenario {
    let mut fields = node.fields();
    let name = fields.required("name").text();
    fields.rename(&format!("{file}.json '{name}'"));
    let config = fields
        .optional("config")
        .map_or_else(|| Value::Object(serde_json::Map::new()), Node::object);
    let levels = fields.optional("levels").map_or_else(
        || vec![Level::Core, Level::Abi, Level::Envoy],
        |node| node.list().into_iter().map(level).collect(),
    );
    let steps: Vec<_> = fields
        .required("steps")
        .list()
        .into_iter()
        .map(step)
        .collect();
    let at = fields.finish();
    assert!(!steps.is_empty(), "{at}: no steps");
    let moves = steps.iter().any(|step| matches!(step, Step::Advance(_)));
    assert!(
        !(moves && levels.contains(&Level::Envoy)),
        "{at}: Envoy's clock can't be moved: say \"levels\": [\"core\", \"abi\"]"
    );
    Scenario {
        file: file.to_owned(),
        name,
        config,
        levels,
        steps,
    }
}

fn level(node: Node) -> Level {
    let at = node.at().to_owned();
    match node.text().as_str() {
        "core" => Level::Core,
        "abi" => Level::Abi,
        "envoy" => Level::Envoy,
        other => panic!("{at}: no level is named '{other}'"),
    }
}

fn step(node: Node) -> Step {
    let mut fields = node.fields();
    if let Some(by) = fields.optional("advance") {
        fields.finish();
        return Step::Advance(by.duration());
    }
    let request = request(fields.required("request"));
    let upstream = fields
        .optional("upstream")
        .map(expectations)
        .unwrap_or_default();
    let answer = answer(fields.required("answer"));
    let pings = fields
        .optional("pings")
        .map(|node| node.list().into_iter().map(self::answer).collect());
    let outcome = fields.required("outcome").nullable().map(outcome);
    fields.finish();
    Step::Exchange(Box::new(Exchange {
        request,
        upstream,
        answer,
        pings: pings.unwrap_or_default(),
        outcome,
    }))
}

fn outcome(node: Node) -> String {
    let at = node.at().to_owned();
    let outcome = node.text();
    assert!(
        OUTCOMES.contains(&outcome.as_str()),
        "{at}: no outcome is named '{outcome}'"
    );
    outcome
}

fn request(node: Node) -> Request {
    let mut fields = node.fields();
    let method = fields.required("method").text();
    let path = fields.required("path").text();
    let authority = fields
        .optional("authority")
        .map_or_else(|| "mcp.test".to_owned(), Node::text);
    let from = fields
        .optional("from")
        .map_or_else(|| IpAddr::from([127, 0, 0, 1]), Node::address);
    let mut headers = fields
        .optional("headers")
        .map(header_lines)
        .unwrap_or_default();
    let body = fields.body();
    let cut = fields.optional("cut").map(Node::positive);
    let at = fields.finish();
    assert!(
        cut.is_none() || body.is_some(),
        "{at}: 'cut' without a body"
    );
    if method == "POST" && body.is_some() && headers.iter().all(|(name, _)| name != "content-type")
    {
        headers.push(("content-type".to_owned(), b"application/json".to_vec()));
    }
    Request {
        method,
        path,
        authority,
        from,
        headers,
        body,
        cut,
    }
}

fn answer(node: Node) -> Answer {
    let mut fields = node.fields();
    let status = fields.required("status").status();
    let headers = fields
        .optional("headers")
        .map(header_lines)
        .unwrap_or_default();
    let body = fields.body();
    fields.finish();
    Answer {
        status,
        headers,
        body,
    }
}

fn header_lines(node: Node) -> HeaderLines {
    node.list()
        .into_iter()
        .map(|line| {
            let at = line.at().to_owned();
            let [name, value]: [Node; 2] = line
                .list()
                .try_into()
                .unwrap_or_else(|_| panic!("{at}: a header is [name, value]"));
            (name.header_name(), value.header_value())
        })
        .collect()
}

fn expectations(node: Node) -> Vec<(String, Expected)> {
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
