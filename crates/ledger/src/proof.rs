//! Proofs: that a leaf is in a tree (inclusion), and that a later tree only adds to an earlier one (consistency).
//!
//! Making them needs the tree's tiles through [`Tiles`]; checking them needs nothing. Inclusion: RFC 9162 §2.1.3.
//! Consistency: RFC 9162 §2.1.4. Both also for subtrees `[start, end)` (draft-ietf-plants-merkle-tree-certs §4), of which
//! the whole tree is the case `start = 0`.

use crate::tree::{EMPTY_ROOT, Hash, TILE_WIDTH, node_hash, root_of, tile_hashes};

/// Where hash tiles come from. A tile may hold more hashes than the tree in question had.
pub trait Tiles {
    /// Why a tile could not be had.
    type Error;
    /// The bytes of the tile at `level`, `index`, of which at least `width` hashes are needed.
    ///
    /// # Errors
    /// If it cannot be had.
    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProveError<E> {
    /// Asked for a leaf or size that the tree does not have.
    #[error("the tree has no such leaf or size")]
    OutOfRange,
    /// A tile is cut.
    #[error("tile {index} of level {level} is cut")]
    Cut {
        /// Its level.
        level: u8,
        /// Its position.
        index: u64,
    },
    /// A tile could not be had.
    #[error(transparent)]
    Source(E),
}

/// Why a proof was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// The positions make no sense together.
    #[error("the proof speaks of positions that the tree does not have")]
    OutOfRange,
    /// Too few or too many hashes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The hash of the leaves `[start, end)` as one tree, where `start` is a multiple of a power of two not less than the
/// number of leaves (so that it is a subtree of the log).
///
/// # Errors
/// [`ProveError`].
pub fn subtree_root<T: Tiles>(tiles: &T, start: u64, end: u64) -> Result<Hash, ProveError<T::Error>> {
    if start == 0 && end == 0 {
        return Ok(EMPTY_ROOT);
    }
    if !is_subtree(start, end) {
        return Err(ProveError::OutOfRange);
    }
    let mut peaks = Vec::new();
    let mut from = start;
    while from < end {
        let height = (end - from).ilog2();
        peaks.push(perfect(tiles, height, from >> height)?);
        from += 1 << height;
    }
    let root = peaks.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
    root.ok_or(ProveError::OutOfRange)
}

/// The root of the perfect subtree of `2^height` leaves at `index`.
fn perfect<T: Tiles>(tiles: &T, height: u32, index: u64) -> Result<Hash, ProveError<T::Error>> {
    let (level, inner) = ((height / 8) as u8, height % 8);
    let first = index << inner;
    let (tile, at) = (first / TILE_WIDTH as u64, (first % TILE_WIDTH as u64) as usize);
    let last = at + (1 << inner);
    let bytes = tiles.tile(level, tile, last as u16).map_err(ProveError::Source)?;
    let hashes = tile_hashes(&bytes);
    let hashes = hashes.as_deref().and_then(|h| h.get(at..last));
    hashes.map(root_of).ok_or(ProveError::Cut { level, index: tile })
}

/// Whether the leaves `[start, end)` form a subtree of every larger tree.
const fn is_subtree(start: u64, end: u64) -> bool {
    if start >= end {
        return false;
    }
    match (end - start).checked_next_power_of_two() {
        Some(width) => start.is_multiple_of(width),
        None => start == 0,
    }
}

/// The proof that leaf `index` is in the tree of `size` leaves (RFC 9162 §2.1.3.1).
///
/// # Errors
/// [`ProveError`].
pub fn prove_inclusion<T: Tiles>(
    tiles: &T,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, ProveError<T::Error>> {
    if index >= size {
        return Err(ProveError::OutOfRange);
    }
    let (mut from, mut to, mut spans) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + (to - from).next_power_of_two() / 2;
        if index < middle {
            spans.push((middle, to));
            to = middle;
        } else {
            spans.push((from, middle));
            from = middle;
        }
    }
    spans.into_iter().rev().map(|(a, b)| subtree_root(tiles, a, b)).collect()
}

/// The proof that the tree of `old` leaves is the beginning of the tree of `new` leaves (RFC 9162 §2.1.4.1). Empty if
/// the sizes are equal.
///
/// # Errors
/// [`ProveError`].
pub fn prove_consistency<T: Tiles>(tiles: &T, old: u64, new: u64) -> Result<Vec<Hash>, ProveError<T::Error>> {
    if old == 0 || old > new {
        return Err(ProveError::OutOfRange);
    }
    let (mut from, mut to, mut spans, mut known) = (0, new, Vec::new(), true);
    while to != old {
        let middle = from + (to - from).next_power_of_two() / 2;
        if old <= middle {
            spans.push((middle, to));
            to = middle;
        } else {
            spans.push((from, middle));
            (from, known) = (middle, false);
        }
    }
    if !known {
        spans.push((from, to));
    }
    spans.into_iter().rev().map(|(a, b)| subtree_root(tiles, a, b)).collect()
}

/// Checks that a leaf with `leaf_hash` stands at `index` in the tree of `size` leaves with `root` (RFC 9162 §2.1.3.2).
///
/// # Errors
/// [`ProofError`].
pub fn check_inclusion(
    index: u64,
    size: u64,
    leaf_hash: &Hash,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_subtree_inclusion(index, 0, size, leaf_hash, root, proof)
}

/// As [`check_inclusion`], for the subtree `[start, end)` with `root`.
///
/// # Errors
/// [`ProofError`].
pub fn check_subtree_inclusion(
    index: u64,
    start: u64,
    end: u64,
    leaf_hash: &Hash,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if root_above(index, start, end, leaf_hash, proof)? == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// The root of the tree of `size` leaves to which `proof` leads from `leaf_hash` at `index`. It shows that the leaf is in the
/// tree only once the root is known to be the tree's, by its signature.
///
/// # Errors
/// [`ProofError::OutOfRange`], [`ProofError::Length`].
pub fn root_from_inclusion(
    index: u64,
    size: u64,
    leaf_hash: &Hash,
    proof: &[Hash],
) -> Result<Hash, ProofError> {
    root_above(index, 0, size, leaf_hash, proof)
}

fn root_above(
    index: u64,
    start: u64,
    end: u64,
    leaf_hash: &Hash,
    proof: &[Hash],
) -> Result<Hash, ProofError> {
    if !is_subtree(start, end) || !(start..end).contains(&index) {
        return Err(ProofError::OutOfRange);
    }
    let (mut at, mut last, mut hash) = (index - start, end - start - 1, *leaf_hash);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 { Ok(hash) } else { Err(ProofError::Length) }
}

/// Checks that the tree of `old` leaves with `old_root` is the beginning of the tree of `new` leaves with `new_root`
/// (RFC 9162 §2.1.4.2). The empty tree is the beginning of every tree, which proves nothing and is refused unless both
/// are empty.
///
/// # Errors
/// [`ProofError`].
pub fn check_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old == 0 && new == 0 {
        return match (proof.is_empty(), old_root == new_root) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    check_subtree_consistency(0, old, new, old_root, new_root, proof)
}

/// Checks that the subtree `[start, end)` with `subtree` is part of the tree of `size` leaves with `root`
/// (draft-ietf-plants-merkle-tree-certs §4.4.3).
///
/// # Errors
/// [`ProofError`].
pub fn check_subtree_consistency(
    start: u64,
    end: u64,
    size: u64,
    subtree: &Hash,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if start == end && end <= size {
        // Every tree has the empty subtree, whose root is fixed.
        return match (proof.is_empty(), *subtree == EMPTY_ROOT) {
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
            (false, _) => Err(ProofError::Length),
        };
    }
    match consistency_roots(start, end, size, subtree, proof)? {
        (begun, whole) if begun == *subtree && whole == *root => Ok(()),
        _ => Err(ProofError::Root),
    }
}

/// The two roots that a consistency proof leads to: of the subtree `[start, end)` and of the tree of `size` leaves. Where
/// the subtree is a node of the tree, the proof leaves it out and begins with `seed`.
///
/// # Errors
/// [`ProofError`]; never [`ProofError::Root`].
pub fn consistency_roots(
    start: u64,
    end: u64,
    size: u64,
    seed: &Hash,
    proof: &[Hash],
) -> Result<(Hash, Hash), ProofError> {
    if !is_subtree(start, end) || end > size {
        return Err(ProofError::OutOfRange);
    }
    let (mut first, mut last, mut top) = (start, end - 1, size - 1);
    while first != last && (last == top || last & 1 == 1) {
        (first, last, top) = (first >> 1, last >> 1, top >> 1);
    }
    let mut rest = proof.iter();
    let mut hash = if first == last { *seed } else { *rest.next().ok_or(ProofError::Length)? };
    let mut whole = hash;
    for sibling in rest {
        if top == 0 {
            return Err(ProofError::Length);
        }
        if last & 1 == 1 || last == top {
            if first < last {
                hash = node_hash(sibling, &hash);
            }
            whole = node_hash(sibling, &whole);
            while last & 1 == 0 && last != 0 {
                (first, last, top) = (first >> 1, last >> 1, top >> 1);
            }
        } else {
            whole = node_hash(&whole, sibling);
        }
        (first, last, top) = (first >> 1, last >> 1, top >> 1);
    }
    if top == 0 { Ok((hash, whole)) } else { Err(ProofError::Length) }
}
