//! The columnar adapter against the scalar core, ages over 89, composition, and the checks of the input.

use std::collections::BTreeMap;

use almoner_model::{ColumnType, Date, Entropy, SeededEntropy, Tables};
use arrow::array::Float64Array;
use proptest::prelude::*;

use super::*;
use crate::testing::{Cell, context, profile, subject, table as build, tables};
use crate::zip3::Zip3;

const TEXTS: &[&str] = &[
    "SNOMED:44054006",
    "LOINC:8302-2",
    "UCUM:mm[Hg]",
    "Medhurst46",
    "02139",
    "02139-4307",
    "03601",
    "021",
    "000",
    "K1A 0B1",
    "",
    "MA",
    "ActCode:Medhurst",
    "10:15:00",
];

/// Small random numbers from a seed.
struct Dice(SeededEntropy, Plausible);

impl Dice {
    fn roll(&self, sides: u64) -> u64 {
        self.0.u64() % sides
    }
}

/// A day between 1888 and the reference date that is the date of something.
fn day(dice: &Dice) -> i32 {
    let first = dice.roll(50_700) as i32 - 29_930;
    (first..).find(|day| !dice.1.never(*day)).expect("some day is")
}

fn cell(dice: &Dice, kind: ColumnType, nullable: bool) -> Cell {
    if nullable && dice.roll(4) == 0 {
        return Cell::Null;
    }
    let days = day(dice);
    match kind {
        ColumnType::Int64 => Cell::Int(dice.roll(1000) as i64),
        ColumnType::Float64 => Cell::Float(dice.roll(1000) as f64 / 8.0),
        ColumnType::String => Cell::Text(TEXTS[dice.roll(TEXTS.len() as u64) as usize].to_owned()),
        ColumnType::Date => Cell::Days(days),
        ColumnType::Datetime => {
            Cell::Micros(i64::from(days) * 86_400_000_000 + dice.roll(86_400_000_000) as i64)
        }
        ColumnType::Bool => Cell::Bool(dice.roll(9) == 0),
    }
}

/// All tables with a few rows of up to four people; the person table has each of them once.
fn random(seed: u64, tables: &Tables) -> PersonBatch {
    let dates = Plausible::at(context().reference_date).expect("loads");
    let dice = Dice(SeededEntropy::new(seed), dates);
    let mut out = BTreeMap::new();
    for (index, spec) in tables.iter().enumerate() {
        let mut ids: Vec<i64> = match spec.table.as_str() {
            "person" => vec![1, 3, 5, 7],
            _ => (0..dice.roll(9)).map(|_| 1 + 2 * dice.roll(4) as i64).collect(),
        };
        ids.sort_unstable();
        let rows = build(tables, &spec.table, ids.len(), |name, row| {
            let column = spec.column(name).expect("of the table");
            match (column.class, name) {
                (IdentifierClass::SubjectId, _) => Cell::Int(ids[row]),
                (IdentifierClass::BirthYear, _) => Cell::Int(1900 + dice.roll(126) as i64),
                (_, "month_of_birth") if dice.roll(2) == 0 => Cell::Int(1 + dice.roll(12) as i64),
                (_, "day_of_birth") if dice.roll(2) == 0 => Cell::Int(1 + dice.roll(28) as i64),
                _ => cell(&dice, column.kind, column.nullable),
            }
        });
        out.insert(index, rows);
    }
    PersonBatch::new(out, tables).expect("as it must be")
}

fn value(array: &ArrayRef, row: usize) -> Value<'_> {
    if array.is_null(row) {
        return Value::Null;
    }
    let any = array.as_any();
    if let Some(a) = any.downcast_ref::<Int64Array>() {
        return Value::Int(a.value(row));
    }
    if let Some(a) = any.downcast_ref::<Float64Array>() {
        return Value::Float(a.value(row));
    }
    if let Some(a) = any.downcast_ref::<StringArray>() {
        return Value::Text(a.value(row));
    }
    if let Some(a) = any.downcast_ref::<BooleanArray>() {
        return Value::Bool(a.value(row));
    }
    if let Some(a) = any.downcast_ref::<Date32Array>() {
        return Value::Date(Date::from_days(a.value(row)));
    }
    Value::Datetime(array.as_primitive::<TimestampMicrosecondType>().value(row))
}

