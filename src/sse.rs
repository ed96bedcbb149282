//! Reads the events of a `text/event-stream` while it streams past, holding the data of one at most.
//!
//! The grammar is that of the HTML standard, section 9.2.6, "Interpreting an event stream".

use core::mem;

/// A stream's events so far: the line it is in, and the data of the event that is not over.
pub struct Events {
    line: Line,
    data: Data,
    max_bytes: usize,
}

impl Events {
    /// Stands before the first byte of a stream. An event with more than `max_bytes` of data will be dropped.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            line: Line::First,
            data: Data::None,
            max_bytes,
        }
    }

    /// Takes bytes from the front of `bytes`, up to the end of the next event, and gives that event's data.
    ///
    /// `None`: all bytes are taken, and the event goes on. One that the stream leaves unfinished is none at all, and
    /// neither is one without data.
    pub fn next_event(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            if let Some(data) = self.step(byte) {
                return Some(data);
            }
        }
        None
    }

    /// One byte further.
    ///
    /// ```text
    /// stream      = [ bom ] *event
    /// event       = *( comment / field ) end-of-line
    /// comment     = colon *any-char end-of-line
    /// field       = 1*name-char [ colon [ space ] *any-char ] end-of-line
    /// end-of-line = ( cr lf / cr / lf )
    /// ```
    fn step(&mut self, byte: u8) -> Option<Vec<u8>> {
        let next = match (self.line, byte) {
            // The second half of a CR LF, or the last of a byte order mark.
            (Line::Return, b'\n') | (Line::Mark(0xBF), 0xBF) => Line::Begin,
            (line, b'\r' | b'\n') => {
                self.line = if byte == b'\r' {
                    Line::Return
                } else {
                    Line::Begin
                };
                return self.end_line(line);
            }
            (Line::First, 0xEF) => Line::Mark(0xBB),
            (Line::Mark(0xBB), 0xBB) => Line::Mark(0xBF),
            (Line::First | Line::Begin | Line::Return, b'd') => Line::Name(b"ata"),
            (Line::Name([letter, rest @ ..]), _) if *letter == byte => Line::Name(rest),
            (Line::Name([]), b':') => {
                self.data.begin_line(self.max_bytes);
                Line::Value { begun: false }
            }
            (Line::Value { begun: false }, b' ') => Line::Value { begun: true },
            (Line::Value { .. }, _) => {
                self.data.push(byte, self.max_bytes);
                Line::Value { begun: true }
            }
            (
                Line::First
                | Line::Begin
                | Line::Return
                | Line::Mark(_)
                | Line::Name(_)
                | Line::Ignored,
                _,
            ) => Line::Ignored,
        };
        self.line = next;
        None
    }

    /// An empty line ends the event; a field may end without a colon.
    fn end_line(&mut self, line: Line) -> Option<Vec<u8>> {
        match line {
            Line::First | Line::Begin | Line::Return => return self.data.take(),
            Line::Name([]) => self.data.begin_line(self.max_bytes),
            Line::Mark(_) | Line::Name(_) | Line::Value { .. } | Line::Ignored => {}
        }
        None
    }
}

/// Where in its line a stream stands.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// At the begin of the stream, where a byte order mark may be.
    First,
    /// Inside a byte order mark, before this byte of it.
    Mark(u8),
    /// At the begin of a line.
    Begin,
    /// At the begin of a line, behind a CR: a LF would belong to that.
    Return,
    /// Inside the name `data`, before these letters of it.
    Name(&'static [u8]),
    /// Inside the value of `data`; one space at its begin does not count.
    Value { begun: bool },
    /// Inside a comment or another field.
    Ignored,
}

/// The data of an event.
enum Data {
    /// No `data` line has come.
    None,
    Kept(Vec<u8>),
    /// There was more than the bound allows.
    TooLong,
}

impl Data {
    fn begin_line(&mut self, max_bytes: usize) {
        match self {
            Self::None => *self = Self::Kept(Vec::new()),
            Self::Kept(_) | Self::TooLong => self.push(b'\n', max_bytes),
        }
    }

