//! Every hostcall of every scenario, made to fail in every way: traffic passes, and no session is mixed up.
//!
//! What each way of failing is tried at, call by call, is in [`some_troubles`]; the tests that take long try
//! all of them, and that the statuses which `make test` leaves out come to just the same.

use std::sync::Mutex;
use std::time::Instant;

use super::faults::{Fault, Made};
use super::sweep::{Look, Rehearsal, Trouble};
use crate::scenario::replays::{assert_none_failed, for_each, with_few_slots};
use crate::scenario::{self, Level};

/// Known ones (proxy-wasm ABI 0.2.1, `proxy_status_t`), and such as the SDK does not know.
const STATUSES: [u32; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 77, 255, u32::MAX];
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const EMPTY: u32 = 7;
const CAS_MISMATCH: u32 = 8;
/// A failure that nothing can be made of.
const INTERNAL_FAILURE: u32 = 10;

/// As few as let callers have a session each.
const SLOTS: u32 = 16;
/// How many other keys are read in the place of the right one.
const OTHERS: usize = 4;

#[test]
fn no_failing_hostcall_stops_traffic_or_mixes_up_sessions() {
    sweep_all(|rehearsal, sweep| {
        for (n, call) in rehearsal.calls.iter().enumerate() {
            for trouble in some_troubles(call, n) {
                sweep.replay(rehearsal, n, trouble);
            }
        }
    });
}

#[test]
#[ignore = "takes many minutes"]
fn no_status_and_no_garbage_of_any_hostcall_stops_traffic_or_mixes_up_sessions() {
    sweep_all(|rehearsal, sweep| {
        for (n, call) in rehearsal.calls.iter().enumerate() {
            for make in [Trouble::Once, Trouble::Name] {
                sweep.replay_alike(rehearsal, n, call, make);
            }
            for status in [NOT_FOUND, EMPTY, CAS_MISMATCH, INTERNAL_FAILURE, u32::MAX] {
                let all = Trouble::All(Fault::Status(status));
                sweep.replay(rehearsal, n, all);
            }
            for fault in garbage_of(call, OTHERS) {
                sweep.replay(rehearsal, n, Trouble::Once(fault));
                sweep.replay(rehearsal, n, Trouble::Name(fault));
            }
        }
    });
}

#[test]
#[ignore = "takes many minutes"]
fn no_two_failing_hostcalls_stop_traffic_or_mix_up_sessions() {
    sweep_all(|rehearsal, sweep| {
        let fault = Fault::Status(INTERNAL_FAILURE);
        for (n, call) in rehearsal.calls.iter().enumerate() {
            if statuses_of(call).is_empty() {
                continue;
            }
            let Some(calls) = sweep.replay(rehearsal, n, Trouble::Once(fault)) else {
                continue;
            };
            let after = rehearsal.step_call(n) + 1;
            for (later, call) in calls.iter().enumerate().skip(after) {
                if !statuses_of(call).is_empty() {
                    let both = Trouble::Twice(fault, later + 1 - after, fault);
                    sweep.replay(rehearsal, n, both);
                }
            }
        }
    });
}

/// Every way in which a call can fail, with one of the statuses that are told by none of them apart.
fn some_troubles(call: &Made, n: usize) -> Vec<Trouble> {
    let failure = Fault::Status(INTERNAL_FAILURE);
    let statuses = statuses_of(call);
    let Some(by_turns) = statuses.get(n % statuses.len().max(1)) else {
        return Vec::new();
    };
    let mut own = vec![INTERNAL_FAILURE, *by_turns];
    own.extend(told_apart(call));
    own.sort_unstable();
    own.dedup();
    let statuses = own.into_iter().map(Fault::Status);
    let single = statuses.chain(garbage_of(call, 1)).map(Trouble::Once);
    single
        .chain([
            Trouble::Twice(failure, 1 + n % 3, failure),
            Trouble::Name(failure),
            Trouble::All(failure),
        ])
        .collect()
}

/// The statuses that a call can come to. Two are left out, since the SDK panics on them by itself and the filter can't
/// do without: its `dispatch_http_call` on other statuses than 2 and 10, and [`Made::is_the_sdks`].
fn statuses_of(call: &Made) -> &'static [u32] {
    match call.name {
        "proxy_http_call" => &[BAD_ARGUMENT, INTERNAL_FAILURE],
        _ if call.is_the_sdks() => &[],
        _ => &STATUSES,
    }
}

