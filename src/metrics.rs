//! The filter's counters and its gauge in the host's stats, under `mcp_session.`; the README documents them.

use crate::exchange::Signal;
use crate::host::{self, Metric, MetricKind};
use crate::outcome::Outcome;

/// The metrics of one VM. One that the host did not take is not counted; that stops no traffic.
pub(crate) struct Metrics {
    outcomes: [Option<Metric>; Outcome::ALL.len()],
    evicted: Option<Metric>,
    contended: Option<Metric>,
    queued: Option<Metric>,
    no_seat: Option<Metric>,
    unpinned: Option<Metric>,
    untranslated: Option<Metric>,
    hold_unsupported: Option<Metric>,
    live: Option<Metric>,
}

impl Metrics {
    pub(crate) fn define() -> Self {
        let counter = |name| define(MetricKind::Counter, name);
        Self {
            outcomes: Outcome::ALL.map(|outcome| counter(outcome.name())),
            evicted: counter("evicted"),
            contended: counter("contended"),
            queued: counter("queued"),
            no_seat: counter("no_seat"),
            unpinned: counter("unpinned"),
            untranslated: counter("untranslated"),
            hold_unsupported: counter("hold_unsupported"),
            live: define(MetricKind::Gauge, "live"),
        }
    }

    pub(crate) fn count(&self, signal: &Signal) {
        match signal {
            // A host's error is counted where it failed.
            Signal::Outcome(Outcome::HostError, _)
            | Signal::Wake(_)
            | Signal::Stays(..)
            | Signal::Attends(..)
            | Signal::Leaves => {}
            Signal::Outcome(outcome, _) => increment(self.outcome(*outcome), 1),
            Signal::Contended => increment(self.contended, 1),
            Signal::Queued => increment(self.queued, 1),
            Signal::NoSeat => increment(self.no_seat, 1),
            Signal::Unpinned => increment(self.unpinned, 1),
            Signal::Untranslated => increment(self.untranslated, 1),
            Signal::Failed(_) => increment(self.outcome(Outcome::HostError), 1),
            Signal::Evicted(sessions) => {
                increment(self.evicted, i64::try_from(*sessions).unwrap_or(i64::MAX));
            }
        }
    }

    pub(crate) fn count_hold_unsupported(&self) {
        increment(self.hold_unsupported, 1);
    }

    pub(crate) fn set_live(&self, sessions: u32) {
        if let Some(live) = self.live {
            let _ = host::record(live, u64::from(sessions));
        }
    }

    fn outcome(&self, outcome: Outcome) -> Option<Metric> {
        self.outcomes.get(outcome.index()).copied().flatten()
    }
}

fn define(kind: MetricKind, name: &str) -> Option<Metric> {
    host::define_metric(kind, &format!("mcp_session.{name}")).ok()
}

fn increment(metric: Option<Metric>, by: i64) {
    if let Some(metric) = metric {
        let _ = host::increment(metric, by);
    }
}
