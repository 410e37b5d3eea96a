//! Gathering: the same rows give the same persons, however they came; duplicates, merges and links.

use almoner_deid::Plausible;
use almoner_model::{Date, SeededEntropy, SubjectId, Tables, Timestamp};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::mapping::{Form, KeyedHasher, PersonIndex, StagedBuilder, Stated};

/// Day 0 of the tests.
const DAY_0: i32 = 11_000;

fn dates() -> Plausible {
    Plausible::at("2026-11-22".parse().expect("a date")).expect("loads")
}

/// One staged row of a test.
#[derive(Clone, Debug)]
struct Row {
    table: &'static str,
    person: u32,
    line: u64,
    key: u64,
    day: i32,
    visit: Option<u64>,
}

fn persons(count: u32) -> PersonIndex {
    let mut index = PersonIndex::new(KeyedHasher::new(&[1; 32]));
    for n in 0..count {
        let ordinal = index.add(Form::Fhir, &n.to_string());
        index.assign(ordinal, SubjectId::new(i64::from(n) * 7919 + 13).expect("in range"));
    }
    index
}

fn stage(builder: &mut StagedBuilder<'_>, row: &Row) {
    let tables = builder.tables().clone();
    let (table, spec) =
        (tables.index_of(row.table).expect("a table"), tables.get(row.table).expect("a table"));
    let at = |name: &str| spec.index_of(name).expect("a column");
    let mut writer = builder.row(table, row.person, row.line, row.key);
    for name in [spec.start.as_deref(), spec.end.as_deref()].into_iter().flatten() {
        writer.date(at(name), Date::from_days(DAY_0 + row.day));
    }
    if row.table == "person" {
        writer.int64(at("year_of_birth"), 1970);
    }
    if let Some(visit) = row.visit {
        writer.visit_key(visit);
    }
    writer.finish().expect("complete");
}

/// Gathers `rows` through as many sinks as there are groups.
fn gather(persons: &PersonIndex, groups: &[Vec<Row>], bits: u8, bytes_max: usize) -> Vec<Gathered> {
    let tables = Tables::embedded().expect("consistent");
    let folder = tempfile::tempdir().expect("a folder");
    let key = SpillKey::new(&SeededEntropy::new(1));
    let layout = Layout::new(&[5; 32], bits);
    let mut gathering =
        Gathering::new(&tables, persons, layout, folder.path().to_owned(), key, bytes_max, dates());
    for group in groups {
        let mut builder = StagedBuilder::new(&tables, Box::new(gathering.sink()));
        group.iter().for_each(|row| stage(&mut builder, row));
        builder.finish().expect("kept");
    }
    assert_eq!(gathering.spilled(), bytes_max == 0 && groups.iter().any(|g| !g.is_empty()));
    (0..1 << bits).map(|bucket| gathering.bucket(bucket).expect("gathered")).collect()
}

fn person_row(person: u32) -> Row {
    Row { table: "person", person, line: u64::from(person), key: u64::from(person), day: 0, visit: None }
}

