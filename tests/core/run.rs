//! Runs a scenario on the core.

use mcp_session_filter::subrequest::Subrequest;
use serde_json::Value;

use crate::driver::{Envoy, Seen};
use crate::scenario::tokens::{self, Translated};
use crate::scenario::{Body, Call, Client, Exchange, Expected, Ids, Scenario, Step};

pub fn run(scenario: &Scenario) {
    let mut envoy = Envoy::new(scenario.config.to_string().as_bytes());
    for (number, step) in scenario.steps.iter().enumerate() {
        let at = format!("{}.json '{}' step {number}", scenario.file, scenario.name);
        match step {
            Step::Advance(by, calls) => check_calls(&at, &envoy.advance(*by, calls), calls),
            Step::Exchange(exchange) => {
                envoy.pass_time();
                check(&at, &envoy.exchange(exchange), exchange);
            }
        }
    }
}

fn check(at: &str, seen: &Seen, exchange: &Exchange) {
    for (name, expected) in &exchange.upstream {
        let lines: Vec<Vec<u8>> = seen.upstream.all(name).map(<[u8]>::to_vec).collect();
        assert_eq!(lines, lines_of(expected), "{at}: {name} at the server");
    }
    assert_eq!(seen.outcome, exchange.outcome, "{at}: outcome");
    check_calls(at, &seen.calls, &exchange.calls);
    match (&exchange.client, &exchange.answer) {
        (Some(client), _) if seen.reply.is_some() => check_reply(at, seen, client),
        (Some(client), Some(_)) => check_body(at, &seen.answer_body, &client.body),
        (Some(_), None) => panic!("{at}: the filter did not answer"),
        (None, Some(answer)) => {
            assert!(seen.reply.is_none(), "{at}: the filter answered");
            let body = answer.body.as_deref().unwrap_or_default();
            assert!(seen.answer_body == body, "{at}: the answer's body");
        }
        (None, None) => panic!("{at}: who answers?"),
    }
    let body = exchange.request.body.as_deref().unwrap_or_default();
    if exchange.answer.is_some() {
        let translated = tokens::between(body, &seen.body).expect("nothing but ids may change");
        check_ids(at, exchange, &translated);
    }
    for again in tokens::sent_again(body, seen.calls.iter().map(|call| &call.body)) {
        check_ids(&format!("{at}, sent again"), exchange, &again);
    }
}

fn check_ids(at: &str, exchange: &Exchange, translated: &[Translated]) {
    match exchange.ids {
        Some(Ids::Translated) => assert!(!translated.is_empty(), "{at}: ids were kept"),
        Some(Ids::Kept) => assert!(translated.is_empty(), "{at}: ids were translated"),
        None => {}
    }
}

fn check_calls(at: &str, made: &[Subrequest], expected: &[Call]) {
    let of = |call: &Subrequest, name: &str| -> Vec<Vec<u8>> {
        let lines = call.headers.iter().filter(|(other, _)| other == name);
        lines.map(|(_, value)| value.clone().into_bytes()).collect()
    };
    let shown = |call: &Subrequest| {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let rpc = body["method"].as_str().map(str::to_owned);
        (of(call, ":method"), rpc)
    };
    let made_shown: Vec<_> = made.iter().map(shown).collect();
    let expected_shown = expected.iter().map(|call| {
        let method = vec![call.method.clone().into_bytes()];
        (method, call.rpc.clone())
    });
    let expected_shown: Vec<_> = expected_shown.collect();
    assert_eq!(
        made_shown, expected_shown,
        "{at}: the filter's own requests"
    );
    for (call, expected) in made.iter().zip(expected) {
        for (name, lines) in &expected.headers {
            assert_eq!(of(call, name), lines_of(lines), "{at}: {name} of a call");
        }
    }
}

fn check_reply(at: &str, seen: &Seen, client: &Client) {
    let reply = seen.reply.as_ref();
    let reply = reply.unwrap_or_else(|| panic!("{at}: the filter did not answer"));
    assert_eq!(reply.status, client.status, "{at}: status");
    for (name, expected) in &client.headers {
        let lines = reply
            .headers
            .iter()
            .filter(|(other, _)| other == name.as_bytes());
        let lines: Vec<_> = lines.map(|(_, value)| value.clone()).collect();
        assert_eq!(lines, lines_of(expected), "{at}: {name} at the client");
    }
    check_body(at, &reply.body, &client.body);
}

fn check_body(at: &str, body: &[u8], expected: &Body) {
    match expected {
        Body::Empty => assert!(body.is_empty(), "{at}: no body"),
        Body::Bytes(bytes) => assert!(body == *bytes, "{at}: the body"),
        Body::Json(value) => {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            assert_eq!(body, *value, "{at}: the body");
        }
    }
}

fn lines_of(expected: &Expected) -> Vec<Vec<u8>> {
    match expected {
        Expected::Absent => Vec::new(),
        Expected::Lines(lines) => lines.clone(),
    }
}
