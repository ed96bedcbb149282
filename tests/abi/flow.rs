//! One direction of a stream: what Envoy's filter manager and wasm context do with it around the module's callbacks.
//!
//! Seen in Envoy 1.40:
//! - A header callback that pauses holds everything, and no body callback comes, unless the host was told to let it
//!   hold the headers alone (`allow_on_headers_stop_iteration`).
//! - While the body callback pauses, the host collects; the next callback sees all that was collected.
//! - Headers that went on at once can't be reached any more (`BadArgument`). Headers that were held and then went on
//!   can be read and even edited with "ok", but nobody sees the edit.
//! - While the body callback runs, the module may change what it sees; that then goes on, or stays collected.
//!   So may it from outside, for as long as the host collects.
//! - Nothing sets `content-length` right afterwards: surplus bytes of a request become the start of the next one.
//! - To resume a stream while pieces of its body are collected and more are to come has Envoy send pieces twice (1.40,
//!   on routes with retries) or lose them (1.36): no filter should.

use super::head::Headers;
use super::length::Length;
use super::status::{Answered, Status};

/// The limit of what Envoy collects before it answers 413 (its default).
const BUFFER_LIMIT: usize = 1 << 20;

/// What a callback says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Continue,
    Pause,
}

/// How a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Body,
    /// With these trailers.
    Trailers(Headers),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The headers have not come yet.
    #[default]
    Before,
    /// The headers wait, the body callback runs.
    HeadersHeld,
    /// Everything waits.
    AllHeld,
    /// The headers have gone on.
    Going,
    /// The filter has answered by itself: nothing goes on any more.
    Stopped,
}

/// What has gone on to the other side.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    pub headers: Option<Headers>,
    pub body: Vec<u8>,
    pub end: Option<End>,
}

/// What waited for a resumption and has yet to be shown to the module.
#[derive(Debug, Default)]
pub struct Backlog {
    pub body: Vec<u8>,
    pub end: Option<End>,
}

#[derive(Debug, Default)]
pub struct Flow {
    /// The map that the module sees, while it can.
    pub headers: Headers,
    pub readable: bool,
    pub passed: Passed,
    /// What `proxy_get_buffer_bytes` shows.
    pub window: Vec<u8>,
    state: State,
    collecting: bool,
    held_end: Option<End>,
    backlog: Backlog,
    length: Length,
}

impl Flow {
    /// Whether the headers have come.
    pub fn has_begun(&self) -> bool {
        self.state != State::Before
    }

    /// Whether the end has come, be it held or not.
    pub fn has_ended(&self) -> bool {
        self.passed.end.is_some() || self.held_end.is_some() || self.backlog.end.is_some()
    }

    /// Whether headers wait.
    pub fn headers_wait(&self) -> bool {
        matches!(self.state, State::HeadersHeld | State::AllHeld)
    }

    /// Whether anything waits for the module to let it go.
    pub fn waits(&self) -> bool {
        self.headers_wait() || self.collecting
    }

    /// Whether all of the body was collected: it can be read and changed from outside, too.
    pub fn is_collected(&self) -> bool {
        self.collecting && self.held_end.is_some()
    }

    /// Whether a part of the body was collected, and more is to come.
    pub fn is_amid_its_body(&self) -> bool {
        self.collecting && self.held_end.is_none()
    }

    /// Whether the module sees the pieces of the body now.
    pub fn body_is_seen(&self) -> bool {
        matches!(self.state, State::HeadersHeld | State::Going)
    }

    /// Whether an edit of the headers still has an effect.
    pub fn headers_are_here(&self) -> bool {
        self.passed.headers.is_none()
    }

    pub fn begin(&mut self, headers: Headers) {
        assert_eq!(self.state, State::Before, "headers come once");
        self.length = Length::of(&headers);
        self.headers = headers;
        self.readable = true;
    }

    /// After the header callback.
    pub fn after_headers(&mut self, action: Action, ended: bool, headers_may_wait_alone: bool) {
        let end = ended.then_some(End::Body);
        match action {
            Action::Continue => {
                self.readable = false;
                self.release_headers();
                self.passed.end = end;
            }
            Action::Pause => {
                self.state = if headers_may_wait_alone {
                    State::HeadersHeld
                } else {
                    State::AllHeld
                };
                self.held_end = end;
            }
        }
    }

    /// Before a body callback: the piece becomes visible, with all that was collected.
    pub fn show(&mut self, piece: &[u8]) -> usize {
        if !self.collecting {
            self.window.clear();
        }
        self.window.extend_from_slice(piece);
        assert!(
            self.window.len() <= BUFFER_LIMIT,
            "the host answers 413: {} bytes collected",
            self.window.len()
        );
        self.window.len()
    }

