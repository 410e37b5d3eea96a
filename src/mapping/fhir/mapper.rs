//! One resource in, staged rows out: dispatch by type, whose it is, when it was, which code stands for it.
//!
//! The arrow `intake → mapping → gather` for FHIR. A mapper belongs to one thread; what it looks up (people, birth dates,
//! medications, vocabulary) is shared and only read. Every call gives exactly one [`Outcome`]; rows are begun only when
//! nothing can go wrong any more, so a quarantined resource leaves none. All rows of one resource have one row key.

use almoner_model::dates::LocalDateTime;
use almoner_model::{Date, DatePrecision, Sensitive, Tables, Timestamp, Vocabulary};
use serde::Deserialize;

use super::columns::{Columns, MissingColumn};
use super::datatypes::{CodeableConcept, Reference, Text, text};
use super::findings::{Finding, Findings};
use super::reference::Target;
use super::references::References;
use super::resources::{Head, Versioned};
use super::rules::{CodeRole, FhirRules};
use super::types;
use super::version::{id_of, last_updated, updated_of};
use crate::mapping::outcome::{Locator, Outcome, Rule, reason, rule};
use crate::mapping::vocabulary::ConceptLookup;
use crate::mapping::{
    Form, KeyedHasher, NamedIdentifier, PersonIndex, RowWriter, StageError, StagedBuilder, Stated,
};

/// What mapping looks up. Shared by all threads of a run.
#[derive(Clone, Copy)]
pub struct FhirContext<'c> {
    /// Whose ids are known, under which ordinal.
    pub persons: &'c PersonIndex,
    /// What the reference pass found.
    pub references: &'c References,
    /// Loaded vocabularies; [`crate::mapping::vocabulary::NoVocabulary`] without.
    pub vocabulary: &'c dyn ConceptLookup,
    /// Fixed pairs and preferences.
    pub rules: &'c FhirRules,
    /// Events after this day lie in the future.
    pub today: Date,
}

/// A FHIR Consent, unread, with the person whom it is about.
#[derive(Clone, Debug)]
pub struct ConsentFound {
    /// Where it lies.
    pub at: Locator,
    /// Ordinal of the person.
    pub person: u32,
    /// The resource as it was written.
    pub json: Sensitive<String>,
}

/// Something that a bulk export says was deleted at the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// All rows with this key: those of one record, in whatever table.
    Row {
        /// Resource type.
        kind: &'static str,
        /// [`KeyedHasher::row_key`] of type and id.
        row_key: u64,
    },
    /// A Consent.
    Consent {
        /// Its id.
        id: Sensitive<String>,
    },
    /// A person and all rows of theirs.
    Person {
        /// Ordinal.
        person: u32,
    },
}

/// What a mapper gives beside rows.
#[derive(Debug, Default)]
pub struct FhirOutput {
    /// What was noticed.
    pub findings: Findings,
    /// Consents, in no particular order.
    pub consents: Vec<ConsentFound>,
    /// Deletions, in no particular order.
    pub deletions: Vec<Deletion>,
    /// Of a run that continues earlier ones: row keys of the records that the export states anew. What they stated before
    /// no longer holds, whether there is a row of them now, there, or none.
    pub restated: Vec<u64>,
    /// Of a run that continues earlier ones: row keys of drugs whose Medication the export does not have, each
    /// with its line.
    pub uncoded: Vec<(u64, u64)>,
}

/// Maps resources; one a thread.
pub struct FhirMapper<'c> {
    pub(super) ctx: FhirContext<'c>,
    pub(super) hasher: KeyedHasher,
    pub(super) columns: Columns,
    pub(super) rows: StagedBuilder<'c>,
    pub(super) out: FhirOutput,
    pub(super) scratch: String,
    /// Row key of the record that the present line states, once it is known.
    pub(super) stated_key: Option<u64>,
}

/// Why a resource ends early: an outcome, or the run cannot go on.
pub(super) enum End {
    Outcome(Outcome),
    Stage(StageError),
}

