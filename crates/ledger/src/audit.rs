//! The audit of a published log: every leaf, hash tile, link of the chain and the signed root, computed again.
//!
//! What it shows: the log says one thing only, in one order, and its operator signed it. What it cannot show alone: that
//! the operator shows everyone the same log (compare checkpoints, or give an earlier one as `known`), and what is under a
//! commitment (an evidence pack opens that).

use std::collections::BTreeMap;

use almoner_model::{Digest, Timestamp};
use serde::Serialize;

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::leaf::{self, scan};
use crate::note::VerifierKey;
use crate::source::{Source, SourceError};
use crate::tile::{TilePath, unbundle};
use crate::tree::{Edge, Hash, TILE_WIDTH, leaf_hash, tile_hashes};

/// Findings kept; beyond them only their number is.
const FINDINGS_MAX: usize = 100;

/// Something in the log that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which file.
    pub path: String,
    /// Which entry, where it is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub problem: String,
    /// Whether the file could not be had, so that nothing is known of it.
    pub unread: bool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "entry {seq} ({}): {}", self.path, self.problem),
            None => write!(f, "{}: {}", self.path, self.problem),
        }
    }
}

/// The result of an audit.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Whether nothing was found.
    pub intact: bool,
    /// Which log.
    pub origin: String,
    /// Entries under the signed checkpoint.
    pub size: u64,
    /// Root of the signed checkpoint, in hexadecimal.
    pub root: Digest,
    /// Entries by `type`.
    pub kinds: BTreeMap<String, u64>,
    /// Time of the last entry.
    pub last_time: Option<Timestamp>,
    /// What is wrong, in the order of the log; the first hundred.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub findings_total: u64,
    /// How many of them are files that could not be had: of these nothing is known, neither good nor bad.
    pub unread: u64,
}

impl Audit {
    /// Whether something in the log is wrong; `false` also where all that was found is that files could not be had.
    pub const fn is_wrong(&self) -> bool {
        self.findings_total > self.unread
    }

    fn add(&mut self, finding: Finding) {
        self.findings_total += 1;
        self.unread += u64::from(finding.unread);
        self.intact = false;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn broken(&mut self, path: impl ToString, problem: impl ToString) {
        let (path, problem) = (path.to_string(), problem.to_string());
        self.add(Finding { path, seq: None, problem, unread: false });
    }

    fn not_had(&mut self, path: impl ToString, error: &SourceError) {
        let unread = is_unread(error);
        self.add(Finding { path: path.to_string(), seq: None, problem: error.to_string(), unread });
    }
}

const fn is_unread(error: &SourceError) -> bool {
    matches!(error, SourceError::Unreadable { .. })
}

/// Audits the whole log at `source` that `key` signs, on `threads` threads. `known` is an earlier checkpoint that the
/// auditor kept: the log must still begin with it.
pub fn audit(source: &dyn Source, key: &VerifierKey, known: Option<&Checkpoint>, threads: usize) -> Audit {
    let mut audit = Audit {
        intact: true,
        origin: key.name().to_owned(),
        size: 0,
        root: Digest(crate::tree::EMPTY_ROOT),
        kinds: BTreeMap::new(),
        last_time: None,
        findings: Vec::new(),
        findings_total: 0,
        unread: 0,
    };
    let note = match source.read("checkpoint") {
        Ok(note) => note,
        Err(error) => {
            audit.not_had("checkpoint", &error);
            return audit;
        }
    };
    match Checkpoint::open(&note, key) {
        Ok(SignedCheckpoint { checkpoint, .. }) => {
            (audit.size, audit.root) = (checkpoint.size, Digest(checkpoint.root));
            walk(source, &checkpoint, known, threads.max(1), &mut audit);
        }
        Err(error) => audit.broken("checkpoint", error),
    }
    audit
}

/// What one thread found in its run of bundles.
#[derive(Default)]
struct Run {
    hashes: Vec<Hash>,
    /// `prev` of the first leaf of the run, to be held against the run before.
    first_prev: Option<Hash>,
    first_time: Option<i64>,
    last_time: i64,
    kinds: BTreeMap<Vec<u8>, u64>,
    findings: Vec<Finding>,
    findings_total: u64,
    unread: u64,
}

impl Run {
    fn add(&mut self, path: &TilePath, seq: Option<u64>, problem: impl ToString) {
        self.push(path, seq, problem.to_string(), false);
    }

