//! Every order of events at one seat, against what is truly at its server.

use std::collections::BTreeSet;

use super::*;

/// Four requests at one seat, two to a VM, and what truly is at their server.
#[derive(Clone)]
struct World {
    seat: Seat,
    now: Millis,
    requests: [Request; 4],
    /// Errands under way: whose, and the session that is to end, if it is one that ends one.
    errands: Vec<(u64, Option<u64>)>,
    /// The sessions that the server has for this seat.
    sessions: Vec<u64>,
    opened: u64,
    dead: [bool; 2],
    /// In the order in which they were told that they wait in line.
    line: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    ToCome,
    Waits { arrived: Millis },
    Over,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Knock(u64),
    Leave(u64),
    Opened,
    Refused { words: bool },
    Closed,
    Released,
    Distrusted,
    LeaseIsOver,
    VmDies(u64),
}

const SHARES: bool = true;

/// Has everything happen that can happen next, until nothing new comes of it.
fn explore(shares: bool) {
    let mut events = vec![
        Event::Opened,
        Event::Refused { words: false },
        Event::Closed,
        Event::Released,
        Event::LeaseIsOver,
        Event::VmDies(1),
    ];
    events.extend((0..4).flat_map(|number| [Event::Knock(number), Event::Leave(number)]));
    if shares {
        events.extend([Event::Refused { words: true }, Event::Distrusted]);
    }
    let mut known = BTreeSet::new();
    let mut worlds = vec![World::new()];
    while let Some(world) = worlds.pop() {
        for event in &events {
            let mut next = world.clone();
            if next.step(*event, shares) {
                next.check(*event, shares);
                if known.insert(next.fingerprint()) {
                    worlds.push(next);
                }
            }
        }
    }
    println!("{} worlds", known.len());
}

#[test]
fn whatever_four_requests_do_at_a_seat_there_is_one_session_and_nobody_is_forgotten() {
    explore(!SHARES);
}

#[test]
fn whatever_four_requests_that_share_do_at_a_seat_there_is_one_session_and_nobody_is_forgotten() {
    explore(SHARES);
}

impl World {
    fn new() -> Self {
        Self {
            seat: free(),
            now: NOW,
            requests: [Request::ToCome; 4],
            errands: Vec::new(),
            sessions: Vec::new(),
            opened: 0,
            dead: [false; 2],
            line: Vec::new(),
        }
    }

    /// Says whether that could happen.
    fn step(&mut self, event: Event, shares: bool) -> bool {
        match event {
            Event::Knock(number) => return self.knock(number, shares),
            Event::Leave(number) => {
                if !self.waits(number) {
                    return false;
                }
                self.seat.leave(ticket(number));
                self.over(number);
            }
            Event::Opened => {
                let Some(number) = self.end_errand(false) else {
                    return false;
                };
                self.opened += 1;
                self.sessions.push(self.opened);
                let capabilities = capabilities_of(number);
                let holder = Holder {
                    capabilities,
                    used: self.now,
                    ..holder(self.opened)
                };
                assert!(self.seat.take(&holder, ticket(number)), "its seat is kept");
                self.over(number);
            }
            Event::Refused { words } => {
                let Some(number) = self.end_errand(false) else {
                    return false;
                };
                self.seat.free(
                    ticket(number),
                    words.then_some(Failure {
                        at: self.now,
                        capabilities: CAPABILITIES,
                    }),
                );
                self.over(number);
            }
            Event::Closed => {
                let Some(number) = self.end_errand(true) else {
                    return false;
                };
                self.sessions.clear();
                self.seat.free(ticket(number), None);
            }
            Event::Released | Event::Distrusted => {
                let Some(session) = self.sessions.first().copied() else {
                    return false;
                };
                match event {
                    Event::Distrusted => self.seat.distrust(&id(session)),
                    _ if self.errands.is_empty() => {
                        self.sessions.clear();
                        self.seat.release(Gone {
                            opened_by: Millis(u64::MAX),
                            ..gone(&id(session))
                        });
                    }
                    _ => return false,
                }
            }
            Event::LeaseIsOver => {
                // Twice in a row is nothing new.
                if self.now.since(NOW) >= 3 * LEASE {
                    return false;
                }
                self.now = Millis(self.now.0 + 5_000);
            }
            Event::VmDies(vm) => {
                if self.dead[usize::try_from(vm).unwrap()] {
                    return false;
                }
                self.dead[usize::try_from(vm).unwrap()] = true;
                // What its errands did to a session is not known to anybody; that to be closed will time out.
                let closes = |(number, closed): &(u64, Option<u64>)| {
                    ticket(*number).vm == vm && closed.is_some()
                };
                if self.errands.iter().any(closes) {
                    self.sessions.clear();
                }
                self.errands.retain(|(number, _)| ticket(*number).vm != vm);
                for number in 0..4 {
                    if ticket(number).vm == vm {
                        self.over(number);
                    }
                }
            }
        }
        true
    }