impl From<StageError> for End {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

/// When the version of a line came about, if it says so; `None` where the line was not read as its type.
type Updated = Option<Option<Timestamp>>;

/// A resource mapped, or ended early.
pub(super) type Mapped = Result<(), End>;

/// Whose a resource is, when it happened, and the key of its rows.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub person: u32,
    pub ordinal: u64,
    pub row_key: u64,
    pub visit_key: Option<u64>,
}

/// A code of a known system, or a concept that `SOURCE_TO_CONCEPT_MAP` gives for a local code.
#[derive(Clone, Copy)]
pub(super) enum Chosen<'r> {
    Known(Vocabulary, &'r str),
    Concept(i64),
}

impl<'c> FhirMapper<'c> {
    /// A mapper that writes to `rows`.
    ///
    /// # Errors
    /// [`MissingColumn`] if the tables are not those that mapping knows.
    pub fn new(
        ctx: FhirContext<'c>,
        tables: &Tables,
        rows: StagedBuilder<'c>,
    ) -> Result<Self, MissingColumn> {
        Ok(Self {
            ctx,
            hasher: ctx.persons.hasher().clone(),
            columns: Columns::of(tables)?,
            rows,
            out: FhirOutput::default(),
            scratch: String::with_capacity(64),
            stated_key: None,
        })
    }

    /// Sends what is left to the sink, and gives the rest.
    ///
    /// # Errors
    /// [`StageError::Sink`].
    pub fn finish(self) -> Result<FhirOutput, StageError> {
        self.rows.finish()?;
        Ok(self.out)
    }

    /// Maps one line. `references_seen` says that the reference pass has looked into this file, so that a Patient or
    /// Medication may be here. Gives the resource type, [`types::OTHER`] if R4 has none of that name, or `unread` if the
    /// line did not come that far.
    ///
    /// # Errors
    /// [`StageError`] where the run cannot go on.
    pub fn line(
        &mut self,
        at: Locator,
        line: &str,
        references_seen: bool,
        unread: &'static str,
    ) -> Result<(&'static str, Outcome), StageError> {
        let kind = match type_of(line) {
            Ok(kind) => kind,
            Err(outcome) => return Ok((unread, outcome)),
        };
        if matches!(kind, "Patient" | "Medication") && !references_seen {
            return Ok((kind, Outcome::broken(rule::MISPLACED)));
        }
        self.stated_key = None;
        let mut updated = None;
        let outcome = if changes_meaning(kind, line) {
            Outcome::Unmapped(reason::MODIFIED)
        } else {
            match self.dispatch(kind, at, line, &mut updated) {
                Ok(()) => Outcome::Mapped,
                Err(End::Outcome(outcome)) => outcome,
                Err(End::Stage(error)) => return Err(error),
            }
        };
        if matches!(kind, "Patient" | "Medication" | "Consent") || makes_event_rows(kind) {
            self.states(kind, at, line, outcome, updated)?;
        }
        Ok((kind, outcome))
    }

    /// Notes which record a line states. One that is not what it should be states nothing.
    fn states(
        &mut self,
        kind: &'static str,
        at: Locator,
        line: &str,
        outcome: Outcome,
        updated: Updated,
    ) -> Result<(), StageError> {
        let key = match (outcome, self.stated_key) {
            (Outcome::Quarantined { .. }, _) => None,
            (_, Some(key)) => Some(key),
            (_, None) => id_of(line).map(|id| self.hasher.row_key(kind, &id)),
        };
        let Some(key) = key else { return Ok(()) };
        let (ordinal, mapped) = (at.ordinal(), outcome == Outcome::Mapped);
        let updated = updated.unwrap_or_else(|| updated_of(line));
        self.rows.stated(Stated { key, ordinal, mapped, kind: Some(kind), updated })?;
        if self.ctx.persons.continues() && makes_event_rows(kind) {
            self.out.restated.push(key);
        }
        Ok(())
    }

