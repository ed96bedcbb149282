//! The beginning of a JSON string: enough to compare it with the few words that matter.

/// The longest word that matters is `notifications/initialized`.
const LONGEST: usize = 25;

/// A string without its escapes, up to the bound.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    letters: [u8; LONGEST],
    len: u8,
    escape: Escape,
}

#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    /// Behind a backslash.
    Begun,
    /// Behind `\u` and so many hex digits, which make `unit`.
    Unicode { digits: u8, unit: u16 },
}

/// A word after one more byte.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    More(Word),
    /// The byte was the closing quote.
    Whole(Word),
    /// The string is longer than any word that matters, and no escape is under way.
    TooLong,
    Malformed,
}

impl Word {
    /// Stands for every character that none of our words has.
    const FOREIGN: u8 = 0xFF;

    pub(super) fn letters(&self) -> &[u8] {
        self.letters
            .get(..usize::from(self.len))
            .unwrap_or_default()
    }

    /// Takes the letters that stand for themselves and fit in, and gives the rest.
    pub(super) fn ahead<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0x00..=0x1F);
        let letters = self.letters.get_mut(usize::from(self.len)..);
        let free = letters.filter(|_| matches!(self.escape, Escape::None));
        let mut rest = bytes;
        for letter in free.into_iter().flatten() {
            let Some((byte, after)) = rest.split_first().filter(|(byte, _)| is_plain(byte)) else {
                break;
            };
            *letter = *byte;
            self.len += 1;
            rest = after;
        }
        rest
    }

    /// One byte further.
    ///
    /// ```text
    /// char      = unescaped / escape ( %x22 / %x5C / %x2F / %x62 / %x66 / %x6E / %x72 / %x74 / %x75 4HEXDIG )
    /// escape    = %x5C
    /// unescaped = %x20-21 / %x23-5B / %x5D-10FFFF
    /// ```
    ///
    /// RFC 8259, section 7: `"\u006dethod"` is `method`.
    pub(super) fn read(mut self, byte: u8) -> Read {
        match self.escape {
            Escape::None => match byte {
                b'"' => return Read::Whole(self),
                b'\\' => self.escape = Escape::Begun,
                0x00..=0x1F => return Read::Malformed,
                _ => return self.push(byte),
            },
            Escape::Begun => match byte {
                b'u' => self.escape = Escape::Unicode { digits: 0, unit: 0 },
                b'/' => return self.push(byte),
                b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => return self.push(Self::FOREIGN),
                _ => return Read::Malformed,
            },
            Escape::Unicode { digits, unit } => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    b'A'..=b'F' => byte - b'A' + 10,
                    _ => return Read::Malformed,
                };
                let unit = unit << 4 | u16::from(digit);
                if digits == 3 {
                    return self.push(u8::try_from(unit).unwrap_or(Self::FOREIGN));
                }
                let digits = digits + 1;
                self.escape = Escape::Unicode { digits, unit };
            }
        }
        Read::More(self)
    }

    fn push(mut self, letter: u8) -> Read {
        let Some(free) = self.letters.get_mut(usize::from(self.len)) else {
            return Read::TooLong;
        };
        *free = letter;
        self.len += 1;
        self.escape = Escape::None;
        Read::More(self)
    }
}
