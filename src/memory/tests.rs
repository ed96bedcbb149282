use super::*;
use crate::session::SessionId;
use crate::table::NEIGHBOURS;
use crate::testing::FakePlatform;

const ENDPOINT: Digest = Digest::from_bytes([0xE; 32]);

fn memory(slots: u32, per_caller: u32) -> Memory {
    let json = format!(r#"{{"memory": {{"slots": {slots}, "per_caller": {per_caller}}}}}"#);
    Memory::new(&Config::parse(json.as_bytes()).unwrap())
}

/// A caller whose home is slot 0, told from others by its number.
fn neighbour(number: u32) -> Digest {
    let mut bytes = [0; 32];
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    Digest::from_bytes(bytes)
}

/// A caller whose home is anywhere.
fn stranger(number: u32) -> Digest {
    let key = crate::digest::DigestKey::new(&[7; 32], b"");
    key.digest("test", [number.to_le_bytes().as_slice()])
}

fn session(id: &str, now: u64) -> Session {
    let id = SessionId::parse(id.as_bytes()).unwrap();
    Session::new(ENDPOINT, id, Millis(now))
}

fn learn(memory: &Memory, store: &FakePlatform, caller: Digest, id: &str, now: u64) -> Change {
    memory
        .change(store, &caller, Millis(now), |record| {
            record.learn(session(id, now));
        })
        .unwrap()
}

fn evicted(change: Change) -> usize {
    match change {
        Change::Done { evicted } => evicted,
        Change::GivenUp => panic!("nobody else wrote"),
    }
}

fn latest(memory: &Memory, store: &FakePlatform, caller: Digest, now: u64) -> Option<String> {
    let record = memory.recall(store, &caller, Millis(now)).unwrap()?;
    assert_eq!(record.caller, caller);
    let id = record.latest(&ENDPOINT)?.id.as_bytes().to_vec();
    Some(String::from_utf8(id).unwrap())
}

fn bytes_held(store: &FakePlatform) -> usize {
    store
        .dump()
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

#[test]
fn all_slots_exist_once_they_are_created_and_none_comes_later() {
    let (memory, store) = (memory(16, 4), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    assert_eq!(store.dump().len(), 16 + 1);
    for number in 0..1000 {
        learn(&memory, &store, stranger(number), "s", 1);
    }
    assert_eq!(store.dump().len(), 16 + 1);
    memory.create_slots(&store).unwrap();
    assert!(
        bytes_held(&store) > 16 * 32,
        "creating again empties nothing"
    );
}

#[test]
fn callers_in_one_neighbourhood_are_never_mixed_up() {
    let (memory, store) = (memory(64, 4), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    for number in 0..NEIGHBOURS {
        let change = learn(&memory, &store, neighbour(number), &format!("s{number}"), 1);
        assert_eq!(change, Change::Done { evicted: 0 });
    }
    for number in 0..NEIGHBOURS {
        let expected = Some(format!("s{number}"));
        assert_eq!(latest(&memory, &store, neighbour(number), 2), expected);
    }
    assert_eq!(latest(&memory, &store, neighbour(NEIGHBOURS), 2), None);
}

#[test]
fn a_full_neighbourhood_evicts_the_least_recently_used_caller() {
    let (memory, store) = (memory(64, 4), FakePlatform::default());
    for (number, now) in [(0, 40), (1, 10), (2, 30), (3, 20)] {
        learn(&memory, &store, neighbour(number), "s", now);
    }
    assert_eq!(evicted(learn(&memory, &store, neighbour(9), "s", 50)), 1);
    let left: Vec<u32> = (0..10)
        .filter(|number| latest(&memory, &store, neighbour(*number), 60).is_some())
        .collect();
    assert_eq!(left, [0, 2, 3, 9]);
}

#[test]
fn a_caller_that_opens_many_sessions_evicts_none_but_its_own() {
    let (memory, store) = (memory(1, 8), FakePlatform::default());
    let mut gone = 0;
    for number in 0..100 {
        gone += evicted(learn(
            &memory,
            &store,
            neighbour(1),
            &format!("s{number}"),
            number,
        ));
    }
    assert_eq!(gone, 92);
    let record = memory.recall(&store, &neighbour(1), Millis(100)).unwrap();
    assert_eq!(record.unwrap().sessions.len(), 8);
}

#[test]
fn a_million_callers_take_no_more_than_the_ceiling() {
    let config = Config::default();
    let (memory, store) = (Memory::new(&config), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    for number in 0..1_000_000 {
        learn(
            &memory,
            &store,
            stranger(number),
            "0123456789abcdef0123456789abcdef",
            1,
        );
    }
    let slots = config.memory.slots.get() as usize;
    let keys = slots * memory.table.key(4095).len() + 64;
    assert!(bytes_held(&store) <= slots * config.memory.slot_bytes() + keys);
    assert_eq!(store.dump().len(), slots + 1);
    assert_eq!(
        latest(&memory, &store, stranger(999_999), 2).as_deref(),
        Some("0123456789abcdef0123456789abcdef")
    );
}

#[test]
fn every_slot_filled_by_greedy_callers_stays_within_its_bytes() {
    let memory = memory(4, 64);
    let store = FakePlatform::default();
    let long = "x".repeat(SessionId::MAX_BYTES - 4);
    for number in 0..4 {
        for session in 0..100 {
            learn(
                &memory,
                &store,
                neighbour(number),
                &format!("{long}{session:04}"),
                1,
            );
        }
    }
    let values = store.dump().into_iter().map(|(_, value)| value.len());
    assert!(values.clone().all(|length| length <= 8192));
    assert!(values.sum::<usize>() > 4 * 4096);
}

#[test]
fn corrupt_and_foreign_slots_are_misses_and_are_taken_over() {
    let memory = memory(1, 4);
    for foreign in [&b"x"[..], &[0; 32], &[0xff; 500], b"{\"json\": true}"] {
        let store = FakePlatform::default();
        store.write(&memory.table.key(0), foreign, None).unwrap();
        assert_eq!(latest(&memory, &store, neighbour(1), 1), None);
        assert_eq!(evicted(learn(&memory, &store, neighbour(1), "s", 1)), 0);
        assert_eq!(
            latest(&memory, &store, neighbour(1), 1).as_deref(),
            Some("s")
        );
    }
}

#[test]
fn another_geometry_reads_other_keys() {
    let store = FakePlatform::default();
    learn(&memory(8, 4), &store, neighbour(1), "s", 1);
    assert_eq!(latest(&memory(16, 4), &store, neighbour(1), 1), None);
    assert_eq!(latest(&memory(8, 100), &store, neighbour(1), 1), None);
}

#[test]
fn what_another_worker_learned_meanwhile_is_kept() {
    let (memory, store) = (memory(8, 4), FakePlatform::default());
    learn(&memory, &store, neighbour(1), "first", 1);
    let other = memory.clone();
    store.before_next_write(move |store| {
        learn(&other, store, neighbour(1), "theirs", 2);
    });
    assert_eq!(
        learn(&memory, &store, neighbour(1), "ours", 3),
        Change::Done { evicted: 0 }
    );
    let record = memory
        .recall(&store, &neighbour(1), Millis(3))
        .unwrap()
        .unwrap();
    assert_eq!(record.sessions.len(), 3);
    assert_eq!(
        latest(&memory, &store, neighbour(1), 3).as_deref(),
        Some("ours")
    );
}

#[test]
fn a_slot_that_another_caller_took_meanwhile_is_not_overwritten_unseen() {
    let (memory, store) = (memory(2, 4), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    let other = memory.clone();
    store.before_next_write(move |store| {
        learn(&other, store, neighbour(2), "theirs", 2);
    });
    learn(&memory, &store, neighbour(1), "ours", 3);
    assert_eq!(
        latest(&memory, &store, neighbour(1), 3).as_deref(),
        Some("ours")
    );
    assert_eq!(
        latest(&memory, &store, neighbour(2), 3).as_deref(),
        Some("theirs")
    );
}

#[test]
fn a_change_that_is_overtaken_every_time_gives_up_and_changes_nothing() {
    let (memory, store) = (memory(1, 64), FakePlatform::default());
    learn(&memory, &store, neighbour(1), "first", 1);
    let theirs = memory.clone();
    let rounds = std::rc::Rc::new(std::cell::Cell::new(0));
    let result = memory.change(&store, &neighbour(1), Millis(9), {
        let (rounds, store) = (rounds.clone(), &store);
        move |record| {
            rounds.set(rounds.get() + 1);
            learn(
                &theirs,
                store,
                neighbour(1),
                &format!("theirs{}", rounds.get()),
                9,
            );
            record.learn(session("ours", 9));
        }
    });
    assert_eq!(result, Ok(Change::GivenUp));
    assert_eq!(rounds.get(), TRIES);
    let record = memory
        .recall(&store, &neighbour(1), Millis(9))
        .unwrap()
        .unwrap();
    assert!(
        record
            .sessions
            .iter()
            .all(|session| session.id.as_bytes() != b"ours")
    );
}

#[test]
fn a_store_that_fails_is_an_error_and_no_panic() {
    let memory = memory(8, 4);
    for calls in 0..20 {
        let store = FakePlatform::default();
        learn(&memory, &store, neighbour(1), "s", 1);
        store.fail_in(calls);
        let results = [
            memory.recall(&store, &neighbour(1), Millis(1)).map(|_| ()),
            memory
                .change(&store, &neighbour(1), Millis(1), |record| {
                    record.learn(session("t", 1));
                })
                .map(|_| ()),
            memory.sweep(&store, Millis(1)).map(|_| ()),
            memory.create_slots(&store),
        ];
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(failed, usize::from(!store.is_failure_pending()), "{calls}");
    }
}

#[test]
fn all_workers_end_up_with_one_salt() {
    let store = FakePlatform::default();
    store.before_next_write(move |store| {
        agree_on_salt(store, || Some([2; 32])).unwrap();
    });
    let first = agree_on_salt(&store, || Some([1; 32])).unwrap();
    assert_eq!(first, agree_on_salt(&store, || Some([3; 32])).unwrap());
    assert!(first.is_some());
}

#[test]
fn without_randomness_there_is_no_salt() {
    let store = FakePlatform::default();
    assert_eq!(agree_on_salt(&store, || None), Ok(None));
}

#[test]
fn a_use_is_written_down_eight_times_in_an_idle_timeout() {
    let memory = memory(8, 4);
    let used = session("s", 0);
    let eighth = 30 * 60 * 1000 / 8;
    assert!(!memory.is_refresh_due(&used, Millis(eighth - 1)));
    assert!(memory.is_refresh_due(&used, Millis(eighth)));
}

#[test]
fn a_sweep_empties_what_expired_and_counts_the_rest() {
    let (memory, store) = (memory(100, 4), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    let idle_timeout = 30 * 60 * 1000;
    for number in 0..10 {
        learn(&memory, &store, stranger(number), "old", 0);
    }
    for number in 10..15 {
        learn(&memory, &store, stranger(number), "young", idle_timeout);
        learn(&memory, &store, stranger(number), "younger", idle_timeout);
    }
    let counts: Vec<u32> = (0..100)
        .filter_map(|second| {
            let now = Millis(idle_timeout + second * 1000);
            memory.sweep(&store, now).unwrap()
        })
        .collect();
    assert_eq!(counts.len(), 4, "25 parts of 4 slots each, one a second");
    assert!(counts.iter().all(|count| *count == 10), "{counts:?}");
    let held = store
        .dump()
        .iter()
        .filter(|(key, value)| !key.ends_with("sweep") && !value.is_empty())
        .count();
    assert_eq!(held, 5);
}

#[test]
fn two_workers_sweep_each_part_once() {
    let (memory, store) = (memory(64, 4), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    learn(&memory, &store, neighbour(1), "s", 0);
    let counts: Vec<u32> = (0..64)
        .flat_map(|second| {
            let now = Millis(second * 1000);
            [memory.sweep(&store, now), memory.sweep(&store, now)]
        })
        .filter_map(Result::unwrap)
        .collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_the_sweep() {
    let (memory, store) = (memory(1, 4), FakePlatform::default());
    memory.create_slots(&store).unwrap();
    assert!(
        memory
            .sweep(&store, Millis(1_000_000_000))
            .unwrap()
            .is_some()
    );
    assert!(
        memory
            .sweep(&store, Millis(1_000_000_001))
            .unwrap()
            .is_none()
    );
    assert!(memory.sweep(&store, Millis(5)).unwrap().is_some());
}
