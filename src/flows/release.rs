//! Releases: from an approved request to a package that its recipient can open and anyone entitled can verify.
//!
//! The crash story. A release is built in `releases/.building-<id>/`: tables, dictionary, manifest, sums, and beside the
//! package the encrypted list of members, all synced. Then `release.built` is appended, which names the manifest. Then the
//! entry and its proof are put into the package and the folder is renamed to `releases/<id>/`. If we crash
//! - before the append: the log knows nothing, and [`recover`] removes the folder;
//! - between the append and the rename: the log names the manifest that lies in the folder, so [`recover`] adds entry and
//!   proof, writes the participants' index and renames the folder;
//! - after the rename: nothing is missing.
//!
//! The append takes as precondition that nobody said anything since the members who did were decided again; if that changes
//! what a member permits, everything is decided again. A refusal by the gate is logged with what was measured before it is told.

mod earlier;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_deid::{Declares, Profile};
use almoner_model::{Code, DatasetId, Digest, ReleaseId, RequestId, Seq, SubjectId};
use serde::Serialize;
use serde_json::json;

use super::Act;
use super::access::{AccessError, entry};
use super::decide::permit;
use super::evidence::opened;
use super::meanwhile::{append_if, decided};
use super::permitted::{PermittedSubjects, permitted_subjects};
use super::question::{self, DataContext, DataError, Question};
use crate::cohort::execute;
use crate::events::{Event, ReleaseBuilt, ReleaseRefused};
use crate::keys::Keyring;
use crate::policy::Permit;
use crate::release::ReleaseError;
use crate::release::build::{Built, Order};
use crate::release::dictionary::{Told, dictionary};
use crate::release::manifest::{DatasetEntry, FORMAT, FileEntry, LedgerRef, Manifest, RiskEntry};
use crate::release::members::Members;
use crate::release::package::write_file;
use crate::release::rekey::Rekey;
use crate::risk::{GateRules, ToldCost, ToldReport, told_left_out};
use crate::state::records::{self, subject_key};
use crate::state::{read, topic};
use crate::store::{Precondition, Store, Write};

/// Kind of the primary records that tell a person in which releases they are.
pub const MEMBER_KIND: &str = "release-member";

const NOTICE: &str = "De-identified by the profile named here on the legal basis named here. It may remain pseudonymised \
    personal data under other laws, such as the GDPR. Do not attempt to identify anyone in it. What the ledger proves is \
    what was delivered and declared, not what happened after a download.";

/// A release that was built.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReleaseSummary {
    /// Its id.
    pub release: ReleaseId,
    /// Its entry.
    pub seq: Seq,
    /// People.
    pub persons: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    /// Required and reached class size.
    pub k: [u32; 2],
}

/// The folder of a finished package.
pub fn package_folder(releases: &Path, release: &ReleaseId) -> PathBuf {
    releases.join(release.as_str()).join("package")
}

/// Builds a release of `request`. The same act again gives the same release.
///
/// # Errors
/// Refusals of policy ([`AccessError::Refused`]), of consent ([`DataError::Nobody`]), of the gate
/// ([`ReleaseError::Refused`], logged); and as the variants say.
pub fn release(ctx: &DataContext<'_>, act: &Act, request: &RequestId) -> Result<ReleaseSummary, DataError> {
    let _still = ctx.catalog.still();
    let id = release_id(act)?;
    if let Some(done) = read::release(&ctx.access.state(), &id)? {
        recover_one(ctx, &id)?;
        return Ok(summary(&done));
    }
    decided(|| attempt(ctx, act, request, &id))
}

/// Whether a request could be released now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    /// Whether nothing stands against it but, perhaps, the gate, which measures the people themselves.
    pub permitted: bool,
    /// What stands against it, each a sentence.
    pub reasons: Vec<String>,
}

