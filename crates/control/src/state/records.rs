//! The records of the folded state, one type for each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use almoner_model::{ContributorId, DatasetId, Digest, Seq, SubjectId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::consent::{
    Coverage, Directive, DirectiveState, Provision, Signed, Source, Status, SubjectState, WithdrawalState,
};
use crate::events;

/// Where in the ledger a fact comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The entry.
    pub seq: Seq,
    /// Its time.
    pub time: Timestamp,
}

/// A fact with the entry that it comes from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Logged<T> {
    /// The fact.
    #[serde(flatten)]
    pub body: T,
    /// The entry.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Kind `contributor`.
pub type Contributor = Logged<events::ContributorRegistered>;

/// Kind `contributor-change`, by contributor: the last one. The record of the contributor holds what it says.
pub type ContributorChange = Logged<events::ContributorChanged>;

/// Kind `contract`, by contributor: the rules in force.
pub type Contract = Logged<events::ContractPublished>;

/// Kind `legal-basis`.
pub type LegalBasis = Logged<events::LegalBasisRecorded>;

/// Kind `legal-basis-end`, by the basis' id.
pub type LegalBasisEnd = Logged<events::LegalBasisEnded>;

/// Kind `project`.
pub type Project = Logged<events::ProjectCreated>;

/// Kind `release`.
pub type Release = Logged<events::ReleaseBuilt>;

/// Kind `release-refusal`, by entry.
pub type ReleaseRefusal = Logged<events::ReleaseRefused>;

/// Kind `count`, by entry.
pub type Count = Logged<events::CountAnswered>;

/// Kind `permit`, by request: the last decision.
pub type PermitRecord = Logged<events::PermitDecided>;

/// Kind `vocabulary`, by digest.
pub type Vocabulary = Logged<events::VocabularyLoaded>;

/// Kind `token`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// As issued.
    #[serde(flatten)]
    pub issued: Logged<events::TokenIssued>,
    /// When it was ended.
    pub revoked: Option<Origin>,
}

/// Kind `dataset`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Dataset {
    /// Its id.
    pub dataset: DatasetId,
    /// Whose data.
    pub contributor: ContributorId,
    /// Its versions, from 1, in order, as they were published.
    pub versions: Vec<Logged<events::DatasetPublished>>,
    /// By version, the last time that it was written anew without somebody who was erased.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewritten: BTreeMap<u32, Logged<events::DatasetRewritten>>,
}

impl Dataset {
    /// SHA-256 of the manifest that a version has now.
    pub fn manifest(&self, version: u32) -> Option<Digest> {
        let published = self.versions.iter().find(|v| v.body.version == version)?;
        Some(self.rewritten.get(&version).map_or(published.body.manifest, |r| r.body.to))
    }
}

/// Kind `release-rewritten`, by release: each time that it was written anew without somebody who was erased, in order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ReleaseRewrites {
    /// Each time.
    pub times: Vec<Logged<events::ReleaseRewritten>>,
}

/// How the keys that sign the ledger followed each other, in order. One record, under [`LogKeys::KEY`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LogKeys {
    /// Each change.
    pub rotations: Vec<Logged<events::KeyRotated>>,
}

impl LogKeys {
    /// The record's kind.
    pub const KIND: &str = "log-keys";
    /// The record's key.
    pub const KEY: &str = "all";

    /// The epochs whose keys sign at `now`, newest first; and until when that is so, if it ends by itself.
    pub fn in_force(&self, now: Timestamp) -> (Vec<u32>, Option<Timestamp>) {
        let newest = self.rotations.last().map_or(0, |r| r.body.epoch);
        // The key before a change signs until the change says, and always the change itself.
        let until = |r: &Logged<events::KeyRotated>| r.body.until.max(r.origin.time);
        let older = self.rotations.iter().rev().filter(|r| now <= until(r));
        let ends = older.clone().map(until).min();
        (std::iter::once(newest).chain(older.map(|r| r.body.epoch - 1)).collect(), ends)
    }
}

/// Kind `erasure`, by entry.
pub type Erasure = Logged<events::SubjectErased>;

/// Kind `erased`, under the key `last`: the last erasure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastErasure {
    /// Its entry.
    pub seq: Seq,
}

/// Kind `invitation`, by id.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// As issued.
    #[serde(flatten)]
    pub issued: Logged<events::InvitationIssued>,
    /// Who was invited.
    pub subject: SubjectId,
    /// The token that it became.
    pub redeemed: Option<Logged<events::InvitationRedeemed>>,
    /// When it was ended.
    pub revoked: Option<Origin>,
}

