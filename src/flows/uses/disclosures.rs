//! An accounting of disclosures, in the shape of 45 CFR 164.528(b)(2), for one person and the data of one hospital.
//!
//! A disclosure is a download: before it, nobody outside has a release. Each says the date, who received, what was
//! disclosed in brief, and for what purpose, and whether an accounting is owed for it. Almoner releases on three legal
//! bases only, and each takes a disclosure out of what must be accounted for; it is listed all the same, with the rule:
//!
//! - de-identified data (164.514(a)-(b)) is no protected health information (164.502(d)(2));
//! - a limited data set (164.514(e)) is exempt by 164.528(a)(1)(viii);
//! - a disclosure under an authorization (164.508) is exempt by 164.528(a)(1)(iv); whether the consents that permitted it
//!   are one is for the hospital to say, so this is named beside and never counted on.
//!
//! Where the legal basis cannot be read any more, an accounting is owed. The period is six years back from the asking
//! (164.528(a)(1)). Who asks is known to one hospital and is told of that hospital's data only (`participant`).

use std::fmt::Write as _;

use almoner_model::{Date, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::participant::{Participant, UsedIn, releases_with};
use super::super::{DataContext, DataError, release};
use crate::state::read;
use crate::state::records::Download;

/// The columns of the table.
pub const COLUMNS: &[&str] = &[
    "date",
    "recipient",
    "project",
    "title",
    "description",
    "purpose_label",
    "purpose_statement",
    "accounting_owed",
    "rule",
    "accounting",
    "release",
    "legal_basis",
    "directives",
    "seq",
    "event_id",
];

/// How many years back an accounting goes.
pub const YEARS: i32 = 6;

/// A disclosure: a release with rows about the person was downloaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Disclosure {
    /// The day, UTC.
    #[schema(format = Date)]
    pub date: String,
    /// The institution that received.
    pub recipient: String,
    /// What was disclosed, in brief.
    pub description: String,
    /// For which project.
    pub project: String,
    /// The project's title.
    pub title: String,
    /// What for: a DUO term.
    pub purpose: String,
    /// The same in words.
    pub purpose_label: String,
    /// The purpose as the recipient stated it.
    pub purpose_statement: String,
    /// Whether 45 CFR 164.528 asks for this to be accounted for.
    pub accounting_owed: bool,
    /// The rule that takes it out of the accounting; null where one is owed.
    pub rule: Option<String>,
    /// The same in words.
    pub accounting: String,
    /// The legal basis that it rests on: its kind and id.
    pub legal_basis: Option<String>,
    /// The release.
    pub release: String,
    /// The entries of what the person said to the hospital that permitted it.
    pub directives: Vec<u64>,
    /// The hospital whose data it was.
    pub hospital: String,
    /// Its name.
    pub hospital_name: String,
    /// When the download was opened, in ledger time.
    #[schema(format = DateTime)]
    pub time: String,
    /// The download's entry in the ledger.
    pub seq: u64,
    /// The UUID of the act.
    #[schema(format = "uuid")]
    pub event_id: String,
}

/// A release that nobody has downloaded: it holds rows about the person and was not disclosed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Prepared {
    /// The release.
    pub release: String,
    /// For whom it was built.
    pub recipient: String,
    /// When, in ledger time.
    #[schema(format = DateTime)]
    pub built: String,
    /// Its entry in the ledger.
    pub seq: u64,
}

/// The accounting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accounting {
    /// The hospital whose data it is about.
    pub hospital: String,
    /// Its name.
    pub hospital_name: String,
    /// The first day of the period.
    #[schema(format = Date)]
    pub from: String,
    /// The last day of the period.
    #[schema(format = Date)]
    pub to: String,
    /// Ledger size that it was made from.
    pub as_of: u64,
    /// Disclosures in the period, the first one first.
    pub disclosures: Vec<Disclosure>,
    /// Releases that nobody has downloaded.
    pub prepared: Vec<Prepared>,
    /// What this says and what it does not.
    pub note: String,
}

const NOTE: &str = "A disclosure is a download of a release that holds rows about you, without your name or record number, \
    under a pseudonym made for that recipient. Counts are not disclosures about you: they tell numbers of at least 11 \
    people. What happened to a copy after its download cannot be known here. Each entry can be proved: \
    /v1/ledger/entries/{seq}/proof.";

