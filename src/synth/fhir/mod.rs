//! Writes the population as a FHIR R4 bulk export (HL7 Bulk Data Access, one resource a line, files by type).
//!
//! Which identifier hides in which resource is decided by the visit's `hiding` bits. Every second hospital ends the lines
//! of one type with CRLF, begins another with a byte order mark, and escapes characters outside ASCII, as exporters do.

mod clinical;
mod papers;
mod patient;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::codes::{Term, miscodings};
use super::json::Json;
use super::life::{Event, Visit};
use super::output::{self, Sheet};
use super::people::{Person, Record};
use super::site::{Agreement, Site, Written};

/// The types that are written, in the order of [`Fhir::sheets`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Patient,
    Encounter,
    Condition,
    Observation,
    MedicationRequest,
    MedicationAdministration,
    MedicationStatement,
    MedicationDispense,
    Procedure,
    Immunization,
    AllergyIntolerance,
    Device,
    Specimen,
    DiagnosticReport,
    DocumentReference,
    Consent,
    RelatedPerson,
    Coverage,
    Practitioner,
    Organization,
    Location,
}

const TYPES: [(Type, &str); 21] = [
    (Type::Patient, "Patient"),
    (Type::Encounter, "Encounter"),
    (Type::Condition, "Condition"),
    (Type::Observation, "Observation"),
    (Type::MedicationRequest, "MedicationRequest"),
    (Type::MedicationAdministration, "MedicationAdministration"),
    (Type::MedicationStatement, "MedicationStatement"),
    (Type::MedicationDispense, "MedicationDispense"),
    (Type::Procedure, "Procedure"),
    (Type::Immunization, "Immunization"),
    (Type::AllergyIntolerance, "AllergyIntolerance"),
    (Type::Device, "Device"),
    (Type::Specimen, "Specimen"),
    (Type::DiagnosticReport, "DiagnosticReport"),
    (Type::DocumentReference, "DocumentReference"),
    (Type::Consent, "Consent"),
    (Type::RelatedPerson, "RelatedPerson"),
    (Type::Coverage, "Coverage"),
    (Type::Practitioner, "Practitioner"),
    (Type::Organization, "Organization"),
    (Type::Location, "Location"),
];

/// A FHIR export in the making.
#[derive(Debug)]
pub struct Fhir<'a> {
    site: &'a Site,
    dir: PathBuf,
    sheets: Vec<Sheet>,
    json: Json,
    /// Text of a note before it is encoded.
    note: String,
    faults: u64,
    strangers: u64,
    lone: u64,
}

/// Time zone of every hospital.
const ZONE: &str = "-05:00";

impl<'a> Fhir<'a> {
    /// An export of `site` in `dir`, with its staff and place already written.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn create(dir: &Path, site: &'a Site) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let odd = site.ordinal % 2 == 1;
        let sheets = TYPES
            .iter()
            .map(|(kind, name)| {
                let crlf = odd && *kind == Type::AllergyIntolerance;
                Sheet::bulk(dir, name, if crlf { b"\r\n" } else { b"\n" })
            })
            .collect();
        let json = Json::new(odd);
        let (dir, note) = (dir.to_owned(), String::new());
        let mut fhir = Self { site, dir, sheets, json, note, faults: 0, strangers: 0, lone: 0 };
        if odd {
            fhir.sheets[Type::Practitioner as usize].begin_with(b"\xef\xbb\xbf");
        }
        fhir.institution()?;
        Ok(fhir)
    }

    /// Ends the line in the making and files it under `kind`.
    fn file(&mut self, kind: Type) -> io::Result<()> {
        let outcome = self.sheets[kind as usize].line(self.json.bytes());
        self.json.clear();
        outcome
    }

    /// Files a line that no reader can accept under `kind`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fault(&mut self, kind: Type, line: &[u8]) -> io::Result<()> {
        self.faults += 1;
        self.sheets[kind as usize].line(line)
    }

    /// Files the same readable line again, or one that is not written by the renderer, under `kind`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn odd_line(&mut self, kind: Type, line: &[u8]) -> io::Result<()> {
        self.sheets[kind as usize].line(line)
    }

    /// A file that is not part of the export proper.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn stranger(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.strangers += content.len() as u64;
        output::small(&self.dir, name, content)
    }

    /// A file of one line whose name says what is in it, and more.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn lone(&mut self, name: &str, line: &[u8]) -> io::Result<()> {
        self.lone += 1;
        self.stranger(name, line)
    }

    /// Writes a person: the Patient, next of kin, insurance, and a Consent if they gave or refused one electronically.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn person(&mut self, person: &Person, record: &Record, agreement: Agreement) -> io::Result<()> {
        self.patient(person, record)?;
        self.file(Type::Patient)?;
        if person.number.is_multiple_of(3) {
            self.related_person(person, record);
            self.file(Type::RelatedPerson)?;
            self.coverage(person, record);
            self.file(Type::Coverage)?;
        }
        if matches!(agreement, Agreement::Electronic | Agreement::Refused) {
            self.consent(person, record, agreement == Agreement::Electronic);
            self.file(Type::Consent)?;
        }
        Ok(())
    }

    /// Writes a visit and everything that happened at it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn visit(
        &mut self,
        (person, record): (&Person, &Record),
        visit: &Visit,
        events: &[Event],
    ) -> io::Result<()> {
        self.encounter(person, record, visit, events);
        self.file(Type::Encounter)?;
        for (at, event) in events.iter().enumerate() {
            let scene = Scene { person, record, visit, id: event_id(visit, at), at };
            let kind = match event {
                Event::Condition(..) => Type::Condition,
                Event::Pressure(..) | Event::Measure(..) | Event::Smoking(..) => Type::Observation,
                Event::Prescription(..) => Type::MedicationRequest,
                Event::Dose(..) => Type::MedicationAdministration,
                Event::Reported(..) => Type::MedicationStatement,
                Event::Dispensed(..) => Type::MedicationDispense,
                Event::Procedure(..) => Type::Procedure,
                Event::Vaccine(..) => Type::Immunization,
                Event::Allergy(..) => Type::AllergyIntolerance,
                Event::Device(..) => Type::Device,
                Event::Specimen => Type::Specimen,
                Event::Report(..) => Type::DiagnosticReport,
                Event::Note => Type::DocumentReference,
            };
            self.event(&scene, event, events);
            self.file(kind)?;
        }
        Ok(())
    }

    /// Writes the manifest-like log that bulk export clients leave behind, and closes every file.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(mut self) -> io::Result<Written> {
        let log = format!(
            "{{\"exportId\":\"{}\",\"eventId\":\"kickoff\",\"eventDetail\":{{\"exportUrl\":\"https://{}.example.org/fhir/Group/all/$export\"}}}}\n",
            self.site.id, self.site.id
        );
        self.stranger("log.ndjson", log.as_bytes())?;
        let mut written =
            Written { faults: self.faults, bytes: self.strangers, lines: self.lone, consents: 0 };
        for sheet in &mut self.sheets {
            sheet.finish()?;
            written.lines += sheet.lines;
            written.bytes += sheet.bytes;
        }
        written.consents = self.sheets[Type::Consent as usize].lines;
        Ok(written)
    }
}

