//! How a stored ledger stands to a checkpoint of it that somebody kept: does it continue it, or lack what came after?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use almoner_ledger::audit::SourceTiles;
use almoner_ledger::source::{Folder, Source as _};
use almoner_ledger::tile::{TilePath, unbundle};
use almoner_ledger::tree::TILE_WIDTH;
use almoner_ledger::{Checkpoint, Leaf, proof};
use almoner_model::Seq;
use serde::Serialize;

use super::anchor::{Anchor, Kept};
use super::read::{Index, Reader};
use super::seal::Sealer;
use super::{Options, boot, schema};
use crate::store::StoreError;

/// How a ledger stands to a known checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Standing {
    /// It begins with the entries that were known: proven.
    Continues {
        /// How many were known.
        known: u64,
    },
    /// It has fewer entries than were known.
    Lacks(Lacking),
    /// It has as many or more, and they are others; or the file is no checkpoint of this ledger.
    Another {
        /// How many were known, where it is a checkpoint of this ledger.
        known: Option<u64>,
    },
}

/// What a ledger lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lacking {
    /// The first entry that is not there.
    pub from: Seq,
    /// The size that is known.
    pub known: u64,
    /// Whether what is there was proven to be the beginning of what is known, which needs the tiles of a mirror.
    pub proven: bool,
    /// How many of each type are lacking, where a mirror has the entries.
    pub types: BTreeMap<String, u64>,
}

/// Compares the ledger that `options` name with the checkpoint in `known`: a file with a signed note, or the folder of a
/// mirror or an export, which has one and the tiles besides.
///
/// # Errors
/// [`StoreError::NotIntact`] if the ledger itself is not, [`StoreError::Unavailable`] if something cannot be read.
pub fn standing(options: &Options, known: &Path) -> Result<Standing, StoreError> {
    let (db, sealer) = (schema::open_reader(&options.path)?, Sealer::new(&options.wrapping_key));
    let reader = Reader { db: &db, sealer: &sealer, index: Index::Table };
    let signing = reader.signing(&options.keys, options.clock.now())?;
    let (_, signed) = boot::check(&reader, signing.verifier())?;
    let signed = signed.checkpoint;
    let mirror = known.is_dir().then(|| known.to_owned());
    let note = mirror.as_ref().map_or_else(|| known.to_owned(), |m| m.join("checkpoint"));
    let anchor = Anchor::new(note, &signing, &options.keys)?;
    let kept = anchor.read()?;
    let size = match &kept {
        Kept::Nothing => {
            return Err(StoreError::Unavailable(format!("there is no checkpoint at {}", known.display())));
        }
        Kept::Foreign => return Ok(Standing::Another { known: None }),
        Kept::Note(kept) if kept.size > signed.size => {
            let lacking =
                Lacking { from: signed.size, known: kept.size, proven: false, types: BTreeMap::new() };
            let Some(mirror) = mirror else { return Ok(Standing::Lacks(lacking)) };
            return Ok(lacks(lacking, &signed, kept, mirror));
        }
        Kept::Note(kept) => kept.size,
    };
    match anchor.check(&kept, &signed, &reader) {
        Ok(()) => Ok(Standing::Continues { known: size }),
        Err(StoreError::RolledBack(_)) => Ok(Standing::Another { known: Some(size) }),
        Err(error) => Err(error),
    }
}

/// What a mirror says of the entries that are lacking. What it does not have is not said.
fn lacks(mut lacking: Lacking, signed: &Checkpoint, known: &Checkpoint, mirror: PathBuf) -> Standing {
    let source = Folder(mirror);
    let tiles = SourceTiles { source: &source, size: known.size };
    if signed.size > 0 {
        let Ok(hashes) = proof::prove_consistency(&tiles, signed.size, known.size) else {
            return Standing::Lacks(lacking);
        };
        if proof::check_consistency(signed.size, known.size, &signed.root, &known.root, &hashes).is_err() {
            return Standing::Another { known: Some(known.size) };
        }
    }
    lacking.proven = true;
    let width = TILE_WIDTH as u64;
    for index in signed.size / width..known.size.div_ceil(width) {
        let bundle = TilePath::entries(index, known.size).and_then(|path| source.tile(&path).ok());
        let leaves = bundle.as_deref().and_then(unbundle).unwrap_or_default();
        for (seq, bytes) in (index * width..).zip(leaves) {
            if let Some(leaf) =
                Leaf::parse(bytes).ok().filter(|leaf| leaf.seq >= signed.size && leaf.seq == seq)
            {
                *lacking.types.entry(leaf.kind).or_default() += 1;
            }
        }
    }
    Standing::Lacks(lacking)
}
