//! What is said in the ledger: one type for each kind of entry, serialised as the entry's payload.
//!
//! A payload concerns at most one person and is kept beside the log under a salted commitment, so it may carry what its
//! readers need. It never carries a clinical value. Digests name documents, definitions and lists, which are blobs.
//! The control state (`state`) is a fold over these; a change here is a change of format.

use std::collections::BTreeMap;

use almoner_model::consent::CategorySet;
use almoner_model::{
    ContributorId, DatasetId, Date, Digest, Duo, ProjectId, RecipientId, ReleaseId, RequestId, Seq, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who acted. Stands in the leaf as a salted commitment only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// `operator`, `contributor`, `board`, `researcher`, `participant` or `system`.
    pub role: String,
    /// The id of the token or account, or of the institution it acts for.
    pub id: String,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $kind:literal;)*) => {
        /// Every kind of ledger entry.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Event { $($(#[$doc])* $variant($body)),* }

        impl Event {
            /// All kinds, as they stand in the leaf's `type`.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The leaf's `type`.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind),* }
            }

            /// The JSON Schema (2020-12) of every kind's payload, in the order of [`Event::KINDS`].
            pub fn schemas() -> Vec<(&'static str, Value)> {
                vec![$(($kind, schemars::schema_for!($body).to_value())),*]
            }

            /// The payload.
            ///
            /// # Errors
            /// Only if a body is not representable as JSON, which no body here is.
            pub fn payload(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$variant(body) => serde_json::to_value(body)),* }
            }

            /// Reads an entry back.
            ///
            /// # Errors
            /// If `kind` is unknown or `payload` is not one of its bodies.
            pub fn read(kind: &str, payload: Value) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kind => serde_json::from_value(payload).map(Self::$variant),)*
                    _ => Err(serde::de::Error::custom("unknown kind of entry")),
                }
            }
        }
    };
}

events! {
    /// A hospital was registered.
    ContributorRegistered(ContributorRegistered) = "contributor.registered";
    /// What was said when a hospital was registered changed.
    ContributorChanged(ContributorChanged) = "contributor.changed";
    /// A contributor's own rules for its data took effect.
    ContractPublished(ContractPublished) = "contract.published";
    /// A dataset version became visible.
    DatasetPublished(DatasetPublished) = "dataset.published";
    /// A vocabulary was loaded.
    VocabularyLoaded(VocabularyLoaded) = "vocabulary.loaded";
    /// A directive of one person.
    ConsentRecorded(ConsentRecorded) = "consent.recorded";
    /// A withdrawal by one person.
    ConsentWithdrawn(ConsentWithdrawn) = "consent.withdrawn";
    /// A person was invited to see and change their choices.
    InvitationIssued(InvitationIssued) = "invitation.issued";
    /// An invitation became a participant's token.
    InvitationRedeemed(InvitationRedeemed) = "invitation.redeemed";
    /// An invitation, with the token that it became, was ended.
    InvitationRevoked(InvitationRevoked) = "invitation.revoked";
    /// The ground on which releases rest.
    LegalBasisRecorded(LegalBasisRecorded) = "legal_basis.recorded";
    /// A ground on which releases rested ended.
    LegalBasisEnded(LegalBasisEnded) = "legal_basis.ended";
    /// A project was created.
    ProjectCreated(ProjectCreated) = "project.created";
    /// A request for data.
    RequestSubmitted(RequestSubmitted) = "request.submitted";
    /// A committee's decision on a request.
    RequestDecided(RequestDecided) = "request.decided";
    /// A recipient signed terms for a request.
    TermsSigned(TermsSigned) = "terms.signed";
    /// A permit was granted (or found wanting) for a request.
    PermitDecided(PermitDecided) = "permit.decided";
    /// A count was answered.
    CountAnswered(CountAnswered) = "count.answered";
    /// A release was built.
    ReleaseBuilt(ReleaseBuilt) = "release.built";
    /// A privacy gate refused a release.
    ReleaseRefused(ReleaseRefused) = "release.refused";
    /// A download was opened.
    DownloadOpened(DownloadOpened) = "download.opened";
    /// A download ended.
    DownloadClosed(DownloadClosed) = "download.closed";
    /// What is kept of a person was erased, or what one hospital gave of them.
    SubjectErased(SubjectErased) = "subject.erased";
    /// A dataset version was written anew without somebody who was erased.
    DatasetRewritten(DatasetRewritten) = "dataset.rewritten";
    /// A release was written anew without somebody who was erased.
    ReleaseRewritten(ReleaseRewritten) = "release.rewritten";
    /// The key that signs the ledger was followed by another.
    KeyRotated(KeyRotated) = "key.rotated";
    /// An API token was made.
    TokenIssued(TokenIssued) = "token.issued";
    /// An API token was ended.
    TokenRevoked(TokenRevoked) = "token.revoked";
}

