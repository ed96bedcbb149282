//! The only file that talks to proxy-wasm: its callbacks become events, steps become hostcalls.

use std::mem;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use crate::config::Config;
use crate::exchange::{AnswerAction, Exchange, Plugin, RequestAction, Signal, Step};
use crate::hold;
use crate::host::{self, Buffer, Host, Map, Stream};
use crate::outcome::Outcome;
use crate::ping::Ping;
use crate::platform::PlatformError;
use crate::repair::Edit;
use crate::worker::{HostLog, Worker, follow_log_level};

proxy_wasm::main! {{
    // Refused if a second plugin in this VM was first; it is the same logger.
    let _ = log::set_logger(&HostLog);
    proxy_wasm::set_root_context(|id| Box::new(Root { id, worker: None }));
}}

struct Root {
    id: u32,
    /// Nothing until it is configured.
    worker: Option<Rc<Worker>>,
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
        let worker = Worker::new(config);
        if let Err(error) = worker.agree() {
            worker.note(&Signal::Failed(error));
        }
        if let Err(error) = host::set_tick_period(hold::TICK) {
            worker.holds.borrow_mut().give_up();
            worker.note(&Signal::Failed(error));
        }
        self.worker = Some(Rc::new(worker));
        true
    }

    fn on_tick(&mut self) {
        let Some(worker) = &self.worker else { return };
        follow_log_level();
        worker.collect_overdue();
        self.resume_stalled(worker);
        for done in [worker.agree(), worker.sweep()] {
            if let Err(error) = done {
                worker.note(&Signal::Failed(error));
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http {
            id,
            worker: self.worker.clone(),
            plugin: None,
            exchange: Exchange::Passing,
            scanned: 0,
            answer_body: Waiting::Nothing,
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn resume_stalled(&self, worker: &Worker) {
        if worker.stalled.borrow().is_empty() {
            return;
        }
        worker.stalled.borrow_mut().retain(|context, stream| {
            // Refused, the previous context stays in effect, and somebody else's request would go on.
            let done = host::set_effective_context(*context).and_then(|()| host::resume(*stream));
            if let Err(error) = done {
                worker.note(&Signal::Failed(error));
            }
            // Who has gone leaves the list by itself.
            done.is_err()
        });
        let _ = host::set_effective_context(self.id);
    }
}

struct Http {
    id: u32,
    worker: Option<Rc<Worker>>,
    /// What this request is judged by from its headers on.
    plugin: Option<Rc<Plugin>>,
    exchange: Exchange,
    /// Bytes at the start of the waiting request body that were scanned before.
    scanned: usize,
    answer_body: Waiting,
}

/// What of an answer's body waits in the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// Some pieces. To resume from outside would lose those that come after (seen in 1.36): the next one does it.
    Pieces,
    All,
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, ended: bool) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        let Some(plugin) = worker.plugin() else {
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
        let may_hold = worker.holds.borrow().are_supported();
        let (exchange, step) = Exchange::begin(&plugin, &Host::default(), headers, ended, may_hold);
        self.plugin = Some(plugin);
        self.exchange = exchange;
        if self.exchange.is_held() {
            worker.holds.borrow_mut().begin(self.id);
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

    fn on_http_response_body(&mut self, size: usize, ended: bool) -> Action {
        let mut bytes = Vec::new();
        if self.exchange.reads_answer() {
            match host::buffer(Buffer::AnswerBody, 0, size) {
                Ok(body) => bytes = body,
                // The session is learned; its version stays unknown.
                Err(error) => self.note(&[Signal::Failed(error)]),
            }
        }
        let action =
            self.answer(|exchange, plugin, host| exchange.answer_body(plugin, host, &bytes, size));
        self.answer_body = match action {
            Action::Pause if ended => Waiting::All,
            Action::Pause => Waiting::Pieces,
            _ => Waiting::Nothing,
        };
        action
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        let action =
            self.answer(|exchange, plugin, host| exchange.answer_body(plugin, host, &[], 0));
        self.answer_body = Waiting::All;
        action
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
        if action == Action::Pause || self.answer_body == Waiting::Pieces {
            return;
        }
        if let (Err(error), Some(worker)) = (host::resume(Stream::Answer), &self.worker) {
            worker.note(&Signal::Failed(error));
            worker.stalled.borrow_mut().insert(self.id, Stream::Answer);
        }
    }

    fn on_done(&mut self) -> bool {
        self.end_wait();
        true
    }
}

impl Http {
    /// A request that waited too long is let go; its own context learns of it here.
    fn notice_let_go(&mut self) {
        let Some(worker) = &self.worker else { return };
        if self.exchange.is_held() && !worker.holds.borrow_mut().body_arrived(self.id) {
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

    fn end_wait(&self) {
        if let Some(worker) = &self.worker {
            worker.end_wait(self.id);
        }
    }

    fn note(&self, signals: &[Signal]) {
        if let Some(worker) = &self.worker {
            for signal in signals {
                worker.note(signal);
            }
        }
    }
}
