//! What became of a request, as its counter and its access log name it.

/// The outcome of one request on a path of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer to this `initialize` opened a session, which is remembered.
    Learned,
    /// The request got its session's id.
    Repaired,
    /// In observe mode: it would have got its session's id.
    WouldRepair,
    /// It had an id of its own.
    PassedOwnId,
    /// It had no id, and no session of its caller is known here.
    PassedNoSession,
    /// It is of the era without sessions.
    PassedSessionless,
    /// An `initialize` whose answer opened no session.
    PassedInitialize,
    /// It had no id and might have been an `initialize`, and headers are not held.
    PassedUnknownMethod,
    /// A GET that asks for no event stream.
    PassedProbe,
    /// Nothing tells its caller from others.
    PassedNoCaller,
    /// It matched no route, or one without a cluster.
    PassedNoCluster,
    /// Its headers waited as long as they may, and no method came.
    PassedTimeout,
    /// Its headers waited for as much body as they may, and no method came.
    PassedTooLarge,
    /// The host refused a call that was needed.
    HostError,
    /// A DELETE that ended its session.
    Ended,
    /// The server no longer knows the session that the request belonged to.
    Lost,
    /// An `initialize` that was answered from the InitializeResult of its caller's session.
    Reused,
    /// An `initialize` that waited too long for a session, or behind too many others: 503.
    QueueRefused,
    /// A request about a shared session as a whole, which the filter answered by itself.
    AnsweredLocally,
    /// A `notifications/cancelled` of which it was not clear which request it means: it went no further.
    CancelDropped,
    /// Its client left while it waited for a session.
    ClientLeft,
    /// Its caller had no session, and the filter opened the one that it went up in.
    Opened,
    /// Its session was lost, and it was answered in the one that took its place.
    Recovered,
    /// Its session was lost and has a successor, but it could not be sent again: its client got the server's answer.
    Renewed,
    /// Its session was lost and has a successor, but its server refused it before all of it came: its client was told to
    /// send it once more.
    Redirected,
    /// Its session was lost, and no other could take its place: its client got the server's answer.
    RecoverFailed,
    /// An `initialize` that had got the id of an older session opened one of its own once it was sent without.
    ReinitializeRepaired,
    /// It was answered once it went up without the version that its server refuses.
    VersionRepaired,
}

impl Outcome {
    /// All outcomes, in the order in which [`Self::index`] counts.
    pub const ALL: [Self; 28] = [
        Self::Learned,
        Self::Repaired,
        Self::WouldRepair,
        Self::PassedOwnId,
        Self::PassedNoSession,
        Self::PassedSessionless,
        Self::PassedInitialize,
        Self::PassedUnknownMethod,
        Self::PassedProbe,
        Self::PassedNoCaller,
        Self::PassedNoCluster,
        Self::PassedTimeout,
        Self::PassedTooLarge,
        Self::HostError,
        Self::Ended,
        Self::Lost,
        Self::Reused,
        Self::QueueRefused,
        Self::AnsweredLocally,
        Self::CancelDropped,
        Self::ClientLeft,
        Self::Opened,
        Self::Recovered,
        Self::Renewed,
        Self::Redirected,
        Self::RecoverFailed,
        Self::ReinitializeRepaired,
        Self::VersionRepaired,
    ];

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name: of the counter `mcp_session.<name>`, and in the access log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Repaired => "repaired",
            Self::WouldRepair => "would_repair",
            Self::PassedOwnId => "passed_own_id",
            Self::PassedNoSession => "passed_no_session",
            Self::PassedSessionless => "passed_sessionless",
            Self::PassedInitialize => "passed_initialize",
            Self::PassedUnknownMethod => "passed_unknown_method",
            Self::PassedProbe => "passed_probe",
            Self::PassedNoCaller => "passed_no_caller",
            Self::PassedNoCluster => "passed_no_cluster",
            Self::PassedTimeout => "passed_timeout",
            Self::PassedTooLarge => "passed_too_large",
            Self::HostError => "host_error",
            Self::Ended => "ended",
            Self::Lost => "lost",
            Self::Reused => "reused",
            Self::QueueRefused => "queue_refused",
            Self::AnsweredLocally => "answered_locally",
            Self::CancelDropped => "cancel_dropped",
            Self::ClientLeft => "client_left",
            Self::Opened => "opened",
            Self::Recovered => "recovered",
            Self::Renewed => "renewed",
            Self::Redirected => "redirected",
            Self::RecoverFailed => "recover_failed",
            Self::ReinitializeRepaired => "reinitialize_repaired",
            Self::VersionRepaired => "version_repaired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_stands_at_its_index() {
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), index, "{}", outcome.name());
        }
    }
}
