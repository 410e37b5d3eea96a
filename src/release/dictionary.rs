//! The data dictionary of a package, for machines and for people: every table and column with its type, what it is, and
//! what was done about it.

use std::fmt::Write as _;

use almoner_deid::Profile;
use almoner_model::Tables;
use serde_json::{Value, json};

use super::manifest::FileEntry;

/// `DATA_DICTIONARY.json` and `DATA_DICTIONARY.md` of the tables in `files`.
pub fn dictionary(tables: &Tables, profile: &Profile, files: &[FileEntry]) -> (Vec<u8>, Vec<u8>) {
    let mut listed = Vec::new();
    let mut text = String::from(
        "# Data dictionary\n\nTables of the OMOP Common Data Model 5.4. `person_id` joins all tables. Every id is a \
         number from 1 to 2^53 - 1 made for this recipient; ids of other releases do not match. Dates of one person are \
         moved backward by one number of days; intervals within a person are exact.\n",
    );
    for file in files {
        let name = file.path.strip_prefix("tables/").and_then(|p| p.strip_suffix(".parquet"));
        let Some(spec) = name.and_then(|n| tables.get(n)) else { continue };
        let rows = file.rows.unwrap_or(0);
        let _ = write!(text, "\n## {}\n\n{rows} rows, sorted by person_id", spec.table);
        if let Some(start) = &spec.start {
            let _ = write!(text, " and {start}");
        }
        text.push_str("\n\n| column | type | null | what it is | what was done |\n|---|---|---|---|---|\n");
        let mut columns: Vec<Value> = Vec::new();
        for c in &spec.columns {
            let (kind, class) = (json!(c.kind), json!(c.class));
            let action = json!(profile.rule(c.class).action);
            let null = if c.nullable { "yes" } else { "no" };
            let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let line =
                format!("| {} | {} | {null} | {} | {} |", c.name, word(&kind), word(&class), word(&action));
            let _ = writeln!(text, "{line}");
            columns.push(json!({
                "name": c.name, "type": kind, "nullable": c.nullable, "class": class, "action": action,
                "extension": c.extension,
            }));
        }
        listed.push(json!({"table": spec.table, "cdm": spec.cdm, "file": file.path, "rows": rows, "columns": columns}));
    }
    let all = json!({"format": "almoner-dictionary/1", "profile": profile.name(), "tables": listed});
    let mut machine = serde_json::to_vec_pretty(&all).unwrap_or_default();
    machine.push(b'\n');
    (machine, text.into_bytes())
}