fn rows(count: u32) -> impl Strategy<Value = Vec<Row>> {
    let table =
        prop::sample::select(vec!["visit_occurrence", "condition_occurrence", "measurement", "visit_detail"]);
    let row = (table, 0..count, 0..40u64, 0..50i32, prop::option::of(0..40u64));
    prop::collection::vec(row, 0..120).prop_map(move |rows| {
        let people = (0..count).map(person_row);
        let events = rows.into_iter().zip(1000..).map(|((table, person, key, day, visit), line)| {
            let named = |table: &str, key: u64| key * 10 + table.len() as u64 % 10 + 10_000;
            let visit = visit.map(|v| named("visit_occurrence", v));
            Row { table, person, line, key: named(table, key), day, visit }
        });
        people.chain(events).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_result_depends_on_the_rows_alone(
        all in rows(5), seed in any::<u64>(), sinks in 1..4usize, bits in 0..3u8,
    ) {
        let index = persons(5);
        let plain = gather(&index, std::slice::from_ref(&all), bits, usize::MAX);
        let mut shuffled = all;
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let groups: Vec<Vec<Row>> =
            (0..sinks).map(|n| shuffled.iter().skip(n).step_by(sinks).cloned().collect()).collect();
        for bytes_max in [0, usize::MAX] {
            for (a, b) in plain.iter().zip(gather(&index, &groups, bits, bytes_max)) {
                prop_assert_eq!(&a.tables, &b.tables);
                prop_assert_eq!(&a.report, &b.report);
            }
        }
        let kept: u64 = plain.iter().flat_map(|g| g.report.rows.values()).sum();
        let dropped: usize = plain.iter().map(|g| g.report.dropped.len()).sum();
        prop_assert_eq!(kept as usize + dropped, shuffled.len(), "every row is kept or named");
    }

    #[test]
    fn rows_are_whole_persons_in_order(all in rows(6)) {
        let tables = Tables::embedded().expect("consistent");
        for gathered in gather(&persons(6), &[all], 2, usize::MAX) {
            for (table, batch) in &gathered.tables {
                let spec = tables.iter().nth(*table).expect("a table");
                let ids = batch.column_by_name("person_id").expect("there").as_primitive::<Int64Type>();
                let start = spec.start.as_deref().map(|s| batch.column_by_name(s).expect("there").as_primitive::<Date32Type>());
                let keys: Vec<(i64, i32)> =
                    (0..batch.num_rows()).map(|row| (ids.value(row), start.map_or(0, |s| s.value(row)))).collect();
                prop_assert!(keys.is_sorted());
                if let Some(event) = &spec.event_id {
                    let events = batch.column_by_name(event).expect("there").as_primitive::<Int64Type>();
                    let first = i64::from(gathered.bucket) << 32;
                    prop_assert!(events.values().iter().copied().eq((1..=batch.num_rows() as i64).map(|n| first + n)));
                }
            }
        }
    }
}

/// That a line states a record, of a type and time that its number gives.
fn stated(key: u64, ordinal: u64, mapped: bool) -> Stated {
    let kind = (!mapped).then_some("Condition");
    let updated = (ordinal > 10).then(|| Timestamp::from_millis(ordinal as i64 - 100));
    Stated { key, ordinal, mapped, kind, updated }
}

#[test]
fn versions_are_found_whosever_they_are_and_those_that_do_not_count_go_with_all_their_rows() {
    let (index, tables) = (persons(2), Tables::embedded().expect("consistent"));
    for (bytes_max, bits) in [(0, 2), (usize::MAX, 0)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (layout, key) = (Layout::new(&[5; 32], bits), SpillKey::new(&SeededEntropy::new(1)));
        let mut gathering =
            Gathering::new(&tables, &index, layout, folder.path().to_owned(), key, bytes_max, dates());
        let row = |table, person, line, key| Row { table, person, line, key, day: 5, visit: None };
        let sent = [
            vec![person_row(0), row("condition_occurrence", 0, 10, 7 << 60)],
            vec![
                person_row(1),
                row("condition_occurrence", 1, 20, 7 << 60),
                row("measurement", 1, 20, 7 << 60),
                row("measurement", 1, 30, 1 << 60),
            ],
        ];
        for (sink, rows) in sent.iter().enumerate() {
            let mut builder = StagedBuilder::new(&tables, Box::new(gathering.sink()));
            for row in rows {
                stage(&mut builder, row);
                if row.table != "measurement" || row.line == 30 {
                    let stated = stated(row.key, row.line, true);
                    builder.stated(stated).expect("kept");
                }
            }
            // One that made no row is a version as well.
            if sink == 0 {
                builder.stated(stated(7 << 60, 15, false)).expect("kept");
            }
            builder.finish().expect("kept");
        }
        let mut found = Vec::new();
        for part in 0..1 << bits {
            gathering.versions(part, |same| found.push(same.to_vec())).expect("read");
        }
        let expected = [(10, true), (15, false), (20, true)];
        assert_eq!(found, [expected.map(|(line, mapped)| stated(7 << 60, line, mapped)).to_vec()]);
        gathering.supersede([20, 15].into_iter().collect());
        let all: Vec<_> = (0..1 << bits).map(|b| gathering.bucket(b).expect("gathered").report).collect();
        assert!(all.iter().all(|report| report.dropped.is_empty()), "the flow counts them");
        assert_eq!(all.iter().flat_map(|report| report.rows.values()).sum::<u64>(), 4);
    }
}

#[test]
fn a_person_without_a_person_row_leaves_nothing() {
    let event = Row { table: "measurement", person: 1, line: 10, key: 1, day: 1, visit: None };
    let all = vec![person_row(0), event];
    let gathered = gather(&persons(2), &[all], 0, usize::MAX).remove(0);
    assert_eq!(gathered.subjects.len(), 1);
    assert_eq!(gathered.report.dropped[0].reason, Reason::DanglingPatient);
}

#[test]
fn merged_people_keep_the_winners_row() {
    let mut index = PersonIndex::new(KeyedHasher::new(&[1; 32]));
    let (loser, winner) = (index.add(Form::Fhir, "a"), index.add(Form::Fhir, "b"));
    for (ordinal, id) in [(loser, 5), (winner, 9)] {
        index.assign(ordinal, SubjectId::new(id).expect("in range"));
    }
    index.merge(loser, winner);
    let all = vec![
        person_row(loser),
        person_row(winner),
        Row { table: "measurement", person: loser, line: 10, key: 501, day: 1, visit: None },
    ];
    let gathered = gather(&index, &[all], 0, usize::MAX).remove(0);
    assert_eq!(gathered.subjects.iter().map(|s| s.get()).collect::<Vec<_>>(), [9]);
    let dropped = &gathered.report.dropped;
    assert_eq!(
        (dropped.len(), dropped[0].ordinal, dropped[0].reason),
        (1, u64::from(loser), Reason::MergedPerson)
    );
}

#[test]
fn a_suppressed_person_goes_nowhere() {
    let mut index = PersonIndex::new(KeyedHasher::new(&[1; 32]));
    index.add(Form::Fhir, "a");
    let tables = Tables::embedded().expect("consistent");
    let folder = tempfile::tempdir().expect("a folder");
    let (layout, key) = (Layout::new(&[5; 32], 1), SpillKey::new(&SeededEntropy::new(1)));
    let mut gathering =
        Gathering::new(&tables, &index, layout, folder.path().to_owned(), key, usize::MAX, dates());
    let mut builder = StagedBuilder::new(&tables, Box::new(gathering.sink()));
    stage(&mut builder, &person_row(0));
    builder.finish().expect("kept");
    assert_eq!(gathering.suppressed().into_iter().collect::<Vec<_>>(), [0]);
    assert!((0..2).all(|b| gathering.bucket(b).expect("gathered").tables.is_empty()));
}

#[test]
fn links_are_found_within_the_person_and_missing_ones_counted() {
    let visit = |person, key, visit| Row {
        table: "visit_occurrence",
        person,
        line: key,
        key,
        day: key as i32,
        visit,
    };
    let event =
        |person, key, visit| Row { table: "measurement", person, line: key, key, day: 3, visit: Some(visit) };
    let all = vec![
        person_row(0),
        person_row(1),
        visit(0, 10, None),
        visit(0, 11, Some(10)),
        visit(1, 12, None),
        event(0, 20, 11),
        event(1, 21, 10),
    ];
    let gathered = gather(&persons(2), &[all], 0, usize::MAX).remove(0);
    let tables = Tables::embedded().expect("consistent");
    let column = |table: &str, name: &str| {
        let batch = &gathered.tables[&tables.index_of(table).expect("a table")];
        batch.column_by_name(name).expect("there").as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
    };
    assert_eq!(column("visit_occurrence", "preceding_visit_occurrence_id"), [None, Some(1), None]);
    assert_eq!(
        column("measurement", "visit_occurrence_id"),
        [Some(2), None],
        "not the visit of another person"
    );
    assert_eq!(gathered.report.links_missing.values().sum::<u64>(), 1);
}

/// Gathers what `write` stages for person 0, who was born on the given day, and person 1.
fn gather_dates(
    born: (i64, Option<(i64, i64)>),
    write: impl Fn(&mut StagedBuilder<'_>, &Tables),
) -> (Gathered, Tables) {
    let (tables, index) = (Tables::embedded().expect("consistent"), persons(2));
    let folder = tempfile::tempdir().expect("a folder");
    let (layout, key) = (Layout::new(&[5; 32], 0), SpillKey::new(&SeededEntropy::new(1)));
    let mut gathering =
        Gathering::new(&tables, &index, layout, folder.path().to_owned(), key, usize::MAX, dates());
    let mut builder = StagedBuilder::new(&tables, Box::new(gathering.sink()));
    let person = tables.get("person").expect("a table");
    let at = |name: &str| person.index_of(name).expect("a column");
    let mut row = builder.row(tables.index_of("person").expect("a table"), 0, 5, 5);
    row.int64(at("year_of_birth"), born.0);
    if let Some((month, day)) = born.1 {
        row.int64(at("month_of_birth"), month).int64(at("day_of_birth"), day);
    }
    row.finish().expect("complete");
    stage(&mut builder, &person_row(1));
    write(&mut builder, &tables);
    builder.finish().expect("kept");
    (gathering.bucket(0).expect("gathered"), tables)
}

fn visit_on(builder: &mut StagedBuilder<'_>, tables: &Tables, line: u64, start: &str, end: &str) {
    let spec = tables.get("visit_occurrence").expect("a table");
    let at = |name: &str| spec.index_of(name).expect("a column");
    let day = |text: &str| text.parse::<Date>().expect("a date");
    let mut row = builder.row(tables.index_of("visit_occurrence").expect("a table"), 0, line, line);
    row.date(at("visit_start_date"), day(start)).date(at("visit_end_date"), day(end));
    row.datetime(at("visit_end_datetime"), i64::from(day(end).days()) * 86_400_000_000 + 5);
    row.finish().expect("complete");
}

#[test]
fn dates_of_nothing_go_before_anything_is_made_of_them() {
    let (gathered, tables) = gather_dates((1980, Some((6, 1))), |builder, tables| {
        for (line, start, end) in [
            (10, "2020-01-05", "2020-01-07"),
            (11, "9999-12-31", "9999-12-31"),
            (12, "1900-01-01", "2020-01-07"),
            (13, "2077-03-04", "2077-03-04"),
            (14, "1960-03-04", "1960-03-04"),
            (15, "2020-02-05", "9999-12-31"),
            (16, "2026-11-20", "2026-12-24"),
        ] {
            visit_on(builder, tables, line, start, end);
        }
    });
    let visit = tables.index_of("visit_occurrence").expect("a table");
    let rows = &gathered.tables[&visit];
    let days = |name: &str| -> Vec<String> {
        let days = rows.column_by_name(name).expect("there").as_primitive::<Date32Type>();
        days.values().iter().map(|d| Date::from_days(*d).to_string()).collect()
    };
    assert_eq!(days("visit_start_date"), ["2020-01-05", "2020-02-05", "2026-11-20"]);
    assert_eq!(
        days("visit_end_date"),
        ["2020-01-07", "2020-02-05", "2026-12-24"],
        "a missing end is the start"
    );
    let times = rows.column_by_name("visit_end_datetime").expect("there");
    assert_eq!((times.is_null(1), times.null_count()), (true, 1));
    let dropped: Vec<(u64, &str)> =
        gathered.report.dropped.iter().map(|d| (d.ordinal, d.reason.as_str())).collect();
    assert_eq!(dropped, [11, 12, 13, 14].map(|line| (line, "implausible-date")));
    assert!(gathered.report.dropped.iter().all(|d| d.reason.quarantines()));
    assert_eq!(gathered.report.implausible, [(visit, ImplausibleDates { rows: 4, values: 2 })].into());
}

#[test]
fn a_person_born_on_a_sentinel_or_in_the_future_is_not_taken_in() {
    let visit = |builder: &mut StagedBuilder<'_>, tables: &Tables| {
        visit_on(builder, tables, 10, "2020-01-05", "2020-01-07");
    };
    for born in [(1900, Some((1, 1))), (2099, None), (9999, Some((12, 31)))] {
        let (gathered, _) = gather_dates(born, visit);
        assert_eq!(gathered.subjects.len(), 1, "{born:?}");
        let dropped: Vec<(u64, Reason)> =
            gathered.report.dropped.iter().map(|d| (d.ordinal, d.reason)).collect();
        assert_eq!(dropped, [(5, Reason::ImplausibleBirth), (10, Reason::DanglingPatient)], "{born:?}");
    }
    for born in [(1900, None), (1931, Some((1, 1))), (1970, Some((1, 1)))] {
        assert_eq!(gather_dates(born, visit).0.subjects.len(), 2, "{born:?}");
    }
}
