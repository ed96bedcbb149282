//! Which requests' headers wait in this VM, for how long, and whether the host can hold headers at all.
//!
//! Without `allow_on_headers_stop_iteration` Envoy stops a request whose headers wait before its body: it would hang.
//! A VM can't ask for the setting; it sees it by a body arriving while headers wait.
//!
//! Waits are counted in ticks: a clock can be set back.

use alloc::collections::BTreeMap;
use core::time::Duration;

/// How long a tick is.
pub const TICK: Duration = Duration::from_millis(250);
/// The longest that headers wait for a method, in ticks: 5 s.
pub const LONGEST_WAIT: u64 = 20;
/// The longest that headers wait for the first piece of a body while the host's setting is in doubt or missing, in
/// ticks: 1 s.
pub const LONGEST_DOUBT: u64 = 4;
/// After so many waits without a body, the setting is taken to be missing.
pub const STRIKES: u8 = 3;

/// What is known of the host's setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Support {
    /// No body came yet while headers waited; so many waits were in vain.
    InDoubt { strikes: u8 },
    /// A body came while headers waited.
    Proven,
    /// The setting is missing: headers are not held any more.
    Missing,
}

/// The requests of one VM whose headers wait.
#[derive(Debug)]
pub struct Holds {
    ticks: u64,
    waiting: BTreeMap<u32, Wait>,
    support: Support,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    since: u64,
    has_body: bool,
}

/// Why a request is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its method did not come in time.
    Slow,
    /// No body came at all.
    NoBody,
    /// No body came, once too often: from now on headers don't wait in this VM.
    Unsupported,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            ticks: 0,
            waiting: BTreeMap::new(),
            support: Support::InDoubt { strikes: 0 },
        }
    }
}

impl Holds {
    /// Whether headers may wait in this VM.
    #[must_use]
    pub fn are_supported(&self) -> bool {
        self.support != Support::Missing
    }

    /// No ticks will come: nobody could be let go.
    pub fn give_up(&mut self) {
        self.support = Support::Missing;
    }

    /// The headers of this request wait from now on.
    pub fn begin(&mut self, request: u32) {
        let wait = Wait {
            since: self.ticks,
            has_body: false,
        };
        self.waiting.insert(request, wait);
    }

    /// A piece of the body of this request came. Says whether its headers still wait.
    pub fn body_arrived(&mut self, request: u32) -> bool {
        let Some(wait) = self.waiting.get_mut(&request) else {
            return false;
        };
        wait.has_body = true;
        self.support = Support::Proven;
        true
    }

    /// The headers of this request wait no more.
    pub fn end(&mut self, request: u32) {
        self.waiting.remove(&request);
    }

    /// A tick came. Says which requests the host is to let go now.
    ///
    /// One whose body waits too is not among them: it goes on with the next piece of its body. To let it go from
    /// outside would have Envoy send parts of the body twice, or not at all (seen in 1.36 to 1.40, with retries); so a
    /// client that stalls delays itself only.
    pub fn tick(&mut self) -> Vec<(u32, Reason)> {
        self.ticks += 1;
        let longest = match self.support {
            Support::InDoubt { .. } | Support::Missing => LONGEST_DOUBT,
            Support::Proven => LONGEST_WAIT,
        };
        let mut without_body = Vec::new();
        self.waiting.retain(|request, wait| {
            let is_overdue = self.ticks - wait.since >= longest;
            if is_overdue && !wait.has_body {
                without_body.push(*request);
            }
            !is_overdue
        });
        let strike = |request| (request, self.strike());
        without_body.into_iter().map(strike).collect()
    }

    fn strike(&mut self) -> Reason {
        match self.support {
            Support::Proven => Reason::Slow,
            Support::Missing => Reason::NoBody,
            Support::InDoubt { strikes } if strikes + 1 < STRIKES => {
                self.support = Support::InDoubt {
                    strikes: strikes + 1,
                };
                Reason::NoBody
            }
            Support::InDoubt { .. } => {
                self.support = Support::Missing;
                Reason::Unsupported
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All who are let go in so many ticks, with the tick that did.
    fn tick(holds: &mut Holds, ticks: u64) -> Vec<(u64, u32, Reason)> {
        (1..=ticks)
            .flat_map(|tick| {
                let gone = holds.tick();
                gone.into_iter()
                    .map(move |(request, reason)| (tick, request, reason))
            })
            .collect()
    }

    #[test]
    fn in_doubt_nobody_waits_for_a_body_beyond_a_second() {
        let mut holds = Holds::default();
        holds.begin(7);
        assert_eq!(tick(&mut holds, 100), [(4, 7, Reason::NoBody)]);
        assert!(!holds.body_arrived(7), "it was let go");
    }

    #[test]
    fn after_three_waits_in_vain_headers_are_held_no_more() {
        let mut holds = Holds::default();
        for request in 0..5 {
            assert!(holds.are_supported());
            holds.begin(request);
        }
        let expected = [
            (4, 0, Reason::NoBody),
            (4, 1, Reason::NoBody),
            (4, 2, Reason::Unsupported),
            (4, 3, Reason::NoBody),
            (4, 4, Reason::NoBody),
        ];
        assert_eq!(tick(&mut holds, 100), expected);
        assert!(!holds.are_supported());
    }

    #[test]
    fn who_is_held_when_the_setting_is_found_missing_waits_no_longer_than_others() {
        let mut holds = Holds::default();
        (0..3).for_each(|request| holds.begin(request));
        assert_eq!(tick(&mut holds, 2), []);
        holds.begin(3);
        assert_eq!(tick(&mut holds, 2).len(), 3);
        assert_eq!(tick(&mut holds, 100), [(2, 3, Reason::NoBody)]);
    }

    #[test]
    fn once_a_body_came_the_setting_is_never_doubted_again() {
        let mut holds = Holds::default();
        holds.begin(0);
        assert!(holds.body_arrived(0));
        (1..10).for_each(|request| holds.begin(request));
        assert_eq!(tick(&mut holds, 19), []);
        let gone = tick(&mut holds, 1);
        assert!(gone.iter().all(|(_, _, reason)| *reason == Reason::Slow));
        assert_eq!(gone.len(), 9);
        assert!(holds.are_supported());
    }

    #[test]
    fn one_whose_body_waits_is_never_let_go_from_outside_but_by_its_next_piece() {
        let mut holds = Holds::default();
        holds.begin(0);
        assert!(holds.body_arrived(0));
        assert_eq!(tick(&mut holds, 19), []);
        assert!(holds.body_arrived(0));
        assert_eq!(tick(&mut holds, 100), []);
        assert!(!holds.body_arrived(0), "it goes on");
    }

    #[test]
    fn who_ended_is_not_let_go() {
        let mut holds = Holds::default();
        holds.begin(0);
        holds.end(0);
        assert_eq!(tick(&mut holds, 100), []);
    }
}
