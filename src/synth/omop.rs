//! Writes the population as OMOP CDM 5.4 tables in delimited text, with the concept ids already mapped.
//!
//! Every second hospital writes tabs instead of commas and names in capitals, and its person ids are negative. Names,
//! addresses and record numbers stand where extracts leave them: `person_source_value`, `location`, `provider`, `sig`,
//! `value_as_string`, `note_text`, source values that are not codes, and columns and tables of no standard.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use almoner_model::Date;

use super::codes::{
    BLOOD, CVX, HEART_RATE, LOINC, Measured, RXNORM, SMOKING, SMOKING_ANSWERS, Term, UCUM, miscodings,
};
use super::json::Json;
use super::life::{Class, Event, Visit, pressures};
use super::output::{self, Sheet};
use super::people::{Person, Record};
use super::site::{Site, Written};

/// The tables that get rows, in the order of [`TABLES`], which has an empty one beside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    Person,
    Location,
    Provider,
    CareSite,
    Visit,
    Condition,
    Drug,
    Procedure,
    Device,
    Measurement,
    Observation,
    Specimen,
    Note,
    Death,
}

const TABLES: [(&str, &str); 15] = [
    (
        "person",
        "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime,race_concept_id,ethnicity_concept_id,location_id,provider_id,care_site_id,person_source_value,gender_source_value,gender_source_concept_id,race_source_value,race_source_concept_id,ethnicity_source_value,ethnicity_source_concept_id,patient_name",
    ),
    (
        "location",
        "location_id,address_1,address_2,city,state,zip,county,location_source_value,country_concept_id,country_source_value,latitude,longitude",
    ),
    (
        "provider",
        "provider_id,provider_name,npi,dea,specialty_concept_id,care_site_id,year_of_birth,gender_concept_id,provider_source_value,specialty_source_value,specialty_source_concept_id,gender_source_value,gender_source_concept_id",
    ),
    (
        "care_site",
        "care_site_id,care_site_name,place_of_service_concept_id,location_id,care_site_source_value,place_of_service_source_value",
    ),
    (
        "visit_occurrence",
        "visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_end_date,visit_end_datetime,visit_type_concept_id,provider_id,care_site_id,visit_source_value,visit_source_concept_id,admitted_from_concept_id,admitted_from_source_value,discharged_to_concept_id,discharged_to_source_value,preceding_visit_occurrence_id",
    ),
    (
        "condition_occurrence",
        "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_start_datetime,condition_end_date,condition_end_datetime,condition_type_concept_id,condition_status_concept_id,stop_reason,provider_id,visit_occurrence_id,visit_detail_id,condition_source_value,condition_source_concept_id,condition_status_source_value",
    ),
    (
        "drug_exposure",
        "drug_exposure_id,person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_start_datetime,drug_exposure_end_date,drug_exposure_end_datetime,verbatim_end_date,drug_type_concept_id,stop_reason,refills,quantity,days_supply,sig,route_concept_id,lot_number,provider_id,visit_occurrence_id,visit_detail_id,drug_source_value,drug_source_concept_id,route_source_value,dose_unit_source_value",
    ),
    (
        "procedure_occurrence",
        "procedure_occurrence_id,person_id,procedure_concept_id,procedure_date,procedure_datetime,procedure_end_date,procedure_end_datetime,procedure_type_concept_id,modifier_concept_id,quantity,provider_id,visit_occurrence_id,visit_detail_id,procedure_source_value,procedure_source_concept_id,modifier_source_value",
    ),
    (
        "device_exposure",
        "device_exposure_id,person_id,device_concept_id,device_exposure_start_date,device_exposure_start_datetime,device_exposure_end_date,device_exposure_end_datetime,device_type_concept_id,unique_device_id,production_id,quantity,provider_id,visit_occurrence_id,visit_detail_id,device_source_value,device_source_concept_id,unit_concept_id,unit_source_value,unit_source_concept_id",
    ),
    (
        "measurement",
        "measurement_id,person_id,measurement_concept_id,measurement_date,measurement_datetime,measurement_time,measurement_type_concept_id,operator_concept_id,value_as_number,value_as_concept_id,unit_concept_id,range_low,range_high,provider_id,visit_occurrence_id,visit_detail_id,measurement_source_value,measurement_source_concept_id,unit_source_value,unit_source_concept_id,value_source_value,measurement_event_id,meas_event_field_concept_id",
    ),
    (
        "observation",
        "observation_id,person_id,observation_concept_id,observation_date,observation_datetime,observation_type_concept_id,value_as_number,value_as_string,value_as_concept_id,qualifier_concept_id,unit_concept_id,provider_id,visit_occurrence_id,visit_detail_id,observation_source_value,observation_source_concept_id,unit_source_value,qualifier_source_value,value_source_value,observation_event_id,obs_event_field_concept_id",
    ),
    (
        "specimen",
        "specimen_id,person_id,specimen_concept_id,specimen_type_concept_id,specimen_date,specimen_datetime,quantity,unit_concept_id,anatomic_site_concept_id,disease_status_concept_id,specimen_source_id,specimen_source_value,unit_source_value,anatomic_site_source_value,disease_status_source_value",
    ),
    (
        "note",
        "note_id,person_id,note_date,note_datetime,note_type_concept_id,note_class_concept_id,note_title,note_text,encoding_concept_id,language_concept_id,provider_id,visit_occurrence_id,visit_detail_id,note_source_value,note_event_id,note_event_field_concept_id",
    ),
    (
        "death",
        "person_id,death_date,death_datetime,death_type_concept_id,cause_concept_id,cause_source_value,cause_source_concept_id",
    ),
    (
        "fact_relationship",
        "domain_concept_id_1,fact_id_1,domain_concept_id_2,fact_id_2,relationship_concept_id",
    ),
];

