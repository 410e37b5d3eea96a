//! `POST /v1/uploads`

use actix_web::{HttpRequest, post, web};
use almoner_deid::Profile;
use almoner_model::{ContributorId, DatasetId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{File, KeyHeader, Upload, key, view};
use crate::app::App;
use crate::flows::uploads::NewUpload;
use crate::web::answer::{Created, IdempotencyHeader, blocking};
use crate::web::auth::Caller;
use crate::web::auth::roles::PushExports;
use crate::web::error::Problem;
use crate::web::extract::Body;
use crate::web::schema::Slug;

/// An upload to be declared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUploadBody {
    /// Whose data. May be left out where the token is for one contributor.
    #[schema(value_type = Option<Slug>)]
    pub contributor: Option<ContributorId>,
    /// For which dataset; the contributor's id where left out.
    #[schema(value_type = Option<Slug>)]
    pub dataset: Option<DatasetId>,
    /// De-identification profile; the server's where left out.
    #[schema(max_length = 64)]
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything.
    #[serde(default)]
    pub incremental: bool,
    /// The files, in the order of their ordinals.
    #[schema(min_items = 1)]
    pub files: Vec<File>,
}

/// Declares an upload: which files will come.
#[utoipa::path(
    tag = "uploads",
    operation_id = "create_upload",
    security(("token" = ["push_exports"])),
    params(IdempotencyHeader, KeyHeader),
    request_body = NewUploadBody,
    responses((status = 201, body = Upload))
)]
#[post("/v1/uploads")]
pub async fn create(
    caller: Caller<PushExports>,
    request: HttpRequest,
    app: web::Data<App>,
    body: Body<NewUploadBody>,
) -> Result<Created<Upload>, Problem> {
    let key = key(&request)?;
    let body = body.into_inner();
    let contributor = caller.contributor(body.contributor)?;
    if body.profile.as_ref().is_some_and(|p| Profile::named(p, &app.tables).is_err()) {
        return Err(Problem::unacceptable("There is no such profile.").at("/profile"));
    }
    let new = NewUpload {
        contributor,
        dataset: body.dataset,
        profile: body.profile,
        incremental: body.incremental,
        files: body.files.into_iter().map(Into::into).collect(),
        owner: caller.id.clone(),
    };
    let act = caller.act(&app);
    let upload = blocking(&app, move |app| {
        let record = app.uploads().declare(new, &key, &act)?;
        view(app, &record)
    });
    Ok(Created(upload.await?))
}
