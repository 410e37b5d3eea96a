//! Release packages, offline: whether a folder is what its manifest says, and the manifest what the log says.
//!
//! A package holds `release.json` (the manifest: format `almoner-release/1`, every other file with its SHA-256),
//! `SHA256SUMS`, the files themselves, and in `ledger/` the release's entry and its proof:
//!
//! ```text
//! ledger/entry.json         {"leaf": text, "opening": hex, "payload": object}
//! ledger/entry.tlog-proof   inclusion proof with a signed checkpoint (C2SP tlog-proof, [`crate::receipt`])
//! ledger/rewritten-1.json … beside ledger/rewritten-1.tlog-proof, …: where people were erased since
//! ```
//!
//! Each time that a person was erased, the package was written anew without them, and an entry `release.rewritten` of the log
//! names the manifest that it had and the one that it has then. So the manifest of the release's own entry leads, over these
//! entries one after the other, to `release.json`.
//!
//! `leaf` is the exact text of the leaf; `opening` opens its payload commitment ([`crate::commitment`]); the payload names
//! the manifest by its SHA-256 and commits to the people in `members_root` ([`crate::members`]).
//!
//! What it does not do: read tables (no Parquet here; the digest stands for the bytes) or say anything about what
//! happened after a download.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use almoner_model::{DatasetId, Digest, ProjectId, RecipientId, ReleaseId, RequestId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::commitment::{canonical_value, commit};
use crate::handover;
use crate::leaf::Leaf;
use crate::note::VerifierKey;
use crate::receipt::Receipt;

/// The format of manifests that are understood.
pub const FORMAT: &str = "almoner-release/1";

/// A ledger entry with what opens its payload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedEntry {
    /// The exact text of the leaf.
    pub leaf: String,
    /// The key that opens the payload's commitment.
    pub opening: Digest,
    /// The payload.
    pub payload: Value,
}

impl OpenedEntry {
    /// The leaf, if it is one and commits to the payload.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn open(&self) -> Result<Leaf, &'static str> {
        let leaf = Leaf::parse(self.leaf.as_bytes()).map_err(|_| "the entry is not a leaf of the log")?;
        let payload = canonical_value(&self.payload).map_err(|_| "the payload has no canonical form")?;
        if Digest(commit(self.opening.as_bytes(), &payload)) == leaf.payload {
            Ok(leaf)
        } else {
            Err("the payload is not the one that the entry commits to")
        }
    }
}

/// What the payload of a `release.built` entry says, as far as it is checked.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ReleaseBuilt {
    /// The release.
    pub release: ReleaseId,
    /// Its request.
    pub request: RequestId,
    /// Its project.
    pub project: ProjectId,
    /// Who receives.
    pub recipient: RecipientId,
    /// The dataset versions that it was drawn from.
    pub datasets: BTreeMap<DatasetId, u32>,
    /// SHA-256 of `release.json`.
    pub manifest: Digest,
    /// Root over the members.
    pub members_root: Digest,
    /// People.
    pub persons: u64,
    /// Ledger size of the decision.
    pub as_of: Seq,
}

/// What the payload of a `release.rewritten` entry says, as far as it is checked.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ReleaseRewritten {
    /// The release.
    pub release: ReleaseId,
    /// SHA-256 of the `release.json` that it had.
    pub from: Digest,
    /// SHA-256 of the one that it has then.
    pub to: Digest,
    /// Leaf hashes of the members who were erased.
    pub members: Vec<Digest>,
    /// People who are left.
    pub persons: u64,
}

#[derive(Deserialize)]
struct Manifest {
    format: String,
    release: ReleaseId,
    request: RequestId,
    project: ProjectId,
    recipient: RecipientId,
    members_root: Digest,
    persons: u64,
    ledger: LedgerRef,
    files: Vec<FileEntry>,
}

#[derive(Deserialize)]
struct LedgerRef {
    origin: String,
    as_of: Seq,
}

