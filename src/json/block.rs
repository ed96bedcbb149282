//! Many bytes of JSON at once: where quotes and brackets are among them.

const SIZE: usize = 64;
const PART: usize = 8;
const HIGHEST: u64 = u64::from_ne_bytes([0x80; PART]);

/// What so many bytes hold that begin outside of strings, as a bit for each of them.
pub(super) struct Block {
    /// Brackets and braces outside of strings.
    opening: u64,
    closing: u64,
    pub(super) ends_in_string: bool,
}

impl Block {
    /// Takes a block from the front of the bytes. Nothing if they are too few, or if there is a backslash among them: then
    /// not each quote is one.
    pub(super) fn split_first(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (block, after) = bytes.split_first_chunk()?;
        if places(block, b'\\', 0) != 0 {
            return None;
        }
        // From an opening quote on, up to the closing one.
        let mut strings = places(block, b'"', 0);
        for distance in [1, 2, 4, 8, 16, 32] {
            strings ^= strings << distance;
        }
        // `[` and `{`, `]` and `}` differ in one bit.
        let block = Self {
            opening: places(block, b'{', 0x20) & !strings,
            closing: places(block, b'}', 0x20) & !strings,
            ends_in_string: strings >> (SIZE - 1) != 0,
        };
        Some((block, after))
    }

    /// Behind it, how many are open of so many before it; or else the place of what closes the last of them.
    pub(super) fn level_after(&self, level: u64) -> Result<u64, u32> {
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

/// A bit for each byte, the lowest for the first one: whether it is the wanted one once these of its bits are set.
///
/// Without a vector of bytes to compute with, eight bytes are one number: the highest bit of each tells, and a product
/// gathers these.
fn places(block: &[u8; SIZE], wanted: u8, set: u8) -> u64 {
    let [wanted, set] = [wanted, set].map(|byte| u64::from_ne_bytes([byte; PART]));
    let (parts, _) = block.as_chunks();
    parts.iter().rev().fold(0, |places, part| {
        let differs = (u64::from_le_bytes(*part) | set) ^ wanted;
        let equals = !(((differs & !HIGHEST) + !HIGHEST) | differs) & HIGHEST;
        (places << PART) | ((equals >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56)
    })
}
