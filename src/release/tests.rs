//! A whole release over two small hospitals: what leaves joins, is sorted, is the same twice, and shares nothing with
//! another recipient's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use almoner_deid::{Declares, Profile, Zip3};
use almoner_model::{Date, DatePrecision, Origin, RowKey, Tables};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int64Type};
use serde_json::{Map, Value, json};

use super::build::{Built, Order};
use super::extract::{ExtractReport, Extraction};
use super::rekey::Rekey;
use crate::cohort::execute::{Permitted, Source};
use crate::cohort::fixture::{self, Rows};
use crate::consent::{Category, CategorySet, DateRanges, Limits};
use crate::keys::Keyring;
use crate::risk::GateRules;

const PEOPLE: i64 = 40;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn day(text: &str) -> i32 {
    text.parse::<Date>().expect("valid").days()
}

/// Everyone is in the first hospital, every second person in the other too. Each has visits, conditions in them, and a
/// birth year shared with many.
fn hospital(dir: &Path, name: &str, bits: u8, every: i64) -> Source {
    let ids: Vec<i64> = (1..=PEOPLE).filter(|id| id % every == 0).collect();
    let person = |id: &i64| {
        object(
            json!({"person_id": id, "year_of_birth": 1980 + id % 2, "gender_concept_id": 8507 + 25 * (id % 2), "state": "MA"}),
        )
    };
    let mut visits = Rows::new();
    let mut conditions = Rows::new();
    for id in &ids {
        for n in 0..5 {
            let start = day("2015-03-01") + (id * 17 % 700) as i32 + 200 * n;
            let visit = id * 10 + i64::from(n);
            visits.push(object(json!({"visit_occurrence_id": visit, "person_id": id, "visit_start_date": start, "visit_end_date": start + 2})));
            conditions.push(object(
                json!({"condition_occurrence_id": visit * 3, "person_id": id, "visit_occurrence_id": visit,
                "condition_start_date": start + 1, "condition_source_value": "SNOMED:44054006"}),
            ));
        }
    }
    let tables = BTreeMap::from([
        ("person", ids.iter().map(person).collect::<Rows>()),
        ("visit_occurrence", visits),
        ("condition_occurrence", conditions),
    ]);
    fixture::dataset(dir, name, bits, &tables)
}

struct World {
    tables: Tables,
    keys: Keyring,
    sources: Vec<Source>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let sources = vec![hospital(dir.path(), "north", 2, 1), hospital(dir.path(), "south", 1, 2)];
        let tables = Tables::embedded().expect("consistent");
        Self { tables, keys: Keyring::from_root(&[9; 32]), sources, _dir: dir }
    }

    fn build(
        &self,
        project: u64,
        recipient: &str,
        limits: &BTreeMap<i64, Limits>,
        k: u32,
        dir: &Path,
    ) -> Result<Built, super::ReleaseError> {
        let members: Vec<i64> = (1..=PEOPLE).filter(|id| *id != 13).collect();
        let all: Vec<i64> = (1..=PEOPLE).collect();
        let none = BTreeMap::new();
        let permitted = [Permitted { ids: &all, limits }, Permitted { ids: &all, limits: &none }];
        let rekey = Rekey::new(
            &self.keys,
            &format!("p{project}").parse().expect("slug"),
            &recipient.parse().expect("slug"),
            &"rel-1".parse().expect("slug"),
        );
        let declared = Declares {
            date_precision: DatePrecision::Day,
            shifted: true,
            shift_days_max: 365,
            times_kept: false,
            age_top_code: Some(90),
            zip_digits: 3,
        };
        fs::create_dir_all(dir).expect("a folder");
        let wanted = ["visit_occurrence", "condition_occurrence", "measurement"];
        Order {
            tables: &self.tables,
            keys: &self.keys,
            rekey: &rekey,
            project_ordinal: project,
            profile: &Profile::named("date-shifted", &self.tables).expect("loads"),
            declared,
            zip3: Arc::new(Zip3::current().expect("loads")),
            reference_date: Date::from_ymd(2024, 6, 1).expect("valid"),
            sources: &self.sources,
            permitted: &permitted,
            stored_offset: &|_| -100,
            wanted: wanted.iter().map(|t| self.tables.index_of(t).expect("canonical")).collect(),
            members: &members,
            rules: GateRules::new(k),
        }
        .build(dir)
    }
}

