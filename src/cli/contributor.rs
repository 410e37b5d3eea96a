//! `almoner contributor`: registers contributors and publishes their contracts.

use std::path::PathBuf;

use almoner_model::ContributorId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals, read_named_text};
use crate::events::ContributorRegistered;
use crate::flows::{Act, contributor};
use crate::state::records::{Contract, Contributor};

/// Arguments.
#[derive(Debug, Args)]
pub struct ContributorArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ContributorCommand,
}

/// What to do with contributors.
#[derive(Debug, Subcommand)]
pub enum ContributorCommand {
    /// Register a contributor
    Add {
        /// Its id
        #[arg(value_name = "ID")]
        id: ContributorId,
        /// Its name, for people
        #[arg(long)]
        name: String,
        /// Link its patients with those of other hospitals that also opted in
        #[arg(long)]
        linkage: bool,
        /// Smallest class size its data may be released in, above what the tier asks for
        #[arg(long, value_name = "K")]
        k_min: Option<u32>,
    },
    /// List contributors
    List,
    /// Publish its rules for its data, a Cedar policy
    Contract {
        /// The contributor
        #[arg(value_name = "ID")]
        id: ContributorId,
        /// The policy
        #[arg(value_name = "FILE.cedar")]
        file: PathBuf,
    },
}

/// Does it, here or in the server that owns the data folder.
///
/// # Errors
/// If the id is taken or unknown, the contract is not one, or the folder cannot be opened.
pub fn run(args: ContributorArgs, globals: &Globals) -> Result<(), CliError> {
    let owner = Owner::of(globals)?;
    let output = globals.output();
    match args.command {
        ContributorCommand::Add { id, name, linkage, k_min } => {
            let made = match &owner {
                Owner::Here(app) => {
                    let new = ContributorRegistered { contributor: id.clone(), name, linkage, k_min };
                    contributor::register(&app.access(), &Act::operator(&*app.entropy), new)?;
                    shown(contributor::show(&app.access(), &id)?)
                }
                Owner::There(server) => {
                    let new = json!({"id": id, "name": name, "linkage": linkage, "k_min": k_min});
                    server.call("POST", "/v1/contributors", Some(&new))?
                }
            };
            output.result(&made, |_| format!("{id} is registered"))
        }
        ContributorCommand::List => {
            let items = match &owner {
                Owner::Here(app) => {
                    let ctx = app.access();
                    let mut items = Vec::new();
                    for found in contributor::list(&ctx)? {
                        items.push(shown(contributor::show(&ctx, &found.body.contributor)?));
                    }
                    json!({"items": items})
                }
                Owner::There(server) => server.call("GET", "/v1/contributors", None)?,
            };
            output.result(&items, table)
        }
        ContributorCommand::Contract { id, file } => {
            let policy = read_named_text(&file)?;
            let made = match &owner {
                Owner::Here(app) => {
                    let act = Act::operator(&*app.entropy);
                    contributor::publish_contract(&app.access(), &act, &id, &policy, None)?;
                    shown(contributor::show(&app.access(), &id)?)
                }
                Owner::There(server) => {
                    let path = format!("/v1/contributors/{id}/contract");
                    server.call("PUT", &path, Some(&json!({"policy": policy})))?
                }
            };
            output.result(&made, |_| format!("the contract of {id} is in force"))
        }
    }
}

/// As the HTTP interface shows a contributor.
fn shown((record, contract): (Contributor, Option<Contract>)) -> Value {
    json!({
        "id": record.body.contributor, "name": record.body.name, "linkage": record.body.linkage,
        "k_min": record.body.k_min, "registered": record.origin.time,
        "contract": contract.map(|c| c.body.policy),
    })
}

fn table(items: &Value) -> String {
    let mut out = format!("{:<26}{:<9}{:<7}{}\n", "ID", "LINKAGE", "K_MIN", "NAME");
    for item in items["items"].as_array().into_iter().flatten() {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let linkage = if item["linkage"] == true { "yes" } else { "no" };
        let k = item["k_min"].as_u64().map_or_else(String::new, |k| k.to_string());
        out += &format!("{:<26}{linkage:<9}{k:<7}{}\n", text("id"), text("name"));
    }
    out
}
