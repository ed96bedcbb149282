//! Every call of the platform in every scenario, made to fail in every way: the core goes on, requests pass, and nobody
//! gets a session of somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::attempt::attempt;
use crate::driver::{Envoy, Seen};
use crate::faulty::{Call, Fault};
use crate::scenario::replays::{assert_none_failed, for_each, with_few_slots};
use crate::scenario::{self, Answer, Exchange, Level, Request, Scenario, Step, tokens};

/// As few as let callers have a session each.
const SLOTS: u32 = 8;
/// How far apart two failing calls are in `make test`.
const APART: usize = 4;

/// What all calls can come to from one on. Not so "written" where nothing was: then a session is opened again and again.
const FOR_EVER: [Fault; 2] = [Fault::Refused, Fault::Missing];

/// The calls that fail, and from which one on all do.
type Failing<'a> = (&'a [(usize, Fault)], Option<(usize, Fault)>);

#[test]
fn no_failing_call_of_the_platform_stops_traffic_or_mixes_up_sessions() {
    sweep(|calls, replay| {
        for (n, call) in calls.iter().enumerate() {
            for fault in Fault::of(*call) {
                replay((&[(n, *fault)], None));
            }
            for fault in FOR_EVER {
                replay((&[], Some((n, fault))));
            }
        }
    });
}

#[test]
fn no_two_failing_calls_near_each_other_stop_traffic_or_mix_up_sessions() {
    sweep(|calls, replay| pairs(calls, APART, &[Fault::Refused], replay));
}

#[test]
#[ignore = "takes minutes"]
fn no_two_failing_calls_stop_traffic_or_mix_up_sessions() {
    let faults = [Fault::Refused, Fault::Missing, Fault::Lost];
    sweep(|calls, replay| pairs(calls, usize::MAX, &faults, replay));
}

