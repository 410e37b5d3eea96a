//! `almoner key`: the keys that sign the ledger.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals};
use crate::flows::Act;
use crate::flows::handover::{self, OVERLAP_DAYS};
use crate::store::sqlite::SqliteStore;
use crate::system::{SystemClock, SystemEntropy};

/// Arguments.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Let a new key sign the ledger, and the old one beside it for a while
    Rotate {
        /// Days for which the old key signs too
        #[arg(long, value_name = "DAYS", default_value_t = OVERLAP_DAYS)]
        overlap_days: u32,
    },
    /// List the keys that the ledger has had, and which sign now
    Show,
}

/// Does it, here or in the server that owns the data folder.
///
/// # Errors
/// [`CliError`].
pub fn run(args: KeyArgs, globals: &Globals) -> Result<(), CliError> {
    match args.command {
        KeyCommand::Rotate { overlap_days } => {
            let done = match Owner::of(globals)? {
                Owner::Here(app) => {
                    let act = Act::operator(&*app.entropy);
                    let done = handover::rotate(&app.access(), &act, &app.signing_keys()?, overlap_days)?;
                    json!(done)
                }
                Owner::There(server) => {
                    server.call("POST", "/v1/ledger/keys", Some(&json!({"overlap_days": overlap_days})))?
                }
            };
            globals.output().result(&done, rotated)
        }
        KeyCommand::Show => {
            let (clock, entropy) = (std::sync::Arc::new(SystemClock), std::sync::Arc::new(SystemEntropy));
            let options = crate::app::ledger_options(&globals.folder(), &globals.config()?, clock, entropy)?;
            let now = options.clock.now();
            let keys = handover::keys(&SqliteStore::open_read_only(options)?, now)?;
            globals.output().result(&json!({"keys": keys}), shown)
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn rotated(done: &Value) -> String {
    format!(
        "from entry {} on the ledger is signed by\n\n    {}\n\nand until {} by the old key too:\n\n    {}\n\nTell readers, \
         mirrors and witnesses the new line, by another way than the ledger itself. Witnesses need it before the old key ends; \
         readers and mirrors follow by /ledger/handovers.",
        done["seq"],
        text(done, "new"),
        text(done, "until"),
        text(done, "old"),
    )
}

fn shown(keys: &Value) -> String {
    let line = |key: &Value| {
        let state = match (key["signs"] == true, key["until"].as_str()) {
            (true, Some(until)) => format!("signs until {until}"),
            (true, None) => "signs".to_owned(),
            (false, until) => format!("ended {}", until.unwrap_or_default()),
        };
        format!(
            "{:>3}  {}  ({state}; logs of {} entries and more)",
            key["epoch"],
            text(key, "vkey"),
            key["from"]
        )
    };
    keys["keys"].as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}
