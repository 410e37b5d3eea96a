//! Where things lie (C2SP tlog-tiles): paths of tiles and entry bundles, and the format of a bundle.
//!
//! ```text
//! checkpoint                      the signed note
//! tile/<L>/<N>[.p/<W>]            hashes N*256 .. of level L; ".p/W" holds the first W of an incomplete tile
//! tile/entries/<N>[.p/<W>]        leaves N*256 .., each as a big-endian 16-bit length and its bytes
//! ```
//!
//! `<N>` is written in groups of three digits, all but the last with a leading `x`: 1234067 is `x001/x234/067`.

use crate::tree::{Hash, TILE_WIDTH};

/// What a path under `tile/` names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TilePath {
    /// Level of a hash tile, 0 to 63; `None` for an entry bundle.
    pub level: Option<u8>,
    /// Position in the level.
    pub index: u64,
    /// 1 to 256 hashes or entries; 256 is a full tile.
    pub width: u16,
}

impl TilePath {
    /// The hash tile at `level`, `index`, as a tree of `size` leaves has it; `None` if it has none there.
    pub fn hashes(level: u8, index: u64, size: u64) -> Option<Self> {
        let count = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        Some(Self { level: Some(level), index, width: width(index, count)? })
    }

    /// The entry bundle at `index`, as a log of `size` leaves has it; `None` if it has none there.
    pub fn entries(index: u64, size: u64) -> Option<Self> {
        Some(Self { level: None, index, width: width(index, size)? })
    }

    /// Whether a tree of `size` leaves has (at least) these hashes or entries.
    pub fn within(&self, size: u64) -> bool {
        let had = match self.level {
            Some(level) => Self::hashes(level, self.index, size),
            None => Self::entries(self.index, size),
        };
        had.is_some_and(|t| t.width >= self.width)
    }

    /// Every hash tile and entry bundle of a log of `size` leaves, the last one of each level possibly partial.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        let levels = (0u8..8).take_while(move |l| size >> (8 * u32::from(*l)) > 0);
        let hashes =
            levels.flat_map(move |level| (0..).map_while(move |index| Self::hashes(level, index, size)));
        hashes.chain((0..).map_while(move |index| Self::entries(index, size)))
    }

    /// The full tile that this one is the beginning of.
    pub const fn full(self) -> Self {
        Self { width: TILE_WIDTH as u16, ..self }
    }

    /// So much of `bytes`, which are of a tile at the same place and at least as wide; `None` if they are not.
    pub fn cut(&self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let width = usize::from(self.width);
        let length = match self.level {
            Some(_) => width * size_of::<Hash>(),
            None => {
                let leaves = unbundle(&bytes)?;
                leaves.get(..width)?.iter().map(|leaf| size_of::<u16>() + leaf.len()).sum()
            }
        };
        (bytes.len() >= length).then(|| {
            bytes.truncate(length);
            bytes
        })
    }

    /// Reads a path: `tile/0/x001/234.p/5`.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => None,
            text => Some(text.parse::<u8>().ok().filter(|l| *l < 64 && l.to_string() == text)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, text)) => {
                let width = text.parse::<u16>().ok()?;
                (index, Some(width).filter(|w| (1..256).contains(w) && w.to_string() == text)?)
            }
            None => (rest, TILE_WIDTH as u16),
        };
        Some(Self { level, index: parse_index(index)?, width })
    }
}

impl std::fmt::Display for TilePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/")?,
            None => f.write_str("tile/entries/")?,
        }
        let (mut groups, mut rest) = (vec![self.index % 1000], self.index / 1000);
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if usize::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

fn width(index: u64, count: u64) -> Option<u16> {
    let start = index.checked_mul(TILE_WIDTH as u64)?;
    let width = count.checked_sub(start)?.min(TILE_WIDTH as u64) as u16;
    (width > 0).then_some(width)
}

