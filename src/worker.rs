//! What a configured plugin and all its requests in one VM share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::attendance::Attendance;
use crate::config::{Config, OnReinitialize};
use crate::digest::Digest;
use crate::errand::{Answer, Ending, Errand, Over, Progress};
use crate::exchange::{Plugin, Signal, leave_line};
use crate::filter;
use crate::hold::{Holds, Reason};
use crate::host::{self, Host, Queue};
use crate::memory;
use crate::metrics::Metrics;
use crate::platform::{Platform, PlatformError};
use crate::roster::{self, Roster};
use crate::seat::Ticket;
use crate::session::SessionId;
use crate::stream::{Happened, Stream};
use crate::time::Millis;

/// How often a VM writes of failing hostcalls into the log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// The environment variable with the operator's secret for digests (`vm_config.environment_variables`).
const SECRET_VARIABLE: &str = "MCP_SESSION_FILTER_KEY";
/// The property that an access log shows: `%FILTER_STATE(wasm.mcp_session.outcome:PLAIN)%`.
const OUTCOME_PROPERTY: &str = "mcp_session.outcome";

/// How many requests of one VM may wait for sessions.
pub(crate) const MOST_WAITING: usize = 1024;
/// How many messages of its mailbox a VM reads in one go; the host says once for each that it is there.
const MESSAGES: usize = 256;

/// See the module.
pub(crate) struct Worker {
    /// The root context's number.
    root: u32,
    config: Config,
    /// What tells this VM from others.
    vm: u64,
    /// Nothing until the VMs agreed on a salt.
    plugin: RefCell<Option<Rc<Plugin>>>,
    pub(crate) holds: RefCell<Holds>,
    /// Streams that the next tick has to let go: they waited too long, or the host refused to at once.
    stalled: RefCell<BTreeMap<u32, host::Stream>>,
    /// Streams that wait for a seat.
    waiting: RefCell<BTreeMap<u32, (Digest, StreamRef)>>,
    /// Tickets that nobody waits with any more, and that still stand in lines; no more than may wait.
    staying: RefCell<Vec<(Digest, Ticket)>>,
    /// Errands to be sent in the name of the root context.
    errands: RefCell<Vec<Errand>>,
    /// Errands under way, by the number of their call.
    under_way: RefCell<BTreeMap<u32, Errand>>,
    /// Ends of errands that somebody who waits could not be told of; no more than may wait.
    untold: RefCell<Vec<Over>>,
    /// Ends of errands that could not be written down at their seats; no more than may wait.
    unsettled: RefCell<Vec<Ending>>,
    /// Streams whose own calls are under way, by the number of the call. Those that were made while the root context was
    /// called back are answered there.
    calls: RefCell<BTreeMap<u32, (u32, StreamRef)>>,
    /// Answers to such calls that the host did not let through to their streams; no more than streams.
    undelivered: RefCell<Vec<Undelivered>>,
    mailbox: Cell<Option<Mailbox>>,
    attendance: RefCell<Attendance>,
    /// The seat to be looked at next for a session that has expired.
    next_seat: Cell<u32>,
    metrics: Metrics,
    complained: Cell<Option<Millis>>,
}

/// A stream, for as long as the host has it.
type StreamRef = Weak<RefCell<Stream>>;

/// A stream's number, the stream, and what was answered to its call.
type Undelivered = (u32, StreamRef, Option<Answer>);

/// The shared queue through which this VM is told of changes at seats.
#[derive(Clone, Copy)]
struct Mailbox {
    number: usize,
    queue: Queue,
    signed: Millis,
}

impl Worker {
    pub(crate) fn new(root: u32, config: Config) -> Self {
        Self {
            root,
            config,
            vm: Host::default().nonce(),
            plugin: RefCell::default(),
            holds: RefCell::default(),
            stalled: RefCell::default(),
            waiting: RefCell::default(),
            staying: RefCell::default(),
            errands: RefCell::default(),
            under_way: RefCell::default(),
            untold: RefCell::default(),
            unsettled: RefCell::default(),
            calls: RefCell::default(),
            undelivered: RefCell::default(),
            mailbox: Cell::default(),
            attendance: RefCell::default(),
            next_seat: Cell::default(),
            metrics: Metrics::define(),
            complained: Cell::default(),
        }
    }

    /// What requests are judged by; nothing while the VMs have not agreed on a salt, and requests pass.
    pub(crate) fn plugin(&self) -> Option<Rc<Plugin>> {
        self.plugin.borrow().clone()
    }

    /// Agrees with the other VMs on a salt, and makes the slots with the first. Done anew with every tick: should two
    /// have started at the same time with two salts, the one that was overwritten follows.
    pub(crate) fn agree(&self) -> Result<(), PlatformError> {
        let host = Host::default();
        let salt = memory::agree_on_salt(&host, || {
            let mut salt = [0; 32];
            getrandom::fill(&mut salt).is_ok().then_some(salt)
        })?;
        let Some(salt) = salt else { return Ok(()) };
        let is_new = self.plugin.borrow().as_ref().is_none_or(|p| p.salt != salt);
        if is_new {
            let secret = std::env::var_os(SECRET_VARIABLE).unwrap_or_default();
            let secret = secret.as_encoded_bytes();
            let plugin = Plugin::new(self.config.clone(), salt, secret, self.vm);
            plugin.create_tables(&host)?;
            *self.plugin.borrow_mut() = Some(Rc::new(plugin));
        }
        Ok(())
    }

