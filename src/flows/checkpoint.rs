//! What anyone may read of the ledger: checkpoint, tiles, entries and key as exact bytes (C2SP tlog-tiles), receipts, and
//! the same written as a folder that `almoner-verify` and any tile client checks offline.
//!
//! Everything here is public by construction: leaves hold commitments only. A partial tile is served at the width asked
//! for, so what was once served stays the same bytes for ever and may be cached; only `checkpoint` changes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use almoner_ledger::proof::{self, ProveError, Tiles};
use almoner_ledger::receipt::Receipt;
use almoner_ledger::tile::{TilePath, bundle};
use almoner_ledger::tree::TILE_WIDTH;
use almoner_model::Seq;
use serde::Serialize;

use crate::error::ErrorKind;
use crate::store::{Store, StoreError};

/// Why something of the ledger cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The ledger has no such entry.
    #[error("the ledger has {size} entries; there is no entry {seq}")]
    NoEntry {
        /// Which was asked for.
        seq: Seq,
        /// How many there are.
        size: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of an export or a receipt.
    #[error("a file cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// The folder holds something else.
    #[error("the folder holds another log's export, or a newer one; choose an empty folder")]
    OtherLog,
}

impl PublishError {
    /// What kind of refusal it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoEntry { .. } => ErrorKind::Invalid,
            Self::Store(e) => e.kind(),
            Self::Write(_) => ErrorKind::Fault,
            Self::OtherLog => ErrorKind::Conflict,
        }
    }
}

impl From<ProveError<StoreError>> for PublishError {
    fn from(error: ProveError<StoreError>) -> Self {
        match error {
            ProveError::Source(e) => Self::Store(e),
            other => Self::Store(StoreError::NotIntact(other.to_string())),
        }
    }
}

/// A file of the published log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: &'static str,
    /// Whether these bytes stay the same for ever.
    pub immutable: bool,
}

/// A store's tiles, for proofs.
struct StoreTiles<'a>(&'a dyn Store);

impl Tiles for StoreTiles<'_> {
    type Error = StoreError;
    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::NotIntact(format!("hash tile {index} of level {level} is missing"));
        self.0.tile(level, index)?.ok_or_else(missing)
    }
}

/// The file at `path` below `/ledger/`: `checkpoint`, `vkey`, `handovers`, `tile/…`; `None` if the log has none there.
///
/// # Errors
/// [`PublishError::Store`].
pub fn published(store: &dyn Store, path: &str) -> Result<Option<Published>, PublishError> {
    let text = |bytes| Published { bytes, media_type: "text/plain; charset=utf-8", immutable: false };
    match path {
        "checkpoint" => Ok(Some(text(store.checkpoint().note))),
        "vkey" => Ok(Some(text(format!("{}\n", store.vkey()).into_bytes()))),
        "handovers" => {
            let bytes = super::handover::file(store)?;
            Ok(Some(Published { bytes, media_type: "application/json", immutable: false }))
        }
        _ => match TilePath::parse(path) {
            Some(tile) if tile.within(store.size()) => {
                let bytes = tile_bytes(store, &tile)?;
                Ok(Some(Published { bytes, media_type: "application/octet-stream", immutable: true }))
            }
            _ => Ok(None),
        },
    }
}

fn tile_bytes(store: &dyn Store, tile: &TilePath) -> Result<Vec<u8>, PublishError> {
    let width = usize::from(tile.width);
    match tile.level {
        None => {
            let start = tile.index * TILE_WIDTH as u64;
            Ok(bundle(store.leaves(start..start + width as u64)?))
        }
        Some(level) => {
            let mut bytes = StoreTiles(store).tile(level, tile.index, tile.width)?;
            if bytes.len() < width * 32 {
                return Err(StoreError::NotIntact(format!("{tile} is cut")).into());
            }
            bytes.truncate(width * 32);
            Ok(bytes)
        }
    }
}

/// The receipt (`.tlog-proof`) of an entry under the present checkpoint.
///
/// # Errors
/// [`PublishError::NoEntry`] beyond the end, [`PublishError::Store`].
pub fn receipt(store: &dyn Store, seq: Seq) -> Result<Vec<u8>, PublishError> {
    receipt_under(store, seq, store.checkpoint())
}