    fn not_had(&mut self, path: &TilePath, error: &SourceError) {
        self.push(path, None, error.to_string(), is_unread(error));
    }

    fn push(&mut self, path: &TilePath, seq: Option<u64>, problem: String, unread: bool) {
        self.findings_total += 1;
        self.unread += u64::from(unread);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { path: path.to_string(), seq, problem, unread });
        }
    }
}

fn walk(
    source: &dyn Source,
    checkpoint: &Checkpoint,
    known: Option<&Checkpoint>,
    threads: usize,
    audit: &mut Audit,
) {
    let bundles = checkpoint.size.div_ceil(TILE_WIDTH as u64);
    let share = bundles.div_ceil(threads as u64).max(1);
    let size = checkpoint.size;
    let runs: Vec<Run> = std::thread::scope(|scope| {
        let spans = (0..bundles).step_by(share as usize).map(|from| from..(from + share).min(bundles));
        let handles: Vec<_> = spans.map(|span| scope.spawn(move || read_run(source, span, size))).collect();
        handles.into_iter().map(|h| h.join().expect("a run does not panic")).collect()
    });
    let mut edge = Edge::new();
    let (mut last, mut time) = (leaf::NO_PREV, 0);
    let mut complete = true;
    let mut known_root = known.filter(|k| k.size == 0).map(|_| crate::tree::EMPTY_ROOT);
    for mut run in runs {
        let start = edge.size();
        // Behind a file that could not be had, what stood before is not known, and nothing is said about the link to it.
        audit.unread += run.unread;
        let linked = audit.unread == 0;
        if linked && run.first_prev.is_some_and(|prev| prev != last) {
            run.add(
                &bundle_of(start, size),
                Some(start),
                "its `prev` is not the hash of the entry before it",
            );
        }
        if linked && run.first_time.is_some_and(|t| t < time) {
            run.add(&bundle_of(start, size), Some(start), "its time is before that of the entry before it");
        }
        complete &= run.findings_total == 0;
        audit.findings_total += run.findings_total;
        audit.findings.extend(run.findings);
        for (kind, count) in run.kinds {
            *audit.kinds.entry(String::from_utf8_lossy(&kind).into_owned()).or_default() += count;
        }
        for hash in &run.hashes {
            edge.push(*hash);
            if known.is_some_and(|k| k.size == edge.size()) {
                known_root = Some(edge.root());
            }
        }
        (last, time) = (run.hashes.last().copied().unwrap_or(last), run.last_time);
    }
    audit.findings.truncate(FINDINGS_MAX);
    audit.intact &= audit.findings_total == 0;
    audit.last_time = (size > 0).then(|| Timestamp::from_millis(time));
    if complete && edge.root() != checkpoint.root {
        audit.broken("checkpoint", "the signed root is not the root of the entries");
    }
    check_upper_tiles(source, &mut edge, audit);
    let unseen = known_root.is_none() && audit.unread > 0;
    if let Some(known) = known.filter(|k| !unseen && known_root != Some(k.root)) {
        let problem =
            format!("the log does not begin with the checkpoint of size {} that was known", known.size);
        audit.broken("checkpoint", problem);
    }
}

fn bundle_of(seq: u64, size: u64) -> TilePath {
    let index = seq / TILE_WIDTH as u64;
    TilePath::entries(index, size).unwrap_or(TilePath { level: None, index, width: TILE_WIDTH as u16 })
}

