//! Every scenario on the compiled module, in each manner that Envoy might act it out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::attempt::attempt;
use super::calls::HttpCall;
use super::head::Headers;
use super::replay::{CallAnswers, Manner, Seen, Stage, assert_traffic_passed};
use crate::scenario::{self, Exchange, Expected, Level, Scenario};

/// The headers that a repair may change.
pub const REPAIRABLE: &[&str] = &["mcp-session-id", "mcp-protocol-version", "accept"];

const TWO_WORKERS: Manner = Manner {
    workers: 2,
    call_answers: CallAnswers::Late,
    headers_may_wait_alone: true,
    patience: Duration::ZERO,
    sleeps: false,
};

#[test]
fn scenarios_come_out_as_written_when_two_workers_take_turns() {
    replay_all(TWO_WORKERS);
}

#[test]
fn scenarios_come_out_as_written_on_one_worker() {
    replay_all(Manner {
        workers: 1,
        ..TWO_WORKERS
    });
}

#[test]
fn scenarios_come_out_as_written_when_pings_are_answered_before_the_answers_body_comes() {
    replay_all(Manner {
        call_answers: CallAnswers::AtOnce,
        ..TWO_WORKERS
    });
}

#[test]
fn scenarios_without_holding_come_out_as_written_on_a_host_that_knows_no_stop_iteration() {
    replay_all(Manner {
        headers_may_wait_alone: false,
        ..TWO_WORKERS
    });
}

fn replay_all(manner: Manner) {
    let mut failed = Vec::new();
    for scenario in scenario::at(Level::Abi) {
        if let Err(what) = attempt(|| replay(&scenario, manner)) {
            failed.push(format!(
                "{}.json: '{}': {what}",
                scenario.file, scenario.name
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{} scenarios failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn replay(scenario: &Scenario, manner: Manner) {
    let mut stage = Stage::new(scenario, manner);
    let mut counters = outcome_counters(&stage.world.metrics());
    stage.play(scenario, |world, n, spec, seen| {
        let now = outcome_counters(&world.metrics());
        let checked = attempt(|| {
            check(spec, seen);
            check_counters(&counters, &now, spec.outcome.as_deref());
            assert_eq!(
                world.offences(),
                Vec::<String>::new(),
                "what no filter should do"
            );
            assert_eq!(world.errors(), Vec::<String>::new(), "error lines");
            assert_eq!(world.metric("host_error"), 0, "mcp_session.host_error");
        });
        if let Err(what) = checked {
            panic!(
                "steps[{n}] ({} {}): {what}",
                spec.request.method, spec.request.path
            );
        }
        counters = now;
    });
}

fn check(spec: &Exchange, seen: &Seen) {
    assert_traffic_passed(spec, seen);
    let server = seen
        .server
        .headers
        .as_ref()
        .expect("the request reached the server");
    for (name, expected) in &spec.upstream {
        let lines: Vec<_> = server
            .all(name)
            .iter()
            .map(|line| line.escape_ascii().to_string())
            .collect();
        let expected: Vec<_> = match expected {
            Expected::Absent => Vec::new(),
            Expected::Lines(lines) => lines
                .iter()
                .map(|line| line.escape_ascii().to_string())
                .collect(),
        };
        assert_eq!(lines, expected, "{name} at the server");
    }
    let fixed = if spec.outcome.is_some() {
        REPAIRABLE
    } else {
        &[]
    };
    assert_eq!(
        server.without(fixed),
        seen.sent.without(fixed),
        "the other headers at the server"
    );
    assert_eq!(seen.outcome, spec.outcome, "the outcome property");
    let pings: Vec<_> = seen
        .calls
        .iter()
        .map(|call| call.headers.text(":path"))
        .collect();
    assert_eq!(
        pings.len(),
        spec.pings.len(),
        "the number of pings: {pings:?}"
    );
    for (n, call) in seen.calls.iter().enumerate() {
        check_ping(call, server, n == 0);
    }
}

/// A ping goes where the request went, as the same caller, in the same session.
fn check_ping(call: &HttpCall, request: &Headers, first: bool) {
    assert_eq!(call.cluster, "mcp_servers", "a ping's cluster");
    assert_eq!(call.headers.text(":method"), "POST", "a ping's method");
    for name in [
        ":path",
        ":authority",
        "mcp-session-id",
        "authorization",
        "x-api-key",
    ] {
        assert_eq!(
            call.headers.all(name),
            request.all(name),
            "{name} of a ping"
        );
    }
    let version = if first {
        request.all("mcp-protocol-version")
    } else {
        Vec::new()
    };
    assert_eq!(
        call.headers.all("mcp-protocol-version"),
        version,
        "mcp-protocol-version of a ping"
    );
    let body: Value = serde_json::from_slice(&call.body).expect("a ping is JSON");
    assert_eq!(
        (&body["jsonrpc"], &body["method"]),
        (&Value::from("2.0"), &Value::from("ping")),
        "a ping's body"
    );
    assert!(!body["id"].is_null(), "a ping has an id");
}

/// The counters of outcomes alone.
fn outcome_counters(metrics: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let outcome = |name: &str| {
        name.strip_prefix("mcp_session.")
            .filter(|name| scenario::OUTCOMES.contains(name))
            .map(str::to_owned)
    };
    metrics
        .iter()
        .filter_map(|(name, value)| Some((outcome(name)?, *value)))
        .collect()
}

/// An exchange counts once, under its outcome; an untouched one does not count.
fn check_counters(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    outcome: Option<&str>,
) {
    let risen = after
        .iter()
        .map(|(name, value)| (name.as_str(), value - before.get(name).unwrap_or(&0)));
    let risen: Vec<_> = risen.filter(|(_, by)| *by > 0).collect();
    let expected: Vec<_> = outcome.map(|outcome| (outcome, 1)).into_iter().collect();
    assert_eq!(risen, expected, "the counters that rose");
}
