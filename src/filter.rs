//! The only file that talks to proxy-wasm: its callbacks become events, steps become hostcalls.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use crate::config::Config;
use crate::digest::DigestKey;
use crate::exchange::{AnswerAction, Exchange, Plugin, RequestAction, Signal, Step};
use crate::hold::{Holds, Reason};
use crate::host::{self, Buffer, Host, Map, Stream};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::ping::Ping;
use crate::platform::{Platform, PlatformError};
use crate::repair::Edit;
use crate::session::SessionId;
use crate::time::Millis;

/// How often a VM looks at what waits, and at the memory.
const TICK: Duration = Duration::from_millis(250);
/// How often a VM writes of failing hostcalls into the log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// The environment variable with the operator's secret for digests (`vm_config.environment_variables`).
const SECRET_VARIABLE: &str = "MCP_SESSION_FILTER_KEY";
/// The property that an access log shows: `%FILTER_STATE(wasm.mcp_session.outcome:PLAIN)%`.
const OUTCOME_PROPERTY: &str = "mcp_session.outcome";

proxy_wasm::main! {{
    // Refused if a second plugin in this VM was first; it is the same logger.
    let _ = log::set_logger(&HostLog);
    proxy_wasm::set_root_context(|id| Box::new(Root { id, shared: None }));
}}

/// Writes log lines by a call that can fail without a panic.
struct HostLog;

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

/// What a configured plugin and all its requests in this VM share.
struct Shared {
    config: Config,
    /// Nothing until the VMs agreed on a salt.
    plugin: RefCell<Option<Rc<Plugin>>>,
    holds: RefCell<Holds>,
    /// What is to go on with the next tick: held for too long, or the host refused to let it go at once.
    stalled: RefCell<BTreeMap<u32, Stream>>,
    metrics: Metrics,
    complained: Cell<Option<Millis>>,
}

impl Shared {
    fn new(config: Config) -> Self {
        Self {
            config,
            plugin: RefCell::default(),
            holds: RefCell::default(),
            stalled: RefCell::default(),
            metrics: Metrics::define(),
            complained: Cell::default(),
        }
    }

    fn plugin(&self) -> Option<Rc<Plugin>> {
        self.plugin.borrow().clone()
    }

