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
use crate::risk::{Earlier, GateRules};

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
    wanted: Vec<&'static str>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let sources = vec![hospital(dir.path(), "north", 2, 1), hospital(dir.path(), "south", 1, 2)];
        let tables = Tables::embedded().expect("consistent");
        let wanted = vec!["visit_occurrence", "condition_occurrence", "measurement"];
        Self { tables, keys: Keyring::from_root(&[9; 32]), sources, wanted, _dir: dir }
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
        let permitted = &permitted[..self.sources.len()];
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
            permitted,
            stored_offset: &|_, _| -100,
            wanted: self.wanted.iter().map(|t| self.tables.index_of(t).expect("canonical")).collect(),
            members: &members,
            rules: GateRules::new(k),
            concepts: &|_| Vec::new(),
            earlier: &Earlier::none(),
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
        offset_days: &|_, _| 0,
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

/// One hospital whose rows name visits that are there, that are another person's, and that are nowhere.
fn loose(dir: &Path, refs: &[(i64, i64)]) -> Source {
    let person = |id: i64| {
        object(
            json!({"person_id": id, "year_of_birth": 1980 + id % 2, "gender_concept_id": 8507, "state": "MA"}),
        )
    };
    let visit = |id: i64| {
        let start = day("2015-03-01") + 20 * id as i32;
        let before = (id > 1).then_some(id - 1);
        object(
            json!({"visit_occurrence_id": id, "person_id": id, "visit_start_date": start, "visit_end_date": start,
            "preceding_visit_occurrence_id": before}),
        )
    };
    let condition = |(at, (person, visit)): (usize, &(i64, i64))| {
        object(json!({"condition_occurrence_id": at + 1, "person_id": person, "visit_occurrence_id": visit,
            "visit_detail_id": visit, "condition_start_date": day("2016-01-01"),
            "condition_source_value": "SNOMED:44054006"}))
    };
    let mut sorted = refs.to_vec();
    sorted.sort_unstable();
    let tables = BTreeMap::from([
        ("person", (1..=PEOPLE).map(person).collect::<Rows>()),
        ("visit_occurrence", (1..=PEOPLE).map(visit).collect()),
        ("condition_occurrence", sorted.iter().enumerate().map(condition).collect()),
    ]);
    fixture::dataset(dir, "loose", 1, &tables)
}

/// Every id in a column that names rows, with the person of the row.
fn pairs(batch: &RecordBatch, column: &str) -> BTreeSet<(i64, i64)> {
    let ids = batch.column_by_name(column).expect("present").as_primitive::<Int64Type>();
    ids.iter().zip(longs(batch, "person_id")).filter_map(|(id, person)| Some((id?, person))).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Whatever is asked for and whatever the sources say, a reference names a row of the same person or is null, and no
    /// reference that could resolve is lost.
    #[test]
    fn references_resolve_in_the_release_or_are_null(
        refs in proptest::collection::vec((1..=PEOPLE, 1..=PEOPLE + 3), 1..60),
        with_visits in proptest::bool::ANY,
        withholding in proptest::collection::btree_set(1..=PEOPLE, 0..8),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = World::new();
        world.sources = vec![loose(dir.path(), &refs)];
        let withheld = CategorySet::EMPTY.with(Category::Visits);
        let limit = |id: &i64| (*id, Limits { withheld, days: DateRanges::all() });
        let limits: BTreeMap<i64, Limits> = withholding.iter().map(limit).collect();
        let out = dir.path().join("out");
        world.wanted = ["condition_occurrence", "visit_occurrence"][..1 + usize::from(with_visits)].to_vec();
        let built = world.build(0, "uni", &limits, 5, &out).expect("builds");
        let conditions = read(&out, "condition_occurrence");
        let named = pairs(&conditions, "visit_occurrence_id");
        let mut resolvable = 0;
        if with_visits {
            let visits = read(&out, "visit_occurrence");
            let there = pairs(&visits, "visit_occurrence_id");
            proptest::prop_assert!(named.is_subset(&there));
            proptest::prop_assert!(pairs(&visits, "preceding_visit_occurrence_id").is_empty(), "another person's");
            resolvable = refs.iter().filter(|(p, v)| p == v && *p != 13 && !withholding.contains(p)).count();
        }
        let kept = longs(&conditions, "visit_occurrence_id").len();
        proptest::prop_assert_eq!(kept, resolvable);
        proptest::prop_assert!(pairs(&conditions, "visit_detail_id").is_empty(), "no visit details were asked for");
        let entry = built.files.iter().find(|f| f.path.contains("condition")).expect("written");
        let column = entry.columns.iter().find(|c| c.name == "visit_occurrence_id").expect("there");
        proptest::prop_assert_eq!(column.references_nulled as usize, conditions.num_rows() - kept);
    }
}