/// OMOP type concept "EHR".
const EHR: i64 = 32_817;
const RACES: [(i64, &str); 4] = [(8527, "white"), (8516, "black"), (8515, "asian"), (0, "other")];

/// OMOP tables in the making.
#[derive(Debug)]
pub struct Omop<'a> {
    site: &'a Site,
    dir: PathBuf,
    sheets: Vec<Sheet>,
    json: Json,
    separator: &'static str,
    visits: i64,
    faults: u64,
    strangers: u64,
}

impl<'a> Omop<'a> {
    /// The tables of `site` in `dir`, with its staff already written.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn create(dir: &Path, site: &'a Site) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let odd = site.ordinal % 2 == 1;
        let separator = if odd { "\t" } else { "," };
        let sheets = TABLES
            .iter()
            .map(|(name, head)| {
                let head = head.replace(',', separator);
                if odd {
                    let name = format!("{}.csv", name.to_ascii_uppercase());
                    Sheet::whole(dir, &name, &head.to_ascii_uppercase())
                } else {
                    Sheet::whole(dir, &format!("{name}.csv"), &head)
                }
            })
            .collect::<io::Result<_>>()?;
        let (dir, json) = (dir.to_owned(), Json::default());
        let mut omop = Self { site, dir, sheets, json, separator, visits: 0, faults: 0, strangers: 0 };
        omop.institution()?;
        Ok(omop)
    }

    fn institution(&mut self) -> io::Result<()> {
        let site = self.site;
        self.row().number(1).text(&site.name).number(8756).none().text(&site.id).none();
        self.file(Table::CareSite)?;
        for (at, who) in site.staff.iter().enumerate() {
            let name = format!("Dr. {} {}", who.given, who.family);
            self.row().number(at as i64 + 1).text(&name).text(&who.npi).none().number(0).number(1).none();
            self.rest().number(0).text(&who.email).none().number(0).none().number(0);
            self.file(Table::Provider)?;
        }
        Ok(())
    }

    fn row(&mut self) -> Row<'_> {
        self.json.clear();
        Row { json: &mut self.json, separator: self.separator }
    }

    fn rest(&mut self) -> Row<'_> {
        Row { json: &mut self.json, separator: self.separator }
    }

    fn file(&mut self, table: Table) -> io::Result<()> {
        self.sheets[table as usize].line(self.json.bytes())
    }

    fn next(&self, table: Table) -> i64 {
        self.sheets[table as usize].lines as i64 + 1
    }

    /// Files a row that no reader can accept; commas become the separator.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fault(&mut self, table: Table, row: &str) -> io::Result<()> {
        self.faults += 1;
        let row = row.replace(',', self.separator);
        self.sheets[table as usize].line(row.as_bytes())
    }

    /// A file that is no OMOP table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn stranger(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.strangers += content.len() as u64;
        output::small(&self.dir, name, content)
    }

    /// Writes a person, where they live, and their death.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn person(&mut self, person: &Person, record: &Record) -> io::Result<()> {
        let location = self.next(Table::Location);
        self.row().number(location).text(&person.street).none().text(person.place.town);
        self.rest().text(person.place.state).text(&person.zip).none().text(&record.mrn).number(0).none();
        self.rest().plain(&person.latitude).plain(&person.longitude);
        self.file(Table::Location)?;
        let (race, words) = RACES[person.race];
        let (sex, letter) = if person.female { (8532, "F") } else { (8507, "M") };
        let birth = person.birth;
        self.row().number(record.person_id).number(sex).number(birth.year().into());
        self.rest().number(birth.month().into()).number(birth.day().into()).moment(birth, 0).number(race);
        self.rest().number(if person.hispanic { 38_003_563 } else { 38_003_564 }).number(location);
        self.rest()
            .number((person.number % 12) as i64 + 1)
            .number(1)
            .text(&record.mrn)
            .text(letter)
            .number(0);
        self.rest().text(words).number(0).none().number(0).text(&person.addressed());
        self.file(Table::Person)?;
        if let Some(death) = person.death {
            self.row().number(record.person_id).date(death).moment(death, 40_219).number(EHR).number(0);
            self.rest().text(&format!("as told by {}", person.kin)).number(0);
            self.file(Table::Death)?;
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
        self.visits += 1;
        let class = match visit.class {
            Class::Ambulatory => 9202,
            Class::Emergency => 9203,
            Class::Inpatient => 9201,
        };
        let number = format!("V-{}-{}", record.mrn, self.visits);
        let visits = self.visits;
        self.row().number(visits).number(record.person_id).number(class);
        self.rest().date(visit.start).moment(visit.start, visit.at);
        self.rest().date(visit.end).moment(visit.end, visit.at + 1500).number(EHR);
        self.rest()
            .number(provider(visit))
            .number(1)
            .text(&number)
            .number(0)
            .number(0)
            .none()
            .number(0)
            .none();
        self.rest().none();
        self.file(Table::Visit)?;
        events.iter().try_for_each(|event| self.event(person, record, visit, event))
    }

    fn event(&mut self, person: &Person, record: &Record, visit: &Visit, event: &Event) -> io::Result<()> {
        match event {
            Event::Condition(term, onset, end) => self.condition(record, visit, term, (*onset, *end)),
            Event::Pressure(systolic, diastolic) => pressures(*systolic, *diastolic)
                .into_iter()
                .try_for_each(|(what, value)| self.measure(record, visit, what, value)),
            Event::Measure(what, value) => self.measure(record, visit, what, *value),
            Event::Smoking(answer) => {
                let words = format!("{}: {}", person.addressed(), SMOKING_ANSWERS[*answer].display);
                self.observation(record, visit, &SMOKING, &words)
            }
            Event::Allergy(term) => {
                self.observation(record, visit, term, &format!("allergic, as told by {}", person.kin))
            }
            Event::Prescription(term, days) | Event::Dispensed(term, days) => {
                self.drug(record, visit, term, *days, &format!("1 daily, {} collects it", person.kin))
            }
            Event::Dose(term) | Event::Reported(term) | Event::Vaccine(term) => {
                self.drug(record, visit, term, 1, "")
            }
            Event::Procedure(term) => {
                let id = self.next(Table::Procedure);
                self.begin(id, record, term).date(visit.start).moment(visit.start, visit.at).none().none();
                self.rest().number(EHR).number(0).none();
                self.place(visit);
                self.rest().source(term).number(0).none();
                self.file(Table::Procedure)
            }
            Event::Device(term) => {
                let id = self.next(Table::Device);
                self.begin(id, record, term).date(visit.start).moment(visit.start, visit.at).none().none();
                let serial = format!("SN{}-{}", visit.hiding % 10_000_000, record.mrn);
                self.rest().number(EHR).text(&serial).none().number(1);
                self.place(visit);
                self.rest().source(term).number(0).number(0).none().number(0);
                self.file(Table::Device)
            }
            Event::Specimen => {
                let id = self.next(Table::Specimen);
                self.begin(id, record, &BLOOD).number(EHR).date(visit.start).moment(visit.start, visit.at);
                self.rest().none().number(0).number(0).number(0).text(&format!("ACC-{}", record.mrn));
                self.rest().source(&BLOOD).none().none().none();
                self.file(Table::Specimen)
            }
            Event::Report(_) => Ok(()),
            Event::Note => self.note(person, record, visit),
        }
    }

    /// Event id, person id and concept id.
    fn begin(&mut self, id: i64, record: &Record, term: &Term) -> Row<'_> {
        self.row().number(id).number(record.person_id).number(term.concept);
        self.rest()
    }

    /// Provider, visit, no visit detail.
    fn place(&mut self, visit: &Visit) {
        let visits = self.visits;
        self.rest().number(provider(visit)).number(visits).none();
    }

    fn condition(
        &mut self,
        record: &Record,
        visit: &Visit,
        term: &Term,
        (onset, end): (Date, Option<Date>),
    ) -> io::Result<()> {
        let id = self.next(Table::Condition);
        self.begin(id, record, term).date(onset).moment(onset, visit.at);
        match end {
            Some(end) => self.rest().date(end).moment(end, visit.at),
            None => self.rest().none().none(),
        };
        self.rest().number(EHR).number(0).none();
        self.place(visit);
        if id % 97 == 0 {
            // Not a code: what an extract does with words that somebody typed.
            self.rest().text(&format!("{} {}", term.display, record.mrn)).number(0).none();
        } else {
            self.rest().source(term).number(0).none();
        }
        self.file(Table::Condition)
    }

    fn measure(&mut self, record: &Record, visit: &Visit, what: &Measured, value: i64) -> io::Result<()> {
        let id = self.next(Table::Measurement);
        self.begin(id, record, &what.term).date(visit.start).moment(visit.start, visit.at).none().number(EHR);
        self.rest().number(0).fixed(value, what.decimals).number(0).number(what.unit_concept).none().none();
        self.place(visit);
        self.rest().source(&what.term).number(0).plain(what.unit).number(0);
        if id % 101 == 0 {
            self.rest().text(&record.wristband);
        } else {
            self.rest().none();
        }
        self.rest().none().none();
        self.file(Table::Measurement)
    }

    fn observation(&mut self, record: &Record, visit: &Visit, term: &Term, words: &str) -> io::Result<()> {
        let id = self.next(Table::Observation);
        self.begin(id, record, term).date(visit.start).moment(visit.start, visit.at).number(EHR).none();
        self.rest().text(words).number(0).number(0).number(0);
        self.place(visit);
        self.rest().source(term).number(0).none().none().none().none().none();
        self.file(Table::Observation)
    }

    fn drug(&mut self, record: &Record, visit: &Visit, term: &Term, days: i64, sig: &str) -> io::Result<()> {
        let id = self.next(Table::Drug);
        let end = visit.start.plus_days(days as i32 - 1);
        self.begin(id, record, term).date(visit.start).moment(visit.start, visit.at);
        self.rest().date(end).moment(end, visit.at).none().number(EHR).none().number(3).number(days);
        self.rest().number(days).text(sig).number(0);
        if term.system == CVX {
            self.rest().text(&format!("LOT-{}", record.wristband));
        } else {
            self.rest().none();
        }
        self.place(visit);
        self.rest().source(term).number(0).none().none();
        self.file(Table::Drug)
    }

    fn note(&mut self, person: &Person, record: &Record, visit: &Visit) -> io::Result<()> {
        let (id, visits) = (self.next(Table::Note), self.visits);
        let text = format!(
            "{}, \"{}\", of {}, {}.\nReached on {}. Insured under {}.",
            person.addressed(),
            record.mrn,
            person.street,
            person.place.town,
            person.phone,
            record.member
        );
        self.row().number(id).number(record.person_id).date(visit.start).moment(visit.start, visit.at);
        self.rest().number(EHR).number(0).text(&person.family).text(&text).number(0).number(4_180_186);
        self.rest().number(provider(visit)).number(visits).none().text(&format!("scan/{}.pdf", record.mrn));
        self.rest().none().none();
        self.file(Table::Note)
    }

    /// Writes readable rows whose units and answers are names and numbers of the person under the names of known systems.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn disguise(&mut self, person: &Person, record: &Record) -> io::Result<()> {
        let day = Date::from_ymd(2024, 5, 6).unwrap_or(person.birth);
        for wrong in miscodings(person, record) {
            let id = self.next(Table::Measurement);
            let text = format!("{}:{}", wrong.vocabulary, wrong.code);
            let unit = if wrong.system == UCUM { text.as_str() } else { "UCUM:/min" };
            self.begin(id, record, &HEART_RATE.term).date(day).none().text(&person.family).number(EHR);
            self.rest().number(0).number(71).number(0).number(HEART_RATE.unit_concept).none().none();
            self.rest().none().none().none().source(&HEART_RATE.term).number(0).text(unit).number(0);
            self.rest().text(&text).none().none();
            self.file(Table::Measurement)?;
        }
        Ok(())
    }

    /// Closes every file.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(mut self) -> io::Result<Written> {
        let mut written = Written { faults: self.faults, bytes: self.strangers, ..Written::default() };
        for sheet in &mut self.sheets {
            sheet.finish()?;
            written.lines += sheet.lines;
            written.bytes += sheet.bytes;
        }
        Ok(written)
    }
}

