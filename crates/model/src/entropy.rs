//! Randomness as a parameter.
//!
//! Whoever needs random bytes takes an [`Entropy`]. The operating system's source lives in layer 4; tests and the
//! generator of synthetic data use [`SeededEntropy`].

use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// 32 random bytes.
    fn bytes32(&self) -> [u8; 32] {
        let mut out = [0; 32];
        self.fill(&mut out);
        out
    }

    /// A random 64-bit number.
    fn u64(&self) -> u64 {
        let mut out = [0; 8];
        self.fill(&mut out);
        u64::from_le_bytes(out)
    }
}

/// SHA-256 in counter mode over a seed: the same seed gives the same bytes. For tests and synthetic data only.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: [u8; 32],
    counter: Mutex<u64>,
}

impl SeededEntropy {
    /// A stream that depends on `seed` only.
    pub fn new(seed: u64) -> Self {
        Self { seed: Sha256::digest(seed.to_be_bytes()).into(), counter: Mutex::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let mut counter = self.counter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in buffer.chunks_mut(32) {
            let block = Sha256::new().chain_update(self.seed).chain_update(counter.to_be_bytes()).finalize();
            *counter += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_stream() {
        let (a, b, c) = (SeededEntropy::new(1), SeededEntropy::new(1), SeededEntropy::new(2));
        assert_eq!(a.bytes32(), b.bytes32());
        assert_ne!(a.bytes32(), c.bytes32());
        assert_ne!(a.bytes32(), a.bytes32());
    }
}
