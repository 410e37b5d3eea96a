//! The Merkle tree of RFC 6962 §2.1: leaf and node hashes, roots, and the right edge that grows by appending.
//!
//! A tree of `n` leaves is kept as *tiles* (C2SP tlog-tiles): the tile `(level, index)` holds up to 256 hashes, each the
//! root of a perfect subtree of `256^level` leaves. [`Edge`] is the last, possibly incomplete tile of every level, which
//! is all that is needed to append and to know the root: O(log n) memory and O(log n) work after a restart.
//!
//! Pure functions of their arguments; proofs are in [`crate::proof`].

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash in the tree.
pub type Hash = [u8; 32];

/// Hashes in a full tile (C2SP tlog-tiles: tile height 8).
pub const TILE_WIDTH: usize = 256;

/// Root of the empty tree: the hash of the empty string (RFC 6962 §2.1).
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// `SHA-256(0x00 ‖ leaf)` (RFC 6962 §2.1).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// `SHA-256(0x01 ‖ left ‖ right)` (RFC 6962 §2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut input = [1; 65];
    input[1..33].copy_from_slice(left);
    input[33..].copy_from_slice(right);
    Sha256::digest(input).into()
}

/// Root over `hashes`, each the root of a perfect subtree of one and the same size (RFC 6962 §2.1 with those as leaves).
pub fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => EMPTY_ROOT,
        [one] => *one,
        _ => {
            let split = hashes.len().next_power_of_two() / 2;
            node_hash(&root_of(&hashes[..split]), &root_of(&hashes[split..]))
        }
    }
}

/// Reads the hashes of a tile's bytes. `None` if their length is not a whole number of hashes from 1 to 256.
pub fn tile_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && (1..=TILE_WIDTH).contains(&hashes.len())).then(|| hashes.to_vec())
}

/// A tile that an append changed: all its hashes so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedTile {
    /// Level: 0 holds leaf hashes.
    pub level: u8,
    /// Position in the level, from 0.
    pub index: u64,
    /// 1 to 256 hashes of 32 bytes, concatenated.
    pub bytes: Vec<u8>,
}

/// The right edge of the tree: the incomplete tile of every level, and the roots of the perfect subtrees that the leaves
/// decompose into, largest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edge {
    size: u64,
    /// By level: the hashes of its incomplete tile (fewer than 256).
    tiles: Vec<Vec<Hash>>,
    /// Roots of perfect subtrees, one for each set bit of `size`, most significant first.
    peaks: Vec<Hash>,
    /// Lowest tile index of each level that changed since the last [`Edge::take_changes`], with tiles completed since.
    completed: Vec<ChangedTile>,
    dirty: Vec<bool>,
}

impl Edge {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a stored tree of `size` leaves, read through `tile(level, index)`, which returns that tile's bytes
    /// (it may hold more hashes than a tree of `size` had).
    ///
    /// `None` if a tile is missing or too short.
    pub fn load(size: u64, mut tile: impl FnMut(u8, u64) -> Option<Vec<u8>>) -> Option<Self> {
        let mut edge = Self { size, ..Self::default() };
        let (mut count, mut level) = (size, 0u8);
        while count > 0 {
            let width = (count % TILE_WIDTH as u64) as usize;
            let hashes = match width {
                0 => Vec::new(),
                _ => tile_hashes(&tile(level, count / TILE_WIDTH as u64)?)?.get(..width)?.to_vec(),
            };
            edge.tiles.push(hashes);
            edge.dirty.push(false);
            count /= TILE_WIDTH as u64;
            level += 1;
        }
        for hashes in edge.tiles.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                let (perfect, after) = rest.split_at(1 << rest.len().ilog2());
                edge.peaks.push(root_of(perfect));
                rest = after;
            }
        }
        Some(edge)
    }

    /// Leaves in the tree.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree (RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or(EMPTY_ROOT)
    }

    /// Appends one leaf by its hash. Amortised O(1).
    pub fn push(&mut self, leaf: Hash) {
        let mut peak = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak for each set bit of the size");
            peak = node_hash(&left, &peak);
        }
        self.peaks.push(peak);
        self.push_to_level(0, leaf);
        self.size += 1;
    }

    fn push_to_level(&mut self, level: usize, hash: Hash) {
        if self.tiles.len() == level {
            self.tiles.push(Vec::with_capacity(TILE_WIDTH));
            self.dirty.push(false);
        }
        self.tiles[level].push(hash);
        self.dirty[level] = true;
        if self.tiles[level].len() == TILE_WIDTH {
            let index = self.size / (TILE_WIDTH as u64).pow(level as u32 + 1);
            self.completed.push(ChangedTile {
                level: level as u8,
                index,
                bytes: self.tiles[level].as_flattened().into(),
            });
            let root = root_of(&self.tiles[level]);
            self.tiles[level].clear();
            self.dirty[level] = false;
            self.push_to_level(level + 1, root);
        }
    }

    /// The tiles that changed since the last call, each with all its hashes so far.
    pub fn take_changes(&mut self) -> Vec<ChangedTile> {
        let mut changes = std::mem::take(&mut self.completed);
        let mut span = TILE_WIDTH as u64;
        for (level, hashes) in self.tiles.iter().enumerate() {
            if std::mem::take(&mut self.dirty[level]) {
                let index = self.size / span;
                changes.push(ChangedTile { level: level as u8, index, bytes: hashes.as_flattened().into() });
            }
            span = span.saturating_mul(TILE_WIDTH as u64);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// RFC 6962 §2.1, word for word.
    fn mth(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [d] => leaf_hash(d),
            _ => {
                let k = (1..).map(|b| 1 << b).take_while(|k| *k < leaves.len()).last().unwrap_or(1);
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_edge_has_the_root_of_the_definition_and_reloads_from_its_tiles() {
        let leaves: Vec<Vec<u8>> = (0..70_000u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let hashes: Vec<Hash> = leaves.iter().map(|l| leaf_hash(l)).collect();
        let mut edge = Edge::new();
        let mut stored: BTreeMap<(u8, u64), Vec<u8>> = BTreeMap::new();
        assert_eq!(edge.root(), EMPTY_ROOT);
        for (i, hash) in hashes.iter().enumerate() {
            edge.push(*hash);
            let n = i + 1;
            if n < 600 || [65_535, 65_536, 65_537, 65_791, 65_792, 70_000].contains(&n) || n % 9_973 == 0 {
                for t in edge.take_changes() {
                    stored.insert((t.level, t.index), t.bytes);
                }
                assert_eq!(edge.root(), root_of(&hashes[..n]), "size {n}");
                let again = Edge::load(n as u64, |l, x| stored.get(&(l, x)).cloned()).expect("stored");
                assert_eq!((again.root(), again.size()), (edge.root(), n as u64), "size {n}");
                assert_eq!(again.tiles, edge.tiles);
            }
        }
        assert_eq!(root_of(&hashes[..1000]), mth(&leaves[..1000]));
        for (level, width, count) in [(0u8, 1u64, 70_000u64), (1, 256, 273), (2, 65_536, 1)] {
            let all: Vec<u8> =
                stored.iter().filter(|((l, _), _)| *l == level).flat_map(|(_, b)| b.clone()).collect();
            assert_eq!(all.len() as u64, count * 32, "level {level}");
            let last = (count - 1) as usize;
            let span = last * width as usize..(last + 1) * width as usize;
            assert_eq!(all[last * 32..], root_of(&hashes[span]));
        }
    }
}
