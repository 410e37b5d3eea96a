//! Who is in the export: the reference passes over FHIR and OMOP, and the registry's answer.

use std::io;
use std::sync::{Arc, Mutex};

use almoner_model::{ContributorId, DatePrecision, Sensitive, SourcePatientId, SubjectId};

use super::{IngestError, Run};
use crate::dataset::Mode;
use crate::intake::{
    Export, InputFile, InputKind, Quarantine, RowWorker, TableFormat, read_references, read_tables,
};
use crate::jobs::Unit;
use crate::mapping::fhir::{PatientFacts, PatientSink, References};
use crate::mapping::omop::{Cells, OmopPeople};
use crate::mapping::outcome::{Locator, Outcome};
use crate::mapping::{KeyedHasher, OutsidePersons, PersonIndex, StageError};
use crate::registry::{LinkageRules, PatientTokens, Registry, Tokens, Traits};

/// Patients that are handed to the registry in one transaction.
const BATCH: usize = 10_000;

/// The people of an export, with their subject ids.
pub(super) struct Found {
    /// Source id → subject.
    pub persons: PersonIndex,
    /// What FHIR events are mapped with.
    pub references: References,
    /// Where OMOP people live.
    pub omop: OmopPeople,
    /// Subjects that were made.
    pub created: u64,
    /// Subjects known from another contributor.
    pub linked: u64,
}

/// Runs the reference passes and asks the registry.
pub(super) fn find(run: &Run<'_>, export: &Export, hasher: KeyedHasher) -> Result<Found, IngestError> {
    run.progress.stage("people", None, Unit::Persons);
    let rules = match run.contributor.body.linkage {
        true => Some(LinkageRules::exact().map_err(|e| IngestError::Internal(e.to_string()))?),
        false => None,
    };
    let mut persons = PersonIndex::new(hasher);
    let mut seen = Seen {
        contributor: &run.contributor.body.contributor,
        tokens: run.ctx.registry.tokens(),
        rules: rules.as_ref(),
        patients: Vec::new(),
        merges: Vec::new(),
    };
    let references = read_references(export, run.ctx.limits, &mut persons, &mut seen)?;
    let omop = read_omop(run, export, &mut persons, &mut seen)?;
    let Seen { patients, merges, .. } = seen;
    let mut found = Found { persons, references, omop, created: 0, linked: 0 };
    resolve(run, &mut found, &patients)?;
    merge(run, &mut found, &merges)?;
    if run.mode == Mode::Incremental {
        let contributor = run.contributor.body.contributor.clone();
        found.persons.set_outside(Box::new(Known { registry: Arc::clone(run.ctx.registry), contributor }));
    }
    Ok(found)
}

/// People of an earlier export, whose Patient records an export of changes need not repeat.
struct Known {
    registry: Arc<Registry>,
    contributor: ContributorId,
}

impl OutsidePersons for Known {
    fn lookup(&self, source_id: &str) -> Option<SubjectId> {
        // A registry that fails here fails again where the run ends; meanwhile the person is unknown.
        self.registry.lookup(&self.contributor, &SourcePatientId::new(source_id.to_owned())).ok().flatten()
    }
}

/// Takes people as the passes see them; keeps tokens, and of merges the ids until they are resolved.
struct Seen<'s> {
    contributor: &'s ContributorId,
    tokens: &'s Tokens,
    rules: Option<&'s LinkageRules>,
    patients: Vec<(u32, PatientTokens)>,
    merges: Vec<(u32, SourcePatientId)>,
}