const fn provider(visit: &Visit) -> i64 {
    (visit.practitioner % 12) as i64 + 1
}

/// A row of delimited text in the making (RFC 4180: text is quoted, quotes are doubled).
struct Row<'j> {
    json: &'j mut Json,
    separator: &'static str,
}

impl Row<'_> {
    fn cell(&mut self) -> &mut Json {
        if !self.json.bytes().is_empty() {
            self.json.raw(self.separator);
        }
        self.json
    }

    fn number(mut self, value: i64) -> Self {
        self.cell().number(value);
        self
    }

    fn fixed(mut self, value: i64, decimals: u8) -> Self {
        self.cell().fixed(value, decimals);
        self
    }

    fn plain(mut self, text: &str) -> Self {
        self.cell().raw(text);
        self
    }

    fn text(mut self, text: &str) -> Self {
        let json = self.cell();
        if text.is_empty() {
            return self;
        }
        json.raw("\"");
        for (at, part) in text.split('"').enumerate() {
            json.raw(if at == 0 { "" } else { "\"\"" }).raw(part);
        }
        json.raw("\"");
        self
    }

    fn source(mut self, term: &Term) -> Self {
        let vocabulary = match term.system {
            LOINC => "LOINC:",
            RXNORM => "RxNorm:",
            CVX => "CVX:",
            _ => "SNOMED:",
        };
        self.cell().raw(vocabulary).raw(term.code);
        self
    }

    fn date(mut self, date: Date) -> Self {
        self.cell().date(date);
        self
    }

    fn moment(mut self, date: Date, seconds: u32) -> Self {
        self.cell().date(date).raw(" ").clock(seconds);
        self
    }

    fn none(mut self) -> Self {
        self.cell();
        self
    }
}
