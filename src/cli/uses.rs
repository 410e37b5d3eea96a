//! `almoner uses`: what was done with people's data, for spreadsheets, for a FHIR audit repository, or to read.
//!
//! This process reads the ledger itself, or asks the server that owns the data folder; either way the rows are the same and
//! are put into their form here, a page at a time.

use almoner_model::{ContributorId, Date, ProjectId, RecipientId, Seq, Timestamp};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::owner::Owner;
use super::{CliError, Globals};
use crate::error::ErrorKind;
use crate::flows::uses::processing::{self, Register};
use crate::flows::uses::{self, Filter, Use, Viewer, csv, fhir};

/// Rows that are read at a time.
const PAGE: usize = 500;

/// Arguments.
#[derive(Debug, Args)]
pub struct UsesArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: UsesCommand,
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum UsesCommand {
    /// Counts answered, releases built and downloads opened, in the order of the ledger
    Log(LogArgs),
    /// The register of processing activities (GDPR Art. 30)
    Processing {
        /// The form
        #[arg(long, value_enum, default_value_t = Form::Text)]
        format: Form,
    },
}

/// Which uses.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Only for this project
    #[arg(long, value_name = "ID")]
    pub project: Option<ProjectId>,
    /// Only of this contributor's data
    #[arg(long, value_name = "ID")]
    pub contributor: Option<ContributorId>,
    /// Only by this recipient
    #[arg(long, value_name = "ID")]
    pub recipient: Option<RecipientId>,
    /// The first day (UTC)
    #[arg(long, value_name = "DATE")]
    pub from: Option<Date>,
    /// The last day (UTC)
    #[arg(long, value_name = "DATE")]
    pub to: Option<Date>,
    /// The form
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub format: Form,
}

/// The forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Form {
    /// To read
    Text,
    /// For spreadsheets; cells that would be formulas begin with an apostrophe
    Csv,
    /// One JSON object
    Json,
    /// JSON, one row a line
    Ndjson,
    /// FHIR R4 AuditEvents of IHE BALP, one a line
    FhirNdjson,
}

/// Shows it.
///
/// # Errors
/// If the data folder cannot be opened or read, or the form is not one of what is asked for.
pub fn run(args: UsesArgs, globals: &Globals) -> Result<(), CliError> {
    let owner = Owner::of(globals)?;
    match args.command {
        UsesCommand::Log(args) => log(&owner, &args, globals),
        UsesCommand::Processing { format } => register(&owner, format, globals),
    }
}

fn log(owner: &Owner, args: &LogArgs, globals: &Globals) -> Result<(), CliError> {
    let output = globals.output();
    let form = if output.json() { Form::Json } else { args.format };
    let origin = if form == Form::FhirNdjson { origin(owner)? } else { String::new() };
    let (mut next, mut headed, mut some, mut all) = (Some(Place::Start), true, false, Vec::new());
    while let Some(place) = next {
        let (uses, after) = page(owner, args, &place)?;
        next = after;
        if form == Form::Json {
            all.extend(uses);
            continue;
        }
        let text = lines(form, &origin, &uses, headed)?;
        headed = false;
        if !text.is_empty() {
            output.result(&(), |()| text)?;
            some = true;
        }
    }
    if form == Form::Text && !some {
        return output.result(&(), |()| "The ledger has no such use of anybody's data.".to_owned());
    }
    if form == Form::Json { output.document(&json!({"items": all})) } else { Ok(()) }
}

/// Where a page begins: at an entry here, at a cursor of the server there.
enum Place {
    Start,
    Entry(Seq),
    Cursor(String),
}

fn page(owner: &Owner, args: &LogArgs, place: &Place) -> Result<(Vec<Use>, Option<Place>), CliError> {
    match owner {
        Owner::Here(app) => {
            let filter = Filter {
                project: args.project.clone(),
                contributor: args.contributor.clone(),
                recipient: args.recipient.clone(),
                from: args.from.map(Timestamp::from_date),
                before: args.to.map(|d| Timestamp::from_date(d.plus_days(1))),
            };
            let start = if let Place::Entry(seq) = place { *seq } else { 0 };
            let found = uses::page(&app.access(), &Viewer::Everything, &filter, start, PAGE)?;
            Ok((found.uses, found.next.map(Place::Entry)))
        }
        Owner::There(server) => {
            let mut path = format!("/v1/uses?format=json&limit={PAGE}");
            let named: [(&str, Option<String>); 6] = [
                ("project", args.project.as_ref().map(ToString::to_string)),
                ("contributor", args.contributor.as_ref().map(ToString::to_string)),
                ("recipient", args.recipient.as_ref().map(ToString::to_string)),
                ("from", args.from.map(|d| d.to_string())),
                ("to", args.to.map(|d| d.to_string())),
                ("cursor", if let Place::Cursor(cursor) = place { Some(cursor.clone()) } else { None }),
            ];
            for (name, value) in named {
                // Ids, days and cursors need no escaping.
                path.extend(value.map(|value| format!("&{name}={value}")));
            }
            let answer = server.call("GET", &path, None)?;
            let uses = serde_json::from_value(answer["items"].clone()).map_err(strange)?;
            Ok((uses, answer["next"].as_str().map(|cursor| Place::Cursor(cursor.to_owned()))))
        }
    }
}

fn strange(_: serde_json::Error) -> CliError {
    CliError::failed(ErrorKind::Fault, "the server that owns the data folder is of another version")
}

/// The name of the ledger.
fn origin(owner: &Owner) -> Result<String, CliError> {
    Ok(match owner {
        Owner::Here(app) => app.store.checkpoint().checkpoint.origin,
        Owner::There(server) => {
            let register = server.call("GET", "/v1/processing-activities?format=json", None)?;
            register["origin"].as_str().unwrap_or_default().to_owned()
        }
    })
}

fn lines(form: Form, origin: &str, uses: &[Use], headed: bool) -> Result<String, CliError> {
    let rows: Vec<Value> =
        uses.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(strange)?;
    Ok(match form {
        Form::Csv => csv::lines(uses::COLUMNS, &rows, headed),
        Form::FhirNdjson => {
            let events: Vec<_> = uses.iter().map(|used| fhir::audit_event(origin, used)).collect();
            fhir::ndjson(&events)
        }
        Form::Text => uses::text(uses),
        Form::Json | Form::Ndjson => rows.iter().map(|row| format!("{row}\n")).collect(),
    })
}

fn register(owner: &Owner, form: Form, globals: &Globals) -> Result<(), CliError> {
    let register: Register = match owner {
        Owner::Here(app) => processing::register(&app.access(), &Viewer::Everything, &app.config.keeping())?,
        Owner::There(server) => {
            let answer = server.call("GET", "/v1/processing-activities?format=json", None)?;
            serde_json::from_value(answer).map_err(strange)?
        }
    };
    let output = globals.output();
    let rows = processing::rows(&register).map_err(strange)?;
    match form {
        _ if output.json() => output.result(&register, |_| String::new()),
        Form::Text => output.result(&register, processing::text),
        Form::Csv => output.result(&register, |_| csv::lines(processing::COLUMNS, &rows, true)),
        Form::Json => output.document(&serde_json::to_value(&register).map_err(strange)?),
        Form::Ndjson => output.result(&register, |_| rows.iter().map(|row| format!("{row}\n")).collect()),
        Form::FhirNdjson => Err(CliError::Usage(
            "FHIR has no register of processing activities; use text, csv or json".into(),
        )),
    }
}
