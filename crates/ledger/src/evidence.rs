//! Evidence packs, for boards: whether every person in a release had permitted it, by the directives in the log, at the
//! moment that the release names.
//!
//! A pack opens, for one release: its entry, those of its request, its permit and the dataset versions that it was drawn
//! from, every member (pseudonym, ids, directives, salt), and of every member all that they said before `as_of`. It opens
//! the subject of everybody else's consents and withdrawals before the release's entry as well, and nothing more of them, so
//! that with the log at hand (`--ledger`) leaving something out is noticed. What is checked:
//!
//! 1. each entry stands in the log (inclusion proof to one signed checkpoint) and commits to what the pack says of it;
//! 2. the members are those that the release's entry commits to, as many as it says, each with all ids that the exchange
//!    knew them under when it was built;
//! 3. the use is the one that was asked for and permitted: project, recipient, purpose and tables of the request, at the
//!    time of the permit, for data of the contributors of the dataset versions that the release names;
//! 4. for each member, the same rules ([`almoner_model::consent`]) over what they said before `as_of` permit that use for
//!    the data of at least one of those contributors, by exactly the directives that the member names;
//! 5. with the log: it is the log that the pack's checkpoint signs; nothing that a member said before `as_of` is missing, be
//!    it consent, refusal or withdrawal; and no member said anything between `as_of` and the release's entry, which would
//!    have been decided anew.
//!
//! Of people who were erased since, nothing can be checked any more but that it was erased: an entry `subject.erased` names the
//! entries that are gone, and `release.rewritten` the leaf hashes of members. The pack opens both, and the report counts them.
//!
//! What it does not do: say whether a directive was given freely, that the pack's people are who a hospital says, that the
//! rows of the files are those of the members, or that the categories that the permit requires are all that the cohort's
//! criteria looked at (they are in the cohort definition, whose digest is in the request).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use almoner_model::consent::{
    Category, CategorySet, Directive, DirectiveState, Purpose, Statement, SubjectState, Use, WithdrawalMode,
    WithdrawalState, evaluate,
};
use almoner_model::{ContributorId, DatasetId, Digest, Duo, ProjectId, RecipientId, RequestId, Seq};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::commitment::{canonical, commit};
use crate::handover::{self, Handover};
use crate::leaf::{self, Leaf};
use crate::members::{Member, members_root_with};
use crate::note::VerifierKey;
use crate::package::{OpenedEntry, ReleaseBuilt, ReleaseRewritten};
use crate::proof::check_inclusion;
use crate::tree::{Edge, Hash};

/// The only format there is.
pub const FORMAT: &str = "almoner-evidence/1";

/// Inclusion proof: hashes in base64.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof(pub Vec<String>);

impl Proof {
    /// From hashes.
    pub fn of(hashes: &[Hash]) -> Self {
        Self(hashes.iter().map(|h| base64::prelude::BASE64_STANDARD.encode(h)).collect())
    }

    fn hashes(&self) -> Option<Vec<Hash>> {
        let decode = |text: &String| base64::prelude::BASE64_STANDARD.decode(text).ok()?.try_into().ok();
        self.0.iter().map(decode).collect()
    }
}

/// An entry in a pack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenEntry {
    /// Leaf and payload.
    pub entry: OpenedEntry,
    /// Its place in the tree of the pack's checkpoint.
    pub proof: Proof,
    /// Whom it concerns, with the key that opens that commitment; absent for the release's own entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<OpenedSubject>,
}

/// Whom an entry concerns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedSubject {
    /// The exchange's id.
    pub subject: i64,
    /// The key that opens the commitment.
    pub opening: Digest,
}

/// A consent or withdrawal of somebody who is not in the release, with its subject only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfSomebodyElse {
    /// Its position.
    pub seq: Seq,
    /// Whom it concerns.
    pub subject: OpenedSubject,
}