/// One event of one visit of one person.
struct Scene<'s> {
    person: &'s Person,
    record: &'s Record,
    visit: &'s Visit,
    id: u128,
    at: usize,
}

impl Scene<'_> {
    /// True for about one event in `of` (a power of two): an identifier hides here.
    const fn hides(&self, of: u64) -> bool {
        self.visit.hiding.rotate_left(self.at as u32 * 5 % 64) & (of - 1) == 0
    }
}

/// The id of event `at` of `visit`.
pub const fn event_id(visit: &Visit, at: usize) -> u128 {
    visit.id.wrapping_add((at as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

impl Json {
    /// `{"resourceType":"…","id":"…"`, the beginning of a resource with an invented id.
    fn resource(&mut self, name: &str, id: u128) -> &mut Self {
        self.raw("{\"resourceType\":\"").raw(name).raw("\",\"id\":\"").uuid(id).raw("\"")
    }

    /// `{"coding":[…],"text":…}`.
    fn concept(&mut self, term: &Term, text: &str) -> &mut Self {
        self.raw("{\"coding\":[").coding(term).raw("],\"text\":").text(text).raw("}")
    }

    fn coding(&mut self, term: &Term) -> &mut Self {
        self.raw("{\"system\":\"").raw(term.system).raw("\",\"code\":\"").raw(term.code);
        self.raw("\",\"display\":").text(term.display).raw("}")
    }

    /// `,"<field>":{"reference":"Patient/…"}`.
    fn patient_ref(&mut self, field: &str, record: &Record) -> &mut Self {
        self.raw(",\"").raw(field).raw("\":{\"reference\":\"Patient/").raw(&record.id).raw("\"}")
    }

    /// `,"encounter":{"reference":"Encounter/…"}`.
    fn encounter_ref(&mut self, visit: &Visit) -> &mut Self {
        self.raw(",\"encounter\":{\"reference\":\"Encounter/").uuid(visit.id).raw("\"}")
    }

    /// `,"<field>":"<time of the visit>"`.
    fn when(&mut self, field: &str, visit: &Visit) -> &mut Self {
        self.raw(",\"").raw(field).raw("\":\"").time(visit.start, visit.at, ZONE).raw("\"")
    }

    /// A conditional reference, which carries the provider identifier and does not resolve by id.
    fn practitioner_ref(&mut self, site: &Site, number: u64) -> &mut Self {
        let who = site.practitioner(number);
        self.raw("{\"reference\":\"Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|").raw(&who.npi);
        self.raw("\",\"display\":\"Dr. ").inner(&who.given).raw(" ").inner(&who.family).raw("\"}")
    }
}

impl Fhir<'_> {
    /// Writes readable resources whose codes and units are the person's names and numbers.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn disguise(&mut self, person: &Person, record: &Record) -> io::Result<()> {
        clinical::disguised(&mut self.json, person, record);
        self.file(Type::Observation)?;
        clinical::misclassed(&mut self.json, person, record);
        self.file(Type::Encounter)?;
        for (at, wrong) in miscodings(person, record).iter().enumerate() {
            clinical::miscoded(&mut self.json, record, (at, (wrong.system, &wrong.code)));
            self.file(Type::Observation)?;
        }
        Ok(())
    }
}
