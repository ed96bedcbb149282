//! A server that dies again and again amid the calls of sixteen clients: each of them gets its own answers, nothing runs
//! twice, and no more sessions are opened than were lost.

use super::mortal::Holds;
use super::turmoil::Turmoil;

/// `memory.bulk_slots`, as it is by default.
const BULK_SLOTS: usize = 256;
/// So many keys are made as they are needed: one for each of these slots, and one that says how far expired sessions
/// were looked for.
const LATE_KEYS: usize = BULK_SLOTS + 1;

const CONFIGS: [(&str, Holds); 4] = [
    (r#""hold_request_headers":true"#, Holds::Many),
    (r#""hold_request_headers":false"#, Holds::Many),
    (
        r#""on_reinitialize":"reuse","hold_request_headers":true"#,
        Holds::OneOfEachCaller,
    ),
    (r#""on_reinitialize":"reuse""#, Holds::OneOfEachCaller),
];

/// Sixteen clients take turns.
const QUEUE: (&str, Holds) = (
    r#""on_reinitialize":"queue","hold_request_headers":true,"replay_timeout":"5m","session":{"lease":"1s","queue_timeout":"5m"}"#,
    Holds::One,
);

/// Has the server die so often. What is remembered has bounds, and grows no more once it has come to them.
fn restart((config, holds): (&str, Holds), unknown: u16, seed: u64, times: usize) {
    let config = format!(r#"{{{config},"memory":{{"bulk_slots":{BULK_SLOTS}}}}}"#);
    let mut turmoil = Turmoil::new(&config, unknown, holds, seed);
    let world = turmoil.world.clone();
    let size = || world.state().shared_data.size();
    let mut run = |times| {
        for _ in 0..times {
            turmoil.live();
            turmoil.die();
        }
    };
    let (at_first, _) = size();
    run(times / 2);
    let (_, before) = size();
    run(times - times / 2);
    let (keys, bytes) = size();
    assert!(
        keys <= at_first + LATE_KEYS,
        "{keys} keys, {at_first} at first"
    );
    if times >= 1_000 {
        assert!(
            bytes <= before + before / 20,
            "{bytes} bytes after {before}"
        );
    }
    turmoil.finish();
}

#[test]
fn fifty_restarts_amid_the_calls_of_sixteen_clients_harm_none() {
    for (seed, config) in (1..).zip(CONFIGS) {
        restart(config, 404, seed, 50);
        restart(config, 400, seed + 100, 50);
    }
}

#[test]
fn fifty_restarts_amid_the_calls_of_sixteen_clients_that_take_turns_harm_none() {
    restart(QUEUE, 404, 21, 50);
    restart(QUEUE, 400, 121, 50);
}

#[test]
#[ignore = "takes a minute"]
fn a_thousand_restarts_amid_the_calls_of_sixteen_clients_harm_none() {
    for (seed, config) in (11..).zip(CONFIGS) {
        restart(config, 404, seed, 1_000);
        restart(config, 400, seed + 100, 1_000);
    }
    restart(QUEUE, 404, 22, 200);
    restart(QUEUE, 400, 122, 200);
}
