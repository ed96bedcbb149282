//! Every scenario on the compiled module, in each manner that Envoy might act it out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempt::attempt;
use super::head::Headers;
use super::own_calls;
use super::passage::{
    assert_arrived, assert_client_got_its_answer, assert_ids, assert_kept_from_the_server,
    assert_lines, may_be_rewritten,
};
use super::replay::{CallAnswers, Manner, Seen, Sight, Stage};
use crate::scenario::{self, Exchange, Level, Scenario};

/// The headers that a repair may change.
pub const REPAIRABLE: &[&str] = &["mcp-session-id", "mcp-protocol-version", "accept"];

/// The headers that a rewriting of ids may change, and how is looked at elsewhere.
pub const REWRITABLE: &[&str] = &["accept-encoding", "content-length"];

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
    stage.play(scenario, |world, n, sight| {
        let now = outcome_counters(&world.metrics());
        let checked = attempt(|| {
            match sight {
                Sight::Advance(expected, made) => own_calls::assert_made(expected, made),
                Sight::Exchange(spec, seen) => {
                    check(spec, seen);
                    check_counters(&counters, &now, spec.outcome.as_deref());
                }
            }
            assert_eq!(
                world.offences(),
                Vec::<String>::new(),
                "what no filter should do"
            );
            assert_eq!(world.errors(), Vec::<String>::new(), "error lines");
            assert_eq!(world.metric("host_error"), 0, "mcp_session.host_error");
        });
        if let Err(what) = checked {
            let request = match sight {
                Sight::Exchange(spec, _) => &spec.request.method,
                Sight::Advance(..) => "advance",
            };
            panic!("steps[{n}] ({request}): {what}");
        }
        counters = now;
    });
}

fn check(spec: &Exchange, seen: &Seen) {
    match &spec.answer {
        Some(_) => assert_arrived(spec, seen),
        None => assert_kept_from_the_server(seen),
    }
    assert_client_got_its_answer(spec, seen);
    assert_ids(spec, seen);
    if let Some(server) = &seen.server.headers {
        check_headers(spec, seen, server);
    }
    assert_eq!(seen.outcome, spec.outcome, "the outcome property");
    own_calls::assert_made(&spec.calls, &seen.calls);
    let server = seen.server.headers.as_ref();
    own_calls::assert_follow(&spec.request, server, &spec.calls, &seen.calls);
}

fn check_headers(spec: &Exchange, seen: &Seen, server: &Headers) {
    for (name, expected) in &spec.upstream {
        assert_lines(name, expected, server, "the server");
    }
    let mut free: Vec<&str> = spec
        .upstream
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    if spec.outcome.is_some() {
        free.extend(REPAIRABLE);
    }
    if may_be_rewritten(spec, seen) {
        free.extend(REWRITABLE);
        assert_encoding(&seen.sent, server);
    }
    assert_eq!(
        server.without(&free),
        seen.sent.without(&free),
        "the other headers at the server"
    );
}

/// Panics if the answer's encoding is to be one that neither the client nor a filter asks for.
pub fn assert_encoding(sent: &Headers, server: &Headers) {
    let arrived = server.all("accept-encoding");
    assert!(
        arrived == sent.all("accept-encoding") || arrived == [b"identity"],
        "accept-encoding at the server: {server:?}"
    );
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
