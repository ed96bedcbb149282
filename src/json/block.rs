//! Many bytes of JSON at once: where quotes and brackets are among them.

const SIZE: usize = 64;
const PART: usize = 8;
const HIGHEST: u64 = u64::from_ne_bytes([0x80; PART]);

/// What so many bytes hold that begin outside of strings.
pub(super) struct Block {
    /// Brackets and braces outside of strings.
    pub(super) opened: u64,
    pub(super) closed: u64,
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
        let outside = |wanted| (places(block, wanted, 0x20) & !strings).count_ones();
        let block = Self {
            opened: outside(b'{').into(),
            closed: outside(b'}').into(),
            ends_in_string: strings >> (SIZE - 1) != 0,
        };
        Some((block, after))
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
