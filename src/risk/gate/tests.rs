//! The gate against brute force over its lattice, and what leaves measured again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use almoner_deid::{Zip3, arrow_schema};
use almoner_model::{ColumnType, IdentifierClass};
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;

/// One person of a test.
#[derive(Clone, Debug, Default)]
struct Person {
    year: i64,
    over_89: bool,
    sex: i64,
    race: &'static str,
    race_detail: i64,
    zip: Option<&'static str>,
    state: Option<&'static str>,
    died: Option<i32>,
}

fn tables() -> Tables {
    Tables::embedded().expect("schemas/tables loads")
}

/// A table with the given cells and zeros or nulls elsewhere.
fn table(
    name: &str,
    rows: usize,
    number: impl Fn(&str, usize) -> i64,
    text: impl Fn(&str, usize) -> Option<String>,
) -> RecordBatch {
    let tables = tables();
    let spec = tables.get(name).expect("canonical");
    let columns = spec.columns.iter().map(|c| -> ArrayRef {
        let numbers = (0..rows).map(|row| number(&c.name, row));
        match c.kind {
            // A number of a hospital or a member of its staff is never in what is measured.
            ColumnType::Int64 if c.class == IdentifierClass::StaffOrSiteRef => {
                Arc::new(Int64Array::new_null(rows))
            }
            ColumnType::Int64 => Arc::new(numbers.collect::<Int64Array>()),
            ColumnType::Float64 => Arc::new(numbers.map(|n| Some(n as f64)).collect::<Float64Array>()),
            ColumnType::Date => Arc::new(numbers.map(|n| Some(n as i32)).collect::<Date32Array>()),
            ColumnType::Bool => Arc::new(numbers.map(|n| Some(n != 0)).collect::<BooleanArray>()),
            ColumnType::Datetime => Arc::new(TimestampMicrosecondArray::new_null(rows)),
            ColumnType::String => Arc::new((0..rows).map(|row| text(&c.name, row)).collect::<StringArray>()),
        }
    });
    RecordBatch::try_new(arrow_schema(spec, false), columns.collect()).expect("built to the schema")
}

fn batches(people: &[Person]) -> (RecordBatch, RecordBatch) {
    let person = table(
        "person",
        people.len(),
        |column, row| match column {
            "person_id" => row as i64 + 1,
            "year_of_birth" => people[row].year,
            "gender_concept_id" => people[row].sex,
            "age_90_plus" => i64::from(people[row].over_89),
            "race_source_concept_id" => people[row].race_detail,
            _ => 0,
        },
        |column, row| match column {
            "zip" => people[row].zip.map(str::to_owned),
            "state" => people[row].state.map(str::to_owned),
            "race_source_value" => Some(people[row].race.to_owned()),
            _ => None,
        },
    );
    let dead: Vec<usize> = (0..people.len()).filter(|row| people[*row].died.is_some()).collect();
    let death = table(
        "death",
        dead.len(),
        |column, row| match column {
            "person_id" => dead[row] as i64 + 1,
            "death_date" => i64::from(people[dead[row]].died.unwrap_or_default()),
            _ => 0,
        },
        |_, _| None,
    );
    (person, death)
}

fn add(people: &[Person]) -> People {
    let (person, death) = batches(people);
    let mut out = People::new(&tables(), false).expect("declared columns are known");
    let half = person.num_rows() / 2;
    out.add(&person.slice(0, half), Some(&death)).expect("the table");
    out.add(&person.slice(half, person.num_rows() - half), Some(&death)).expect("the table");
    out
}

fn run(people: &[Person], k: u32) -> Result<Gated, Refused> {
    gate(&add(people), &tables(), GateRules::new(k), &Population::Unknown, &Earlier::none())
}

/// What leaves, read again from the recoded batches.
fn left(people: &[Person], gated: &Gated, with_deaths: bool) -> People {
    let tables = tables();
    let (person, death) = batches(people);
    let spec = |name: &str| tables.get(name).expect("canonical").clone();
    let person = gated.apply(&spec("person"), &person).expect("the table").expect("people always leave");
    let death = gated.apply(&spec("death"), &death).expect("the table");
    let mut out = People::new(&tables, false).expect("known");
    out.add(&person, death.filter(|_| with_deaths).as_ref()).expect("the table");
    out
}