/// The bundles `span` and the leaf-hash tiles beside them.
fn read_run(source: &dyn Source, span: std::ops::Range<u64>, size: u64) -> Run {
    let mut run = Run::default();
    let mut prev: Option<Hash> = None;
    for index in span {
        let (Some(bundle), Some(tile)) = (TilePath::entries(index, size), TilePath::hashes(0, index, size))
        else {
            continue;
        };
        let stored = read_hashes(source, &tile, &mut run);
        let bytes = source.tile(&bundle);
        let leaves =
            bytes.as_ref().ok().and_then(|b| unbundle(b)).filter(|l| l.len() == usize::from(bundle.width));
        let Some(leaves) = leaves else {
            match &bytes {
                Err(error) => run.not_had(&bundle, error),
                Ok(_) => {
                    run.add(&bundle, None, "does not hold the number of whole entries that its name says")
                }
            }
            // Go on behind the gap, with what the tile says was there.
            prev = stored.last().copied();
            run.hashes.extend(stored);
            continue;
        };
        for (at, bytes) in leaves.into_iter().enumerate() {
            let hash = leaf_hash(bytes);
            let seq = index * TILE_WIDTH as u64 + at as u64;
            if stored.get(at).is_some_and(|s| *s != hash) {
                run.add(&bundle, Some(seq), format!("its hash is not the one in {tile}"));
            }
            check_leaf(&mut run, &bundle, seq, bytes, prev);
            prev = Some(hash);
            run.hashes.push(hash);
        }
    }
    run
}

/// The hashes of a tile of level 0; none where it cannot be read, or is of a length that no tile has.
fn read_hashes(source: &dyn Source, tile: &TilePath, run: &mut Run) -> Vec<Hash> {
    let bytes = match source.tile(tile) {
        Ok(bytes) => bytes,
        Err(error) => {
            run.not_had(tile, &error);
            return Vec::new();
        }
    };
    if bytes.len() != usize::from(tile.width) * size_of::<Hash>() {
        run.add(tile, None, "does not hold the number of whole hashes that its name says");
    }
    tile_hashes(&bytes).unwrap_or_default()
}

fn check_leaf(run: &mut Run, bundle: &TilePath, seq: u64, bytes: &[u8], prev: Option<Hash>) {
    let leaf = match scan::scan(bytes) {
        Ok(leaf) => leaf,
        Err(error) => return run.add(bundle, Some(seq), error),
    };
    if leaf.seq != seq {
        run.add(bundle, Some(seq), format!("it says that it is entry {}", leaf.seq));
    }
    let mut said = [0; 32];
    hex::decode_to_slice(leaf.prev, &mut said).expect("64 digits were recognised");
    match prev {
        Some(prev) if prev != said => {
            run.add(bundle, Some(seq), "its `prev` is not the hash of the entry before it")
        }
        Some(_) => {}
        None if run.first_time.is_none() => run.first_prev = Some(said),
        None => {}
    }
    if leaf.time_millis < run.last_time {
        run.add(bundle, Some(seq), "its time is before that of the entry before it");
    }
    run.first_time.get_or_insert(leaf.time_millis);
    run.last_time = leaf.time_millis;
    match run.kinds.get_mut(leaf.kind) {
        Some(count) => *count += 1,
        None => drop(run.kinds.insert(leaf.kind.to_vec(), 1)),
    }
}

/// The tiles above the leaf hashes, against those computed.
fn check_upper_tiles(source: &dyn Source, edge: &mut Edge, audit: &mut Audit) {
    let size = audit.size;
    if edge.size() != size {
        return;
    }
    for computed in edge.take_changes().into_iter().filter(|t| t.level > 0) {
        let Some(path) = TilePath::hashes(computed.level, computed.index, size) else { continue };
        match source.tile(&path) {
            Ok(bytes) if bytes == computed.bytes => {}
            Ok(_) => audit.broken(path, "does not hold the roots of the tiles below it"),
            Err(error) => audit.not_had(path, &error),
        }
    }
}

/// The proof hashes and root that a light client needs are in the tiles; this is how it reads them.
#[derive(Clone, Copy)]
pub struct SourceTiles<'a> {
    /// The published log.
    pub source: &'a dyn Source,
    /// The size of the tree asked about.
    pub size: u64,
}

impl crate::proof::Tiles for SourceTiles<'_> {
    type Error = crate::source::SourceError;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, Self::Error> {
        let path = TilePath::hashes(level, index, self.size).unwrap_or(TilePath {
            level: Some(level),
            index,
            width,
        });
        self.source.tile(&path)
    }
}