/// Of reads and writes: what else there is says no more than "no".
fn pairs(calls: &[Call], apart: usize, faults: &[Fault], replay: &mut dyn FnMut(Failing<'_>)) {
    let fails = |n: &usize| matches!(calls[*n], Call::Read | Call::Write);
    for n in (0..calls.len()).filter(fails) {
        for m in (n + 1..calls.len()).filter(fails).take(apart) {
            for one in faults {
                for other in faults {
                    replay((&[(n, *one), (m, *other)], None));
                }
            }
        }
    }
}

/// Has each scenario replayed.
fn sweep(replays_of: impl Fn(&[Call], &mut dyn FnMut(Failing<'_>)) + Sync) {
    let scenarios = scenario::at(Level::Core);
    let scenarios: Vec<_> = scenarios
        .iter()
        .map(|scenario| with_few_slots(scenario, SLOTS))
        .collect();
    let (replays, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    for_each(&scenarios, |scenario| {
        let fresh = Envoy::new(scenario.config.to_string().as_bytes());
        let envoy = fresh.copy();
        envoy.platform.record();
        let envoy = play(envoy, scenario, false);
        replays_of(&envoy.platform.recorded(), &mut |failing| {
            replays.fetch_add(1, Ordering::Relaxed);
            if let Err(what) = attempt(|| replay(&fresh, scenario, failing)) {
                let (file, name) = (&scenario.file, &scenario.name);
                let mut failed = failed.lock().unwrap();
                failed.push(format!("{file}.json '{name}' {failing:?}: {what}"));
            }
        });
    });
    let (replays, failed) = (replays.into_inner(), failed.into_inner().unwrap());
    println!("{replays} replays of {} scenarios", scenarios.len());
    assert_none_failed(replays, &failed);
}

fn replay(fresh: &Envoy, scenario: &Scenario, (faults, broken): Failing<'_>) {
    let envoy = fresh.copy();
    for (call, fault) in faults {
        envoy.platform.fail(*call, *fault);
    }
    if let Some((call, fault)) = broken {
        envoy.platform.fail_from(call, fault);
    }
    let mut envoy = play(envoy, scenario, true);
    envoy.platform.heal();
    let plain = plain();
    let seen = envoy.exchange(&plain);
    assert!(seen.reply.is_none(), "a plain request passes afterwards");
    let id: Vec<_> = seen.upstream.all("mcp-session-id").collect();
    assert_eq!(id, [b"own"], "the plain request's id");
    assert_eq!(Some(seen.body), plain.request.body);
}

fn play(mut envoy: Envoy, scenario: &Scenario, is_checked: bool) -> Envoy {
    let mut given = Given::new(scenario);
    for (n, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Advance(by, calls) => {
                envoy.advance(*by, calls);
            }
            Step::Exchange(exchange) => {
                envoy.pass_time();
                let seen = envoy.exchange(exchange);
                given.note(exchange, exchange.calls.iter().map(|call| &call.answer));
                if is_checked {
                    given.check(&format!("step {n}"), exchange, &seen);
                }
                given.note(exchange, exchange.answer.iter());
            }
        }
    }
    envoy
}

fn plain() -> Exchange {
    Exchange {
        request: Request {
            method: "POST".to_owned(),
            path: "/mcp".to_owned(),
            authority: "mcp.test".to_owned(),
            from: [127, 0, 0, 1].into(),
            headers: vec![("mcp-session-id".to_owned(), b"own".to_vec())],
            body: Some(b"{}".to_vec()),
            cut: None,
        },
        upstream: Vec::new(),
        answer: Some(Answer {
            status: 200,
            ..Answer::default()
        }),
        client: None,
        calls: Vec::new(),
        ids: None,
        outcome: None,
    }
}

/// The sessions that servers have given so far, by caller and endpoint.
struct Given {
    caller_headers: Vec<String>,
    ids: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Given {
    fn new(scenario: &Scenario) -> Self {
        let names = scenario.config["caller"]["headers"].as_array();
        let names = names.map(|names| {
            let names = names.iter().filter_map(serde_json::Value::as_str);
            names.map(str::to_ascii_lowercase).collect()
        });
        Self {
            caller_headers: names
                .unwrap_or_else(|| vec!["authorization".to_owned(), "x-api-key".to_owned()]),
            ids: BTreeMap::new(),
        }
    }

    fn whose(&self, request: &Request) -> String {
        let is_evidence = |name: &String| self.caller_headers.contains(name);
        let lines = request.headers.iter();
        let mut evidence: Vec<_> = lines.filter(|(name, _)| is_evidence(name)).collect();
        evidence.sort();
        let address = evidence.is_empty().then_some(request.from);
        let path = request.path.split('?').next();
        let host = request.authority.to_ascii_lowercase();
        format!("{evidence:?} {address:?} {path:?} {host}")
    }

    fn note<'a>(&mut self, exchange: &Exchange, answers: impl Iterator<Item = &'a Answer>) {
        let lines = answers.flat_map(|answer| &answer.headers);
        let ids = lines.filter(|(name, _)| name == "mcp-session-id");
        let ids: Vec<_> = ids.map(|(_, id)| id.clone()).collect();
        let own = self.ids.entry(self.whose(&exchange.request)).or_default();
        own.extend(ids);
    }

    /// The request went up as it was, in a session of its caller's at most, and its answer came; or the filter
    /// answered, and told of no other session either.
    fn check(&self, at: &str, exchange: &Exchange, seen: &Seen) {
        let request = &exchange.request;
        let own = self.ids.get(&self.whose(request));
        let sent = request.headers.iter();
        let sent = sent.filter(|(name, _)| name == "mcp-session-id");
        let sent: Vec<_> = sent.map(|(_, id)| id.as_slice()).collect();
        let is_own = |id: &[u8]| {
            id.is_empty() || sent.contains(&id) || own.is_some_and(|own| own.contains(id))
        };
        for id in seen.upstream.all("mcp-session-id") {
            assert!(is_own(id), "{at}: in session {}", id.escape_ascii());
        }
        if let Some(reply) = &seen.reply {
            let lines = reply.headers.iter();
            for (_, id) in lines.filter(|(name, _)| name == b"mcp-session-id") {
                assert!(is_own(id), "{at}: told of session {}", id.escape_ascii());
            }
            return;
        }
        let body = request.body.as_deref().unwrap_or_default();
        let between = tokens::between(body, &seen.body);
        assert!(
            between.is_ok(),
            "{at}: the body at the server is {}",
            seen.body.escape_ascii()
        );
        let answer = exchange.answer.as_ref();
        let answer = answer.and_then(|answer| answer.body.as_deref());
        assert_eq!(
            seen.answer_body.escape_ascii().to_string(),
            answer.unwrap_or_default().escape_ascii().to_string(),
            "{at}: the answer's body"
        );
    }
}
