//! Who is in the export: the reference passes over FHIR and OMOP, and the registry's answer.
//!
//! The registry is asked in three steps: a subject for every patient, then the merges that the export declares, then whom
//! record numbers name, which only the whole run with its merges can tell.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use almoner_model::{ContributorId, DatePrecision, Sensitive, SourcePatientId, SubjectId};
use serde::Serialize;

use super::{IngestError, Run, whole};
use crate::dataset::Mode;
use crate::intake::{
    Export, FileReport, InputFile, InputKind, Quarantine, RowWorker, TableFormat, read_references,
    read_tables,
};
use crate::jobs::Unit;
use crate::mapping::fhir::{PatientFacts, PatientSink, References};
use crate::mapping::omop::{Cells, OmopPeople, PersonFacts};
use crate::mapping::outcome::{Locator, Outcome};
use crate::mapping::{
    Form, IdSpace, IdSpaces, KeyedHasher, NamedIdentifier, OutsidePersons, PersonIndex, StageError, Whose,
};
use crate::registry::{
    Claims, LinkageRules, Merge, PatientTokens, RecordNumber, Registry, Shared, Tokens, Traits,
};

/// Patients that are handed to the registry in one transaction.
const BATCH: usize = 10_000;
/// Claims of record numbers in one transaction.
const CLAIMS: usize = 50_000;

/// What the contributor is told of who is who: of its own records only, nothing that others' data shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct PeopleReport {
    /// Record numbers that more than one patient has or had, so that they name nobody.
    pub record_numbers_ambiguous: u64,
    /// Those of them under which a consent was recorded before the data; it permits nothing.
    pub consents_under_ambiguous_numbers: u64,
    /// Merges of patient records that the export declares.
    pub merges_declared: u64,
    /// Those of them that were not made: the other record is not known, they would join more than this contributor's own
    /// records, or they close a circle.
    pub merges_left: u64,
}

/// The people of an export, with their subject ids.
pub(super) struct Found {
    /// Source id → subject.
    pub persons: PersonIndex,
    /// What FHIR events are mapped with.
    pub references: References,
    /// Where OMOP people live.
    pub omop: OmopPeople,
    /// What is reported.
    pub report: PeopleReport,
}

/// Runs the reference passes and asks the registry.
pub(super) fn find(run: &Run<'_>, export: &Export, hasher: KeyedHasher) -> Result<Found, IngestError> {
    run.progress.stage("people", None, Unit::Persons);
    let rules = match run.contributor.body.linkage {
        true => Some(LinkageRules::exact().map_err(|e| IngestError::Internal(e.to_string()))?),
        false => None,
    };
    let (contributor, agree) = (&run.contributor.body.contributor, run.told.same_person_ids);
    let spaces = run.ctx.registry.id_spaces(contributor, &forms(export), agree)?;
    let mut persons = PersonIndex::within(hasher, spaces);
    let mut seen = Seen {
        spaces,
        contributor: &run.contributor.body.contributor,
        tokens: run.ctx.registry.tokens(),
        rules: rules.as_ref(),
        patients: Vec::new(),
        merges: BTreeMap::new(),
    };
    let (references, mut files) = read_references(export, run.ctx.limits, &mut persons, &mut seen)?;
    let omop = read_omop(run, export, &mut persons, &mut seen, &mut files)?;
    let Seen { patients, merges, .. } = seen;
    let mut found = Found { persons, references, omop, report: PeopleReport::default() };
    // Before anything is written of people whom another hospital's export, sent by mistake, would join and number.
    let known = run.ctx.registry.known(patients.iter().map(|(_, tokens)| tokens))?;
    whole::has_its_people(run, export, &files, &known)?;
    resolve(run, &mut found, &patients)?;
    merge(run, &mut found, &patients, &merges)?;
    claim(run, &mut found, &patients)?;
    if run.mode == Mode::Incremental {
        let contributor = run.contributor.body.contributor.clone();
        found.persons.set_outside(Box::new(Known { registry: Arc::clone(run.ctx.registry), contributor }));
    }
    found.references.find_deleted(&found.persons);
    Ok(found)
}

