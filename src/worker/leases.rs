//! The leases of sessions that have POSTs under way in this VM.

use super::Worker;
use crate::digest::Digest;
use crate::host::Host;
use crate::platform::Platform;
use crate::session::SessionId;

impl Worker {
    /// A POST in this session is under way.
    pub(crate) fn join_session(&self, seat: Digest, session: &SessionId) {
        let (now, lease) = (Host::default().now(), self.config.session.lease);
        let is_due = self
            .attendance
            .borrow_mut()
            .begin(seat, session.clone(), now, lease);
        if is_due {
            self.renew_lease(&seat, session);
        }
    }

    /// A POST in this session is over.
    pub(crate) fn leave_session(&self, seat: &Digest, session: &SessionId) {
        let (now, lease) = (Host::default().now(), self.config.session.lease);
        let is_due = self.attendance.borrow_mut().end(seat, session, now, lease);
        if is_due {
            self.renew_lease(seat, session);
        }
    }

    pub(super) fn renew_lease(&self, seat: &Digest, session: &SessionId) {
        self.watch(|worker| {
            let host = Host::default();
            let Some(plugin) = worker.plugin() else {
                return Ok(());
            };
            plugin
                .seats
                .touch(&host, seat, session, host.now())
                .map(|_| ())
        });
    }

    pub(super) fn renew_leases(&self) {
        let (now, lease) = (Host::default().now(), self.config.session.lease);
        let due = self.attendance.borrow_mut().due(now, lease);
        for (seat, session) in due {
            self.renew_lease(&seat, &session);
        }
    }
}