    fn knock(&mut self, number: u64, shares: bool) -> bool {
        let index = usize::try_from(number).unwrap();
        let arrived = match self.requests[index] {
            Request::ToCome if self.dead[index % 2] => return false,
            Request::ToCome => self.now,
            Request::Waits { arrived } => arrived,
            Request::Over => return false,
        };
        self.requests[index] = Request::Waits { arrived };
        let knock = Knock {
            arrived,
            capabilities: capabilities_of(number),
            shares,
            ..alone(number)
        };
        let dead = self.dead;
        self.seat
            .forget_dead(|vm| !dead[usize::try_from(vm).unwrap()]);
        match knocks(&mut self.seat, knock, self.now) {
            Turn::Open => {
                assert!(self.errands.is_empty(), "something else is under way");
                assert!(self.sessions.is_empty(), "there is a session already");
                assert!(
                    self.line.first().is_none_or(|first| *first == number),
                    "somebody came before"
                );
                self.line.retain(|other| *other != number);
                self.errands.push((number, None));
            }
            Turn::Close(holder) => {
                assert!(self.errands.is_empty(), "something else is under way");
                assert_eq!(self.sessions.first().map(|s| id(*s)), Some(holder.session));
                assert!(
                    self.line.first().is_none_or(|first| *first == number),
                    "somebody came before"
                );
                if self.line.is_empty() {
                    self.line.push(number);
                }
                self.errands.push((number, self.sessions.first().copied()));
            }
            Turn::Join(holder) => {
                assert!(shares && self.errands.is_empty());
                assert_eq!(holder.capabilities, capabilities_of(number));
                assert_eq!(self.sessions.first().map(|s| id(*s)), Some(holder.session));
                self.over(number);
            }
            Turn::Failed => {
                assert!(shares && self.sessions.is_empty() && self.errands.is_empty());
                self.over(number);
            }
            Turn::Wait { queued } => {
                if queued {
                    self.line.push(number);
                }
                let is_told = self.line.contains(&number)
                    || self.is_away(number)
                    || self.seat.watched && shares;
                assert!(is_told, "nobody is going to wake {number}");
            }
            Turn::Refuse => {
                assert_eq!(self.seat.line.len(), MOST);
                self.over(number);
            }
        }
        true
    }

    fn check(&self, event: Event, shares: bool) {
        assert!(self.errands.len() <= 1, "{event:?}: two at once");
        assert!(self.sessions.len() <= 1, "{event:?}: two sessions");
        let lives = |vm| !self.dead[usize::try_from(vm).unwrap()];
        let mut seat = self.seat.clone();
        seat.forget_dead(lives);
        assert_eq!(numbers(&seat), self.line, "{event:?}: the order");
        let marker = match &seat.state {
            State::Opening(ticket) => Some((ticket.number, false)),
            State::Closing(ticket) => Some((ticket.number, true)),
            State::Free | State::Taken(_) => None,
        };
        let under_way = self.errands.first();
        let under_way = under_way.map(|(number, closes)| (*number, closes.is_some()));
        assert_eq!(
            marker, under_way,
            "{event:?}: a marker that nobody takes away"
        );
        if seat.state != State::Free {
            return;
        }
        // Somebody may open now.
        let waiting = (0..4).filter(|number| self.waits(*number));
        let next = seat.line.first().map(|ticket| ticket.number);
        for number in waiting.filter(|number| next.is_none_or(|next| next == *number)) {
            let mut next = self.clone();
            assert!(next.knock(number, shares));
            let goes_on = next.is_away(number) || !next.waits(number);
            assert!(goes_on, "{event:?}: {number} waits at a free seat");
        }
    }

    fn waits(&self, number: u64) -> bool {
        matches!(
            self.requests[usize::try_from(number).unwrap()],
            Request::Waits { .. }
        )
    }

    fn is_away(&self, number: u64) -> bool {
        self.errands.iter().any(|(other, _)| *other == number)
    }

    fn over(&mut self, number: u64) {
        self.requests[usize::try_from(number).unwrap()] = Request::Over;
        self.line.retain(|other| *other != number);
    }

    fn end_errand(&mut self, closes: bool) -> Option<u64> {
        let is_meant = |(_, closed): &(u64, Option<u64>)| closed.is_some() == closes;
        let index = self.errands.iter().position(is_meant)?;
        Some(self.errands.remove(index).0)
    }

    fn fingerprint(&self) -> impl Ord + use<> {
        (
            self.seat.encode(),
            self.now,
            self.requests,
            self.errands.clone(),
            self.dead,
        )
    }
}

/// Two of one kind, and two of another.
fn capabilities_of(number: u64) -> Digest {
    if number < 2 { CAPABILITIES } else { OTHERS }
}