/// People of an earlier export, whose Patient records an export of changes need not repeat.
struct Known {
    registry: Arc<Registry>,
    contributor: ContributorId,
}

impl OutsidePersons for Known {
    fn lookup(&self, space: IdSpace, source_id: &str) -> Option<SubjectId> {
        let id = SourcePatientId::new(source_id.to_owned());
        // A registry that fails here fails again where the run ends; meanwhile the person is unknown.
        self.registry.lookup_in(space, &self.contributor, &id).ok().flatten()
    }

    fn was_erased(&self, space: IdSpace, source_id: &str) -> bool {
        let id = SourcePatientId::new(source_id.to_owned());
        let token = self.registry.tokens().id_in(space, &self.contributor, &id);
        // Where the registry cannot say, the person is unknown, and the line is quarantined.
        self.registry.is_suppressed(&token).unwrap_or(false)
    }

    fn is_merged_away(&self, space: IdSpace, source_id: &str) -> bool {
        let id = SourcePatientId::new(source_id.to_owned());
        // Where the registry cannot say, nobody's history is deleted.
        self.registry.is_merged_away(space, &self.contributor, &id).unwrap_or(true)
    }

    fn whose(&self, identifier: NamedIdentifier<'_>) -> Whose {
        let value = SourcePatientId::new(identifier.value.to_owned());
        // Where the registry cannot say, it is nobody's.
        self.registry.whose(&self.contributor, identifier.system, &value).unwrap_or(Whose::Nobodys)
    }
}

/// Takes people as the passes see them; keeps tokens, and of merges the ids until they are resolved.
struct Seen<'s> {
    spaces: IdSpaces,
    contributor: &'s ContributorId,
    tokens: &'s Tokens,
    rules: Option<&'s LinkageRules>,
    /// In the order of ordinals.
    patients: Vec<(u32, PatientTokens)>,
    /// Loser → the winner's id.
    merges: BTreeMap<u32, SourcePatientId>,
}

impl PatientSink for Seen<'_> {
    fn patient(&mut self, ordinal: u32, patient: &PatientFacts<'_>) {
        let id = SourcePatientId::new(patient.source_id.to_owned());
        let records: Vec<_> =
            patient.record_numbers().map(|(system, number)| record_number(system, number)).collect();
        let linkage = self.rules.map_or_else(Vec::new, |rules| self.tokens.linkage(rules, &traits(patient)));
        let tokens = self.tokens.patient_in(self.spaces.fhir, self.contributor, &id, &records, linkage);
        self.put(ordinal, PatientTokens { replaced: patient.replaced_by.is_some(), ..tokens });
        match patient.replaced_by {
            Some(winner) => drop(self.merges.insert(ordinal, SourcePatientId::new(winner.to_owned()))),
            None => drop(self.merges.remove(&ordinal)),
        }
    }
}

impl Seen<'_> {
    /// Writes a patient down. Whoever is there already keeps the record numbers that other versions of the record have:
    /// whether a number is one patient's alone depends on all.
    fn put(&mut self, ordinal: u32, mut tokens: PatientTokens) {
        match self.patients.binary_search_by_key(&ordinal, |(ordinal, _)| *ordinal) {
            Ok(place) => {
                let before = &mut self.patients[place].1;
                tokens.records.append(&mut before.records);
                *before = tokens;
            }
            Err(place) => self.patients.insert(place, (ordinal, tokens)),
        }
    }

    /// Writes a person of a table down; of one who is there already, the record numbers only.
    fn put_row(&mut self, ordinal: u32, facts: &PersonFacts<'_>) {
        let id = SourcePatientId::new(facts.source_id.to_owned());
        let records: Vec<_> = facts.record_number.iter().map(|number| record_number("", number)).collect();
        let tokens = self.tokens.patient_in(self.spaces.omop, self.contributor, &id, &records, Vec::new());
        match self.patients.binary_search_by_key(&ordinal, |(ordinal, _)| *ordinal) {
            Ok(place) => self.patients[place].1.records.extend(tokens.records),
            Err(place) => self.patients.insert(place, (ordinal, tokens)),
        }
    }
}

