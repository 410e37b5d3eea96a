//! `almoner ingest`: takes in an export from a local folder.

use std::path::PathBuf;

use clap::Args;

use almoner_model::{ContributorId, DatasetId};

use serde_json::json;

use super::owner::Owner;
use super::{CliError, Globals};
use crate::dataset::Mode;
use crate::flows::Act;
use crate::flows::ingest::{self, IngestError, IngestRequest, IngestSummary, Source};

/// Arguments.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// The export: FHIR R4 bulk NDJSON, or OMOP tables as CSV or Parquet
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Whose data it is; registered where unknown
    #[arg(long, value_name = "ID")]
    pub contributor: ContributorId,
    /// The dataset [default: the id of the contributor]
    #[arg(long, value_name = "ID")]
    pub dataset: Option<DatasetId>,
    /// De-identification profile [default: from the configuration]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Changes since the version before, instead of everything
    #[arg(long)]
    pub incremental: bool,
    /// When the contributor is new: link its patients with those of other hospitals that also opted in
    #[arg(long)]
    pub linkage: bool,
}

/// Takes the export in.
///
/// # Errors
/// If nothing was published; the same command can be given again.
pub fn run(args: IngestArgs, globals: &Globals) -> Result<(), CliError> {
    let (output, progress) = (globals.output(), globals.output().progress());
    let app = match Owner::of_new(globals)? {
        Owner::Here(app) => app,
        Owner::There(server) => {
            let body = json!({
                "path": args.dir.canonicalize()?, "contributor": args.contributor, "dataset": args.dataset,
                "profile": args.profile, "incremental": args.incremental, "linkage": args.linkage,
            });
            let job = server.call("POST", "/v1/ingests", Some(&body))?;
            let summary = server.follow(&job, &*progress)?;
            drop(progress);
            return output.result(&summary, |s| {
                format!(
                    "{} version {}: {} people; published by ledger entry {}",
                    s["dataset"].as_str().unwrap_or_default(),
                    s["version"],
                    s["persons"],
                    s["ledger_seq"]
                )
            });
        }
    };
    let request = IngestRequest {
        source: Source::Path(args.dir),
        contributor: args.contributor,
        dataset: args.dataset,
        profile: args.profile.unwrap_or_else(|| app.config.ingest.profile.clone()),
        mode: if args.incremental { Mode::Incremental } else { Mode::Full },
        linkage: args.linkage,
        act: Act::operator(&*app.entropy),
    };
    let summary = app.with_ingest(|ctx| ingest::run(ctx, request, &*progress)).map_err(|e| failed(&e))?;
    drop(progress);
    output.result(&summary, human)
}

// Every command that ingests, loads or remaps fails alike.
impl From<IngestError> for CliError {
    fn from(error: IngestError) -> Self {
        failed(&error)
    }
}

fn failed(error: &IngestError) -> CliError {
    CliError::failed(error.kind(), error)
}

/// What people read.
fn human(summary: &IngestSummary) -> String {
    let mut text = format!(
        "{} version {} ({}): {} people in {:.1} s\n\n",
        summary.dataset, summary.version, summary.profile, summary.persons, summary.seconds
    );
    let width = summary.tables.keys().map(String::len).chain([12]).max().unwrap_or(12);
    for (table, rows) in &summary.tables {
        text.push_str(&format!("  {table:width$} {rows:>12}\n"));
    }
    let lines = &summary.lines;
    text.push_str(&format!(
        "\n  {:width$} {:>12}\n  {:width$} {:>12}\n  {:width$} {:>12}\n  {:width$} {:>12}\n",
        "lines read",
        lines.read,
        "mapped",
        lines.mapped,
        "unmapped",
        lines.unmapped,
        "quarantined",
        lines.quarantined
    ));
    for (reason, n) in &summary.reasons {
        text.push_str(&format!("    {reason:inner$} {n:>12}\n", inner = width.saturating_sub(2)));
    }
    if summary.record_numbers_ambiguous > 0 {
        let n = summary.record_numbers_ambiguous;
        text.push_str(&format!(
            "\n  {n} record numbers are more than one patient's, or another's id; consents name them by Patient/<id>\n"
        ));
    }
    if summary.consents.found > 0 {
        let recorded = summary.consents.taken.as_ref().map_or(0, |taken| taken.recorded + taken.already);
        text.push_str(&format!("\n  consents: {} found, {recorded} recorded\n", summary.consents.found));
    }
    text.push_str(&format!(
        "\nPublished by ledger entry {}. The de-identification report lies in datasets/{}/v{}/reports.\n",
        summary.ledger_seq, summary.dataset, summary.version
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_export_that_cannot_be_read_is_invalid() {
        let error = IngestError::NotPossible("x".to_owned());
        assert!(matches!(failed(&error), CliError::Failed { kind: ErrorKind::Invalid, .. }));
    }
}