impl PatientSink for Seen<'_> {
    fn patient(&mut self, ordinal: u32, patient: &PatientFacts<'_>) {
        let id = SourcePatientId::new(patient.source_id.to_owned());
        let records: Vec<_> = patient.record_numbers().map(|n| SourcePatientId::new(n.to_owned())).collect();
        let linkage = self.rules.map_or_else(Vec::new, |rules| self.tokens.linkage(rules, &traits(patient)));
        self.patients.push((ordinal, self.tokens.patient(self.contributor, &id, &records, linkage)));
        if let Some(winner) = patient.replaced_by {
            self.merges.push((ordinal, SourcePatientId::new(winner.to_owned())));
        }
    }
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
    for batch in patients.chunks(BATCH) {
        if run.progress.cancelled() {
            return Err(IngestError::Cancelled);
        }
        let tokens: Vec<PatientTokens> = batch.iter().map(|(_, tokens)| tokens.clone()).collect();
        let resolved =
            run.ctx.registry.resolve_batch(&run.contributor.body.contributor, &tokens, run.ctx.entropy)?;
        for ((ordinal, _), subject) in batch.iter().zip(&resolved.subjects) {
            if let Some(subject) = subject {
                found.persons.assign(*ordinal, *subject);
            }
        }
        found.created += resolved.created;
        found.linked += resolved.linked;
        run.progress.advance(batch.len() as u64);
    }
    // A match found in a later batch may have made two subjects of an earlier one into one.
    for (ordinal, _) in patients {
        if let Some(subject) = found.persons.subject(*ordinal) {
            let current = run.ctx.registry.current(subject)?;
            if current != subject {
                found.persons.assign(*ordinal, current);
            }
        }
    }
    Ok(())
}

/// Tells the registry of merges that the export reports: the loser's subject becomes the winner's.
fn merge(run: &Run<'_>, found: &mut Found, merges: &[(u32, SourcePatientId)]) -> Result<(), IngestError> {
    let registry = run.ctx.registry;
    let contributor = &run.contributor.body.contributor;
    for (loser, winner_id) in merges {
        let Some(winner) = found.persons.find(winner_id.expose()) else { continue };
        let before = registry.lookup(contributor, &SourcePatientId::new(winner_id.expose().clone()))?;
        let subject: Option<SubjectId> = found.persons.subject(winner).or(before);
        let Some(subject) = subject else { continue };
        if found.persons.subject(winner).is_none() {
            found.persons.assign(winner, subject);
        }
        if let Some(own) = found.persons.assigned(*loser) {
            let (own, subject) = (registry.current(own)?, registry.current(subject)?);
            if own != subject {
                registry.alias(own, subject)?;
            }
        }
    }
    Ok(())
}

/// The reference pass over OMOP: locations, then people, in the order of files.
fn read_omop(
    run: &Run<'_>,
    export: &Export,
    persons: &mut PersonIndex,
    seen: &mut Seen<'_>,
) -> Result<OmopPeople, IngestError> {
    let of = |wanted: &str| -> Vec<&InputFile> {
        let is = |i: &&InputFile| matches!(i.kind, InputKind::Omop { table, .. } if table == wanted);
        export.inputs.iter().filter(is).collect()
    };
    let mut people = OmopPeople::default();
    let unheard = Quarantine::new(0, Box::new(io::sink()));
    for table in ["location", "person"] {
        let mut workers = [Pass { people: &mut people, persons, seen: Mutex::new(seen), header: Vec::new() }];
        read_tables(&of(table), run.ctx.limits, &mut workers, &unheard, &|_| ())?;
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
        let known = self.persons.named();
        let Some((ordinal, facts)) = self.people.person(&header, cells, self.persons) else {
            return Ok(Outcome::Mapped);
        };
        if self.persons.named() > known {
            let seen = self.seen.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            let id = SourcePatientId::new(facts.source_id.to_owned());
            let records: Vec<_> =
                facts.record_number.iter().map(|n| SourcePatientId::new((*n).to_owned())).collect();
            seen.patients.push((ordinal, seen.tokens.patient(seen.contributor, &id, &records, Vec::new())));
        }
        Ok(Outcome::Mapped)
    }
}

/// Whether the export has any OMOP table.
pub(super) fn has_omop(export: &Export) -> bool {
    export
        .inputs
        .iter()
        .any(|i| matches!(i.kind, InputKind::Omop { format: TableFormat::Csv | TableFormat::Parquet, .. }))
}