    /// Makes the slots and agrees with the other VMs on a salt, anew with every tick: should two have started at the
    /// same time with two salts, the one that was overwritten follows.
    fn agree(&self) -> Result<(), PlatformError> {
        let host = Host::default();
        let memory = Memory::new(&self.config);
        let salt = memory.salt(&host, || {
            let mut salt = [0; 32];
            getrandom::fill(&mut salt).is_ok().then_some(salt)
        })?;
        let Some(salt) = salt else { return Ok(()) };
        let is_new = self.plugin.borrow().as_ref().is_none_or(|p| p.salt != salt);
        if is_new {
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

    fn note(&self, signal: &Signal) {
        self.metrics.count(signal);
        match signal {
            Signal::Outcome(outcome, session) => {
                // Only the log of this one request lacks it then.
                let _ = host::set_property(OUTCOME_PROPERTY, outcome.name());
                if log::log_enabled!(log::Level::Debug) {
                    let session = session.as_ref().map(SessionId::fingerprint);
                    let session = session.as_deref().unwrap_or("none");
                    log::debug!("{} (session {session})", outcome.name());
                }
            }
            Signal::Failed(error) => self.complain(*error),
            Signal::Evicted(sessions) => {
                log::debug!(
                    "{sessions} sessions evicted: memory.slots or memory.per_caller is small"
                );
            }
        }
    }

    fn complain(&self, error: PlatformError) {
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

struct Root {
    id: u32,
    shared: Option<Rc<Shared>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        follow_log_level();
        let config = host::buffer(Buffer::Configuration, 0, size);
        let config = match config.as_deref().map(Config::parse) {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => {
                log::error!("configuration refused: {error}");
                return false;
            }
            Err(error) => {
                log::error!("configuration not readable: {error}");
                return false;
            }
        };
        let shared = Shared::new(config);
        if let Err(error) = shared.agree() {
            shared.note(&Signal::Failed(error));
        }
        if let Err(error) = host::set_tick_period(TICK) {
            shared.note(&Signal::Failed(error));
        }
        self.shared = Some(Rc::new(shared));
        true
    }

    fn on_tick(&mut self) {
        let Some(shared) = &self.shared else { return };
        follow_log_level();
        let host = Host::default();
        let now = host.now();
        let overdue = shared.holds.borrow_mut().overdue(now, TICK);
        for (request, reason) in overdue {
            note_overdue(shared, reason);
            shared.stalled.borrow_mut().insert(request, Stream::Request);
        }
        self.resume_stalled(shared);
        if let Err(error) = shared.agree() {
            shared.note(&Signal::Failed(error));
        }
        if let Some(plugin) = shared.plugin() {
            match plugin.memory.sweep(&host, now) {
                Ok(None) => {}
                Ok(Some(living)) => shared.metrics.set_live(living),
                Err(error) => shared.note(&Signal::Failed(error)),
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http {
            id,
            shared: self.shared.clone(),
            plugin: None,
            exchange: Exchange::Passing,
            scanned: 0,
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn resume_stalled(&self, shared: &Shared) {
        if shared.stalled.borrow().is_empty() {
            return;
        }
        shared.stalled.borrow_mut().retain(|context, stream| {
            // Refused, the previous context stays in effect, and somebody else's request would go on.
            let done = host::set_effective_context(*context).and_then(|()| host::resume(*stream));
            if let Err(error) = done {
                shared.note(&Signal::Failed(error));
            }
            // Who has gone leaves the list by itself.
            done.is_err()
        });
        let _ = host::set_effective_context(self.id);
    }
}

fn note_overdue(shared: &Shared, reason: Reason) {
    match reason {
        Reason::Slow => {}
        Reason::NoBody => shared.metrics.count_hold_unsupported(),
        Reason::Unsupported => {
            shared.metrics.count_hold_unsupported();
            log::error!(
                "hold_request_headers needs `allow_on_headers_stop_iteration: true` in the plugin's \
                 PluginConfig (Envoy 1.35 or later): headers waited, and no body came. This worker goes on as with \
                 `hold_request_headers: false`"
            );
        }
    }
}

/// Log levels can change while Envoy runs.
fn follow_log_level() {
    log::set_max_level(host::log_level().unwrap_or(log::LevelFilter::Warn));
}

struct Http {
    id: u32,
    shared: Option<Rc<Shared>>,
    /// What this request is judged by from its headers on.
    plugin: Option<Rc<Plugin>>,
    exchange: Exchange,
    /// Bytes at the start of the waiting request body that were scanned before.
    scanned: usize,
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, ended: bool) -> Action {
        let Some(shared) = self.shared.clone() else {
            return Action::Continue;
        };
        let Some(plugin) = shared.plugin() else {
            return Action::Continue;
        };
        match host::request_header(":path") {
            Ok(Some(path)) if plugin.config.paths.contain(&path) => {}
            Ok(_) => return Action::Continue,
            Err(error) => return self.failed(error),
        }
        let headers = match host::headers(Map::Request) {
            Ok(headers) => headers,
            Err(error) => return self.failed(error),
        };
        let host = Host::default();
        let may_hold = shared.holds.borrow().are_supported();
        let (exchange, step) = Exchange::begin(&plugin, &host, headers, ended, may_hold);
        self.plugin = Some(plugin);
        self.exchange = exchange;
        if self.exchange.is_held() {
            shared.holds.borrow_mut().begin(self.id, host.now());
        }
        self.obey_request(step)
    }

    fn on_http_request_body(&mut self, size: usize, ended: bool) -> Action {
        self.notice_let_go();
        let left = size.saturating_sub(self.scanned);
        let wanted = self.exchange.wanted_request_bytes().min(left);
        if wanted == 0 && !ended {
            return if self.exchange.is_held() {
                Action::Pause
            } else {
                Action::Continue
            };
        }
        let bytes = match host::buffer(Buffer::RequestBody, self.scanned, wanted) {
            Ok(bytes) => bytes,
            Err(error) => return self.failed(error),
        };
        let (exchange, step) =
            mem::take(&mut self.exchange).request_body(&bytes, ended && wanted == left);
        self.exchange = exchange;
        let action = self.obey_request(step);
        // While a body waits, the next call shows all of it again.
        self.scanned = if action == Action::Pause { size } else { 0 };
        action
    }

    /// With HTTP/2 no call for the body says that it ended: the trailers do.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.notice_let_go();
        let (exchange, step) = mem::take(&mut self.exchange).request_body(&[], true);
        self.exchange = exchange;
        self.obey_request(step)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if !self.exchange.awaits_answer() {
            return Action::Continue;
        }
        match host::headers(Map::Answer) {
            Ok(headers) => self
                .answer(|exchange, plugin, host| exchange.answer_headers(plugin, host, &headers)),
            Err(error) => self.failed(error),
        }
    }

    fn on_http_response_body(&mut self, size: usize, _: bool) -> Action {
        let mut bytes = Vec::new();
        if self.exchange.reads_answer() {
            match host::buffer(Buffer::AnswerBody, 0, size) {
                Ok(body) => bytes = body,
                // The session is learned; its version stays unknown.
                Err(error) => self.note(&[Signal::Failed(error)]),
            }
        }
        self.answer(|exchange, plugin, host| exchange.answer_body(plugin, host, &bytes, size))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.answer(|exchange, plugin, host| exchange.answer_body(plugin, host, &[], 0))
    }

    fn on_log(&mut self) {
        if let Some(plugin) = &self.plugin {
            let signals = mem::take(&mut self.exchange).over(plugin, &Host::default());
            self.note(&signals);
        }
    }
}

impl Context for Http {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        if !self.exchange.asks() {
            return;
        }
        let status = host::headers(Map::PingAnswer)
            .ok()
            .and_then(|headers| headers.status());
        let action =
            self.answer(|exchange, plugin, host| exchange.ping_answered(plugin, host, status));
        if action == Action::Continue
            && let Err(error) = host::resume(Stream::Answer)
        {
            self.note(&[Signal::Failed(error)]);
            if let Some(shared) = &self.shared {
                shared.stalled.borrow_mut().insert(self.id, Stream::Answer);
            }
        }
    }

    fn on_done(&mut self) -> bool {
        self.end_wait();
        true
    }
}

impl Http {
    /// The root lets a request go that waited too long; its own context learns of it here.
    fn notice_let_go(&mut self) {
        let Some(shared) = &self.shared else { return };
        if self.exchange.is_held() && !shared.holds.borrow_mut().body_arrived(self.id) {
            self.exchange = mem::take(&mut self.exchange).let_go();
        }
    }

    fn obey_request(&mut self, step: Step<RequestAction>) -> Action {
        self.note(&step.signals);
        let edits = match step.action {
            RequestAction::Hold => return Action::Pause,
            RequestAction::Continue => Vec::new(),
            RequestAction::Repair(edits) => edits,
        };
        self.end_wait();
        for edit in edits {
            let done = match edit {
                Edit::Remove(name) => host::remove_request_header(name),
                Edit::Set(name, value) => host::set_request_header(name, &value),
            };
            if let Err(error) = done {
                return self.failed(error);
            }
        }
        Action::Continue
    }

    fn answer(
        &mut self,
        event: impl FnOnce(Exchange, &Plugin, &Host) -> (Exchange, Step<AnswerAction>),
    ) -> Action {
        self.end_wait();
        let Some(plugin) = self.plugin.clone() else {
            return Action::Continue;
        };
        let (exchange, step) = event(mem::take(&mut self.exchange), &plugin, &Host::default());
        self.exchange = exchange;
        self.note(&step.signals);
        match step.action {
            AnswerAction::Continue => Action::Continue,
            AnswerAction::Hold => Action::Pause,
            AnswerAction::Ask(ping) => match self.send(&ping) {
                Ok(_) => Action::Pause,
                Err(error) => self.failed(error),
            },
        }
    }

    /// By the SDK's own call: its dispatcher knows no answers to others.
    fn send(&self, ping: &Ping) -> Result<u32, PlatformError> {
        let headers = ping.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
        self.dispatch_http_call(
            &ping.cluster,
            headers.collect(),
            Some(&ping.body),
            Vec::new(),
            ping.timeout,
        )
        .map_err(|status| PlatformError {
            call: "proxy_http_call",
            status: status as u32,
        })
    }

    /// The host refused a call: the request goes on as it is.
    fn failed(&mut self, error: PlatformError) -> Action {
        self.end_wait();
        self.exchange = Exchange::Passing;
        self.note(&[
            Signal::Failed(error),
            Signal::Outcome(Outcome::HostError, None),
        ]);
        Action::Continue
    }

    /// Nothing of this request is to be let go any more.
    fn end_wait(&self) {
        if let Some(shared) = &self.shared {
            shared.holds.borrow_mut().end(self.id);
            shared.stalled.borrow_mut().remove(&self.id);
        }
    }

    fn note(&self, signals: &[Signal]) {
        if let Some(shared) = &self.shared {
            for signal in signals {
                shared.note(signal);
            }
        }
    }
}
