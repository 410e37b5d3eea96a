//! The data dictionary of a package, for machines and for people: every table and column with its type, what it is, what
//! the profiles did about it at ingest and at release, and what the gate did, with counts.

use std::fmt::Write as _;

use almoner_deid::{Action, Declares, Profile};
use almoner_model::{ColumnSpec, DatasetId, DatePrecision, Tables};
use serde_json::{Value, json};

use super::manifest::{ColumnEntry, FileEntry};
use crate::risk::{GateReport, told_left_out};

/// What a dictionary tells of.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// The canonical tables.
    pub tables: &'a Tables,
    /// The profile of the release.
    pub profile: &'a Profile,
    /// The profile that each dataset was published under.
    pub ingest: &'a [(DatasetId, Profile)],
    /// What holds of the data, all applications together.
    pub declares: Declares,
    /// What the gate did.
    pub gate: &'a GateReport,
    /// Tables that were asked for and that the gate withholds.
    pub withheld: &'a [String],
    /// The files of the tables.
    pub files: &'a [FileEntry],
}

/// `DATA_DICTIONARY.json` and `DATA_DICTIONARY.md` of the tables in `told.files`.
pub fn dictionary(told: &Told<'_>) -> (Vec<u8>, Vec<u8>) {
    let dates = dates(told.declares);
    let gate = gate(told);
    let mut text = format!(
        "# Data dictionary\n\nTables of the OMOP Common Data Model 5.4. `person_id` joins all tables. Every id is a number \
         from 1 to 2^53 - 1 made for this recipient: a person has the same in every release of this project to this \
         recipient, a row in this release only. A reference names a row of this release or is null.\n\n{dates}\n\n{gate}\n"
    );
    let mut listed = Vec::new();
    for file in told.files {
        let name = file.path.strip_prefix("tables/").and_then(|p| p.strip_suffix(".parquet"));
        let Some(spec) = name.and_then(|n| told.tables.get(n)) else { continue };
        let rows = file.rows.unwrap_or(0);
        let _ = write!(text, "\n## {}\n\n{rows} rows, sorted by person_id", spec.table);
        if let Some(start) = &spec.start {
            let _ = write!(text, " and {start}");
        }
        if file.rows_restating > 0 {
            let n = file.rows_restating;
            let _ =
                write!(text, "; {n} rows that say again what the gate generalised or withheld are not here");
        }
        text.push_str(
            "\n\n| column | type | null | what it is | what the profile did | what the gate did |\n|---|---|---|---|---|---|\n",
        );
        let mut columns: Vec<Value> = Vec::new();
        for (c, entry) in spec.columns.iter().zip(&file.columns) {
            text.push_str(&line(told, c, entry));
            columns.push(column(told, c, entry));
        }
        listed.push(json!({
            "table": spec.table, "cdm": spec.cdm, "file": file.path, "rows": rows,
            "rows_restating": file.rows_restating, "columns": columns,
        }));
    }
    let all = json!({
        "format": "almoner-dictionary/1", "profile": told.profile.name(), "dates": dates, "gate": gate,
        "persons_left_out": told_left_out(told.gate.suppressed), "tables_withheld": told.withheld, "tables": listed,
    });
    let mut machine = serde_json::to_vec_pretty(&all).unwrap_or_default();
    machine.push(b'\n');
    (machine, text.into_bytes())
}

/// What dates are, as the data declares it.
fn dates(declares: Declares) -> String {
    let most = declares.shift_days_max;
    let moved =
        format!("moved backward by one number of days, at least 1 and at most {most}, for each person");
    match (declares.date_precision, declares.shifted) {
        (DatePrecision::Day, true) => {
            format!("Dates are {moved}; intervals within a person are exact.")
        }
        (DatePrecision::Day, false) => "Dates are the true ones.".to_owned(),
        (precision, shifted) => {
            let (unit, first) =
                if precision == DatePrecision::Month { ("month", "") } else { ("year", " January") };
            let of = if shifted { format!(" of dates that were {moved} before") } else { String::new() };
            format!(
                "Dates are known to the {unit}{of}: each stands for its {unit} by 1{first}. Intervals in days mean nothing."
            )
        }
    }
}

fn left_out(people: u64) -> String {
    match told_left_out(people) {
        Some(0) => "Nobody was left out.".to_owned(),
        Some(people) => format!("To reach it, {people} people were left out."),
        None => "To reach it, fewer than 11 people were left out.".to_owned(),
    }
}

/// What the gate did, in a paragraph.
fn gate(told: &Told<'_>) -> String {
    let GateReport { rules, after, suppressed, .. } = told.gate;
    let mut out = format!(
        "The gate asked for classes of at least {} people who are alike in what can tell who they are; the smallest here \
         has {}. {}",
        rules.k,
        after.smallest_class,
        left_out(*suppressed)
    );
    if told.gate.earlier > 0 {
        out.push_str(
            " It was measured together with earlier releases that the recipient has (`risk.measured_with` in release.json).",
        );
    }
    for table in told.withheld {
        let _ = write!(out, " Table {table} was withheld.");
    }
    out
}

fn word(value: Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn action(action: Action) -> String {
    word(json!(action))
}

/// What was done at ingest, by dataset, and at release: one word where all are the same.
fn done(told: &Told<'_>, c: &ColumnSpec) -> String {
    let release = told.profile.rule(c.class).action;
    let mut ingest: Vec<Action> = told.ingest.iter().map(|(_, p)| p.rule(c.class).action).collect();
    ingest.sort_unstable();
    ingest.dedup();
    if ingest.iter().all(|a| *a == release) {
        return action(release);
    }
    let by = |(dataset, p): &(DatasetId, Profile)| format!("{} ({dataset})", action(p.rule(c.class).action));
    let before: Vec<String> = match ingest.as_slice() {
        [one] => vec![action(*one)],
        _ => told.ingest.iter().map(by).collect(),
    };
    format!("{}, then {}", before.join(", "), action(release))
}

fn changed(entry: &ColumnEntry) -> String {
    let gate = entry.gate.iter().map(|c| format!("{}: {} values changed", c.what, c.values));
    let nulled = (entry.references_nulled > 0)
        .then(|| format!("{} references to rows that are not here are null", entry.references_nulled));
    gate.chain(nulled).collect::<Vec<_>>().join("; ")
}

fn line(told: &Told<'_>, c: &ColumnSpec, entry: &ColumnEntry) -> String {
    let null = if c.nullable { "yes" } else { "no" };
    let (kind, class) = (word(json!(c.kind)), word(json!(c.class)));
    format!("| {} | {kind} | {null} | {class} | {} | {} |\n", c.name, done(told, c), changed(entry))
}

fn column(told: &Told<'_>, c: &ColumnSpec, entry: &ColumnEntry) -> Value {
    let ingest: serde_json::Map<String, Value> =
        told.ingest.iter().map(|(d, p)| (d.to_string(), json!(p.rule(c.class).action))).collect();
    json!({
        "name": c.name, "type": c.kind, "nullable": c.nullable, "class": c.class,
        "action": told.profile.rule(c.class).action, "action_at_ingest": ingest,
        "gate": entry.gate, "references_nulled": entry.references_nulled, "extension": c.extension,
    })
}