/// The disclosures of `who` from the day `from` (six years ago where none is named) to today.
///
/// # Errors
/// If the store cannot be read.
pub fn accounting(
    ctx: &DataContext<'_>,
    who: &Participant,
    from: Option<Date>,
    to: Option<Date>,
) -> Result<Accounting, DataError> {
    let access = &ctx.access;
    let today = access.now()?.date();
    let (from, to) = (from.unwrap_or_else(|| years_before(today, YEARS)), to.unwrap_or(today));
    let as_of = access.store.size();
    let name = read::contributor(&access.state(), &who.hospital)?.map(|c| c.body.name);
    let hospital_name = name.unwrap_or_else(|| who.hospital.to_string());
    let used = releases_with(access, who)?;
    let (mut disclosures, mut received) = (Vec::new(), vec![false; used.len()]);
    let mut after: Option<String> = None;
    loop {
        let page: Vec<(String, Download)> = read::page(&access.state(), "download", after.as_deref(), 500)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (_, download) in page {
            let at = used.iter().position(|u| u.release.body.release == download.opened.body.release);
            let Some(at) = at else { continue };
            if used[at].left.is_some_and(|left| download.opened.origin.seq >= left) {
                continue;
            }
            received[at] = true;
            let day = download.opened.origin.time.date();
            if from <= day && day <= to {
                disclosures.push(disclosure(ctx, who, &hospital_name, &used[at], &download)?);
            }
        }
    }
    disclosures.sort_by_key(|d| d.seq);
    let waits = |(used, received): &(&UsedIn, bool)| !received && used.left.is_none();
    let prepared = used.iter().zip(received).filter(waits).map(|(u, _)| Prepared {
        release: u.release.body.release.to_string(),
        recipient: u.release.body.recipient.to_string(),
        built: u.release.origin.time.to_string(),
        seq: u.release.origin.seq,
    });
    Ok(Accounting {
        hospital: who.hospital.to_string(),
        hospital_name,
        from: from.to_string(),
        to: to.to_string(),
        as_of,
        disclosures,
        prepared: prepared.collect(),
        note: NOTE.to_owned(),
    })
}

fn years_before(day: Date, years: i32) -> Date {
    let (year, month) = (day.year() - years, day.month());
    Date::from_ymd(year, month, day.day()).or_else(|| Date::from_ymd(year, month, 28)).unwrap_or(day)
}

fn disclosure(
    ctx: &DataContext<'_>,
    who: &Participant,
    hospital_name: &str,
    used: &UsedIn,
    download: &Download,
) -> Result<Disclosure, DataError> {
    let access = &ctx.access;
    let (body, asked) = (&used.release.body, &used.request);
    let basis = basis_of(ctx, used, who)?;
    let (rule, accounting) = ruled(basis.as_ref().map(|(kind, _)| kind.as_str()));
    let project = read::project(&access.state(), &body.project)?;
    let tables: Vec<String> = body.tables.keys().map(|t| t.replace('_', " ")).collect();
    let entry = access.store.entry(download.opened.origin.seq)?;
    let at: Timestamp = download.opened.origin.time;
    Ok(Disclosure {
        date: at.date().to_string(),
        recipient: body.recipient.to_string(),
        description: format!(
            "Rows about you from {hospital_name} in the tables {}, de-identified by the profile {}",
            tables.join(", "),
            asked.profile
        ),
        project: body.project.to_string(),
        title: project.map(|p| p.body.title).unwrap_or_default(),
        purpose: asked.purpose.to_string(),
        purpose_label: asked.purpose.label().to_owned(),
        purpose_statement: asked.lay_summary.clone(),
        accounting_owed: rule.is_none(),
        rule: rule.map(str::to_owned),
        accounting: accounting.to_owned(),
        legal_basis: basis.map(|(kind, id)| format!("{} {id}", kind.replace('_', " "))),
        release: body.release.to_string(),
        directives: used.directives.clone(),
        hospital: who.hospital.to_string(),
        hospital_name: hospital_name.to_owned(),
        time: at.to_string(),
        seq: download.opened.origin.seq,
        event_id: entry.map(|e| e.leaf.event_id).unwrap_or_default(),
    })
}

