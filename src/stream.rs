//! One stream of the host's: its callbacks become events, and the steps that they lead to become hostcalls.

mod bodies;

use std::cell::RefCell;
use std::mem;
use std::rc::{Rc, Weak};

use crate::digest::Digest;
use crate::errand::{Answer, Over};
use crate::exchange::{AnswerAction, Exchange, Plugin, RequestAction, Signal, Step, Woken};
use crate::filter;
use crate::host::{self, Buffer, Host, Map};
use crate::ids::Ids;
use crate::outcome::Outcome;
use crate::platform::PlatformError;
use crate::repair::Edit;
use crate::reply::Reply;
use crate::session::SessionId;
use crate::worker::Worker;

/// What a callback says to the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    Wait,
}

/// See the module.
pub(crate) struct Stream {
    id: u32,
    myself: Weak<RefCell<Stream>>,
    worker: Option<Rc<Worker>>,
    /// What this request is judged by from its headers on.
    plugin: Option<Rc<Plugin>>,
    exchange: Exchange,
    /// In a shared session.
    ids: Option<Box<Ids>>,
    /// The session that a lease is renewed for until this stream is over.
    attends: Option<(Digest, SessionId)>,
    /// Bytes at the start of the waiting request body that were scanned before.
    scanned: usize,
    /// The request has ended with trailers.
    has_trailers: bool,
    /// The request can neither go on nor be answered: nothing of it may go up.
    is_stuck: bool,
    answer: Waiting,
}

/// What of an answer's body waits in the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// Some pieces of so many bytes. To resume from outside would lose those that come after (seen in 1.36): the next one
    /// does it.
    Pieces(usize),
    /// So many bytes, all that there are.
    All(usize),
}

/// A piece of a request's body that the host shows: all that waits of it.
struct Piece {
    size: usize,
    ended: bool,
    /// If it was read as a whole already.
    bytes: Option<Vec<u8>>,
}