fn record_number(system: &str, number: &str) -> RecordNumber {
    RecordNumber { system: system.to_owned(), value: SourcePatientId::new(number.to_owned()) }
}

fn traits(patient: &PatientFacts<'_>) -> Traits {
    let text = |value: Option<&str>| value.filter(|v| !v.is_empty()).map(|v| Sensitive::new(v.to_owned()));
    let name = patient.name();
    Traits {
        family_name: text(name.as_ref().map(|(family, _)| *family)),
        given_name: text(name.as_ref().and_then(|(_, given)| given.first().copied())),
        birth_date: (patient.birth.precision == DatePrecision::Day).then_some(patient.birth.date),
        sex: text(patient.patient.gender.as_deref()),
        national_id: text(patient.identifiers_of("SS").next()),
        postal_code: text(patient.postal_code()),
    }
}

/// Asks the registry for everyone, in batches.
fn resolve(run: &Run<'_>, found: &mut Found, patients: &[(u32, PatientTokens)]) -> Result<(), IngestError> {
    let shared = Shared::of(patients.iter().map(|(_, tokens)| tokens));
    for batch in patients.chunks(BATCH) {
        stop_if_cancelled(run)?;
        let tokens: Vec<PatientTokens> = batch.iter().map(|(_, tokens)| tokens.clone()).collect();
        let resolved = run.ctx.registry.resolve_batch(
            &run.contributor.body.contributor,
            &tokens,
            &shared,
            run.ctx.entropy,
        )?;
        for ((ordinal, _), subject) in batch.iter().zip(&resolved.subjects) {
            if let Some(subject) = subject {
                found.persons.assign(*ordinal, *subject);
            }
        }
        run.progress.advance(batch.len() as u64);
    }
    Ok(())
}

fn stop_if_cancelled(run: &Run<'_>) -> Result<(), IngestError> {
    if run.progress.cancelled() { Err(IngestError::Cancelled) } else { Ok(()) }
}

/// Tells the registry of merges that the export declares. Records whose merge is not made stay two people.
fn merge(
    run: &Run<'_>,
    found: &mut Found,
    patients: &[(u32, PatientTokens)],
    merges: &BTreeMap<u32, SourcePatientId>,
) -> Result<(), IngestError> {
    let (registry, contributor) = (run.ctx.registry, &run.contributor.body.contributor);
    let space = found.persons.spaces().fhir;
    let (mut asked, mut nowhere) = (Vec::new(), Vec::new());
    for (loser, winner_id) in merges {
        let Ok(place) = patients.binary_search_by_key(loser, |(ordinal, _)| *ordinal) else { continue };
        let tokens = &patients[place].1;
        // The last link of a circle says nothing that the others do not say.
        if !found.persons.has_winner(*loser) {
            found.report.merges_left += 1;
            continue;
        }
        let winner = found.persons.own(winner_id.expose());
        let into = match winner.and_then(|winner| found.persons.assigned(winner)) {
            Some(subject) => Some(subject),
            None => registry.lookup_in(space, contributor, winner_id)?,
        };
        match (found.persons.assigned(*loser), into) {
            (Some(from), Some(into)) => {
                if let Some(winner) = winner {
                    found.persons.assign(winner, into);
                }
                let winner = registry.tokens().id_in(space, contributor, winner_id);
                asked.push((*loser, Merge { loser: tokens.id, from, winner, into }));
            }
            // The record became that of somebody who was erased, and goes with it.
            (_, None)
                if winner.is_some_and(|w| found.references.birth(w).is_some())
                    || registry.is_suppressed(&registry.tokens().id_in(space, contributor, winner_id))? => {}
            (_, into) => {
                if into.is_none() {
                    nowhere.push(winner_id);
                }
                found.persons.hold_apart(*loser);
                found.report.merges_left += 1;
            }
        }
    }
    for id in nowhere {
        found.persons.forget(id.expose());
    }
    let (losers, asked): (Vec<u32>, Vec<Merge>) = asked.into_iter().unzip();
    let made = match asked.is_empty() {
        true => Vec::new(),
        false => registry.merge(contributor, &asked)?,
    };
    for (loser, _) in losers.iter().zip(&made).filter(|(_, made)| !**made) {
        found.persons.hold_apart(*loser);
        found.report.merges_left += 1;
    }
    found.report.merges_declared = merges.len() as u64;
    Ok(())
}