fn read(dir: &Path, table: &str) -> RecordBatch {
    let file = fs::File::open(dir.join(format!("tables/{table}.parquet"))).expect("written");
    let builder =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().expect("opens").map(|b| b.expect("reads")).collect();
    arrow::compute::concat_batches(&schema, &batches).expect("one schema")
}

fn longs(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).expect("present").as_primitive::<Int64Type>();
    column.iter().flatten().collect()
}

#[test]
fn a_row_that_a_vocabulary_moved_is_denied_with_its_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let tables = Tables::embedded().expect("consistent");
    let person = |id: i64| object(json!({"person_id": id, "year_of_birth": 1970}));
    let row = |id: i64, origin: Origin| {
        object(json!({"observation_id": id * 20 + origin as i64, "person_id": id, "observation_date": 18_000,
            "_row_key": RowKey::of_record(origin, 1 << 20).bits()}))
    };
    let rows = vec![
        row(1, Origin::Condition),
        row(1, Origin::Observation),
        row(2, Origin::Condition),
        row(2, Origin::Observation),
    ];
    let all = BTreeMap::from([("person", vec![person(1), person(2)]), ("observation", rows)]);
    let source = fixture::dataset(dir.path(), "north", 0, &all);
    let withheld = CategorySet::EMPTY.with(Category::Conditions);
    let limits = BTreeMap::from([(1, Limits { withheld, days: DateRanges::all() })]);
    let extraction = Extraction {
        tables: &tables,
        wanted: ["person", "observation"].iter().map(|t| tables.index_of(t).expect("canonical")).collect(),
        members: &[1, 2],
        permitted: &[Permitted { ids: &[1, 2], limits: &limits }],
        offset_days: &|_| 0,
        places: vec![0],
    };
    let mut report = ExtractReport::default();
    let batch = extraction.group(&[source], &mut report).expect("extracts");
    let observations = batch.get(tables.index_of("observation").expect("canonical")).expect("rows");
    assert_eq!(longs(observations, "person_id"), [1, 2, 2]);
    assert_eq!(report.rows_withheld, 1);
    assert!(observations.schema().column_with_name("_row_key").is_none(), "the key stays behind");
}

#[test]
fn what_leaves_joins_is_sorted_and_is_the_same_twice() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let built = world.build(0, "uni", &BTreeMap::new(), 5, &one).expect("builds");
    let again = world.build(0, "uni", &BTreeMap::new(), 5, &two).expect("builds");
    assert_eq!(built.files, again.files, "the same bytes");
    assert_eq!(built.persons.len() as i64, PEOPLE - 1);
    assert!(!one.join("spill").exists());
    let people = longs(&read(&one, "person"), "person_id");
    assert!(people.is_sorted() && people.len() as i64 == PEOPLE - 1);
    let known: BTreeSet<i64> = people.iter().copied().collect();
    let visits = read(&one, "visit_occurrence");
    let visit_ids: BTreeSet<i64> = longs(&visits, "visit_occurrence_id").into_iter().collect();
    assert_eq!(visit_ids.len(), visits.num_rows(), "visits of two hospitals have ids of their own");
    assert_eq!(visits.num_rows() as i64, 5 * (PEOPLE - 1) + 5 * PEOPLE / 2);
    let conditions = read(&one, "condition_occurrence");
    assert!(longs(&conditions, "person_id").iter().all(|id| known.contains(id)));
    assert!(
        longs(&conditions, "visit_occurrence_id").iter().all(|id| visit_ids.contains(id)),
        "references hold"
    );
    let keys: Vec<(i64, i32)> =
        longs(&visits, "person_id").into_iter().zip(days(&visits, "visit_start_date")).collect();
    assert!(keys.is_sorted(), "runs of persons by date");
    assert_eq!(read(&one, "measurement").num_rows(), 0, "a table without rows is there, with its columns");
    assert!(visits.schema().column_with_name("_row_key").is_none());
}

