//! What a request and an answer have in common that wait at a seat: a ticket, patience, and errands of their own.

use core::time::Duration;

use super::plugin::woken;
use super::{Plugin, Request, Signal};
use crate::config::OnReinitialize;
use crate::digest::Digest;
use crate::errand::{Errand, Opening, Over, Purpose};
use crate::headers::Headers;
use crate::hold::TICK;
use crate::initialize::Initialize;
use crate::platform::Platform;
use crate::seat::{Holder, Knock, Ticket, Turn};
use crate::seats::Knocked;
use crate::time::Millis;

/// How often who waits looks again by itself, in ticks: each second.
const TICKS_PER_KNOCK: u32 = 4;

/// After a session could not be opened, for so long nobody tries again: a server that just comes up is not to be met by
/// all at once.
pub(super) const BACKOFF: Duration = Duration::from_secs(1);

/// One that waits at a seat.
pub(super) struct Waiter {
    pub(super) seat: Digest,
    pub(super) knock: Knock,
    /// How many ticks it has waited.
    ticks: u32,
    /// Its own errand is under way, and has a bound of its own.
    is_away: bool,
}

/// What a tick means to one that waits.
pub(super) enum Patience {
    /// It waits on.
    Waits,
    /// It looks again.
    Knocks,
    /// It has waited for too long.
    Ends,
}

/// What comes of asking.
pub(super) enum Asked {
    /// This session is there.
    Joins(Box<Holder>),
    /// Its turn.
    Takes(Turn),
    /// There is none, maybe for a reason to be noted.
    EndsUp(Option<Signal>),
}

impl Waiter {
    /// One with a ticket of its own. It shares the session that it gets with others of these capabilities.
    pub(super) fn new(
        plugin: &Plugin,
        platform: &impl Platform,
        seat: Digest,
        capabilities: Digest,
    ) -> Self {
        let knock = Knock {
            ticket: Ticket {
                number: platform.nonce(),
                vm: plugin.vm,
            },
            arrived: platform.now(),
            capabilities,
            shares: true,
            is_told: false,
            backoff: Duration::ZERO,
            since: Millis(0),
        };
        Self {
            seat,
            knock,
            ticks: 0,
            is_away: false,
        }
    }

    /// A tick came.
    pub(super) fn tick(&mut self, plugin: &Plugin) -> Patience {
        self.ticks = self.ticks.saturating_add(1);
        if self.is_away {
            return Patience::Waits;
        }
        if TICK.saturating_mul(self.ticks) >= self.patience(plugin) {
            return Patience::Ends;
        }
        // A change wakes it at once: this is for leases that end, and for changes that nobody told of.
        if self.ticks.is_multiple_of(TICKS_PER_KNOCK) {
            return Patience::Knocks;
        }
        Patience::Waits
    }

    /// For how long it waits: for its turn, or for a session that it may share as long as that may take to be opened.
    fn patience(&self, plugin: &Plugin) -> Duration {
        let config = &plugin.config;
        let turn = match plugin.on_reinitialize() {
            OnReinitialize::Forward => Duration::ZERO,
            OnReinitialize::Reuse | OnReinitialize::Queue => config.session.queue_timeout,
        };
        if self.knock.shares {
            turn.max(config.subrequest.replay_timeout)
        } else {
            turn
        }
    }

    /// Whether its own errand is under way.
    pub(super) fn is_away(&self) -> bool {
        self.is_away
    }

    /// An errand at its seat is over. Says whether it was its own.
    pub(super) fn errand_over(&mut self, over: &Over) -> bool {
        let is_own = self.knock.ticket == over.ticket;
        self.is_away &= !is_own;
        is_own
    }

    /// Asks for its turn, where whoever waits for a session is content with any that is opened there.
    pub(super) fn ask(&self, plugin: &Plugin, platform: &impl Platform) -> Asked {
        match plugin.knock(platform, &self.seat, &self.knock) {
            Ok(Knocked::Join(holder, _)) => Asked::Joins(holder),
            Ok(Knocked::Turn(turn)) => Asked::Takes(turn),
            Ok(Knocked::Failed(_)) => Asked::EndsUp(None),
            Ok(Knocked::NoSeat) => Asked::EndsUp(Some(Signal::NoSeat)),
            Err(error) => Asked::EndsUp(Some(Signal::Failed(error))),
        }
    }

    /// What its turn has it do, and what there is to note; nothing if it is sent away.
    pub(super) fn take_turn(
        &mut self,
        turn: Turn,
        request: &Request,
        headers: &Headers,
        initialize: &Initialize,
        purpose: impl FnOnce() -> Purpose,
    ) -> Option<(Option<Errand>, Vec<Signal>)> {
        let errand = match turn {
            Turn::Open => {
                let opening = Opening {
                    request: request.clone(),
                    headers: headers.clone(),
                    initialize: initialize.clone(),
                    capabilities: self.knock.capabilities,
                    purpose: purpose(),
                };
                Errand::open(self.seat, self.knock.ticket, opening)
            }
            Turn::Close(holder) => {
                let request = Some((&request.caller, headers));
                Errand::close(self.seat, self.knock.ticket, *holder, request)
            }
            Turn::Wait { queued: true } => return Some((None, vec![Signal::Queued])),
            // Joining and failing bring words of their own.
            Turn::Wait { queued: false } | Turn::Join(_) | Turn::Failed => {
                return Some((None, Vec::new()));
            }
            Turn::Refuse => return None,
        };
        self.is_away = true;
        Some((Some(errand), Vec::new()))
    }

    /// It waits in no line any more.
    pub(super) fn leave(&self, plugin: &Plugin, platform: &impl Platform) -> Vec<Signal> {
        leave_line(plugin, platform, self.seat, self.knock.ticket)
    }
}

/// Nobody waits with this ticket any more. Should it stay in the line, the line would stand still behind it.
#[must_use]
pub fn leave_line(
    plugin: &Plugin,
    platform: &impl Platform,
    seat: Digest,
    ticket: Ticket,
) -> Vec<Signal> {
    let changed = plugin.seats.leave(platform, &seat, ticket);
    let stays = !changed.as_ref().is_ok_and(|changed| changed.is_done);
    let stays = stays.then_some(Signal::Stays(seat, ticket));
    woken(seat, changed).into_iter().chain(stays).collect()
}
