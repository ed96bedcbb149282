//! Every hostcall of every scenario, made to fail in every way: traffic passes, and no session is mixed up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::attempt::attempt;
use super::faults::{Fault, Made};
use super::head::{Head, Headers, Reply};
use super::replay::{CallAnswers, Manner, Seen, Stage, assert_traffic_passed};
use super::scenarios::REPAIRABLE;
use crate::scenario::{self, Exchange, Level, Scenario};

/// Known ones and such as the SDK does not know.
const STATUSES: [u32; 9] = [1, 2, 3, 4, 7, 8, 10, 12, 77];

const MANNER: Manner = Manner {
    workers: 2,
    call_answers: CallAnswers::Late,
    headers_may_wait_alone: true,
    // Headers wait for 5 seconds at most.
    patience: Duration::from_secs(6),
    // Thousands of ticks would all fail alike.
    sleeps: true,
};

#[test]
fn no_failing_hostcall_stops_traffic_or_mixes_up_sessions() {
    let scenarios = scenario::at(Level::Abi);
    let (next, replays, failed) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        Mutex::new(Vec::new()),
    );
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sweep = Sweep::of(scenario);
                    replays.fetch_add(sweep.replays, Ordering::Relaxed);
                    println!(
                        "{:5} replays, {:2} failed: {}.json: '{}'",
                        sweep.replays,
                        sweep.failed.len(),
                        scenario.file,
                        scenario.name
                    );
                    failed
                        .lock()
                        .expect("no thread panicked")
                        .extend(sweep.failed);
                }
            });
        }
    });
    let (replays, failed) = (
        replays.into_inner(),
        failed.into_inner().expect("no thread panicked"),
    );
    println!(
        "{replays} replays with one failing hostcall each, of {} scenarios",
        scenarios.len()
    );
    let shown: Vec<_> = failed.iter().take(20).cloned().collect();
    assert!(
        failed.is_empty(),
        "{} of {replays} replays failed, such as:\n{}",
        failed.len(),
        shown.join("\n")
    );
}

/// One scenario with each of its hostcalls failing in turn.
struct Sweep {
    replays: usize,
    failed: Vec<String>,
}

impl Sweep {
    fn of(scenario: &Scenario) -> Self {
        let scenario = with_few_slots(scenario);
        let mut sweep = Self {
            replays: 0,
            failed: Vec::new(),
        };
        let calls = calls_of(&scenario);
        for (n, call) in calls.iter().enumerate() {
            for fault in faults_of(call) {
                sweep.replays += 1;
                if let Err(what) = attempt(|| replay(&scenario, n, fault)) {
                    sweep.failed.push(format!(
                        "{}.json: '{}': {} in {} (call {n}), {fault:?}: {what}",
                        scenario.file, scenario.name, call.name, call.during
                    ));
                }
            }
        }
        sweep
    }
}

/// Slots are made when a VM starts, which happens for each replay.
fn with_few_slots(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    if scenario.config.get("memory").is_none() {
        scenario.config["memory"] = serde_json::json!({"slots": 64});
    }
    scenario
}

/// The hostcalls that the scenario makes when nothing fails.
fn calls_of(scenario: &Scenario) -> Vec<Made> {
    let mut stage = Stage::new(scenario, MANNER);
    stage.world.record_calls();
    stage.play(scenario, |_, _, _, _| {});
    stage.world.recorded_calls()
}

/// What a call can come to. Two are left out, since the SDK panics on them by itself and the filter can't do without:
/// its `dispatch_http_call` on other statuses than 2 and 10, and `proxy_set_effective_context` in its dispatcher of
/// HTTP call answers, which comes first of all calls there.
fn faults_of(call: &Made) -> Vec<Fault> {
    let is_the_sdks = call.opens && call.during == "proxy_on_http_call_response";
    let statuses: &[u32] = match call.name {
        "proxy_http_call" => &[2, 10],
        "proxy_set_effective_context" if is_the_sdks => &[],
        _ => &STATUSES,
    };
    let garbage: &[Fault] = match call.name {
        "proxy_get_header_map_pairs" | "proxy_dequeue_shared_queue" => {
            &[Fault::Empty, Fault::Cut, Fault::Lying]
        }
        "proxy_get_shared_data" => &[Fault::Empty, Fault::Cut, Fault::Lying, Fault::NoCas],
        "proxy_get_header_map_value" | "proxy_get_buffer_bytes" | "proxy_get_property" => {
            &[Fault::Empty, Fault::Cut]
        }
        _ => &[],
    };
    statuses
        .iter()
        .map(|status| Fault::Status(*status))
        .chain(garbage.iter().copied())
        .collect()
}

fn replay(scenario: &Scenario, call: usize, fault: Fault) {
    let mut stage = Stage::new(scenario, MANNER);
    stage.world.fail_call(call, fault);
    let mut given = Given::new(scenario);
    stage.play(scenario, |_, n, spec, seen| {
        if let Err(what) = attempt(|| check(spec, seen, &given)) {
            panic!(
                "steps[{n}] ({} {}): {what}",
                spec.request.method, spec.request.path
            );
        }
        given.note(spec);
    });
    assert!(stage.world.something_failed(), "the call was not made");
    assert_eq!(
        stage.world.offences(),
        Vec::<String>::new(),
        "what no filter should do"
    );
    stage.world.heal();
    for worker in &stage.workers {
        let mut request = worker.request(&Head::post("/mcp").header("mcp-session-id", "own"));
        request
            .headers()
            .body("{}")
            .end()
            .answer(&Reply::new(200).body("{}"));
        assert!(
            request.is_sent() && request.is_answered(),
            "a plain request passes afterwards"
        );
        assert_eq!(
            request.server_headers().text("mcp-session-id"),
            "own",
            "the plain request's id"
        );
        request.close();
    }
}

/// The request reached the server as it was, but for a sound repair; the answer reached the client.
fn check(spec: &Exchange, seen: &Seen, given: &Given) {
    assert_traffic_passed(spec, seen);
    let server = seen
        .server
        .headers
        .as_ref()
        .expect("the request reached the server");
    assert_eq!(
        server.without(REPAIRABLE),
        seen.sent.without(REPAIRABLE),
        "the other headers at the server"
    );
    for name in REPAIRABLE {
        let (sent, arrived) = (seen.sent.all(name), server.all(name));
        // A line without a value says no more than none.
        let emptied = arrived.is_empty() && sent.iter().all(|value| value.is_empty());
        let sound = arrived == sent
            || emptied
            || arrived.len() == 1 && given.may_set(spec, name, arrived[0]);
        let shown: Vec<_> = arrived
            .iter()
            .map(|line| line.escape_ascii().to_string())
            .collect();
        assert!(sound, "{name} at the server is {shown:?}, a third thing");
    }
    for call in &seen.calls {
        let id = call.headers.all("mcp-session-id");
        assert_eq!(
            id,
            server.all("mcp-session-id"),
            "a ping is about the request's session"
        );
    }
}

/// What servers have given so far, to whom.
struct Given {
    caller_headers: Vec<String>,
    ids: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Given {
    fn new(scenario: &Scenario) -> Self {
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

    fn note(&mut self, spec: &Exchange) {
        let ids = spec
            .answer
            .headers
            .iter()
            .filter(|(name, _)| name == "mcp-session-id")
            .map(|(_, id)| id.clone());
        self.ids.entry(self.whose(spec)).or_default().extend(ids);
    }

    /// Whether a repair may have put this value there.
    fn may_set(&self, spec: &Exchange, name: &str, value: &[u8]) -> bool {
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
