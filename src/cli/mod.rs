//! The command line: one file per command, each with its arguments and a `run` that makes one flow call and says the
//! result.
//!
//! With `--json` a command writes exactly one JSON object on standard output, its result or `{"error": …}`; otherwise text
//! for people. Progress and the sentence of an error go to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong
//! usage.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::app::restore::RestoreError;
use crate::app::{App, Folder, OpenError};
use crate::config::{Config, ConfigError};
use crate::error::ErrorKind;
use crate::system::{SystemClock, SystemEntropy};

pub mod backup;
pub mod consent;
pub mod contributor;
pub mod count;
pub mod demo;
pub mod erase;
pub mod ingest;
pub mod init;
pub mod inspect;
pub mod key;
pub mod ledger;
pub mod mirror;
pub mod output;
pub mod owner;
pub mod push;
pub mod restore;
pub mod schema;
pub mod serve;
pub mod synth;
pub mod tls;
pub mod token;
pub mod uses;
pub mod verify;
pub mod vocabulary;
pub mod witness;

pub use output::{Bars, Output};

/// Give hospital data to research under patients' consent, and prove it afterwards.
#[derive(Debug, Parser)]
#[command(name = "almoner", version, propagate_version = true)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub globals: Globals,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

/// The data folder where none is named.
pub const DEFAULT_DATA: &str = "./almoner-data";

/// What applies to every command.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// The data folder
    #[arg(long, global = true, env = "ALMONER_DATA", default_value = DEFAULT_DATA, value_name = "DIR")]
    pub data: PathBuf,
    /// Configuration file [default: config.toml in the data folder, where there is one]
    #[arg(long, global = true, env = "ALMONER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Root key file [default: the data folder's path with .key appended]
    #[arg(long, global = true, value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// Write one JSON object to standard output instead of text: the result, or {"error": {"kind", "detail", "details"}}, of
    /// which the sentence also goes to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Whether a result is on standard output.
    #[arg(skip)]
    told: Arc<AtomicBool>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the whole line work on two synthetic hospitals
    Demo(demo::DemoArgs),
    /// Make a data folder, its root key and the first operator token
    Init(init::InitArgs),
    /// Serve the HTTP interface
    Serve(serve::ServeArgs),
    /// Take in an export from a local folder
    Ingest(ingest::IngestArgs),
    /// Send an export to a server
    Push(push::PushArgs),
    /// Make, list and end API tokens
    Token(token::TokenArgs),
    /// Register and list contributors, and publish their contracts
    Contributor(contributor::ContributorArgs),
    /// Load OMOP vocabularies
    Vocabulary(vocabulary::VocabularyArgs),
    /// Record consents and withdrawals
    Consent(consent::ConsentArgs),
    /// Destroy what is kept of patients; it cannot be undone
    Erase(erase::EraseArgs),
    /// Count a cohort
    Count(count::CountArgs),
    /// Show what was done with people's data, and the register of processing activities
    Uses(uses::UsesArgs),
    /// Check ledger, datasets and releases against each other
    Verify(verify::VerifyArgs),
    /// Change or list the keys that sign the ledger
    Key(key::KeyArgs),
    /// Work with the ledger
    Ledger(ledger::LedgerArgs),
    /// Keep a verified copy of a ledger of others
    Mirror(mirror::MirrorArgs),
    /// Watch ledgers of others and cosign what only adds to them
    Witness(witness::WitnessArgs),
    /// Copy the data folder, also while a server works on it
    Backup(backup::BackupArgs),
    /// Put a data folder back from a backup, if nothing was rolled back
    Restore(restore::RestoreArgs),
    /// Make synthetic exports
    Synth(synth::SynthArgs),
    /// Say what an export or a file is
    Inspect(inspect::InspectArgs),
    /// Print a machine-readable description of an interface
    Schema(schema::SchemaArgs),
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command was not used as it should be: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It was refused, or failed: exit code 1.
    #[error("{message}")]
    Failed {
        /// Which of the five kinds.
        kind: ErrorKind,
        /// What to do. Never a patient's value.
        message: String,
        /// What was measured against required, or the counts and locators that go with it.
        details: Option<serde_json::Value>,
    },
}

impl CliError {
    /// As `--json` says it.
    fn object(&self) -> serde_json::Value {
        match self {
            Self::Usage(message) => json!({"error": {"kind": "usage", "detail": message, "details": null}}),
            Self::Failed { kind, message, details } => {
                json!({"error": {"kind": kind, "detail": message, "details": details}})
            }
        }
    }

    /// A failure of `kind`.
    pub fn failed(kind: ErrorKind, message: impl ToString) -> Self {
        Self::Failed { kind, message: message.to_string(), details: None }
    }
}

impl From<OpenError> for CliError {
    fn from(e: OpenError) -> Self {
        Self::failed(e.kind(), e)
    }
}

impl From<RestoreError> for CliError {
    fn from(e: RestoreError) -> Self {
        let details = match &e {
            RestoreError::Lacks { lacking, .. } => serde_json::to_value(lacking).ok(),
            _ => None,
        };
        Self::Failed { kind: e.kind(), message: e.to_string(), details }
    }
}