/// Whether `request` could be released now, with everything that stands against it. The decision is logged, as each is.
///
/// # Errors
/// [`DataError`] where it cannot be said: an unknown request, a cohort that the data cannot answer, or a fault.
pub fn explain(ctx: &DataContext<'_>, act: &Act, request: &RequestId) -> Result<Explanation, DataError> {
    let no = |reasons| Ok(Explanation { permitted: false, reasons });
    match Case::new(ctx, act, request).and_then(|case| case.profile(ctx)) {
        Ok(_) => Ok(Explanation { permitted: true, reasons: Vec::new() }),
        Err(DataError::Access(AccessError::Refused(refusal))) => no(refusal.reasons),
        Err(DataError::Nobody { reasons }) => no(reasons),
        Err(
            other @ (DataError::Weaker { .. } | DataError::Timelines { .. } | DataError::OtherDates { .. }),
        ) => no(vec![other.to_string()]),
        Err(other) => Err(other),
    }
}

/// What a finished release says about itself.
///
/// # Errors
/// If its package cannot be read.
pub fn manifest_of(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<Manifest, DataError> {
    let bytes = fs::read(package_folder(ctx.releases, release).join("release.json"));
    let bytes = bytes.map_err(ReleaseError::from)?;
    Ok(serde_json::from_slice(&bytes).map_err(|_| ReleaseError::Tables)?)
}

fn release_id(act: &Act) -> Result<ReleaseId, DataError> {
    let digest = Digest::of(act.event_id(0)).to_string();
    format!("rel-{}", &digest[..16]).parse().map_err(|_| DataError::failed("a release id is not a slug"))
}

fn summary(done: &records::Release) -> ReleaseSummary {
    let body = &done.body;
    ReleaseSummary {
        release: body.release.clone(),
        seq: done.origin.seq,
        persons: body.persons,
        tables: body.tables.clone(),
        manifest: body.manifest,
        k: body.k,
    }
}

/// What a release is made from.
struct Case {
    /// Ledger size at which the datasets were looked up.
    looked: Seq,
    permit: Permit,
    question: Question,
    permitted: PermittedSubjects,
    project_ordinal: u64,
}

impl Case {
    fn new(ctx: &DataContext<'_>, act: &Act, request: &RequestId) -> Result<Self, DataError> {
        let state = ctx.access.state();
        let record = read::request(&state, request)?.ok_or(AccessError::Unknown("request"))?;
        let body = &record.submitted.body;
        let definition = ctx.access.documents.get(&body.cohort).map_err(DataError::failed)?;
        let definition =
            definition.ok_or_else(|| DataError::failed("the cohort definition is not in the store"))?;
        // What is released is read again from the disk, whatever was known of it.
        ctx.catalog.forget_checks();
        let looked = ctx.access.store.size();
        let question = Question::new(ctx, &definition, &body.datasets)?;
        question.one_timeline()?;
        let tables: BTreeSet<&str> = body.tables.iter().map(String::as_str).collect();
        for version in &question.versions {
            ctx.catalog.check(version, &tables)?;
        }
        let permit = permit(&ctx.access, act, request, question.categories()?)?;
        let as_of = permit.entry() + 1;
        let permitted =
            permitted_subjects(&ctx.access, permit.wanted(), &permit.grant().datasets, Some(as_of))?;
        if permitted.is_empty() {
            return Err(DataError::Nobody { reasons: permitted.explanation() });
        }
        let mut projects: Vec<records::Project> = read::all(&state, "project")?;
        projects.sort_by_key(|p| p.origin.seq);
        let project_ordinal =
            projects.iter().take_while(|p| p.body.project != permit.wanted().project).count() as u64;
        Ok(Self { looked, permit, question, permitted, project_ordinal })
    }

    /// The profile of the release, if it is at least as strict as each dataset's and gives dates as earlier ones did.
    fn profile(&self, ctx: &DataContext<'_>) -> Result<Profile, DataError> {
        let profile = named(ctx, &self.permit.grant().profile)?;
        for (dataset, own) in self.profiles_at_ingest(ctx)? {
            if !profile.at_least_as_strict_as(&own) {
                return Err(DataError::Weaker { profile: profile.name().to_owned(), dataset });
            }
        }
        earlier::one_kind_of_dates(ctx, self, profile.declares().after(self.declared()?))?;
        Ok(profile)
    }

    /// What the versions declare, taken together.
    fn declared(&self) -> Result<Declares, DataError> {
        self.question.declared().ok_or_else(|| DataError::failed("a request without datasets"))
    }

    /// The profile that each dataset was published under.
    fn profiles_at_ingest(&self, ctx: &DataContext<'_>) -> Result<Vec<(DatasetId, Profile)>, DataError> {
        let of = |v: &crate::dataset::DatasetVersion| {
            Ok((v.manifest.dataset.clone(), named(ctx, &v.manifest.profile.name)?))
        };
        self.question.versions.iter().map(of).collect()
    }
}

fn named(ctx: &DataContext<'_>, name: &str) -> Result<Profile, AccessError> {
    question::profile(name, ctx.tables, ctx.vocabulary)
        .map_err(|e| AccessError::invalid("/profile", e.to_string()))
}

fn attempt(
    ctx: &DataContext<'_>,
    act: &Act,
    request: &RequestId,
    id: &ReleaseId,
) -> Result<ReleaseSummary, DataError> {
    let case = Case::new(ctx, act, request)?;
    let folder = building_folder(ctx, id);
    let package = folder.join("package");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(ReleaseError::from)?;
    }
    fs::create_dir_all(&package).map_err(ReleaseError::from)?;
    let done = build(ctx, act, &case, id, &folder);
    if done.is_err() && read::release(&ctx.access.state(), id)?.is_none() {
        fs::remove_dir_all(&folder).map_err(ReleaseError::from)?;
    }
    done
}