#[test]
fn a_dictionary_says_what_profiles_and_gate_did() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    // Two classes of twenty: thirty alike are reached by withholding what tells them apart.
    let built = world.build(0, "uni", &BTreeMap::new(), 30, &dir.path().join("one")).expect("builds");
    let profile = |name: &str| Profile::named(name, &world.tables).expect("loads");
    let text = |release: &str, ingest: &str| {
        let (release, ingest) = (profile(release), profile(ingest));
        let declares = release.declares().after(ingest.declares());
        let (machine, text) = super::dictionary::dictionary(&super::dictionary::Told {
            tables: &world.tables,
            profile: &release,
            ingest: &[("north".parse().expect("slug"), ingest)],
            declares,
            gate: &built.gate,
            withheld: &built.withheld,
            files: &built.files,
        });
        let machine: Value = serde_json::from_slice(&machine).expect("JSON");
        (machine, String::from_utf8(text).expect("UTF-8"))
    };
    let (machine, shifted) = text("date-shifted", "date-shifted");
    assert!(shifted.contains("Dates are moved backward by one number of days, at least 1 and at most 730"));
    let (_, floored) = text("safe-harbor", "date-shifted");
    assert!(
        floored.contains("known to the year of dates that were moved backward")
            && floored.contains("| shift, then year |")
    );
    assert!(!text("safe-harbor", "safe-harbor").1.contains("moved backward"));
    let (_, limited) = text("limited", "limited");
    assert!(limited.contains("Dates are the true ones.") && !limited.contains("moved"));
    let persons =
        machine["tables"].as_array().expect("a list").iter().find(|t| t["table"] == "person").expect("there");
    let changed: BTreeMap<&str, &Value> = persons["columns"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|c| !c["gate"].is_null())
        .map(|c| (c["name"].as_str().expect("text"), &c["gate"]))
        .collect();
    assert_eq!(*changed["year_of_birth"], json!({"what": "withheld", "values": PEOPLE - 1}));
    assert_eq!(*changed["gender_concept_id"], json!({"what": "withheld", "values": PEOPLE - 1}));
    assert!(!changed.contains_key("race_concept_id"));
    assert!(shifted.contains("asked for classes of at least 30 people"));
}

#[test]
fn rows_that_restate_what_the_gate_withheld_stay_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let person = |id: i64| {
        object(json!({"person_id": id, "year_of_birth": 1980, "gender_concept_id": 8507 + 25 * (id % 2)}))
    };
    let observation = |id: i64, n: i64, code: &str| {
        object(json!({"observation_id": 10 * id + n, "person_id": id, "observation_date": day("2016-01-01"),
            "observation_source_value": code}))
    };
    let rows = (1..=PEOPLE)
        .flat_map(|id| [observation(id, 0, "LOINC:76689-9"), observation(id, 1, "LOINC:72166-2")]);
    let tables = BTreeMap::from([
        ("person", (1..=PEOPLE).map(person).collect::<Rows>()),
        ("observation", rows.collect()),
    ]);
    let mut world = World::new();
    world.sources = vec![fixture::dataset(dir.path(), "one", 1, &tables)];
    world.wanted = vec!["observation"];
    let left = |k, name: &str| {
        let out = dir.path().join(name);
        let built = world.build(0, "uni", &BTreeMap::new(), k, &out).expect("builds");
        let entry = built.files.iter().find(|f| f.path.contains("observation")).expect("written");
        assert_eq!(entry.rows, Some(read(&out, "observation").num_rows() as u64));
        (built.gate.recoding.sex, read(&out, "observation").num_rows() as i64, entry.rows_restating as i64)
    };
    let people = PEOPLE - 1;
    assert_eq!(left(5, "five"), (true, 2 * people, 0));
    assert_eq!(left(30, "thirty"), (false, people, people));
}
