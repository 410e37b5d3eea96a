//! What the reference pass finds before any event is mapped: people with their birth dates, and the codes of medications.
//!
//! A person is in the index if and only if the Patient resource would be mapped, so that whatever refers to a quarantined
//! patient is quarantined too.

use std::collections::{BTreeMap, HashMap, HashSet};

use almoner_model::{Date, Sensitive, SubjectId, Timestamp};

use super::datatypes::text;
use super::mapper::{read, type_of};
use super::people::{PatientFacts, accept};
use super::resources::{Medication, Patient};
use super::version::{last_updated, takes_over};
use crate::mapping::outcome::Locator;
use crate::mapping::{Form, KeyedHasher, PersonIndex};

/// Codes of one medication: system and code.
pub type Codes = Box<[(Box<str>, Box<str>)]>;

/// What events are mapped with.
#[derive(Debug, Default)]
pub struct References {
    births: Vec<Option<Date>>,
    /// Row key → place in `codes`, and when the version that counts came about.
    medications: HashMap<u64, (u32, Option<Timestamp>)>,
    codes: Vec<Codes>,
    by_codes: HashMap<Codes, u32>,
    /// Row keys of records that the export says were deleted.
    deleted_rows: HashSet<u64>,
    /// Patient records of the export of which it says so. Of one that was merged into another, the other stays: its events
    /// are the other's.
    deleted_persons: HashSet<u32>,
    /// In a run that continues earlier ones: who they are, in whichever export their record was.
    deleted_subjects: HashSet<SubjectId>,
    /// Ids of patients of whom it says so, until everybody is known.
    deleted_patients: Vec<Sensitive<String>>,
}

impl References {
    /// The birth date of a person of the export.
    pub fn birth(&self, person: u32) -> Option<Date> {
        self.births.get(person as usize).copied().flatten()
    }

    /// The codes of a Medication, by its row key.
    pub fn medication(&self, row_key: u64) -> Option<&[(Box<str>, Box<str>)]> {
        self.medications.get(&row_key).and_then(|(i, _)| self.codes.get(*i as usize)).map(|codes| &**codes)
    }

    /// Whether the export says that the record with this row key was deleted.
    pub fn is_deleted_row(&self, row_key: u64) -> bool {
        self.deleted_rows.contains(&row_key)
    }

    /// Whether the export says that this patient was deleted; `person` is who stands for the record after merges. What it
    /// says holds for a person in every form whose ids are of one space.
    pub fn is_deleted_person(&self, persons: &PersonIndex, person: u32) -> bool {
        let is_deleted = |subject| self.deleted_subjects.contains(&subject);
        self.deleted_persons.contains(&person)
            || (!self.deleted_subjects.is_empty() && persons.subject(person).is_some_and(is_deleted))
    }

    /// Finds the people who were deleted. To be called when everybody is in `persons`, in whatever form they came, and
    /// merges and subjects are settled.
    pub fn find_deleted(&mut self, persons: &PersonIndex) {
        for id in std::mem::take(&mut self.deleted_patients) {
            self.deleted_persons.extend(persons.own(id.expose()));
            if persons.continues() && !persons.is_merged_away(id.expose()) {
                let person = persons.find(Form::Fhir, id.expose());
                self.deleted_subjects.extend(person.and_then(|person| persons.subject(person)));
            }
        }
    }

    /// Notes a birth date, which takes the place of what was noted before.
    pub fn set_birth(&mut self, person: u32, birth: Date) {
        let person = person as usize;
        if self.births.len() <= person {
            self.births.resize(person + 1, None);
        }
        self.births[person] = Some(birth);
    }

    fn add_medication(&mut self, hasher: &KeyedHasher, medication: &Medication<'_>) {
        let Some(id) = medication.id.as_deref() else { return };
        let (key, updated) = (hasher.row_key("Medication", id), last_updated(medication.meta));
        if self.medications.get(&key).is_some_and(|(_, before)| !takes_over(*before, updated)) {
            return;
        }
        let coding = medication.code.iter().flat_map(|code| &code.coding);
        let codes: Codes = coding.map(|c| (text(&c.system).into(), text(&c.code).into())).collect();
        let next = u32::try_from(self.codes.len()).unwrap_or(u32::MAX);
        let index = *self.by_codes.entry(codes).or_insert_with_key(|codes| {
            self.codes.push(codes.clone());
            next
        });
        self.medications.insert(key, (index, updated));
    }
}

/// Takes each patient of the export, in file order.
pub trait PatientSink {
    /// `ordinal` is the person's in the [`PersonIndex`], before merges. Of a patient whom it has taken before, what it says
    /// now is the version that counts.
    fn patient(&mut self, ordinal: u32, patient: &PatientFacts<'_>);
}

/// The reference pass. Reads lines in file order, on one thread, so that ordinals are the same in every run.
pub struct ReferencePass<'p> {
    persons: &'p mut PersonIndex,
    sink: &'p mut (dyn PatientSink + Send),
    references: References,
    /// When the version of each person's record that counts came about.
    updated: Vec<Option<Timestamp>>,
    /// Loser → id of the winner.
    merges: BTreeMap<u32, String>,
}

impl<'p> ReferencePass<'p> {
    /// Adds people to `persons` and hands each to `sink`.
    pub fn new(persons: &'p mut PersonIndex, sink: &'p mut (dyn PatientSink + Send)) -> Self {
        Self {
            persons,
            sink,
            references: References::default(),
            updated: Vec::new(),
            merges: BTreeMap::new(),
        }
    }

    /// Looks at one line; whatever is no acceptable Patient or Medication is passed over, the second pass counts it.
    pub fn line(&mut self, at: Locator, line: &str) {
        match type_of(line) {
            Ok("Patient") => {
                if let Ok(patient) = read::<Patient<'_>>(line) {
                    self.patient(at, &patient);
                }
            }
            Ok("Medication") => {
                if let Ok(medication) = read::<Medication<'_>>(line) {
                    self.references.add_medication(self.persons.hasher(), &medication);
                }
            }
            _ => {}
        }
    }

    fn patient(&mut self, at: Locator, patient: &Patient<'_>) {
        let Ok(facts) = accept(at, patient) else { return };
        let ordinal = self.persons.add(Form::Fhir, facts.source_id);
        // Whoever has or had an identifier in the export has it: one that is several people's names nobody.
        for (system, value) in facts.identifiers() {
            self.persons.add_identifier(system, value, ordinal);
        }
        let (place, updated) = (ordinal as usize, last_updated(patient.meta));
        match self.updated.get_mut(place) {
            Some(before) if !takes_over(*before, updated) => return,
            Some(before) => *before = updated,
            None => self.updated.push(updated),
        }
        self.references.set_birth(ordinal, facts.birth.date);
        match facts.replaced_by {
            Some(winner) => drop(self.merges.insert(ordinal, winner.to_owned())),
            None => drop(self.merges.remove(&ordinal)),
        }
        self.sink.patient(ordinal, &facts);
    }

    /// Notes that a record was deleted.
    pub(super) fn deleted(&mut self, kind: &'static str, id: &str) {
        if kind == "Patient" {
            self.references.deleted_patients.push(Sensitive::new(id.to_owned()));
        } else {
            self.references.deleted_rows.insert(self.persons.hasher().row_key(kind, id));
        }
    }

    /// Applies the merges and gives what was found, but for who was deleted: see [`References::find_deleted`].
    pub fn finish(self) -> References {
        self.persons.sort_identifiers();
        for (loser, winner) in self.merges {
            let winner = self.persons.add(Form::Fhir, &winner);
            self.persons.merge(loser, winner);
        }
        self.references
    }
}