fn build(
    ctx: &DataContext<'_>,
    act: &Act,
    case: &Case,
    id: &ReleaseId,
    folder: &Path,
) -> Result<ReleaseSummary, DataError> {
    let Case { permit, question, permitted, .. } = case;
    let package = folder.join("package");
    let profile = case.profile(ctx)?;
    let views = question.permitted(permitted);
    let found = execute::run(&question.plan, &question.sources, &views, ctx.offset_days)?;
    let members: Vec<i64> = found.members.iter().map(|m| m.subject).collect();
    let rekey = Rekey::new(ctx.keys, &permit.wanted().project, &permit.wanted().recipient, id);
    let position = |table: &String| {
        ctx.tables.index_of(table).ok_or_else(|| AccessError::invalid("/tables", "a table is not canonical"))
    };
    let (measured_with, had) = earlier::earlier(ctx, case, &profile, &rekey, &members)?;
    let order = Order {
        tables: ctx.tables,
        keys: ctx.keys,
        rekey: &rekey,
        project_ordinal: case.project_ordinal,
        profile: &profile,
        declared: case.declared()?,
        zip3: Arc::clone(ctx.zip3),
        reference_date: permit.at().date(),
        sources: &question.sources,
        permitted: &views,
        stored_offset: ctx.offset_days,
        wanted: permit.grant().tables.iter().map(position).collect::<Result<BTreeSet<usize>, _>>()?,
        members: &members,
        rules: GateRules::new(permit.grant().k_min),
        concepts: &|code| concepts(ctx, code),
        earlier: &had,
    };
    let built = match order.build(&package) {
        Err(ReleaseError::Refused(refusal)) => {
            refuse(ctx, act, permit, &refusal)?;
            return Err(ReleaseError::Refused(refusal).into());
        }
        other => other?,
    };
    let list = said::list_members(ctx, case, &rekey, id, &built)?;
    let manifest = manifest(ctx, case, (id, measured_with), &profile, built, &list, &package)?;
    let bytes = manifest.to_bytes()?;
    let digest = Digest::of(&bytes);
    write_file(&package.join("release.json"), &bytes)?;
    write_file(&package.join("SHA256SUMS"), manifest.sums(digest).as_bytes())?;
    write_file(&folder.join("members.enc"), &list.seal(ctx.keys, ctx.access.entropy)?)?;
    sync_folders(folder)?;
    fs::File::open(ctx.releases).and_then(|f| f.sync_all()).map_err(ReleaseError::from)?;
    append(ctx, act, case, &manifest, digest, &list)?;
    let done = read::release(&ctx.access.state(), id)?
        .ok_or_else(|| DataError::failed("the release is not in the state that its entry made"))?;
    finish(ctx, &done, folder)?;
    Ok(summary(&done))
}

