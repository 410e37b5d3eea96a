//! The engine over Parquet equals a naive reading of the definition over the same rows.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{Date, RowKey};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::cohort::definition::{AgeAt, Criterion, SimpleCohort, When};
use crate::cohort::fixture::{self, Rows};
use crate::cohort::plan::{DatasetFacts, Held, TableFacts, plan};
use crate::consent::{Category, CategorySet, DateRanges, Limits};

const CODES: [&str; 3] = ["SNOMED:44054006", "SNOMED:38341003", "SNOMED:195967001"];

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// (person, code, day, value)
type Fact = (i64, usize, i32, i32);

#[derive(Clone, Debug)]
struct World {
    /// sex (0–3), year of birth, by hospital
    persons: Vec<BTreeMap<i64, (u8, i32)>>,
    conditions: Vec<Vec<Fact>>,
    measurements: Vec<Vec<Fact>>,
}

fn world() -> impl Strategy<Value = World> {
    let fact = (1..40i64, 0..3usize, 17_000..19_500i32, 0..10i32);
    let hospital = (
        proptest::collection::btree_map(1..40i64, (0..4u8, 1940..2000i32), 1..30),
        proptest::collection::vec(fact.clone(), 0..80),
        proptest::collection::vec(fact, 0..80),
    );
    proptest::collection::vec(hospital, 1..3).prop_map(|hospitals| {
        let mut out = World { persons: Vec::new(), conditions: Vec::new(), measurements: Vec::new() };
        for (persons, mut conditions, mut measurements) in hospitals {
            conditions.retain(|f| persons.contains_key(&f.0));
            measurements.retain(|f| persons.contains_key(&f.0));
            out.persons.push(persons);
            out.conditions.push(conditions);
            out.measurements.push(measurements);
        }
        out
    })
}

fn definition() -> impl Strategy<Value = Value> {
    let window = prop_oneof![
        Just(Value::Null),
        (-400..0i32, 0..400i32).prop_map(|(a, b)| json!({"after": "index", "days": [a, b]})),
        (2017..2021, 2021..2023)
            .prop_map(|(a, b)| json!({"from": format!("{a}-01-01"), "to": format!("{b}-12-31")})),
    ];
    let criterion = |first: bool| {
        (0..3usize, prop::bool::ANY, prop::bool::ANY, 1..3u32, window.clone(), 0..9i32).prop_map(
            move |(code, coded, measured, min, window, low)| {
                let mut c = object(json!({"count": {"min": min}}));
                c.insert("domain".into(), if measured { "measurement" } else { "condition" }.into());
                if coded {
                    c.insert("codes".into(), json!([CODES[code]]));
                }
                if measured {
                    c.insert("value".into(), json!({"min": low, "unit": "UCUM:%"}));
                }
                if !window.is_null() && (!first || window.get("after").is_none()) {
                    c.insert("window".into(), window);
                }
                Value::Object(c)
            },
        )
    };
    let age = (20..60, 60..89).prop_map(|(min, max)| json!({"min": min, "max": max}));
    (
        criterion(true),
        proptest::collection::vec(criterion(false), 0..2),
        proptest::collection::vec(criterion(false), 0..3),
        proptest::collection::vec(criterion(false), 0..2),
        proptest::option::of(prop_oneof![Just("female"), Just("male"), Just("unknown")]),
        proptest::option::of(age),
    )
        .prop_map(|(first, more, any, none, sex, age)| {
            let mut all = vec![first];
            all.extend(more);
            let mut out = json!({"all": all, "any": any, "none": none});
            if let Some(sex) = sex {
                out["sex"] = json!([sex]);
            }
            if let Some(age) = age {
                out["age"] = age;
            }
            out
        })
}

fn write(world: &World, dir: &std::path::Path) -> Vec<Source> {
    let mut out = Vec::new();
    for (i, persons) in world.persons.iter().enumerate() {
        let sex = |s: u8| match s {
            0 => json!({"gender_concept_id": 0}),
            1 => json!({"gender_concept_id": 8532}),
            2 => json!({"gender_concept_id": 0, "gender_source_value": "Gender:male"}),
            _ => json!({"gender_concept_id": 8521}),
        };
        let person = |(id, (s, year)): (&i64, &(u8, i32))| {
            let mut row = object(sex(*s));
            row.extend(object(json!({"person_id": id, "year_of_birth": year})));
            row
        };
        let condition = |f: &Fact| {
            object(
                json!({"person_id": f.0, "condition_source_value": CODES[f.1], "condition_start_date": f.2}),
            )
        };
        let measurement = |f: &Fact| {
            let unit = if f.3 % 3 == 0 { "UCUM:mg" } else { "UCUM:%" };
            object(json!({"person_id": f.0, "measurement_source_value": CODES[f.1], "measurement_date": f.2,
                "value_as_number": f64::from(f.3), "unit_source_value": unit}))
        };
        let tables: BTreeMap<&str, Rows> = BTreeMap::from([
            ("person", persons.iter().map(person).collect()),
            ("condition_occurrence", world.conditions[i].iter().map(condition).collect()),
            ("measurement", world.measurements[i].iter().map(measurement).collect()),
        ]);
        out.push(fixture::dataset(dir, &format!("h{i}"), 2 - i as u8, &tables));
    }
    out
}

