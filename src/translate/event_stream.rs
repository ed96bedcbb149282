//! Puts the original ids back into the data of a `text/event-stream`, and leaves the stream's own bytes alone.
//!
//! The grammar is that of the HTML standard, section 9.2.6, "Interpreting an event stream". The data of an event is one
//! JSON text, with line breaks between its `data` lines. JSON has no line break inside a string (RFC 8259, section 7),
//! so a token is whole in its line.

use memchr::memchr2;

use super::incoming::Restore;

/// A stream so far: the line it is in, and the data of the event that is not over.
#[derive(Default)]
pub(super) struct EventStream {
    line: Line,
    data: Restore,
}

impl EventStream {
    pub(super) fn waiting(&self) -> &[u8] {
        &self.data.held
    }

    pub(super) fn data(&mut self) -> &mut Restore {
        &mut self.data
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (run, after) = self.line.run(rest);
            if matches!(self.line, Line::Data) {
                self.data.push(run, out);
            } else {
                out.extend_from_slice(run);
            }
            let Some((&byte, after)) = after.split_first() else {
                return;
            };
            self.step(byte, out);
            rest = after;
        }
    }

    /// One byte further, which is none of the data.
    ///
    /// ```text
    /// stream      = [ bom ] *event
    /// event       = *( comment / field ) end-of-line
    /// comment     = colon *any-char end-of-line
    /// field       = 1*name-char [ colon [ space ] *any-char ] end-of-line
    /// end-of-line = ( cr lf / cr / lf )
    /// ```
    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        let next = match (self.line, byte) {
            // The second half of a CR LF, or the last of a byte order mark.
            (Line::Return, b'\n') | (Line::Mark(0xBF), 0xBF) => Line::Begin,
            (line, b'\r' | b'\n') => {
                self.end_line(line, out);
                if byte == b'\r' {
                    Line::Return
                } else {
                    Line::Begin
                }
            }
            (Line::First, 0xEF) => Line::Mark(0xBB),
            (Line::Mark(0xBB), 0xBB) => Line::Mark(0xBF),
            (Line::First | Line::Begin | Line::Return, b'd') => Line::Name(b"ata"),
            (Line::Name([letter, rest @ ..]), _) if *letter == byte => Line::Name(rest),
            // A space behind the colon is none of the data, and nothing to JSON.
            (Line::Name([]), b':') => {
                self.data.break_line();
                Line::Data
            }
            _ => Line::Other,
        };
        self.line = next;
        out.push(byte);
    }

    fn end_line(&mut self, line: Line, out: &mut Vec<u8>) {
        match line {
            Line::Data => self.data.release(out),
            // An empty line ends the event.
            Line::First | Line::Begin | Line::Return => self.data.begin_anew(),
            Line::Mark(_) | Line::Name(_) | Line::Other => {}
        }
    }
}

/// Where in its line a stream stands.
#[derive(Clone, Copy, Debug, Default)]
enum Line {
    /// At the begin of the stream, where a byte order mark may be.
    #[default]
    First,
    /// Inside a byte order mark, before this byte of it.
    Mark(u8),
    /// At the begin of a line.
    Begin,
    /// At the begin of a line, behind a CR: a LF would belong to that.
    Return,
    /// Inside the name `data`, before these letters of it.
    Name(&'static [u8]),
    /// Inside the value of `data`.
    Data,
    /// Inside a comment or another field.
    Other,
}

impl Line {
    /// Splits off what goes on like this: in a value or comment, all up to the end of the line.
    fn run(self, bytes: &[u8]) -> (&[u8], &[u8]) {
        let end = match self {
            Self::Data | Self::Other => memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len()),
            _ => 0,
        };
        bytes.split_at_checked(end).unwrap_or((bytes, &[]))
    }
}