/// Tells the registry which record numbers patients have, and takes over what it made of everybody since.
fn claim(run: &Run<'_>, found: &mut Found, patients: &[(u32, PatientTokens)]) -> Result<(), IngestError> {
    let registry = run.ctx.registry;
    let subjects = patients.iter().filter_map(|(ordinal, t)| Some((found.persons.assigned(*ordinal)?, t)));
    let claims = Claims::new(subjects);
    for piece in claims.batches(CLAIMS) {
        stop_if_cancelled(run)?;
        let claimed = registry.claim(&run.contributor.body.contributor, piece)?;
        found.report.record_numbers_ambiguous += claimed.shared;
        found.report.consents_under_ambiguous_numbers += claimed.awaited;
    }
    for ordinal in 0..u32::try_from(found.persons.named()).unwrap_or(u32::MAX) {
        if let Some(subject) = found.persons.assigned(ordinal) {
            found.persons.assign(ordinal, registry.current(subject));
        }
    }
    Ok(())
}

/// The reference pass over OMOP: locations, then people, in the order of files. How far each was read is added to `read`.
fn read_omop(
    run: &Run<'_>,
    export: &Export,
    persons: &mut PersonIndex,
    seen: &mut Seen<'_>,
    read: &mut Vec<FileReport>,
) -> Result<OmopPeople, IngestError> {
    let of = |wanted: &str| -> Vec<&InputFile> {
        let is = |i: &&InputFile| matches!(i.kind, InputKind::Omop { table, .. } if table == wanted);
        export.inputs.iter().filter(is).collect()
    };
    let mut people = OmopPeople::default();
    let unheard = Quarantine::new(0, Box::new(io::sink()));
    for table in ["location", "person"] {
        let mut workers = [Pass { people: &mut people, persons, seen: Mutex::new(seen), header: Vec::new() }];
        let files = of(table);
        let lines = read_tables(&files, run.ctx.limits, &mut workers, &unheard, &|_| ())?;
        read.extend(FileReport::all(&files, &lines.files));
    }
    Ok(people)
}

/// One thread of the reference pass over OMOP.
struct Pass<'p, 's> {
    people: &'p mut OmopPeople,
    persons: &'p mut PersonIndex,
    seen: Mutex<&'p mut Seen<'s>>,
    header: Vec<String>,
}

impl RowWorker for Pass<'_, '_> {
    fn header(&mut self, _: &InputFile, names: &[&str]) {
        self.header = names.iter().map(|n| (*n).to_owned()).collect();
    }

    fn row(&mut self, input: &InputFile, _: Locator, cells: Cells<'_>) -> Result<Outcome, StageError> {
        let header: Vec<&str> = self.header.iter().map(String::as_str).collect();
        if input.kind.label() == "location" {
            return Ok(self.people.location(&header, cells));
        }
        let Some((ordinal, facts)) = self.people.person(&header, cells, self.persons) else {
            return Ok(Outcome::Mapped);
        };
        let seen = self.seen.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.put_row(ordinal, &facts);
        Ok(Outcome::Mapped)
    }
}

/// The forms in which the export may have people.
pub(super) fn forms(export: &Export) -> Vec<Form> {
    let is_fhir = |i: &InputFile| matches!(i.kind, InputKind::Fhir(_) | InputKind::Deleted);
    let fhir = export.inputs.iter().any(is_fhir).then_some(Form::Fhir);
    fhir.into_iter().chain(has_omop(export).then_some(Form::Omop)).collect()
}

/// Whether the export has any OMOP table.
pub(super) fn has_omop(export: &Export) -> bool {
    export
        .inputs
        .iter()
        .any(|i| matches!(i.kind, InputKind::Omop { format: TableFormat::Csv | TableFormat::Parquet, .. }))
}