/// See [`Event::ContributorRegistered`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContributorRegistered {
    /// Its id.
    pub contributor: ContributorId,
    /// Its name, for people.
    pub name: String,
    /// Whether its patients are linked with those of other hospitals that also opted in.
    pub linkage: bool,
    /// A minimum class size above what the tier asks for.
    pub k_min: Option<u32>,
}

/// See [`Event::ContributorChanged`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContributorChanged {
    /// Which.
    pub contributor: ContributorId,
    /// Its name, for people.
    pub name: String,
    /// Whether its patients are linked with those of other hospitals that also opted in.
    pub linkage: bool,
    /// A minimum class size above what the tier asks for.
    pub k_min: Option<u32>,
    /// The entry that said what this changes.
    pub after: Seq,
}

/// See [`Event::ContractPublished`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContractPublished {
    /// Whose.
    pub contributor: ContributorId,
    /// The Cedar policy text, a blob.
    pub policy: Digest,
}

/// See [`Event::DatasetPublished`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DatasetPublished {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its version, from 1.
    pub version: u32,
    /// Whose data.
    pub contributor: ContributorId,
    /// SHA-256 of `manifest.json`.
    pub manifest: Digest,
    /// The de-identification profile.
    pub profile: String,
    /// `full`, `incremental` or `remap`.
    pub mode: String,
    /// People in it.
    pub persons: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
}

/// See [`Event::VocabularyLoaded`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VocabularyLoaded {
    /// Digest of the loaded vocabulary.
    pub vocabulary: Digest,
    /// Concepts in it.
    pub concepts: u64,
}

/// See [`Event::ConsentRecorded`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConsentRecorded {
    /// Through which hospital it was given.
    pub contributor: ContributorId,
    /// The directive (`consent::Directive`), whose format that module owns.
    pub directive: Value,
    /// Sequence number of the withdrawal that this act lifts by naming it.
    pub lifts: Option<Seq>,
}

/// See [`Event::ConsentWithdrawn`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConsentWithdrawn {
    /// Through which hospital; none when by the person, for all of them.
    pub contributor: Option<ContributorId>,
    /// `no_contact`, `no_further_access`, `no_further_use` or `recall`.
    pub mode: String,
    /// Digest of the evidence, where it was on paper.
    pub evidence: Option<Digest>,
}

/// See [`Event::InvitationIssued`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvitationIssued {
    /// Its id.
    pub invitation: String,
    /// By which hospital.
    pub contributor: ContributorId,
    /// SHA-256 of the code that the person is handed.
    pub code: Digest,
    /// Until when it can be redeemed.
    pub expires: Timestamp,
}

/// See [`Event::InvitationRedeemed`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvitationRedeemed {
    /// Which.
    pub invitation: String,
    /// SHA-256 of the participant's token.
    pub token: Digest,
    /// When the token stops working.
    pub expires: Timestamp,
}

/// See [`Event::InvitationRevoked`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvitationRevoked {
    /// Which.
    pub invitation: String,
}

/// See [`Event::LegalBasisRecorded`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LegalBasisRecorded {
    /// Its id.
    pub id: String,
    /// Whose data it covers.
    pub contributor: ContributorId,
    /// `safe_harbor_attestation`, `expert_determination` or `data_use_agreement`.
    pub kind: String,
    /// The profile it covers.
    pub profile: String,
    /// The only recipient it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<RecipientId>,
    /// The only project it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Who determined or attested.
    pub by: String,
    /// How (an expert's method, or the attestation's words).
    pub method: String,
    /// What it covers.
    pub scope: String,
    /// SHA-256 of the document.
    pub document: Digest,
    /// Last day in force.
    pub expires: Option<Date>,
    /// For an attestation: no actual knowledge that what remains could identify (45 CFR 164.514(b)(2)(ii)).
    pub no_actual_knowledge: bool,
}