fn facts(world: &World) -> Vec<DatasetFacts> {
    let table = TableFacts { rows: 1, concept_ids: Held::None, source_codes: Held::All };
    (0..world.persons.len())
        .map(|i| DatasetFacts {
            dataset: format!("h{i}").parse().expect("slug"),
            date_precision: DatePrecision::Day,
            offset_epoch: None,
            age_top_code: Some(90),
            tables: ["condition_occurrence", "measurement"].map(|t| (t.to_owned(), table)).into(),
        })
        .collect()
}

/// The definition read literally over the rows.
fn naive(
    world: &World,
    cohort: &SimpleCohort,
    permits: &dyn Fn(usize, i64) -> bool,
    usable: &dyn Fn(usize, i64, i32, bool) -> bool,
) -> Vec<Member> {
    let ids: BTreeSet<i64> = world.persons.iter().flat_map(|p| p.keys().copied()).collect();
    let in_period = |p: &crate::cohort::definition::Period, day: i32| {
        p.from.is_none_or(|f| f.days() <= day) && p.to.is_none_or(|t| day <= t.days())
    };
    let days_of = |id: i64, c: &Criterion| -> Vec<i32> {
        let measured = c.domain == crate::cohort::definition::Domain::Measurement;
        let facts = if measured { &world.measurements } else { &world.conditions };
        let matches = |(hospital, f): &(usize, &Fact)| {
            let coded = c.codes.is_empty() || c.codes.iter().any(|code| code.to_string() == CODES[f.1]);
            let valued =
                c.value.as_ref().is_none_or(|v| f.3 % 3 != 0 && f64::from(f.3) >= v.min.expect("given"));
            let period = match &c.window {
                Some(When::Period(p)) => in_period(p, f.2),
                _ => true,
            };
            f.0 == id && coded && valued && period && usable(*hospital, id, f.2, measured)
        };
        let numbered = facts.iter().enumerate().flat_map(|(i, all)| all.iter().map(move |f| (i, f)));
        numbered.filter(matches).map(|(_, f)| f.2).collect()
    };
    let member = |id: &i64| {
        let permitting = world.persons.iter().enumerate().filter(|(i, _)| permits(*i, *id));
        let (sex, year) = permitting.filter_map(|(_, p)| p.get(id)).next()?;
        let index = days_of(*id, &cohort.all[0]).into_iter().min()?;
        let counts = |c: &Criterion| {
            let within = |day: &i32| match c.window {
                Some(When::Index { from_days, to_days }) => (from_days..=to_days).contains(&(day - index)),
                _ => true,
            };
            days_of(*id, c).iter().filter(|d| within(d)).count() >= c.count_min as usize
        };
        let sexes = cohort.sex.is_empty() || cohort.sex.iter().any(|s| *s as u8 == *sex);
        let aged = cohort.age.as_ref().is_none_or(|a| {
            assert_eq!(a.at, AgeAt::Index);
            let age = Date::from_days(index).year() - year;
            a.min.is_none_or(|m| age >= m as i32) && a.max.is_none_or(|m| age <= m as i32)
        });
        let holds = sexes
            && aged
            && cohort.all.iter().all(counts)
            && (cohort.any.is_empty() || cohort.any.iter().any(counts))
            && !cohort.none.iter().any(counts);
        holds.then_some(Member { subject: *id, index_day: Some(index) })
    };
    ids.iter().filter_map(member).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_equals_a_naive_reading(world in world(), definition in definition(), keep in 1..5i64) {
        let dir = tempfile::tempdir().expect("a folder");
        let sources = write(&world, dir.path());
        let cohort = SimpleCohort::parse(definition.to_string().as_bytes()).expect("valid");
        let plan = plan(&cohort, &facts(&world), None).expect("plans");
        // Multiples of 7 allow data from 2020 on and withhold conditions; some people permit one hospital only.
        let first = Date::from_ymd(2020, 1, 1).expect("valid");
        let permits = |hospital: usize, id: i64| keep == 1 || (id + hospital as i64) % keep != 0;
        let permitted: Vec<(Vec<i64>, BTreeMap<i64, Limits>)> = (0..sources.len()).map(|hospital| {
            let ids: Vec<i64> = (1..40i64).filter(|id| permits(hospital, *id)).collect();
            let withheld = CategorySet::EMPTY.with(Category::Conditions);
            let limits = Limits { withheld, days: DateRanges::between(Some(first), None) };
            (ids, (0..6).map(|n| (n * 7, limits.clone())).collect())
        }).collect();
        let views: Vec<Permitted<'_>> =
            permitted.iter().map(|(ids, limits)| Permitted { ids, limits }).collect();
        let found = run(&plan, &sources, &views, &|id, _| -(id as i32)).expect("runs");
        let usable = |hospital: usize, id: i64, day: i32, measured: bool| {
            permits(hospital, id) && (id % 7 != 0 || measured && day + id as i32 >= first.days())
        };
        let expected = naive(&world, &cohort, &permits, &usable);
        prop_assert_eq!(found.members, expected);
    }
}