impl From<ConfigError> for CliError {
    fn from(e: ConfigError) -> Self {
        Self::Usage(e.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(e: std::io::Error) -> Self {
        Self::failed(ErrorKind::Fault, e)
    }
}

/// Reads a file that an argument names.
///
/// # Errors
/// Which file cannot be read, and why.
pub fn read_named(path: &Path) -> Result<Vec<u8>, CliError> {
    let kind = |e: &std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::Invalid,
        _ => ErrorKind::Fault,
    };
    std::fs::read(path)
        .map_err(|e| CliError::failed(kind(&e), format!("{} cannot be read: {e}", path.display())))
}

/// Reads a file of text that an argument names.
///
/// # Errors
/// As [`read_named`], or that it is not UTF-8.
pub fn read_named_text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(read_named(path)?)
        .map_err(|_| CliError::failed(ErrorKind::Invalid, format!("{} is not UTF-8 text", path.display())))
}

impl Globals {
    /// The data folder.
    pub fn folder(&self) -> Folder {
        Folder::at(&self.data)
    }

    /// The configuration, flags applied.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn config(&self) -> Result<Config, CliError> {
        self.config_or(&self.data.join("config.toml"))
    }

    /// As [`Globals::config`], with another file that counts where none is named.
    ///
    /// # Errors
    /// As [`Globals::config`].
    pub fn config_or(&self, other: &Path) -> Result<Config, CliError> {
        let file = self.config.clone().or_else(|| other.exists().then(|| other.to_owned()));
        let mut config = Config::load(file.as_deref())?;
        if let Some(key) = &self.root_key {
            config.root_key = Some(key.clone());
        }
        Ok(config)
    }

    /// Opens the data folder.
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn app(&self) -> Result<Arc<App>, CliError> {
        let app = App::open(self.folder(), self.config()?, Arc::new(SystemClock), Arc::new(SystemEntropy))?;
        Ok(Arc::new(app))
    }

    /// Opens the data folder, and makes it first where there is none.
    ///
    /// # Errors
    /// As [`App::init`] and [`App::open`].
    pub fn app_or_init(&self) -> Result<Arc<App>, CliError> {
        App::init(&self.folder(), &self.config()?, &SystemClock, &SystemEntropy)?;
        self.app()
    }

    /// Where results and progress go.
    pub fn output(&self) -> Output {
        Output::new(self.json, Arc::clone(&self.told))
    }
}

/// Runs the program: reads the command line, runs one command, says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|misuse| misused(&misuse));
    let output = cli.globals.output();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.failure(&error);
            ExitCode::from(if matches!(error, CliError::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// A command line that is none, or that asks for help or the version. What `--json` would have meant is honoured here too.
fn misused(misuse: &clap::Error) -> ! {
    if misuse.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let sentence = misuse.kind().as_str().unwrap_or("the command line is not one");
        let error = CliError::Usage(sentence.to_owned());
        let _ = Output::new(true, Arc::default()).document(&error.object());
    }
    misuse.exit()
}

fn run(cli: Cli) -> Result<(), CliError> {
    let globals = &cli.globals;
    match cli.command {
        Command::Demo(args) => demo::run(args, globals),
        Command::Init(args) => init::run(args, globals),
        Command::Serve(args) => serve::run(args, globals),
        Command::Ingest(args) => ingest::run(args, globals),
        Command::Push(args) => push::run(args, globals),
        Command::Token(args) => token::run(args, globals),
        Command::Contributor(args) => contributor::run(args, globals),
        Command::Vocabulary(args) => vocabulary::run(args, globals),
        Command::Consent(args) => consent::run(args, globals),
        Command::Erase(args) => erase::run(args, globals),
        Command::Count(args) => count::run(args, globals),
        Command::Uses(args) => uses::run(args, globals),
        Command::Verify(args) => verify::run(args, globals),
        Command::Key(args) => key::run(args, globals),
        Command::Ledger(args) => ledger::run(args, globals),
        Command::Witness(args) => witness::run(args, globals),
        Command::Mirror(args) => mirror::run(args, globals),
        Command::Backup(args) => backup::run(args, globals),
        Command::Restore(args) => restore::run(args, globals),
        Command::Synth(args) => synth::run(args, globals),
        Command::Inspect(args) => inspect::run(args, globals),
        Command::Schema(args) => schema::run(args, globals),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let absent = folder.path().join("cohort.json");
        let CliError::Failed { kind, message, .. } = read_named(&absent).expect_err("absent") else {
            panic!()
        };
        assert!(kind == ErrorKind::Invalid && message.contains("cohort.json cannot be read"), "{message}");
        let binary = folder.path().join("policy.cedar");
        std::fs::write(&binary, [0xff, 0xfe]).expect("written");
        let CliError::Failed { message, .. } = read_named_text(&binary).expect_err("binary") else {
            panic!()
        };
        assert!(message.contains("policy.cedar is not UTF-8 text"), "{message}");
    }
}