/// The concept of a code and the standard ones that it maps to, as far as a vocabulary is loaded.
fn concepts(ctx: &DataContext<'_>, code: &Code) -> Vec<i64> {
    let Some(vocabulary) = ctx.vocabulary else { return Vec::new() };
    let own = vocabulary.of_code(code);
    own.into_iter().flat_map(|own| vocabulary.standard(own).into_iter().chain([own])).collect()
}

/// Logs that the gate refused, with what it measured.
fn refuse(
    ctx: &DataContext<'_>,
    act: &Act,
    permit: &Permit,
    refusal: &crate::risk::Refused,
) -> Result<(), DataError> {
    let event = Event::ReleaseRefused(ReleaseRefused {
        request: permit.grant().request.clone(),
        gate: "class_size".into(),
        measured: measured(refusal),
        as_of: permit.entry() + 1,
    });
    let own = Act::new(act.actor.clone(), ctx.access.entropy);
    let mut new = entry(&event, own.event_id(0), act, None, vec![topic::done(&permit.grant().request)])?;
    new.decision = Some("refused".into());
    new.as_of = Some(permit.entry() + 1);
    ctx.access.store.append(vec![new], &[])?;
    Ok(())
}

/// What the gate measured against what is required, and what other class sizes would cost.
pub fn measured(refusal: &crate::risk::Refused) -> serde_json::Value {
    match refusal {
        crate::risk::Refused::ClassSize { required, measured, costs, .. } => {
            let costs: Vec<ToldCost> = costs.iter().map(ToldCost::from).collect();
            json!({"required": required, "measured": measured, "costs": costs})
        }
        crate::risk::Refused::Risk(reason) => json!({"reason": reason.to_string()}),
    }
}