/// The receipt of an entry under a given checkpoint of this log.
///
/// # Errors
/// As [`receipt`].
pub fn receipt_under(
    store: &dyn Store,
    seq: Seq,
    signed: almoner_ledger::SignedCheckpoint,
) -> Result<Vec<u8>, PublishError> {
    let size = signed.checkpoint.size;
    let hashes = inclusion(store, seq, size)?;
    Ok(Receipt { extra: None, index: seq, hashes, checkpoint: signed.note }.to_bytes())
}

/// The COSE receipt (RFC 9942) of an entry under the present checkpoint.
///
/// # Errors
/// As [`receipt`].
pub fn cose_receipt(store: &dyn Store, seq: Seq) -> Result<Vec<u8>, PublishError> {
    let root = store.signed_root()?;
    let hashes = inclusion(store, seq, root.size)?;
    let bytes = root.receipt(seq, hashes).to_bytes();
    bytes.map_err(|e| StoreError::NotIntact(e.to_string()).into())
}

/// The exact bytes of an entry's leaf.
///
/// # Errors
/// As [`receipt`].
pub fn leaf(store: &dyn Store, seq: Seq) -> Result<Vec<u8>, PublishError> {
    let size = store.size();
    if seq >= size {
        return Err(PublishError::NoEntry { seq, size });
    }
    let leaf = store.leaves(seq..seq + 1)?.pop();
    leaf.ok_or_else(|| StoreError::NotIntact(format!("entry {seq} is missing")).into())
}

/// Files that [`write_receipt`] wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WrittenReceipt {
    /// Which entry.
    pub seq: Seq,
    /// Entries in the ledger when it was made.
    pub size: u64,
    /// The leaf's exact bytes.
    pub entry: PathBuf,
    /// Its proof (C2SP tlog-proof).
    pub proof: PathBuf,
    /// Its COSE receipt (RFC 9942).
    pub receipt: PathBuf,
    /// The log's verifier key.
    pub vkey: PathBuf,
}

/// Writes an entry, its proof and its COSE receipt into `dir`: what somebody is given to keep.
///
/// # Errors
/// As [`receipt`], and [`PublishError::Write`].
pub fn write_receipt(store: &dyn Store, seq: Seq, dir: &Path) -> Result<WrittenReceipt, PublishError> {
    // With the witnesses' signatures, where they were collected.
    let proof = super::cosign::receipt(store, seq)?;
    let (leaf, cose) = (leaf(store, seq)?, cose_receipt(store, seq)?);
    fs::create_dir_all(dir)?;
    let written = WrittenReceipt {
        seq,
        size: store.size(),
        entry: dir.join(format!("entry-{seq}.json")),
        proof: dir.join(format!("entry-{seq}.tlog-proof")),
        receipt: dir.join(format!("entry-{seq}.cose")),
        vkey: dir.join("vkey"),
    };
    let vkey = format!("{}\n", store.vkey()).into_bytes();
    for (path, bytes) in
        [(&written.entry, leaf), (&written.proof, proof), (&written.receipt, cose), (&written.vkey, vkey)]
    {
        write_whole(path, &bytes)?;
    }
    Ok(written)
}

/// The proof that entry `seq` stands in the log of `size` entries.
///
/// # Errors
/// As [`receipt`].
pub fn inclusion(store: &dyn Store, seq: Seq, size: u64) -> Result<Vec<almoner_ledger::Hash>, PublishError> {
    if seq >= size {
        return Err(PublishError::NoEntry { seq, size });
    }
    Ok(proof::prove_inclusion(&StoreTiles(store), seq, size)?)
}

/// The proof that the log of `old` entries is the beginning of the present one, as hashes, and the present size.
///
/// # Errors
/// [`PublishError::NoEntry`] if `old` is 0 or beyond the end, [`PublishError::Store`].
pub fn consistency(store: &dyn Store, old: u64) -> Result<(Vec<almoner_ledger::Hash>, u64), PublishError> {
    let size = store.size();
    if old == 0 || old > size {
        return Err(PublishError::NoEntry { seq: old, size });
    }
    Ok((consistency_between(store, old, size)?, size))
}

