//! What a configured plugin and all its requests in one VM share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::digest::DigestKey;
use crate::exchange::{Plugin, Signal};
use crate::hold::{Holds, Reason};
use crate::host::{self, Host, Stream};
use crate::memory::{self, Memory};
use crate::metrics::Metrics;
use crate::platform::{Platform, PlatformError};
use crate::session::SessionId;
use crate::time::Millis;

/// How often a VM writes of failing hostcalls into the log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// The environment variable with the operator's secret for digests (`vm_config.environment_variables`).
const SECRET_VARIABLE: &str = "MCP_SESSION_FILTER_KEY";
/// The property that an access log shows: `%FILTER_STATE(wasm.mcp_session.outcome:PLAIN)%`.
const OUTCOME_PROPERTY: &str = "mcp_session.outcome";

/// See the module.
pub(crate) struct Worker {
    config: Config,
    /// Nothing until the VMs agreed on a salt.
    plugin: RefCell<Option<Rc<Plugin>>>,
    pub(crate) holds: RefCell<Holds>,
    /// Streams that the next tick has to let go: they waited too long, or the host refused to at once.
    pub(crate) stalled: RefCell<BTreeMap<u32, Stream>>,
    metrics: Metrics,
    complained: Cell<Option<Millis>>,
}

impl Worker {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            plugin: RefCell::default(),
            holds: RefCell::default(),
            stalled: RefCell::default(),
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
            let memory = Memory::new(&self.config);
            memory.create_slots(&host)?;
            let secret = std::env::var_os(SECRET_VARIABLE).unwrap_or_default();
            *self.plugin.borrow_mut() = Some(Rc::new(Plugin {
                config: self.config.clone(),
                memory,
                key: DigestKey::new(&salt, secret.as_encoded_bytes()),
                salt,
            }));
        }
        Ok(())
    }

    /// Looks through a part of the memory, and keeps the gauge.
    pub(crate) fn sweep(&self) -> Result<(), PlatformError> {
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
    pub(crate) fn collect_overdue(&self) {
        for (request, reason) in self.holds.borrow_mut().tick() {
            self.stalled.borrow_mut().insert(request, Stream::Request);
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

    /// Nothing of this stream is to be let go any more.
    pub(crate) fn end_wait(&self, stream: u32) {
        self.holds.borrow_mut().end(stream);
        self.stalled.borrow_mut().remove(&stream);
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
            Signal::Failed(error) => self.complain(*error),
            Signal::Contended => log::debug!("a change was overtaken by other workers and dropped"),
            Signal::Evicted(sessions) => {
                log::debug!(
                    "{sessions} sessions evicted: memory.slots or memory.per_caller is small"
                );
            }
        }
    }

    /// Says what to do about a failing host, once in a while.
    pub(crate) fn complain(&self, error: PlatformError) {
        let now = Host::default().now();
        let is_recent = |last: Millis| now.since(last) < COMPLAINT_INTERVAL;
        if self.complained.get().is_some_and(is_recent) {
            return;
        }
        self.complained.set(Some(now));
        log::warn!(
            "{error}; requests go on without their session. The counter mcp_session.host_error says how many; \
             if it grows, compare this Envoy with the versions that the filter supports"
        );
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
