//! Who waits for a seat in this VM, and how they and those of other VMs are woken.

use std::cell::RefCell;
use std::mem;
use std::rc::Weak;

use super::{MESSAGES, MOST_WAITING, Mailbox, Worker};
use crate::digest::Digest;
use crate::errand::Over;
use crate::exchange::{Signal, leave_line};
use crate::host::{self, Host, Queue};
use crate::platform::{Platform, PlatformError};
use crate::roster::{self, Roster};
use crate::stream::{Happened, Stream};

impl Worker {
    /// This stream is to be woken when something changes at this seat.
    pub(crate) fn wait(&self, id: u32, seat: Digest, stream: &Weak<RefCell<Stream>>) {
        self.holds.borrow_mut().end(id);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.insert(id, (seat, stream.clone())).is_none() {
            drop(waiting);
            self.watch(|worker| {
                worker
                    .mailbox
                    .get()
                    .map_or_else(|| worker.sign(), |_| Ok(()))
            });
        }
    }

    /// Wakes those streams that are meant, by their numbers and what seat they wait for, each in its own context. Gives
    /// those that could not be woken.
    pub(super) fn wake_if(
        &self,
        is_meant: impl Fn(u32, &Digest) -> bool,
        what: &Happened,
    ) -> Vec<u32> {
        let waiting = self.waiting.borrow();
        let meant = waiting
            .iter()
            .filter(|(id, (seat, _))| is_meant(**id, seat));
        let meant: Vec<_> = meant
            .map(|(id, (_, stream))| (*id, stream.clone()))
            .collect();
        drop(waiting);
        let mut missed = Vec::new();
        for (id, stream) in meant {
            let Some(stream) = stream.upgrade() else {
                self.end_wait(id);
                continue;
            };
            // Refused, the previous context stays in effect: somebody else would get the answer.
            if host::set_effective_context(id).is_ok()
                && let Ok(mut stream) = stream.try_borrow_mut()
            {
                stream.wake(what);
            } else {
                missed.push(id);
            }
        }
        missed
    }

    /// Those streams that are meant and wait hear of the end of an errand. It alone knows the answer to its own: nobody
    /// may miss that, or hear of it twice.
    pub(super) fn tell(&self, over: Over, is_meant: impl Fn(u32) -> bool) {
        let (seat, what) = (over.seat, Happened::Errand(over));
        let missed = self.wake_if(|id, other| *other == seat && is_meant(id), &what);
        if let Happened::Errand(over) = what
            && !missed.is_empty()
        {
            let mut untold = self.untold.borrow_mut();
            if untold.len() < MOST_WAITING {
                untold.push((over, missed));
            }
        }
    }

    /// Takes those out of their lines that could not leave.
    pub(super) fn clear_lines(&self) {
        let Some(plugin) = self.plugin() else { return };
        let staying = mem::take(&mut *self.staying.borrow_mut());
        for (seat, ticket) in staying {
            for signal in leave_line(&plugin, &Host::default(), seat, ticket) {
                self.note(&signal);
            }
        }
    }

    /// Says that this VM lives, and takes a mailbox.
    pub(super) fn sign(&self) -> Result<(), PlatformError> {
        let host = Host::default();
        let now = host.now();
        let current = self.mailbox.get();
        if current.is_some_and(|mailbox| now.since(mailbox.signed) < roster::SIGN_OF_LIFE) {
            return Ok(());
        }
        let Some(number) = Roster::sign(&host, self.vm, now)? else {
            return Ok(());
        };
        let queue = match current {
            Some(mailbox) if mailbox.number == number => mailbox.queue,
            _ => host::register_queue(&roster::mailbox_name(number))?,
        };
        self.mailbox.set(Some(Mailbox {
            number,
            queue,
            signed: now,
        }));
        Ok(())
    }

    /// Tells all VMs that something has changed at a seat: this one too, as who waits is woken in the root context.
    pub(super) fn announce(&self, seat: &Digest) -> Result<(), PlatformError> {
        self.nudge(seat.as_bytes())?;
        let host = Host::default();
        for mailbox in Roster::read(&host)?.others(self.vm, host.now()) {
            let queue = host::resolve_queue(&roster::mailbox_name(mailbox));
            // Who can't be told finds out with its next tick.
            let _ = queue.and_then(|queue| host::enqueue(queue, seat.as_bytes()));
        }
        Ok(())
    }

    /// Has the root context called back soon.
    pub(super) fn nudge(&self, message: &[u8]) -> Result<(), PlatformError> {
        match self.mailbox.get() {
            Some(mailbox) => host::enqueue(mailbox.queue, message),
            None => Ok(()),
        }
    }

    /// Messages have come; each names a seat, but for those that only call the root back.
    pub(crate) fn read_mailbox(&self, queue: Queue) {
        let mut seats = Vec::new();
        for _ in 0..MESSAGES {
            match host::dequeue(queue) {
                Ok(Some(message)) => {
                    let seat = message.try_into().map(Digest::from_bytes);
                    seats.extend(seat.ok().filter(|seat| !seats.contains(seat)));
                }
                Ok(None) => break,
                Err(error) => {
                    self.note(&Signal::Failed(error));
                    break;
                }
            }
        }
        for seat in seats {
            self.wake_if(|_, other| *other == seat, &Happened::Change);
        }
    }
}