#[derive(Deserialize)]
struct FileEntry {
    path: String,
    sha256: Digest,
    bytes: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PackageReport {
    /// Whether everything agrees.
    pub intact: bool,
    /// The release, where the manifest could be read.
    pub release: Option<ReleaseId>,
    /// Files that agree with the manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The entry's position in the log.
    pub seq: Option<Seq>,
    /// People who were in it and were erased since, by entries of the log.
    pub persons_erased: u64,
    /// Size of the log that the proof leads to; none if no key was given.
    pub log_size: Option<u64>,
    /// The signed checkpoints that the proofs of its entries lead to: a policy is to accept all of them.
    #[serde(skip)]
    pub checkpoints: Vec<Vec<u8>>,
    /// What is wrong, each a sentence with the file's name.
    pub findings: Vec<String>,
}

/// Checks a package: its files against the manifest and `SHA256SUMS`, and, with `key`, the manifest against the log.
pub fn verify_package(dir: &Path, key: Option<&VerifierKey>) -> PackageReport {
    let mut report = PackageReport::default();
    if let Err(finding) = check(dir, key, &mut report) {
        report.findings.push(finding);
    }
    report.intact = report.findings.is_empty();
    report
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    fs::read(dir.join(name)).map_err(|e| format!("{name} cannot be read: {}", e.kind()))
}

fn check(dir: &Path, key: Option<&VerifierKey>, report: &mut PackageReport) -> Result<(), String> {
    let bytes = read(dir, "release.json")?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|_| "release.json is not a release manifest".to_owned())?;
    if manifest.format != FORMAT {
        return Err(format!("release.json: this program understands the format {FORMAT} only"));
    }
    report.release = Some(manifest.release.clone());
    check_files(dir, &manifest, report);
    check_sums(dir, &manifest, Digest::of(&bytes), report)?;
    check_strangers(dir, &manifest, report);
    let handovers = fs::read(dir.join("ledger/handovers")).unwrap_or_default();
    let handovers = handover::read(&handovers).map_err(|e| format!("ledger/handovers: {e}"))?;
    let key = key.map(|key| handover::or_alone(key, &handovers));
    check_entry(dir, &manifest, Digest::of(&bytes), key.as_ref(), report)
}

fn check_files(dir: &Path, manifest: &Manifest, report: &mut PackageReport) {
    for file in &manifest.files {
        let path = &file.path;
        if !is_inside(Path::new(path)) {
            report.findings.push("release.json names a file outside the package".to_owned());
            continue;
        }
        match digest_file(&dir.join(path)) {
            Ok(found) if found == (file.sha256, file.bytes) => {
                report.files += 1;
                report.bytes += file.bytes;
            }
            Ok(_) => report.findings.push(format!("{path} is not the file that release.json describes")),
            Err(e) => report.findings.push(format!("{path} cannot be read: {}", e.kind())),
        }
    }
}

/// Whether a relative path stays below its folder.
fn is_inside(path: &Path) -> bool {
    path.components().all(|c| matches!(c, Component::Normal(_))) && path.components().next().is_some()
}

fn digest_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((Digest(hash.finalize().into()), bytes)),
            n => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

fn check_sums(
    dir: &Path,
    manifest: &Manifest,
    own: Digest,
    report: &mut PackageReport,
) -> Result<(), String> {
    let text =
        String::from_utf8(read(dir, "SHA256SUMS")?).map_err(|_| "SHA256SUMS is not text".to_owned())?;
    let mut expected: BTreeMap<&str, Digest> =
        manifest.files.iter().map(|f| (f.path.as_str(), f.sha256)).collect();
    expected.insert("release.json", own);
    for line in text.lines() {
        let entry = line.split_once("  ").and_then(|(sum, path)| Some((sum.parse::<Digest>().ok()?, path)));
        match entry {
            Some((sum, path)) if expected.remove(path) == Some(sum) => {}
            _ => report.findings.push("SHA256SUMS has a line that release.json does not bear out".to_owned()),
        }
    }
    report.findings.extend(expected.keys().map(|path| format!("SHA256SUMS does not list {path}")));
    Ok(())
}