    /// Maps a line of a type. Where it could be read, `updated` is when its version came about, if it says so.
    fn dispatch(&mut self, kind: &str, at: Locator, line: &str, updated: &mut Updated) -> Mapped {
        match kind {
            "Observation" => self.observation(at, &dated(line, updated)?),
            "Encounter" => self.encounter(at, &dated(line, updated)?),
            "Condition" => self.condition(at, &dated(line, updated)?),
            "Procedure" => self.procedure(at, &dated(line, updated)?),
            "MedicationRequest" => self.medication_request(at, &dated(line, updated)?),
            "MedicationAdministration" => self.medication_administration(at, &dated(line, updated)?),
            "MedicationStatement" => self.medication_statement(at, &dated(line, updated)?),
            "MedicationDispense" => self.medication_dispense(at, &dated(line, updated)?),
            "Immunization" => self.immunization(at, &dated(line, updated)?),
            "AllergyIntolerance" => self.allergy(at, &dated(line, updated)?),
            "Device" => self.device(at, &dated(line, updated)?),
            "DiagnosticReport" => self.diagnostic_report(at, &dated(line, updated)?),
            "Specimen" => self.specimen(at, &dated(line, updated)?),
            "Patient" => self.patient(at, &dated(line, updated)?),
            "Consent" => self.consent(at, line, &dated(line, updated)?),
            "Medication" => {
                let medication: super::resources::Medication<'_> = dated(line, updated)?;
                self.stated_key = medication.id.as_deref().map(|id| self.hasher.row_key(kind, id));
                Ok(())
            }
            "Bundle" if super::deleted::deletes(line) => {
                Err(Outcome::broken(rule::MISPLACED_DELETION).into())
            }
            _ => {
                read::<serde::de::IgnoredAny>(line)?;
                let note = matches!(kind, "DocumentReference" | "Composition");
                let reason = if note { reason::NOTE_DROPPED } else { reason::TYPE_NOT_CARRIED };
                Err(Outcome::Unmapped(reason).into())
            }
        }
    }

    fn consent(&mut self, at: Locator, line: &str, consent: &super::resources::Consent<'_>) -> Mapped {
        let person = self.subject(consent.patient.as_ref(), false)?;
        self.out.consents.push(ConsentFound { at, person, json: Sensitive::new(line.to_owned()) });
        Ok(())
    }

    /// Person, keys and visit of an event; `patient_required` by FHIR.
    pub(super) fn event(
        &mut self,
        at: Locator,
        kind: &'static str,
        id: Option<&Text<'_>>,
        subject: Option<&Reference<'_>>,
        encounter: Option<&Reference<'_>>,
        patient_required: bool,
    ) -> Result<Event, End> {
        let id = id.filter(|id| !id.is_empty()).ok_or(Outcome::broken(rule::NO_ID))?;
        let row_key = self.hasher.row_key(kind, id);
        self.stated_key = Some(row_key);
        let person = self.subject(subject, patient_required)?;
        let references = self.ctx.references;
        if references.is_deleted_row(row_key) || references.is_deleted_person(self.ctx.persons, person) {
            return Err(Outcome::Unmapped(reason::DELETED).into());
        }
        let visit_key = match encounter.and_then(Reference::target) {
            Some(Target::Id { kind: None | Some("Encounter"), id }) => {
                Some(self.hasher.row_key("Encounter", id))
            }
            // MedicationStatement.context may be an EpisodeOfCare, which is not carried.
            Some(Target::Id { .. }) | None => None,
            Some(_) => {
                self.out.findings.note(Finding::UnresolvableEncounter);
                None
            }
        };
        Ok(Event { person, ordinal: at.ordinal(), row_key, visit_key })
    }

    /// The ordinal of the patient that a reference names.
    pub(super) fn subject(&self, subject: Option<&Reference<'_>>, required: bool) -> Result<u32, Outcome> {
        let absent = if required {
            Outcome::broken(rule::MISSING_PATIENT)
        } else {
            Outcome::Unmapped(reason::NO_PATIENT)
        };
        let subject = subject.ok_or(absent)?;
        let found = match (subject.target(), &subject.identifier) {
            (Some(Target::Id { kind: None | Some("Patient"), id }), _) => {
                self.ctx.persons.find(Form::Fhir, id)
            }
            (Some(Target::Identifier { kind: "Patient", token }), _) => {
                self.ctx.persons.find_identifier(NamedIdentifier::parse(token))
            }
            (Some(Target::Id { .. } | Target::Identifier { .. }), _) => {
                return Err(Outcome::Unmapped(reason::NO_PATIENT));
            }
            (Some(_), _) => None,
            (None, Some(identifier)) => {
                let (system, value) = (text(&identifier.system), text(&identifier.value));
                self.ctx.persons.find_identifier(NamedIdentifier::logical(system, value))
            }
            (None, None) => return Err(absent),
        };
        found.ok_or(Outcome::broken(rule::DANGLING_PATIENT))
    }

