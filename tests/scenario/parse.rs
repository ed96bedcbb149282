//! From JSON to scenarios, key by key.

use std::net::IpAddr;

use serde_json::Value;

use super::parts::Parts;
use super::reader::Node;
use super::verdict::{calls, client, expectations, ids, outcome};
use super::{Answer, Exchange, HeaderLines, Level, Request, Scenario, Step};

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
    let moves = steps.iter().any(|step| matches!(step, Step::Advance(..)));
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
        let calls = calls(&mut fields);
        fields.finish();
        return Step::Advance(by.duration(), calls);
    }
    let request = request(fields.required("request"));
    let upstream = fields
        .optional("upstream")
        .map(expectations)
        .unwrap_or_default();
    let answer = fields.required("answer").nullable().map(answer);
    let client = fields.optional("client").map(client);
    let calls = calls(&mut fields);
    let ids = fields.optional("ids").map(ids);
    let outcome = fields.required("outcome").nullable().map(outcome);
    let at = fields.finish();
    assert!(
        answer.is_some() || client.is_some(),
        "{at}: without an answer, what does the client get?"
    );
    Step::Exchange(Box::new(Exchange {
        request,
        upstream,
        answer,
        client,
        calls,
        ids,
        outcome,
    }))
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

pub(super) fn answer(node: Node) -> Answer {
    let mut fields = node.fields();
    let status = fields.required("status").status();
    let headers = fields
        .optional("headers")
        .map(header_lines)
        .unwrap_or_default();
    let body = fields.body();
    let host = fields.optional("host").map(Node::text);
    let is_unreachable = fields.optional("unreachable").is_some_and(Node::flag);
    fields.finish();
    Answer {
        status,
        headers,
        body,
        host,
        is_unreachable,
    }
}

fn header_lines(node: Node) -> HeaderLines {
    node.list()
        .into_iter()
        .map(|line| {
            let (name, value) = line.pair();
            (name.header_name(), value.header_value())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Body, Call, Expected, Ids};

    const EXAMPLE: &str = include_str!("example.json");

    fn example() -> Vec<Step> {
        let parts = Parts::parse(include_bytes!("../scenarios/parts.json"));
        let mut scenarios = scenarios("example", EXAMPLE.as_bytes(), &parts);
        scenarios.remove(0).steps
    }

    fn exchange(step: &Step) -> &Exchange {
        match step {
            Step::Exchange(exchange) => exchange,
            Step::Advance(..) => panic!("an exchange, please"),
        }
    }

    #[test]
    fn the_example_is_read_as_it_says() {
        let steps = example();
        let reused = exchange(&steps[0]);
        assert!(reused.answer.is_none());
        assert_eq!(reused.calls[0].rpc.as_deref(), Some("initialize"));
        assert_eq!(reused.calls[0].headers.len(), 2);
        let client = reused.client.as_ref().unwrap();
        assert!(matches!(client.body, Body::Json(_)));
        assert_eq!(
            client.headers[1],
            ("retry-after".to_owned(), Expected::Absent)
        );
        let translated = exchange(&steps[1]);
        assert_eq!(translated.ids, Some(Ids::Translated));
        assert!(translated.answer.is_some() && translated.client.is_none());
        assert!(exchange(&steps[2]).calls.iter().all(Call::is_ping));
        assert_eq!(
            exchange(&steps[3]).client.as_ref().unwrap().body,
            Body::Empty
        );
        let Step::Advance(_, calls) = &steps[4] else {
            panic!("the clock moves last")
        };
        assert_eq!((calls[0].method.as_str(), &calls[0].rpc), ("DELETE", &None));
    }

    #[test]
    fn what_the_example_does_not_say_is_a_mistake() {
        let parts = Parts::parse(b"{}");
        for (wrong, says) in [
            (
                r#""answer": null, "outcome": null"#,
                "what does the client get",
            ),
            (
                r#""answer": {"status": 200}, "outcome": null, "pings": [], "calls": []"#,
                "either 'calls' or 'pings'",
            ),
            (
                r#""answer": {"status": 200}, "outcome": null, "ids": "lost""#,
                "translated or kept",
            ),
            (
                r#""answer": {"status": 200}, "outcome": null, "calls": [{"answer": {"status": 200}}]"#,
                "'rpc' is missing",
            ),
        ] {
            let request = r#""request": {"method": "GET", "path": "/mcp"}"#;
            let text = format!(r#"[{{"name": "n", "steps": [{{{request}, {wrong}}}]}}]"#);
            let read = std::panic::catch_unwind(|| scenarios("f", text.as_bytes(), &parts));
            let what = read.expect_err(wrong).downcast::<String>().unwrap();
            assert!(what.contains(says), "{what}");
        }
    }
}