impl Stream {
    pub(crate) fn new(id: u32, worker: Option<Rc<Worker>>) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|myself| {
            RefCell::new(Self {
                id,
                myself: myself.clone(),
                worker,
                plugin: None,
                exchange: Exchange::Passing,
                ids: None,
                attends: None,
                scanned: 0,
                has_trailers: false,
                is_stuck: false,
                answer: Waiting::Nothing,
            })
        })
    }

    pub(crate) fn request_headers(&mut self, ended: bool) -> Flow {
        let Some(worker) = self.worker.clone() else {
            return Flow::Go;
        };
        self.hide_host(Map::Request);
        let Some(plugin) = worker.plugin() else {
            return Flow::Go;
        };
        // One call for all: what it hands over costs less than another call that hands over bytes.
        let headers = match host::headers(Map::Request) {
            Ok(headers) => headers,
            Err(error) => return self.failed(error),
        };
        let path = headers.get(":path").unwrap_or_default();
        if !plugin.config.paths.contain(path) {
            return Flow::Go;
        }
        let may_hold = worker.holds.borrow().are_supported();
        let (exchange, step) = Exchange::begin(&plugin, &worker.host(), headers, ended, may_hold);
        self.plugin = Some(plugin);
        self.exchange = exchange;
        if self.exchange.is_held() {
            worker.holds.borrow_mut().begin(self.id);
        }
        self.obey(step, None)
    }

    /// No client chooses the host that a request goes to, on any path, nor learns which one has answered.
    fn hide_host(&self, map: Map) {
        if let Some(worker) = &self.worker
            && let Some(name) = &worker.config.upstream_host_header
            && let Err(error) = host::remove_header(map, name)
        {
            worker.note(&Signal::Failed(error));
        }
    }

    pub(crate) fn request_body(&mut self, size: usize, ended: bool) -> Flow {
        if self.is_stuck {
            return Flow::Wait;
        }
        self.notice_let_go();
        let rewrites = self.ids.as_ref().is_some_and(|ids| ids.rewrites_request());
        let left = size.saturating_sub(self.scanned);
        let wanted = self.exchange.wanted_request_bytes().min(left);
        if wanted == 0 && !ended && !rewrites {
            return if self.exchange.holds_request() {
                Flow::Wait
            } else {
                Flow::Go
            };
        }
        let read = if rewrites { left } else { wanted };
        let bytes = match host::buffer(Buffer::RequestBody, self.scanned, read) {
            Ok(bytes) => bytes,
            Err(error) if self.exchange.holds_answer() => {
                self.exchange.lose_body();
                self.note(&[Signal::Failed(error)]);
                return self.leave_request();
            }
            Err(error) => return self.failed(error),
        };
        let shown = bytes.get(..wanted).unwrap_or(&bytes);
        let step = self.request_event(|exchange, plugin, host| {
            exchange.request_body(plugin, host, shown, ended)
        });
        let piece = Piece {
            size,
            ended,
            bytes: (bytes.len() == size).then_some(bytes),
        };
        let flow = self.obey(step, Some(piece));
        // While a body waits, the next call shows all of it again.
        self.scanned = if flow == Flow::Wait { size } else { 0 };
        flow
    }

    pub(crate) fn request_trailers(&mut self) -> Flow {
        if self.is_stuck {
            return Flow::Wait;
        }
        self.notice_let_go();
        let mut step = self
            .request_event(|exchange, plugin, host| exchange.request_body(plugin, host, &[], true));
        self.has_trailers = true;
        self.leave_body(&mut step);
        self.obey(step, None)
    }

    /// A body that waits for its trailers can't be rewritten any more.
    fn leave_body(&self, step: &mut Step<RequestAction>) {
        if let RequestAction::Forward(_, Some(ids)) = &mut step.action
            && self.has_trailers
        {
            ids.leave_request();
        }
    }

    pub(crate) fn answer_headers(&mut self) -> Flow {
        self.hide_host(Map::Answer);
        if !self.exchange.awaits_answer() && self.ids.is_none() {
            return Flow::Go;
        }
        let headers = match host::headers(Map::Answer) {
            Ok(headers) => headers,
            Err(error) => return self.answer_failed(error),
        };
        let edit = self
            .ids
            .as_mut()
            .and_then(|ids| ids.answer_headers(&headers));
        let edited = edit.map_or(Ok(()), |edit| apply(Map::Answer, edit));
        if let Some(edit) = self.exchange.renames_session(&headers)
            && let Err(error) = apply(Map::Answer, edit)
        {
            self.note(&[Signal::Failed(error)]);
        }
        if let (Err(error), Some(ids)) = (edited, &mut self.ids) {
            ids.leave_answer();
            self.note(&[Signal::Failed(error)]);
        }
        if self
            .ids
            .as_ref()
            .is_some_and(|ids| ids.cannot_read(&headers))
        {
            self.note(&[Signal::Untranslated]);
        }
        self.answer_event(|exchange, plugin, host| exchange.answer_headers(plugin, host, &headers))
    }

    pub(crate) fn answer_body(&mut self, size: usize, ended: bool) -> Flow {
        // Of a stream there may be thousands of pieces.
        if !self.exchange.follows_answer() {
            self.answer = Waiting::Nothing;
            self.restore_ids(size, ended);
            return Flow::Go;
        }
        let mut bytes = Vec::new();
        if self.exchange.reads_answer() {
            match host::buffer(Buffer::AnswerBody, 0, size) {
                Ok(body) => bytes = body,
                // The session is learned; its version stays unknown.
                Err(error) => self.note(&[Signal::Failed(error)]),
            }
        }
        let flow = self.answer_event(|exchange, plugin, host| {
            exchange.answer_body(plugin, host, &bytes, size)
        });
        self.answer = match flow {
            Flow::Wait if ended => Waiting::All(size),
            Flow::Wait => Waiting::Pieces(size),
            Flow::Go => Waiting::Nothing,
        };
        if flow == Flow::Go {
            self.restore_ids(size, ended);
        }
        flow
    }

    pub(crate) fn answer_trailers(&mut self) -> Flow {
        let flow =
            self.answer_event(|exchange, plugin, host| exchange.answer_body(plugin, host, &[], 0));
        if let Waiting::Pieces(size) = self.answer {
            self.answer = Waiting::All(size);
        }
        flow
    }

    /// A call that was made in this context was answered.
    pub(crate) fn own_call_answered(&mut self, call: u32, body_size: usize) -> Flow {
        let Some(worker) = self.worker.clone() else {
            return Flow::Go;
        };
        worker.forget_call(call);
        self.call_answered(worker.call_answer(body_size));
        Flow::Go
    }

    /// A server answered a request of the filter's own that was sent for this one, or did not; this context is in effect.
    pub(crate) fn call_answered(&mut self, answer: Option<Answer>) {
        if !self.exchange.asks() {
            return;
        }
        let flow = self
            .answer_event(|exchange, plugin, host| exchange.call_answered(plugin, host, answer));
        self.resume_answer(flow);
    }

    /// An answer that waited goes on, if that is what has become of it.
    fn resume_answer(&mut self, flow: Flow) {
        if flow == Flow::Wait || matches!(self.answer, Waiting::Pieces(_)) {
            return;
        }
        if let Waiting::All(size) = self.answer {
            self.restore_ids(size, true);
        }
        if let (Err(error), Some(worker)) = (host::resume(host::Stream::Answer), &self.worker) {
            worker.note(&Signal::Failed(error));
            worker.stall(self.id, host::Stream::Answer);
        }
    }

    pub(crate) fn over(&mut self) -> Flow {
        if let Some(plugin) = self.plugin.clone() {
            let host = Host::default();
            let mut signals = mem::take(&mut self.exchange).over(&plugin, &host);
            if let Some(ids) = self.ids.take() {
                signals.extend(ids.over(&plugin, &host));
            }
            self.note(&signals);
        }
        if let (Some((seat, session)), Some(worker)) = (self.attends.take(), &self.worker) {
            worker.leave_session(&seat, &session);
        }
        Flow::Go
    }

    pub(crate) fn gone(&mut self) -> Flow {
        if let Some(worker) = &self.worker {
            worker.forget(self.id);
        }
        Flow::Go
    }

    /// Something has happened outside that this request waits for; its context is in effect.
    pub(crate) fn wake(&mut self, what: &Happened) {
        let (Some(plugin), Some(worker)) = (self.plugin.clone(), self.worker.clone()) else {
            return;
        };
        if !self.exchange.waits_at_seat() {
            self.end_wait();
            return;
        }
        let holds_answer = self.exchange.holds_answer();
        let whole = self.exchange.holds_whole_body() && !self.has_trailers && self.scanned > 0;
        let piece = whole.then_some(Piece {
            size: self.scanned,
            ended: true,
            bytes: None,
        });
        let (exchange, host) = (mem::take(&mut self.exchange), worker.host());
        let woken = match what {
            Happened::Change => exchange.woken(&plugin, &host),
            Happened::Tick => exchange.ticked(&plugin, &host),
            Happened::Errand(over) => exchange.errand_over(&plugin, &host, over),
        };
        match woken {
            Woken::Request(exchange, mut step) => {
                self.exchange = exchange;
                self.leave_body(&mut step);
                // Also if it was to be answered, and the host refused to.
                if self.obey(step, piece) == Flow::Go {
                    let resumed = host::resume(host::Stream::Request);
                    if let Err(error) = resumed {
                        worker.note(&Signal::Failed(error));
                        worker.stall(self.id, host::Stream::Request);
                    }
                    if holds_answer {
                        self.resume_answer(Flow::Go);
                    }
                }
            }
            Woken::Answer(exchange, step) => {
                self.exchange = exchange;
                let flow = self.obey_answer(step);
                self.resume_answer(flow);
            }
        }
    }

    fn request_event(
        &mut self,
        event: impl FnOnce(Exchange, &Plugin, &Host) -> (Exchange, Step<RequestAction>),
    ) -> Step<RequestAction> {
        let (Some(plugin), Some(worker)) = (self.plugin.clone(), &self.worker) else {
            return RequestAction::Continue.into();
        };
        let (exchange, step) = event(mem::take(&mut self.exchange), &plugin, &worker.host());
        self.exchange = exchange;
        step
    }

    fn answer_event(
        &mut self,
        event: impl FnOnce(Exchange, &Plugin, &Host) -> (Exchange, Step<AnswerAction>),
    ) -> Flow {
        if !self.exchange.waits_at_seat() {
            self.end_wait();
        }
        let (Some(plugin), Some(worker)) = (self.plugin.clone(), self.worker.clone()) else {
            return Flow::Go;
        };
        let (exchange, step) = event(mem::take(&mut self.exchange), &plugin, &worker.host());
        self.exchange = exchange;
        self.obey_answer(step)
    }

    fn obey_answer(&mut self, step: Step<AnswerAction>) -> Flow {
        self.note(&step.signals);
        match step.action {
            AnswerAction::Continue => {
                self.end_wait();
                Flow::Go
            }
            AnswerAction::Hold => Flow::Wait,
            AnswerAction::Ask(call) => {
                self.end_wait();
                match filter::send(&call) {
                    Ok(call) => {
                        if let Some(worker) = &self.worker {
                            worker.expect_answer(call, self.id, &self.myself);
                        }
                        Flow::Wait
                    }
                    Err(error) => self.answer_failed(error),
                }
            }
            AnswerAction::Reply(reply) => match self.reply(&reply) {
                Ok(()) => Flow::Wait,
                Err(error) => self.answer_failed(error),
            },
            AnswerAction::Wait(seat, errand) => {
                if let Some(worker) = &self.worker {
                    worker.wait(self.id, seat, &self.myself);
                    worker.run_errand(errand);
                }
                Flow::Wait
            }
        }
    }

    /// A request that waited too long is let go; its stream learns of it here.
    fn notice_let_go(&mut self) {
        let Some(worker) = &self.worker else { return };
        if self.exchange.is_held() && !worker.holds.borrow_mut().body_arrived(self.id) {
            self.exchange = mem::take(&mut self.exchange).let_go();
        }
    }

    fn obey(&mut self, step: Step<RequestAction>, piece: Option<Piece>) -> Flow {
        self.note(&step.signals);
        match step.action {
            RequestAction::Hold => Flow::Wait,
            RequestAction::Continue => {
                if !self.exchange.holds_answer() {
                    self.end_wait();
                }
                match piece {
                    Some(piece) => self.forward_body(piece),
                    None => Flow::Go,
                }
            }
            RequestAction::Forward(edits, ids) => {
                self.end_wait();
                if ids.is_some() {
                    self.ids = ids;
                }
                self.forward(edits, piece)
            }
            RequestAction::Reply(reply) => self.reply_to_request(&reply),
            RequestAction::Wait(seat, errand) => {
                if let Some(worker) = &self.worker {
                    worker.wait(self.id, seat, &self.myself);
                    worker.run_errand(errand);
                }
                Flow::Wait
            }
        }
    }

    fn reply_to_request(&mut self, reply: &Reply) -> Flow {
        match self.reply(reply) {
            Ok(()) => Flow::Wait,
            Err(error) => self.failed(error),
        }
    }

    fn reply(&mut self, reply: &Reply) -> Result<(), PlatformError> {
        self.end_wait();
        host::send_local_response(reply)?;
        if let (Some(ids), Some(plugin)) = (self.ids.take(), &self.plugin) {
            let signals = ids.over(plugin, &Host::default());
            self.note(&signals);
        }
        Ok(())
    }

    /// The host refused a call: the request goes on as it is, with what of it waits for its ids.
    fn failed(&mut self, error: PlatformError) -> Flow {
        self.answer_failed(error);
        self.leave_request()
    }

    /// The host refused a call: the answer goes on as it is. A request that still streams has its ids translated on.
    fn answer_failed(&mut self, error: PlatformError) -> Flow {
        self.end_wait();
        let exchange = mem::take(&mut self.exchange);
        if let Some(plugin) = &self.plugin {
            let signals = exchange.give_up(plugin, &Host::default());
            self.note(&signals);
        }
        self.note(&[
            Signal::Failed(error),
            Signal::Outcome(Outcome::HostError, None),
        ]);
        Flow::Go
    }

    fn end_wait(&self) {
        if let Some(worker) = &self.worker {
            worker.end_wait(self.id);
        }
    }

    fn note(&mut self, signals: &[Signal]) {
        let Some(worker) = &self.worker else { return };
        for signal in signals {
            worker.note(signal);
            match signal {
                Signal::Attends(seat, session) => {
                    worker.join_session(*seat, session);
                    self.attends = Some((*seat, session.clone()));
                }
                Signal::Leaves => {
                    if let Some((seat, session)) = self.attends.take() {
                        worker.leave_session(&seat, &session);
                    }
                }
                _ => {}
            }
        }
    }
}

/// What a stream that waits is told.
pub(crate) enum Happened {
    /// Something may have changed at its seat.
    Change,
    /// Time has passed.
    Tick,
    /// An errand at its seat is over.
    Errand(Over),
}

fn apply(map: Map, edit: Edit) -> Result<(), PlatformError> {
    match edit {
        Edit::Remove(name) => host::remove_header(map, &name),
        Edit::Set(name, value) => host::set_header(map, &name, &value),
    }
}