fn parse_index(text: &str) -> Option<u64> {
    let groups: Vec<&str> = text.split('/').collect();
    let (last, firsts) = groups.split_last()?;
    let mut index = 0u64;
    for (position, group) in firsts.iter().map(|g| g.strip_prefix('x')).chain([Some(*last)]).enumerate() {
        let digits = group.filter(|g| g.len() == 3 && g.bytes().all(|b| b.is_ascii_digit()))?;
        if position == 0 && !firsts.is_empty() && digits == "000" {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

/// The bytes of an entry bundle. Leaves are at most 8 KiB, so their length fits 16 bits.
pub fn bundle<B: AsRef<[u8]>>(leaves: impl IntoIterator<Item = B>) -> Vec<u8> {
    let mut out = Vec::new();
    for leaf in leaves {
        let leaf = leaf.as_ref();
        out.extend_from_slice(&(leaf.len() as u16).to_be_bytes());
        out.extend_from_slice(leaf);
    }
    out
}

/// The leaves in a bundle; `None` if its bytes do not end with a leaf's last.
pub fn unbundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut leaves = Vec::with_capacity(TILE_WIDTH);
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        leaves.push(leaf);
        bytes = rest;
    }
    Some(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |level, index, width| TilePath { level, index, width };
        for (path, expected) in [
            ("tile/0/x001/x234/067", tile(Some(0), 1_234_067, 256)),
            ("tile/0/x001/x234/067.p/1", tile(Some(0), 1_234_067, 1)),
            ("tile/63/000", tile(Some(63), 0, 256)),
            ("tile/entries/273.p/112", tile(None, 273, 112)),
        ] {
            assert_eq!(TilePath::parse(path), Some(expected));
            assert_eq!(expected.to_string(), path);
        }
        for bad in [
            "tile/64/000",
            "tile/00/000",
            "tile/0/1",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/x000/001",
            "tile/0/001/001",
            "tile/0/x001",
            "tile/0/",
            "tile/x/000",
            "tile/data/000",
            "tile/0/00a",
            "tile/0/000.p/",
            "x/0/000",
        ] {
            assert_eq!(TilePath::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_log_of_70000_leaves_has_the_tiles_of_the_specification() {
        let all: Vec<String> = TilePath::all(70_000).map(|t| t.to_string()).collect();
        assert_eq!(all.len(), 274 + 2 + 1 + 274);
        for path in
            ["tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"]
        {
            assert!(all.iter().any(|p| p == path), "{path}");
        }
        assert_eq!(TilePath::all(0).count(), 0);
        assert!(TilePath::parse("tile/0/273.p/100").is_some_and(|t| t.within(70_000) && !t.within(69_000)));
    }

    #[test]
    fn a_tile_is_cut_from_a_wider_one_and_from_no_narrower() {
        let tile = |level, width| TilePath { level, index: 0, width };
        let hashes: Vec<u8> = (0..=255).flat_map(|n| [n; 32]).collect();
        assert_eq!(tile(Some(1), 3).cut(hashes.clone()).expect("wide enough"), hashes[..96]);
        assert_eq!(tile(Some(1), 4).cut(hashes[..100].to_vec()), None);
        let leaves: Vec<Vec<u8>> = (0..=255).map(|n| vec![n; usize::from(n)]).collect();
        assert_eq!(tile(None, 7).cut(bundle(&leaves)).expect("wide enough"), bundle(&leaves[..7]));
        assert_eq!(tile(None, 7).cut(bundle(&leaves[..6])), None);
        assert_eq!(tile(None, 7).cut(bundle(&leaves[..8])[..5].to_vec()), None, "no whole leaves");
        assert_eq!(tile(None, 7).full().to_string(), "tile/entries/000");
    }

    #[test]
    fn bundles_round_trip_and_a_cut_one_is_refused() {
        let leaves = [b"a".to_vec(), vec![], vec![7; 300]];
        let bytes = bundle(&leaves);
        assert_eq!(unbundle(&bytes).expect("whole"), leaves);
        assert_eq!(unbundle(&bytes[..bytes.len() - 1]), None);
    }
}
