//! Patient → person and death, and what of a patient is told to the registry.

use almoner_model::{PartialDate, in_united_states};

use super::datatypes::{Address, Coding, Extension, Identifier, text};
use super::findings::Finding;
use super::mapper::{Chosen, End, FhirMapper, Mapped, set_code, set_when};
use super::reference::Target;
use super::resources::Patient;
use crate::mapping::Form;
use crate::mapping::outcome::{Locator, Outcome, reason, rule};
use almoner_model::Vocabulary;

const US_CORE_RACE: &str = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race";
const US_CORE_ETHNICITY: &str = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity";
const US_CORE_BIRTH_SEX: &str = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex";

/// An acceptable Patient: an id and a birth date are there. For linkage and record numbers; wiped with its line.
#[derive(Debug)]
pub struct PatientFacts<'a> {
    /// Where it lies.
    pub at: Locator,
    /// `Patient.id`.
    pub source_id: &'a str,
    /// Birth date.
    pub birth: PartialDate,
    /// The id of the patient that this one was merged into.
    pub replaced_by: Option<&'a str>,
    /// All else, for linkage.
    pub patient: &'a Patient<'a>,
}

impl PatientFacts<'_> {
    /// System and value of every identifier: what conditional and logical references name.
    pub fn identifiers(&self) -> impl Iterator<Item = (&str, &str)> {
        let identifiers = self.patient.identifier.iter();
        identifiers.map(|i| (text(&i.system), text(&i.value).trim())).filter(|(_, value)| !value.is_empty())
    }

    /// What the hospital means as record numbers, with their systems: identifiers of type `MR`; where a patient has none,
    /// the untyped ones that are in use in daily work (`Identifier.use` `usual`). Old and temporary ones never.
    pub fn record_numbers(&self) -> impl Iterator<Item = (&str, &str)> {
        let identifiers = &self.patient.identifier;
        let is_mr = |i: &Identifier<'_>| i.r#type.as_ref().is_some_and(|t| t.has(&["MR"]));
        let any_typed = identifiers.iter().any(is_mr);
        identifiers
            .iter()
            .filter(move |i| match any_typed {
                true => is_mr(i) && !matches!(text(&i.r#use), "old" | "temp"),
                false => text(&i.r#use) == "usual" && i.r#type.as_ref().is_none_or(|t| t.coding.is_empty()),
            })
            .map(|i| (text(&i.system), text(&i.value).trim()))
            .filter(|(_, value)| !value.is_empty())
    }

    /// The identifiers of a type of HL7 table 0203 (`SS`, `DL`, …).
    pub fn identifiers_of(&self, code: &'static str) -> impl Iterator<Item = &str> {
        let identifiers = self.patient.identifier.iter();
        identifiers.filter(move |i| i.r#type.as_ref().is_some_and(|t| t.has(&[code]))).map(|i| text(&i.value))
    }

    /// The official name, else the first: family and given names.
    pub fn name(&self) -> Option<(&str, Vec<&str>)> {
        let names = &self.patient.name;
        let name = names.iter().find(|n| text(&n.r#use) == "official").or_else(|| names.first())?;
        Some((text(&name.family), name.given.iter().flatten().map(|given| &**given).collect()))
    }

    /// The current postal code.
    pub fn postal_code(&self) -> Option<&str> {
        current_address(self.patient).and_then(|a| a.postal_code.as_deref())
    }
}

/// Whether a Patient is mapped: both passes ask here.
pub(super) fn accept<'a>(at: Locator, patient: &'a Patient<'a>) -> Result<PatientFacts<'a>, Outcome> {
    let source_id = patient.id.as_deref().filter(|id| !id.is_empty()).ok_or(Outcome::broken(rule::NO_ID))?;
    let birth = patient.birth_date.as_ref().ok_or(Outcome::broken(rule::NO_BIRTH_DATE))?;
    let birth = PartialDate::parse(birth.as_bytes()).ok_or(Outcome::broken(rule::INVALID_DATE))?;
    let replaced_by =
        patient.link.iter().filter(|link| text(&link.r#type) == "replaced-by").find_map(|link| {
            match link.other.target() {
                // A record does not take its own place.
                Some(Target::Id { kind: None | Some("Patient"), id }) if id != source_id => Some(id),
                _ => None,
            }
        });
    Ok(PatientFacts { at, source_id, birth, replaced_by, patient })
}

/// The address in use: not an old or billing one, and without an end where there is a choice.
fn current_address<'p>(patient: &'p Patient<'_>) -> Option<&'p Address<'p>> {
    let usable = || patient.address.iter().filter(|a| !matches!(text(&a.r#use), "old" | "billing"));
    usable()
        .find(|a| a.period.as_ref().is_none_or(|p| p.end.is_none()))
        .or_else(|| usable().next())
        .or_else(|| patient.address.first())
}

/// The OMB category of a US Core race or ethnicity extension.
fn omb<'p>(patient: &'p Patient<'_>, url: &str) -> Option<&'p Coding<'p>> {
    let complex = patient.extension.iter().find(|e| text(&e.url) == url)?;
    let omb = complex.extension.iter().find(|e: &&Extension<'_>| text(&e.url) == "ombCategory")?;
    omb.value_coding.as_ref()
}

fn omb_code<'r>(coding: Option<&'r Coding<'_>>) -> Option<Chosen<'r>> {
    let code = text(&coding?.code);
    Vocabulary::Race.accepts(code).then_some(Chosen::Known(Vocabulary::Race, code))
}

impl FhirMapper<'_> {
    pub(super) fn patient(&mut self, at: Locator, patient: &Patient<'_>) -> Mapped {
        let facts = accept(at, patient)?;
        let row_key = self.hasher.row_key("Patient", facts.source_id);
        self.stated_key = Some(row_key);
        if facts.replaced_by.is_some() && self.ctx.persons.is_merged_away(facts.source_id) {
            return Err(Outcome::Unmapped(reason::MERGED).into());
        }
        let person = self.ctx.persons.find(Form::Fhir, facts.source_id);
        let person = person.ok_or(Outcome::broken(rule::DANGLING_PATIENT))?;
        if self.ctx.references.is_deleted_person(self.ctx.persons, person) {
            return Err(Outcome::Unmapped(reason::DELETED).into());
        }
        let death = match &patient.deceased_date_time {
            Some(text) => Some(self.date(person, text)?),
            None => None,
        };
        if patient.deceased_boolean == Some(true) && death.is_none() {
            self.out.findings.note(Finding::DeathWithoutDate);
        }
        self.person_row(person, row_key, &facts)?;
        if let Some(death) = death {
            let columns = self.columns.death;
            let mut row = self.rows.row(columns.table, person, at.ordinal(), row_key);
            set_when(&mut row, columns.death_date, columns.death_datetime, death);
            row.int64(columns.death_type_concept_id, self.ctx.rules.types().ehr);
            row.finish()?;
        }
        Ok(())
    }

    fn person_row(&mut self, person: u32, row_key: u64, facts: &PatientFacts<'_>) -> Result<(), End> {
        let (rules, columns, patient) = (self.ctx.rules, self.columns.person, facts.patient);
        let gender = text(&patient.gender);
        let birth_sex = patient.extension.iter().find(|e| text(&e.url) == US_CORE_BIRTH_SEX);
        let gender_concept = match birth_sex.map(|e| text(&e.value_code)) {
            Some("F") => rules.gender("female"),
            Some("M") => rules.gender("male"),
            _ => rules.gender(gender),
        };
        let (race, ethnicity) = (omb(patient, US_CORE_RACE), omb(patient, US_CORE_ETHNICITY));
        let concept = |coding: Option<&Coding<'_>>, pair: &dyn Fn(&str) -> i64| {
            coding.map_or(0, |coding| pair(text(&coding.code)))
        };
        let mut row = self.rows.row(columns.table, person, facts.at.ordinal(), row_key);
        let scratch = &mut self.scratch;
        row.int64(columns.gender_concept_id, gender_concept)
            .int64(columns.year_of_birth, i64::from(facts.birth.date.year()))
            .int64(columns.race_concept_id, concept(race, &|code| rules.race(code)))
            .int64(columns.ethnicity_concept_id, concept(ethnicity, &|code| rules.ethnicity(code)));
        if facts.birth.precision >= almoner_model::DatePrecision::Month {
            row.int64(columns.month_of_birth, i64::from(facts.birth.date.month()));
        }
        if facts.birth.precision == almoner_model::DatePrecision::Day {
            row.int64(columns.day_of_birth, i64::from(facts.birth.date.day()));
        }
        if matches!(gender, "male" | "female" | "other" | "unknown") {
            let gender = Some(Chosen::Known(Vocabulary::Gender, gender));
            set_code(&mut row, scratch, columns.gender_source_value, None, gender);
        }
        set_code(&mut row, scratch, columns.race_source_value, None, omb_code(race));
        set_code(&mut row, scratch, columns.ethnicity_source_value, None, omb_code(ethnicity));
        let american = |a: &&Address<'_>| in_united_states(a.country.as_deref(), a.state.as_deref());
        if let Some(address) = current_address(patient).filter(american) {
            if let Some(zip) = address.postal_code.as_deref() {
                row.string(columns.zip, zip);
            }
            if let Some(state) = address.state.as_deref() {
                row.string(columns.state, state);
            }
        }
        Ok(row.finish()?)
    }
}