/// See [`Event::LegalBasisEnded`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LegalBasisEnded {
    /// Which.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// See [`Event::ProjectCreated`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProjectCreated {
    /// Its id.
    pub project: ProjectId,
    /// Title, for people.
    pub title: String,
    /// The institution that receives.
    pub recipient: RecipientId,
}

/// The determination of an ethics board.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EthicsDetermination {
    /// Protocol number.
    pub protocol: String,
    /// The board.
    pub board: String,
    /// Last day in force.
    pub expires: Date,
}

/// See [`Event::RequestSubmitted`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RequestSubmitted {
    /// Its id.
    pub request: RequestId,
    /// For which project.
    pub project: ProjectId,
    /// The institution that receives.
    pub recipient: RecipientId,
    /// What for.
    pub purpose: Duo,
    /// Further conditions of the use (e.g. non-commercial) that the requester declares.
    pub modifiers: Vec<Duo>,
    /// Codes of the diseases studied, for disease-specific research.
    #[serde(default)]
    pub diseases: Vec<String>,
    /// Whether methods are developed.
    #[serde(default)]
    pub methods: bool,
    /// What only a board can weigh.
    #[serde(default)]
    pub statements: Vec<crate::consent::Statement>,
    /// The cohort definition, a blob.
    pub cohort: Digest,
    /// From which datasets, in order of precedence.
    pub datasets: Vec<DatasetId>,
    /// Which tables.
    pub tables: Vec<String>,
    /// `public` or `controlled`.
    pub tier: String,
    /// The profile of the release.
    pub profile: String,
    /// In words that a participant understands.
    pub lay_summary: String,
    /// The ethics board's determination.
    pub ethics: EthicsDetermination,
}

/// See [`Event::RequestDecided`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RequestDecided {
    /// Which request.
    pub request: RequestId,
    /// Whose committee.
    pub contributor: ContributorId,
    /// `approved`, `refused`, `delegated`, or `revoked` after an approval.
    pub decision: String,
    /// To whom, when delegated.
    pub delegate: Option<ContributorId>,
    /// Why.
    pub reason: String,
}

/// See [`Event::TermsSigned`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TermsSigned {
    /// For which request.
    pub request: RequestId,
    /// Who receives.
    pub recipient: RecipientId,
    /// Who signed.
    pub signatory: String,
    /// SHA-256 of the signed terms.
    pub document: Digest,
}

/// See [`Event::PermitDecided`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PermitDecided {
    /// For which request.
    pub request: RequestId,
    /// `permit` or `deny`.
    pub effect: String,
    /// Why.
    pub reasons: Vec<String>,
    /// Digests of the rules that were applied, by contributor.
    pub policies: BTreeMap<String, Digest>,
    /// The categories of data that whoever is released must have permitted: those that the cohort's criteria look at.
    #[serde(default)]
    pub required: CategorySet,
    /// Ledger size it was made at.
    pub as_of: Seq,
}

/// See [`Event::CountAnswered`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CountAnswered {
    /// For which project.
    pub project: ProjectId,
    /// What for.
    pub purpose: Duo,
    /// What the recipient binds itself to.
    pub modifiers: Vec<Duo>,
    /// The categories of data that whoever is counted must have permitted.
    pub required: CategorySet,
    /// The cohort definition, a blob.
    pub cohort: Digest,
    /// Dataset versions that were read.
    pub datasets: BTreeMap<DatasetId, u32>,
    /// HMAC-SHA256 of the protected answer under a key of the exchange: the answers are few, so that a bare digest would
    /// tell which it was.
    pub answer: Digest,
    /// Ledger size it was made at.
    pub as_of: Seq,
}

/// See [`Event::ReleaseBuilt`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseBuilt {
    /// Its id.
    pub release: ReleaseId,
    /// For which request.
    pub request: RequestId,
    /// For which project.
    pub project: ProjectId,
    /// Who receives.
    pub recipient: RecipientId,
    /// Dataset versions that were read.
    pub datasets: BTreeMap<DatasetId, u32>,
    /// SHA-256 of the package's manifest.
    pub manifest: Digest,
    /// Root over the salted members.
    pub members_root: Digest,
    /// How many people.
    pub persons: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Required and reached class size.
    pub k: [u32; 2],
    /// Ledger size of the decision.
    pub as_of: Seq,
}

