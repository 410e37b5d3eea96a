//! Reports for people: what a privacy officer reads about a version, as Markdown. Counts and rules, no value.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use almoner_deid::{DeidReport, Profile};
use almoner_model::Tables;
use serde_json::{Value, json};

use super::Stopped;
use super::publish::stopped;
use crate::dataset::Manifest;
use crate::intake::IntakeReport;
use crate::mapping::omop::Noted;
use crate::risk::RiskReport;

/// What OMOP mapping noticed, by `table.column`.
pub(super) fn noted(tables: &Tables, noted: &Noted) -> Value {
    let table = |index: usize| tables.iter().nth(index);
    let column = |(at, column): &(usize, usize)| {
        table(*at).map(|t| format!("{}.{}", t.table, t.columns.get(*column).map_or("", |c| c.name.as_str())))
    };
    let dropped: BTreeMap<String, u64> =
        noted.source_values_dropped.iter().filter_map(|(key, n)| Some((column(key)?, *n))).collect();
    let ends: BTreeMap<String, u64> =
        noted.ends_from_start.iter().filter_map(|(at, n)| Some((table(*at)?.table.clone(), *n))).collect();
    json!({ "source_values_dropped": dropped, "ends_from_start": ends })
}

/// The report for the privacy officer.
pub(super) fn markdown(
    manifest: &Manifest,
    intake: &IntakeReport,
    deid: &DeidReport,
    risk: &RiskReport,
    profile: &Profile,
) -> String {
    let mut text = String::new();
    head(&mut text, manifest, profile);
    lines(&mut text, intake);
    dropped(&mut text, &manifest.reports["quality"]["mapping"]["omop"]["source_values_dropped"]);
    dates(&mut text, &manifest.reports["quality"]["implausible_dates"]);
    actions(&mut text, deid);
    risks(&mut text, risk);
    text
}

/// Appends a line; writing to a string does not fail.
macro_rules! say {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($part:tt)*) => {{ let _ = writeln!($out, $($part)*); }};
}

fn head(out: &mut String, manifest: &Manifest, profile: &Profile) {
    say!(out, "# De-identification report: {} version {}", manifest.dataset, manifest.version);
    say!(out);
    say!(out, "- Contributor: {}", manifest.contributor);
    say!(out, "- Made: {}", manifest.created);
    say!(out, "- Profile: {} version {} ({})", profile.name(), profile.version(), profile.title());
    say!(out, "- SHA-256 of the profile: {}", profile.digest());
    let declares = &manifest.declares;
    let precision = format!("{:?}", declares.date_precision).to_lowercase();
    let moved = match declares.shifted {
        true => format!(
            "moved back by 1 to {} days, by the same number for all dates of a person",
            declares.shift_days_max
        ),
        false => "not moved".to_owned(),
    };
    say!(out, "- Dates: to the {precision}, {moved}");
    say!(out, "- Times of day: {}", if declares.times_kept { "kept" } else { "dropped" });
    say!(out, "- Postal codes: {} digits", declares.zip_digits);
    say!(out, "- People: {}", manifest.persons);
    say!(out);
}

fn lines(out: &mut String, intake: &IntakeReport) {
    let total = &intake.lines.total;
    say!(out, "## What came in");
    say!(out);
    say!(out, "| lines | read | mapped | unmapped | quarantined |");
    say!(out, "|---|---:|---:|---:|---:|");
    for (name, c) in &intake.lines.types {
        say!(out, "| {name} | {} | {} | {} | {} |", c.read, c.mapped, c.unmapped, c.quarantined);
    }
    say!(out, "| **all** | {} | {} | {} | {} |", total.read, total.mapped, total.unmapped, total.quarantined);
    say!(out);
    for (what, why) in
        [("why unmapped", intake.lines.by_reason()), ("why quarantined", intake.lines.rules.clone())]
    {
        if !why.is_empty() {
            say!(out, "| {what} | lines |");
            say!(out, "|---|---:|");
            for (word, n) in why {
                say!(out, "| {word} | {n} |");
            }
            say!(out);
        }
    }
    say!(
        out,
        "`quarantine.ndjson` locates each quarantined line by number of the file, line and rule. Whoever holds the"
    );
    say!(out, "export finds the file's name with `almoner inspect EXPORT --files`.");
    say!(out);
    for Stopped { file, kind, lines, rule } in stopped(&intake.files) {
        say!(
            out,
            "**File {file} ({kind}) was not read to its end** ({rule}): {lines} lines came before, and what"
        );
        say!(out, "followed is missing from this version.");
        say!(out);
    }
    let mut alone: BTreeMap<&str, u64> = BTreeMap::new();
    for stranger in &intake.strangers {
        *alone.entry(stranger.reason).or_default() += 1;
    }
    if !alone.is_empty() {
        let alone: Vec<String> = alone.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        say!(out, "Entries of the export that were left alone: {}.", alone.join(", "));
        say!(out);
    }
}