fn manifest(
    ctx: &DataContext<'_>,
    case: &Case,
    (id, measured_with): (&ReleaseId, Vec<ReleaseId>),
    profile: &Profile,
    built: Built,
    list: &Members,
    package: &Path,
) -> Result<Manifest, DataError> {
    let Case { permit, question, permitted, .. } = case;
    let (machine, text) = dictionary(&Told {
        tables: ctx.tables,
        profile,
        ingest: &case.profiles_at_ingest(ctx)?,
        declares: built.declares,
        gate: &built.gate,
        withheld: &built.withheld,
        files: &built.files,
    });
    let mut files = built.files;
    for (name, bytes) in [("DATA_DICTIONARY.json", machine), ("DATA_DICTIONARY.md", text)] {
        write_file(&package.join(name), &bytes)?;
        files.push(FileEntry::of(package, name.to_owned(), None, Vec::new())?);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let dataset = |v: &crate::dataset::DatasetVersion| DatasetEntry {
        dataset: v.manifest.dataset.clone(),
        version: v.manifest.version,
        contributor: v.manifest.contributor.clone(),
        manifest: v.digest,
        legal_basis: permit.grant().legal_bases.get(&v.manifest.contributor).cloned().unwrap_or_default(),
    };
    let report = serde_json::to_value(ToldReport::from(&built.gate)).map_err(|_| ReleaseError::Tables)?;
    Ok(Manifest {
        format: FORMAT.into(),
        release: id.clone(),
        request: permit.grant().request.clone(),
        project: permit.wanted().project.clone(),
        recipient: permit.wanted().recipient.clone(),
        purpose: permit.wanted().purpose.terms.clone(),
        created: permit.at(),
        cohort: permit.grant().cohort,
        datasets: question.versions.iter().map(dataset).collect(),
        profile: profile.name().to_owned(),
        tier: permit.grant().tier.clone(),
        declares: built.declares,
        notes: question.plan.notes.clone(),
        notice: NOTICE.into(),
        terms: permit.grant().terms,
        persons: built.persons.len() as u64,
        persons_erased: 0,
        risk: RiskEntry {
            k_required: permit.grant().k_min,
            k_measured: u32::try_from(built.gate.after.smallest_class).unwrap_or(u32::MAX),
            persons_suppressed: told_left_out(built.gate.suppressed),
            measured_with,
            report,
        },
        members_root: list.root()?,
        ledger: LedgerRef { origin: ctx.origin.to_owned(), as_of: permitted.as_of, permit: permit.entry() },
        files,
    })
}

/// Appends `release.built`, if no member said anything that changes what they permit, nothing was said about the request since
/// the decision, and the data, its hospitals' rules and what the recipient has are as they were.
fn append(
    ctx: &DataContext<'_>,
    act: &Act,
    case: &Case,
    manifest: &Manifest,
    digest: Digest,
    list: &Members,
) -> Result<(), DataError> {
    let as_of = case.permitted.as_of;
    let event = Event::ReleaseBuilt(ReleaseBuilt {
        release: manifest.release.clone(),
        request: manifest.request.clone(),
        project: manifest.project.clone(),
        recipient: manifest.recipient.clone(),
        datasets: case.question.version_numbers(),
        manifest: digest,
        members_root: manifest.members_root,
        persons: manifest.persons,
        tables: manifest.rows(),
        k: [manifest.risk.k_required, manifest.risk.k_measured],
        as_of,
    });
    // Another release to the same recipient, or to everyone, is measured together with this one.
    let releases = topic::releases(&manifest.recipient);
    let mut topics =
        vec![topic::done(&manifest.request), topic::project(&manifest.project), releases.clone()];
    topics.extend((manifest.tier == earlier::PUBLIC).then(|| topic::PUBLIC_RELEASES.to_owned()));
    let mut new = entry(&event, act.event_id(0), act, None, topics)?;
    new.decision = Some("released".into());
    new.as_of = Some(as_of);
    new.policy = case.permit.decision().policies().get("house").copied();
    let at = |topic, as_of| Precondition { topic, as_of };
    let asked = [
        topic::request(&manifest.request),
        releases,
        topic::PUBLIC_RELEASES.to_owned(),
        topic::ERASED.to_owned(),
    ];
    let mut unchanged: Vec<Precondition> = asked.into_iter().map(|topic| at(topic, as_of)).collect();
    // A contract or legal basis that changed meanwhile is asked again.
    unchanged.extend(case.question.contributors().iter().map(|c| at(topic::contributor(c), as_of)));
    let data = case.question.versions.iter().map(|v| topic::dataset(&v.manifest.dataset));
    unchanged.extend(data.map(|topic| at(topic, case.looked)));
    append_if(&ctx.access, &new, &unchanged, |size| said::unchanged(ctx, case, list, size))?;
    Ok(())
}

/// Puts entry and proof into the package, writes the participants' index, and renames the folder. Whoever needs the release
/// may do so at the same time: the files are the same, and one renames.
fn finish(ctx: &DataContext<'_>, done: &records::Release, folder: &Path) -> Result<(), DataError> {
    let finished = complete(ctx, done, folder);
    if package_folder(ctx.releases, &done.body.release).exists() { Ok(()) } else { finished }
}

/// Writes how the log's keys followed each other, where it has had several.
pub(super) fn write_handovers(store: &dyn Store, ledger: &Path) -> Result<(), DataError> {
    if store.verifier()?.lines().len() > 1 {
        let handovers = super::handover::file(store).map_err(|e| DataError::failed(e.to_string()))?;
        write_file(&ledger.join("handovers"), &handovers)?;
    }
    Ok(())
}

fn complete(ctx: &DataContext<'_>, done: &records::Release, folder: &Path) -> Result<(), DataError> {
    let store = ctx.access.store;
    let seq = done.origin.seq;
    let entry =
        store.entry(seq)?.ok_or_else(|| DataError::failed("the release's entry is not in the ledger"))?;
    let opened = opened(&entry)?;
    let mut json = serde_json::to_vec_pretty(&opened).map_err(|_| ReleaseError::Tables)?;
    json.push(b'\n');
    let ledger = folder.join("package/ledger");
    write_file(&ledger.join("entry.json"), &json)?;
    write_file(
        &ledger.join("entry.tlog-proof"),
        &super::cosign::receipt_soon(store, seq).map_err(|e| DataError::failed(e.to_string()))?,
    )?;
    write_file(&ledger.join("vkey"), format!("{}\n", store.vkey()).as_bytes())?;
    write_handovers(store, &ledger)?;
    sync_folders(folder)?;
    index_members(ctx, done, folder)?;
    let target = ctx.releases.join(done.body.release.as_str());
    if folder != target {
        fs::rename(folder, &target).map_err(ReleaseError::from)?;
        fs::File::open(ctx.releases).and_then(|f| f.sync_all()).map_err(ReleaseError::from)?;
    }
    Ok(())
}

/// The list of members of a finished release.
///
/// # Errors
/// If it cannot be read or is not that release's.
pub fn members(ctx: &DataContext<'_>, release: &ReleaseId) -> Result<Members, DataError> {
    members_in(ctx.releases, ctx.keys, release)
}

/// The same, from the folder of releases.
///
/// # Errors
/// As [`members`].
pub fn members_in(releases: &Path, keys: &Keyring, release: &ReleaseId) -> Result<Members, DataError> {
    let sealed = fs::read(releases.join(release.as_str()).join("members.enc")).map_err(ReleaseError::from)?;
    Ok(Members::open(keys, release, &sealed)?)
}

/// Tells each member's own page that they are in the release, which lies in `folder`.
fn index_members(ctx: &DataContext<'_>, done: &records::Release, folder: &Path) -> Result<(), DataError> {
    let sealed = fs::read(folder.join("members.enc")).map_err(ReleaseError::from)?;
    let list = Members::open(ctx.keys, &done.body.release, &sealed)?;
    let store: &dyn Store = ctx.access.store;
    for part in list.members.chunks(1000) {
        let write = |m: &almoner_ledger::members::Member| {
            let subject = m.subject.parse().ok().and_then(|n| SubjectId::new(n).ok())?;
            let key = format!("{}/{}", subject_key(subject), done.body.release);
            let value =
                json!({"release": done.body.release, "seq": done.origin.seq, "directives": m.directives});
            Some(Write { kind: MEMBER_KIND.into(), key, value: Some(value) })
        };
        store.put_primary(part.iter().filter_map(write).collect())?;
    }
    Ok(())
}

/// Completes or removes what a crash left of builds. Only at start: a folder may belong to a build that is running.
///
/// # Errors
/// If a folder cannot be completed or removed.
pub fn recover(ctx: &DataContext<'_>) -> Result<(), DataError> {
    let listed = fs::read_dir(ctx.releases).map_err(ReleaseError::from)?;
    for item in listed {
        let folder = item.map_err(ReleaseError::from)?.path();
        let name = folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(".building-"));
        if let Some(id) = name.and_then(|n| n.parse::<ReleaseId>().ok()) {
            recover_one(ctx, &id)?;
        }
    }
    Ok(())
}

/// Completes the package of a release that is in the ledger, or removes what was built of one that is not.
pub(super) fn recover_one(ctx: &DataContext<'_>, id: &ReleaseId) -> Result<(), DataError> {
    let folder = building_folder(ctx, id);
    if !folder.exists() {
        return Ok(());
    }
    let manifest = fs::read(folder.join("package/release.json")).map(Digest::of).ok();
    match read::release(&ctx.access.state(), id)? {
        Some(done) if manifest == Some(done.body.manifest) => finish(ctx, &done, &folder),
        _ => Ok(fs::remove_dir_all(&folder).map_err(ReleaseError::from)?),
    }
}

/// Where a release is built, until the ledger has it.
fn building_folder(ctx: &DataContext<'_>, id: &ReleaseId) -> PathBuf {
    ctx.releases.join(format!(".building-{id}"))
}

/// Makes every name in a folder durable; the files themselves are when they are written.
pub(super) fn sync_folders(folder: &Path) -> Result<(), ReleaseError> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    Ok(fs::File::open(folder)?.sync_all()?)
}