/// The proof that the log of `old` entries is the beginning of the log of `new` entries, as hashes.
///
/// # Errors
/// [`PublishError::Store`], also if the log has no such sizes.
pub fn consistency_between(
    store: &dyn Store,
    old: u64,
    new: u64,
) -> Result<Vec<almoner_ledger::Hash>, PublishError> {
    Ok(proof::prove_consistency(&StoreTiles(store), old, new)?)
}

/// What an export wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Exported {
    /// Which log.
    pub origin: String,
    /// Entries in it.
    pub entries: u64,
    /// Files that were written; those that an earlier export had left complete are not written again.
    pub files_written: u64,
    /// Bytes in them.
    pub bytes_written: u64,
}

/// Writes the log as a folder of files; repeated into the same folder it adds what is new. The checkpoint is written
/// last, so that a broken export is an older whole one.
///
/// # Errors
/// [`PublishError::OtherLog`] if the folder holds an export of another log; [`PublishError::Write`],
/// [`PublishError::Store`].
pub fn export(store: &dyn Store, dir: &Path) -> Result<Exported, PublishError> {
    let signed = super::cosign::newest(store)?;
    let size = signed.checkpoint.size;
    fs::create_dir_all(dir)?;
    let (keys, there) = (store.verifier()?, fs::read_to_string(dir.join("vkey")).ok());
    if there.as_ref().is_some_and(|there| keys.lines().all(|line| line != there.trim_end())) {
        return Err(PublishError::OtherLog);
    }
    if keys.lines().len() > 1 {
        write_whole(&dir.join("handovers"), &super::handover::file(store)?)?;
    }
    let vkey = format!("{}\n", keys.line());
    if there.as_ref() != Some(&vkey) {
        write_whole(&dir.join("vkey"), vkey.as_bytes())?;
    }
    let mut done =
        Exported { origin: signed.checkpoint.origin, entries: size, files_written: 0, bytes_written: 0 };
    for tile in TilePath::all(size) {
        let path = dir.join(tile.to_string());
        if path.exists() {
            continue;
        }
        let bytes = tile_bytes(store, &tile)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        write_whole(&path, &bytes)?;
        done.files_written += 1;
        done.bytes_written += bytes.len() as u64;
    }
    write_whole(&dir.join("checkpoint"), &signed.note)?;
    Ok(done)
}