    /// Does something that a host may refuse; then all goes on without.
    pub(crate) fn watch(&self, act: impl FnOnce(&Self) -> Result<(), PlatformError>) {
        if let Err(error) = act(self) {
            self.note(&Signal::Failed(error));
        }
    }

    /// The host, as requests see it.
    pub(crate) fn host(&self) -> Host {
        Host::crowded(self.waiting.borrow().len() >= MOST_WAITING)
    }

    /// What is due again and again.
    pub(crate) fn tick(&self) {
        self.collect_overdue();
        self.resume_stalled();
        self.watch(Self::agree);
        self.watch(Self::sweep);
        if self.plugin().is_some_and(|plugin| plugin.has_seats()) {
            self.settle();
            self.renew_leases();
            self.watch(Self::end_expired);
            self.clear_lines();
            for over in mem::take(&mut *self.untold.borrow_mut()) {
                self.tell(over);
            }
            for (id, stream, answer) in mem::take(&mut *self.undelivered.borrow_mut()) {
                self.deliver(id, &stream, answer);
            }
            self.watch(|worker| worker.mailbox.get().map_or(Ok(()), |_| worker.sign()));
            self.wake_if(|_| true, &Happened::Tick);
        }
    }

    /// Looks through a part of the memory, and keeps the gauge.
    fn sweep(&self) -> Result<(), PlatformError> {
        let Some(plugin) = self.plugin() else {
            return Ok(());
        };
        let host = Host::default();
        if let Some(living) = plugin.memory.sweep(&host, host.now())? {
            self.metrics.set_live(living);
        }
        Ok(())
    }

    /// Marks what has waited too long.
    fn collect_overdue(&self) {
        for (request, reason) in self.holds.borrow_mut().tick() {
            self.stall(request, host::Stream::Request);
            match reason {
                Reason::Slow => {}
                Reason::NoBody => self.metrics.count_hold_unsupported(),
                Reason::Unsupported => {
                    self.metrics.count_hold_unsupported();
                    log::error!(
                        "hold_request_headers needs `allow_on_headers_stop_iteration: true` in the plugin's \
                         PluginConfig (Envoy 1.35 or later): headers waited, and no body came. This worker goes on \
                         as with `hold_request_headers: false`"
                    );
                }
            }
        }
    }

    fn resume_stalled(&self) {
        let stalled = mem::take(&mut *self.stalled.borrow_mut());
        for (stream, direction) in stalled {
            // Refused, the previous context stays in effect, and somebody else's request would go on.
            let done = host::set_effective_context(stream).and_then(|()| host::resume(direction));
            if let Err(error) = done {
                self.note(&Signal::Failed(error));
                // Who has gone leaves the list by itself.
                self.stall(stream, direction);
            }
        }
    }

    /// The next tick is to let this stream go.
    pub(crate) fn stall(&self, stream: u32, direction: host::Stream) {
        self.stalled.borrow_mut().insert(stream, direction);
    }

    /// Nothing of this stream is to be let go or woken any more.
    pub(crate) fn end_wait(&self, stream: u32) {
        self.holds.borrow_mut().end(stream);
        self.stalled.borrow_mut().remove(&stream);
        self.waiting.borrow_mut().remove(&stream);
    }

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

