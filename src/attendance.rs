//! Which sessions of seats have POSTs under way in this VM, so that their leases are renewed: not with each POST, but
//! often enough.

use core::time::Duration;

use crate::digest::Digest;
use crate::session::SessionId;
use crate::time::Millis;

/// See the module. It knows no more sessions than requests are under way, and those of the last lease.
#[derive(Debug, Default)]
pub struct Attendance(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    seat: Digest,
    session: SessionId,
    under_way: u32,
    renewed: Option<Millis>,
}

/// What part of a lease may pass until it is renewed.
pub const PART: u32 = 4;

impl Attendance {
    /// A POST begins. Says whether the lease is to be renewed now.
    pub fn begin(
        &mut self,
        seat: Digest,
        session: SessionId,
        now: Millis,
        lease: Duration,
    ) -> bool {
        let known = self.0.iter().position(|entry| entry.is(&seat, &session));
        let index = known.unwrap_or_else(|| {
            self.0.push(Entry {
                seat,
                session,
                under_way: 0,
                renewed: None,
            });
            self.0.len() - 1
        });
        self.0.get_mut(index).is_some_and(|entry| {
            entry.under_way = entry.under_way.saturating_add(1);
            entry.renew(now, lease)
        })
    }

    /// A POST is over. Says whether the lease is to be renewed now.
    pub fn end(
        &mut self,
        seat: &Digest,
        session: &SessionId,
        now: Millis,
        lease: Duration,
    ) -> bool {
        let mut entries = self.0.iter_mut();
        entries
            .find(|entry| entry.is(seat, session))
            .is_some_and(|entry| {
                entry.under_way = entry.under_way.saturating_sub(1);
                entry.renew(now, lease)
            })
    }

    /// Time has passed. Gives the leases that are to be renewed now.
    pub fn due(&mut self, now: Millis, lease: Duration) -> Vec<(Digest, SessionId)> {
        let is_recent = |renewed: Option<Millis>| renewed.is_some_and(|at| now.since(at) < lease);
        self.0
            .retain(|entry| entry.under_way > 0 || is_recent(entry.renewed));
        let busy = self.0.iter_mut().filter(|entry| entry.under_way > 0);
        busy.filter_map(|entry| {
            entry
                .renew(now, lease)
                .then(|| (entry.seat, entry.session.clone()))
        })
        .collect()
    }
}

impl Entry {
    fn is(&self, seat: &Digest, session: &SessionId) -> bool {
        self.seat == *seat && self.session == *session
    }

    fn renew(&mut self, now: Millis, lease: Duration) -> bool {
        let is_due = |renewed: Millis| now.since(renewed) >= lease / PART || now < renewed;
        let is_due = self.renewed.is_none_or(is_due);
        if is_due {
            self.renewed = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAT: Digest = Digest::from_bytes([1; 32]);
    const LEASE: Duration = Duration::from_secs(4);

    fn session(id: &[u8]) -> SessionId {
        SessionId::parse(id).unwrap()
    }

    #[test]
    fn a_lease_is_renewed_at_once_and_then_four_times_at_most() {
        let mut attendance = Attendance::default();
        let mut renewed = 0;
        for now in 0..4_000 {
            renewed += u32::from(attendance.begin(SEAT, session(b"a"), Millis(now), LEASE));
            renewed += u32::from(attendance.end(&SEAT, &session(b"a"), Millis(now), LEASE));
        }
        assert_eq!(renewed, 4);
    }

    #[test]
    fn a_long_post_renews_the_lease_of_its_session_and_no_other() {
        let mut attendance = Attendance::default();
        assert!(attendance.begin(SEAT, session(b"a"), Millis(0), LEASE));
        assert!(attendance.begin(SEAT, session(b"b"), Millis(0), LEASE));
        assert!(!attendance.end(&SEAT, &session(b"b"), Millis(1), LEASE));
        assert_eq!(attendance.due(Millis(999), LEASE), []);
        let due = attendance.due(Millis(1_000), LEASE);
        assert_eq!(due, [(SEAT, session(b"a"))]);
        assert_eq!(attendance.due(Millis(1_001), LEASE), []);
        assert_eq!(attendance.due(Millis(500), LEASE).len(), 1, "set back");
    }

    #[test]
    fn what_is_over_is_forgotten_after_a_lease() {
        let mut attendance = Attendance::default();
        for number in 0..100_u8 {
            let id = session(format!("s{number}").as_bytes());
            attendance.begin(SEAT, id.clone(), Millis(0), LEASE);
            attendance.end(&SEAT, &id, Millis(0), LEASE);
        }
        assert_eq!(attendance.due(Millis(4_000), LEASE), []);
        assert!(attendance.0.is_empty());
        assert!(
            !attendance.end(&SEAT, &session(b"s1"), Millis(4_000), LEASE),
            "nobody knows it any more"
        );
    }
}