/// Kind and id of the legal basis that the hospital's data in a release rests on, as its manifest names it.
fn basis_of(
    ctx: &DataContext<'_>,
    used: &UsedIn,
    who: &Participant,
) -> Result<Option<(String, String)>, DataError> {
    // A package that is gone or damaged names none; then an accounting is owed.
    let Ok(manifest) = release::manifest_of(ctx, &used.release.body.release) else { return Ok(None) };
    let Some(id) = manifest.datasets.into_iter().find(|d| d.contributor == who.hospital) else {
        return Ok(None);
    };
    let basis = read::legal_basis(&ctx.access.state(), &id.legal_basis)?;
    Ok(basis.filter(|b| b.body.contributor == who.hospital).map(|b| (b.body.kind, b.body.id)))
}

/// The rule that takes a disclosure on this kind of basis out of the accounting, and what that means.
fn ruled(kind: Option<&str>) -> (Option<&'static str>, &'static str) {
    match kind {
        Some("safe_harbor_attestation") => (
            Some("45 CFR 164.514(b)(2), 164.502(d)(2)"),
            "No accounting is owed: the data was de-identified by the Safe Harbor method and is no protected health \
             information.",
        ),
        Some("expert_determination") => (
            Some("45 CFR 164.514(b)(1), 164.502(d)(2)"),
            "No accounting is owed: an expert determined that the data is de-identified, so it is no protected health \
             information.",
        ),
        Some("data_use_agreement") => (
            Some("45 CFR 164.528(a)(1)(viii), 164.514(e)"),
            "No accounting is owed: it is a limited data set under a data use agreement.",
        ),
        _ => (
            None,
            "An accounting is owed, unless the hospital holds the consents that permitted this as an authorization (45 CFR \
             164.508, 164.528(a)(1)(iv)).",
        ),
    }
}

/// The disclosures as rows for [`super::csv::lines`].
///
/// # Errors
/// Never: all members are text and numbers.
pub fn rows(accounting: &Accounting) -> Result<Vec<Value>, serde_json::Error> {
    accounting.disclosures.iter().map(serde_json::to_value).collect()
}

/// The accounting for reading and printing.
pub fn text(accounting: &Accounting) -> String {
    let Accounting { hospital_name, from, to, as_of, disclosures, prepared, note, .. } = accounting;
    let mut out = format!("Accounting of disclosures (45 CFR 164.528)\n{hospital_name}, {from} to {to}\n\n");
    if disclosures.is_empty() {
        out.push_str("Nothing about you was disclosed in this period.\n\n");
    }
    for d in disclosures {
        // Writing to a String does not fail.
        let _ = write!(
            out,
            "{date}  to {recipient}\n  What    {what}\n  Why     {label}: {title}\n          {said}\n  Rule    {accounting}\n          \
             {rule}\n  Proof   ledger entry {seq}, permitted by what you said in {directives}\n\n",
            date = d.date,
            recipient = d.recipient,
            what = d.description,
            label = d.purpose_label,
            title = d.title,
            said = d.purpose_statement,
            accounting = d.accounting,
            rule = d.rule.as_deref().unwrap_or("none that takes it out"),
            seq = d.seq,
            directives = entries(&d.directives),
        );
    }
    for p in prepared {
        let _ = writeln!(
            out,
            "Built and not yet taken by anybody: {} for {} (ledger entry {})\n",
            p.release, p.recipient, p.seq
        );
    }
    let _ = writeln!(out, "{note}\nMade from {as_of} ledger entries.");
    out
}

fn entries(seqs: &[u64]) -> String {
    let all: Vec<String> = seqs.iter().map(ToString::to_string).collect();
    format!("{} {}", if all.len() == 1 { "entry" } else { "entries" }, all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_years_before_a_leap_day_is_a_day() {
        let day = |y, m, d| Date::from_ymd(y, m, d).expect("a date");
        assert_eq!(years_before(day(2028, 2, 29), 6), day(2022, 2, 28));
        assert_eq!(years_before(day(2026, 11, 22), 6), day(2020, 11, 22));
    }

    #[test]
    fn an_accounting_is_owed_unless_a_basis_says_otherwise() {
        for kind in ["safe_harbor_attestation", "expert_determination", "data_use_agreement"] {
            assert!(ruled(Some(kind)).0.is_some(), "{kind}");
        }
        assert!(ruled(None).0.is_none() && ruled(Some("a handshake")).0.is_none());
    }
}
