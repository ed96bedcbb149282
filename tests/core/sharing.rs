//! Every sequence of up to four events between two callers and a server under `reuse`, against a model that is obvious.
//!
//! Whatever the order of events: all of a caller's clients have one session, and no request goes up in another caller's.

use crate::driver::Envoy;
use crate::sequences::every_sequence;
use crate::shared_model::{CALLERS, EVENTS, Event, Model, config};

const LENGTH: u32 = 4;

#[test]
fn no_short_sequence_of_events_gives_a_caller_two_sessions_or_another_callers() {
    let mut played = 0;
    for hold in [true, false] {
        let config = config(hold);
        let fresh = Envoy::new(config.to_string().as_bytes());
        for sequence in every_sequence(&EVENTS, CALLERS, LENGTH) {
            play(&fresh, hold, &sequence);
            played += 1;
        }
    }
    println!("{played} sequences of {LENGTH} events");
}

fn play(fresh: &Envoy, hold: bool, sequence: &[(Event, usize)]) {
    let mut envoy = fresh.copy();
    let mut model = Model::default();
    for (event, caller) in sequence {
        model.step(&mut envoy, *event, *caller, &format!("{hold} {sequence:?}"));
    }
}