fn earlier(people: &People) -> Earlier {
    let mut told = Earlier::none();
    told.add(people, |id| [id]).expect("few values");
    told
}

/// What leaves, measured again.
fn remeasured(people: &[Person], gated: &Gated) -> RiskReport {
    crate::risk::measure(&left(people, gated, true), &Population::Unknown).expect("few values")
}

fn crowd(n: usize) -> Vec<Person> {
    let person =
        |i: usize| Person { year: 1950 + (i % 40) as i64, sex: 8507, state: Some("KS"), ..Person::default() };
    (0..n).map(person).collect()
}

#[test]
fn tiers_and_contributors_set_k() {
    assert_eq!(required_k(Tier::Public, []), 11);
    assert_eq!(required_k(Tier::Controlled, [3, 4]), 5);
    assert_eq!(required_k(Tier::Controlled, [3, 20]), 20);
}

#[test]
fn people_who_are_safe_already_leave_unchanged() {
    let gated = run(&vec![Person { year: 1970, ..Person::default() }; 5], 5).expect("safe");
    assert_eq!((gated.report.loss_ppm, gated.suppressed.len(), gated.recoding), (0, 0, Recoding::NONE));
    assert_eq!(gated.report.before, gated.report.after);
}

#[test]
fn too_few_people_are_refused_with_the_cost_of_other_sizes() {
    let Err(Refused::ClassSize { required, measured, before, costs }) = run(&crowd(8), 11) else {
        panic!("eight people are no class of eleven")
    };
    assert_eq!((required, measured, before.sample_uniques), (11, 1, 8));
    assert_eq!(
        costs.iter().map(|c| (c.k, c.recoding.is_some())).collect::<Vec<_>>(),
        [(3, true), (5, true), (11, false)]
    );
    assert!(matches!(run(&[], 3), Err(Refused::ClassSize { measured: 0, .. })));
}

#[test]
fn a_lone_outlier_is_left_out_and_a_spread_is_banded() {
    let mut people = vec![Person { year: 1970, ..Person::default() }; 40];
    people.push(Person { year: 1920, ..Person::default() });
    let gated = run(&people, 5).expect("reachable");
    assert_eq!(gated.suppressed, [41].into());
    assert_eq!(gated.recoding.birth_years, 1);
    let gated = run(&crowd(80), 5).expect("reachable");
    assert_eq!((gated.recoding.birth_years, gated.suppressed.len()), (5, 0));
    assert_eq!(gated.report.after.smallest_class, 10);
}

#[test]
fn people_of_90_or_older_stay_one_group_and_no_band_begins_before_theirs() {
    let mut people = crowd(80);
    people.extend(vec![
        Person {
            year: 1936,
            over_89: true,
            sex: 8507,
            state: Some("KS"),
            ..Person::default()
        };
        6
    ]);
    people.extend((1937..1950).map(|year| Person {
        year,
        sex: 8507,
        state: Some("KS"),
        ..Person::default()
    }));
    let gated = run(&people, 5).expect("reachable");
    let spec = tables().get("person").expect("canonical").clone();
    let out = gated.apply(&spec, &batches(&people).0).expect("the table").expect("leaves");
    let years = out.column_by_name("year_of_birth").expect("there").as_primitive::<Int64Type>();
    let flags = out.column_by_name("age_90_plus").expect("there").as_boolean();
    assert!(gated.recoding.birth_years > 1);
    for row in 0..out.num_rows() {
        assert!(years.value(row) >= 1936);
        assert!(!flags.value(row) || years.value(row) == 1936);
    }
}

#[test]
fn declared_quasi_identifiers_are_in_the_report() {
    let gated = run(&crowd(200), 5).expect("reachable");
    let names = &gated.report.quasi_identifiers;
    assert!(names.contains(&"person.zip".to_owned()) && names.contains(&"death.death_date".to_owned()));
}

