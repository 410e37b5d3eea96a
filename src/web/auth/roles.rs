//! Who may call what: the roles, and for every permission the roles that have it.
//!
//! A handler's type names its permission (`Caller<ReadDatasets>`); its OpenAPI entry names the same one. The golden
//! `docs/permissions.md` is made from the latter, and a test over HTTP proves that the former agrees for every role. Which
//! objects of a kind a caller may see (its own dataset, its own project) is decided in the handler or flow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// In which capacity somebody calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the server.
    Operator,
    /// A hospital's data manager; limited to contributors.
    Contributor,
    /// An ethics board or data access committee; limited to contributors, or none named for all.
    Board,
    /// Asks for data; limited to projects.
    Researcher,
    /// A patient, by invitation.
    Participant,
    /// Anybody, without a token.
    Public,
}

impl Role {
    /// All roles, in the order of the matrix.
    pub const ALL: [Self; 6] =
        [Self::Operator, Self::Contributor, Self::Board, Self::Researcher, Self::Participant, Self::Public];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Contributor => "contributor",
            Self::Board => "board",
            Self::Researcher => "researcher",
            Self::Participant => "participant",
            Self::Public => "public",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a role: operator, contributor, board or researcher")]
pub struct NotARole;

impl FromStr for Role {
    type Err = NotARole;
    fn from_str(text: &str) -> Result<Self, NotARole> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(NotARole)
    }
}

/// A permission: its name in the OpenAPI entries, and who has it.
pub trait Permission: 'static {
    /// `manage_tokens`
    const NAME: &'static str;
    /// Who has it.
    const ROLES: &'static [Role];
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident $text:literal [$($role:ident),*];)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Permission for $name {
                const NAME: &'static str = $text;
                const ROLES: &'static [Role] = &[$(Role::$role),*];
            }
        )*
        /// Every permission: name, who has it.
        pub const PERMISSIONS: &[(&str, &[Role])] = &[$(($text, $name::ROLES)),*];
    };
}

permissions! {
    /// What anybody may read: descriptions, health, ledger, the catalogue's public part.
    ReadPublic "read_public" [Operator, Contributor, Board, Researcher, Participant, Public];
    /// Know who one is.
    ReadSelf "read_self" [Operator, Contributor, Board, Researcher, Participant];
    /// Measurements of the running server.
    ReadMetrics "read_metrics" [Operator];
    /// See which witnesses cosign the ledger.
    ReadWitnesses "read_witnesses" [Operator, Board];
    /// Change the key that signs the ledger.
    ChangeLogKey "change_log_key" [Operator];
    /// Make, list and end tokens.
    ManageTokens "manage_tokens" [Operator];
    /// Register contributors.
    RegisterContributors "register_contributors" [Operator];
    /// See who contributes.
    ReadContributors "read_contributors" [Operator, Contributor, Board, Researcher, Participant];
    /// Change a contributor's name, linkage and class size.
    ChangeContributors "change_contributors" [Operator, Contributor];
    /// Publish a contributor's contract.
    PublishContract "publish_contract" [Operator, Contributor];
    /// Send exports.
    PushExports "push_exports" [Operator, Contributor];
    /// Follow and end long work of one's own.
    FollowJobs "follow_jobs" [Operator, Contributor, Board, Researcher];
    /// Take in a folder of the server's own machine.
    IngestLocally "ingest_locally" [Operator];
    /// See which datasets there are.
    ReadDatasets "read_datasets" [Operator, Contributor, Board, Researcher];
    /// See a dataset's reports.
    ReadReports "read_reports" [Operator, Contributor];
    /// Load vocabularies.
    LoadVocabularies "load_vocabularies" [Operator];
    /// See which vocabulary is loaded.
    ReadVocabularies "read_vocabularies" [Operator, Contributor, Board, Researcher];
    /// Record consents and withdrawals that were given to the hospital.
    RecordConsents "record_consents" [Operator, Contributor];
    /// Destroy what is kept of patients.
    ErasePatients "erase_patients" [Operator, Contributor];
    /// Invite patients.
    InvitePatients "invite_patients" [Operator, Contributor];
    /// One's own choices, uses and receipts.
    DecideForOneself "decide_for_oneself" [Participant];
    /// Record the ground on which releases rest.
    RecordLegalBases "record_legal_bases" [Operator, Contributor];
    /// See legal bases.
    ReadLegalBases "read_legal_bases" [Operator, Contributor, Board];
    /// Make projects.
    CreateProjects "create_projects" [Operator];
    /// See projects.
    ReadProjects "read_projects" [Operator, Contributor, Board, Researcher];
    /// Ask for data.
    SubmitRequests "submit_requests" [Operator, Researcher];
    /// See requests.
    ReadRequests "read_requests" [Operator, Contributor, Board, Researcher];
    /// Decide on requests.
    DecideRequests "decide_requests" [Board];
    /// Sign the terms of a request.
    SignTerms "sign_terms" [Researcher];
    /// Count cohorts.
    CountCohorts "count_cohorts" [Operator, Researcher];
    /// See which counts were answered.
    ReadCounts "read_counts" [Operator, Contributor, Board, Researcher];
    /// See what was done with people's data.
    ReadUses "read_uses" [Operator, Contributor, Board, Researcher];
    /// See the register of processing activities.
    ReadProcessing "read_processing" [Operator, Contributor, Board];
    /// Follow the ledger as it grows.
    FollowLedger "follow_ledger" [Operator, Contributor, Board, Researcher];
    /// Build releases.
    BuildReleases "build_releases" [Operator, Researcher];
    /// See releases.
    ReadReleases "read_releases" [Operator, Contributor, Board, Researcher];
    /// Download releases.
    DownloadReleases "download_releases" [Researcher];
    /// See whose rows of a release are to be destroyed.
    ReadRecalls "read_recalls" [Board, Researcher];
    /// Download the pack that proves every person's permission.
    ReadEvidence "read_evidence" [Board];
    /// Have the payloads opened by which every decision can be made again.
    AuditDecisions "audit_decisions" [Board];
}
