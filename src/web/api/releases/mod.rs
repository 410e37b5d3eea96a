//! Releases: built from an approved request, downloaded by their recipient, proved to boards.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::flows::request;
use crate::state::{read, records};
use crate::web::api::ledger::proof_of;
use crate::web::auth::{Principal, Role};
use crate::web::error::Problem;
use crate::web::schema::{Instant, Sha256Hex, Slug};

pub mod build;
pub mod download;
pub mod downloads;
pub mod evidence;
pub mod gate;
pub mod list;
pub mod manifest;
pub mod recalls;
#[path = "read.rs"]
pub mod show;

/// A release.
#[derive(Debug, Serialize, ToSchema)]
pub struct Release {
    /// Its id.
    #[schema(value_type = Slug)]
    pub id: String,
    /// From which request.
    #[schema(value_type = Slug)]
    pub request: String,
    /// For which project.
    #[schema(value_type = Slug)]
    pub project: String,
    /// Who receives.
    #[schema(value_type = Slug)]
    pub recipient: String,
    /// Dataset versions that were read.
    #[schema(value_type = Object)]
    pub datasets: Value,
    /// SHA-256 of the package's manifest.
    #[schema(value_type = Sha256Hex)]
    pub manifest: String,
    /// Root over the salted members.
    #[schema(value_type = Sha256Hex)]
    pub members_root: String,
    /// People in it.
    pub persons: u64,
    /// Rows by table.
    #[schema(value_type = Object)]
    pub tables: Value,
    /// Class size that was required.
    pub k_required: u32,
    /// Class size that was reached.
    pub k_reached: u32,
    /// When it was built.
    #[schema(value_type = Instant)]
    pub built: String,
    /// Its entry in the ledger.
    pub seq: u64,
    /// Where its receipt is read: the proof (C2SP tlog-proof) that the entry is in the ledger.
    pub receipt: String,
    /// Each time that a person in it was erased and it was written anew without them. Whoever has it from before destroys it
    /// and downloads it again.
    pub erasures: Vec<ErasedSince>,
}

/// That a person in a release was erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasedSince {
    /// When.
    #[schema(value_type = Instant)]
    pub time: String,
    /// Its entry in the ledger.
    pub seq: u64,
}

impl Release {
    fn of(app: &App, r: records::Release) -> Result<Self, Problem> {
        let state = app.access().state();
        let manifest = read::release_manifest(&state, &r)?;
        let rewrites = read::release_rewrites(&state, &r.body.release)?.unwrap_or_default();
        let since = |time: &records::Logged<_>| ErasedSince {
            time: time.origin.time.to_string(),
            seq: time.origin.seq,
        };
        Ok(Self {
            erasures: rewrites.times.iter().map(since).collect(),
            id: r.body.release.to_string(),
            request: r.body.request.to_string(),
            project: r.body.project.to_string(),
            recipient: r.body.recipient.to_string(),
            datasets: serde_json::to_value(&r.body.datasets).map_err(Problem::fault)?,
            manifest: manifest.to_string(),
            members_root: r.body.members_root.to_string(),
            persons: r.body.persons,
            tables: serde_json::to_value(&r.body.tables).map_err(Problem::fault)?,
            k_required: r.body.k[0],
            k_reached: r.body.k[1],
            built: r.origin.time.to_string(),
            seq: r.origin.seq,
            receipt: proof_of(r.origin.seq),
        })
    }
}

/// Researchers see their projects' releases; contributors and boards those from requests that touch their data.
fn may_see(app: &App, caller: &Principal, release: &records::Release) -> Result<bool, Problem> {
    if caller.role == Role::Researcher {
        return Ok(caller.covers_project(&release.body.project));
    }
    let request = read::request(&app.access().state(), &release.body.request)?;
    Ok(request.is_some_and(|r| super::requests::may_see(caller, &r)))
}

/// The release, if the caller may see it.
fn find(app: &App, caller: &Principal, id: &almoner_model::ReleaseId) -> Result<records::Release, Problem> {
    let release = read::release(&app.access().state(), id)?.ok_or_else(Problem::not_found)?;
    if may_see(app, caller, &release)? { Ok(release) } else { Err(Problem::not_found()) }
}

/// Refuses whoever may not see what concerns the people of every hospital in the release.
fn covers_all(app: &App, caller: &Principal, release: &records::Release) -> Result<(), Problem> {
    let request = request::show(&app.access(), &release.body.request)?;
    if request.contributors.iter().all(|c| caller.covers_contributor(c)) {
        return Ok(());
    }
    Err(Problem::denied("This tells of patients of contributors that your token is not for."))
}