fn check_strangers(dir: &Path, manifest: &Manifest, report: &mut PackageReport) {
    let mut known: BTreeSet<PathBuf> = manifest.files.iter().map(|f| PathBuf::from(&f.path)).collect();
    known.extend(
        [
            "release.json",
            "SHA256SUMS",
            "ledger/entry.json",
            "ledger/entry.tlog-proof",
            "ledger/vkey",
            "ledger/handovers",
        ]
        .map(PathBuf::from),
    );
    for n in 1..=rewrites(dir) {
        known
            .extend(["json", "tlog-proof"].map(|kind| PathBuf::from(format!("ledger/rewritten-{n}.{kind}"))));
    }
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(dir.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(path);
            } else if !known.contains(&path) {
                report.findings.push(format!("{} is in no list of the package", path.display()));
            }
        }
    }
}

/// How often the package was written anew.
fn rewrites(dir: &Path) -> u64 {
    (1..).take_while(|n| dir.join(format!("ledger/rewritten-{n}.json")).exists()).last().unwrap_or(0)
}

/// Reads an entry of `kind` that the package holds as `ledger/<name>.json`, with its proof.
fn proven(
    dir: &Path,
    (name, kind): (&str, &str),
    manifest: &Manifest,
    key: Option<&VerifierKey>,
    report: &mut PackageReport,
) -> Result<(Leaf, Value), String> {
    let file = format!("ledger/{name}.json");
    let entry: OpenedEntry =
        serde_json::from_slice(&read(dir, &file)?).map_err(|_| format!("{file} is not an opened entry"))?;
    let leaf = entry.open().map_err(|e| format!("{file}: {e}"))?;
    if leaf.kind != kind {
        return Err(format!("{file} is not an entry {kind}"));
    }
    let proof = format!("ledger/{name}.tlog-proof");
    let receipt = Receipt::parse(&read(dir, &proof)?).map_err(|e| format!("{proof}: {e}"))?;
    if receipt.index != leaf.seq {
        report.findings.push(format!("{proof} is of another entry"));
    }
    report.checkpoints.push(receipt.checkpoint.clone());
    if let Some(key) = key {
        let signed = receipt.check(entry.leaf.as_bytes(), key).map_err(|e| format!("{proof}: {e}"))?;
        if signed.checkpoint.origin != manifest.ledger.origin {
            report.findings.push("release.json names another log".to_owned());
        }
        report.log_size = report.log_size.max(Some(signed.checkpoint.size));
    }
    Ok((leaf, entry.payload))
}

fn check_entry(
    dir: &Path,
    manifest: &Manifest,
    own: Digest,
    key: Option<&VerifierKey>,
    report: &mut PackageReport,
) -> Result<(), String> {
    let (leaf, payload) = proven(dir, ("entry", "release.built"), manifest, key, report)?;
    report.seq = Some(leaf.seq);
    let built: ReleaseBuilt = serde_json::from_value(payload)
        .map_err(|_| "ledger/entry.json: the payload is not that of a release".to_owned())?;
    let (mut named, mut persons, mut last) = (built.manifest, built.persons, leaf.seq);
    for n in 1..=rewrites(dir) {
        let name = format!("rewritten-{n}");
        let (leaf, payload) = proven(dir, (&name, "release.rewritten"), manifest, key, report)?;
        let rewritten: ReleaseRewritten = serde_json::from_value(payload)
            .map_err(|_| format!("ledger/{name}.json: the payload is not that of an erasure"))?;
        let follows = rewritten.release == built.release && rewritten.from == named && leaf.seq > last;
        let left = persons.checked_sub(rewritten.members.len() as u64);
        if !follows || left != Some(rewritten.persons) {
            return Err(format!("ledger/{name}.json does not follow what came before it"));
        }
        (named, persons, last) = (rewritten.to, rewritten.persons, leaf.seq);
    }
    report.persons_erased = built.persons - persons;
    if named != own {
        report.findings.push("release.json is not the manifest that the ledger entry names".to_owned());
    }
    let same = (&built.release, &built.request, &built.project, &built.recipient, built.members_root)
        == (
            &manifest.release,
            &manifest.request,
            &manifest.project,
            &manifest.recipient,
            manifest.members_root,
        )
        && (persons, built.as_of) == (manifest.persons, manifest.ledger.as_of);
    if !same {
        report.findings.push("release.json and the ledger entry say different things".to_owned());
    }
    Ok(())
}