/// `evidence.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// [`FORMAT`].
    pub format: String,
    /// The signed checkpoint that all proofs lead to.
    pub checkpoint: String,
    /// The release's entry.
    pub release: ProvenEntry,
    /// That of its request.
    pub request: ProvenEntry,
    /// That of its permit.
    pub permit: ProvenEntry,
    /// Those of the dataset versions that it was drawn from.
    pub datasets: Vec<ProvenEntry>,
    /// The use that consent was evaluated for.
    pub wanted: Use,
    /// Everyone in it.
    pub members: Vec<Member>,
    /// All that members said before `as_of`.
    pub said: Vec<ProvenEntry>,
    /// All that others said before the release's entry.
    pub others: Vec<OfSomebodyElse>,
    /// The erasures of what anybody said before the release's entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erasures: Vec<ProvenEntry>,
    /// The entries by which the release was written anew without members who were erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewritten: Vec<ProvenEntry>,
    /// How the log's keys followed each other, where it has had several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handovers: Vec<Handover>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct EvidenceReport {
    /// Whether everything agrees.
    pub intact: bool,
    /// People checked.
    pub persons: u64,
    /// Entries proven to stand in the log.
    pub entries: u64,
    /// Members who were erased since, of whom nothing can be checked.
    pub persons_erased: u64,
    /// Entries of what people said before the release that were erased since.
    pub entries_erased: u64,
    /// Ledger size at which consent was evaluated.
    pub as_of: Seq,
    /// Whether the log was at hand, so that what is left out is noticed too.
    pub complete: bool,
    /// What is wrong; people are named by their pseudonym in the release.
    pub findings: Vec<String>,
}

/// The leaves of the log from its first, for the check that nothing is left out: position and bytes. As many as the
/// pack's checkpoint signs are read.
pub type Leaves<'a> = dyn Iterator<Item = (Seq, Vec<u8>)> + 'a;

/// Checks a pack against the log's key and, where they are at hand, all leaves of the log.
pub fn verify_evidence(pack: &Pack, key: &VerifierKey, leaves: Option<&mut Leaves<'_>>) -> EvidenceReport {
    let mut report = EvidenceReport { complete: leaves.is_some(), ..EvidenceReport::default() };
    if let Err(finding) = check(pack, key, leaves, &mut report) {
        report.findings.push(finding);
    }
    report.intact = report.findings.is_empty();
    report
}

/// One thing a person said.
enum Said {
    Directive(DirectiveState),
    Withdrawal(WithdrawalState),
}

#[derive(Deserialize)]
struct Recorded {
    contributor: ContributorId,
    directive: Directive,
    #[serde(default)]
    lifts: Option<Seq>,
}

#[derive(Deserialize)]
struct Withdrawn {
    contributor: Option<ContributorId>,
    mode: WithdrawalMode,
}