/// See [`Event::ReleaseRefused`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseRefused {
    /// For which request.
    pub request: RequestId,
    /// Which gate.
    pub gate: String,
    /// What was measured and what is required.
    pub measured: Value,
    /// Ledger size of the decision.
    pub as_of: Seq,
}

/// See [`Event::DownloadOpened`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DownloadOpened {
    /// Its id.
    pub download: String,
    /// Of which release.
    pub release: ReleaseId,
    /// Ledger size at which withdrawals were checked again.
    pub as_of: Seq,
}

/// See [`Event::DownloadClosed`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DownloadClosed {
    /// Its id.
    pub download: String,
    /// Of which release.
    pub release: ReleaseId,
    /// Bytes sent in all its range requests.
    pub bytes_sent: u64,
}

/// See [`Event::SubjectErased`]. Whom it concerned stands nowhere.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubjectErased {
    /// Its id.
    pub erasure: String,
    /// The hospital whose part was erased; none where everything was.
    pub contributor: Option<ContributorId>,
    /// The entries whose payload, salt and key were destroyed, ascending.
    pub entries: Vec<Seq>,
}

/// See [`Event::DatasetRewritten`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DatasetRewritten {
    /// For which erasure.
    pub erasure: String,
    /// The dataset.
    pub dataset: DatasetId,
    /// Which version of it.
    pub version: u32,
    /// SHA-256 of the `manifest.json` that it had.
    pub from: Digest,
    /// SHA-256 of the one that it has now.
    pub to: Digest,
    /// People who are left.
    pub persons: u64,
    /// Rows that are left, by table.
    pub tables: BTreeMap<String, u64>,
}

/// See [`Event::ReleaseRewritten`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseRewritten {
    /// For which erasure.
    pub erasure: String,
    /// The release.
    pub release: ReleaseId,
    /// SHA-256 of the `release.json` that it had.
    pub from: Digest,
    /// SHA-256 of the one that it has now.
    pub to: Digest,
    /// The leaf hashes of the members who were erased (`almoner_ledger::members`): with them the members still give the root
    /// that the release's entry commits to.
    pub members: Vec<Digest>,
    /// People who are left.
    pub persons: u64,
    /// Rows that are left, by table.
    pub tables: BTreeMap<String, u64>,
}

/// See [`Event::KeyRotated`]. What it means for readers: `almoner_ledger::handover`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeyRotated {
    /// Which key the new one is, counted from 0 for the first.
    pub epoch: u32,
    /// The verifier key line (C2SP signed-note) of the newest key until now.
    pub old: String,
    /// That of the key which signs from this entry on.
    pub new: String,
    /// Until when the old key signs too.
    pub until: Timestamp,
}

/// See [`Event::TokenIssued`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenIssued {
    /// Its public id.
    pub token: String,
    /// The role it acts in.
    pub role: String,
    /// The institutions or projects it is limited to.
    pub scope: Vec<String>,
}

/// See [`Event::TokenRevoked`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenRevoked {
    /// Its public id.
    pub token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_that_are_checked_in_are_those_of_the_types() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/events");
        let schemas = Event::schemas();
        for (kind, schema) in &schemas {
            let file = dir.join(format!("{kind}.json"));
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let kept: Value = serde_json::from_str(&text).unwrap_or_default();
            assert_eq!(kept, *schema, "regenerate with `almoner schema events --to schemas/events` ({kind})");
        }
        let files = std::fs::read_dir(dir).expect("schemas/events").count();
        assert_eq!(files, schemas.len(), "no schema of a kind that is gone");
    }

    #[test]
    fn an_event_reads_back_as_itself() {
        let event = Event::ContributorRegistered(ContributorRegistered {
            contributor: "north".parse().expect("slug"),
            name: "North General".into(),
            linkage: true,
            k_min: Some(11),
        });
        let payload = event.payload().expect("serialises");
        assert_eq!(Event::read(event.kind(), payload).expect("reads"), event);
        assert!(Event::read("contributor.renamed", Value::Null).is_err());
    }
}
