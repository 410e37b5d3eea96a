//! `almoner vocabulary`: loads OMOP vocabularies.

use clap::Args;
use std::path::PathBuf;

use almoner_model::DatasetId;
use clap::Subcommand;

use serde_json::json;

use super::owner::Owner;
use super::{CliError, Globals};
use crate::flows::Act;
use crate::flows::vocabulary;

/// Arguments.
#[derive(Debug, Args)]
pub struct VocabularyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: VocabularyCommand,
}

/// What to do with vocabularies.
#[derive(Debug, Subcommand)]
pub enum VocabularyCommand {
    /// Load a folder of Athena CSVs (CONCEPT.csv …) and SOURCE_TO_CONCEPT_MAP
    Load {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Map a dataset anew with the loaded vocabulary, into a new version
    Remap {
        /// The dataset
        #[arg(value_name = "DATASET")]
        dataset: DatasetId,
    },
}

/// Does it.
///
/// # Errors
/// If the tables cannot be read, or nothing was published.
pub fn run(args: VocabularyArgs, globals: &Globals) -> Result<(), CliError> {
    let (output, progress) = (globals.output(), globals.output().progress());
    let app = match Owner::of_new(globals)? {
        Owner::Here(app) => app,
        Owner::There(server) => {
            let job = match args.command {
                VocabularyCommand::Load { dir } => {
                    server.call("POST", "/v1/vocabularies", Some(&json!({"path": dir.canonicalize()?})))?
                }
                VocabularyCommand::Remap { dataset } => {
                    server.call("POST", &format!("/v1/datasets/{dataset}/remap"), None)?
                }
            };
            let done = server.follow(&job, &*progress)?;
            drop(progress);
            return output.result(&done, |d| format!("Done; ledger entry {}.", d["ledger_seq"]));
        }
    };
    match args.command {
        VocabularyCommand::Load { dir } => {
            let folder = app.folder.vocabulary();
            let act = Act::operator(&*app.entropy);
            let loaded = app.with_ingest(|ctx| vocabulary::load(&ctx, &dir, &folder, &act, &*progress))?;
            drop(progress);
            output.result(&loaded, |loaded| {
                let stats = &loaded.loaded.stats;
                format!(
                    "vocabulary {}: {} concepts, {} codes of known systems, {} maps, {} local codes, {} ancestor pairs\n\
                     Map a dataset anew with `almoner vocabulary remap DATASET`.",
                    stats.version, stats.concepts, stats.codes, stats.maps, stats.local, loaded.loaded.ancestors
                )
            })
        }
        VocabularyCommand::Remap { dataset } => {
            let act = Act::operator(&*app.entropy);
            let summary = app.with_ingest(|ctx| vocabulary::remap(ctx, &dataset, act, &*progress))?;
            drop(progress);
            output.result(&summary, |s| {
                format!(
                    "{} version {}: {} rows have a code, {} of them no known one",
                    s.dataset, s.version, s.concepts.coded, s.concepts.unknown
                )
            })
        }
    }
}