/// The built-in profiles, and one that uses the actions on types that those leave alone.
fn profiles() -> Vec<Profile> {
    let mut out: Vec<Profile> = Profile::NAMES.map(profile).into();
    let mut text = include_str!("../../../../schemas/deid/date-shifted.toml").to_owned();
    for (from, to) in [
        ("event_datetime    = \"drop\"", "event_datetime    = \"shift\""),
        ("birth_datetime    = \"drop\"", "birth_datetime    = \"year\""),
        ("event_date        = \"shift\"", "event_date        = \"keep\""),
        ("birth_year        = \"shift\"", "birth_year        = \"year\""),
        ("postal_code       = \"zip3\"", "postal_code       = \"zip5\""),
    ] {
        assert!(text.contains(from));
        text = text.replace(from, to);
    }
    out.push(Profile::load(&text, &tables()).expect("loads"));
    out
}

fn four(offsets: [i32; 4]) -> Vec<SubjectContext> {
    [1, 3, 5, 7].into_iter().zip(offsets).map(|(id, offset)| subject(id, offset)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The columnar adapter is the scalar core, cell by cell, under every profile; rows and schemas stay.
    #[test]
    fn columns_equal_the_core(seed: u64, offsets in prop::array::uniform4(-365..=0i32)) {
        let (tables, ctx, subjects) = (tables(), context(), four(offsets));
        let input = random(seed, &tables);
        for profile in profiles() {
            let people = resolve(&input, &tables, &subjects, &ctx).expect("known people");
            let (out, report) = deidentify(input.clone(), &profile, &subjects, &ctx).expect("runs");
            for (index, before) in input.tables() {
                let spec = tables.iter().nth(*index).expect("canonical");
                if spec.table == "note" {
                    prop_assert!(out.get(*index).is_none());
                    prop_assert_eq!(report.tables["note"].rows_out, 0);
                    continue;
                }
                let after = out.get(*index).expect("stays");
                prop_assert_eq!(after.num_rows(), before.num_rows());
                for (at, column) in spec.columns.iter().enumerate() {
                    for row in 0..before.num_rows() {
                        let id = person_ids(spec, before)[row];
                        let person = people.iter().find(|p| p.subject.get() == id).expect("known");
                        let rule = profile.rule(column.class);
                        let expected = transform(column.class, rule, person, &ctx, value(before.column(at), row));
                        prop_assert_eq!(value(after.column(at), row), expected, "{}.{}", spec.table, column.name);
                    }
                }
            }
        }
    }

    /// Nobody's age over 89 can be computed from what leaves; nobody younger is put into the group.
    #[test]
    fn ages_over_89_never_show(seed: u64, offsets in prop::array::uniform4(-365..=-1i32)) {
        let (tables, ctx, subjects) = (tables(), context(), four(offsets));
        let input = random(seed, &tables);
        let people = resolve(&input, &tables, &subjects, &ctx).expect("known people");
        for profile in ["safe-harbor", "date-shifted"].map(profile) {
            let (out, report) = deidentify(input.clone(), &profile, &subjects, &ctx).expect("runs");
            prop_assert_eq!(report.persons_over_89, people.iter().filter(|p| p.over_89).count() as u64);
            let person = out.get(tables.index_of("person").expect("there")).expect("stays");
            let years = person.column_by_name("year_of_birth").expect("there").as_primitive::<Int64Type>();
            let flags = person.column_by_name("age_90_plus").expect("there").as_boolean();
            for (at, subject) in people.iter().enumerate() {
                prop_assert_eq!(flags.value(at), subject.over_89);
                let born = years.value(at);
                prop_assert!(born >= 1936 || !subject.over_89);
                prop_assert!(born == 1936 || !subject.over_89);
                for (index, rows) in out.tables() {
                    let spec = tables.iter().nth(*index).expect("canonical");
                    let ids = person_ids(spec, rows);
                    for (c, _) in spec.columns.iter().enumerate().filter(|(_, c)| c.kind == ColumnType::Date) {
                        let days = rows.column(c).as_primitive::<Date32Type>();
                        for row in (0..days.len()).filter(|r| ids[*r] == subject.subject.get() && days.is_valid(*r)) {
                            let year = i64::from(Date::from_days(days.value(row)).year());
                            if subject.over_89 {
                                prop_assert!(year >= born, "an event before the year of birth tells of a greater age");
                            } else {
                                prop_assert!(year - born <= 90, "{year} {born}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// A second application with a further offset equals one with the sum; floors do not move.
    #[test]
    fn applications_compose(seed: u64, a in prop::array::uniform4(-365..=-1i32), b in prop::array::uniform4(-365..=-1i32)) {
        let (tables, ctx) = (tables(), context());
        let (shifted, safe) = (profile("date-shifted"), profile("safe-harbor"));
        let input = random(seed, &tables);
        let known: Vec<bool> = resolve(&input, &tables, &four(a), &ctx).expect("known").iter().map(|p| p.over_89).collect();
        let again = |batch: DeidBatch, with: &Profile, before: &Profile, offsets| {
            let batch = PersonBatch::new(batch.into_tables(), &tables).expect("as it must be");
            deidentify(batch, with, &four(offsets), &ctx.clone().after(before.declares()))
        };
        let once = |offsets| deidentify(input.clone(), &shifted, &four(offsets), &ctx).expect("runs").0;
        let sum: [i32; 4] = std::array::from_fn(|i| a[i] + b[i]);
        let (twice, _) = again(once(a), &shifted, &shifted, b).expect("days move again");
        let (direct, floored) = (once(sum), again(once(a), &safe, &shifted, b).expect("floors").0);
        for (index, rows) in twice.tables() {
            let spec = tables.iter().nth(*index).expect("canonical");
            for (c, _) in spec.columns.iter().enumerate().filter(|(_, c)| c.kind == ColumnType::Date) {
                for row in 0..rows.num_rows() {
                    let id = person_ids(spec, rows)[row];
                    let get = |batch: &DeidBatch| match value(batch.get(*index).expect("stays").column(c), row) {
                        Value::Date(date) => Some(date),
                        _ => None,
                    };
                    if !known[(id / 2) as usize] {
                        let floored_over = matches!(get(&floored), Some(d) if d == ctx.floor_date());
                        let flat = get(&once(a)).map(Date::start_of_year);
                        prop_assert!(get(&floored) == flat || floored_over);
                        let raised = get(&twice) == Some(ctx.floor_date());
                        prop_assert!(get(&twice) == get(&direct) || raised);
                    }
                }
            }
        }
        let (idempotent, _) = again(floored.clone(), &safe, &safe, b).expect("floors stay");
        prop_assert_eq!(idempotent.tables(), floored.tables());
        prop_assert!(matches!(again(floored, &shifted, &safe, b), Err(DeidError::Precision(_))));
    }
}

fn deaths(ids: &[i64]) -> PersonBatch {
    let tables = tables();
    let rows = build(&tables, "death", ids.len(), |column, row| match column {
        "person_id" => Cell::Int(ids[row]),
        "death_date" => Cell::Days(18_000),
        _ => Cell::Null,
    });
    let index = tables.index_of("death").expect("there");
    PersonBatch::new([(index, rows)].into(), &tables).expect("as it must be")
}

#[test]
fn subjects_must_be_known_sorted_and_moved_backward() {
    let (ctx, profile) = (context(), profile("date-shifted"));
    let run =
        |ids: &[i64], subjects: &[SubjectContext]| deidentify(deaths(ids), &profile, subjects, &ctx).err();
    assert_eq!(run(&[1, 3], &[subject(1, -1), subject(3, 0)]), None);
    assert_eq!(run(&[1], &[subject(1, 1)]), Some(DeidError::Forward(0)));
    assert_eq!(run(&[1], &[subject(3, -1), subject(1, -1)]), Some(DeidError::Subjects(1)));
    assert_eq!(run(&[1], &[subject(1, -1), subject(1, -1)]), Some(DeidError::Subjects(1)));
    let unknown = DeidError::UnknownPerson { table: "death".into(), row: 1 };
    assert_eq!(run(&[1, 3], &[subject(1, -1), subject(5, -1)]), Some(unknown));
}

#[test]
fn ninety_is_reached_on_the_day() {
    let (tables, ctx) = (tables(), context());
    let flagged = |year, month: Option<i64>, day: Option<i64>, died: Option<&str>| {
        let person = build(&tables, "person", 1, |column, _| match column {
            "person_id" => Cell::Int(1),
            "year_of_birth" => Cell::Int(year),
            "month_of_birth" => month.map_or(Cell::Null, Cell::Int),
            "day_of_birth" => day.map_or(Cell::Null, Cell::Int),
            _ => Cell::Null,
        });
        let mut batch = BTreeMap::from([(tables.index_of("person").expect("there"), person)]);
        if let Some(died) = died {
            let rows = build(&tables, "death", 1, |column, _| match column {
                "person_id" => Cell::Int(1),
                "death_date" => Cell::Days(died.parse::<Date>().expect("a date").days()),
                _ => Cell::Null,
            });
            batch.insert(tables.index_of("death").expect("there"), rows);
        }
        let batch = PersonBatch::new(batch, &tables).expect("as it must be");
        resolve(&batch, &tables, &[subject(1, -1)], &ctx).expect("known")[0].over_89
    };
    // The reference date of the tests is 2026-11-22.
    assert!(flagged(1936, Some(11), Some(22), None) && !flagged(1936, Some(11), Some(23), None));
    assert!(flagged(1936, Some(11), None, None) && !flagged(1936, Some(12), None, None));
    assert!(flagged(1936, None, None, None) && !flagged(1937, None, None, None));
    // An age is one that was reached.
    assert!(!flagged(1900, None, None, Some("1970-06-01")) && flagged(1880, None, None, Some("1970-06-01")));
    assert!(flagged(1880, Some(6), Some(1), Some("1970-06-01")));
    assert!(!flagged(1880, Some(6), Some(2), Some("1970-06-01")));
    assert!(
        flagged(1937, Some(1), Some(1), Some("2027-01-01"))
            && !flagged(1937, Some(1), Some(2), Some("2027-01-01"))
    );
}

#[test]
fn reports_count_and_add_up() {
    let tables = tables();
    let subjects = four([-1; 4]);
    let run = |seed| {
        deidentify(random(seed, &tables), &profile("safe-harbor"), &subjects, &context()).expect("runs").1
    };
    let (mut a, b) = (run(1), run(2));
    let rows = |r: &DeidReport, t: &str| r.tables[t].rows_in;
    let expected = rows(&a, "measurement") + rows(&b, "measurement");
    a.merge(b.clone());
    assert_eq!((rows(&a, "measurement"), a.persons, a.profile.as_str()), (expected, 8, "safe-harbor"));
    let person = &a.tables["person"];
    assert_eq!((person.rows_in, person.rows_out), (8, 8));
    let dropped = &person.columns["month_of_birth"];
    assert_eq!((dropped.action, dropped.values_out), (Action::Drop, 0));
    assert!(dropped.values_in > 0);
    assert_eq!(person.columns["gender_concept_id"].values_out, 8);
    let shared = Zip3::current().expect("loads");
    assert_eq!(shared, *context().zip3);
}

#[test]
fn a_column_in_which_nothing_changes_is_not_copied() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("SNOMED:44054006"), None]));
    assert!(Arc::ptr_eq(&texts, &codes(&texts)));
    let mixed: ArrayRef = Arc::new(StringArray::from(vec![Some("SNOMED:44054006"), Some("Smith"), None]));
    let out = codes(&mixed);
    assert_eq!((out.len(), out.null_count()), (3, 2));
}

#[test]
fn the_row_key_stays_where_there_is_one() {
    let tables = tables();
    let index = tables.index_of("death").expect("there");
    let rows = deaths(&[1]).get(index).expect("there").clone();
    let schema = crate::arrow_schema(tables.get("death").expect("there"), true);
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from(vec![77])));
    let rows = RecordBatch::try_new(schema, columns).expect("built to the schema");
    let batch = PersonBatch::new([(index, rows)].into(), &tables).expect("as it must be");
    let (out, _) = deidentify(batch, &profile("limited"), &[subject(1, -1)], &context()).expect("runs");
    let keys = out.get(index).expect("stays").column_by_name(ROW_KEY).expect("stays");
    assert_eq!(keys.as_primitive::<Int64Type>().values().to_vec(), [77]);
}

#[test]
fn true_data_with_a_date_that_would_be_recognised_is_refused() {
    let tables = tables();
    let index = tables.index_of("visit_occurrence").expect("there");
    let run = |start: &str, end: &str, ctx: &DeidContext| {
        let day = |text: &str| Cell::Days(text.parse::<Date>().expect("a date").days());
        let rows = build(&tables, "visit_occurrence", 1, |column, _| match column {
            "person_id" => Cell::Int(1),
            "visit_start_date" => day(start),
            "visit_end_date" => day(end),
            _ => Cell::Null,
        });
        let batch = PersonBatch::new([(index, rows)].into(), &tables).expect("as it must be");
        deidentify(batch, &profile("date-shifted"), &[subject(1, -123)], ctx).err()
    };
    let ctx = context();
    assert_eq!(run("2020-01-05", "2020-01-07", &ctx), None);
    for (start, end, column) in [
        ("9999-12-31", "2020-01-07", "visit_start_date"),
        ("2020-01-05", "9999-12-31", "visit_end_date"),
        ("1900-01-01", "2020-01-07", "visit_start_date"),
        ("2020-01-05", "2077-01-07", "visit_end_date"),
    ] {
        let table = "visit_occurrence".to_owned();
        let expected = DeidError::Implausible { table, column: column.to_owned(), row: 0 };
        assert_eq!(run(start, end, &ctx), Some(expected), "{start} {end}");
    }
    let moved = ctx.after(profile("date-shifted").declares());
    assert_eq!(run("1970-01-01", "1970-01-01", &moved), None, "a moved date may fall on any day");
}
