//! Calls of the filter's own: errands, in the name of the root context, and those of streams that are answered there.

use std::cell::RefCell;
use std::mem;
use std::rc::Weak;

use super::{MOST_WAITING, Worker};
use crate::config::OnReinitialize;
use crate::errand::{Answer, Errand, Over, Progress};
use crate::exchange::{Plugin, Signal};
use crate::filter;
use crate::host::{self, Host};
use crate::platform::{Platform, PlatformError};
use crate::seat::Ticket;
use crate::stream::Stream;

impl Worker {
    /// Has an errand sent, as soon as the root context is called back.
    pub(crate) fn run_errand(&self, errand: Option<Errand>) {
        if let Some(errand) = errand {
            self.errands.borrow_mut().push(errand);
            self.watch(|worker| worker.nudge(&[]));
        }
    }

    /// Sends all errands that wait for it, in the name of the root context: so they outlive the requests that they are
    /// for.
    pub(crate) fn send_errands(&self) {
        let Some(plugin) = self.plugin() else { return };
        let errands = mem::take(&mut *self.errands.borrow_mut());
        for errand in errands {
            let sent = host::set_effective_context(self.root)
                .and_then(|()| filter::send(&errand.call(&plugin)));
            match sent {
                Ok(call) => {
                    self.under_way.borrow_mut().insert(call, errand);
                }
                Err(error) => {
                    self.note(&Signal::Failed(error));
                    self.proceed(&plugin, errand, None);
                }
            }
        }
        // The host goes on in the context that it called back.
        let _ = host::set_effective_context(self.root);
    }

    /// A stream waits for the answer to this call.
    pub(crate) fn expect_answer(&self, call: u32, id: u32, stream: &Weak<RefCell<Stream>>) {
        self.calls.borrow_mut().insert(call, (id, stream.clone()));
    }

    /// Nobody waits for the answer to this call any more.
    pub(crate) fn forget_call(&self, call: u32) {
        self.calls.borrow_mut().remove(&call);
    }

    /// Nobody waits for answers to the calls of this stream any more.
    pub(super) fn forget_calls_of(&self, stream: u32) {
        self.calls.borrow_mut().retain(|_, (id, _)| *id != stream);
    }

    /// What a server answered to the call that the host calls back for.
    pub(crate) fn call_answer(&self, body_size: usize) -> Option<Answer> {
        host::call_answer(body_size).unwrap_or_else(|error| {
            self.note(&Signal::Failed(error));
            None
        })
    }

    /// A server answered a call that was made in the root context, or did not: an errand's, or a stream's that was woken.
    pub(crate) fn call_answered(&self, call: u32, body_size: usize) {
        let answer = self.call_answer(body_size);
        let errand = self.under_way.borrow_mut().remove(&call);
        if let (Some(plugin), Some(errand)) = (self.plugin(), errand) {
            self.proceed(&plugin, errand, answer);
            return;
        }
        let stream = self.calls.borrow_mut().remove(&call);
        if let Some((id, stream)) = stream {
            self.deliver(id, &stream, answer);
        }
    }

    /// Gives a stream the answer to its call, in its own context.
    pub(super) fn deliver(&self, id: u32, stream: &Weak<RefCell<Stream>>, answer: Option<Answer>) {
        let Some(living) = stream.upgrade() else {
            return;
        };
        // Refused, the previous context stays in effect: somebody else would get the answer.
        if let Err(error) = host::set_effective_context(id) {
            self.note(&Signal::Failed(error));
            let undelivered = (id, stream.clone(), answer);
            self.undelivered.borrow_mut().push(undelivered);
        } else if let Ok(mut stream) = living.try_borrow_mut() {
            stream.call_answered(answer);
        }
    }

    pub(super) fn proceed(&self, plugin: &Plugin, errand: Errand, answer: Option<Answer>) {
        let (progress, signals) = errand.answered(plugin, &Host::default(), answer);
        for signal in &signals {
            self.note(signal);
        }
        match progress {
            Progress::Next(errand) => self.errands.borrow_mut().push(errand),
            Progress::Over(over) => self.errand_over(over),
        }
    }

    pub(super) fn errand_over(&self, mut over: Over) {
        if let Some(ending) = over.unsettled.take() {
            let mut unsettled = self.unsettled.borrow_mut();
            if unsettled.len() < MOST_WAITING {
                unsettled.push(ending);
            }
        }
        if over.wakes {
            self.note(&Signal::Wake(over.seat));
        }
        self.tell(over, |_| true);
    }

    /// Writes down at seats what could not be written down before.
    pub(super) fn settle(&self) {
        let Some(plugin) = self.plugin() else { return };
        let unsettled = self.unsettled.take();
        for ending in unsettled {
            let (over, signals) = ending.settle(&plugin, &Host::default());
            for signal in &signals {
                self.note(signal);
            }
            self.errand_over(over);
        }
    }

    /// Ends a shared session that nobody uses any more: nobody else would.
    pub(super) fn end_expired(&self) -> Result<(), PlatformError> {
        let Some(plugin) = self.plugin() else {
            return Ok(());
        };
        if self.config.on_reinitialize != OnReinitialize::Reuse || self.mailbox.get().is_none() {
            return Ok(());
        }
        let host = Host::default();
        let slot = self.next_seat.get();
        self.next_seat.set(slot.wrapping_add(1));
        let ticket = Ticket {
            number: host.nonce(),
            vm: self.vm,
        };
        let expired = plugin.expire(&host, slot, ticket)?;
        if let Some((seat, holder)) = expired {
            self.errands
                .borrow_mut()
                .push(Errand::close(seat, ticket, *holder, None));
        }
        Ok(())
    }
}