/// A concept of the hospital's own code tells people apart as the code does, and goes with it.
#[test]
fn the_columns_of_an_attribute_are_one() {
    let mut people = vec![Person { year: 1970, race: "Race:2106-3", ..Person::default() }; 40];
    people.iter_mut().enumerate().for_each(|(at, p)| p.race_detail = 38_003_000 + at as i64);
    let gated = run(&people, 5).expect("reachable");
    assert_eq!(gated.report.before.smallest_class, 1);
    assert!(!gated.recoding.race);
    let spec = tables().get("person").expect("canonical").clone();
    let out = gated.apply(&spec, &batches(&people).0).expect("the table").expect("leaves");
    for c in spec.columns.iter().filter(|c| c.name.starts_with("race_")) {
        let column = out.column_by_name(&c.name).expect("there");
        let zeros =
            column.as_primitive_opt::<Int64Type>().is_some_and(|n| n.values().iter().all(|v| *v == 0));
        assert!(zeros || column.null_count() == column.len(), "{}", c.name);
    }
}

#[test]
fn a_moment_of_birth_or_death_tells_people_apart() {
    let same = vec![Person { year: 1970, died: Some(16_000), ..Person::default() }; 10];
    let (person, death) = batches(&same);
    let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..10_i64));
    let with = |batch: &RecordBatch, column: &str| {
        let at = batch.schema().index_of(column).expect("there");
        let mut columns = batch.columns().to_vec();
        columns[at] = Arc::clone(&moments);
        RecordBatch::try_new(batch.schema(), columns).expect("the same types")
    };
    let smallest = |person: &RecordBatch, death: &RecordBatch| {
        let mut people = People::new(&tables(), true).expect("known");
        people.add(person, Some(death)).expect("the table");
        crate::risk::measure(&people, &Population::Unknown).expect("few values").smallest_class
    };
    assert_eq!(smallest(&person, &death), 10);
    assert_eq!(smallest(&with(&person, "birth_datetime"), &death), 1);
    assert_eq!(smallest(&person, &with(&death, "death_datetime")), 1);
}

#[test]
fn a_site_or_a_column_without_an_attribute_is_refused() {
    let (person, _) = batches(&crowd(3));
    let at = person.schema().index_of("care_site_id").expect("there");
    let mut columns = person.columns().to_vec();
    columns[at] = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let person = RecordBatch::try_new(person.schema(), columns).expect("the same types");
    let mut people = People::new(&tables(), false).expect("known");
    let refused = people.add(&person, None).expect_err("a site tells where a person lives");
    assert!(matches!(refused, RiskError::Undeclared { column, .. } if column == "care_site_id"));
}

#[test]
fn populations_lower_the_journalists_risk_but_never_below_the_sample() {
    let mut people = crowd(40);
    people.iter_mut().for_each(|p| p.zip = Some("021"));
    let people = add(&people);
    let risk = |population| crate::risk::measure(&people, &population).expect("few values");
    let zip3 = Arc::new(Zip3::current().expect("loads"));
    let (unknown, tenth) = (risk(Population::Unknown), risk(Population::Share(0.1)));
    assert_eq!((unknown.prosecutor_max, unknown.journalist_max, unknown.marketer), (1.0, 1.0, 1.0));
    assert!((tenth.journalist_max - 0.1).abs() < 1e-12 && (tenth.marketer - 0.1).abs() < 1e-12);
    // 1,414,778 people of area 021 in 2020, over 90 years and two sexes: 7,859.9 in a class.
    let census = risk(Population::Census(Arc::clone(&zip3)));
    assert!((1.0 / census.journalist_max - 1_414_778.0 / 180.0).abs() < 1e-6);
    assert_eq!(census.prosecutor_max, 1.0);
    let nowhere = add(&crowd(40));
    let census = crate::risk::measure(&nowhere, &Population::Census(zip3)).expect("few values");
    assert_eq!(census.journalist_max, 1.0);
}

