use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::memory::Rewritten;
use crate::subrequest::Target;
use crate::testing::FakePlatform;
use crate::upstream_host::UpstreamHost;

const NOW: Millis = Millis(1_000_000);
const LEASE_OVER: Millis = Millis(NOW.0 + 6_250);
const CAPABILITIES: Digest = Digest::from_bytes([0xC; 32]);
const CALLER: Digest = Digest::from_bytes([0xA; 32]);
const RESULT: &[u8] = br#"{"serverInfo":{}}"#;

fn seats(slots: u32) -> (Seats, FakePlatform) {
    let json = format!(r#"{{"memory": {{"bulk_slots": {slots}}}}}"#);
    let seats = Seats::new(&Config::parse(json.as_bytes()).unwrap());
    let store = FakePlatform::default();
    seats.create(&store).unwrap();
    (seats, store)
}

/// A seat whose home is slot 0, told from others by its number.
fn key(number: u8) -> Digest {
    let mut bytes = [0; 32];
    bytes[31] = number;
    Digest::from_bytes(bytes)
}

fn ticket(number: u64) -> Ticket {
    Ticket { number, vm: 1 }
}

fn knock(number: u64) -> Knock {
    Knock {
        ticket: ticket(number),
        arrived: NOW,
        capabilities: CAPABILITIES,
        shares: true,
        is_told: false,
        backoff: core::time::Duration::ZERO,
        since: Millis(0),
    }
}

/// When a VM that has said nothing since is no more.
const DEAD: Millis = Millis(NOW.0 + 5_000);

fn alone(number: u64) -> Knock {
    Knock {
        shares: false,
        ..knock(number)
    }
}

fn gone(session: &SessionId) -> Gone<'_> {
    Gone {
        caller: &CALLER,
        session,
        opened_by: Millis(u64::MAX),
    }
}

fn failed_at(at: Millis) -> Failure {
    Failure {
        at,
        capabilities: CAPABILITIES,
    }
}

fn holder(number: u64, now: Millis) -> Holder {
    Holder {
        caller: CALLER,
        endpoint: Digest::from_bytes([0xE; 32]),
        target: Target {
            cluster: "server".to_owned(),
            path: "/mcp".to_owned(),
            authority: "mcp.test".to_owned(),
            host: None,
        },
        session: id(number),
        capabilities: CAPABILITIES,
        opening: number,
        opened: now,
        used: now,
    }
}

fn id(session: u64) -> SessionId {
    SessionId::parse(format!("s{session}").as_bytes()).unwrap()
}

fn knocks(seats: &Seats, store: &FakePlatform, seat: u8, knock: &Knock, now: Millis) -> Knocked {
    seats.knock(store, &key(seat), knock, now).unwrap()
}

/// The session of this number is opened at the seat, by the ticket of the same number.
fn open(seats: &Seats, store: &FakePlatform, seat: u8, number: u64, now: Millis) {
    let turn = knocks(seats, store, seat, &knock(number), now);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
    take(seats, store, seat, number, now, Some(RESULT));
}

fn take(
    seats: &Seats,
    store: &FakePlatform,
    seat: u8,
    number: u64,
    now: Millis,
    result: Option<&[u8]>,
) -> Changed {
    let holder = holder(number, now);
    seats
        .take(store, &key(seat), ticket(number), &holder, result)
        .unwrap()
}

fn there(seats: &Seats, store: &FakePlatform, seat: u8) -> Option<Seat> {
    seats
        .find(store, &key(seat))
        .unwrap()
        .map(|place| place.seat)
}

fn is_taken(seats: &Seats, store: &FakePlatform, seat: u8) -> bool {
    there(seats, store, seat).is_some_and(|seat| matches!(seat.state, State::Taken(_)))
}

fn joins(number: u64, now: Millis) -> Knocked {
    Knocked::Join(Box::new(holder(number, now)), RESULT.to_vec())
}