    /// Wakes those who wait for a seat that is meant, each in its own context. Says whether that went for all of them.
    fn wake_if(&self, is_meant: impl Fn(&Digest) -> bool, what: &Happened) -> bool {
        let waiting = self.waiting.borrow();
        let meant = waiting.iter().filter(|(_, (seat, _))| is_meant(seat));
        let meant: Vec<_> = meant
            .map(|(id, (_, stream))| (*id, stream.clone()))
            .collect();
        drop(waiting);
        let mut all = true;
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
                all = false;
            }
        }
        all
    }

    /// Who waits hears of the end of an errand. It alone knows the answer to its own: nobody may miss that.
    fn tell(&self, over: Over) {
        let (seat, what) = (over.seat, Happened::Errand(over));
        if !self.wake_if(|other| *other == seat, &what)
            && let Happened::Errand(over) = what
        {
            let mut untold = self.untold.borrow_mut();
            if untold.len() < MOST_WAITING {
                untold.push(over);
            }
        }
    }

    /// Takes those out of their lines that could not leave.
    fn clear_lines(&self) {
        let Some(plugin) = self.plugin() else { return };
        let staying = mem::take(&mut *self.staying.borrow_mut());
        for (seat, ticket) in staying {
            for signal in leave_line(&plugin, &Host::default(), seat, ticket) {
                self.note(&signal);
            }
        }
    }

    /// Says that this VM lives, and takes a mailbox.
    fn sign(&self) -> Result<(), PlatformError> {
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
    fn announce(&self, seat: &Digest) -> Result<(), PlatformError> {
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
    fn nudge(&self, message: &[u8]) -> Result<(), PlatformError> {
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
            self.wake_if(|other| *other == seat, &Happened::Change);
        }
    }

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
    pub(crate) fn forget_calls_of(&self, stream: u32) {
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
    fn deliver(&self, id: u32, stream: &Weak<RefCell<Stream>>, answer: Option<Answer>) {
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

    fn proceed(&self, plugin: &Plugin, errand: Errand, answer: Option<Answer>) {
        let (progress, signals) = errand.answered(plugin, &Host::default(), answer);
        for signal in &signals {
            self.note(signal);
        }
        match progress {
            Progress::Next(errand) => self.errands.borrow_mut().push(errand),
            Progress::Over(over) => self.errand_over(over),
        }
    }

    fn errand_over(&self, mut over: Over) {
        if let Some(ending) = over.unsettled.take() {
            let mut unsettled = self.unsettled.borrow_mut();
            if unsettled.len() < MOST_WAITING {
                unsettled.push(ending);
            }
        }
        if over.wakes {
            self.note(&Signal::Wake(over.seat));
        }
        self.tell(over);
    }

    /// Writes down at seats what could not be written down before.
    fn settle(&self) {
        let Some(plugin) = self.plugin() else { return };
        for ending in mem::take(&mut *self.unsettled.borrow_mut()) {
            let (over, signals) = ending.settle(&plugin, &Host::default());
            for signal in &signals {
                self.note(signal);
            }
            self.errand_over(over);
        }
    }

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

    fn renew_lease(&self, seat: &Digest, session: &SessionId) {
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

    fn renew_leases(&self) {
        let (now, lease) = (Host::default().now(), self.config.session.lease);
        let due = self.attendance.borrow_mut().due(now, lease);
        for (seat, session) in due {
            self.renew_lease(&seat, &session);
        }
    }

    /// Ends a shared session that nobody uses any more: nobody else would.
    fn end_expired(&self) -> Result<(), PlatformError> {
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
        let expired = plugin.seats.expire(&host, slot, ticket, host.now())?;
        if let Some((seat, holder)) = expired {
            self.errands
                .borrow_mut()
                .push(Errand::close(seat, ticket, *holder, None));
        }
        Ok(())
    }

    pub(crate) fn note(&self, signal: &Signal) {
        self.metrics.count(signal);
        match signal {
            Signal::Outcome(outcome, session) => {
                // Refused, only the log of this one request lacks it.
                let _ = host::set_property(OUTCOME_PROPERTY, outcome.name());
                if log::log_enabled!(log::Level::Debug) {
                    let session = session.as_ref().map(SessionId::fingerprint);
                    let session = session.as_deref().unwrap_or("none");
                    log::debug!("{} (session {session})", outcome.name());
                }
            }
            Signal::Failed(error) => self.complain(&format!(
                "{error}; requests go on without their session. The counter mcp_session.host_error says how many; \
                 if it grows, compare this Envoy with the versions that the filter supports"
            )),
            Signal::Contended => log::debug!("a change was overtaken by other workers and dropped"),
            Signal::Queued => log::debug!("an initialize waits for the session before it to end"),
            Signal::NoSeat => self.complain(
                "all places for sessions that wait or are shared are in use: memory.bulk_slots is too small",
            ),
            Signal::Untranslated => self.complain(
                "a server compressed an answer though it was asked not to: its JSON-RPC ids can't be put back, and \
                 clients will not know it. Switch compression off for MCP in that server, or in what stands before it",
            ),
            Signal::Wake(seat) => self.watch(|worker| worker.announce(seat)),
            Signal::Stays(seat, ticket) => {
                let mut staying = self.staying.borrow_mut();
                if staying.len() < MOST_WAITING {
                    staying.push((*seat, *ticket));
                }
            }
            Signal::Attends(..) | Signal::Leaves => {}
            Signal::Evicted(sessions) => {
                log::debug!(
                    "{sessions} sessions evicted: memory.slots or memory.per_caller is small"
                );
            }
        }
    }

    /// Says what to do about something that may go on and on, once in a while.
    fn complain(&self, words: &str) {
        let now = Host::default().now();
        let is_recent = |last: Millis| now.since(last) < COMPLAINT_INTERVAL;
        if self.complained.get().is_some_and(is_recent) {
            return;
        }
        self.complained.set(Some(now));
        log::warn!("{words}");
    }
}

/// Writes log lines by a call that can fail without a panic.
pub(crate) struct HostLog;

impl log::Log for HostLog {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            host::log(
                record.level(),
                &format!("mcp_session_filter: {}", record.args()),
            );
        }
    }

    fn flush(&self) {}
}

/// Log levels can change while Envoy runs.
pub(crate) fn follow_log_level() {
    log::set_max_level(host::log_level().unwrap_or(log::LevelFilter::Warn));
}
