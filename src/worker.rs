//! What a configured plugin and all its requests in one VM share.

mod errands;
mod leases;
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::attendance::Attendance;
use crate::config::Config;
use crate::digest::Digest;
use crate::errand::{Answer, Ending, Errand, Over};
use crate::exchange::{Plugin, Signal};
use crate::hold::{Holds, Reason};
use crate::host::{self, Host, Queue};
use crate::memory;
use crate::metrics::Metrics;
use crate::platform::{Platform, PlatformError};
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
    pub(crate) config: Config,
    /// What tells this VM from others.
    vm: u64,
    /// Nothing until the VMs agreed on a salt.
    plugin: RefCell<Option<Rc<Plugin>>>,
    pub(crate) holds: RefCell<Holds>,
    /// Streams that the next tick has to let go: they waited too long, or the host refused to at once.
    stalled: RefCell<BTreeSet<(u32, host::Stream)>>,
    /// Streams that wait for a seat.
    waiting: RefCell<BTreeMap<u32, (Digest, StreamRef)>>,
    /// Tickets that nobody waits with any more, and that still stand in lines; no more than may wait.
    staying: RefCell<Vec<(Digest, Ticket)>>,
    /// Errands to be sent in the name of the root context.
    errands: RefCell<Vec<Errand>>,
    /// Errands under way, by the number of their call.
    under_way: RefCell<BTreeMap<u32, Errand>>,
    /// Ends of errands that these streams, which wait, could not be told of; no more than may wait.
    untold: RefCell<Vec<(Over, Vec<u32>)>>,
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
            // What fails once more is put back: so nothing may be borrowed meanwhile.
            let untold = self.untold.take();
            for (over, missed) in untold {
                self.tell(over, |id| missed.contains(&id));
            }
            let undelivered = self.undelivered.take();
            for (id, stream, answer) in undelivered {
                self.deliver(id, &stream, answer);
            }
            if self.mailbox.get().is_some() || self.is_waited_for() {
                self.watch(Self::sign);
            }
            self.wake_if(|_, _| true, &Happened::Tick);
        }
    }

    /// Whether somebody waits for what this VM has begun.
    fn is_waited_for(&self) -> bool {
        !self.waiting.borrow().is_empty() || !self.under_way.borrow().is_empty()
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
        let overdue = self.holds.borrow_mut().tick();
        for (request, reason) in overdue {
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
        self.stalled.borrow_mut().insert((stream, direction));
    }

    /// This stream's request is not to be let go, nor is the stream to be woken, any more. An answer that could not be
    /// resumed at once still is to be.
    pub(crate) fn end_wait(&self, stream: u32) {
        self.holds.borrow_mut().end(stream);
        let mut stalled = self.stalled.borrow_mut();
        stalled.remove(&(stream, host::Stream::Request));
        self.waiting.borrow_mut().remove(&stream);
    }

    /// This stream is no more.
    pub(crate) fn forget(&self, stream: u32) {
        self.end_wait(stream);
        let mut stalled = self.stalled.borrow_mut();
        stalled.remove(&(stream, host::Stream::Answer));
        self.forget_calls_of(stream);
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
            Signal::Unpinned => self.complain(
                "it is not known which host a new session is on, so its requests go to any: have the cluster name the \
                 host in upstream_host_header on its answers (an upstream http filter header_mutation)",
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