#[test]
fn a_row_that_a_vocabulary_moved_is_denied_with_its_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let row = |person: i64, origin: Origin| {
        object(json!({"person_id": person, "observation_date": 18_000, "observation_source_value": CODES[0],
            "_row_key": RowKey::of_record(origin, 1 << 20).bits()}))
    };
    let tables: BTreeMap<&str, Rows> = BTreeMap::from([
        ("person", (1..=3).map(|id| object(json!({"person_id": id, "year_of_birth": 1970}))).collect()),
        (
            "observation",
            vec![row(1, Origin::Condition), row(2, Origin::Observation), row(3, Origin::Condition)],
        ),
    ]);
    let sources = [fixture::dataset(dir.path(), "h0", 0, &tables)];
    let definition = br#"{"all":[{"domain":"observation","codes":["SNOMED:44054006"]}]}"#;
    let facts = DatasetFacts {
        tables: [(
            "observation".to_owned(),
            TableFacts { rows: 3, concept_ids: Held::None, source_codes: Held::All },
        )]
        .into(),
        ..facts(&World { persons: vec![BTreeMap::new()], conditions: vec![], measurements: vec![] }).remove(0)
    };
    let plan = plan(&SimpleCohort::parse(definition).expect("reads"), &[facts], None).expect("plans");
    let withheld = CategorySet::EMPTY.with(Category::Conditions);
    let denies = Limits { withheld, days: DateRanges::all() };
    let limits: BTreeMap<i64, Limits> = [(1, denies.clone()), (2, denies)].into();
    let found =
        run(&plan, &sources, &[Permitted { ids: &[1, 2, 3], limits: &limits }], &|_, _| 0).expect("runs");
    let members: Vec<i64> = found.members.iter().map(|m| m.subject).collect();
    assert_eq!((members, found.report.withheld), (vec![2, 3], 1));
}

#[test]
fn where_person_rows_conflict_the_first_dataset_wins_and_it_is_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let hospital = |sex: u8| BTreeMap::from([(5, (sex, 1970))]);
    let world = World {
        persons: vec![hospital(1), hospital(3)],
        conditions: vec![vec![], vec![(5, 0, 18_000, 0)]],
        measurements: vec![vec![], vec![]],
    };
    let sources = write(&world, dir.path());
    let definition = br#"{"sex":["female"],"all":[{"domain":"condition"}]}"#;
    let plan = plan(&SimpleCohort::parse(definition).expect("reads"), &facts(&world), None).expect("plans");
    let one = Permitted { ids: &[5], limits: &BTreeMap::new() };
    let found = run(&plan, &sources, &[one, one], &|_, _| 0).expect("runs");
    assert_eq!((found.members.len(), found.report.conflicts), (1, 1));
    let swapped: Vec<Source> = sources.into_iter().rev().collect();
    let found = run(&plan, &swapped, &[one, one], &|_, _| 0).expect("runs");
    assert_eq!((found.members.len(), found.report.conflicts), (0, 1));
}

#[test]
fn an_unreadable_file_is_named_by_table_and_not_by_value() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("broken.parquet");
    std::fs::write(&path, b"not parquet").expect("writes");
    let files = vec![SourceFile { table: "person".into(), bucket: 0, path, rows: 1 }];
    let dataset = "north".parse().expect("slug");
    let source =
        Source { dataset, bucket_bits: 0, date_precision: DatePrecision::Day, offset_epoch: None, files };
    let plan = plan(&SimpleCohort::parse(b"{}").expect("reads"), &[], None).expect("plans");
    let one = Permitted { ids: &[1], limits: &BTreeMap::new() };
    let error = run(&plan, &[source], &[one], &|_, _| 0).expect_err("broken");
    assert!(error.to_string().starts_with("dataset 'north': table person cannot be read"), "{error}");
}