/// Kind `download`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Download {
    /// As opened.
    #[serde(flatten)]
    pub opened: Logged<events::DownloadOpened>,
    /// When it ended, and how many bytes were sent.
    pub closed: Option<(Origin, u64)>,
}

/// Kind `request`: the request with everything that was said about it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// As submitted.
    #[serde(flatten)]
    pub submitted: Logged<events::RequestSubmitted>,
    /// The contributors whose data it asks for.
    pub contributors: Vec<ContributorId>,
    /// What each committee said, last word last.
    pub decisions: BTreeMap<ContributorId, Vec<Logged<events::RequestDecided>>>,
    /// The signed terms.
    pub terms: Option<Logged<events::TermsSigned>>,
}

impl Request {
    /// The last word of a committee.
    pub fn last_word(&self, contributor: &ContributorId) -> Option<&Logged<events::RequestDecided>> {
        self.decisions.get(contributor)?.last()
    }

    /// The decision that holds for `contributor`: its committee's, or that of the one it delegated to.
    pub fn decision_for(&self, contributor: &ContributorId) -> Option<&Logged<events::RequestDecided>> {
        let own = self.last_word(contributor)?;
        match &own.body.delegate {
            Some(delegate) if own.body.decision == "delegated" => self.last_word(delegate),
            _ => Some(own),
        }
    }

    /// Where it stands: `refused` (or `revoked`) as soon as one committee says so, `approved` when all have, otherwise
    /// `pending`.
    pub fn status(&self) -> &'static str {
        let words: Vec<Option<&str>> = self
            .contributors
            .iter()
            .map(|c| self.decision_for(c).map(|d| d.body.decision.as_str()))
            .collect();
        match () {
            () if words.contains(&Some("revoked")) => "revoked",
            () if words.contains(&Some("refused")) => "refused",
            () if words.iter().all(|w| *w == Some("approved")) => "approved",
            () => "pending",
        }
    }
}

/// Part of kind `subject-directives`: a directive without its rules, which people share ([`Shape`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DirectiveRecord {
    /// The entry.
    pub seq: Seq,
    /// Through which hospital.
    pub contributor: ContributorId,
    /// How it came in.
    pub source: Source,
    /// Which document it is a version of.
    pub lineage: String,
    /// When it was signed.
    pub signed: Signed,
    /// Its rules.
    pub shape: Digest,
    /// The withdrawal that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifts: Option<Seq>,
}

/// Kind `subject-directives`, by zero-padded subject id: everything that a person said.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SubjectRecord {
    /// Directives in ledger order.
    pub directives: Vec<DirectiveRecord>,
    /// Withdrawals in ledger order.
    pub withdrawals: Vec<WithdrawalState>,
}

/// Kind `shape`, by digest: the part of a directive that is evaluated, kept once however many people share it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Whether it is in force.
    pub status: Status,
    /// Whose data it covers.
    pub covers: Coverage,
    /// The rules.
    pub rules: Provision,
}

impl SubjectRecord {
    /// The state that is evaluated, with rules taken from `shapes`. `None` if one is missing there.
    pub fn state(&self, shapes: &impl Fn(&Digest) -> Option<Arc<Shape>>) -> Option<SubjectState> {
        let directives = self.directives.iter().map(|d| {
            let shape = shapes(&d.shape)?;
            Some(DirectiveState {
                seq: d.seq,
                contributor: d.contributor.clone(),
                directive: Arc::new(Directive {
                    source: d.source,
                    lineage: d.lineage.clone(),
                    signed: d.signed,
                    status: shape.status,
                    covers: shape.covers,
                    form: None,
                    evidence: None,
                    rules: shape.rules.clone(),
                }),
                lifts: d.lifts,
            })
        });
        Some(SubjectState {
            as_one: None,
            directives: directives.collect::<Option<_>>()?,
            withdrawals: self.withdrawals.clone(),
        })
    }
}

/// The key of a person, so that key order is id order.
pub fn subject_key(subject: SubjectId) -> String {
    format!("{:016}", subject.get())
}

/// The key of a person under a document of a hospital (kind `consent-lineage`, for FHIR Consents): whose it is.
pub fn lineage_key(contributor: &ContributorId, lineage: &str, subject: SubjectId) -> String {
    format!("{contributor}/{lineage}/{}", subject_key(subject))
}

/// The key of an entry, so that key order is ledger order.
pub fn seq_key(seq: Seq) -> String {
    format!("{seq:016}")
}
