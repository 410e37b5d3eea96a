//! Consents and withdrawals that were given to a hospital, and invitations.

use almoner_model::{Date, Digest, SourcePatientId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::consent::{Coverage, Directive, Provision, Signed, Source, Status};
use crate::flows::consent::{NewConsent, Whose};
use crate::web::api::ledger::proof_of;
use crate::web::error::Problem;
use crate::web::schema::{CalendarDate, Sha256Hex};

pub mod batch;
pub mod import;
pub mod record;

/// A consent to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentBody {
    /// The patient's record number at the hospital, or `Patient/<id>`.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub record_number: SourcePatientId,
    /// Which document it is a version of: of the versions of one document the one signed last governs.
    #[schema(min_length = 1, max_length = 100, examples("broad-consent"))]
    pub document: String,
    /// The day it was signed.
    #[schema(value_type = CalendarDate)]
    pub signed: Date,
    /// SHA-256 of the scan.
    #[schema(value_type = Option<Sha256Hex>)]
    pub evidence: Option<Digest>,
    /// `contributor`: this hospital's data. What opens another hospital's is said through that one.
    #[serde(default)]
    #[schema(value_type = Option<Covers>)]
    pub covers: Coverage,
    /// What it permits and denies: see docs/consent.md. For example
    /// `{"effect": "permit", "purposes": ["DUO:0000006"]}`.
    #[schema(value_type = Object)]
    pub rules: Provision,
    /// The withdrawal that this act lifts by naming its ledger entry.
    pub lifts: Option<u64>,
}

/// Whose data a permission covers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// The data of the hospital through which it was given.
    Contributor,
    /// The data of every hospital.
    Exchange,
}

/// Where something stands in the ledger.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Recorded {
    /// Its entry. A withdrawal is later lifted by this number.
    pub seq: u64,
    /// Where its receipt is read: the proof (C2SP tlog-proof) that the entry is in the ledger.
    pub receipt: String,
}

impl Recorded {
    /// The answer to an act that stands at `seq`.
    pub(in crate::web::api) fn at(seq: u64) -> Self {
        Self { seq, receipt: proof_of(seq) }
    }
}

/// Refuses a permission for other hospitals' data: nobody proved to this one that they are the others' patient.
pub(in crate::web::api) fn only_its_own(covers: Coverage) -> Result<(), Problem> {
    match covers {
        Coverage::Contributor => Ok(()),
        Coverage::Exchange => Err(Problem::unacceptable(
            "A consent given through one hospital opens that hospital's data; give it through the others too.",
        )
        .at("/covers")),
    }
}

impl ConsentBody {
    fn consent(self) -> Result<NewConsent, Problem> {
        if self.document.trim().is_empty() || self.document.len() > 100 {
            return Err(Problem::unacceptable("Name the document, in at most 100 bytes.").at("/document"));
        }
        only_its_own(self.covers)?;
        Ok(NewConsent {
            whose: Whose::Record(self.record_number),
            directive: Directive {
                source: Source::Form,
                lineage: format!("form:{}", self.document),
                signed: Signed::on(self.signed),
                status: Status::Active,
                covers: self.covers,
                form: None,
                evidence: self.evidence,
                rules: self.rules,
            },
            lifts: self.lifts,
        })
    }
}

/// What a flow reported, as an object.
fn report<T: Serialize>(summary: &T) -> Result<Value, Problem> {
    serde_json::to_value(summary).map_err(Problem::fault)
}