fn days(batch: &RecordBatch, column: &str) -> Vec<i32> {
    batch.column_by_name(column).expect("present").as_primitive::<Date32Type>().values().to_vec()
}

/// Each person's visit days, by pseudonym.
fn vectors(dir: &Path) -> BTreeMap<i64, Vec<i32>> {
    let visits = read(dir, "visit_occurrence");
    let mut out: BTreeMap<i64, Vec<i32>> = BTreeMap::new();
    for (id, day) in longs(&visits, "person_id").into_iter().zip(days(&visits, "visit_start_date")) {
        out.entry(id).or_default().push(day);
    }
    out
}

#[test]
fn two_recipients_share_no_id_and_no_exact_date_vector_but_every_interval() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    world.build(0, "uni", &BTreeMap::new(), 5, &one).expect("builds");
    world.build(1, "lab", &BTreeMap::new(), 5, &two).expect("builds");
    for table in ["person", "visit_occurrence", "condition_occurrence"] {
        let (a, b) = (read(&one, table), read(&two, table));
        for column in
            a.schema().fields().iter().filter(|f| f.name().ends_with("_id") && !f.name().contains("concept"))
        {
            let ids =
                |batch: &RecordBatch| longs(batch, column.name()).into_iter().collect::<BTreeSet<i64>>();
            assert!(ids(&a).is_disjoint(&ids(&b)), "{table}.{}", column.name());
        }
    }
    let (a, b) = (vectors(&one), vectors(&two));
    let exact = |v: &BTreeMap<i64, Vec<i32>>| v.values().cloned().collect::<BTreeSet<Vec<i32>>>();
    assert!(exact(&a).is_disjoint(&exact(&b)));
    let gaps = |v: &BTreeMap<i64, Vec<i32>>| {
        let of = |days: &Vec<i32>| days.windows(2).map(|w| w[1] - w[0]).collect::<Vec<i32>>();
        let mut all: Vec<Vec<i32>> = v.values().map(of).collect();
        all.sort();
        all
    };
    assert_eq!(gaps(&a), gaps(&b), "intervals stay exact");
}

#[test]
fn limits_of_a_directive_are_honoured_on_true_dates() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    // Person 1 (first hospital only) gives data of days until the true 2015-12-31 and no conditions; stored dates are 100
    // days early.
    let last = Date::from_ymd(2015, 12, 31).expect("valid");
    let withheld = CategorySet::EMPTY.with(Category::Conditions);
    let limits = BTreeMap::from([(1, Limits { withheld, days: DateRanges::between(None, Some(last)) })]);
    let out = dir.path().join("one");
    let built = world.build(0, "uni", &limits, 5, &out).expect("builds");
    let full = (0..5).filter(|n| day("2015-03-01") + 17 + 200 * n + 2 + 100 <= last.days()).count() as i64;
    assert!((1..5).contains(&full), "the case is one");
    let visits = read(&out, "visit_occurrence");
    assert_eq!(visits.num_rows() as i64, 5 * (PEOPLE - 1) + 5 * PEOPLE / 2 - (5 - full));
    let conditions = read(&out, "condition_occurrence");
    assert_eq!(conditions.num_rows() as i64, 5 * (PEOPLE - 2) + 5 * PEOPLE / 2);
    assert_eq!(built.extract.rows_withheld as i64, 5 - full + 5);
}

#[test]
fn who_withholds_the_person_row_is_left_out_whole_and_the_gate_refuses_small_classes() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let withheld = CategorySet::EMPTY.with(Category::Demographics);
    let limits = BTreeMap::from([(1, Limits { withheld, days: DateRanges::all() })]);
    let built = world.build(0, "uni", &limits, 5, &dir.path().join("one")).expect("builds");
    assert_eq!((built.persons.len() as i64, built.extract.persons_withheld), (PEOPLE - 2, 1));
    assert!(built.gate.after.smallest_class >= 5);
    let refused =
        world.build(0, "uni", &BTreeMap::new(), 1000, &dir.path().join("two")).expect_err("too large");
    assert_eq!(refused.kind(), crate::error::ErrorKind::Refused);
    assert!(!dir.path().join("two/tables").exists(), "nothing is written of what is refused");
}