fn check(
    pack: &Pack,
    key: &VerifierKey,
    leaves: Option<&mut Leaves<'_>>,
    report: &mut EvidenceReport,
) -> Result<(), String> {
    if pack.format != FORMAT {
        return Err(format!("this program understands the format {FORMAT} only"));
    }
    let key = handover::or_alone(key, &pack.handovers);
    let tree = Checkpoint::open(pack.checkpoint.as_bytes(), &key).map_err(|e| e.to_string())?.checkpoint;
    let leaf = proven(&pack.release, &tree).map_err(|e| format!("the release's entry: {e}"))?;
    if leaf.kind != "release.built" {
        return Err("the pack's first entry is not that of a release".to_owned());
    }
    let built: ReleaseBuilt = serde_json::from_value(pack.release.entry.payload.clone())
        .map_err(|_| "the release's entry has another payload".to_owned())?;
    report.as_of = built.as_of;
    report.entries = 1;
    let holders = asked(pack, &tree, leaf.seq, &built, report)?;
    let (hashes, gone) = erased(pack, &tree, &built, report)?;
    let root =
        members_root_with(&pack.members, &hashes).map_err(|_| "a member has no canonical form".to_owned())?;
    if root != built.members_root || (pack.members.len() + hashes.len()) as u64 != built.persons {
        report.findings.push("the members are not those that the release's entry commits to".to_owned());
    }
    let mut said: BTreeMap<i64, Vec<Said>> = BTreeMap::new();
    let mut listed = BTreeMap::new();
    for entry in &pack.said {
        match heard(entry, &tree, built.as_of) {
            Ok((subject, seq, what)) => {
                report.entries += 1;
                listed.insert(seq, subject);
                said.entry(subject).or_default().push(what);
            }
            Err(finding) => report.findings.push(finding),
        }
    }
    for member in &pack.members {
        report.persons += 1;
        if let Err(finding) = permitted(pack, member, &said, &holders, built.as_of) {
            report.findings.push(format!("person {}: {finding}", member.pseudonym));
        }
    }
    if let Some(leaves) = leaves {
        complete(pack, &tree, leaves, (&listed, &gone), built.as_of..leaf.seq, report);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Submitted {
    request: RequestId,
    project: ProjectId,
    recipient: RecipientId,
    purpose: Duo,
    modifiers: Vec<Duo>,
    #[serde(default)]
    diseases: Vec<String>,
    #[serde(default)]
    methods: bool,
    #[serde(default)]
    statements: Vec<Statement>,
    tables: Vec<String>,
}

#[derive(Deserialize)]
struct PermitDecided {
    request: RequestId,
    effect: String,
    #[serde(default)]
    required: CategorySet,
}

#[derive(Deserialize)]
struct DatasetPublished {
    dataset: DatasetId,
    version: u32,
    contributor: ContributorId,
}

/// An entry of `kind`, proven, with its payload.
fn of_kind<T: serde::de::DeserializeOwned>(
    entry: &ProvenEntry,
    kind: &str,
    tree: &Checkpoint,
) -> Result<(Leaf, T), String> {
    let leaf = proven(entry, tree).map_err(|e| format!("an entry {kind}: {e}"))?;
    if leaf.kind != kind {
        return Err(format!("entry {} is not of the kind {kind}", leaf.seq));
    }
    let payload = serde_json::from_value(entry.entry.payload.clone());
    Ok((leaf, payload.map_err(|_| format!("entry {kind} has another payload"))?))
}

/// Checks the use against what was asked for and permitted. Gives the contributors whose data it was.
fn asked(
    pack: &Pack,
    tree: &Checkpoint,
    release: Seq,
    built: &ReleaseBuilt,
    report: &mut EvidenceReport,
) -> Result<BTreeSet<ContributorId>, String> {
    let (_, request): (_, Submitted) = of_kind(&pack.request, "request.submitted", tree)?;
    let (permit_leaf, permit): (_, PermitDecided) = of_kind(&pack.permit, "permit.decided", tree)?;
    report.entries += 2;
    if request.request != built.request || permit.request != built.request {
        return Err("request and permit are not those of the release".to_owned());
    }
    if permit.effect != "permit" || permit_leaf.seq >= release || built.as_of != permit_leaf.seq + 1 {
        return Err("the permit is not the one that the release was built under".to_owned());
    }
    let delivered = CategorySet::of_tables(request.tables.iter().map(String::as_str))
        .map_err(|_| "the request names a table that is not canonical".to_owned())?;
    let expected = Use {
        purpose: Purpose::requested(
            request.purpose,
            request.modifiers,
            request.diseases,
            request.methods,
            request.statements,
            true,
        ),
        recipient: request.recipient,
        project: request.project,
        required: permit.required.with(Category::Demographics),
        delivered,
        at: permit_leaf.time,
    };
    if pack.wanted != expected || built.project != expected.project || built.recipient != expected.recipient {
        report.findings.push("the use is not the one that was asked for and permitted".to_owned());
    }
    let mut holders = BTreeSet::new();
    let mut versions = BTreeMap::new();
    for entry in &pack.datasets {
        let (_, published): (_, DatasetPublished) = of_kind(entry, "dataset.published", tree)?;
        report.entries += 1;
        holders.insert(published.contributor);
        versions.insert(published.dataset, published.version);
    }
    if versions != built.datasets || pack.datasets.len() != versions.len() {
        report.findings.push("the dataset versions are not those that the release names".to_owned());
    }
    Ok(holders)
}

#[derive(Deserialize)]
struct SubjectErased {
    entries: Vec<Seq>,
}

/// The leaf hashes of members who were erased, and the entries whose payloads were.
fn erased(
    pack: &Pack,
    tree: &Checkpoint,
    built: &ReleaseBuilt,
    report: &mut EvidenceReport,
) -> Result<(Vec<Digest>, BTreeSet<Seq>), String> {
    let (mut hashes, mut gone) = (Vec::new(), BTreeSet::new());
    for entry in &pack.rewritten {
        let (_, rewritten): (_, ReleaseRewritten) = of_kind(entry, "release.rewritten", tree)?;
        if rewritten.release != built.release {
            return Err("an entry of an erasure is of another release".to_owned());
        }
        hashes.extend(rewritten.members);
        report.entries += 1;
    }
    for entry in &pack.erasures {
        let (leaf, erased): (_, SubjectErased) = of_kind(entry, "subject.erased", tree)?;
        gone.extend(erased.entries.into_iter().filter(|seq| *seq < leaf.seq));
        report.entries += 1;
    }
    report.persons_erased = hashes.len() as u64;
    Ok((hashes, gone))
}

/// All ids of a member.
fn ids(member: &Member) -> Result<Vec<i64>, String> {
    let parse = |text: &String| text.parse().map_err(|_| "an id is not a number".to_owned());
    let mut all = member.also.iter().chain([&member.subject]).map(parse).collect::<Result<Vec<i64>, _>>()?;
    all.sort_unstable();
    Ok(all)
}

/// The entry's leaf, if it stands in the tree and commits to its payload.
fn proven(entry: &ProvenEntry, tree: &Checkpoint) -> Result<Leaf, String> {
    let leaf = entry.entry.open()?;
    let hash = leaf::hash(entry.entry.leaf.as_bytes());
    let hashes = entry.proof.hashes().ok_or("the proof is not in base64")?;
    check_inclusion(leaf.seq, tree.size, &hash, &tree.root, &hashes).map_err(|e| e.to_string())?;
    Ok(leaf)
}

fn is_subject(leaf: &Leaf, opened: &OpenedSubject) -> bool {
    canonical(&opened.subject)
        .is_ok_and(|bytes| leaf.subject == Some(Digest(commit(opened.opening.as_bytes(), &bytes))))
}

/// What an entry of the pack says, and of whom.
fn heard(entry: &ProvenEntry, tree: &Checkpoint, as_of: Seq) -> Result<(i64, Seq, Said), String> {
    let leaf = proven(entry, tree)?;
    let wrong = |what: &str| format!("entry {}: {what}", leaf.seq);
    if leaf.seq >= as_of {
        return Err(wrong("was made after the decision"));
    }
    let subject = entry.subject.as_ref().filter(|s| is_subject(&leaf, s));
    let subject = subject.ok_or_else(|| wrong("concerns another person"))?.subject;
    let payload = entry.entry.payload.clone();
    let said = match leaf.kind.as_str() {
        "consent.recorded" => {
            let r: Recorded = serde_json::from_value(payload).map_err(|_| wrong("is not understood"))?;
            let directive = Arc::new(r.directive);
            Said::Directive(DirectiveState {
                seq: leaf.seq,
                contributor: r.contributor,
                directive,
                lifts: r.lifts,
            })
        }
        "consent.withdrawn" => {
            let w: Withdrawn = serde_json::from_value(payload).map_err(|_| wrong("is not understood"))?;
            let (contributor, mode) = (w.contributor, w.mode);
            Said::Withdrawal(WithdrawalState { seq: leaf.seq, time: leaf.time, contributor, mode })
        }
        _ => return Err(wrong("is neither a consent nor a withdrawal")),
    };
    Ok((subject, leaf.seq, said))
}

/// Whether what the person said permits the use, by the directives that the member names.
fn permitted(
    pack: &Pack,
    member: &Member,
    said: &BTreeMap<i64, Vec<Said>>,
    holders: &BTreeSet<ContributorId>,
    as_of: Seq,
) -> Result<(), String> {
    let ids = ids(member)?;
    let mut parts = Vec::new();
    for subject in ids {
        let mut state = SubjectState::default();
        for what in said.get(&subject).into_iter().flatten() {
            match what {
                Said::Withdrawal(w) => state.withdrawals.push(w.clone()),
                Said::Directive(d) => state.directives.push(d.clone()),
            }
        }
        state.directives.sort_by_key(|d| d.seq);
        state.withdrawals.sort_by_key(|w| w.seq);
        if !state.directives.is_empty() || !state.withdrawals.is_empty() {
            parts.push((subject, state));
        }
    }
    let state = SubjectState::merged(parts);
    let state = state.before(as_of);
    let verdicts: Vec<_> = holders.iter().map(|holder| evaluate(&state, holder, &pack.wanted)).collect();
    if !verdicts.iter().any(|v| v.permit) {
        return Err("nothing they said permits this use".to_owned());
    }
    let permitting: BTreeSet<Seq> =
        verdicts.iter().filter(|v| v.permit).flat_map(|v| v.directives.iter().copied()).collect();
    if member.directives.iter().copied().collect::<BTreeSet<Seq>>() == permitting {
        Ok(())
    } else {
        Err("the directives that permit this are not those that the release names".to_owned())
    }
}

/// With all leaves at hand: they are those of the checkpoint's tree, and nothing that a member said is left out of what was
/// evaluated, because of everything that anybody said the pack shows whose it is. `deciding` begins where consent was
/// evaluated and ends at the release's entry.
fn complete(
    pack: &Pack,
    tree: &Checkpoint,
    leaves: &mut Leaves<'_>,
    (listed, gone): (&BTreeMap<Seq, i64>, &BTreeSet<Seq>),
    deciding: Range<Seq>,
    report: &mut EvidenceReport,
) {
    let people: BTreeSet<i64> = pack.members.iter().filter_map(|m| ids(m).ok()).flatten().collect();
    let others: BTreeMap<Seq, &OpenedSubject> = pack.others.iter().map(|o| (o.seq, &o.subject)).collect();
    let (mut edge, mut read) = (Edge::new(), 0);
    for (seq, bytes) in leaves.take_while(|(seq, _)| *seq < tree.size) {
        read += 1;
        edge.push(leaf::hash(&bytes));
        if seq >= deciding.end || listed.contains_key(&seq) {
            continue;
        }
        let Ok(leaf) = Leaf::parse(&bytes) else {
            report.findings.push(format!("entry {seq} of the log is not a leaf"));
            continue;
        };
        let said = match leaf.kind.as_str() {
            "consent.recorded" => "consent or refusal",
            "consent.withdrawn" => "withdrawal",
            _ => continue,
        };
        match others.get(&seq).filter(|opened| is_subject(&leaf, opened)) {
            None if gone.contains(&seq) => report.entries_erased += 1,
            None => report.findings.push(format!("entry {seq} is a {said} that the pack does not open")),
            Some(opened) if !people.contains(&opened.subject) => {}
            Some(_) if seq < deciding.start => {
                report.findings.push(format!("entry {seq} is a member's {said} that was not evaluated"));
            }
            Some(_) => report
                .findings
                .push(format!("entry {seq} is a member's {said} after the decision and before the release")),
        }
    }
    if read != tree.size {
        report.findings.push(format!("the log at hand has {read} of the {} entries of the pack", tree.size));
    } else if edge.root() != tree.root {
        report.findings.push("the log at hand is another than the one that the pack is of".to_owned());
    }
}
