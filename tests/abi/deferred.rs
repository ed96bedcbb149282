//! What the module asks for in a callback and the host does after it.

use super::flow::End;
use super::local_reply::LocalReply;
use super::stream::{Direction, Way};
use super::vm::Vm;

/// Each is about a context.
#[derive(Debug)]
pub enum Deferred {
    Resume(u32, Direction),
    Reply(u32, LocalReply),
}

impl Vm {
    /// After a callback.
    pub(super) fn catch_up(&mut self) {
        for deferred in std::mem::take(&mut self.host().deferred) {
            match deferred {
                Deferred::Resume(context, direction) => self.resume(context, direction),
                Deferred::Reply(context, reply) => self.reply(context, reply),
            }
        }
    }

    fn reply(&mut self, context: u32, mut reply: LocalReply) {
        match self.stream(context).cut_off(&mut reply) {
            Way::ThroughFilters => {
                let (body, direction) = (reply.body, Direction::Response);
                self.headers(context, direction, reply.headers, body.is_empty());
                if !body.is_empty() {
                    self.body(context, direction, &body, true);
                }
            }
            Way::Directly => {}
            Way::TooLate => self.host().offend(format!(
                "context {context} was answered by the filter when its client had another answer's headers"
            )),
        }
    }

    /// Nothing in Envoy stops a wrong `content-length`.
    pub(super) fn judge(&mut self, context: u32, direction: Direction) {
        if let Some((line, length)) = self.stream(context).flow(direction).false_length() {
            self.host().offend(format!(
                "the {direction:?} of context {context} went on with content-length {line} and {length} bytes: \
                 this is how requests are smuggled"
            ));
        }
    }

    fn resume(&mut self, context: u32, direction: Direction) {
        let stream = self.stream(context);
        if stream.reset || direction == Direction::Request && stream.is_cut_off() {
            return;
        }
        let backlog = stream.flow(direction).resume();
        match backlog.end {
            Some(End::Trailers(trailers)) => {
                if !backlog.body.is_empty() {
                    self.body(context, direction, &backlog.body, false);
                }
                self.trailers(context, direction, trailers);
            }
            Some(End::Body) => self.body(context, direction, &backlog.body, true),
            None if !backlog.body.is_empty() => self.body(context, direction, &backlog.body, false),
            None => {}
        }
        self.judge(context, direction);
    }
}
