//! Which requests' headers wait in this VM, for how long, and whether the host can hold headers at all.
//!
//! Without `allow_on_headers_stop_iteration` Envoy stops a request whose headers wait before its body: it would hang.
//! A VM can't ask for the setting; it sees it by a body arriving while headers wait.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::time::Millis;

/// The longest that headers wait for a method.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest that headers wait for the first piece of a body while the host's setting is in doubt.
pub const LONGEST_DOUBT: Duration = Duration::from_secs(1);
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
    since: BTreeMap<u32, Millis>,
    support: Support,
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
            since: BTreeMap::new(),
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

    /// The headers of this request wait from now on.
    pub fn begin(&mut self, request: u32, now: Millis) {
        self.since.insert(request, now);
    }

    /// A piece of the body of this request came. Says whether its headers still wait.
    pub fn body_arrived(&mut self, request: u32) -> bool {
        let waits = self.since.contains_key(&request);
        if waits {
            self.support = Support::Proven;
        }
        waits
    }

    /// The headers of this request wait no more.
    pub fn end(&mut self, request: u32) {
        self.since.remove(&request);
    }

    /// The requests to let go. `until_next` is when this is asked again: who would be overdue by then goes now.
    pub fn overdue(&mut self, now: Millis, until_next: Duration) -> Vec<(u32, Reason)> {
        let longest = match self.support {
            Support::InDoubt { .. } => LONGEST_DOUBT,
            Support::Proven | Support::Missing => LONGEST_WAIT,
        };
        let overdue = |since: &Millis| now.since(*since) + until_next > longest;
        let requests: Vec<u32> = self
            .since
            .iter()
            .filter(|(_, since)| overdue(since))
            .map(|(request, _)| *request)
            .collect();
        requests
            .into_iter()
            .map(|request| {
                self.since.remove(&request);
                (request, self.strike())
            })
            .collect()
    }

    fn strike(&mut self) -> Reason {
        let Support::InDoubt { strikes } = self.support else {
            return Reason::Slow;
        };
        let strikes = strikes + 1;
        if strikes < STRIKES {
            self.support = Support::InDoubt { strikes };
            return Reason::NoBody;
        }
        self.support = Support::Missing;
        Reason::Unsupported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    #[test]
    fn in_doubt_nobody_waits_for_a_body_beyond_a_second() {
        let mut holds = Holds::default();
        holds.begin(7, Millis(1000));
        assert_eq!(holds.overdue(Millis(1750), TICK), []);
        assert_eq!(holds.overdue(Millis(1751), TICK), [(7, Reason::NoBody)]);
        assert!(!holds.body_arrived(7), "it was let go");
        assert_eq!(holds.overdue(Millis(9000), TICK), []);
    }

    #[test]
    fn after_three_waits_in_vain_headers_are_held_no_more() {
        let mut holds = Holds::default();
        let reasons = [Reason::NoBody, Reason::NoBody, Reason::Unsupported];
        for (request, reason) in (0..).zip(reasons) {
            assert!(holds.are_supported());
            holds.begin(request, Millis(0));
            assert_eq!(holds.overdue(Millis(1000), TICK), [(request, reason)]);
        }
        assert!(!holds.are_supported());
    }

    #[test]
    fn once_a_body_came_the_setting_is_never_doubted_again() {
        let mut holds = Holds::default();
        holds.begin(0, Millis(0));
        assert!(holds.body_arrived(0));
        for request in 1..10 {
            holds.begin(request, Millis(0));
        }
        assert_eq!(holds.overdue(Millis(4750), TICK), []);
        assert!(
            holds
                .overdue(Millis(4751), TICK)
                .iter()
                .all(|(_, reason)| *reason == Reason::Slow)
        );
        assert!(holds.are_supported());
    }

    #[test]
    fn who_ended_is_not_let_go() {
        let mut holds = Holds::default();
        holds.begin(0, Millis(0));
        holds.end(0);
        assert_eq!(holds.overdue(Millis(60_000), TICK), []);
    }
}