/// The next so many writes come too late: others have written all slots since they were read.
fn overtake(store: &FakePlatform, times: u32) {
    if times == 0 {
        return;
    }
    store.before_next_write(move |store| {
        for (key, value) in store.dump() {
            store.write(&key, &value, None).unwrap();
        }
        overtake(store, times - 1);
    });
}

const WAITS: Knocked = Knocked::Turn(Turn::Wait { queued: false });
const QUEUES: Knocked = Knocked::Turn(Turn::Wait { queued: true });

#[test]
fn who_knocks_at_a_taken_seat_joins_its_session_with_what_the_server_said() {
    let (seats, store) = seats(16);
    open(&seats, &store, 1, 7, NOW);
    for now in [NOW, LEASE_OVER] {
        let turn = knocks(&seats, &store, 1, &knock(8), now);
        assert_eq!(turn, joins(7, NOW));
    }
}

#[test]
fn seats_with_one_home_are_never_mixed_up() {
    let (seats, store) = seats(16);
    for number in 0..4 {
        open(&seats, &store, number, 100 + u64::from(number), NOW);
    }
    for number in 0..4 {
        let turn = knocks(&seats, &store, number, &knock(8), NOW);
        assert_eq!(turn, joins(100 + u64::from(number), NOW));
    }
}

#[test]
fn a_seat_that_made_room_is_a_miss_and_its_words_go_to_nobody() {
    let (seats, store) = seats(1);
    open(&seats, &store, 1, 7, NOW);
    let turn = knocks(&seats, &store, 2, &knock(7), NOW);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
    assert_eq!(there(&seats, &store, 1), None);
    take(&seats, &store, 2, 7, NOW, None);
    assert_eq!(knocks(&seats, &store, 2, &knock(9), NOW), QUEUES);
}

#[test]
fn a_seat_that_two_place_at_the_same_time_stands_in_one_slot_in_the_end() {
    let (seats, store) = seats(16);
    let rival = seats.clone();
    store.before_next_write(move |store| {
        let mut seat = Seat::new(key(1));
        seat.state = State::Opening(ticket(2));
        store
            .write(&rival.table.key(1), &seat.encode(), None)
            .unwrap();
    });
    assert_eq!(knocks(&seats, &store, 1, &knock(1), NOW), WAITS);
    let standing = store.dump().into_iter();
    let standing = standing.filter(|(_, value)| value.starts_with(key(1).as_bytes()));
    assert_eq!(standing.count(), 1);
    assert!(take(&seats, &store, 1, 2, NOW, Some(RESULT)).wakes);
}

#[test]
fn the_seat_that_was_used_least_recently_makes_room() {
    let (seats, store) = seats(16);
    for (number, after) in [(0, 40), (1, 10), (2, 30), (3, 20)] {
        open(&seats, &store, number, 7, Millis(NOW.0 + after));
    }
    let touched = seats.touch(&store, &key(1), &id(7), Millis(NOW.0 + 50));
    assert!(touched.unwrap().is_done);
    open(&seats, &store, 9, 7, Millis(LEASE_OVER.0 + 50));
    let left: Vec<u8> = (0..10)
        .filter(|number| is_taken(&seats, &store, *number))
        .collect();
    assert_eq!(left, [0, 1, 2, 9]);
}

