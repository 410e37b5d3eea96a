//! A mirror: a full copy of somebody else's published log, verified before anything of it is shown, and the proof if that
//! log ever shows another history.
//!
//! The copy has the layout of C2SP tlog-tiles, so any client reads it as it reads the log. What arrives goes into
//! `.incoming` and is hashed on top of the copy's own right edge; only when that gives the signed root is it made durable,
//! moved into place, and the checkpoint written last. A copy that was cut short goes on where it was. What the log takes
//! back is never taken back here. A checkpoint that the log signed and whose entries could not be had, or did not fit, is kept
//! in `.unsettled` until the copy is as long: then it fits, or it is the proof of a fork.
//!
//! The log's payloads are not in it: leaves hold commitments. So a mirror proves what was said and in which order, and
//! cannot tell what a commitment hides, nor bring a lost server back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use almoner_ledger::audit::SourceTiles;
use almoner_ledger::fork::Fork;
use almoner_ledger::handover;
use almoner_ledger::policy::Policy;
use almoner_ledger::proof::{ProveError, check_consistency, prove_consistency, subtree_root};
use almoner_ledger::source::{Folder, Source, SourceError};
use almoner_ledger::tile::{TilePath, unbundle};
use almoner_ledger::tree::{ChangedTile, Edge, TILE_WIDTH, leaf_hash, tile_hashes};
use almoner_ledger::{Checkpoint, CheckpointError, Hash, KeyError, SignedCheckpoint, VerifierKey};
use serde::Serialize;

use super::checkpoint::Published;
use super::durable;
use crate::error::ErrorKind;

/// Where checkpoints wait that the log signed and did not bear out.
const UNSETTLED: &str = ".unsettled";

/// So many of them are kept. Only the log's key makes one.
const UNSETTLED_MAX: usize = 1000;

/// Bundles between two looks at which tiles are complete.
const TILES_EVERY: u64 = 256;

/// Why a mirror is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The log cannot be reached, or lacks a file.
    #[error("the log: {0}")]
    Source(#[from] SourceError),
    /// The log's checkpoint.
    #[error("the log's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The policy.
    #[error("the log's checkpoint is not accepted: {0}")]
    Quorum(String),
    /// The key of the copy is another.
    #[error("{} is the copy of a log with another key", .0.display())]
    OtherLog(PathBuf),
    /// The folder holds something else.
    #[error("{} has other files in it; name an empty folder, or one that is not there yet", .0.display())]
    Elsewhere(PathBuf),
    /// Another process has it.
    #[error("{} is in use by another almoner process", .0.display())]
    Owned(PathBuf),
    /// The log signed another history.
    #[error("the log signed another history than the one in this copy; the proof is {}", evidence.display())]
    Forked {
        /// Where the proof is.
        evidence: PathBuf,
    },
    /// The log's files do not give what it signed; nothing was taken.
    #[error("the log's files do not fit the checkpoint that it signed: {0}; nothing was taken")]
    Broken(String),
    /// The copy itself.
    #[error(
        "the copy is not intact: {0}; check it with `almoner-verify ledger`, or begin anew in an empty folder"
    )]
    Damaged(String),
    /// A file of the copy.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl MirrorError {
    /// What kind of no.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherLog(_) | Self::Elsewhere(_) => ErrorKind::Invalid,
            Self::Owned(_) => ErrorKind::Conflict,
            Self::Quorum(_) | Self::Forked { .. } | Self::Broken(_) | Self::Checkpoint(_) => {
                ErrorKind::Refused
            }
            Self::Source(_) | Self::Damaged(_) | Self::File { .. } => ErrorKind::Fault,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MirrorError + '_ {
    move |cause| MirrorError::File { path: path.to_owned(), cause }
}

/// What a look at the log came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Synced {
    /// Which log.
    pub origin: String,
    /// Entries in the copy.
    pub entries: u64,
    /// Entries that were new.
    pub new: u64,
    /// Entries that the log shows now; fewer than the copy has where it shows an older view of the same history.
    pub shown: u64,
    /// Proofs in the copy that the log signed two histories.
    pub forks: usize,
}

/// All keys of the log to which the hand-overs lead that the copy in `root` keeps.
fn followed(root: &Path, key: &VerifierKey) -> VerifierKey {
    let kept = fs::read(root.join("handovers")).unwrap_or_default();
    handover::or_alone(key, &handover::read(&kept).unwrap_or_default())
}

