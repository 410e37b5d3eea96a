//! `POST /v1/legal-bases`

use actix_web::{post, web};
use almoner_model::{ContributorId, Date, Digest, ProjectId, RecipientId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LegalBasis;
use crate::events::LegalBasisRecorded;
use crate::flows::decide;
use crate::state::read;
use crate::web::schema::{CalendarDate, Slug};

use crate::app::App;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::RecordLegalBases;
use crate::web::error::Problem;
use crate::web::extract::Body;

/// Kinds of legal bases.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BasisKind {
    /// 45 CFR 164.514(b)(2).
    SafeHarborAttestation,
    /// 45 CFR 164.514(b)(1).
    ExpertDetermination,
    /// 45 CFR 164.514(e).
    DataUseAgreement,
}

impl BasisKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SafeHarborAttestation => "safe_harbor_attestation",
            Self::ExpertDetermination => "expert_determination",
            Self::DataUseAgreement => "data_use_agreement",
        }
    }
}

/// A legal basis to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLegalBasis {
    /// Its id.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    pub id: String,
    /// Whose data. May be left out where the token is for one contributor.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// What it is.
    pub kind: BasisKind,
    /// The profile it covers.
    #[schema(examples("date-shifted"))]
    pub profile: String,
    /// The only recipient it covers; needed for an agreement.
    #[schema(value_type = Option<Slug>)]
    pub recipient: Option<RecipientId>,
    /// The only project it covers.
    #[schema(value_type = Option<Slug>)]
    pub project: Option<ProjectId>,
    /// Who determined or attested.
    #[schema(min_length = 1, max_length = 500)]
    pub by: String,
    /// How: an expert's method, or the words of an attestation.
    #[schema(min_length = 1, max_length = 5000)]
    pub method: String,
    /// What it covers.
    #[schema(min_length = 1, max_length = 5000)]
    pub scope: String,
    /// The document itself, as text or base64. It is kept by its SHA-256.
    #[schema(min_length = 1)]
    pub document: String,
    /// Last day in force; needed but for an attestation.
    #[schema(value_type = Option<CalendarDate>)]
    pub expires: Option<Date>,
    /// For an attestation: no actual knowledge that what remains could identify.
    #[serde(default)]
    pub no_actual_knowledge: bool,
}

/// Records the ground on which a contributor's data may be released: a Safe Harbor attestation including no actual knowledge
/// (45 CFR 164.514(b)(2)), an expert determination (164.514(b)(1)), or a data use agreement (164.514(e)).
#[utoipa::path(
    tag = "legal-bases",
    operation_id = "record_legal_basis",
    security(("token" = ["record_legal_bases"])),
    params(IdempotencyHeader),
    request_body = NewLegalBasis,
    responses((status = 201, body = LegalBasis))
)]
#[post("/v1/legal-bases")]
pub async fn record(
    caller: Caller<RecordLegalBases>,
    app: web::Data<App>,
    body: Body<NewLegalBasis>,
) -> Result<Created<LegalBasis>, Problem> {
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    let act = caller.act(&app);
    let kind = body.kind.as_str().to_owned();
    let recorded = blocking(&app, move |app| {
        let id = body.id.clone();
        let basis = LegalBasisRecorded {
            id: body.id,
            contributor,
            kind,
            profile: body.profile,
            recipient: body.recipient,
            project: body.project,
            by: body.by,
            method: body.method,
            scope: body.scope,
            document: Digest::of(&body.document),
            expires: body.expires,
            no_actual_knowledge: body.no_actual_knowledge,
        };
        decide::record_legal_basis(&app.access(), &act, basis, body.document.as_bytes())?;
        let made = read::legal_basis(&app.access().state(), &id)?;
        made.ok_or_else(|| Problem::fault("a legal basis is gone")).map(|made| LegalBasis::of(made, None))
    });
    Ok(Created(recorded.await?))
}
