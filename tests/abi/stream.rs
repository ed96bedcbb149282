//! One stream of the host's, with its context's view of it.

use std::collections::BTreeMap;

use super::flow::Flow;
use super::local_reply::LocalReply;

/// The direction of a header map, a body or a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

#[derive(Debug, Default)]
pub struct Stream {
    pub request: Flow,
    pub response: Flow,
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// While `proxy_on_log` runs, all headers can be read and none changed.
    pub logging: bool,
    /// The filter's own answer, if it gave one that could still be sent.
    pub local_reply: Option<LocalReply>,
    /// Envoy broke the stream off: the filter answered when the client had another answer's headers.
    pub reset: bool,
    /// The request had begun upstream and was reset there, because the filter answered it.
    pub upstream_reset: bool,
}

/// The way of a local reply to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// No answer had come: the encoder filters see this one.
    ThroughFilters,
    /// The filters have begun another answer already: past them.
    Directly,
    /// The client has another answer's headers: the stream is reset.
    TooLate,
}

impl Stream {
    pub fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Whether the host drops what comes: once an answer has come to its end, be it held or not, nobody is shown any more
    /// of its request.
    pub fn drops(&self, direction: Direction) -> bool {
        direction == Direction::Request && self.response.has_ended()
    }

    /// Whether the host takes nothing more, neither from the client nor from the server.
    pub fn is_cut_off(&self) -> bool {
        self.local_reply.is_some() || self.reset
    }

    /// The filter has answered by itself: what is under way ends.
    pub fn cut_off(&mut self, reply: &mut LocalReply) -> Way {
        if self.request.headers.text(":method") == "HEAD" {
            reply.headers_only();
        }
        self.upstream_reset = self.request.passed.headers.is_some() && !self.response.has_ended();
        self.request.stop();
        if self.response.passed.headers.is_some() {
            self.reset = true;
            self.response.stop();
            return Way::TooLate;
        }
        self.local_reply = Some(reply.clone());
        if self.response.has_begun() {
            self.response.replace(reply.headers.clone(), &reply.body);
            Way::Directly
        } else {
            Way::ThroughFilters
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::{Action, End};
    use super::super::head::{Head, Reply};
    use super::*;

    fn sent(method: &str, action: Action) -> Stream {
        let mut stream = Stream::default();
        stream.request.begin(Head::new(method, "/mcp").headers);
        stream.request.after_headers(action, true, true);
        stream
    }

    fn accepted() -> LocalReply {
        LocalReply::new(202, Reply::new(0).headers, b"{}".to_vec(), String::new())
    }

    #[test]
    fn a_reply_to_a_request_that_waits_leaves_no_trace_upstream() {
        let mut stream = sent("POST", Action::Pause);
        assert_eq!(stream.cut_off(&mut accepted()), Way::ThroughFilters);
        assert!(stream.is_cut_off() && !stream.upstream_reset);
        assert!(stream.request.passed.headers.is_none() && !stream.request.waits());
    }

    #[test]
    fn a_reply_to_a_request_that_has_gone_up_resets_it_there_until_its_answer_is_whole() {
        let mut stream = sent("POST", Action::Continue);
        assert_eq!(stream.cut_off(&mut accepted()), Way::ThroughFilters);
        assert!(stream.upstream_reset);

        for whole in [false, true] {
            let mut stream = sent("POST", Action::Continue);
            stream.response.begin(Reply::new(404).headers);
            stream.response.after_headers(Action::Pause, whole, true);
            assert_eq!(stream.cut_off(&mut accepted()), Way::Directly);
            assert_eq!(stream.upstream_reset, !whole);
            let client = &stream.response.passed;
            assert_eq!(client.body, b"{}");
            assert_eq!(client.end, Some(End::Body));
        }
    }

    #[test]
    fn a_reply_after_another_answers_headers_breaks_the_stream() {
        let mut stream = sent("POST", Action::Continue);
        stream.response.begin(Reply::new(200).headers);
        stream.response.after_headers(Action::Continue, false, true);
        assert_eq!(stream.cut_off(&mut accepted()), Way::TooLate);
        assert!(stream.reset && stream.local_reply.is_none() && stream.upstream_reset);
        assert_eq!(stream.response.passed.end, None);
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let mut reply = accepted();
        sent("HEAD", Action::Pause).cut_off(&mut reply);
        assert!(reply.body.is_empty());
    }
}
