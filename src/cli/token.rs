//! `almoner token`: makes, lists and ends API tokens.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals};
use crate::flows::Act;
use crate::flows::tokens::{NewToken, TokenError, TokenRecord};

/// Arguments.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        /// operator, contributor, board or researcher
        #[arg(long)]
        role: String,
        /// The contributors (contributor, board) or projects (researcher) it is limited to
        #[arg(long = "for", value_name = "ID")]
        scope: Vec<String>,
        /// A name for people
        #[arg(long, default_value = "")]
        label: String,
        /// Days until it stops working
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
    },
    /// List tokens, without their secrets
    List,
    /// End a token
    Revoke {
        /// Its public id
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl From<TokenError> for CliError {
    fn from(e: TokenError) -> Self {
        Self::failed(e.kind(), e)
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(e: crate::store::StoreError) -> Self {
        Self::failed(e.kind(), e)
    }
}

/// Does it, here or in the server that owns the data folder.
///
/// # Errors
/// If the role, its limits or the id do not fit, or the folder cannot be opened.
pub fn run(args: TokenArgs, globals: &Globals) -> Result<(), CliError> {
    let owner = Owner::of(globals)?;
    let output = globals.output();
    match args.command {
        TokenCommand::Create { role, scope, label, days } => {
            let made = create(&owner, role, scope, label, days)?;
            output.result(&made, |v| {
                let id = v["info"]["id"].as_str().unwrap_or_default();
                format!(
                    "{}\n\nThis is shown once. Its public id is {id}.",
                    v["token"].as_str().unwrap_or_default()
                )
            })
        }
        TokenCommand::List => {
            let items = list(&owner)?;
            output.result(&json!({"items": items}), |_| table(&items))
        }
        TokenCommand::Revoke { id } => {
            let ended = match &owner {
                Owner::Here(app) => view(&app.tokens().revoke(&id, Act::operator(&*app.entropy))?),
                Owner::There(server) => server.call("DELETE", &format!("/v1/tokens/{id}"), None)?,
            };
            output.result(&ended, |_| format!("Ended {id}."))
        }
    }
}

fn create(
    owner: &Owner,
    role: String,
    scope: Vec<String>,
    label: String,
    days: Option<u32>,
) -> Result<Value, CliError> {
    match owner {
        Owner::Here(app) => {
            let new = NewToken { role, scope, label, days };
            let issued = app.tokens().issue(new, Act::operator(&*app.entropy))?;
            Ok(json!({"token": *issued.token, "info": view(&issued.record)}))
        }
        Owner::There(server) => {
            let body = json!({"role": role, "scope": scope, "label": label, "days": days});
            server.call("POST", "/v1/tokens", Some(&body))
        }
    }
}

fn list(owner: &Owner) -> Result<Vec<Value>, CliError> {
    let mut items = Vec::new();
    match owner {
        Owner::Here(app) => {
            let mut after: Option<String> = None;
            loop {
                let page = app.tokens().list(after.as_deref(), 500)?;
                let Some(last) = page.last() else { return Ok(items) };
                after = Some(last.id.clone());
                items.extend(page.iter().map(view));
            }
        }
        Owner::There(server) => {
            let mut path = "/v1/tokens?limit=500".to_owned();
            loop {
                let page = server.call("GET", &path, None)?;
                items.extend(page["items"].as_array().into_iter().flatten().cloned());
                let Some(next) = page["next"].as_str() else { return Ok(items) };
                path = format!("/v1/tokens?limit=500&cursor={next}");
            }
        }
    }
}

fn view(record: &TokenRecord) -> Value {
    json!({
        "id": record.id, "role": record.role, "scope": record.scope, "label": record.label,
        "created": record.created, "expires": record.expires, "revoked": record.revoked,
    })
}

fn table(items: &[Value]) -> String {
    let mut out = format!("{:<14}{:<13}{:<26}{:<10}{}\n", "ID", "ROLE", "FOR", "STATE", "LABEL");
    for item in items {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let scope: Vec<&str> =
            item["scope"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let state = if item["revoked"].is_null() { "active" } else { "ended" };
        out += &format!(
            "{:<14}{:<13}{:<26}{:<10}{}\n",
            text("id"),
            text("role"),
            scope.join(" "),
            state,
            text("label")
        );
    }
    out
}
