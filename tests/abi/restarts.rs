//! A server that dies again and again amid the calls of sixteen clients: each of them gets its own answers, nothing runs
//! twice, and no more sessions are opened than were lost.

use super::turmoil::Turmoil;

/// `memory.bulk_slots`, as it is by default.
const BULK_SLOTS: usize = 256;
/// So many keys are made as they are needed: one for each of these slots, and one that says how far expired sessions
/// were looked for.
const LATE_KEYS: usize = BULK_SLOTS + 1;

const CONFIGS: [&str; 4] = [
    r#""hold_request_headers":true"#,
    r#""hold_request_headers":false"#,
    r#""on_reinitialize":"reuse","hold_request_headers":true"#,
    r#""on_reinitialize":"reuse""#,
];

/// Has the server die so often. What is remembered has bounds, and grows no more once it has come to them.
fn restart(config: &str, unknown: u16, seed: u64, times: usize) {
    let config = format!(r#"{{{config},"memory":{{"bulk_slots":{BULK_SLOTS}}}}}"#);
    let mut turmoil = Turmoil::new(&config, unknown, seed);
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
#[ignore = "takes a minute"]
fn a_thousand_restarts_amid_the_calls_of_sixteen_clients_harm_none() {
    for (seed, config) in (11..).zip(CONFIGS) {
        restart(config, 404, seed, 1_000);
        restart(config, 400, seed + 100, 1_000);
    }
}
