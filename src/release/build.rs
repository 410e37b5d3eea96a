//! Build: the tables of one release. `members -> Extract -> deid (stricter) -> gate -> files`.
//!
//! Streams: one group of buckets in memory at a time, then one range of pseudonyms. Nothing is kept of what the gate
//! refuses. The same inputs give the same bytes: no clock, no randomness; keys, day and order are inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use almoner_deid::{Declares, DeidContext, DeidReport, Profile, SubjectContext, Zip3, deidentify};
use almoner_model::{Code, Date, DatePrecision, SubjectId, Tables};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::ReleaseError;
use super::extract::{ExtractReport, Extraction};
use super::manifest::FileEntry;
use super::package::{Writer, Written, pseudonym, rekeyed};
use super::rekey::{Rekey, offset_days};
use crate::cohort::execute::{OffsetDays, Permitted, Source, groups};
use crate::keys::Keyring;
use crate::risk::{Earlier, GateReport, GateRules, People, Population, gate};

/// Rows of source files that one group of buckets may have.
const GROUP_ROWS: u64 = 4 << 20;

/// What to build from.
pub struct Order<'a> {
    /// The canonical tables.
    pub tables: &'a Tables,
    /// The key ring.
    pub keys: &'a Keyring,
    /// The ids of this recipient.
    pub rekey: &'a Rekey,
    /// The project's place in the order in which projects were created.
    pub project_ordinal: u64,
    /// The profile of the release, at least as strict as each dataset's.
    pub profile: &'a Profile,
    /// What the sources declare, taken together.
    pub declared: Declares,
    /// Areas that may be named.
    pub zip3: Arc<Zip3>,
    /// The day at which ages are tested.
    pub reference_date: Date,
    /// The sources in the order of the request.
    pub sources: &'a [Source],
    /// The permitted people of each source.
    pub permitted: &'a [Permitted<'a>],
    /// The offset that stored dates carry.
    pub stored_offset: OffsetDays<'a>,
    /// Positions of the wanted tables.
    pub wanted: BTreeSet<usize>,
    /// Members, ascending.
    pub members: &'a [i64],
    /// What the gate asks for.
    pub rules: GateRules,
    /// The concepts of a code, where a vocabulary knows it.
    pub concepts: &'a dyn Fn(&Code) -> Vec<i64>,
    /// What the recipient has of earlier releases under the same pseudonyms.
    pub earlier: &'a Earlier,
}

/// The tables of a release, on disk.
#[derive(Debug)]
pub struct Built {
    /// Their files.
    pub files: Vec<FileEntry>,
    /// Wanted tables that the gate withholds.
    pub withheld: Vec<String>,
    /// Who is in it, ascending.
    pub persons: Vec<SubjectId>,
    /// What holds of the data.
    pub declares: Declares,
    /// What was left out before.
    pub extract: ExtractReport,
    /// What de-identification did.
    pub deid: DeidReport,
    /// What the gate did.
    pub gate: GateReport,
    /// By table, the rows of people whom it left out.
    pub left_out: BTreeMap<String, u64>,
}

impl Order<'_> {
    /// Writes the tables below `dir`, which exists and is empty.
    ///
    /// # Errors
    /// [`ReleaseError::Refused`] by the gate; else as its variants say. `dir` is then to be removed.
    pub fn build(&self, dir: &Path) -> Result<Built, ReleaseError> {
        let person = self.tables.index_of("person").ok_or(ReleaseError::Tables)?;
        let death = self.tables.index_of("death").ok_or(ReleaseError::Tables)?;
        let mut wanted = self.wanted.clone();
        wanted.insert(person);
        let declares = self.profile.declares().after(self.declared);
        let by_day = declares.date_precision == DatePrecision::Day && !declares.shifted;
        let mut people = People::new(self.tables, by_day).map_err(ReleaseError::risk)?;
        let mut writer = Writer::new(self.tables, self.rekey, dir, self.rows_expected())?;
        let mut delivered: BTreeMap<i64, SubjectId> = BTreeMap::new();
        let (mut extract, mut deid) = (ExtractReport::default(), DeidReport::default());
        let extraction = self.extraction(wanted.clone());
        let needed = |table: &str| self.tables.index_of(table).is_some_and(|t| wanted.contains(&t));
        for group in groups(self.sources, &needed, GROUP_ROWS) {
            let batch = extraction.group(&group, &mut extract)?;
            let subjects = self.subjects(batch.get(person))?;
            let ctx = DeidContext::new(self.reference_date, Arc::clone(&self.zip3)).after(self.declared);
            let (batch, report) = deidentify(batch, self.profile, &subjects, &ctx)?;
            deid.merge(report);
            for subject in subjects {
                delivered.insert(pseudonym(self.rekey, subject.subject)?, subject.subject);
            }
            let key = |table: usize| {
                batch.get(table).map(|b| rekeyed(self.tables, self.rekey, table, b)).transpose()
            };
            if let Some(persons) = key(person)? {
                people.add(&persons, key(death)?.as_ref()).map_err(ReleaseError::risk)?;
            }
            for (table, rows) in batch.tables() {
                writer.push(*table, rows)?;
            }
        }
        extract.persons_withheld = self.members.len().saturating_sub(delivered.len()) as u64;
        let population = Population::Census(Arc::clone(&self.zip3));
        let gated = gate(&people, self.tables, self.rules, &population, self.earlier)
            .map_err(|e| ReleaseError::Refused(Box::new(e)))?;
        for id in &gated.suppressed {
            delivered.remove(id);
        }
        let Written { files, left_out } =
            writer.finish(dir, &wanted, &gated, self.profile.ages(), self.concepts)?;
        let mut persons: Vec<SubjectId> = delivered.into_values().collect();
        persons.sort_unstable();
        let death_withheld = wanted.contains(&death) && !gated.recoding.death;
        let withheld = death_withheld.then(|| "death".to_owned()).into_iter().collect();
        Ok(Built { files, withheld, persons, declares, extract, deid, gate: gated.report, left_out })
    }

    fn extraction(&self, wanted: BTreeSet<usize>) -> Extraction<'_> {
        let mut sorted: Vec<_> = self.sources.iter().map(|s| &s.dataset).collect();
        sorted.sort();
        let place = |s: &Source| sorted.partition_point(|d| **d < s.dataset);
        Extraction {
            tables: self.tables,
            wanted,
            members: self.members,
            permitted: self.permitted,
            offset_days: self.stored_offset,
            places: self.sources.iter().map(place).collect(),
        }
    }

    /// Rows that the release will have, were rows spread evenly over people.
    fn rows_expected(&self) -> u64 {
        let files = self.sources.iter().flat_map(|s| &s.files);
        let (mut rows, mut persons) = (0, 0);
        for file in files {
            rows += file.rows;
            persons += if file.table == "person" { file.rows } else { 0 };
        }
        rows / persons.max(1) * self.members.len() as u64
    }

    /// The people of a batch of the person table, with this project's offset.
    fn subjects(&self, persons: Option<&RecordBatch>) -> Result<Vec<SubjectContext>, ReleaseError> {
        let Some(batch) = persons else { return Ok(Vec::new()) };
        let ids = batch.column_by_name("person_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let context = |id: &i64| {
            let subject = SubjectId::new(*id).map_err(|_| ReleaseError::Tables)?;
            Ok(SubjectContext::new(subject, offset_days(self.keys, self.project_ordinal, subject)))
        };
        ids.ok_or(ReleaseError::Tables)?.values().iter().map(context).collect()
    }
}
