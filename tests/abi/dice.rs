//! How events come about: by chance, and the same in every run.

use super::shared_data::Random;

pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub fn below(&mut self, n: usize) -> usize {
        let bytes = [(); 4].map(|()| self.0.byte());
        u32::from_le_bytes(bytes) as usize % n
    }

    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One to four pieces, the last one first: so they are popped.
    pub fn cut(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut cuts: Vec<_> = (0..self.below(4))
            .map(|_| self.below(bytes.len() + 1))
            .collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).rev();
        pieces.map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect()
    }
}