    /// Reads a date of an event of `person`; notes what is odd about it.
    pub(super) fn date(&mut self, person: u32, text: &Text<'_>) -> Result<LocalDateTime, Outcome> {
        let when = LocalDateTime::parse(text.as_bytes()).ok_or(Outcome::broken(rule::INVALID_DATE))?;
        if when.precision != DatePrecision::Day {
            self.out.findings.note(Finding::PartialDate);
        }
        if when.date > self.ctx.today {
            self.out.findings.note(Finding::FutureDate);
        }
        if self.ctx.references.birth(person).is_some_and(|birth| when.date < birth) {
            self.out.findings.note(Finding::BeforeBirth);
        }
        Ok(when)
    }

    /// The first of `candidates` that is there; the ones with a finding stand in for a better date.
    pub(super) fn first_date(
        &mut self,
        person: u32,
        candidates: &[(Option<&Text<'_>>, Option<Finding>)],
    ) -> Result<LocalDateTime, Outcome> {
        for (candidate, finding) in candidates {
            if let Some(text) = candidate {
                if let Some(finding) = finding {
                    self.out.findings.note(*finding);
                }
                return self.date(person, text);
            }
        }
        Err(Outcome::Unmapped(reason::NO_DATE))
    }

    /// The end of something that started at `start`, if it is given and not before.
    pub(super) fn end_date(
        &mut self,
        person: u32,
        start: LocalDateTime,
        end: Option<&Text<'_>>,
    ) -> Result<Option<LocalDateTime>, Outcome> {
        let Some(text) = end else { return Ok(None) };
        let mut end = self.date(person, text)?;
        // A period includes its end (R4 §2.24.0.13): all of the month or year that is given, as far as it is past.
        if end.date <= self.ctx.today {
            end.date = last_day(end.date, end.precision).min(self.ctx.today);
        }
        if end.date < start.date {
            self.out.findings.note(Finding::EndBeforeStart);
            return Ok(None);
        }
        Ok(Some(end))
    }

    /// The coding that stands for an event; `None` if none is of a known system.
    pub(super) fn choose<'r>(
        &mut self,
        concept: &'r CodeableConcept<'_>,
        role: CodeRole,
    ) -> Option<Chosen<'r>> {
        let mut best: Option<(u8, Chosen<'r>)> = None;
        let mut local = "";
        for coding in &concept.coding {
            let (system, code) = (text(&coding.system), text(&coding.code));
            let (rank, chosen) = match Vocabulary::from_uri(system) {
                Some(vocabulary) if vocabulary.accepts(code) => {
                    let unknown = !self.ctx.vocabulary.knows(vocabulary.id(), code);
                    (
                        self.ctx.rules.rank(role, vocabulary) + 101 * u8::from(unknown),
                        Chosen::Known(vocabulary, code),
                    )
                }
                Some(_) => {
                    if !code.is_empty() {
                        self.out.findings.note(Finding::MalformedCode);
                    }
                    continue;
                }
                None => {
                    local = system;
                    match self.ctx.vocabulary.local(system, code) {
                        Some(concept) => (254, Chosen::Concept(concept)),
                        None => continue,
                    }
                }
            };
            if best.is_none_or(|(other, _)| rank < other) {
                best = Some((rank, chosen));
            }
        }
        if best.is_none() && role != CodeRole::Other {
            let system = self.hasher.row_key("code-system", local);
            self.out.findings.note_local(system);
        }
        best.map(|(_, chosen)| chosen)
    }
}

/// Whether resources of a type make rows of events.
fn makes_event_rows(kind: &str) -> bool {
    matches!(
        kind,
        "Observation"
            | "Encounter"
            | "Condition"
            | "Procedure"
            | "MedicationRequest"
            | "MedicationAdministration"
            | "MedicationStatement"
            | "MedicationDispense"
            | "Immunization"
            | "AllergyIntolerance"
            | "Device"
            | "DiagnosticReport"
            | "Specimen"
    )
}

/// Sets a source value and, where a local map gave one, the concept.
pub(super) fn set_code(
    row: &mut RowWriter<'_, '_>,
    scratch: &mut String,
    source_value: usize,
    concept_id: Option<usize>,
    chosen: Option<Chosen<'_>>,
) {
    match chosen {
        Some(Chosen::Known(vocabulary, code)) => {
            scratch.clear();
            scratch.push_str(vocabulary.id());
            scratch.push(':');
            scratch.push_str(code);
            row.string(source_value, scratch);
        }
        Some(Chosen::Concept(concept)) => {
            if let Some(column) = concept_id {
                row.int64(column, concept);
            }
        }
        None => {}
    }
}

/// Sets a date and, where a time of day was given, the date-time.
pub(super) fn set_when(row: &mut RowWriter<'_, '_>, date: usize, datetime: usize, when: LocalDateTime) {
    row.date(date, when.date);
    if let Some(micros) = when.micros() {
        row.datetime(datetime, micros);
    }
}

/// The last day of what was given of a date.
fn last_day(date: Date, precision: DatePrecision) -> Date {
    let next = match precision {
        DatePrecision::Day => return date,
        DatePrecision::Month if date.month() < 12 => Date::from_ymd(date.year(), date.month() + 1, 1),
        DatePrecision::Month | DatePrecision::Year => Date::from_ymd(date.year() + 1, 1, 1),
    };
    next.map_or(date, |next| next.plus_days(-1))
}

/// Whether the meaning of a clinical record hangs on what is not understood here (R4 §2.4.1.2: elements that are not
/// understood and modify must not be passed over). A Consent says itself what it does not understand; people are taken
/// by both passes alike.
fn changes_meaning(kind: &str, line: &str) -> bool {
    !matches!(kind, "Patient" | "Consent" | "Medication")
        && ["\"modifierExtension\"", "\"implicitRules\""].iter().any(|element| line.contains(element))
}

/// The resource type that a line says it is.
pub(super) fn type_of(line: &str) -> Result<&'static str, Outcome> {
    // Nearly every server writes the type first, and then this finds it without reading the line.
    let quick = line
        .strip_prefix("{\"resourceType\":")
        .map(str::trim_ascii_start)
        .and_then(|rest| rest.strip_prefix('"'))
        .and_then(|rest| rest.split_once('"'));
    if let Some((name, _)) = quick
        && let Some(kind) = types::known(name)
    {
        return Ok(kind);
    }
    if !line.trim_ascii_start().starts_with('{') {
        read::<serde::de::IgnoredAny>(line)?;
        return Err(Outcome::broken(rule::WRONG_TYPE));
    }
    let head: Head<'_> = read(line)?;
    let name = head.resource_type.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or(Outcome::broken(rule::NO_RESOURCE_TYPE))?;
    Ok(types::known(name).unwrap_or(types::OTHER))
}

/// Reads a line as what it should be. Of what serde_json found only class and column are kept: its messages quote values.
pub(super) fn read<'l, T: Deserialize<'l>>(line: &'l str) -> Result<T, Outcome> {
    serde_json::from_str(line).map_err(|error| Outcome::Quarantined {
        rule: fault(&error),
        column: u32::try_from(error.column()).ok().filter(|column| *column > 0),
    })
}

/// Reads a line as what it should be, and when its version came about.
fn dated<'l, T: Deserialize<'l> + Versioned>(line: &'l str, updated: &mut Updated) -> Result<T, Outcome> {
    let resource: T = read(line)?;
    *updated = Some(last_updated(resource.meta()));
    Ok(resource)
}

fn fault(error: &serde_json::Error) -> Rule {
    match error.classify() {
        serde_json::error::Category::Data => rule::WRONG_TYPE,
        _ => rule::MALFORMED_JSON,
    }
}
