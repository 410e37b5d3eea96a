//! Paper forms: what each version of a form means, and the list of who signed which. Pure.
//!
//! A hospital says once, in TOML, what a version of its form permits and denies; then a CSV of record number, form version,
//! date and digest of the evidence says who signed. A row that is not right is told by its line and a rule, never by a
//! value.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{Date, Digest, SourcePatientId, Timestamp};
use serde::{Deserialize, Serialize};

use super::directive::{Coverage, Directive, Effect, FormRef, Period, Provision, Signed, Source, Status};

/// One version of a form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// The form.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its title, for people.
    #[serde(default)]
    pub title: String,
    /// Whose data its permissions cover.
    #[serde(default)]
    pub covers: Coverage,
    /// For how many years from the signature its permissions hold; without end if absent.
    #[serde(default)]
    pub years_valid: Option<u32>,
    /// What it says.
    pub rules: Provision,
}

/// The forms of a hospital.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forms {
    /// Every version of every form.
    #[serde(rename = "form")]
    forms: Vec<Form>,
}

/// Why form definitions were not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormError {
    /// Not the TOML that it should be.
    #[error("the form definitions are not right at line {0}{1}; are forms and list the right way round?")]
    Toml(usize, String),
    /// A version is defined twice.
    #[error("form {0} is defined twice")]
    Twice(String),
    /// A form that permits or denies nothing.
    #[error("form {0} says nothing: give it a rule that permits or denies")]
    Empty(String),
    /// A rule that would never apply.
    #[error("form {0}, rules{1}: {2}")]
    Rules(String, String, &'static str),
}

impl Forms {
    /// Reads form definitions.
    ///
    /// # Errors
    /// [`FormError`]; the text is the hospital's own and holds no patient's data.
    pub fn load(text: &str) -> Result<Self, FormError> {
        let forms: Self =
            toml::from_str(text).map_err(|e| FormError::Toml(line_of(text, &e), missing(&e)))?;
        let mut seen = BTreeSet::new();
        for form in &forms.forms {
            let name = form.name();
            if !speaks(&form.rules) {
                return Err(FormError::Empty(name));
            }
            if let Err(flaw) = form.rules.check() {
                return Err(FormError::Rules(name, flaw.pointer, flaw.reason));
            }
            if !seen.insert(name.clone()) {
                return Err(FormError::Twice(name));
            }
        }
        Ok(forms)
    }

    /// The form that `text` names: `form@version`, or a version alone where only one form has it.
    pub fn find(&self, text: &str) -> Option<&Form> {
        let mut found = self.forms.iter().filter(|f| f.name() == text || f.version == text);
        let first = found.next()?;
        let exact = self.forms.iter().find(|f| f.name() == text);
        exact.or_else(|| found.next().is_none().then_some(first))
    }
}

fn speaks(node: &Provision) -> bool {
    node.effect != Effect::Silent || node.provisions.iter().any(speaks)
}

impl Form {
    /// `form@version`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// Digest of the definition.
    pub fn digest(&self) -> Digest {
        // Strings, lists and numbers always serialise.
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }

    /// What somebody who signed it at `signed` said.
    pub fn directive(&self, signed: Signed, evidence: Option<Digest>) -> Directive {
        let mut rules = self.rules.clone();
        if let Some(until) = self.years_valid.and_then(|years| after_years(signed.date, years)) {
            end_permissions(&mut rules, until);
        }
        Directive {
            source: Source::Form,
            lineage: format!("form:{}", self.id),
            signed,
            status: Status::Active,
            covers: self.covers,
            form: Some(FormRef {
                form: self.id.clone(),
                version: self.version.clone(),
                definition: self.digest(),
            }),
            evidence,
            rules,
        }
    }
}

/// The last instant of the day `years` after `date`.
fn after_years(date: Date, years: u32) -> Option<Timestamp> {
    let year = date.year().checked_add(i32::try_from(years).ok()?)?;
    let last = Date::from_ymd(year, date.month(), date.day()).or_else(|| Date::from_ymd(year, 2, 28))?;
    Some(Timestamp::from_millis(Timestamp::from_date(last.plus_days(1)).millis() - 1))
}

/// Permissions end; denials do not.
fn end_permissions(node: &mut Provision, until: Timestamp) {
    if node.effect == Effect::Permit {
        let period = node.period.get_or_insert_with(Period::default);
        let until = period.until.map_or(until, |u| u.min(until));
        period.until = Some(until);
        if period.from.is_some_and(|from| until < from) {
            (node.effect, node.period) = (Effect::Silent, None);
        }
    }
    for child in &mut node.provisions {
        end_permissions(child, until);
    }
}

