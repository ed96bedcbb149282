//! The `content-length` of a request or an answer: whether the module made it wrong.

use super::flow::Passed;
use super::head::Headers;

/// What was promised, and whether that can still be true.
#[derive(Debug, Default)]
pub struct Length {
    given: Option<Vec<u8>>,
    resized: bool,
    judged: bool,
}

impl Length {
    /// What these headers promise as they come.
    pub fn of(headers: &Headers) -> Self {
        Self {
            given: headers.first("content-length").map(<[u8]>::to_vec),
            ..Self::default()
        }
    }

    /// The body is of another length now.
    pub fn changes(&mut self) {
        self.resized = true;
    }

    /// Once all has gone on: a line that is wrong by the module's doing, and the length that the body has. An answer
    /// without a body may promise any, as long as nobody touches it.
    pub fn judge(&mut self, passed: &Passed) -> Option<(String, usize)> {
        if passed.end.is_none() || std::mem::replace(&mut self.judged, true) {
            return None;
        }
        let line = passed.headers.as_ref()?.first("content-length")?;
        let length = passed.body.len();
        let touched = self.resized || self.given.as_deref() != Some(line);
        let right = line == length.to_string().as_bytes();
        (touched && !right).then(|| (line.escape_ascii().to_string(), length))
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::End;
    use super::super::head::Reply;
    use super::*;

    /// An answer that came with one length and goes on with another, or with none.
    fn judged(given: &str, resized: bool, line: Option<&str>, body: &str) -> Option<usize> {
        let mut headers = Reply::new(200).header("content-length", given).headers;
        let mut length = Length::of(&headers);
        if resized {
            length.changes();
        }
        match line {
            Some(line) => headers.set("content-length", line.as_bytes()),
            None => headers.remove("content-length"),
        }
        let passed = Passed {
            headers: Some(headers),
            body: body.into(),
            end: Some(End::Body),
        };
        let wrong = length.judge(&passed);
        assert_eq!(length.judge(&passed), None, "it is told once");
        wrong.map(|(_, length)| length)
    }

    #[test]
    fn a_length_that_the_module_made_wrong_is_told() {
        assert_eq!(judged("4", true, Some("4"), "12345"), Some(5));
        assert_eq!(judged("4", false, Some("3"), "1234"), Some(4));
    }

    #[test]
    fn a_length_that_is_right_gone_or_nobody_s_fault_is_fine() {
        assert_eq!(judged("4", true, Some("5"), "12345"), None);
        assert_eq!(judged("4", true, None, "12345"), None);
        assert_eq!(judged("70", false, Some("70"), ""), None, "HEAD");
    }
}
