//! A small generator of numbers, the same on every machine (SplitMix64; Steele, Lea and Flood, 2014).

/// The state.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// A generator that depends on `seed` alone.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.draw() as usize % n.max(1)
    }

    /// A float in `[-1, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.draw() >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// `n` floats in `[-scale, scale)`.
    pub fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.unit() * scale).collect()
    }
}
