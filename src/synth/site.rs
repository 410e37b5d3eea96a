//! One hospital: its name, its staff, and the pass over the population that writes its export.

use std::io::{self, Write};
use std::path::Path;

use super::fhir::Fhir;
use super::json::Json;
use super::omop::Omop;
use super::output::Sheet;
use super::people::{self, Person, Record};
use super::planted::Planted;
use super::rng::Rng;
use super::{Hospital, Options, faults, life, names};

/// A hospital.
#[derive(Debug)]
pub struct Site {
    /// Number among the hospitals, from 0.
    pub ordinal: usize,
    /// Fit for a contributor's id and a folder.
    pub id: String,
    /// For people.
    pub name: String,
    /// What its record numbers begin with.
    pub initials: String,
    /// Who works there.
    pub staff: Vec<Practitioner>,
}

/// Someone who works at a hospital.
#[derive(Debug)]
pub struct Practitioner {
    /// FHIR id.
    pub id: u128,
    /// First name.
    pub given: String,
    /// Family name.
    pub family: String,
    /// National provider identifier.
    pub npi: String,
    /// Electronic mail.
    pub email: String,
}

const NAMES: [(&str, &str, &str); 8] = [
    ("north-general", "North General Hospital", "NG"),
    ("southfield-clinic", "Southfield Clinic", "SF"),
    ("lakeside-medical", "Lakeside Medical Center", "LM"),
    ("eastgate-infirmary", "Eastgate Infirmary", "EG"),
    ("westmoor-university", "Westmoor University Hospital", "WU"),
    ("harbor-childrens", "Harbor Children's Hospital", "HC"),
    ("midtown-veterans", "Midtown Veterans Hospital", "MV"),
    ("riverbend-community", "Riverbend Community Hospital", "RB"),
];

impl Site {
    /// Hospital number `ordinal` of the population of `options`.
    pub fn new(options: &Options, ordinal: usize) -> Self {
        let rng = &mut Rng::named(options.seed, &[6, ordinal as u64]);
        let (id, name, initials) = match NAMES.get(ordinal) {
            Some((id, name, initials)) => ((*id).into(), (*name).into(), (*initials).into()),
            None => {
                let n = ordinal + 1;
                (format!("hospital-{n}"), format!("Hospital Number {n}"), format!("H{n}"))
            }
        };
        let staff = (0..12)
            .map(|_| {
                let (given, family) = (names::given(rng, rng.clone().chance(500)), names::family(rng));
                Practitioner {
                    id: rng.wide(),
                    npi: format!("1{:09}", rng.between(100_000_000, 999_999_999)),
                    email: format!("{}.{}@{id}.example.org", names::folded(&given), names::folded(&family)),
                    given,
                    family,
                }
            })
            .collect();
        Self { ordinal, id, name, initials, staff }
    }

    /// The practitioner chosen by `number`.
    pub fn practitioner(&self, number: u64) -> &Practitioner {
        &self.staff[(number % self.staff.len() as u64) as usize]
    }
}

/// How a person agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// On paper: a line of `consents.csv`.
    Paper,
    /// As a FHIR Consent that permits research.
    Electronic,
    /// As a FHIR Consent that denies it.
    Refused,
    /// Never asked.
    Unknown,
}

/// What `person` decided at hospital `ordinal`: half on paper, a quarter electronically, one in twelve refused.
pub fn agreement(seed: u64, person: u64, ordinal: usize) -> Agreement {
    match Rng::named(seed, &[7, person, ordinal as u64]).below(12) {
        0..=6 => Agreement::Paper,
        7..=9 => Agreement::Electronic,
        10 => Agreement::Refused,
        _ => Agreement::Unknown,
    }
}

/// Versions of the paper form.
const FORMS: [&str; 2] = ["broad@1", "broad@2"];

/// What they say, for the exchange to read.
const FORMS_SAY: &str = r#"# What each version of this hospital's consent form permits.
[[form]]
id = "broad"
version = "1"
title = "Consent to health research"
[form.rules]
effect = "permit"
purposes = ["DUO:0000006"]

[[form]]
id = "broad"
version = "2"
title = "Consent to health research, for thirty years, without genetic data"
years_valid = 30
[form.rules]
effect = "silent"
[[form.rules.provisions]]
effect = "permit"
purposes = ["DUO:0000006"]
[[form.rules.provisions]]
effect = "deny"
categories = ["genetics"]
"#;

