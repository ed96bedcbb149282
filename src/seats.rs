//! All seats, in shared data: a fixed number, two keys each. The second one keeps what the server said when the session
//! was opened, or why none was: it is written once, before the seat names it.
//!
//! A seat stands in one of the slots that its key chooses. If all are taken, the one whose session was not used for the
//! longest time goes, unless somebody waits for it.

use core::cell::Cell;
use core::time::Duration;

use crate::attendance::PART;
use crate::config::Config;
use crate::digest::Digest;
use crate::initialize_result::INITIALIZE_RESULT_BYTES;
use crate::input::Input;
use crate::memory::CODEC;
use crate::platform::{PlatformError, Store, Written};
use crate::roster::Roster;
use crate::seat::{Failure, Gone, Holder, Knock, Seat, State, Ticket, Turn};
use crate::session::SessionId;
use crate::table::Table;
use crate::time::Millis;

/// The most that is kept of what a server said, in bytes.
pub const WORDS_BYTES: usize = INITIALIZE_RESULT_BYTES;

/// How often a change is tried: all who wait on all workers are woken at once, and one that is lost could keep a seat for
/// nobody, or let a second session be opened.
const TRIES: u32 = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Seats {
    table: Table,
    lease: Duration,
    queue: usize,
    idle_timeout: Duration,
    max_age: Duration,
}

/// What became of a knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knocked {
    /// What the request is to do now.
    Turn(Turn),
    /// It shares this session, whose InitializeResult is this JSON text.
    Join(Box<Holder>, Vec<u8>),
    /// It is answered with these words: see [`Seats::fail`].
    Failed(Vec<u8>),
    /// All slots are in use, or others were faster each time.
    NoSeat,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Whether it took place.
    pub is_done: bool,
    /// Whether those who wait there have to look again.
    pub wakes: bool,
}

/// A seat where it stands.
struct Place {
    slot: u32,
    token: Option<u32>,
    seat: Seat,
    before: Option<Seat>,
}