#[test]
fn a_free_seat_makes_room_before_one_with_a_session() {
    let (seats, store) = seats(16);
    for number in 0..4 {
        open(&seats, &store, number, 7, NOW);
    }
    seats.release(&store, &key(2), gone(&id(7))).unwrap();
    open(&seats, &store, 9, 7, LEASE_OVER);
    let left = (0..4).filter(|number| there(&seats, &store, *number).is_some());
    assert_eq!(left.collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn a_seat_that_is_waited_for_or_about_to_be_taken_or_freed_makes_no_room() {
    let prepared: [fn(&Seats, &FakePlatform); 3] = [
        |seats, store| {
            open(seats, store, 1, 7, NOW);
            assert_eq!(knocks(seats, store, 1, &alone(2), NOW), QUEUES);
        },
        |seats, store| {
            let turn = knocks(seats, store, 1, &alone(2), NOW);
            assert_eq!(turn, Knocked::Turn(Turn::Open));
        },
        |seats, store| {
            open(seats, store, 1, 7, NOW);
            let turn = knocks(seats, store, 1, &alone(2), LEASE_OVER);
            assert!(matches!(turn, Knocked::Turn(Turn::Close(_))));
        },
    ];
    for prepare in prepared {
        let (seats, store) = seats(1);
        prepare(&seats, &store);
        let before = there(&seats, &store, 1);
        let much_later = Millis(NOW.0 + 1_000_000_000);
        let turn = knocks(&seats, &store, 2, &knock(8), much_later);
        assert_eq!(turn, Knocked::NoSeat);
        assert_eq!(there(&seats, &store, 1), before);
    }
}

#[test]
fn what_a_dead_vm_left_at_a_seat_makes_room_for_another() {
    for prepare in [knock, alone] {
        let (seats, store) = seats(1);
        let dead = Knock {
            ticket: Ticket { number: 2, vm: 66 },
            ..prepare(2)
        };
        let turn = knocks(&seats, &store, 1, &dead, NOW);
        assert_eq!(turn, Knocked::Turn(Turn::Open));
        let turn = knocks(&seats, &store, 2, &knock(8), NOW);
        assert_eq!(turn, Knocked::NoSeat, "it lives, as far as is known");
        open(&seats, &store, 2, 8, DEAD);
    }
}

#[test]
fn one_whose_vm_has_said_a_moment_ago_that_it_lives_is_waited_for() {
    let (seats, store) = seats(1);
    Roster::create(&store).unwrap();
    let other = Knock {
        ticket: Ticket { number: 2, vm: 66 },
        ..knock(2)
    };
    assert_eq!(
        knocks(&seats, &store, 1, &other, NOW),
        Knocked::Turn(Turn::Open)
    );
    assert_eq!(knocks(&seats, &store, 1, &knock(8), NOW), WAITS);
    let turn = knocks(&seats, &store, 1, &knock(8), DEAD);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
}

#[test]
fn a_session_without_words_is_shared_with_nobody() {
    let (seats, store) = seats(16);
    open(&seats, &store, 1, 7, NOW);
    seats.release(&store, &key(1), gone(&id(7))).unwrap();
    let turn = knocks(&seats, &store, 1, &knock(8), NOW);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
    take(&seats, &store, 1, 8, NOW, None);
    let turn = knocks(&seats, &store, 1, &knock(9), NOW);
    assert_eq!(turn, QUEUES, "the words are those of an earlier session");
    let turn = knocks(&seats, &store, 1, &knock(9), LEASE_OVER);
    assert!(matches!(turn, Knocked::Turn(Turn::Close(_))));
}

#[test]
fn who_can_not_share_for_want_of_words_keeps_its_place_in_line() {
    let (seats, store) = seats(16);
    let turn = knocks(&seats, &store, 1, &knock(7), NOW);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
    take(&seats, &store, 1, 7, NOW, None);
    assert_eq!(knocks(&seats, &store, 1, &knock(8), NOW), QUEUES);
    assert_eq!(knocks(&seats, &store, 1, &knock(9), NOW), QUEUES);
    assert_eq!(knocks(&seats, &store, 1, &knock(8), NOW), WAITS);
    assert_eq!(knocks(&seats, &store, 1, &knock(9), LEASE_OVER), WAITS);
    let turn = knocks(&seats, &store, 1, &knock(8), LEASE_OVER);
    assert!(matches!(turn, Knocked::Turn(Turn::Close(_))));
}

#[test]
fn a_session_that_is_too_old_or_was_idle_for_too_long_is_given_to_nobody_more() {
    for (minutes, is_busy) in [(24 * 60, true), (30, false)] {
        let (seats, store) = seats(16);
        open(&seats, &store, 1, 7, NOW);
        let over = Millis(NOW.0 + minutes * 60 * 1000);
        let before = Millis(over.0 - 1);
        if is_busy {
            seats.touch(&store, &key(1), &id(7), before).unwrap();
        }
        let turn = knocks(&seats, &store, 1, &knock(8), before);
        assert!(matches!(turn, Knocked::Join(..)));
        let turn = knocks(&seats, &store, 1, &knock(8), over);
        assert!(matches!(turn, Knocked::Turn(Turn::Close(_))));
    }
}

#[test]
fn a_refusal_is_given_to_those_who_waited_for_it_and_to_nobody_who_came_later() {
    let (seats, store) = seats(16);
    let turn = knocks(&seats, &store, 1, &knock(1), NOW);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
    assert_eq!(knocks(&seats, &store, 1, &knock(2), NOW), WAITS);
    assert_eq!(knocks(&seats, &store, 1, &knock(3), NOW), WAITS);
    let refused = Millis(NOW.0 + 10);
    let changed = seats.fail(&store, &key(1), ticket(1), Some(b"no"), failed_at(refused));
    assert_eq!(
        changed.unwrap(),
        Changed {
            is_done: true,
            wakes: true
        }
    );
    let given = Knocked::Failed(b"no".to_vec());
    assert_eq!(knocks(&seats, &store, 1, &knock(2), refused), given);
    let later = Knock {
        arrived: Millis(NOW.0 + 11),
        ..knock(4)
    };
    let turn = knocks(&seats, &store, 1, &later, later.arrived);
    assert_eq!(turn, Knocked::Turn(Turn::Open), "and tries anew");
    assert_eq!(knocks(&seats, &store, 1, &knock(3), refused), WAITS);
}

#[test]
fn a_refusal_without_words_or_with_too_many_lets_each_try_itself() {
    let many = vec![b'x'; WORDS_BYTES + 1];
    for words in [None, Some(many.as_slice())] {
        let (seats, store) = seats(16);
        for number in [1, 2] {
            knocks(&seats, &store, 1, &knock(number), NOW);
        }
        let changed = seats.fail(&store, &key(1), ticket(1), words, failed_at(NOW));
        assert!(changed.unwrap().wakes);
        let turn = knocks(&seats, &store, 1, &knock(2), NOW);
        assert_eq!(turn, Knocked::Turn(Turn::Open));
    }
}

#[test]
fn a_refusal_whose_words_were_lost_is_none() {
    let (seats, store) = seats(16);
    for number in [1, 2] {
        knocks(&seats, &store, 1, &knock(number), NOW);
    }
    let failed = seats.fail(&store, &key(1), ticket(1), Some(b"no"), failed_at(NOW));
    assert!(failed.unwrap().is_done);
    store.write(&seats.words_key(0), b"", None).unwrap();
    let turn = knocks(&seats, &store, 1, &knock(2), NOW);
    assert_eq!(turn, Knocked::Turn(Turn::Open));
}

#[test]
fn words_that_were_cut_short_are_given_to_nobody() {
    let (seats, store) = seats(16);
    open(&seats, &store, 1, 7, NOW);
    let words_key = seats.words_key(0);
    let whole = store.read(&words_key).unwrap().unwrap().value;
    for length in 0..whole.len() {
        store.write(&words_key, &whole[..length], None).unwrap();
        let turn = knocks(&seats, &store, 1, &knock(8), NOW);
        assert!(matches!(turn, Knocked::Turn(_)), "{length}");
    }
    store.write(&words_key, &whole, None).unwrap();
    assert_eq!(knocks(&seats, &store, 1, &knock(8), NOW), joins(7, NOW));
}

#[test]
fn who_comes_back_to_a_seat_that_is_not_kept_for_it_changes_nothing_there() {
    let (seats, store) = seats(16);
    open(&seats, &store, 1, 7, NOW);
    let before = store.dump();
    assert!(!take(&seats, &store, 1, 6, NOW, Some(b"{}")).is_done);
    let failed = seats.fail(&store, &key(1), ticket(6), Some(b"no"), failed_at(NOW));
    assert!(!failed.unwrap().wakes);
    assert!(!seats.free(&store, &key(1), ticket(6)).unwrap().wakes);
    assert!(store.dump() == before);
    assert_eq!(knocks(&seats, &store, 1, &knock(8), NOW), joins(7, NOW));
}

#[test]
fn at_a_seat_that_stands_nowhere_nothing_is_changed() {
    let (seats, store) = seats(16);
    let before = store.dump();
    let none = Changed::default();
    assert_eq!(take(&seats, &store, 1, 7, NOW, Some(RESULT)), none);
    let key = key(1);
    for changed in [
        seats.fail(&store, &key, ticket(7), Some(b"no"), failed_at(NOW)),
        seats.free(&store, &key, ticket(7)),
        seats.release(&store, &key, gone(&id(7))),
        seats.touch(&store, &key, &id(7), NOW),
        seats.distrust(&store, &key, &id(7)),
    ] {
        assert_eq!(changed.unwrap(), none);
    }
    let left = seats.leave(&store, &key, ticket(7)).unwrap();
    assert!(left.is_done && !left.wakes, "it stands in no line there");
    assert!(store.dump() == before);
}

#[test]
fn those_who_wait_are_woken_by_what_changes_and_by_nothing_else() {
    let (seats, store) = seats(16);
    let wakes = |changed: Result<Changed, PlatformError>| changed.unwrap().wakes;
    open(&seats, &store, 1, 7, NOW);
    let key = key(1);
    assert!(!wakes(seats.distrust(&store, &key, &id(7))), "nobody waits");
    seats.release(&store, &key, gone(&id(7))).unwrap();

    knocks(&seats, &store, 1, &knock(1), NOW);
    knocks(&seats, &store, 1, &knock(2), NOW);
    assert!(take(&seats, &store, 1, 1, NOW, Some(RESULT)).wakes);
    assert!(
        !wakes(seats.release(&store, &key, gone(&id(1)))),
        "who watched was woken before"
    );

    knocks(&seats, &store, 1, &alone(1), NOW);
    knocks(&seats, &store, 1, &alone(2), NOW);
    assert!(!wakes(seats.leave(&store, &key, ticket(9))));
    assert!(!wakes(seats.release(&store, &key, gone(&id(9)))));
    assert!(wakes(seats.free(&store, &key, ticket(1))));
    assert!(!wakes(seats.leave(&store, &key, ticket(2))), "the last one");
}

#[test]
fn a_session_that_has_expired_is_found_once_whatever_the_number_of_its_slot() {
    let (seats, store) = seats(16);
    open(&seats, &store, 1, 7, NOW);
    let idle = Millis(NOW.0 + 30 * 60 * 1000);
    let find = |slot, now| {
        seats
            .expire(&store, slot, ticket(5), now, |_, _| true)
            .unwrap()
    };
    assert_eq!(find(0, Millis(idle.0 - 1)), None);
    assert_eq!(find(1, idle), None);
    let other = seats.expire(&store, 0, ticket(5), idle, |seat, _| *seat != key(1));
    assert_eq!(other.unwrap(), None, "not one that is meant");
    assert_eq!(find(32, idle), Some((key(1), Box::new(holder(7, NOW)))));
    assert_eq!(find(0, idle), None);
    let seat = there(&seats, &store, 1).unwrap();
    assert_eq!(seat.state, State::Closing(ticket(5)));
}

#[test]
fn of_two_who_find_an_expired_session_one_ends_it() {
    let (seats, store) = seats(16);
    open(&seats, &store, 1, 7, NOW);
    overtake(&store, 1);
    let late = Millis(NOW.0 + 30 * 60 * 1000);
    let found = seats
        .expire(&store, 0, ticket(5), late, |_, _| true)
        .unwrap();
    assert_eq!(found, None);
    assert!(is_taken(&seats, &store, 1));
}

#[test]
fn a_race_that_is_lost_is_run_again_but_not_for_ever() {
    let (seats, store) = seats(16);
    overtake(&store, TRIES - 1);
    open(&seats, &store, 1, 7, NOW);
    overtake(&store, TRIES - 1);
    assert!(seats.distrust(&store, &key(1), &id(7)).unwrap().is_done);
    overtake(&store, TRIES);
    let changed = seats.release(&store, &key(1), gone(&id(7)));
    assert_eq!(changed.unwrap(), Changed::default());
    assert!(is_taken(&seats, &store, 1));
    overtake(&store, TRIES);
    let turn = knocks(&seats, &store, 2, &knock(8), NOW);
    assert_eq!(turn, Knocked::NoSeat);
}

#[test]
fn of_two_who_knock_at_the_same_time_one_opens() {
    let (seats, store) = seats(16);
    let rival = seats.clone();
    store.before_next_write(move |store| {
        let turn = knocks(&rival, store, 1, &knock(2), NOW);
        assert_eq!(turn, Knocked::Turn(Turn::Open));
    });
    assert_eq!(knocks(&seats, &store, 1, &knock(1), NOW), WAITS);
    assert!(take(&seats, &store, 1, 2, NOW, Some(RESULT)).wakes);
}

#[test]
fn of_two_vms_of_which_nobody_has_heard_before_one_opens_however_their_calls_interleave() {
    for calls in 0.. {
        let (seats, store) = seats(16);
        Roster::create(&store).unwrap();
        let turns = Rc::new(RefCell::new(Vec::new()));
        let (rival, told) = (seats.clone(), turns.clone());
        store.after_calls(calls, move |store| {
            let other = Knock {
                ticket: Ticket { number: 2, vm: 66 },
                ..knock(2)
            };
            told.borrow_mut()
                .push(knocks(&rival, store, 1, &other, NOW));
        });
        let turn = knocks(&seats, &store, 1, &knock(1), NOW);
        if store.is_act_pending() {
            assert!(calls > 6, "it says that it lives, looks, and writes");
            break;
        }
        turns.borrow_mut().push(turn);
        let opens = |turn: &&Knocked| **turn == Knocked::Turn(Turn::Open);
        assert_eq!(turns.borrow().iter().filter(opens).count(), 1, "{calls}");
    }
}

#[test]
fn each_failure_of_the_store_is_an_error() {
    type Act = fn(&Seats, &FakePlatform) -> Result<(), PlatformError>;
    let acts: [Act; 9] = [
        |seats, store| seats.knock(store, &key(1), &knock(8), NOW).map(|_| ()),
        |seats, store| {
            let holder = holder(9, NOW);
            let result = Some(RESULT);
            seats
                .take(store, &key(3), ticket(9), &holder, result)
                .map(|_| ())
        },
        |seats, store| {
            seats
                .fail(store, &key(3), ticket(9), Some(b"no"), failed_at(NOW))
                .map(|_| ())
        },
        |seats, store| seats.free(store, &key(3), ticket(9)).map(|_| ()),
        |seats, store| seats.release(store, &key(1), gone(&id(7))).map(|_| ()),
        |seats, store| seats.touch(store, &key(1), &id(7), LEASE_OVER).map(|_| ()),
        |seats, store| seats.distrust(store, &key(1), &id(7)).map(|_| ()),
        |seats, store| {
            let late = Millis(u64::MAX);
            seats
                .expire(store, 0, ticket(5), late, |_, _| true)
                .map(|_| ())
        },
        |seats, store| seats.create(store),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        for call in 0.. {
            let (seats, store) = seats(16);
            open(&seats, &store, 1, 7, NOW);
            knocks(&seats, &store, 3, &knock(9), NOW);
            store.fail_in(call);
            let done = act(&seats, &store);
            if store.is_failure_pending() {
                assert_eq!(done, Ok(()));
                assert!(call > 0, "act {number} never asks the store");
                break;
            }
            assert!(done.is_err(), "act {number}, call {call}");
        }
    }
}

#[test]
fn who_knocks_in_vain_because_the_store_fails_leaves_nothing_behind() {
    for call in 0.. {
        let (seats, store) = seats(16);
        store.fail_in(call);
        let turn = seats.knock(&store, &key(1), &knock(8), NOW);
        if store.is_failure_pending() {
            assert!(call > 5, "it looks for room, writes, and looks for a twin");
            break;
        }
        match turn {
            Ok(turn) => assert_eq!(turn, Knocked::Turn(Turn::Open)),
            Err(_) => assert_eq!(there(&seats, &store, 1), None),
        }
    }
}

#[test]
fn a_slot_that_holds_no_seat_is_taken_over() {
    for foreign in [&b"x"[..], &[0; 32], &[0xff; 500], key(1).as_bytes()] {
        let (seats, store) = seats(1);
        store.write(&seats.table.key(0), foreign, None).unwrap();
        store.write(&seats.words_key(0), foreign, None).unwrap();
        open(&seats, &store, 1, 7, NOW);
        assert_eq!(knocks(&seats, &store, 1, &knock(8), NOW), joins(7, NOW));
    }
}

#[test]
fn whatever_comes_to_stand_there_seats_take_no_more_than_their_ceiling() {
    const SLOTS: u32 = 4;
    const QUEUE: u64 = 64;
    let (seats, store) = seats(SLOTS);
    let longest_host = format!("[{}%4294967295]:65535", ["ffff"; 8].join(":"));
    let longest = Target {
        cluster: "c".repeat(60),
        path: "p".repeat(Rewritten::MAX_PATH_BYTES),
        authority: "a".repeat(Rewritten::MAX_AUTHORITY_BYTES),
        host: UpstreamHost::parse(longest_host.as_bytes()),
    };
    for round in 0..100_u8 {
        let now = Millis(NOW.0 + u64::from(round) * 60_000);
        let number = 1000 * (u64::from(round) + 1);
        let turn = knocks(&seats, &store, round, &knock(number), now);
        if turn != Knocked::Turn(Turn::Open) {
            assert_eq!(turn, Knocked::NoSeat, "all are waited for");
            continue;
        }
        let holder = Holder {
            session: SessionId::parse(&[b'x'; SessionId::MAX_BYTES]).unwrap(),
            target: longest.clone(),
            ..holder(number, now)
        };
        let (key, words) = (key(round), vec![b'w'; WORDS_BYTES]);
        let taken = seats.take(&store, &key, ticket(number), &holder, Some(&words));
        assert!(taken.unwrap().is_done);
        for other in 1..=QUEUE {
            let turn = knocks(&seats, &store, round, &alone(number + other), now);
            assert_eq!(turn, QUEUES);
        }
        let turn = knocks(&seats, &store, round, &alone(number + QUEUE + 1), now);
        assert_eq!(turn, Knocked::Turn(Turn::Refuse));
    }
    let line = 16 * usize::try_from(QUEUE).unwrap();
    let texts = SessionId::MAX_BYTES
        + longest.cluster.len()
        + Rewritten::MAX_PATH_BYTES
        + Rewritten::MAX_AUTHORITY_BYTES;
    let seat = 42 + 3 * 32 + 3 * 8 + 4 * 2 + 1 + longest_host.len() + texts + line;
    assert!(seat <= 7 * 1024, "a seat takes {seat} bytes");
    let words = 48 + WORDS_BYTES;
    let mut sizes: Vec<usize> = store.dump().iter().map(|(_, value)| value.len()).collect();
    sizes.sort_unstable();
    let roster = 16;
    assert_eq!(sizes, [&[0, roster][..], &[seat; 4], &[words; 4]].concat());
    assert!(seat + words <= 40 * 1024, "what the README says");
}