/// Writes the export of `site` into `folder`.
///
/// # Errors
/// If a file cannot be written.
pub fn write<W: Write>(
    folder: &Path,
    options: &Options,
    site: &Site,
    planted: &mut Planted<W>,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<Hospital> {
    let mut fhir = options.fhir.then(|| Fhir::create(&folder.join("fhir"), site)).transpose()?;
    let mut omop = options.omop.then(|| Omop::create(&folder.join("omop"), site)).transpose()?;
    super::output::small(folder, "forms.toml", FORMS_SAY.as_bytes())?;
    let mut papers = Sheet::whole(folder, "consents.csv", "record_number,form_version,date,evidence_digest")?;
    for practitioner in &site.staff {
        let id = &practitioner.npi;
        planted.add("Practitioner", id, "identifier_NPI", id)?;
        planted.add("Practitioner", id, "family", &practitioner.family)?;
        planted.add("Practitioner", id, "given", &practitioner.given)?;
        planted.add("Practitioner", id, "telecom_email", &practitioner.email)?;
    }
    let (mut persons, mut shared, mut on_paper, mut since) = (0, 0, 0, 0);
    for number in 0..options.patients {
        let hospitals = people::hospitals(options.seed, number, options.hospitals, options.overlap_per_mille);
        if hospitals.0 != site.ordinal && hospitals.1 != Some(site.ordinal) {
            continue;
        }
        let person = Person::new(options.seed, number, hospitals);
        let record = person.record(options.seed, site.ordinal, &site.initials);
        let agreement = agreement(options.seed, number, site.ordinal);
        planted.person(&person, &record)?;
        if let Some(fhir) = &mut fhir {
            fhir.person(&person, &record, agreement)?;
        }
        if let Some(omop) = &mut omop {
            omop.person(&person, &record)?;
        }
        write_visits(options, site.ordinal, (&person, &record), &mut fhir, &mut omop)?;
        if agreement == Agreement::Paper {
            on_paper += 1;
            papers.line(paper(options.seed, &person, &record).bytes())?;
        }
        if persons % faults::EVERY == 0 {
            faults::write((fhir.as_mut(), omop.as_mut()), (&person, &record), planted)?;
        }
        persons += 1;
        shared += u64::from(hospitals.1.is_some());
        since += 1;
        if since == 64 {
            progress(since);
            since = 0;
        }
    }
    papers.finish()?;
    progress(since);
    let fhir = fhir.map(Fhir::finish).transpose()?.unwrap_or_default();
    let omop = omop.map(Omop::finish).transpose()?.unwrap_or_default();
    Ok(Hospital {
        id: site.id.clone(),
        name: site.name.clone(),
        persons,
        shared,
        consents_on_paper: on_paper,
        consents_in_fhir: fhir.consents,
        fhir_lines: fhir.lines,
        fhir_faults: fhir.faults,
        omop_rows: omop.lines,
        omop_faults: omop.faults,
        bytes: papers.bytes + fhir.bytes + omop.bytes,
    })
}

/// What a renderer wrote.
#[derive(Clone, Copy, Default, Debug)]
pub struct Written {
    /// Lines.
    pub lines: u64,
    /// Of these, lines that no reader can accept.
    pub faults: u64,
    /// Of these, Consent resources.
    pub consents: u64,
    /// Bytes.
    pub bytes: u64,
}

fn write_visits(
    options: &Options,
    ordinal: usize,
    (person, record): (&Person, &Record),
    fhir: &mut Option<Fhir<'_>>,
    omop: &mut Option<Omop<'_>>,
) -> io::Result<()> {
    let mut outcome = Ok(());
    life::play(options.seed, person, ordinal, options.years, &mut |visit, events| {
        if let (Ok(()), Some(fhir)) = (&outcome, fhir.as_mut()) {
            outcome = fhir.visit((person, record), visit, events);
        }
        if let (Ok(()), Some(omop)) = (&outcome, omop.as_mut()) {
            outcome = omop.visit((person, record), visit, events);
        }
    });
    outcome
}

/// A line of the list of paper consents: record number, version of the form, day of signature, digest of the scan.
fn paper(seed: u64, person: &Person, record: &Record) -> Json {
    let rng = &mut Rng::named(seed, &[8, person.number]);
    let mut line = Json::default();
    let signed = people::TODAY.plus_days(-rng.between(30, 900) as i32);
    line.raw(&record.mrn).raw(",").raw(rng.word(&FORMS)).raw(",").date(signed).raw(",");
    for _ in 0..4 {
        line.raw(&format!("{:016x}", rng.bits()));
    }
    line
}
