mod worlds;

use super::*;
use crate::upstream_host::UpstreamHost;

const LEASE: Duration = Duration::from_secs(5);
const MOST: usize = 3;
const NOW: Millis = Millis(1_000_000);
const LEASE_OVER: Millis = Millis(NOW.0 + 5_000);
const CAPABILITIES: Digest = Digest::from_bytes([0xC; 32]);
const OTHERS: Digest = Digest::from_bytes([0xD; 32]);
const CALLER: Digest = Digest::from_bytes([0xA; 32]);
const REFUSED: Failure = Failure {
    at: NOW,
    capabilities: CAPABILITIES,
};

fn ticket(number: u64) -> Ticket {
    Ticket {
        number,
        vm: number % 2,
    }
}

/// One that wants a session of its own.
fn alone(number: u64) -> Knock {
    Knock {
        ticket: ticket(number),
        arrived: NOW,
        capabilities: CAPABILITIES,
        shares: false,
        is_told: false,
        backoff: core::time::Duration::ZERO,
        since: Millis(0),
    }
}

fn sharing(number: u64) -> Knock {
    Knock {
        shares: true,
        ..alone(number)
    }
}

fn with_others(number: u64) -> Knock {
    Knock {
        capabilities: OTHERS,
        ..sharing(number)
    }
}

fn id(session: u64) -> SessionId {
    SessionId::parse(format!("s{session}").as_bytes()).unwrap()
}

fn gone(session: &SessionId) -> Gone<'_> {
    Gone {
        caller: &CALLER,
        session,
        opened_by: NOW,
    }
}

fn holder(session: u64) -> Holder {
    Holder {
        caller: CALLER,
        endpoint: Digest::from_bytes([0xE; 32]),
        target: Target {
            cluster: "server".to_owned(),
            path: "/mcp".to_owned(),
            authority: "mcp.test".to_owned(),
            host: UpstreamHost::parse(b"10.0.0.1:80"),
        },
        session: id(session),
        capabilities: CAPABILITIES,
        opening: session,
        opened: NOW,
        used: NOW,
    }
}

fn seat(state: State, line: &[u64]) -> Seat {
    Seat {
        state,
        line: line.iter().copied().map(ticket).collect(),
        ..Seat::new(Digest::from_bytes([7; 32]))
    }
}

fn free() -> Seat {
    seat(State::Free, &[])
}

fn opening(number: u64) -> State {
    State::Opening(ticket(number))
}

fn closing(number: u64) -> State {
    State::Closing(ticket(number))
}

fn taken(session: u64) -> State {
    State::Taken(Box::new(holder(session)))
}

fn numbers(seat: &Seat) -> Vec<u64> {
    seat.line.iter().map(|ticket| ticket.number).collect()
}

fn knocks(seat: &mut Seat, knock: Knock, now: Millis) -> Turn {
    seat.knock(&knock, now, LEASE, MOST)
}

const WAITS: Turn = Turn::Wait { queued: false };
const QUEUES: Turn = Turn::Wait { queued: true };

#[test]
fn a_clock_that_was_set_back_lets_nobody_take_its_own_session_for_an_older_one() {
    let since = |number| Knock {
        since: Millis(NOW.0 + 1),
        ..sharing(number)
    };
    let mut own = seat(taken(1), &[]);
    let joined = Turn::Join(Box::new(holder(1)));
    assert_eq!(knocks(&mut own, since(1), NOW), joined);
    assert_eq!(
        knocks(&mut own, since(2), NOW),
        Turn::Open,
        "to others it is older"
    );
}

#[test]
fn at_a_free_seat_whoever_is_next_opens_and_nobody_else() {
    for knock in [alone, sharing] {
        let mut empty = free();
        assert_eq!(knocks(&mut empty, knock(1), NOW), Turn::Open);
        assert_eq!(empty.state, opening(1));

        let mut waited_for = seat(State::Free, &[2, 3]);
        assert_eq!(knocks(&mut waited_for, knock(1), NOW), QUEUES);
        assert_eq!(knocks(&mut waited_for, knock(3), NOW), WAITS);
        assert_eq!(knocks(&mut waited_for, knock(2), NOW), Turn::Open);
        assert_eq!(waited_for.state, opening(2));
        assert_eq!(numbers(&waited_for), [3, 1]);
    }
}

