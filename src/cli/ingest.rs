//! `almoner ingest`: takes in an export from a local folder.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use almoner_model::{ContributorId, DatasetId};

use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals};
use crate::dataset::Mode;
use crate::flows::Act;
use crate::flows::ingest::{self, IngestError, IngestRequest, Source, Told};

/// Arguments.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// The export: FHIR R4 bulk NDJSON (deletions in its folder `deleted`), or OMOP tables as CSV or Parquet
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
    #[command(flatten)]
    pub told: ToldArgs,
}

/// What is said of an export that it cannot say itself.
#[derive(Clone, Copy, Debug, Args)]
pub struct ToldArgs {
    /// Equal Patient.ids (FHIR) and person_ids (OMOP) of the contributor are the same person: said when the second form of
    /// its data first comes
    #[arg(long)]
    pub same_person_ids: bool,
    /// Publish a whole export although a file of it cannot be read to its end; what followed is missing
    #[arg(long)]
    pub accept_incomplete: bool,
    /// Let a whole export replace a version of which it has less than half of the people
    #[arg(long)]
    pub replace_all: bool,
}

impl From<ToldArgs> for Told {
    fn from(args: ToldArgs) -> Self {
        let ToldArgs { same_person_ids, accept_incomplete, replace_all } = args;
        Self { same_person_ids, accept_incomplete, replace_all }
    }
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
                "same_person_ids": args.told.same_person_ids, "accept_incomplete": args.told.accept_incomplete,
                "replace_all": args.told.replace_all,
            });
            let job = server.call("POST", "/v1/ingests", Some(&body))?;
            let summary = server.follow(&job, &*progress)?;
            drop(progress);
            return output.result(&summary, human);
        }
    };
    let request = IngestRequest {
        source: Source::Path(args.dir),
        contributor: args.contributor,
        dataset: args.dataset,
        profile: args.profile.unwrap_or_else(|| app.config.ingest.profile.clone()),
        mode: if args.incremental { Mode::Incremental } else { Mode::Full },
        linkage: args.linkage,
        told: args.told.into(),
        act: Act::operator(&*app.entropy),
    };
    let summary = app.with_ingest(|ctx| ingest::run(ctx, request, &*progress)).map_err(|e| failed(&e))?;
    drop(progress);
    output.result(&serde_json::to_value(&summary).map_err(std::io::Error::other)?, human)
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

/// What people read of an [`crate::flows::ingest::IngestSummary`], made here or by a server. Writing to a string does not
/// fail.
pub(super) fn human(summary: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let counts = |value: &Value| -> Vec<(String, u64)> {
        value.as_object().into_iter().flatten().map(|(name, n)| (name.clone(), number(n))).collect()
    };
    let (dataset, version) = (word(&summary["dataset"]), &summary["version"]);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{dataset} version {version} ({}): {} people in {:.1} s\n",
        word(&summary["profile"]),
        summary["persons"],
        summary["seconds"].as_f64().unwrap_or_default()
    );
    let tables = counts(&summary["tables"]);
    let width = tables.iter().map(|(table, _)| table.len()).chain([24]).max().unwrap_or(24);
    for (table, rows) in &tables {
        let _ = writeln!(text, "  {table:width$} {rows:>12}");
    }
    text.push('\n');
    let fates = [
        ("lines read", "read", ""),
        ("mapped", "mapped", ""),
        ("unmapped", "unmapped", "reasons"),
        ("quarantined", "quarantined", "rules"),
    ];
    for (name, key, why) in fates {
        let _ = writeln!(text, "  {name:width$} {:>12}", number(&summary["lines"][key]));
        for (word, n) in counts(&summary[why]) {
            let _ = writeln!(text, "    {word:inner$} {n:>12}", inner = width - 2);
        }
    }
    notes(&mut text, summary);
    let _ = writeln!(
        text,
        "\nPublished by ledger entry {}. The de-identification report lies in datasets/{dataset}/v{version}/reports.",
        summary["ledger_seq"]
    );
    text
}

/// What somebody should look into.
fn notes(text: &mut String, summary: &Value) {
    for file in summary["stopped"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "\n  File {} ({}) was not read to its end ({}): {} lines came before, what followed is missing.\n  \
             `almoner inspect DIR --files` names it.",
            file["file"],
            file["kind"].as_str().unwrap_or_default(),
            file["rule"].as_str().unwrap_or_default(),
            file["lines"]
        );
    }
    let strangers: Vec<String> =
        summary["strangers"].as_object().into_iter().flatten().map(|(r, n)| format!("{n} {r}")).collect();
    if !strangers.is_empty() {
        let _ = writeln!(text, "\n  left alone: {}", strangers.join(", "));
    }
    let ambiguous = summary["record_numbers_ambiguous"].as_u64().unwrap_or_default();
    if ambiguous > 0 {
        let _ = writeln!(
            text,
            "\n  {ambiguous} record numbers are more than one patient's, or another's id: consents name them by \
             Patient/<id>"
        );
    }
    let consents = &summary["consents"];
    if consents["found"].as_u64().unwrap_or_default() > 0 {
        let taken = |key: &str| consents[key].as_u64().unwrap_or_default();
        let recorded = taken("recorded") + taken("already");
        let _ = writeln!(text, "\n  consents: {} found, {recorded} recorded", consents["found"]);
    }
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
