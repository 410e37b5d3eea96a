//! `GET /v1/ledger/witnesses`

use actix_web::{get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::cosign::{Cosigner, Status, WitnessStatus};
use crate::web::auth::Caller;
use crate::web::auth::roles::ReadWitnesses;
use crate::web::error::Problem;
use crate::web::schema::Instant;

/// Who has cosigned the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct Witnesses {
    /// Whether witnesses are asked at all.
    pub asked: bool,
    /// Entries of the ledger.
    pub size: u64,
    /// Entries under the newest checkpoint with its quorum; absent if there never was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum_size: Option<u64>,
    /// When its last cosignature was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Instant>)]
    pub quorum_time: Option<String>,
    /// What the quorum needs, and who has cosigned the newest checkpoint that was before the witnesses.
    pub quorum: String,
    /// The witnesses, in the order of the policy.
    pub witnesses: Vec<Witness>,
    /// What is wrong.
    pub alarms: Vec<String>,
}

/// A witness of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct Witness {
    /// Its name in the policy.
    pub name: String,
    /// Its verifier key (C2SP signed-note, type 4).
    pub vkey: String,
    /// Where it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `cosigning`, `waiting` (not asked yet), `unreachable`, `refusing` (the log or its checkpoint), `unusable` (its answer),
    /// or `not-asked` (the policy gives no URL).
    pub state: &'static str,
    /// Why it does not cosign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Entries that it cosigned last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it did, by its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Instant>)]
    pub cosigned: Option<String>,
    /// Cosignatures since the server's start.
    pub cosignatures: u64,
    /// Answers that refused or could not be used, since the server's start.
    pub refusals: u64,
    /// Requests without an answer, since the server's start.
    pub failures: u64,
}

impl From<WitnessStatus> for Witness {
    fn from(status: WitnessStatus) -> Self {
        let [cosignatures, refusals, failures] = status.counts;
        Self {
            name: status.name,
            vkey: status.vkey,
            url: status.url,
            state: status.state,
            problem: status.problem,
            size: status.size,
            cosigned: status.cosigned.map(|time| time.to_string()),
            cosignatures,
            refusals,
            failures,
        }
    }
}

/// Which witnesses cosign the ledger, what each signed last and when, and whether the quorum is reached.
#[utoipa::path(
    tag = "ledger",
    operation_id = "read_witnesses",
    security(("token" = ["read_witnesses"])),
    responses((status = 200, body = Witnesses))
)]
#[get("/v1/ledger/witnesses")]
pub async fn witnesses(
    _caller: Caller<ReadWitnesses>,
    app: web::Data<App>,
) -> Result<web::Json<Witnesses>, Problem> {
    let Some(Status { size, quorum, words, witnesses, alarms }) = app.cosigner().map(Cosigner::status) else {
        return Ok(web::Json(Witnesses {
            asked: false,
            size: app.store.size(),
            quorum_size: None,
            quorum_time: None,
            quorum: "no witness is asked".into(),
            witnesses: Vec::new(),
            alarms: Vec::new(),
        }));
    };
    Ok(web::Json(Witnesses {
        asked: true,
        size,
        quorum_size: quorum.map(|(size, _)| size),
        quorum_time: quorum.map(|(_, time)| time.to_string()),
        quorum: words,
        witnesses: witnesses.into_iter().map(Witness::from).collect(),
        alarms,
    }))
}