/// A row that can be recorded.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Whose consent.
    pub record_number: SourcePatientId,
    /// What they said.
    pub directive: Directive,
}

/// A row that cannot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RowError {
    /// Its line in the file, from 1.
    pub line: u64,
    /// The rule that it breaks, a stable name.
    pub rule: String,
}

/// A consent list as read.
#[derive(Debug)]
pub struct List {
    /// Rows that can be recorded, in file order.
    pub rows: Vec<Row>,
    /// Rows that cannot.
    pub errors: Vec<RowError>,
}

impl List {
    /// How many rows broke each rule.
    pub fn by_rule(&self) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        for error in &self.errors {
            *out.entry(error.rule.clone()).or_insert(0) += 1;
        }
        out
    }
}

/// The file as a whole is not a consent list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListError {
    /// A column is missing from its first line.
    #[error(
        "the first line names the columns record_number, form_version, date, evidence_digest; `{0}` is missing"
    )]
    Column(&'static str),
    /// The first line cannot be read.
    #[error("the first line cannot be read as delimited text")]
    Header,
}

/// Reads a consent list (CSV with a header, comma, semicolon or tab; a byte order mark and CRLF are accepted).
///
/// Every row after the header ends in `rows` or in `errors`.
///
/// # Errors
/// [`ListError`] if the header is not right.
pub fn read_list(bytes: &[u8], forms: &Forms, today: Date) -> Result<List, ListError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let header = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let delimiter = [b'\t', b';'].into_iter().find(|d| header.contains(d)).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let names = reader.byte_headers().map_err(|_| ListError::Header)?.clone();
    let column = |name: &'static str| {
        names.iter().position(|h| h.eq_ignore_ascii_case(name.as_bytes())).ok_or(ListError::Column(name))
    };
    let at = [column("record_number")?, column("form_version")?, column("date")?, column("evidence_digest")?];
    let mut list = List { rows: Vec::new(), errors: Vec::new() };
    let mut record = csv::ByteRecord::new();
    let mut lines = Lines { bytes, at: 0, line: 1 };
    loop {
        let start = reader.position().byte();
        let read = reader.read_byte_record(&mut record);
        let line = lines.of(usize::try_from(start).unwrap_or(usize::MAX));
        match read {
            Ok(false) => return Ok(list),
            Err(_) => list.errors.push(RowError { line, rule: "unreadable-row".into() }),
            Ok(true) => match row(&record, at, forms, today) {
                Ok((record_number, directive)) => list.rows.push(Row { line, record_number, directive }),
                Err(rule) => list.errors.push(RowError { line, rule: rule.to_owned() }),
            },
        }
    }
}

/// Counts lines up to where a record begins (the reader's own count does not know CRLF).
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn of(&mut self, start: usize) -> u64 {
        let mut end = start.min(self.bytes.len());
        while self.bytes.get(end).is_some_and(|b| matches!(b, b'\r' | b'\n')) {
            end += 1;
        }
        let passed = self.bytes.get(self.at..end).unwrap_or_default();
        self.line += passed.iter().filter(|b| **b == b'\n').count() as u64;
        self.at = self.at.max(end);
        self.line
    }
}

fn row(
    record: &csv::ByteRecord,
    [number, form, date, evidence]: [usize; 4],
    forms: &Forms,
    today: Date,
) -> Result<(SourcePatientId, Directive), &'static str> {
    let text = |at: usize| -> Result<&str, &'static str> {
        std::str::from_utf8(record.get(at).ok_or("missing-field")?).map_err(|_| "not-utf8")
    };
    let number = text(number)?;
    if number.is_empty() {
        return Err("no-record-number");
    }
    let form = forms.find(text(form)?).ok_or("unknown-form-version")?;
    let date: Date = text(date)?.parse().map_err(|_| "invalid-date")?;
    if date > today {
        return Err("date-in-future");
    }
    let evidence: Digest = text(evidence)?.parse().map_err(|_| "invalid-evidence-digest")?;
    Ok((SourcePatientId::new(number.to_owned()), form.directive(Signed::on(date), Some(evidence))))
}

