//! `almoner push`: sends an export to a server.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

use almoner_model::{ContributorId, DatasetId};

use super::{CliError, Globals};
use crate::push::{self, Push, PushError, Server};

/// Arguments.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The export: FHIR R4 bulk NDJSON, or OMOP tables as CSV or Parquet
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The server, e.g. `https://almoner.example.org`
    #[arg(long, value_name = "URL", env = "ALMONER_SERVER")]
    pub server: String,
    /// An API token of the contributor
    #[arg(long, value_name = "TOKEN", env = "ALMONER_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Whose data it is [default: the contributor of the token]
    #[arg(long, value_name = "ID")]
    pub contributor: Option<ContributorId>,
    /// The dataset [default: the id of the contributor]
    #[arg(long, value_name = "ID")]
    pub dataset: Option<DatasetId>,
    /// De-identification profile [default: that of the server]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything
    #[arg(long)]
    pub incremental: bool,
    #[command(flatten)]
    pub told: super::ingest::ToldArgs,
    /// Where the key of an unfinished push is kept, so that the same command resumes it
    /// [default: $XDG_STATE_HOME/almoner or ~/.local/state/almoner]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Certificates to trust beside the usual ones, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl From<PushError> for CliError {
    fn from(e: PushError) -> Self {
        match e {
            PushError::Address(_) => Self::Usage(e.to_string()),
            PushError::Problem { kind, detail, measured, .. } => {
                Self::Failed { kind, message: detail, details: Some(measured).filter(|m| !m.is_null()) }
            }
            e => Self::failed(e.kind(), e),
        }
    }
}

/// Pushes, and waits until the dataset version is published.
///
/// # Errors
/// If it is not published; the same command goes on where this one stopped.
pub fn run(args: PushArgs, globals: &Globals) -> Result<(), CliError> {
    let server = Server::new(&args.server, &args.token, args.ca.as_deref())?;
    let push = Push {
        dir: args.dir,
        server,
        contributor: args.contributor,
        dataset: args.dataset,
        profile: args.profile,
        incremental: args.incremental,
        told: args.told.into(),
        patience: Duration::from_secs(120),
        state: args.state.or_else(default_state).ok_or_else(|| {
            CliError::Usage(
                "there is no home folder to keep the key of the push in: name one with --state".into(),
            )
        })?,
    };
    let output = globals.output();
    let progress = output.progress();
    let summary = push::push(&push, &*progress)?;
    drop(progress);
    output.result(&summary, super::ingest::human)
}

/// The XDG state folder of the account.
fn default_state() -> Option<PathBuf> {
    let (state, home) = crate::config::state_home();
    state.or_else(|| home.map(|h| h.join(".local/state"))).map(|base| base.join("almoner"))
}
