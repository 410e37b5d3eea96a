//! `almoner witness`: watches other people's ledgers and cosigns what only adds to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner_ledger::VerifierKey;
use almoner_ledger::witness::Logs;
use clap::{Args, Subcommand};
use serde_json::json;

use super::serve::start_log;
use super::tls::TlsArgs;
use super::{CliError, Globals, read_named_text};
use crate::error::ErrorKind;
use crate::flows::witness::{Witness, WitnessError};
use crate::system::{SystemClock, SystemEntropy};
use crate::web::witness::serve;

/// Arguments.
#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WitnessCommand,
}

/// What to do with a witness.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    /// Make a witness: its key, and a folder for what it cosigns
    Init {
        /// The folder to make
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Its name for ever, best a URL without https:// such as witness.example.org/w1
        #[arg(long)]
        name: String,
    },
    /// Run a witness
    Run(RunArgs),
}

/// Arguments of `witness run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The folder that `witness init` made
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// A log to cosign: its verifier key line, or a file of such lines or of a tlog-policy; may be repeated
    #[arg(long = "log", value_name = "VKEY|FILE", required = true)]
    pub logs: Vec<String>,
    /// IP address and port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8220")]
    pub listen: std::net::SocketAddr,
    /// How it is reached.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl From<WitnessError> for CliError {
    fn from(e: WitnessError) -> Self {
        Self::failed(e.kind(), e)
    }
}

/// Does it.
///
/// # Errors
/// If the folder cannot be made or opened, a log is not named rightly, or the address cannot be used.
pub fn run(args: WitnessArgs, globals: &Globals) -> Result<(), CliError> {
    match args.command {
        WitnessCommand::Init { dir, name } => init(&dir, &name, globals),
        WitnessCommand::Run(args) => watch(args, globals),
    }
}

fn init(dir: &Path, name: &str, globals: &Globals) -> Result<(), CliError> {
    let vkey = Witness::init(dir, name, &SystemEntropy)?;
    let value = json!({"folder": dir, "name": name, "vkey": vkey});
    globals.output().result(&value, |_| {
        format!(
            "Made the witness {name} in {}\nIts key is {vkey}\nGive that line to those who run or read the logs that it \
             will cosign. Never run a copy of the folder, and never an older one.",
            dir.display()
        )
    })
}

fn watch(args: RunArgs, globals: &Globals) -> Result<(), CliError> {
    let mut config = match &globals.config {
        Some(_) => globals.config()?,
        // The data folder's own configuration is a server's.
        None => crate::config::Config::load(None)?,
    };
    config.http.listen = args.listen;
    args.tls.over(&mut config.http);
    config.check()?;
    start_log(&config.log)?;
    let keys = args.logs.iter().map(|given| log_keys(given)).collect::<Result<Vec<_>, _>>()?;
    let logs = Logs::new(keys.into_iter().flatten());
    let origins: Vec<String> = logs.origins().map(str::to_owned).collect();
    let witness = Arc::new(Witness::open(&args.dir, logs, Arc::new(SystemClock))?);
    let vkey = witness.vkey().to_owned();
    let serving = serve(witness, &config.http, true)?;
    let url = serving.url.clone();
    globals.output().result(&json!({"url": url, "vkey": vkey, "logs": origins}), |_| {
        format!("Witness at {url}\n  key   {vkey}\n  logs  {}", origins.join("\n        "))
    })?;
    Ok(serving.wait()?)
}

/// The keys that a `--log` names.
fn log_keys(given: &str) -> Result<Vec<VerifierKey>, CliError> {
    if let Ok(key) = VerifierKey::parse(given) {
        return Ok(vec![key]);
    }
    let text = read_named_text(Path::new(given))?;
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let vkey = match words.as_slice() {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            ["log", vkey, ..] | [vkey] => vkey,
            ["witness" | "group" | "quorum", ..] => continue,
            _ => "",
        };
        let key = VerifierKey::parse(vkey)
            .map_err(|e| CliError::failed(ErrorKind::Invalid, format!("{given}, line {}: {e}", at + 1)))?;
        keys.push(key);
    }
    Ok(keys)
}
