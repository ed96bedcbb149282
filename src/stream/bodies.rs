//! How bodies go on: as they come, or with other JSON-RPC ids, and never with the length of another.

use super::{Flow, Piece, Stream, apply};
use crate::exchange::{Exchange, Signal};
use crate::host::{self, Buffer, Host, Map};
use crate::ids::Rewritten;
use crate::outcome::Outcome;
use crate::platform::PlatformError;
use crate::repair::Edit;
use crate::reply::Reply;

impl Stream {
    /// The request's headers go on, and what has come of its body.
    pub(super) fn forward(&mut self, edits: Vec<Edit>, piece: Option<Piece>) -> Flow {
        for edit in edits {
            if let Err(error) = apply(Map::Request, edit) {
                return self.failed(error);
            }
        }
        let Some(Piece { size, ended, bytes }) = piece else {
            return match self.set_length(0) {
                Ok(()) => Flow::Go,
                Err(error) => self.failed(error),
            };
        };
        match self.translate_ids(size, ended, bytes) {
            Err(error) => self.failed(error),
            Ok(None) => Flow::Go,
            Ok(Some(rewritten)) if rewritten.is_lost_cancel => {
                self.drop_cancel(ended, &rewritten.waited)
            }
            Ok(Some(rewritten)) => self.forward_whole(size, &rewritten),
        }
    }

    /// Headers and body go on together: no body may go with the length of another.
    pub(super) fn forward_whole(&mut self, size: usize, rewritten: &Rewritten) -> Flow {
        let body = &rewritten.body;
        let replaced = if rewritten.is_changed {
            host::set_buffer(Buffer::RequestBody, size, body)
        } else {
            Ok(())
        };
        if let Err(error) = replaced {
            self.forget_tail();
            return self.failed(error);
        }
        let Err(error) = self.set_length(body.len()) else {
            return Flow::Go;
        };
        self.forget_tail();
        let restored = host::set_buffer(Buffer::RequestBody, body.len(), &rewritten.original);
        if restored.is_ok() {
            return self.failed(error);
        }
        self.stop(error)
    }

    /// The host takes a body neither rewritten nor as it was: nothing more of it may go up, with the length of another or
    /// with a gap. Whatever becomes of the answer.
    fn stop(&mut self, error: PlatformError) -> Flow {
        let words = "the filter could neither rewrite this request nor leave it as it was";
        self.note(&[Signal::Failed(error)]);
        self.exchange = Exchange::Passing;
        self.is_stuck = true;
        if let Err(error) = self.reply(&Reply::error(500, b"null", words)) {
            self.note(&[Signal::Failed(error)]);
        }
        Flow::Wait
    }

    /// All of the body goes on as it came: nothing of it is to be added once more.
    fn forget_tail(&mut self) {
        if let Some(ids) = &mut self.ids {
            let _ = ids.leave_request();
        }
    }

    pub(super) fn set_length(&self, bytes: usize) -> Result<(), PlatformError> {
        let edit = self.ids.as_ref().and_then(|ids| ids.length(bytes));
        edit.map_or(Ok(()), |edit| apply(Map::Request, edit))
    }

    /// The next piece of a body goes on whose headers have gone.
    pub(super) fn forward_body(&mut self, piece: Piece) -> Flow {
        let Piece { size, ended, bytes } = piece;
        match self.translate_ids(size, ended, bytes) {
            Ok(None) => Flow::Go,
            // One that was answered before all of it came has an answer: it ends nothing any more.
            Ok(Some(rewritten)) if rewritten.is_lost_cancel && self.exchange.awaits_answer() => {
                self.drop_cancel(ended, &rewritten.waited)
            }
            Ok(Some(rewritten)) => self.replace_request(size, &rewritten),
            Err(error) => {
                self.note(&[Signal::Failed(error)]);
                self.leave_request()
            }
        }
    }

    /// The piece with ids of the filter's own, where they are translated.
    pub(super) fn translate_ids(
        &mut self,
        size: usize,
        ended: bool,
        bytes: Option<Vec<u8>>,
    ) -> Result<Option<Rewritten>, PlatformError> {
        let (Some(ids), Some(plugin)) = (&mut self.ids, &self.plugin) else {
            return Ok(None);
        };
        if !ids.rewrites_request() {
            return Ok(None);
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => host::buffer(Buffer::RequestBody, 0, size)?,
        };
        let rewritten = ids.request_body(plugin, &Host::default(), bytes, ended);
        self.note(&rewritten.signals);
        Ok(Some(rewritten))
    }

    fn replace_request(&mut self, size: usize, rewritten: &Rewritten) -> Flow {
        if !rewritten.is_changed {
            return Flow::Go;
        }
        let replaced = host::set_buffer(Buffer::RequestBody, size, &rewritten.body);
        let Err(error) = replaced else {
            return Flow::Go;
        };
        // The piece goes on as it came: so does what waited for it.
        self.forget_tail();
        self.note(&[Signal::Failed(error)]);
        self.put_before(&rewritten.waited)
    }

    /// The rest of the request's body goes on as it comes, behind what waits of it.
    pub(super) fn leave_request(&mut self) -> Flow {
        let waiting = self.ids.as_mut().map(|ids| ids.leave_request());
        self.put_before(&waiting.unwrap_or_default())
    }

    /// What waited of the request's body goes on in front of the piece that is shown.
    fn put_before(&mut self, waited: &[u8]) -> Flow {
        if waited.is_empty() {
            return Flow::Go;
        }
        match host::set_buffer(Buffer::RequestBody, 0, waited) {
            Ok(()) => Flow::Go,
            Err(error) => self.stop(error),
        }
    }

    /// It would end a request of somebody else, or none: its client learns that it was received, and no more.
    pub(super) fn drop_cancel(&mut self, ended: bool, waited: &[u8]) -> Flow {
        // Should the host refuse the answer, it goes on as it came.
        self.forget_tail();
        if !waited.is_empty() {
            let _ = host::set_buffer(Buffer::RequestBody, 0, waited);
        }
        self.exchange = Exchange::replying(Reply::empty(202), Outcome::CancelDropped);
        let step = self.request_event(|exchange, plugin, host| {
            exchange.request_body(plugin, host, &[], ended)
        });
        self.obey(step, None)
    }

    /// Puts the original ids back into a piece of the answer's body.
    pub(super) fn restore_ids(&mut self, size: usize, ended: bool) {
        let Some(ids) = self.ids.as_mut().filter(|ids| ids.rewrites_answer()) else {
            return;
        };
        let waited = ids.answer_waiting().to_vec();
        let restored = host::buffer(Buffer::AnswerBody, 0, size).and_then(|bytes| {
            let restored = ids.answer_body(&bytes, ended);
            restored.map_or(Ok(()), |restored| {
                host::set_buffer(Buffer::AnswerBody, size, &restored)
            })
        });
        if let Err(error) = restored {
            // The piece goes on as it came: so does what waited for it.
            ids.leave_answer();
            if !waited.is_empty() {
                let _ = host::set_buffer(Buffer::AnswerBody, 0, &waited);
            }
            self.note(&[Signal::Failed(error)]);
        }
    }
}
