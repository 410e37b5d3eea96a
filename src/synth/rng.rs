//! The generator's random numbers: xoshiro256++ seeded through SplitMix64, integers only, so that a seed gives the same
//! bytes on every machine (no libm, no platform-dependent floating point).
//!
//! A stream is named by what it is for (`Rng::named(seed, &[person, visit])`), so a person is the same at every hospital
//! and no stream depends on how many numbers another one drew. Not for secrets: real ids and keys come from
//! `almoner_model::Entropy`.

/// A stream of pseudo-random numbers (Blackman and Vigna, xoshiro256++ 1.0).
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

const fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream called `name` under `seed`.
    pub fn named(seed: u64, name: &[u64]) -> Self {
        let mut state = seed;
        for part in name {
            state = splitmix(&mut state) ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        Self(std::array::from_fn(|_| splitmix(&mut state)))
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// 128 random bits.
    pub const fn wide(&mut self) -> u128 {
        (self.bits() as u128) << 64 | self.bits() as u128
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.bits() as u128 * n as u128) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub const fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    /// True `per_mille` times in a thousand.
    pub const fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A bell-shaped number around `mean`: four dice, at most `2 * spread` away.
    pub const fn bell(&mut self, mean: i64, spread: i64) -> i64 {
        let sum = self.between(-spread, spread)
            + self.between(-spread, spread)
            + self.between(-spread, spread)
            + self.between(-spread, spread);
        mean + sum / 2
    }

    /// One of `words`, which is not empty.
    pub fn word(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }

    /// One of `items`, which is not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_fixed_by_its_name() {
        let draw = |seed, name: &[u64]| {
            let mut rng = Rng::named(seed, name);
            [rng.bits(), rng.bits()]
        };
        assert_eq!(draw(7, &[1, 2]), draw(7, &[1, 2]));
        assert_ne!(draw(7, &[1, 2]), draw(7, &[2, 1]));
        assert_ne!(draw(7, &[1, 2]), draw(8, &[1, 2]));
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut rng = Rng::named(1, &[]);
        for _ in 0..10_000 {
            assert!((-3..=9).contains(&rng.between(-3, 9)));
            assert!((80..=160).contains(&rng.bell(120, 20)));
            assert!(rng.below(5) < 5);
        }
        assert_eq!(rng.below(0), 0);
    }
}