/// Statuses of a call that mean something else than a failure.
fn told_apart(call: &Made) -> &'static [u32] {
    match call.name {
        "proxy_get_header_map_pairs"
        | "proxy_get_buffer_bytes"
        | "proxy_get_property"
        | "proxy_get_shared_data" => &[NOT_FOUND],
        "proxy_dequeue_shared_queue" => &[NOT_FOUND, EMPTY],
        "proxy_set_shared_data" => &[CAS_MISMATCH],
        _ => &[],
    }
}

/// What a call can hand over that is not what it was asked for.
fn garbage_of(call: &Made, others: usize) -> Vec<Fault> {
    use Fault::{Cut, Empty, Garbage, Junk, Lying, NoCas, Ones, Zeros};
    let bytes = match call.name {
        "proxy_get_shared_data" => {
            let all = [Empty, Cut, Lying, NoCas, Garbage, Zeros, Ones, Junk];
            return all
                .into_iter()
                .chain((0..others).map(Fault::Other))
                .collect();
        }
        "proxy_get_header_map_pairs" | "proxy_dequeue_shared_queue" | "proxy_get_buffer_bytes" => {
            &[Empty, Cut, Lying, Garbage, Zeros, Ones, Junk][..]
        }
        "proxy_get_property" => &[Empty, Cut, Garbage, Zeros, Ones, Junk],
        "proxy_get_log_level"
        | "proxy_get_current_time_nanoseconds"
        | "proxy_register_shared_queue"
        | "proxy_resolve_shared_queue"
        | "clock_time_get"
        | "random_get" => &[Zeros, Ones],
        _ => &[],
    };
    bytes.to_vec()
}

/// How a scenario's replays came out.
#[derive(Default)]
struct Sweep {
    replays: usize,
    failed: Vec<String>,
}

impl Sweep {
    /// Gives the calls that were made.
    fn replay(&mut self, rehearsal: &Rehearsal, n: usize, trouble: Trouble) -> Option<Vec<Made>> {
        self.replays += 1;
        match rehearsal.replay(n, trouble, Look::Once) {
            Ok(course) => Some(course.calls),
            Err(what) => {
                self.failed.push(what);
                None
            }
        }
    }

    /// All statuses: those that are not told apart must come to the same.
    fn replay_alike(
        &mut self,
        rehearsal: &Rehearsal,
        n: usize,
        call: &Made,
        make: impl Fn(Fault) -> Trouble,
    ) {
        let mut first = None;
        for status in statuses_of(call) {
            self.replays += 1;
            let trouble = make(Fault::Status(*status));
            match rehearsal.replay(n, trouble, Look::Closely) {
                Err(what) => self.failed.push(what),
                Ok(_) if told_apart(call).contains(status) => {}
                Ok(course) => {
                    if *first.get_or_insert_with(|| course.clone()) != course {
                        let what =
                            format!("{} (call {n}), {trouble:?}: a status of its own", call.name);
                        self.failed.push(what);
                    }
                }
            }
        }
    }
}

/// Sweeps over all scenarios.
fn sweep_all(sweep: impl Fn(&Rehearsal, &mut Sweep) + Sync) {
    let began = Instant::now();
    let scenarios = scenario::at(Level::Abi);
    let scenarios: Vec<_> = scenarios
        .iter()
        .map(|scenario| with_few_slots(scenario, SLOTS))
        .collect();
    let all = Mutex::new(Sweep::default());
    for_each(&scenarios, |scenario| {
        let rehearsal = Rehearsal::of(scenario);
        let mut own = Sweep::default();
        sweep(&rehearsal, &mut own);
        println!(
            "{:5} replays of {:4} calls, {:2} failed: {}.json: '{}'",
            own.replays,
            rehearsal.calls.len(),
            own.failed.len(),
            scenario.file,
            scenario.name
        );
        for what in own.failed.iter().take(3) {
            println!("      {what}");
        }
        let mut all = all.lock().expect("no thread panicked");
        all.replays += own.replays;
        all.failed.extend(own.failed);
    });
    let Sweep { replays, failed } = all.into_inner().expect("no thread panicked");
    println!(
        "{replays} replays with failing hostcalls, of {} scenarios, in {} seconds",
        scenarios.len(),
        began.elapsed().as_secs()
    );
    assert_none_failed(replays, &failed);
}
