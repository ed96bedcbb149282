//! The only file that talks to proxy-wasm: its callbacks go to a stream, or to the worker that all streams share.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::hostcalls::dispatch_http_call;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use crate::config::Config;
use crate::exchange::Signal;
use crate::hold;
use crate::host::{self, Buffer, Queue};
use crate::platform::PlatformError;
use crate::stream::{Flow, Stream};
use crate::subrequest::Subrequest;
use crate::worker::{HostLog, Worker, follow_log_level};
#[cfg(feature = "trap")]
use crate::{host::Map, trap};

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

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, _: usize, body_size: usize, _: usize) {
        #[cfg(feature = "trap")]
        trap::spring(Map::CallAnswer, "call");
        if let Some(worker) = &self.worker {
            worker.call_answered(call, body_size);
            worker.send_errands();
        }
    }
}

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
        let worker = Worker::new(self.id, config);
        worker.watch(Worker::agree);
        if let Err(error) = host::set_tick_period(hold::TICK) {
            worker.holds.borrow_mut().give_up();
            worker.note(&Signal::Failed(error));
        }
        self.worker = Some(Rc::new(worker));
        true
    }

    fn on_tick(&mut self) {
        if let Some(worker) = &self.worker {
            follow_log_level();
            worker.tick();
            worker.send_errands();
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(worker) = &self.worker {
            worker.read_mailbox(Queue(queue));
            worker.send_errands();
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http(Stream::new(id, self.worker.clone()))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Http(Rc<RefCell<Stream>>);

impl Http {
    /// Nothing calls back into a stream while it runs; if it did, what it was called for would pass.
    fn run(&self, event: impl FnOnce(&mut Stream) -> Flow) -> Action {
        match self.0.try_borrow_mut().map(|mut stream| event(&mut stream)) {
            Ok(Flow::Wait) => Action::Pause,
            Ok(Flow::Go) | Err(_) => Action::Continue,
        }
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, ended: bool) -> Action {
        #[cfg(feature = "trap")]
        trap::spring(Map::Request, "request");
        self.run(|stream| stream.request_headers(ended))
    }

    fn on_http_request_body(&mut self, size: usize, ended: bool) -> Action {
        self.run(|stream| stream.request_body(size, ended))
    }

    /// With HTTP/2 no call for the body says that it ended: the trailers do.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.run(Stream::request_trailers)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        #[cfg(feature = "trap")]
        trap::spring(Map::Answer, "answer");
        self.run(Stream::answer_headers)
    }

    fn on_http_response_body(&mut self, size: usize, ended: bool) -> Action {
        self.run(|stream| stream.answer_body(size, ended))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.run(Stream::answer_trailers)
    }

    fn on_log(&mut self) {
        self.run(Stream::over);
    }
}

impl Context for Http {
    fn on_http_call_response(&mut self, call: u32, _: usize, body_size: usize, _: usize) {
        self.run(|stream| stream.own_call_answered(call, body_size));
    }

    fn on_done(&mut self) -> bool {
        self.run(Stream::gone);
        true
    }
}

/// Sends a request of the filter's own, in the name of the context that is called back, and gives the number by which its
/// answer comes. By the SDK's own call: its dispatcher knows no answers to others.
pub(crate) fn send(request: &Subrequest) -> Result<u32, PlatformError> {
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    let body = (!request.body.is_empty()).then_some(request.body.as_slice());
    dispatch_http_call(
        &request.cluster,
        headers.collect(),
        body,
        Vec::new(),
        request.timeout,
    )
    .map_err(|status| PlatformError {
        call: "proxy_http_call",
        status: status as u32,
    })
}
