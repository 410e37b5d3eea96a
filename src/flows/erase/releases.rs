//! Every retained release that has the person is written anew without them.
//!
//! Package and list of members are made whole in `releases/.erasing-<id>`. Then `release.rewritten` is appended, which names the
//! manifest, and the leaf hashes by which the other members still give the root that the release's own entry commits to. Then
//! that entry is put into the package, and the folders are exchanged. The crash story is that of `datasets`. The entry's proof is
//! made once more after that, under the quorum of witnesses that has come by then.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use almoner_model::{Digest, ReleaseId};

use super::{EraseContext, Step, Unfinished, step};
use crate::events::{Event, ReleaseRewritten};
use crate::flows::access::{AccessError, entry};
use crate::flows::cosign::{receipt, receipt_soon};
use crate::flows::evidence::opened;
use crate::flows::participant::touches;
use crate::flows::question::DataError;
use crate::flows::release::{manifest_of, members, recover_one, sync_folders, write_handovers};
use crate::flows::{Act, durable};
use crate::release::ReleaseError;
use crate::release::package::write_file;
use crate::release::rewrite::without;
use crate::state::{read, records, topic};

/// Writes the releases anew.
pub(super) fn rewrite(ctx: &EraseContext<'_>, unfinished: &Unfinished) -> Result<(), DataError> {
    let access = &ctx.data.access;
    let all: Vec<records::Release> = read::all(&access.state(), "release").map_err(AccessError::from)?;
    for release in all {
        let concerned = match &unfinished.part {
            Some(part) => touches(access, &release, part)?,
            None => true,
        };
        if concerned {
            one(ctx, unfinished, &release)?;
        }
    }
    witnessed(ctx, unfinished)
}

/// Puts proofs under the newest quorum into the packages that this erasure wrote anew. That of the last entry is waited for a
/// little; under it are the others'.
fn witnessed(ctx: &EraseContext<'_>, unfinished: &Unfinished) -> Result<(), DataError> {
    let store = ctx.data.access.store;
    let all: Vec<records::ReleaseRewrites> =
        read::all(&ctx.data.access.state(), "release-rewritten").map_err(AccessError::from)?;
    let mut places = Vec::new();
    for rewrites in all {
        for (time, n) in rewrites.times.iter().zip(1..).filter(|(t, _)| t.body.erasure == unfinished.erasure)
        {
            places.push((time.origin.seq, name_of(n, "tlog-proof"), time.body.release.clone()));
        }
    }
    places.sort_by_key(|(seq, _, _)| std::cmp::Reverse(*seq));
    for (at, (seq, name, id)) in places.into_iter().enumerate() {
        let proof = if at == 0 { receipt_soon(store, seq) } else { receipt(store, seq) };
        let proof = proof.map_err(|e| DataError::failed(e.to_string()))?;
        let path = folders(ctx, &id).release.join("package/ledger").join(name);
        let mode = fs::metadata(&path).map_err(ReleaseError::from)?.permissions().mode();
        durable::write(&path, &proof, mode).map_err(ReleaseError::from)?;
    }
    Ok(())
}

/// The name of a file of the `n`th time that a release was written anew.
fn name_of(n: usize, kind: &str) -> String {
    format!("rewritten-{n}.{kind}")
}

/// Folders of one release.
struct Folders {
    release: PathBuf,
    new: PathBuf,
    old: PathBuf,
}

fn folders(ctx: &EraseContext<'_>, id: &ReleaseId) -> Folders {
    let at = |name: String| ctx.data.releases.join(name);
    Folders {
        release: at(id.to_string()),
        new: at(format!(".erasing-{id}")),
        old: at(format!(".erased-{id}")),
    }
}

fn manifest_in(folder: &Path) -> Option<Digest> {
    fs::read(folder.join("package/release.json")).ok().map(Digest::of)
}

fn one(ctx: &EraseContext<'_>, unfinished: &Unfinished, release: &records::Release) -> Result<(), DataError> {
    let (data, id) = (&ctx.data, &release.body.release);
    // Its entry stands in the ledger, so it is a release, whatever a crash left of it.
    recover_one(data, id)?;
    let folders = folders(ctx, id);
    let expected = read::release_manifest(&data.access.state(), release).map_err(AccessError::from)?;
    if manifest_in(&folders.release) != Some(expected) && manifest_in(&folders.new) == Some(expected) {
        return exchange(ctx, id, &folders);
    }
    remove(&folders.new)?;
    remove(&folders.old)?;
    let mut list = members(data, id)?;
    let (pseudonyms, hashes) = list.erase(&unfinished.ids)?;
    if pseudonyms.is_empty() {
        return Ok(());
    }
    let before = manifest_of(data, id)?;
    let package = folders.new.join("package");
    fs::create_dir_all(&package).map_err(ReleaseError::from)?;
    let (manifest, to) = without(&folders.release.join("package"), &package, &before, &pseudonyms)?;
    write_file(&folders.new.join("members.enc"), &list.seal(data.keys, data.access.entropy)?)?;
    sync_folders(&folders.new)?;
    let body = ReleaseRewritten {
        erasure: unfinished.erasure.clone(),
        release: id.clone(),
        from: expected,
        to,
        members: hashes,
        persons: manifest.persons,
        tables: manifest.rows(),
    };
    let name = format!("erasure {} round {} {id}", unfinished.erasure, unfinished.round);
    let act = Act::repeated(data.keys, unfinished.actor.clone(), name.as_bytes());
    let topics = vec![topic::releases(&release.body.recipient), topic::project(&release.body.project)];
    let new = entry(&Event::ReleaseRewritten(body), act.event_id(0), &act, None, topics)?;
    let _nobody_reads = data.catalog.exchange();
    step(ctx, Step::Release, || Ok(data.access.store.append(vec![new], &[]).map(drop)?))?;
    exchange(ctx, id, &folders)
}

/// Completes the new package and puts it in the place of the old one.
fn exchange(ctx: &EraseContext<'_>, id: &ReleaseId, folders: &Folders) -> Result<(), DataError> {
    step(ctx, Step::ReleaseExchange, || {
        let access = &ctx.data.access;
        let rewrites = read::release_rewrites(&access.state(), id).map_err(AccessError::from)?;
        let times = rewrites.unwrap_or_default().times;
        let seq = times.last().ok_or_else(|| DataError::failed("a release was not written anew"))?.origin.seq;
        let entry = access.store.entry(seq)?.ok_or_else(|| DataError::failed("an entry is missing"))?;
        let json = serde_json::to_vec_pretty(&opened(&entry)?).map_err(|_| ReleaseError::Tables)?;
        let proof = receipt(access.store, seq);
        let proof = proof.map_err(|e| DataError::failed(e.to_string()))?;
        let ledger = folders.new.join("package/ledger");
        write_file(&ledger.join(name_of(times.len(), "json")), &json)?;
        write_file(&ledger.join(name_of(times.len(), "tlog-proof")), &proof)?;
        write_handovers(access.store, &ledger)?;
        sync_folders(&folders.new)?;
        if folders.release.exists() {
            remove(&folders.old)?;
            fs::rename(&folders.release, &folders.old).map_err(ReleaseError::from)?;
        }
        fs::rename(&folders.new, &folders.release).map_err(ReleaseError::from)?;
        fs::File::open(ctx.data.releases).and_then(|f| f.sync_all()).map_err(ReleaseError::from)?;
        remove(&folders.old)
    })
}

fn remove(folder: &Path) -> Result<(), DataError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ReleaseError::from(e).into()),
        _ => Ok(()),
    }
}