#[test]
fn while_a_session_is_opened_or_closed_those_who_may_share_watch_and_others_line_up() {
    for state in [opening(9), closing(9)] {
        let mut seat = seat(state.clone(), &[]);
        assert_eq!(knocks(&mut seat, alone(9), NOW), WAITS, "its own");
        assert_eq!(knocks(&mut seat, sharing(9), NOW), WAITS, "its own");
        assert!(!seat.watched && seat.line.is_empty());
        assert_eq!(knocks(&mut seat, sharing(1), NOW), WAITS);
        assert!(seat.watched && seat.line.is_empty());
        assert_eq!(knocks(&mut seat, alone(2), NOW), QUEUES);
        assert_eq!(knocks(&mut seat, alone(2), LEASE_OVER), WAITS);
        assert_eq!(numbers(&seat), [2]);
        assert_eq!(seat.state, state);
    }
}

#[test]
fn a_session_is_shared_by_those_with_its_capabilities_and_closed_for_others_once_its_lease_is_over()
{
    let shared = Turn::Join(Box::new(holder(9)));
    let mut place = seat(taken(9), &[5, 1]);
    assert_eq!(knocks(&mut place, sharing(1), LEASE_OVER), shared);
    assert_eq!(numbers(&place), [5], "it waits no more");
    for knock in [alone, with_others] {
        let mut place = seat(taken(9), &[]);
        let early = Millis(LEASE_OVER.0 - 1);
        assert_eq!(knocks(&mut place, knock(1), early), QUEUES);
        assert_eq!(knocks(&mut place, knock(2), LEASE_OVER), QUEUES);
        assert_eq!(
            knocks(&mut place, knock(2), LEASE_OVER),
            WAITS,
            "not its turn"
        );
        let close = Turn::Close(Box::new(holder(9)));
        assert_eq!(knocks(&mut place, knock(1), LEASE_OVER), close);
        assert_eq!(place.state, closing(1));
        assert_eq!(numbers(&place), [1, 2], "it keeps its place until it opens");
    }
}

#[test]
fn who_closes_a_session_at_once_is_first_in_line() {
    let mut place = seat(taken(9), &[]);
    let turn = knocks(&mut place, alone(1), LEASE_OVER);
    assert_eq!(turn, Turn::Close(Box::new(holder(9))));
    assert_eq!(numbers(&place), [1]);
    assert_eq!(knocks(&mut place, alone(2), LEASE_OVER), QUEUES);
    place.free(ticket(1), None);
    assert_eq!(knocks(&mut place, alone(2), LEASE_OVER), WAITS);
    assert_eq!(knocks(&mut place, alone(1), LEASE_OVER), Turn::Open);
}

#[test]
fn a_line_has_a_bound_that_those_in_it_do_not_feel() {
    for state in [opening(9), closing(9), taken(9), State::Free] {
        let mut place = seat(state, &[1, 2, 3]);
        assert_eq!(knocks(&mut place, alone(4), NOW), Turn::Refuse);
        assert_eq!(knocks(&mut place, alone(3), NOW), WAITS);
        assert_eq!(numbers(&place), [1, 2, 3]);
        place.leave(ticket(2));
        assert_eq!(knocks(&mut place, alone(4), NOW), QUEUES);
    }
}

#[test]
fn a_failure_is_given_to_those_who_came_before_it_and_may_share_and_to_nobody_else() {
    let failed = || Seat {
        failed: Some(REFUSED),
        ..free()
    };
    let later = |knock: Knock| Knock {
        arrived: Millis(NOW.0 + 1),
        ..knock
    };
    assert_eq!(knocks(&mut failed(), sharing(1), NOW), Turn::Failed);
    assert_eq!(knocks(&mut failed(), later(sharing(1)), NOW), Turn::Open);
    assert_eq!(knocks(&mut failed(), alone(1), NOW), Turn::Open);
    assert_eq!(knocks(&mut failed(), with_others(1), NOW), Turn::Open);
    let mut waited_for = Seat {
        line: vec![ticket(2), ticket(1)],
        ..failed()
    };
    assert_eq!(knocks(&mut waited_for, sharing(1), NOW), Turn::Failed);
    assert_eq!(numbers(&waited_for), [2], "it waits no more");
    assert_eq!(knocks(&mut waited_for, alone(2), NOW), Turn::Open);
    assert_eq!(waited_for.failed, None, "there is a new try");
}