    /// `proxy_set_buffer_bytes`, during a body callback.
    pub fn set_bytes(&mut self, start: usize, size: usize, data: &[u8]) -> Answered {
        let length = self.window.len();
        if start == 0 {
            self.window.splice(..size.min(length), data.iter().copied());
        } else if start >= length {
            self.window.extend_from_slice(data);
        } else {
            return Err(Status::BAD_ARGUMENT);
        }
        if self.window.len() != length {
            self.length.changes();
        }
        Ok(())
    }

    /// After a body callback.
    pub fn after_body(&mut self, action: Action, ended: bool) {
        self.collecting = action == Action::Pause;
        let end = ended.then_some(End::Body);
        match action {
            Action::Continue => {
                self.release_headers();
                self.passed.body.append(&mut self.window);
                self.passed.end = end;
            }
            Action::Pause => self.held_end = end,
        }
    }

    /// After the trailers callback.
    pub fn after_trailers(&mut self, action: Action, trailers: Headers) {
        self.held_end = Some(End::Trailers(trailers));
        if action == Action::Continue {
            self.release_all();
        }
    }

    /// Keeps what the module does not see, because everything waits.
    pub fn queue(&mut self, piece: &[u8], end: Option<End>) {
        self.backlog.body.extend_from_slice(piece);
        self.backlog.end = end;
    }

    /// `proxy_continue_stream`: what waits goes on; what was never shown is to be shown now.
    pub fn resume(&mut self) -> Backlog {
        let unseen = self.state == State::AllHeld;
        self.release_all();
        if unseen {
            std::mem::take(&mut self.backlog)
        } else {
            Backlog::default()
        }
    }

    /// The filter has answered by itself: what has not gone on never does.
    pub fn stop(&mut self) {
        self.state = State::Stopped;
        self.readable = false;
        self.collecting = false;
        self.held_end = None;
        self.window.clear();
        self.backlog = Backlog::default();
    }

    /// The filter's own answer takes the place of one that waits.
    pub fn replace(&mut self, headers: Headers, body: &[u8]) {
        self.stop();
        self.passed = Passed {
            headers: Some(headers),
            body: body.to_vec(),
            end: Some(End::Body),
        };
    }

    /// Once all has gone on: a `content-length` that the module made wrong, and the length that the body has.
    pub fn false_length(&mut self) -> Option<(String, usize)> {
        self.length.judge(&self.passed)
    }

    fn release_headers(&mut self) {
        self.state = State::Going;
        if self.passed.headers.is_none() {
            self.passed.headers = Some(self.headers.clone());
        }
    }

    fn release_all(&mut self) {
        self.release_headers();
        self.passed.body.append(&mut self.window);
        self.collecting = false;
        if let Some(end) = self.held_end.take() {
            self.passed.end = Some(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::Reply;
    use super::*;

    fn begun(length: &str) -> Flow {
        let mut flow = Flow::default();
        flow.begin(Reply::new(200).header("content-length", length).headers);
        flow
    }

    fn collected(text: &str) -> Flow {
        let mut flow = begun("4");
        flow.after_headers(Action::Pause, false, true);
        flow.show(text.as_bytes());
        flow
    }

    #[test]
    fn bytes_are_put_before_behind_and_in_the_place_of_those_that_are_shown() {
        let cases = [
            (0, 0, "ab", "ab1234"),
            (0, 1, "ab", "ab234"),
            (0, 4, "ab", "ab"),
            (0, 4, "", ""),
            (0, 9, "ab", "ab"),
            (4, 0, "ab", "1234ab"),
            (9, 9, "ab", "1234ab"),
        ];
        for (start, size, data, expected) in cases {
            let mut flow = collected("1234");
            assert_eq!(flow.set_bytes(start, size, data.as_bytes()), Ok(()));
            assert_eq!(flow.window, expected.as_bytes(), "{start} {size} {data}");
        }
        let mut flow = collected("1234");
        assert_eq!(flow.set_bytes(1, 1, b"ab"), Err(Status::BAD_ARGUMENT));
        assert_eq!(flow.window, b"1234");
    }

    #[test]
    fn what_was_set_goes_on_or_stays_collected() {
        let mut flow = collected("12");
        flow.set_bytes(0, 2, b"abc").unwrap();
        flow.after_body(Action::Pause, false);
        assert_eq!(flow.show(b"34"), 5);
        assert_eq!(flow.window, b"abc34");
        flow.set_bytes(5, 0, b"!").unwrap();
        flow.after_body(Action::Continue, true);
        assert_eq!(flow.passed.body, b"abc34!");
    }

    #[test]
    fn edits_of_held_headers_go_on() {
        let mut flow = begun("4");
        flow.headers.set("mcp-session-id", b"s1");
        flow.after_headers(Action::Continue, false, true);
        let passed = flow.passed.headers.unwrap();
        assert_eq!(passed.text("mcp-session-id"), "s1");
    }
}
