//! Finds where a JSON value ends.

use super::skip::Skip;

/// Finds where a JSON object or array ends, so that it need not be parsed again and again until it is whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValueEnd(Progress);

#[derive(Clone, Copy, Debug, Default)]
enum Progress {
    #[default]
    Before,
    Inside(Skip),
    Reached,
}

impl ValueEnd {
    /// Whether the value ended in this piece, or can't be one.
    pub(crate) fn is_reached(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        loop {
            self.0 = match self.0 {
                Progress::Before => match rest.trim_ascii_start() {
                    [] => return false,
                    [byte, after @ ..] => {
                        rest = after;
                        Skip::begin(*byte).map_or(Progress::Reached, Progress::Inside)
                    }
                },
                Progress::Inside(mut skip) => {
                    if skip.ahead(rest).is_empty() {
                        self.0 = Progress::Inside(skip);
                        return false;
                    }
                    Progress::Reached
                }
                Progress::Reached => return true,
            };
        }
    }
}