/// Source values of OMOP tables that are no code of a known vocabulary, by column: identifiers hide there.
fn dropped(out: &mut String, columns: &Value) {
    let Some(columns) = columns.as_object().filter(|columns| !columns.is_empty()) else { return };
    say!(
        out,
        "Source values were dropped while tables were read where they are neither `VOCABULARY:code` of"
    );
    say!(
        out,
        "a known vocabulary nor the code of a concept that their row names and a loaded vocabulary knows:"
    );
    say!(out);
    say!(out, "| column | values dropped |");
    say!(out, "|---|---:|");
    for (column, n) in columns {
        say!(out, "| {column} | {n} |");
    }
    say!(out);
}

/// What went because its date was the date of nothing, by table.
fn dates(out: &mut String, implausible: &Value) {
    let Some(tables) = implausible.as_object().filter(|tables| !tables.is_empty()) else { return };
    say!(out, "Dates that systems write where they know none, dates in the future and dates before birth");
    say!(out, "(`schemas/deid/dates.toml`) were removed before anything was derived or moved:");
    say!(out);
    say!(out, "| table | rows quarantined | ends and times taken for missing |");
    say!(out, "|---|---:|---:|");
    for (table, n) in tables {
        say!(out, "| {table} | {} | {} |", n["rows"], n["values"]);
    }
    say!(out);
}

fn actions(out: &mut String, deid: &DeidReport) {
    say!(out, "## What was done");
    say!(out);
    say!(
        out,
        "People over 89: {}. Dates raised to the floored year of birth: {}.",
        deid.persons_over_89,
        deid.dates_raised
    );
    say!(
        out,
        "Results that tell an age or a birth: {} removed, {} cut at 90.",
        deid.ages.results_removed,
        deid.ages.results_top_coded
    );
    say!(out);
    say!(out, "| column | class | action | values in | values out |");
    say!(out, "|---|---|---|---:|---:|");
    for (table, report) in &deid.tables {
        for (column, c) in report.columns.iter().filter(|(_, c)| c.values_in > 0) {
            say!(
                out,
                "| {table}.{column} | {} | {} | {} | {} |",
                word(&c.class),
                word(&c.action),
                c.values_in,
                c.values_out
            );
        }
    }
    say!(out);
}

/// The word that a class or an action is written with in the schemas.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn risks(out: &mut String, risk: &RiskReport) {
    say!(out, "## Risk of re-identification");
    say!(out);
    say!(out, "People with equal quasi-identifiers form a class.");
    say!(out);
    say!(out, "| measure | value |");
    say!(out, "|---|---:|");
    say!(out, "| people | {} |", risk.persons);
    say!(out, "| classes | {} |", risk.classes);
    say!(out, "| smallest class | {} |", risk.smallest_class);
    say!(out, "| sample uniques | {} |", risk.sample_uniques);
    say!(out, "| prosecutor risk, maximum | {:.4} |", risk.prosecutor_max);
    say!(out, "| prosecutor risk, average | {:.4} |", risk.prosecutor_average);
    say!(out, "| journalist risk, maximum | {:.4} |", risk.journalist_max);
    say!(out, "| journalist risk, average | {:.4} |", risk.journalist_average);
    say!(out, "| marketer risk | {:.4} |", risk.marketer);
    say!(out);
    say!(
        out,
        "Population: {}. A release passes a further gate; these figures are of the dataset as it is kept.",
        risk.estimator
    );
}
