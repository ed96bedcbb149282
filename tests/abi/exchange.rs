//! A request on its way through the filter, and its answer on the way back, piece by piece.

use super::flow::Passed;
use super::head::{Head, Headers, Reply};
use super::local_reply::LocalReply;
use super::stream::{Direction, Stream};
use super::vm::Vm;
use super::worker::Worker;

/// One stream. Dropping it leaves it open. When the filter has answered by itself, nothing that the client or the
/// server does reaches it any more.
pub struct Exchange {
    worker: Worker,
    context: u32,
    headers: Headers,
    /// What is left of the stream when it is over.
    remains: Option<Stream>,
}

impl Exchange {
    pub fn new(worker: Worker, head: &Head) -> Self {
        let context = worker.act(|vm| vm.open(head));
        Self {
            worker,
            context,
            headers: head.headers.clone(),
            remains: None,
        }
    }

    /// What the module and the host call this stream.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// The request's headers arrive, with a body to follow.
    pub fn headers(&mut self) -> &mut Self {
        self.send_headers(false)
    }

    /// The request's headers arrive, and that is all.
    pub fn headers_only(&mut self) -> &mut Self {
        self.send_headers(true)
    }

    fn send_headers(&mut self, ended: bool) -> &mut Self {
        let headers = self.headers.clone();
        self.act(|vm, context| vm.headers(context, Direction::Request, headers, ended))
    }

    /// A piece of the request's body arrives.
    pub fn body(&mut self, piece: impl AsRef<[u8]>) -> &mut Self {
        self.act(|vm, context| vm.body(context, Direction::Request, piece.as_ref(), false))
    }

    /// The last piece arrives, known to be the last.
    pub fn last_body(&mut self, piece: impl AsRef<[u8]>) -> &mut Self {
        self.act(|vm, context| vm.body(context, Direction::Request, piece.as_ref(), true))
    }

    /// The body turns out to be over: what Envoy does for a body of known length, and after the last chunk.
    pub fn end(&mut self) -> &mut Self {
        self.last_body([])
    }

    /// Trailers end the body.
    pub fn trailers(&mut self) -> &mut Self {
        self.act(|vm, context| vm.trailers(context, Direction::Request, trailers()))
    }

    /// The server answers: headers, the body in one piece, the end.
    pub fn answer(&mut self, reply: &Reply) -> &mut Self {
        if reply.body.is_empty() {
            return self.answer_headers(reply, true);
        }
        self.answer_headers(reply, false)
            .answer_body(&reply.body)
            .answer_end()
    }

    pub fn answer_headers(&mut self, reply: &Reply, ended: bool) -> &mut Self {
        let headers = reply.headers.clone();
        self.act(|vm, context| vm.headers(context, Direction::Response, headers, ended))
    }

    pub fn answer_body(&mut self, piece: impl AsRef<[u8]>) -> &mut Self {
        self.act(|vm, context| vm.body(context, Direction::Response, piece.as_ref(), false))
    }

    pub fn answer_end(&mut self) -> &mut Self {
        self.act(|vm, context| vm.body(context, Direction::Response, &[], true))
    }

    /// Trailers end the answer.
    pub fn answer_trailers(&mut self) -> &mut Self {
        self.act(|vm, context| vm.trailers(context, Direction::Response, trailers()))
    }

    /// The stream is over, complete or because the client has left, waiting or not.
    pub fn close(&mut self) -> &mut Self {
        let context = self.context;
        self.remains = Some(self.worker.act(|vm| {
            vm.log(context);
            vm.delete(context)
        }));
        self
    }

    /// Something comes from the client or the server, unless the host does not listen any more.
    fn act(&mut self, event: impl FnOnce(&mut Vm, u32)) -> &mut Self {
        let context = self.context;
        self.worker.act(|vm| {
            if !vm.stream(context).is_cut_off() {
                event(vm, context);
            }
        });
        self
    }

    /// Whether the request's headers wait in the filter.
    pub fn waits(&self) -> bool {
        self.view(|stream| stream.request.headers_wait())
    }

    /// Whether any part of the answer waits in the filter.
    pub fn answer_waits(&self) -> bool {
        self.view(|stream| stream.response.waits())
    }

    /// What the server has of the request.
    pub fn at_server(&self) -> Passed {
        self.view(|stream| stream.request.passed.clone())
    }

    /// The request's headers, as the server has them.
    pub fn server_headers(&self) -> Headers {
        self.at_server()
            .headers
            .expect("the request's headers reached the server")
    }

    /// What the client has of the answer.
    pub fn at_client(&self) -> Passed {
        self.view(|stream| stream.response.passed.clone())
    }

    /// Whether the whole request has reached the server.
    pub fn is_sent(&self) -> bool {
        let passed = self.at_server();
        passed.headers.is_some() && passed.end.is_some()
    }

    /// Whether the whole answer has reached the client.
    pub fn is_answered(&self) -> bool {
        let passed = self.at_client();
        passed.headers.is_some() && passed.end.is_some()
    }

    /// What the filter answered by itself, before its own callbacks for answers saw it. See [`Self::at_client`].
    pub fn local_reply(&self) -> Option<LocalReply> {
        self.view(|stream| stream.local_reply.clone())
    }

    /// Whether the request had begun upstream and was reset there, because the filter answered it.
    pub fn upstream_was_reset(&self) -> bool {
        self.view(|stream| stream.upstream_reset)
    }

    /// Whether the host has stopped listening to the client and the server: the filter answered.
    pub fn is_cut_off(&self) -> bool {
        self.view(Stream::is_cut_off)
    }

    /// What an access log shows for `%FILTER_STATE(wasm.mcp_session.outcome:PLAIN)%`.
    pub fn outcome(&self) -> Option<String> {
        self.view(|stream| {
            let value = stream.filter_state.get(b"mcp_session.outcome".as_slice());
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        })
    }

    fn view<T>(&self, look: impl FnOnce(&Stream) -> T) -> T {
        match &self.remains {
            Some(stream) => look(stream),
            None => look(self.worker.vm().stream(self.context)),
        }
    }
}

fn trailers() -> Headers {
    let mut trailers = Headers::default();
    trailers.add("x-trailer", b"t");
    trailers
}