#[test]
fn only_whose_marker_stands_there_takes_or_frees_the_seat() {
    for state in [State::Free, opening(2), closing(1), closing(2), taken(8)] {
        let mut place = seat(state.clone(), &[]);
        assert!(!place.take(&holder(9), ticket(1)));
        assert_eq!(place.state, state);
    }
    let mut place = seat(opening(1), &[]);
    assert!(place.take(&holder(9), ticket(1)));
    assert_eq!(place.state, taken(9));
    for state in [opening(2), closing(2), taken(8)] {
        let mut place = seat(state.clone(), &[]);
        place.free(ticket(1), Some(REFUSED));
        assert_eq!((place.state, place.failed), (state, None));
    }
    for state in [opening(1), closing(1)] {
        let mut place = seat(state, &[]);
        place.free(ticket(1), Some(REFUSED));
        assert_eq!((place.state, place.failed), (State::Free, Some(REFUSED)));
    }
}

#[test]
fn what_is_said_of_a_session_concerns_no_other() {
    for state in [State::Free, opening(1), closing(1), taken(8)] {
        let mut place = seat(state.clone(), &[]);
        place.release(gone(&id(9)));
        place.touch(&id(9), LEASE_OVER);
        place.distrust(&id(9));
        assert_eq!(place.state, state);
    }
    let mut place = seat(taken(9), &[]);
    place.touch(&id(9), LEASE_OVER);
    assert_eq!(knocks(&mut place, alone(1), LEASE_OVER), QUEUES);
    place.release(gone(&id(9)));
    assert_eq!(place.state, State::Free);
    assert_eq!(numbers(&place), [1]);
}

#[test]
fn a_session_that_is_gone_is_no_others_with_the_same_id() {
    let id = id(9);
    let others = Gone {
        caller: &OTHERS,
        ..gone(&id)
    };
    let earlier = Gone {
        opened_by: Millis(NOW.0 - 1),
        ..gone(&id)
    };
    for gone in [others, earlier] {
        let mut place = seat(taken(9), &[]);
        place.release(gone);
        assert_eq!(place.state, taken(9));
    }
}

#[test]
fn a_session_that_is_of_no_use_any_more_makes_room_and_is_not_closed() {
    let since = |at: Millis, knock: Knock| Knock { since: at, ..knock };
    let mut place = seat(taken(9), &[]);
    let joins = Turn::Join(Box::new(holder(9)));
    assert_eq!(knocks(&mut place, since(NOW, sharing(1)), NOW), joins);
    let after = Millis(NOW.0 + 1);
    for knock in [sharing, with_others] {
        let mut place = place.clone();
        let lost = since(after, knock(1));
        assert_eq!(knocks(&mut place, lost, after), Turn::Open);
    }
}

#[test]
fn a_session_that_is_not_trusted_is_closed_for_the_next_one_and_shared_with_nobody() {
    for knock in [sharing, with_others, alone] {
        let mut place = seat(taken(9), &[]);
        place.distrust(&id(9));
        place.touch(&id(9), LEASE_OVER);
        assert!(matches!(
            knocks(&mut place, knock(1), NOW),
            Turn::Close(holder) if holder.session == id(9)
        ));
    }
}

#[test]
fn a_session_expires_by_idleness_and_by_age_and_only_whoever_looked_ends_it() {
    let (idle, age) = (Duration::from_secs(10), Duration::from_secs(100));
    for state in [State::Free, opening(1), closing(1)] {
        let mut place = seat(state.clone(), &[]);
        assert_eq!(place.expire(ticket(2), Millis(u64::MAX), idle, age), None);
        assert_eq!(place.state, state);
    }
    let mut place = seat(taken(9), &[5]);
    assert_eq!(
        place.expire(ticket(1), Millis(NOW.0 + 9_999), idle, age),
        None
    );
    assert_eq!(place.state, taken(9));
    let ended = place.expire(ticket(1), Millis(NOW.0 + 10_000), idle, age);
    assert_eq!(ended, Some(Box::new(holder(9))));
    assert_eq!((&place.state, numbers(&place)), (&closing(1), vec![5]));

    let mut busy = seat(taken(9), &[]);
    busy.touch(&id(9), Millis(NOW.0 + 99_999));
    assert_eq!(
        busy.expire(ticket(1), Millis(NOW.0 + 99_999), idle, age),
        None
    );
    assert!(
        busy.expire(ticket(1), Millis(NOW.0 + 100_000), idle, age)
            .is_some()
    );
}