    fn push(&mut self, byte: u8, max_bytes: usize) {
        match self {
            Self::Kept(bytes) if bytes.len() < max_bytes => bytes.push(byte),
            Self::None | Self::Kept(_) | Self::TooLong => *self = Self::TooLong,
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        match mem::replace(self, Self::None) {
            Self::Kept(bytes) => Some(bytes),
            Self::None | Self::TooLong => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    const MAX_BYTES: usize = 12;

    /// Streams, and the data of their events.
    const STREAMS: &[(&str, &[&str])] = &[
        ("data: one\n\ndata: two\n\n", &["one", "two"]),
        ("data: one\r\rdata: two\r\r", &["one", "two"]),
        ("data: one\r\n\r\ndata: two\r\n\r\n", &["one", "two"]),
        ("data: one\r\n\rdata: two\n\r\n", &["one", "two"]),
        ("data:one\n\ndata:  two\n\n", &["one", " two"]),
        ("data: a\ndata:b\ndata\ndata:\n\n", &["a\nb\n\n"]),
        ("data\n\ndata:\n\ndata: \n\n", &["", "", ""]),
        ("data\ndata\n\n", &["\n"]),
        ("\u{FEFF}data: one\n\n", &["one"]),
        ("\u{FEFF}\u{FEFF}data: one\ndata: two\n\n", &["two"]),
        ("data: \u{FEFF}\n\n\u{FEFF}data: two\n\n", &["\u{FEFF}"]),
        (
            ": hello\n\nevent: message\nid: 7\ndata: one\nretry: 3\n\n",
            &["one"],
        ),
        ("id: 7\n\n:\n\n\n\ndata: one\n\n", &["one"]),
        (
            "dat: a\ndatas: b\n data: c\nDATA: d\nd\ndata : e\n\ndata: f:g\n\n",
            &["f:g"],
        ),
        ("data: twelve bytes\n\n", &["twelve bytes"]),
        ("data: just thirteen\n\ndata: two\n\n", &["two"]),
        ("data: ten\ndata: or twelve\n\ndata: two\n\n", &["two"]),
        ("data: ten bytes!\ndata\ndata\n\n", &["ten bytes!\n\n"]),
        (
            "data: ten bytes!\ndata\ndata\ndata\n\ndata: two\n\n",
            &["two"],
        ),
        ("data: one\n\ndata: unfinished\n", &["one"]),
        ("data: unfinished", &[]),
        ("", &[]),
    ];

    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let mut events = Events::new(MAX_BYTES);
        let mut found = Vec::new();
        for mut piece in pieces {
            while let Some(data) = events.next_event(&mut piece) {
                found.push(data);
            }
        }
        found
    }

    #[test]
    fn events_are_those_of_the_standard_wherever_the_stream_is_cut() {
        for &(stream, expected) in STREAMS {
            let expected: Vec<_> = expected
                .iter()
                .map(|data| data.as_bytes().to_vec())
                .collect();
            for cut in 0..=stream.len() {
                let (head, tail) = stream.as_bytes().split_at(cut);
                assert_eq!(events([head, tail]), expected, "{stream:?} cut at {cut}");
            }
            assert_eq!(
                events(stream.as_bytes().chunks(1)),
                expected,
                "{stream:?} byte by byte"
            );
        }
    }

    #[test]
    fn an_event_is_given_at_its_empty_line_before_the_rest_is_read() {
        let mut events = Events::new(MAX_BYTES);
        let mut bytes = b"data: one\r\n\r\ndata: two".as_slice();
        assert_eq!(events.next_event(&mut bytes), Some(b"one".to_vec()));
        assert_eq!(bytes, b"\ndata: two");
        assert_eq!(events.next_event(&mut bytes), None);
        assert_eq!(events.next_event(&mut b"\r".as_slice()), None);
        assert_eq!(
            events.next_event(&mut b"\r".as_slice()),
            Some(b"two".to_vec())
        );
    }
}
