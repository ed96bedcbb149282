//! Every hostcall of every scenario, made to fail in every way: traffic passes, and no session is mixed up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::attempt::attempt;
use super::crowd::name;
use super::faults::{Fault, Made};
use super::given::{Given, HOST_HEADER};
use super::head::{Head, Reply};
use super::passage::assert_traffic_passed;
use super::replay::{CallAnswers, Manner, Seen, Sight, Stage};
use super::scenarios::{REPAIRABLE, REWRITABLE, assert_encoding};
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
    stage.play(scenario, |_, _, _| {});
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
    stage.play(scenario, |_, n, sight| {
        let Sight::Exchange(spec, seen) = sight else {
            return;
        };
        given.note_calls(spec);
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
    if !(seen.answered_locally && given.may_answer(spec, &seen.client)) {
        assert_traffic_passed(spec, seen);
    }
    for call in &seen.calls {
        let id = call.headers.first("mcp-session-id").unwrap_or_default();
        let own = seen.sent.first("mcp-session-id") == Some(id);
        let known = given.to_anybody(id);
        assert!(
            id.is_empty() || own || known,
            "a call is in a session that nobody has"
        );
    }
    // Of one that was begun and reset the server heeds nothing.
    let Some(server) = seen
        .server
        .headers
        .as_ref()
        .filter(|_| !seen.upstream_reset)
    else {
        return;
    };
    let repairable = [REPAIRABLE, &[HOST_HEADER]].concat();
    let free = [&repairable, REWRITABLE].concat();
    assert_eq!(
        server.without(&free),
        seen.sent.without(&free),
        "the other headers at the server"
    );
    assert_encoding(&seen.sent, server);
    for name in repairable {
        let (sent, arrived) = (seen.sent.all(name), server.all(name));
        // A line without a value says no more than none.
        let emptied = arrived.is_empty() && sent.iter().all(|value| value.is_empty());
        // A version that a server refuses may stay away.
        let versionless = name == "mcp-protocol-version" && arrived.is_empty();
        // No client chooses a host.
        let hostless = name == HOST_HEADER && arrived.is_empty();
        let sound = arrived == sent
            || hostless
            || emptied
            || versionless
            || arrived.len() == 1 && given.may_set(spec, name, arrived[0]);
        let shown: Vec<_> = arrived
            .iter()
            .map(|line| line.escape_ascii().to_string())
            .collect();
        assert!(sound, "{name} at the server is {shown:?}, a third thing");
    }
    for call in seen.calls.iter().filter(|call| name(call) == "ping") {
        let id = call.headers.all("mcp-session-id");
        let is_own = id == server.all("mcp-session-id");
        // Before its caller goes on in another one it asks there as well.
        let is_callers = id.len() == 1 && given.may_set(spec, "mcp-session-id", id[0]);
        assert!(is_own || is_callers, "whose session is a ping about?");
    }
}