#[test]
fn a_session_that_has_expired_is_trusted_no_more_before_anybody_ends_it() {
    let (idle, age) = (Duration::from_secs(10), Duration::from_secs(100));
    let mut place = seat(taken(9), &[5]);
    place.retire(Millis(NOW.0 + 9_999), idle, age);
    assert_eq!(place, seat(taken(9), &[5]));
    for (used, now) in [(0, 10_000), (99_999, 100_000)] {
        let mut place = seat(taken(9), &[]);
        place.touch(&id(9), Millis(NOW.0 + used));
        let now = Millis(NOW.0 + now);
        place.retire(now, idle, age);
        assert!(matches!(
            knocks(&mut place, sharing(1), now),
            Turn::Close(_)
        ));
    }
    for state in [State::Free, opening(1), closing(1)] {
        let mut place = seat(state.clone(), &[]);
        place.retire(Millis(u64::MAX), idle, age);
        assert_eq!(place.state, state);
    }
}

#[test]
fn what_a_dead_vm_left_is_forgotten_and_nothing_else() {
    let lives = |vm| vm == 0;
    for state in [opening(1), closing(1)] {
        let mut place = seat(state, &[1, 2, 3, 4]);
        place.forget_dead(lives);
        assert_eq!((&place.state, numbers(&place)), (&State::Free, vec![2, 4]));
    }
    for state in [opening(2), closing(2), taken(1), State::Free] {
        let mut place = seat(state.clone(), &[2]);
        place.forget_dead(lives);
        assert_eq!((&place.state, numbers(&place)), (&state, vec![2]));
    }
}

#[test]
fn a_seat_can_be_given_away_unless_somebody_waits_or_something_is_under_way() {
    assert_eq!(free().used(), None);
    assert_eq!(seat(taken(9), &[]).used(), Some(NOW));
    for (state, line) in [
        (State::Free, &[1][..]),
        (taken(9), &[1]),
        (opening(1), &[]),
        (closing(1), &[]),
    ] {
        assert_eq!(seat(state, line).used(), Some(Millis(u64::MAX)));
    }
}

#[test]
fn a_seat_that_is_written_down_reads_back_as_it_was() {
    let mut places = Vec::new();
    for state in [State::Free, opening(1), closing(2), taken(9)] {
        for line in [&[][..], &[1], &[1, 2, 3]] {
            for (watched, failed) in [(false, None), (true, Some(REFUSED))] {
                places.push(Seat {
                    watched,
                    failed,
                    ..seat(state.clone(), line)
                });
            }
        }
    }
    for place in &places {
        assert_eq!(Seat::decode(&place.encode()).as_ref(), Some(place));
    }
}

#[test]
fn a_seat_that_was_cut_short_reads_as_nothing_or_as_one_with_a_shorter_line() {
    for state in [State::Free, opening(1), closing(1), taken(9)] {
        let whole = seat(state.clone(), &[1, 2]);
        let bytes = whole.encode();
        for length in 0..bytes.len() {
            let cut = Seat::decode(&bytes[..length]);
            let behind = bytes.len() - length;
            let expected = match behind {
                16 => Some(seat(state.clone(), &[1])),
                32 => Some(seat(state.clone(), &[])),
                _ => None,
            };
            assert_eq!(cut, expected, "{behind} bytes are missing");
        }
    }
}

#[test]
fn no_odd_byte_in_a_seat_reads_as_anything_but_a_seat_that_can_be_written_down_again() {
    for state in [State::Free, opening(1), closing(1), taken(9)] {
        let bytes = seat(state, &[1]).encode();
        for place in 0..bytes.len() {
            for byte in 0..=u8::MAX {
                let mut odd = bytes.clone();
                odd[place] = byte;
                if let Some(read) = Seat::decode(&odd) {
                    assert_eq!(read.encode(), odd);
                }
            }
        }
    }
}
