//! Many bytes of JSON at once: where quotes and brackets are among them.

const SIZE: usize = 64;

/// Where in a text a block begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Outside,
    /// In a string, and maybe behind a backslash.
    String {
        escaped: bool,
    },
}

/// What so many bytes hold, as a bit for each of them.
pub(super) struct Block {
    /// From opening quotes on, up to the closing ones.
    strings: u64,
    /// Brackets and braces outside of strings.
    opening: u64,
    closing: u64,
    pub(super) end: Place,
    /// There is no quote and no backslash.
    pub(super) is_plain: bool,
}

impl Block {
    /// Takes a block from the front of the bytes. Nothing if they are too few, or if there is a backslash outside of strings,
    /// which is no JSON.
    pub(super) fn split_first(bytes: &[u8], begin: Place) -> Option<(Self, &[u8])> {
        let (block, after) = bytes.split_first_chunk()?;
        let backslashes = places(block, b'\\', 0);
        let (escaped, escapes_next) = escaped(backslashes, begin);
        let mut strings = places(block, b'"', 0) & !escaped;
        let is_plain = strings | backslashes == 0;
        if strings != 0 {
            for distance in [1, 2, 4, 8, 16, 32] {
                strings ^= strings << distance;
            }
        }
        if begin != Place::Outside {
            strings = !strings;
        }
        if backslashes & !strings != 0 {
            return None;
        }
        let outside = |wanted, set| match strings {
            u64::MAX => 0,
            _ => places(block, wanted, set) & !strings,
        };
        // `[` and `{`, `]` and `}` differ in one bit.
        let block = Self {
            strings,
            opening: outside(b'{', 0x20),
            closing: outside(b'}', 0x20),
            end: match strings >> (SIZE - 1) {
                0 => Place::Outside,
                _ => Place::String {
                    escaped: escapes_next,
                },
            },
            is_plain,
        };
        Some((block, after))
    }

    /// Behind it, how many are open of so many before it; or else the place of what closes the last of them. If none is,
    /// the place of the quote that closes the string.
    pub(super) fn level_after(&self, level: u64) -> Result<u64, u32> {
        if level == 0 {
            return match self.strings.trailing_ones() {
                u64::BITS => Ok(0),
                end => Err(end),
            };
        }
        let closed = self.closing.count_ones().into();
        if level > closed {
            return Ok((level - closed).saturating_add(self.opening.count_ones().into()));
        }
        let (mut level, mut left) = (level, self.opening | self.closing);
        while left != 0 {
            let next = left & left.wrapping_neg();
            if self.opening & next != 0 {
                level = level.saturating_add(1);
            } else if level > 1 {
                level -= 1;
            } else {
                return Err(next.trailing_zeros());
            }
            left ^= next;
        }
        Ok(level)
    }
}

/// The bytes behind backslashes, if all backslashes are in strings, and whether the next one is such a byte.
fn escaped(backslashes: u64, begin: Place) -> (u64, bool) {
    let mut escaped = u64::from(begin == Place::String { escaped: true });
    let mut left = backslashes & !escaped;
    while left != 0 {
        let first = left & left.wrapping_neg();
        escaped |= first << 1;
        left &= !(first | first << 1);
        if first == 1 << (SIZE - 1) {
            return (escaped, true);
        }
    }
    (escaped, false)
}

/// A bit for each byte, the lowest for the first one: whether it is the wanted one once these of its bits are set.
#[cfg(target_feature = "simd128")]
fn places(block: &[u8; SIZE], wanted: u8, set: u8) -> u64 {
    use core::arch::wasm32::{u8x16_bitmask, u8x16_eq, u8x16_splat, u64x2, v128_or};
    let (parts, _) = block.as_chunks();
    parts.iter().rev().fold(0, |places, part: &[u8; 16]| {
        let half = |bytes: Option<&[u8; 8]>| u64::from_le_bytes(bytes.copied().unwrap_or_default());
        let bytes = u64x2(half(part.first_chunk()), half(part.last_chunk()));
        let equals = u8x16_eq(v128_or(bytes, u8x16_splat(set)), u8x16_splat(wanted));
        places << 16 | u64::from(u8x16_bitmask(equals))
    })
}

/// The same where there is no vector of bytes to compute with: eight bytes are one number, the highest bit of each tells,
/// and a product gathers these.
#[cfg(not(target_feature = "simd128"))]
fn places(block: &[u8; SIZE], wanted: u8, set: u8) -> u64 {
    const PART: usize = 8;
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; PART]);
    let [wanted, set] = [wanted, set].map(|byte| u64::from_ne_bytes([byte; PART]));
    let (parts, _) = block.as_chunks();
    parts.iter().rev().fold(0, |places, part| {
        let differs = (u64::from_le_bytes(*part) | set) ^ wanted;
        let equals = !(((differs & !HIGHEST) + !HIGHEST) | differs) & HIGHEST;
        (places << PART) | ((equals >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56)
    })
}