/// Writes a file so that under its name it is whole or not there.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = File::create(&name)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&name, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use almoner_ledger::audit::audit;
    use almoner_ledger::cose::CoseReceipt;
    use almoner_ledger::source::Folder;
    use almoner_ledger::{Checkpoint, Hash, LogKey, VerifierKey};
    use almoner_model::{ManualClock, SeededEntropy, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::store::NoProjections;
    use crate::store::conformance::entry as numbered;
    use crate::store::memory::MemoryStore;

    fn store(seed: u8) -> MemoryStore {
        let key = LogKey::new("almoner.example/log", &[seed / 2; 32]).expect("a name");
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
        MemoryStore::new(key, clock, Arc::new(SeededEntropy::new(seed.into())), Arc::new(NoProjections))
            .expect("opens")
    }

    fn grow(store: &dyn Store, to: u64) {
        let entries = (store.size()..to).map(|n| numbered(n, "a.done", None, json!({"n": n}))).collect();
        store.append(entries, &[]).expect("appends");
    }

    #[test]
    fn an_export_is_audited_intact_at_every_interesting_size_and_grows() {
        let store = store(2);
        let key = VerifierKey::parse(&store.vkey()).expect("vkey");
        let dir = tempfile::tempdir().expect("a folder");
        let mut known: Option<Checkpoint> = None;
        for size in [0, 1, 255, 256, 257, 700] {
            grow(&store, size);
            let done = export(&store, dir.path()).expect("exports");
            assert_eq!(done.entries, size);
            let found = audit(&Folder(dir.path().into()), &key, known.as_ref(), 2);
            assert!(found.intact, "size {size}: {:?}", found.findings);
            assert_eq!(found.size, size);
            if let Some(old) = known.as_ref().filter(|k| k.size > 0) {
                let (hashes, new) = consistency(&store, old.size).expect("proves");
                let root: Hash = store.checkpoint().checkpoint.root;
                assert_eq!(proof::check_consistency(old.size, new, &old.root, &root, &hashes), Ok(()));
            }
            known = Some(store.checkpoint().checkpoint);
        }
        assert_eq!(export(&store, dir.path()).expect("exports again").files_written, 0);
        assert!(matches!(export(&self::store(4), dir.path()), Err(PublishError::OtherLog)));
        let fork = self::store(3);
        grow(&fork, 900);
        let other = tempfile::tempdir().expect("a folder");
        export(&fork, other.path()).expect("exports");
        let found = audit(&Folder(other.path().into()), &key, known.as_ref(), 3);
        assert!(
            !found.intact && found.findings[0].problem.contains("does not begin with"),
            "{:?}",
            found.findings
        );
    }

    #[test]
    fn every_receipt_holds_and_partial_tiles_keep_their_bytes() {
        let store = store(2);
        let key = VerifierKey::parse(&store.vkey()).expect("vkey");
        grow(&store, 300);
        let dir = tempfile::tempdir().expect("a folder");
        for seq in [0, 255, 256, 299] {
            let leaf = store.leaves(seq..seq + 1).expect("stored").remove(0);
            let receipt = Receipt::parse(&receipt(&store, seq).expect("proves")).expect("reads");
            assert_eq!(receipt.check(&leaf, &key).expect("holds").checkpoint.size, 300);
            let receipt = CoseReceipt::parse(&cose_receipt(&store, seq).expect("signs")).expect("reads");
            assert_eq!(receipt.check(&leaf, &key).expect("holds"), store.checkpoint().checkpoint);
            let written = write_receipt(&store, seq, dir.path()).expect("writes");
            assert_eq!(fs::read(&written.entry).expect("there"), leaf);
        }
        for (nothing, answer) in [
            ("proof", receipt(&store, 300)),
            ("COSE", cose_receipt(&store, 300)),
            ("leaf", leaf(&store, 300)),
        ] {
            assert!(matches!(answer, Err(PublishError::NoEntry { seq: 300, size: 300 })), "{nothing}");
        }
        let path = "tile/0/001.p/44";
        let before = published(&store, path).expect("readable").expect("there");
        assert!(published(&store, "tile/0/001").expect("readable").is_none());
        grow(&store, 520);
        assert_eq!(published(&store, path).expect("readable").expect("still there"), before);
        for absent in
            ["tile/0/002.p/9", "tile/9/000", "tile/0/1", "../ledger.sqlite", "tile/entries/002.p/9", ""]
        {
            assert_eq!(published(&store, absent).expect("readable"), None, "{absent}");
        }
    }

    #[test]
    fn a_flipped_byte_or_another_length_of_any_file_is_found_and_its_place_named() {
        let store = store(2);
        let key = VerifierKey::parse(&store.vkey()).expect("vkey");
        grow(&store, 300);
        let dir = tempfile::tempdir().expect("a folder");
        export(&store, dir.path()).expect("exports");
        let names: Vec<String> =
            TilePath::all(300).map(|t| t.to_string()).chain(["checkpoint".into()]).collect();
        for name in names {
            let path = dir.path().join(&name);
            let good = fs::read(&path).expect("readable");
            let flipped = (0..good.len()).step_by(good.len() / 7 + 1).map(|at| {
                let mut bad = good.clone();
                bad[at] ^= 1;
                (format!("byte {at} flipped"), bad)
            });
            let cut = [0, good.len() - 32, good.len() - 1]
                .map(|length| (format!("cut to {length}"), good[..length].to_vec()));
            let longer = [1, 32, 8_192]
                .map(|more| (format!("{more} bytes longer"), [good.as_slice(), &vec![b'0'; more]].concat()));
            for (what, bad) in flipped.chain(cut).chain(longer) {
                fs::write(&path, &bad).expect("writable");
                let found = audit(&Folder(dir.path().into()), &key, None, 2);
                let named = found.findings.iter().any(|f| f.path == name || f.problem.contains(&name));
                assert!(!found.intact && named, "{name} {what}: {:?}", found.findings);
            }
            fs::remove_file(&path).expect("removable");
            let found = audit(&Folder(dir.path().into()), &key, None, 2);
            assert!(found.findings.iter().any(|f| f.to_string().contains(&name)), "{name} removed");
            fs::write(&path, &good).expect("writable");
        }
        assert!(audit(&Folder(dir.path().into()), &key, None, 2).intact);
    }
}
