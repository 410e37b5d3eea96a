//! Withdrawals that a hospital records for its patients, and what every withdrawal is answered with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::consent::WithdrawalMode;
use crate::flows::withdraw::Receipt;
use crate::web::schema::{Instant, Slug};

pub mod record;

/// How far a withdrawal goes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Do not contact me again.
    NoContact,
    /// Nothing newer than today.
    NoFurtherAccess,
    /// No further use of anything.
    NoFurtherUse,
    /// No further use, and recipients are asked to destroy what they have.
    Recall,
}

impl From<Mode> for WithdrawalMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::NoContact => Self::NoContact,
            Mode::NoFurtherAccess => Self::NoFurtherAccess,
            Mode::NoFurtherUse => Self::NoFurtherUse,
            Mode::Recall => Self::Recall,
        }
    }
}

/// A signed receipt, which can be checked offline with `almoner-verify`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptView {
    /// How far it goes: `no_contact`, `no_further_access`, `no_further_use` or `recall`.
    pub mode: String,
    /// What that means, in words.
    pub meaning: String,
    /// The hospitals whose data it covers.
    pub hospitals: Vec<HospitalView>,
    /// The entry in the ledger; a later consent lifts the withdrawal only by naming it.
    pub seq: u64,
    /// The day of the entry.
    #[schema(value_type = Instant)]
    pub time: String,
    /// The entry's leaf, exactly as it stands in the ledger.
    pub entry: String,
    /// Its proof (C2SP tlog-proof) under a signed checkpoint.
    pub proof: String,
    /// The key that it is checked with.
    pub vkey: String,
    /// Whether the checkpoint in `proof` has its quorum of witnesses: `reached`, or `missing`, since a withdrawal counts at once
    /// and waits for nobody; then `GET /v1/ledger/entries/{seq}/proof` has it a moment later. Absent where no witness is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub quorum: Option<&'static str>,
}

/// A hospital on a receipt.
#[derive(Debug, Serialize, ToSchema)]
pub struct HospitalView {
    /// Its id.
    #[schema(value_type = Slug)]
    pub contributor: String,
    /// Its name.
    pub name: String,
}

impl ReceiptView {
    /// A receipt as it is answered.
    pub fn of(app: &App, r: Receipt) -> Self {
        let reached = app.cosigner().map(|cosigner| cosigner.reached_in(r.proof.as_bytes()));
        let hospital = |h: crate::flows::withdraw::Hospital| HospitalView {
            contributor: h.contributor.to_string(),
            name: h.name,
        };
        Self {
            mode: r.mode.as_str().into(),
            meaning: r.meaning.into(),
            hospitals: r.hospitals.into_iter().map(hospital).collect(),
            seq: r.seq,
            time: r.time.to_string(),
            entry: r.entry,
            proof: r.proof,
            vkey: r.vkey,
            quorum: reached.map(|reached| if reached { "reached" } else { "missing" }),
        }
    }
}
