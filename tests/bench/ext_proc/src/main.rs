//! What the session filter does, as far as a short ext_proc service can: an answer's session is remembered, and added to
//! the later requests of its caller.
//!
//! It knows neither bounds nor expiry, shares no sessions, translates no ids, recovers none that a server has lost, and
//! asks nobody whether a caller may be trusted. What it has to see, and no more, it is sent: a request that brings a
//! session id costs one message, a `POST` without one three, as only its body says whether it is an `initialize`.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::{
    BodySendMode, HeaderSendMode,
};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Event;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, ProcessingRequest,
    ProcessingResponse, TrailersResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
/// What is not looked for in answers: their bodies would have to be sent, too.
const LATEST: &str = "2025-11-25";

/// The session of each credential.
type Sessions = Arc<Mutex<HashMap<String, String>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("which socket?")?;
    let listener = UnixListener::bind(&path)?;
    println!("listening");
    let service = ExternalProcessorServer::new(Service::default());
    let connections = UnixListenerStream::new(listener);
    Server::builder()
        .add_service(service)
        .serve_with_incoming(connections)
        .await?;
    Ok(())
}

#[derive(Default)]
struct Service {
    sessions: Sessions,
}

#[tonic::async_trait]
impl ExternalProcessor for Service {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        requests: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let mut exchange = Exchange::new(&self.sessions);
        let replies = requests
            .into_inner()
            .map(move |request| Ok(exchange.reply(request?)));
        Ok(Response::new(Box::pin(replies)))
    }
}

/// One request and its answer.
struct Exchange {
    sessions: Sessions,
    caller: String,
    has_version: bool,
    is_initialize: bool,
}

impl Exchange {
    fn new(sessions: &Sessions) -> Self {
        Self {
            sessions: Arc::clone(sessions),
            caller: String::new(),
            has_version: false,
            is_initialize: false,
        }
    }

    fn reply(&mut self, request: ProcessingRequest) -> ProcessingResponse {
        let (reply, mode) = match request.request {
            Some(Event::RequestHeaders(event)) => {
                let (changes, mode) = self.request_headers(event.headers, event.end_of_stream);
                (Reply::RequestHeaders(headers(changes)), mode)
            }
            Some(Event::RequestBody(event)) => {
                let response = Some(setting(self.request_body(&event.body)));
                (Reply::RequestBody(BodyResponse { response }), None)
            }
            Some(Event::ResponseHeaders(event)) => {
                self.answer_headers(event.headers);
                (Reply::ResponseHeaders(headers(Vec::new())), None)
            }
            // Never asked for.
            Some(Event::ResponseBody(_)) => (Reply::ResponseBody(BodyResponse::default()), None),
            Some(Event::ResponseTrailers(_)) => {
                (Reply::ResponseTrailers(TrailersResponse::default()), None)
            }
            Some(Event::RequestTrailers(_)) | None => {
                (Reply::RequestTrailers(TrailersResponse::default()), None)
            }
        };
        ProcessingResponse {
            response: Some(reply),
            mode_override: mode,
            ..ProcessingResponse::default()
        }
    }

    /// What to set, and what else to send of this request and its answer if that is more than nothing.
    fn request_headers(
        &mut self,
        headers: Option<HeaderMap>,
        ended: bool,
    ) -> (Vec<HeaderValueOption>, Option<ProcessingMode>) {
        let (mut is_ours, mut has_session) = (false, false);
        for header in headers.unwrap_or_default().headers {
            match header.key.as_str() {
                ":path" => {
                    is_ours = header.raw_value.split(|byte| *byte == b'?').next() == Some(b"/mcp")
                }
                "authorization" => self.caller = text(header),
                SESSION => has_session = true,
                VERSION => self.has_version = true,
                _ => {}
            }
        }
        if !is_ours || has_session || self.caller.is_empty() {
            return (Vec::new(), None);
        }
        if ended {
            return (self.repair(), None);
        }
        let mode = ProcessingMode {
            request_header_mode: HeaderSendMode::Send.into(),
            request_body_mode: BodySendMode::Buffered.into(),
            response_header_mode: HeaderSendMode::Send.into(),
            request_trailer_mode: HeaderSendMode::Skip.into(),
            response_body_mode: BodySendMode::None.into(),
            response_trailer_mode: HeaderSendMode::Skip.into(),
        };
        (Vec::new(), Some(mode))
    }

    fn request_body(&mut self, body: &[u8]) -> Vec<HeaderValueOption> {
        const INITIALIZE: &[u8] = br#""method":"initialize""#;
        self.is_initialize = body
            .windows(INITIALIZE.len())
            .any(|part| part == INITIALIZE);
        if self.is_initialize {
            return Vec::new();
        }
        self.repair()
    }

    fn repair(&self) -> Vec<HeaderValueOption> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(session) = sessions.get(&self.caller) else {
            return Vec::new();
        };
        let mut changes = vec![set(SESSION, session)];
        if !self.has_version {
            changes.push(set(VERSION, LATEST));
        }
        changes
    }

    fn answer_headers(&mut self, headers: Option<HeaderMap>) {
        if !self.is_initialize {
            return;
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        for header in headers.unwrap_or_default().headers {
            if header.key == SESSION {
                sessions.insert(self.caller.clone(), text(header));
            }
        }
    }
}

/// Envoy sends values as bytes.
fn text(header: HeaderValue) -> String {
    String::from_utf8(header.raw_value).unwrap_or_default()
}

fn set(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

fn setting(changes: Vec<HeaderValueOption>) -> CommonResponse {
    let mutation = HeaderMutation {
        set_headers: changes,
        ..HeaderMutation::default()
    };
    CommonResponse {
        header_mutation: Some(mutation).filter(|mutation| !mutation.set_headers.is_empty()),
        ..CommonResponse::default()
    }
}

fn headers(changes: Vec<HeaderValueOption>) -> HeadersResponse {
    HeadersResponse {
        response: Some(setting(changes)),
    }
}
