//! A request's body while it streams past: what it is, and all of it for as long as that is worth keeping.

use super::SCAN_BYTES;
use crate::initialize::INITIALIZE_BYTES;
use crate::scanner::{Kind, Scanner};

/// A request's body as far as it was looked at.
pub(super) struct Body {
    reading: Reading,
    keeps: Keeps,
    /// All of it so far, for as long as it is worth keeping.
    kept: Option<Vec<u8>>,
    ended: bool,
}

/// What a body is kept for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Keeps {
    /// It may be an `initialize`.
    pub(super) initialize: bool,
    /// It may be sent again, if it is not longer than this.
    pub(super) replay: usize,
}

impl Keeps {
    /// Nothing.
    pub(super) const NOTHING: Self = Self {
        initialize: false,
        replay: 0,
    };

    fn most(self, kind: Option<Kind>) -> usize {
        let initialize = self.initialize && kind.is_none_or(|kind| kind == Kind::Initialize);
        if initialize {
            self.replay.max(INITIALIZE_BYTES)
        } else {
            self.replay
        }
    }
}

enum Reading {
    Unread { scanner: Scanner, scanned: usize },
    Read(Kind),
}

impl Body {
    /// Before its first byte.
    pub(super) fn unread(keeps: Keeps) -> Self {
        Self {
            reading: Reading::Unread {
                scanner: Scanner::new(),
                scanned: 0,
            },
            keeps,
            kept: (keeps != Keeps::NOTHING).then(Vec::new),
            ended: false,
        }
    }

    /// There is none.
    pub(super) fn none() -> Self {
        Self::known(Kind::Other)
    }

    /// What it is needs no look any more.
    pub(super) fn known(kind: Kind) -> Self {
        Self {
            reading: Reading::Read(kind),
            keeps: Keeps::NOTHING,
            kept: None,
            ended: true,
        }
    }

    /// The start of an `initialize`, of which more is to come.
    pub(super) fn start_of_initialize(start: Vec<u8>) -> Self {
        Self {
            keeps: Keeps {
                initialize: true,
                replay: 0,
            },
            kept: Some(start),
            ended: false,
            ..Self::known(Kind::Initialize)
        }
    }

    /// An `initialize` that is whole.
    pub(super) fn of_initialize(body: Vec<u8>) -> Self {
        Self {
            kept: Some(body),
            ..Self::known(Kind::Initialize)
        }
    }

    /// How many more bytes are worth a look.
    pub(super) fn wanted(&self) -> usize {
        let to_scan = match &self.reading {
            Reading::Unread { scanned, .. } if *scanned >= SCAN_BYTES => 0,
            // One more than is scanned tells that there is more.
            Reading::Unread { scanned, .. } => {
                SCAN_BYTES.saturating_add(1).saturating_sub(*scanned)
            }
            Reading::Read(_) => 0,
        };
        let most = self.keeps.most(self.kind());
        let to_keep = self.kept.as_ref().map_or(0, |kept| {
            // One more than fits tells that it does not fit.
            most.saturating_add(1).saturating_sub(kept.len())
        });
        to_scan.max(to_keep)
    }

    /// The next bytes of it, as many as are wanted. If it has ended with them, those that were not wanted are not shown.
    pub(super) fn scan(&mut self, bytes: &[u8], ended: bool) {
        self.ended |= ended;
        if let Reading::Unread { scanner, scanned } = &mut self.reading {
            *scanned = scanned.saturating_add(bytes.len());
            let kind = scanner.scan(bytes);
            let is_all = ended && *scanned <= SCAN_BYTES;
            let kind = kind.or_else(|| is_all.then(|| scanner.finish()));
            if let Some(kind) = kind {
                self.reading = Reading::Read(kind);
            }
        }
        let most = self.keeps.most(self.kind());
        let fits = |kept: &Vec<u8>| kept.len().saturating_add(bytes.len()) <= most;
        self.kept = self.kept.take().filter(fits);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }

    /// Whether more of it is to come, and it is kept so far.
    pub(super) fn may_become_whole(&self) -> bool {
        self.is_kept() && !self.ended
    }

    /// Whether all of it so far is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether its end has come.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// All of it, if it was worth keeping and is whole.
    pub(super) fn whole(&mut self) -> Option<Vec<u8>> {
        let ended = self.ended;
        self.kept.take_if(|_| ended)
    }

    /// Some of it can't be read.
    pub(super) fn lose(&mut self) {
        self.kept = None;
    }

    /// An `initialize` so far, if the filter may send it.
    pub(super) fn initialize(&mut self) -> Option<Vec<u8>> {
        let may_send = |kept: &mut Vec<u8>| kept.len() <= INITIALIZE_BYTES;
        self.kept
            .take_if(|kept| self.keeps.initialize && may_send(kept))
    }

    /// What it is, once that is known.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.reading {
            Reading::Unread { .. } => None,
            Reading::Read(kind) => Some(kind),
        }
    }

    pub(super) fn is_initialize(&self) -> bool {
        self.kind() == Some(Kind::Initialize)
    }

    pub(super) fn is_too_long(&self) -> bool {
        matches!(self.reading, Reading::Unread { scanned, .. } if scanned >= SCAN_BYTES)
    }
}