fn person() -> impl Strategy<Value = Person> {
    let zips = prop::sample::select(vec![
        (None, None),
        (Some("021"), Some("MA")),
        (Some("010"), Some("MA")),
        (Some("000"), Some("KS")),
    ]);
    let races = prop::sample::select(vec!["Race:2106-3", "Race:2054-5"]);
    let races = (races, 0..2_i64);
    (1936..1996_i64, any::<bool>(), races, zips, prop::option::weighted(0.2, 15_000..19_000)).prop_map(
        |(year, male, (race, race_detail), (zip, state), died)| Person {
            year,
            over_89: year == 1936,
            sex: if male { 8507 } else { 8532 },
            race,
            race_detail,
            zip,
            state,
            died,
        },
    )
}

/// The price and the suppressed of every node, counted from the recoded rows themselves.
fn brute_force(people: &[Person], rules: GateRules) -> Option<u64> {
    let coded = add(people);
    let lattice = Lattice::new(&coded);
    let nodes = lattice.nodes();
    let costs = nodes.iter().filter_map(|node| {
        let r = recoding(node, &coded);
        // People of a class, and those of them who died.
        let mut classes: HashMap<String, (u64, u64)> = HashMap::new();
        for p in people {
            let year = r.birth_year(p.year, p.over_89);
            let death = p.died.map(|d| almoner_model::Date::from_days(d).year()).filter(|_| r.death);
            let (zip, state) = r.place(p.zip, p.state);
            let key = format!(
                "{year} {} {:?} {:?} {:?} {zip:?} {state:?} {death:?}",
                p.over_89 && r.birth_years != 0,
                r.sex.then_some(p.sex),
                r.race.then_some(p.race),
                r.race.then_some(p.race_detail)
            );
            let class = classes.entry(key).or_default();
            *class = (class.0 + 1, class.1 + u64::from(p.died.is_some()));
        }
        let small = || classes.values().filter(|(all, _)| *all < u64::from(rules.k));
        let (left_out, dead_left_out): (u64, u64) =
            small().fold((0, 0), |(all, dead), class| (all + class.0, dead + class.1));
        let dead = people.iter().filter(|p| p.died.is_some()).count() as u64;
        // Where deaths leave, as few of those who died may be left out as of all.
        let keeps = !r.death || dead_left_out * MILLION <= dead * rules.suppression_limit_ppm;
        let share = (left_out * MILLION).div_ceil(people.len() as u64);
        let within = share <= rules.suppression_limit_ppm && left_out < people.len() as u64;
        (keeps && within).then(|| price(node) + share)
    });
    costs.min()
}