/// Whether `given` is a key of the log whose copy is in `root`.
fn is_of(root: &Path, kept: &VerifierKey, given: &VerifierKey) -> bool {
    followed(root, kept).lines().any(|line| line == given.line())
}

/// A copy of a log.
pub struct Mirror {
    root: PathBuf,
    key: VerifierKey,
    _lock: File,
}

impl Mirror {
    /// Opens the copy in `root`, or begins one, of the log of `key`; where there is a copy its key need not be given.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn open(root: &Path, key: Option<VerifierKey>) -> Result<Self, MirrorError> {
        durable::make_folder(root, false).map_err(at(root))?;
        let vkey = root.join("vkey");
        let kept = fs::read_to_string(&vkey).ok().and_then(|line| VerifierKey::parse(&line).ok());
        let key = match (kept, key) {
            (Some(kept), given) if given.as_ref().is_none_or(|given| is_of(root, &kept, given)) => kept,
            (Some(_), _) => return Err(MirrorError::OtherLog(root.to_owned())),
            (None, Some(key)) => {
                let mut others = fs::read_dir(root).map_err(at(root))?.flatten();
                if others.any(|entry| ![".lock", "vkey.new"].iter().any(|ours| entry.file_name() == *ours)) {
                    return Err(MirrorError::Elsewhere(root.to_owned()));
                }
                durable::write(&vkey, format!("{}\n", key.line()).as_bytes(), 0o644).map_err(at(&vkey))?;
                key
            }
            (None, None) => {
                return Err(MirrorError::Damaged(
                    "there is no copy yet, so the log's key is to be given".into(),
                ));
            }
        };
        let path = root.join(".lock");
        let lock = durable::lock(&path).map_err(at(&path))?;
        Ok(Self {
            root: root.to_owned(),
            key,
            _lock: lock.ok_or_else(|| MirrorError::Owned(root.to_owned()))?,
        })
    }

    /// The checkpoint of the copy; `None` before anything was copied.
    ///
    /// # Errors
    /// [`MirrorError::Damaged`].
    pub fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, MirrorError> {
        match fs::read(self.root.join("checkpoint")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(MirrorError::File { path: self.root.join("checkpoint"), cause }),
            Ok(note) => match Checkpoint::open(&note, &self.keys()) {
                Ok(signed) => Ok(Some(signed)),
                Err(e) => Err(MirrorError::Damaged(e.to_string())),
            },
        }
    }

    /// Takes what is new in the log at `source`. With a policy only a checkpoint with its quorum is looked at.
    ///
    /// # Errors
    /// [`MirrorError`]; the copy stays as it was.
    pub fn sync(&self, source: &dyn Source, policy: Option<&Policy>) -> Result<Synced, MirrorError> {
        let note = source.read("checkpoint")?;
        let signed = self.open_shown(source, &note)?;
        if let Some(policy) = policy {
            let refuse = |e: KeyError| MirrorError::Quorum(e.to_string());
            let standing = policy.standing(&note).map_err(refuse)?;
            if !standing.reached {
                self.unsettled(&signed)?;
                return Err(MirrorError::Quorum(standing.to_string()));
            }
        }
        let taken = self.take(source, &signed, policy.is_some());
        match &taken {
            Ok(_) => self.settle(source)?,
            Err(MirrorError::Source(_) | MirrorError::Broken(_)) => self.unsettled(&signed)?,
            Err(_) => {}
        }
        Ok(Synced { forks: self.forks()?, ..taken? })
    }

    fn take(
        &self,
        source: &dyn Source,
        signed: &SignedCheckpoint,
        asks_quorum: bool,
    ) -> Result<Synced, MirrorError> {
        let new = &signed.checkpoint;
        let have = self.checkpoint()?;
        let origin = new.origin.clone();
        let mut done = Synced { origin, entries: new.size, new: new.size, shown: new.size, forks: 0 };
        if let Some(have) = &have {
            let size = have.checkpoint.size;
            self.compare(source, have, signed)?;
            if new.size <= size {
                // Cosignatures came. Where nobody asks for a quorum, none that were there are given up.
                let lines = |note: &[u8]| note.iter().filter(|byte| **byte == b'\n').count();
                let better = asks_quorum || lines(&signed.note) >= lines(&have.note);
                if new.size == size && signed.note != have.note && better {
                    self.put("checkpoint", &signed.note)?;
                }
                (done.entries, done.new) = (size, 0);
                return Ok(done);
            }
            done.new = new.size - size;
        }
        self.copy(source, have.map_or(0, |have| have.checkpoint.size), signed)?;
        Ok(done)
    }

    /// The keys of the log, as far as the copy knows them.
    fn keys(&self) -> VerifierKey {
        followed(&self.root, &self.key)
    }

    /// The checkpoint that the log shows. Where another key signed it too, or it alone, the log's hand-overs are asked for:
    /// they are taken if they lead on from the keys that are known, and are kept in the copy.
    fn open_shown(&self, source: &dyn Source, note: &[u8]) -> Result<SignedCheckpoint, MirrorError> {
        let known = self.keys();
        let opened = Checkpoint::open(note, &known);
        let by_log = format!("\u{2014} {} ", known.name());
        let signatures =
            String::from_utf8_lossy(note).lines().filter(|line| line.starts_with(&by_log)).count();
        if opened.is_ok() && signatures < 2 {
            return Ok(opened?);
        }
        let Ok(bytes) = source.read("handovers") else { return Ok(opened?) };
        let followed = handover::read(&bytes).and_then(|handovers| handover::follow(&self.key, &handovers));
        let Ok(keys) = followed else { return Ok(opened?) };
        let leads_on =
            keys.lines().len() > known.lines().len() && known.lines().all(|k| keys.lines().any(|l| l == k));
        if !leads_on {
            return Ok(opened?);
        }
        let signed = Checkpoint::open(note, &keys)?;
        self.put("handovers", &bytes)?;
        tracing::info!(key = keys.line(), "the log has changed its key, and the old one handed over to it");
        Ok(signed)
    }

    /// Keeps a checkpoint that the log signed and did not bear out.
    fn unsettled(&self, signed: &SignedCheckpoint) -> Result<(), MirrorError> {
        let root = &hex::encode(signed.checkpoint.root)[..16];
        let name = format!("{UNSETTLED}/{}-{root}", signed.checkpoint.size);
        let kept = self.names(UNSETTLED)?.len();
        if kept >= UNSETTLED_MAX || self.root.join(&name).exists() {
            return Ok(());
        }
        self.put(&name, &signed.note)
    }

    /// Compares those that were kept with the copy, where that is as long by now.
    fn settle(&self, source: &dyn Source) -> Result<(), MirrorError> {
        let Some(have) = self.checkpoint()? else { return Ok(()) };
        for name in self.names(UNSETTLED)? {
            let path = self.root.join(UNSETTLED).join(name);
            let note = fs::read(&path).map_err(at(&path))?;
            let settled = match Checkpoint::open(&note, &self.keys()) {
                Ok(signed) if signed.checkpoint.size > have.checkpoint.size => continue,
                Ok(signed) => self.compare(source, &have, &signed),
                // What a crash cut short.
                Err(_) => Ok(()),
            };
            if matches!(settled, Ok(()) | Err(MirrorError::Forked { .. })) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
            settled?;
        }
        Ok(())
    }

    /// How many proofs are kept that the log signed two histories.
    fn forks(&self) -> Result<usize, MirrorError> {
        Ok(self
            .names("evidence")?
            .iter()
            .filter(|name| name.starts_with("fork-") && name.ends_with(".json"))
            .count())
    }

    /// The names in a folder of the copy, which need not be there.
    fn names(&self, folder: &str) -> Result<Vec<String>, MirrorError> {
        let path = self.root.join(folder);
        let listed = match fs::read_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(at(&path))?,
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        listed.map(name).collect::<io::Result<_>>().map_err(at(&path))
    }

    /// That the shorter of the two histories is the beginning of the longer.
    fn compare(
        &self,
        source: &dyn Source,
        have: &SignedCheckpoint,
        signed: &SignedCheckpoint,
    ) -> Result<(), MirrorError> {
        let (old, new) = (&have.checkpoint, &signed.checkpoint);
        if old.size == new.size {
            return if old.root == new.root { Ok(()) } else { Err(self.forked(have, signed, None, &[])) };
        }
        if old.size == 0 || new.size == 0 {
            return Ok(());
        }
        let own = Folder(self.root.clone());
        let (tiles, ours) = if old.size < new.size {
            (SourceTiles { source, size: new.size }, false)
        } else {
            (SourceTiles { source: &own, size: old.size }, true)
        };
        let wrong = |what: String| if ours { MirrorError::Damaged(what) } else { MirrorError::Broken(what) };
        let trouble = |e: ProveError<SourceError>| match e {
            ProveError::Source(e) if !ours => MirrorError::Source(e),
            e => wrong(e.to_string()),
        };
        let (first, second) = if ours { (signed, have) } else { (have, signed) };
        let (small, large) = (&first.checkpoint, &second.checkpoint);
        let prefix = subtree_root(&tiles, 0, small.size).map_err(trouble)?;
        let proof = prove_consistency(&tiles, small.size, large.size).map_err(trouble)?;
        check_consistency(small.size, large.size, &prefix, &large.root, &proof)
            .map_err(|e| wrong(format!("its tiles: {e}")))?;
        if prefix == small.root { Ok(()) } else { Err(self.forked(first, second, Some(prefix), &proof)) }
    }

    /// Keeps the proof that the log signed both.
    fn forked(
        &self,
        first: &SignedCheckpoint,
        second: &SignedCheckpoint,
        prefix: Option<Hash>,
        proof: &[Hash],
    ) -> MirrorError {
        let fork = Fork::new(
            "the copy of a mirror, and what the log shows",
            &first.note,
            &second.note,
            prefix,
            proof,
        );
        let root = &hex::encode(second.checkpoint.root)[..16];
        let (old, new) = (first.checkpoint.size, second.checkpoint.size);
        let name = format!("evidence/fork-{old}-{new}-{root}.json");
        match self.put(&name, &fork.to_bytes()) {
            Ok(()) => MirrorError::Forked { evidence: self.root.join(name) },
            Err(e) => e,
        }
    }

    /// Puts a file into the copy, durably.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            durable::make_folder(parent, false).map_err(at(parent))?;
        }
        durable::write(&path, bytes, 0o644).map_err(at(&path))
    }

    /// Copies the entries from `from` on, checks that they give the signed root, and shows them.
    fn copy(&self, source: &dyn Source, from: u64, signed: &SignedCheckpoint) -> Result<(), MirrorError> {
        let new = &signed.checkpoint;
        let incoming = Incoming { root: self.root.join(".incoming") };
        let kept = Folder(self.root.clone());
        let own = |level: u8, index: u64| kept.tile(&TilePath::hashes(level, index, from)?).ok();
        let mut edge =
            Edge::load(from, own).ok_or_else(|| MirrorError::Damaged("a tile is missing".into()))?;
        let mut partial: BTreeMap<(u8, u64), Vec<u8>> = BTreeMap::new();
        let mut files = Vec::new();
        for index in from / TILE_WIDTH as u64..new.size.div_ceil(TILE_WIDTH as u64) {
            let Some(path) = TilePath::entries(index, new.size) else { break };
            let bytes = incoming.bundle(source, &path)?;
            let leaves = unbundle(&bytes).filter(|leaves| leaves.len() == usize::from(path.width));
            let Some(leaves) = leaves else {
                incoming.discard()?;
                return Err(MirrorError::Broken(format!("{path} does not hold whole entries")));
            };
            let known = edge.size().saturating_sub(index * TILE_WIDTH as u64) as usize;
            let before = own(0, index).and_then(|bytes| tile_hashes(&bytes)).unwrap_or_default();
            for (at, leaf) in leaves.into_iter().enumerate() {
                let hash = leaf_hash(leaf);
                if at >= known {
                    edge.push(hash);
                } else if before.get(at) != Some(&hash) {
                    incoming.discard()?;
                    return Err(MirrorError::Broken(format!("{path} holds another entry than the copy")));
                }
            }
            files.push(path);
            if index % TILES_EVERY == TILES_EVERY - 1 {
                incoming.tiles(edge.take_changes(), &mut partial, &mut files)?;
            }
        }
        incoming.tiles(edge.take_changes(), &mut partial, &mut files)?;
        if edge.root() != new.root {
            incoming.discard()?;
            return Err(MirrorError::Broken("its entries have another root".into()));
        }
        for ((level, index), bytes) in partial {
            let width = (bytes.len() / size_of::<Hash>()) as u16;
            let path = TilePath { level: Some(level), index, width };
            incoming.write(&path, &bytes)?;
            files.push(path);
        }
        self.show(&incoming, &files)?;
        self.put("checkpoint", &signed.note)?;
        self.drop_partial(&files);
        incoming.discard()
    }

    /// Removes the partial tiles that are in full ones by now, and that only the checkpoint before had: it is gone. What
    /// cannot be removed, or what a crash leaves here, is a file too many.
    fn drop_partial(&self, files: &[TilePath]) {
        for path in files.iter().filter(|path| usize::from(path.width) == TILE_WIDTH) {
            let _ = fs::remove_dir_all(self.root.join(format!("{path}.p")));
        }
    }

    /// Makes checked files durable and moves them into place.
    fn show(&self, incoming: &Incoming, files: &[TilePath]) -> Result<(), MirrorError> {
        let mut folders = BTreeMap::new();
        for path in files {
            let (from, to) = (incoming.at(path), self.root.join(path.to_string()));
            File::open(&from).and_then(|file| file.sync_all()).map_err(at(&from))?;
            if let Some(parent) = to.parent() {
                durable::make_folder(parent, false).map_err(at(parent))?;
            }
            fs::rename(&from, &to).map_err(at(&to))?;
            for folder in to.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)) {
                folders.insert(folder.to_owned(), ());
            }
        }
        for folder in folders.keys() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        }
        Ok(())
    }

    /// The file at `path` of the copy as it is shown: `checkpoint`, `vkey`, `tile/…`; `None` if it has none there.
    ///
    /// # Errors
    /// [`MirrorError`] if the copy cannot be read.
    pub fn published(&self, path: &str) -> Result<Option<Published>, MirrorError> {
        let text = |bytes| Published { bytes, media_type: "text/plain; charset=utf-8", immutable: false };
        match path {
            "checkpoint" => Ok(self.checkpoint()?.map(|signed| text(signed.note))),
            "vkey" => Ok(Some(text(format!("{}\n", self.key.line()).into_bytes()))),
            "handovers" => {
                let bytes = fs::read(self.root.join("handovers")).unwrap_or_else(|_| b"[]\n".to_vec());
                Ok(Some(Published { bytes, media_type: "application/json", immutable: false }))
            }
            _ => {
                let Some(tile) = TilePath::parse(path) else { return Ok(None) };
                let size = self.checkpoint()?.map_or(0, |signed| signed.checkpoint.size);
                if !tile.within(size) {
                    return Ok(None);
                }
                let bytes = self.tile(&tile, size)?;
                Ok(Some(Published { bytes, media_type: "application/octet-stream", immutable: true }))
            }
        }
    }

    /// A tile as wide as asked for, cut from the one that the copy has.
    fn tile(&self, tile: &TilePath, size: u64) -> Result<Vec<u8>, MirrorError> {
        let damaged = || MirrorError::Damaged(format!("{tile} is missing or cut"));
        let kept = match tile.level {
            Some(level) => TilePath::hashes(level, tile.index, size),
            None => TilePath::entries(tile.index, size),
        };
        let bytes = Folder(self.root.clone()).tile(&kept.ok_or_else(damaged)?).map_err(|_| damaged())?;
        tile.cut(bytes).ok_or_else(damaged)
    }
}

