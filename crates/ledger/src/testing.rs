//! For tests: small trees in memory, and their proofs.

use std::convert::Infallible;

use crate::checkpoint::Checkpoint;
use crate::proof::{Tiles, prove_consistency};
use crate::tree::{Hash, leaf_hash, root_of};

/// A log of fewer than 256 leaves.
pub struct Tree(Vec<Hash>);

impl Tree {
    /// `size` leaves that depend on `seed`.
    pub fn of(seed: u8, size: u8) -> Self {
        Self((0..size).map(|n| leaf_hash(&[seed, n])).collect())
    }

    /// As [`Tree::of`] up to `same` leaves, then others.
    pub fn forked(seed: u8, same: u8, size: u8) -> Self {
        Self(
            (0..size)
                .map(|n| leaf_hash(if n < same { vec![seed, n] } else { vec![seed, n, 1] }.as_slice()))
                .collect(),
        )
    }

    /// Root of its first `size` leaves.
    pub fn root(&self, size: u64) -> Hash {
        root_of(&self.0[..size as usize])
    }

    /// The checkpoint of its first `size` leaves.
    pub fn checkpoint(&self, origin: &str, size: u64) -> Checkpoint {
        Checkpoint { origin: origin.into(), size, root: self.root(size) }
    }

    /// Proof that `old` leaves are the beginning of `new`.
    pub fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        prove_consistency(self, old, new).expect("in range")
    }
}

impl Tiles for Tree {
    type Error = Infallible;
    fn tile(&self, _: u8, _: u64, _: u16) -> Result<Vec<u8>, Infallible> {
        Ok(self.0.concat())
    }
}