/// The rows of a table that leave, one text each for each person: what a recipient reads of the attributes.
fn told(people: &[Person], gated: &Gated) -> HashMap<i64, String> {
    let spec = tables().get("person").expect("canonical").clone();
    let (person, death) = batches(people);
    let person = gated.apply(&spec, &person).expect("the table").expect("leaves");
    let deaths = gated.apply(tables().get("death").expect("canonical"), &death).expect("the table");
    let ids = |batch: &RecordBatch| -> Vec<i64> {
        batch.column_by_name("person_id").expect("there").as_primitive::<Int64Type>().values().to_vec()
    };
    let mut out: HashMap<i64, String> = HashMap::new();
    for (row, id) in ids(&person).into_iter().enumerate() {
        let cells = person.slice(row, 1).columns()[1..].iter().map(|c| format!("{c:?}")).collect();
        out.insert(id, cells);
    }
    for (row, id) in deaths.iter().flat_map(|batch| ids(batch).into_iter().enumerate()) {
        let days = deaths.as_ref().and_then(|d| d.column_by_name("death_date")).expect("there");
        let day = days.as_primitive::<arrow::datatypes::Date32Type>().value(row);
        out.entry(id).or_default().push_str(&almoner_model::Date::from_days(day).year().to_string());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A recipient who reads a second release beside the first, person by person, finds classes of the size asked for
    /// among those of the second; whoever is in one only is told apart from those in both.
    #[test]
    fn two_releases_read_together_keep_the_class_size(
        people in prop::collection::vec(person(), 20..150),
        withdrawn in prop::collection::btree_set(0..150_usize, 0..20),
        joined in prop::collection::btree_set(0..150_usize, 0..20),
        first_k in 2..12_u32,
        k in 2..8_u32,
    ) {
        let all = add(&people);
        let of = |without: &std::collections::BTreeSet<usize>| -> Vec<(i64, Person)> {
            let stays = |(at, _): &(usize, &Person)| !without.contains(at);
            people.iter().enumerate().filter(stays).map(|(at, p)| (at as i64 + 1, p.clone())).collect()
        };
        let gated = |who: &[(i64, Person)], k, earlier: &Earlier| {
            let ids: Vec<i64> = who.iter().map(|(id, _)| *id).collect();
            gate(&all.only(&ids), &tables(), GateRules::new(k), &Population::Unknown, earlier)
        };
        let Ok(first) = gated(&of(&joined), first_k, &Earlier::none()) else { return Ok(()) };
        let leave = |who: &[(i64, Person)], gated: &Gated| -> Vec<i64> {
            who.iter().map(|(id, _)| *id).filter(|id| !gated.suppressed.contains(id)).collect()
        };
        let had = leave(&of(&joined), &first);
        let earlier = earlier(&left(&people, &first, true).only(&had));
        let second = of(&withdrawn);
        let Ok(now) = gated(&second, k, &earlier) else { return Ok(()) };
        let (before, after) = (told(&people, &first), told(&people, &now));
        let mut classes: HashMap<(Option<&String>, &String), u32> = HashMap::new();
        for id in leave(&second, &now) {
            let known = had.binary_search(&id).is_ok().then(|| &before[&id]);
            *classes.entry((known, &after[&id])).or_default() += 1;
        }
        prop_assert!(classes.values().all(|size| *size >= k), "{:?}", classes.values().min());
    }
}

/// A release of `people` that was recoded so, whatever a gate would have said of it.
fn recoded(people: &[Person], recoding: Recoding) -> Gated {
    Gated { recoding, suppressed: BTreeSet::new(), ..run(people, 1).expect("any class will do") }
}

#[test]
fn another_recoding_of_the_same_people_is_measured_on_both() {
    // One release tells the years and not the sex, as if more had been asked of it; the next would tell the sex, with bands
    // of years for it. Each has large classes by itself.
    let people: Vec<Person> = (0..80)
        .map(|i| Person { year: 1950 + i / 10, sex: 8507 + 25 * (i % 10).min(1), ..Person::default() })
        .collect();
    let alone = run(&people, 8).expect("reachable");
    assert!(alone.suppressed.is_empty() && alone.recoding.sex, "{:?}", alone.recoding);
    let first = recoded(&people, Recoding { birth_date: false, sex: false, ..Recoding::NONE });
    let had = earlier(&left(&people, &first, true));
    let both = gate(&add(&people), &tables(), GateRules::new(8), &Population::Unknown, &had);
    let both = both.expect("reachable");
    assert!(!both.recoding.sex, "the years are known, so the sex is withheld");
    assert_eq!(both.report.earlier, 1);
}

/// Twenty dead and twenty alive, alike but for a race that few of each have.
fn dead_and_alive() -> Vec<Person> {
    let person = |i: usize| Person {
        year: 1950,
        race: if (i % 20 < 3) == (i < 20) { "1002-5" } else { "2106-3" },
        died: (i < 20).then_some(18_000),
        ..Person::default()
    };
    (0..40).map(person).collect()
}

#[test]
fn deaths_that_an_earlier_release_told_count_in_one_without_them() {
    let people = dead_and_alive();
    let first = recoded(&people, Recoding { race: false, ..Recoding::NONE });
    let mut survivors_or_not = People::new(&tables(), false).expect("known");
    survivors_or_not.add(&batches(&people).0, None).expect("the table");
    let gated = |had: Earlier| {
        gate(&survivors_or_not, &tables(), GateRules::new(5), &Population::Unknown, &had).expect("reachable")
    };
    let told = gated(earlier(&left(&people, &first, true)));
    assert!(!told.recoding.race, "three of the twenty dead have that race");
    let untold = gated(earlier(&left(&people, &first, false)));
    assert!(untold.recoding.race && untold.suppressed.is_empty(), "{:?}", untold.report);
}

#[test]
fn deaths_that_no_earlier_release_told_are_withheld_by_themselves() {
    let people = dead_and_alive();
    let first = recoded(&people, Recoding::NONE);
    let had = earlier(&left(&people, &first, false));
    let both = gate(&add(&people), &tables(), GateRules::new(5), &Population::Unknown, &had);
    let both = both.expect("without the dates of death nobody is rarer than before");
    assert!(!both.recoding.death && both.suppressed.is_empty(), "{:?}", both.recoding);
}

#[test]
fn values_that_differ_from_an_earlier_release_tell_people_apart() {
    // Since the first release, one moved away: the recipient sees who.
    let mut people = crowd(40);
    for person in &mut people {
        person.year = 1950;
    }
    let had = earlier(&left(&people, &recoded(&people, Recoding::NONE), true));
    people[7].state = Some("MO");
    let gated =
        gate(&add(&people), &tables(), GateRules::new(5), &Population::Unknown, &had).expect("reachable");
    assert!(gated.recoding.place == Place::Withheld || gated.suppressed == BTreeSet::from([8]), "{gated:?}");
    assert!(gated.report.after.smallest_class >= 5);
}

#[test]
fn a_person_whom_an_earlier_release_had_as_two_is_like_nobody_else() {
    let people = crowd(40).into_iter().map(|p| Person { year: 1950, ..p }).collect::<Vec<_>>();
    let released = left(&people, &recoded(&people, Recoding::NONE), true);
    let mut rare = people.clone();
    rare[1].year = 1951;
    let other = left(&rare, &recoded(&rare, Recoding::NONE), true);
    let mut as_two = Earlier::none();
    as_two.add(&other, |id| if id <= 2 { vec![1] } else { vec![id] }).expect("few values");
    let gated =
        |had| gate(&released, &tables(), GateRules::new(5), &Population::Unknown, &had).expect("reachable");
    assert_eq!(gated(as_two).suppressed, BTreeSet::from([1, 2]));
    assert!(gated(earlier(&released)).suppressed.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What leaves is k-anonymous when measured again, nobody is lost but the suppressed, and nothing cheaper would
    /// do that keeps those who died as the rule says.
    #[test]
    fn the_gate_keeps_its_promise(people in prop::collection::vec(person(), 1..150), k in 2..12_u32) {
        let expected = brute_force(&people, GateRules::new(k));
        match run(&people, k) {
            Ok(gated) => {
                prop_assert_eq!(Some(gated.report.loss_ppm), expected);
                let again = remeasured(&people, &gated);
                prop_assert!(again.smallest_class >= u64::from(k));
                prop_assert_eq!(again.persons + gated.suppressed.len() as u64, people.len() as u64);
                prop_assert_eq!(&again, &gated.report.after);
                prop_assert_eq!(run(&people, k).expect("deterministic"), gated);
            }
            Err(_) => prop_assert_eq!(expected, None),
        }
    }
}

/// Classes of 100 living and of 4 and 6 who died: at k = 5 the four would be left out, which is more than one in twenty of
/// those who died and less of all.
#[test]
fn those_who_died_are_not_left_out_to_keep_the_others() {
    let (counts, of_class) = ([100, 4, 6], [0, 1, 2]);
    let dead = [(1, 4), (2, 6)];
    assert!(!keeps_the_dead(&dead, &counts, &of_class, 5, 50_000));
    assert!(keeps_the_dead(&dead, &counts, &of_class, 4, 50_000));
    assert!(keeps_the_dead(&dead, &counts, &of_class, 5, 400_000), "where so many may be left out");
    assert!(keeps_the_dead(&[], &counts, &of_class, 5, 0), "nobody died, or the table is withheld");
}