/// The line of an error, from 1. Its text quotes what it found, which in a wrong file is a patient's.
/// Which member is missing, where that is what is wrong. Any other message may quote the file, which may be the list.
fn missing(error: &toml::de::Error) -> String {
    let member = error.message().strip_prefix("missing field ").filter(|name| name.len() < 30);
    member.map_or_else(String::new, |name| format!(" ({name} is missing)"))
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(start).filter(|b| *b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_model::Duo;

    const FORMS: &str = r#"
        [[form]]
        id = "broad"
        version = "2.1"
        title = "Broad consent"
        years_valid = 5
        [form.rules]
        effect = "silent"
        [[form.rules.provisions]]
        effect = "permit"
        purposes = ["DUO:0000006"]
        conditions = ["DUO:0000046"]
        [[form.rules.provisions]]
        effect = "deny"
        categories = ["genetics"]

        [[form]]
        id = "refusal"
        version = "1"
        [form.rules]
        effect = "deny"
    "#;

    fn today() -> Date {
        "2026-11-22".parse().expect("date")
    }

    #[test]
    fn rows_are_read_and_flawed_ones_told_by_line_and_rule() {
        let forms = Forms::load(FORMS).expect("right");
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = format!(
            "\u{feff}Record_Number;FORM_VERSION;date;evidence_digest\r\n\
             MRN-1;broad@2.1;2024-02-29;{digest}\r\n\
             MRN-2;1;2025-01-01;{digest}\r\n\
             MRN-3;9.9;2025-01-01;{digest}\r\n\
             ;broad@2.1;2025-01-01;{digest}\r\n\
             MRN-4;broad@2.1;2025-02-30;{digest}\r\n\
             MRN-5;broad@2.1;2026-11-23;{digest}\r\n\
             MRN-6;broad@2.1;2025-01-01;abc\r\n\
             MRN-7;broad@2.1\r\n"
        );
        let list = read_list(text.as_bytes(), &forms, today()).expect("a header");
        assert_eq!(list.rows.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 3]);
        let told: Vec<(u64, &str)> = list.errors.iter().map(|e| (e.line, e.rule.as_str())).collect();
        assert_eq!(
            told,
            [
                (4, "unknown-form-version"),
                (5, "no-record-number"),
                (6, "invalid-date"),
                (7, "date-in-future"),
                (8, "invalid-evidence-digest"),
                (9, "missing-field"),
            ]
        );
        assert!(!format!("{list:?}").contains("MRN"), "no value prints");

        let permit = &list.rows[0].directive.rules.provisions[0];
        assert_eq!(permit.purposes, [Duo::HealthResearch]);
        let until = permit.period.expect("ends").until.expect("ends");
        assert_eq!(until.to_string(), "2029-02-28T23:59:59.999Z");
        assert_eq!(list.rows[0].directive.rules.provisions[1].period, None, "a denial does not end");
    }

    #[test]
    fn a_file_without_the_columns_is_refused_as_a_whole() {
        let forms = Forms::load(FORMS).expect("right");
        let missing = read_list(b"record_number,date\nx,y\n", &forms, today()).err();
        assert_eq!(missing, Some(ListError::Column("form_version")));
    }

    #[test]
    fn form_definitions_are_checked() {
        assert_eq!(Forms::load("[[form]]\nid = 1"), Err(FormError::Toml(2, String::new())));
        let swapped =
            Forms::load("record_number,form\nMRN-Marine542,broad\n").expect_err("a list of consents");
        assert!(!format!("{swapped} {swapped:?}").contains("542"), "{swapped}");
        let twice = format!("{FORMS}\n[[form]]\nid='refusal'\nversion='1'\n[form.rules]\neffect='deny'\n");
        assert_eq!(Forms::load(&twice), Err(FormError::Twice("refusal@1".into())));
        let empty = "[[form]]\nid='x'\nversion='1'\n[form.rules]\neffect='silent'\n";
        assert_eq!(Forms::load(empty), Err(FormError::Empty("x@1".into())));
        let typo = "[[form]]\nid='x'\nversion='1'\n[form.rules]\neffect='permit'\npurpose=['HMB']\n";
        assert!(
            matches!(Forms::load(typo), Err(FormError::Toml(_, told)) if told.is_empty()),
            "an unknown key is not dropped"
        );
        let nameless = "[[form]]\nid = 'a'\nversion = '1'\n";
        let told = Forms::load(nameless).expect_err("no rules").to_string();
        assert!(told.contains("`rules` is missing"), "{told}");
    }
}