/// What arrived and is not checked yet.
struct Incoming {
    root: PathBuf,
}

impl Incoming {
    fn at(&self, path: &TilePath) -> PathBuf {
        self.root.join(path.to_string())
    }

    /// An entry bundle: what arrived before, or from the log. What a crash cut short shows in the root, and is then got anew.
    fn bundle(&self, source: &dyn Source, path: &TilePath) -> Result<Vec<u8>, MirrorError> {
        let whole = |bytes: &[u8]| unbundle(bytes).is_some_and(|l| l.len() == usize::from(path.width));
        if let Some(bytes) = fs::read(self.at(path)).ok().filter(|bytes| whole(bytes)) {
            return Ok(bytes);
        }
        let bytes = source.tile(path)?;
        self.write(path, &bytes)?;
        Ok(bytes)
    }

    fn write(&self, path: &TilePath, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.at(path);
        if let Some(parent) = path.parent() {
            durable::make_folder(parent, false).map_err(at(parent))?;
        }
        fs::write(&path, bytes).map_err(at(&path))
    }

    /// Writes the tiles that are complete, and keeps the others in mind.
    fn tiles(
        &self,
        changes: Vec<ChangedTile>,
        partial: &mut BTreeMap<(u8, u64), Vec<u8>>,
        files: &mut Vec<TilePath>,
    ) -> Result<(), MirrorError> {
        for ChangedTile { level, index, bytes } in changes {
            if bytes.len() < TILE_WIDTH * size_of::<Hash>() {
                partial.insert((level, index), bytes);
                continue;
            }
            partial.remove(&(level, index));
            let path = TilePath { level: Some(level), index, width: TILE_WIDTH as u16 };
            self.write(&path, &bytes)?;
            files.push(path);
        }
        Ok(())
    }

    fn discard(&self) -> Result<(), MirrorError> {
        match fs::remove_dir_all(&self.root) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&self.root)(e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
