//! `verify`: the operator's own check of everything that is kept: ledger and state, every dataset version, every release
//! package, every document. Reads only; what the outside can check by itself is in `almoner-verify`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use almoner_ledger::VerifierKey;
use almoner_ledger::package::verify_package;
use almoner_model::{DatasetId, Digest, ReleaseId};
use serde::Serialize;

use super::access::Stored;
use super::erase;
use super::release::package_folder;
use crate::blob::Blobs;
use crate::catalog::{Catalog, CatalogError};
use crate::state::read;
use crate::state::records::{Contract, Erasure, LegalBasis, Request};
use crate::store::sqlite::audit::{StoreAudit, audit_file};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Payload, Store, StoreError};

/// What one dataset version or release is found to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Checked {
    /// `dataset NAME v3` or `release NAME`.
    pub name: String,
    /// Files that were checked, where it is intact.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong; the first bad file is named.
    pub problem: Option<String>,
}

/// What was checked and found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verification {
    /// Whether nothing was found.
    pub intact: bool,
    /// The ledger and the state folded from it.
    pub ledger: StoreAudit,
    /// Dataset versions.
    pub datasets: Vec<Checked>,
    /// Releases.
    pub releases: Vec<Checked>,
    /// Documents: cohort definitions, contracts, legal bases, terms.
    pub documents: Vec<Checked>,
}

/// Checks the ledger, and if it is whole and `all`, the files it speaks of.
///
/// # Errors
/// [`StoreError::Unavailable`] if the ledger or a folder cannot be opened.
pub fn verify(
    options: Options,
    datasets: &Path,
    releases: &Path,
    documents: &Path,
    all: bool,
) -> Result<Verification, StoreError> {
    let ledger = audit_file(&options.path, &options.keys, &options.wrapping_key, &options.projector)?;
    let mut done = Verification {
        intact: ledger.intact,
        ledger,
        datasets: Vec::new(),
        releases: Vec::new(),
        documents: Vec::new(),
    };
    if done.intact {
        let store: Arc<dyn Store> = match SqliteStore::open_read_only(options) {
            Ok(store) => Arc::new(store),
            Err(error @ StoreError::RolledBack(_)) => {
                done.intact = false;
                done.ledger.reject("checkpoint", "published", error);
                return Ok(done);
            }
            Err(error) => return Err(error),
        };
        if !all {
            return Ok(done);
        }
        let blobs = Blobs::local(datasets).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        let catalog = Catalog::new(blobs, Arc::clone(&store));
        done.datasets = check_datasets(&catalog).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        done.releases = check_releases(&*store, releases, &store.verifier()?)?;
        done.documents.push(check_documents(&*store, documents)?);
        done.documents.push(check_erasures(&*store, done.ledger.erased)?);
        let sound = done.files().all(|c| c.problem.is_none());
        done.intact = sound;
    }
    Ok(done)
}

impl Verification {
    /// Everything that consists of files.
    pub fn files(&self) -> impl Iterator<Item = &Checked> {
        self.datasets.iter().chain(&self.releases).chain(&self.documents)
    }
}

/// Every document that the ledger names is there, and every document that is there has the digest that it is kept by.
fn check_documents(store: &dyn Store, folder: &Path) -> Result<Checked, StoreError> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Unavailable(e.to_string());
    let (blobs, state) = (Blobs::local(folder).map_err(|e| failed(&e))?, Stored(store));
    let mut named: BTreeSet<Digest> = BTreeSet::new();
    for contract in read::all::<Contract>(&state, "contract").map_err(|e| failed(&e))? {
        named.insert(contract.body.policy);
    }
    for basis in read::all::<LegalBasis>(&state, "legal-basis").map_err(|e| failed(&e))? {
        named.insert(basis.body.document);
    }
    for request in read::all::<Request>(&state, "request").map_err(|e| failed(&e))? {
        named.insert(request.submitted.body.cohort);
        named.extend(request.terms.map(|terms| terms.body.document));
    }
    let kept = blobs.list("").map_err(|e| failed(&e))?;
    named.extend(kept.iter().filter_map(|name| name.rsplit('/').next()?.parse::<Digest>().ok()));
    let mut checked = Checked { name: "documents".into(), files: 0, bytes: 0, problem: None };
    for digest in named {
        match blobs.document(&digest) {
            Ok(bytes) => {
                checked.files += 1;
                checked.bytes += bytes.len() as u64;
            }
            Err(error) => {
                checked.problem.get_or_insert(error.to_string());
            }
        }
    }
    Ok(checked)
}

/// Every payload that is gone is named by an erasure, which is the one that it says; and no erasure is unfinished.
fn check_erasures(store: &dyn Store, gone: u64) -> Result<Checked, StoreError> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Unavailable(e.to_string());
    let mut checked = Checked { name: "erasures".into(), files: 0, bytes: 0, problem: None };
    let mut named = 0;
    for erasure in read::all::<Erasure>(&Stored(store), "erasure").map_err(|e| failed(&e))? {
        for seq in &erasure.body.entries {
            named += 1;
            let payload = store.entry(*seq)?.map(|entry| entry.payload);
            if !matches!(payload, Some(Payload::Erased(Some(by))) if by == erasure.origin.seq) {
                checked.problem.get_or_insert(format!("entry {seq} was to be erased and is not"));
            }
        }
    }
    if named != gone {
        checked.problem.get_or_insert(format!("{gone} payloads are gone, and erasures name {named}"));
    }
    match erase::open(store)? {
        0 => {}
        n => {
            let text = format!(
                "{n} erasures are not finished: a server goes on with them; start it where none runs"
            );
            checked.problem.get_or_insert(text);
        }
    }
    Ok(checked)
}

fn check_datasets(catalog: &Catalog) -> Result<Vec<Checked>, CatalogError> {
    let mut done = Vec::new();
    for record in catalog.records()? {
        for published in &record.versions {
            done.push(check_version(catalog, &record.dataset, published.body.version));
        }
    }
    Ok(done)
}

fn check_version(catalog: &Catalog, dataset: &DatasetId, version: u32) -> Checked {
    let opened = catalog.version(dataset, version);
    let verified = opened.and_then(|v| v.verify().map_err(CatalogError::from));
    let mut checked =
        Checked { name: format!("dataset {dataset} v{version}"), files: 0, bytes: 0, problem: None };
    match verified {
        Ok(verified) => (checked.files, checked.bytes) = (verified.files, verified.bytes),
        Err(error) => checked.problem = Some(error.to_string()),
    }
    checked
}

fn check_releases(store: &dyn Store, folder: &Path, vkey: &VerifierKey) -> Result<Vec<Checked>, StoreError> {
    let (mut done, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.scan("release", "", after.as_deref(), 500)?;
        let Some((last, _)) = page.last() else { return Ok(done) };
        after = Some(last.clone());
        for (key, _) in page {
            let id: ReleaseId =
                key.parse().map_err(|_| StoreError::NotIntact("a release has no id".into()))?;
            let report = verify_package(&package_folder(folder, &id), Some(vkey));
            let problem = (!report.intact).then(|| report.findings.first().cloned().unwrap_or_default());
            done.push(Checked {
                name: format!("release {id}"),
                files: report.files,
                bytes: report.bytes,
                problem,
            });
        }
    }
}