impl Seats {
    /// Seats as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let slots = config.memory.bulk_slots;
        Self {
            table: Table::new(format!("mcp_session/{CODEC}/seats/{slots}"), slots),
            // What is written down of its use may be a part of a lease old.
            lease: config.session.lease + config.session.lease / PART,
            queue: config.session.queue as usize,
            idle_timeout: config.session.idle_timeout,
            max_age: config.session.max_age,
        }
    }

    /// Makes all slots; see [`Table::create`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn create(&self, store: &impl Store) -> Result<(), PlatformError> {
        self.table.create(store)
    }

    /// After how long without a POST a session makes room at the latest.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// An `initialize` came to a seat, or was woken there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn knock(
        &self,
        store: &impl Store,
        key: &Digest,
        knock: &Knock,
        now: Millis,
    ) -> Result<Knocked, PlatformError> {
        let vm = knock.ticket.vm;
        let mut is_signed = false;
        for _ in 0..TRIES {
            let Some(mut place) = self.place(store, key, vm, now)? else {
                return Ok(Knocked::NoSeat);
            };
            if place.seat.names_vms() {
                // Read after the seat: a VM says that it lives before it begins anything.
                let roster = Roster::read(store)?;
                is_signed |= roster.is_alive(vm, now);
                place
                    .seat
                    .forget_dead(|other| other == vm || roster.is_alive(other, now));
            }
            place.seat.retire(now, self.idle_timeout, self.max_age);
            let came = place.seat.clone();
            let mut turn = place.seat.knock(knock, now, self.lease, self.queue);
            let mut words = Vec::new();
            if let Turn::Join(holder) = &turn {
                let is_young = now.since(holder.opened) < self.max_age;
                let kept = self.words(store, place.slot, key, holder.opening)?;
                let can_be_told = |kept: &Vec<u8>| !(knock.is_told && kept.is_empty());
                if let Some(kept) = kept.filter(|kept| is_young && can_be_told(kept)) {
                    words = kept;
                } else {
                    // Too old, or without an InitializeResult, a session can't be shared: this one needs its own.
                    let alone = Knock {
                        shares: false,
                        ..*knock
                    };
                    // Where it stands in line, too.
                    place.seat = came.clone();
                    turn = place.seat.knock(&alone, now, self.lease, self.queue);
                }
            }
            if turn == Turn::Failed {
                let failure = place.seat.failed.map_or(0, |failed| failed.at.0);
                if let Some(kept) = self.words(store, place.slot, key, failure)? {
                    words = kept;
                } else {
                    place.seat = Seat {
                        failed: None,
                        ..came
                    };
                    turn = place.seat.knock(knock, now, self.lease, self.queue);
                }
            }
            // Others take what this VM begins for a dead one's, unless it has said before that it lives.
            if place.seat.names_vms() && !is_signed {
                is_signed = Roster::read(store)?.is_alive(vm, now)
                    || Roster::sign(store, vm, now)?.is_some();
            }
            if self.write(store, &place)? {
                // A failure here must not leave a marker that nobody takes away.
                let has_twin =
                    place.before.is_none() && self.has_twin(store, &place).unwrap_or_default();
                if has_twin && self.vacate(store, &place).is_ok() {
                    continue;
                }
                return Ok(match turn {
                    Turn::Join(holder) => Knocked::Join(holder, words),
                    Turn::Failed => Knocked::Failed(words),
                    turn => Knocked::Turn(turn),
                });
            }
        }
        Ok(Knocked::NoSeat)
    }

    /// This session, if it is there and can be shared: one without an InitializeResult is its client's alone.
    ///
    /// # Errors
    /// If the store fails.
    pub fn shared(
        &self,
        store: &impl Store,
        key: &Digest,
        session: &SessionId,
    ) -> Result<Option<Box<Holder>>, PlatformError> {
        let Some(place) = self.find(store, key)? else {
            return Ok(None);
        };
        let State::Taken(holder) = place.seat.state else {
            return Ok(None);
        };
        if holder.session != *session {
            return Ok(None);
        }
        let words = self.words(store, place.slot, key, holder.opening)?;
        Ok(words.map(|_| holder))
    }

    /// A session was opened; `result` is its InitializeResult, if it can be shared.
    ///
    /// # Errors
    /// If the store fails.
    pub fn take(
        &self,
        store: &impl Store,
        key: &Digest,
        ticket: Ticket,
        holder: &Holder,
        result: Option<&[u8]>,
    ) -> Result<Changed, PlatformError> {
        if let Some(result) = result {
            self.keep_words(store, key, ticket, holder.opening, result)?;
        }
        self.change(store, key, |seat| seat.take(holder, ticket))
    }

    /// A session could not be opened; `words` are for those who waited for it. Without, each of them tries itself.
    ///
    /// # Errors
    /// If the store fails.
    pub fn fail(
        &self,
        store: &impl Store,
        key: &Digest,
        ticket: Ticket,
        words: Option<&[u8]>,
        failure: Failure,
    ) -> Result<Changed, PlatformError> {
        let words = words.filter(|words| words.len() <= WORDS_BYTES);
        if let Some(words) = words {
            self.keep_words(store, key, ticket, failure.at.0, words)?;
        }
        let failed = words.map(|_| failure);
        self.amend(store, key, |seat| seat.free(ticket, failed))
    }

    /// A session was closed.
    ///
    /// # Errors
    /// If the store fails.
    pub fn free(
        &self,
        store: &impl Store,
        key: &Digest,
        ticket: Ticket,
    ) -> Result<Changed, PlatformError> {
        self.amend(store, key, |seat| seat.free(ticket, None))
    }

    /// See [`Seat::release`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn release(
        &self,
        store: &impl Store,
        key: &Digest,
        gone: Gone<'_>,
    ) -> Result<Changed, PlatformError> {
        self.amend(store, key, |seat| seat.release(gone))
    }

    /// See [`Seat::touch`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn touch(
        &self,
        store: &impl Store,
        key: &Digest,
        session: &SessionId,
        now: Millis,
    ) -> Result<Changed, PlatformError> {
        self.amend(store, key, |seat| seat.touch(session, now))
    }

    /// See [`Seat::enter`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn enter(
        &self,
        store: &impl Store,
        key: &Digest,
        session: &SessionId,
        now: Millis,
    ) -> Result<bool, PlatformError> {
        let part = self.lease / (PART + 1);
        let may_enter = Cell::new(true);
        self.amend(store, key, |seat| {
            may_enter.set(seat.enter(session, now, part));
        })?;
        Ok(may_enter.get())
    }

    /// See [`Seat::distrust`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn distrust(
        &self,
        store: &impl Store,
        key: &Digest,
        session: &SessionId,
    ) -> Result<Changed, PlatformError> {
        self.amend(store, key, |seat| seat.distrust(session))
    }

    /// See [`Seat::leave`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn leave(
        &self,
        store: &impl Store,
        key: &Digest,
        ticket: Ticket,
    ) -> Result<Changed, PlatformError> {
        let changed = self.amend(store, key, |seat| seat.leave(ticket))?;
        // Where no seat is, nobody stands.
        let is_done = changed.is_done || self.find(store, key)?.is_none();
        Ok(Changed { is_done, ..changed })
    }

    /// Looks into the slot with this number (there are only so many: it is wrapped) for a session that has expired, at a
    /// seat that is meant. Whoever is given one ends it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn expire(
        &self,
        store: &impl Store,
        slot: u32,
        ticket: Ticket,
        now: Millis,
        is_meant: impl FnOnce(&Digest, &Holder) -> bool,
    ) -> Result<Option<(Digest, Box<Holder>)>, PlatformError> {
        let slot = slot % self.table.slots();
        let stored = store.read(&self.table.key(slot))?.unwrap_or_default();
        let Some(mut seat) = Seat::decode(&stored.value) else {
            return Ok(None);
        };
        if !matches!(&seat.state, State::Taken(holder) if is_meant(&seat.key, holder)) {
            return Ok(None);
        }
        let Some(holder) = seat.expire(ticket, now, self.idle_timeout, self.max_age) else {
            return Ok(None);
        };
        let place = Place {
            slot,
            token: Some(stored.token),
            seat,
            before: None,
        };
        let is_ours = self.write(store, &place)?;
        Ok(is_ours.then_some((place.seat.key, holder)))
    }

    /// Changes a seat in a way that always succeeds where there is one.
    fn amend(
        &self,
        store: &impl Store,
        key: &Digest,
        amend: impl Fn(&mut Seat),
    ) -> Result<Changed, PlatformError> {
        self.change(store, key, |seat| {
            amend(seat);
            true
        })
    }

    /// Changes a seat; `change` says whether it could.
    fn change(
        &self,
        store: &impl Store,
        key: &Digest,
        change: impl Fn(&mut Seat) -> bool,
    ) -> Result<Changed, PlatformError> {
        for _ in 0..TRIES {
            let Some(mut place) = self.find(store, key)? else {
                return Ok(Changed::default());
            };
            let was = place.seat.state.clone();
            let is_done = change(&mut place.seat);
            let waits = place.seat.watched || !place.seat.line.is_empty();
            let wakes = waits && place.before.as_ref() != Some(&place.seat);
            if was != place.seat.state {
                place.seat.watched = false;
            }
            if self.write(store, &place)? {
                return Ok(Changed { is_done, wakes });
            }
        }
        Ok(Changed::default())
    }

    /// Writes what has changed. Says whether nobody was faster.
    fn write(&self, store: &impl Store, place: &Place) -> Result<bool, PlatformError> {
        if place.before.as_ref() == Some(&place.seat) {
            return Ok(true);
        }
        let key = self.table.key(place.slot);
        let written = store.write(&key, &place.seat.encode(), place.token)?;
        Ok(written == Written::Done)
    }

    /// Whether somebody else has placed the same seat in another slot at the same time. Both find that out, and try again.
    fn has_twin(&self, store: &impl Store, place: &Place) -> Result<bool, PlatformError> {
        let key = &place.seat.key;
        for slot in self
            .table
            .neighbours(key)
            .filter(|slot| *slot != place.slot)
        {
            let stored = store.read(&self.table.key(slot))?.unwrap_or_default();
            if stored.value.starts_with(key.as_bytes()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn vacate(&self, store: &impl Store, place: &Place) -> Result<(), PlatformError> {
        let slot = self.table.key(place.slot);
        let stored = store.read(&slot)?.unwrap_or_default();
        if stored.value == place.seat.encode() {
            store.write(&slot, &[], Some(stored.token))?;
        }
        Ok(())
    }

    /// Where the seat stands.
    fn find(&self, store: &impl Store, key: &Digest) -> Result<Option<Place>, PlatformError> {
        for slot in self.table.neighbours(key) {
            let Some(stored) = store.read(&self.table.key(slot))? else {
                continue;
            };
            if !stored.value.starts_with(key.as_bytes()) {
                continue;
            }
            if let Some(seat) = Seat::decode(&stored.value) {
                return Ok(Some(Place {
                    slot,
                    token: Some(stored.token),
                    before: Some(seat.clone()),
                    seat,
                }));
            }
        }
        Ok(None)
    }

    /// Where the seat stands, or else where it may.
    fn place(
        &self,
        store: &impl Store,
        key: &Digest,
        vm: u64,
        now: Millis,
    ) -> Result<Option<Place>, PlatformError> {
        if let Some(place) = self.find(store, key)? {
            return Ok(Some(place));
        }
        let read = |slot| Ok((slot, store.read(&self.table.key(slot))?));
        let slots: Result<Vec<_>, _> = self.table.neighbours(key).map(read).collect();
        let slots = slots?;
        // Read last: a VM says that it lives before it begins anything.
        let roster = Roster::read(store)?;
        let mut best: Option<(Millis, Place)> = None;
        for (slot, stored) in slots {
            let token = stored.as_ref().map(|stored| stored.token);
            let other = Seat::decode(&stored.unwrap_or_default().value);
            let used = other.and_then(|mut seat| {
                seat.forget_dead(|other| other == vm || roster.is_alive(other, now));
                seat.used()
            });
            let used = used.unwrap_or_default();
            // One that is being opened or closed, or that somebody waits for, stays.
            let is_free = used != Seat::WANTED;
            let is_better = best.as_ref().is_none_or(|(least, _)| used < *least);
            if is_free && is_better {
                let place = Place {
                    slot,
                    token,
                    seat: Seat::new(*key),
                    before: None,
                };
                best = Some((used, place));
            }
        }
        Ok(best.map(|(_, place)| place))
    }

    /// Unless the seat is kept for another by now, whose words may stand there.
    fn keep_words(
        &self,
        store: &impl Store,
        key: &Digest,
        ticket: Ticket,
        opening: u64,
        words: &[u8],
    ) -> Result<(), PlatformError> {
        let place = self.find(store, key)?;
        let Some(place) = place.filter(|place| place.seat.state == State::Opening(ticket)) else {
            return Ok(());
        };
        let numbers = [opening, words.len() as u64].map(u64::to_le_bytes).concat();
        let value = [key.as_bytes(), numbers.as_slice(), words].concat();
        let words_key = self.words_key(place.slot);
        store.write(&words_key, &value, None).map(|_| ())
    }

    fn words(
        &self,
        store: &impl Store,
        slot: u32,
        key: &Digest,
        opening: u64,
    ) -> Result<Option<Vec<u8>>, PlatformError> {
        let stored = store.read(&self.words_key(slot))?.unwrap_or_default();
        let mut input = Input(&stored.value);
        let is_it = input.digest() == Some(*key) && input.number() == Some(opening);
        let length = input.number().filter(|_| is_it);
        let is_whole = length == Some(input.0.len() as u64);
        Ok(is_whole.then(|| input.0.to_vec()))
    }

    fn words_key(&self, slot: u32) -> String {
        format!("{}/words", self.table.key(slot))
    }
}

#[cfg(test)]
mod tests;
