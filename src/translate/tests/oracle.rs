//! Both ways against `serde_json` and [`Events`], on bodies that are generated and bodies that are broken.
//!
//! The oracle has the whole body at once and reads it with a parser that others wrote. A failing case prints the seed
//! that makes it again.

use super::generate;
use crate::bodies::{Case, Random, damage};
use crate::sse::Events;
use crate::translate::Incoming;
use crate::translation::{Nothing, align, check, come_down, go_up, pieces};

const CASES: u64 = 30_000;

#[test]
fn generated_bodies_go_up_with_the_ids_that_a_slow_model_expects() {
    let mut translated = 0;
    for seed in 0..CASES {
        let mut random = Random(seed);
        let case = Case::new(seed, generate::body(&mut random));
        let is_translated = check(&case.body, &mut random);
        translated += u64::from(is_translated.expect("the oracle reads it"));
    }
    let enough = CASES / 4..CASES * 3 / 4;
    assert!(enough.contains(&translated), "one-sided: {translated}");
}

#[test]
fn broken_bodies_come_to_no_harm() {
    let mut readable = 0;
    for seed in CASES..2 * CASES {
        let mut random = Random(seed);
        let mut body = generate::body(&mut random);
        for _ in 0..=random.below(3) {
            damage(&mut body, &mut random);
        }
        let case = Case::new(seed, body);
        readable += u64::from(check(&case.body, &mut random).is_some());
    }
    let enough = CASES / 10..CASES * 9 / 10;
    assert!(enough.contains(&readable), "one-sided: {readable}");
}

#[test]
fn events_of_broken_streams_hold_what_their_data_alone_would_become() {
    let mut restored = 0;
    for seed in 0..CASES {
        let mut random = Random(seed);
        let mut stream = generate::stream(&mut random, |random| {
            go_up(7, &[&generate::body(random)], &mut Nothing).0
        });
        for _ in 0..random.below(3) {
            damage(&mut stream, &mut random);
        }
        let case = Case::new(seed, stream);
        let out = come_down(Incoming::event_stream(), &[&case.body]);
        let pieces = pieces(&case.body, &mut random);
        assert!(come_down(Incoming::event_stream(), &pieces) == out, "cut");
        align(&case.body, &out);
        // A byte order mark belongs to bodies and streams, not to data.
        let alone = |data: Vec<u8>| {
            if data.starts_with(b"\xEF\xBB\xBF") {
                return data;
            }
            come_down(Incoming::json(), &[&data])
        };
        let expected: Vec<_> = events(&case.body).into_iter().map(alone).collect();
        assert!(events(&out) == expected, "events");
        restored += u64::from(out != case.body);
    }
    assert!(restored > CASES / 5, "one-sided: {restored}");
}

fn events(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut events = Events::new(usize::MAX);
    core::iter::from_fn(|| events.next_event(&mut stream)).collect()
}
