//! The scalar core of de-identification: [`transform`], one value at a time.
//!
//! It is the definition of what the actions mean. The columnar adapter (`columns`) is faster and proven equal to it by a
//! property test; an adapter for FHIR JSON would stand on it in the same way.
//!
//! **Composition.** A profile may be applied to data that a profile was applied to before (at release, with a further
//! offset). Offsets are any number of days ≤ 0 and add up, so intervals stay exact through every application. `year`
//! ignores the offset: the year of a date is what Safe Harbor allows to stay (§164.514(b)(2)(i)(C)), a date that is
//! floored already would only ever fall into the year before, and moving first would make years wrong without protecting
//! anything that the rule protects. So: true or moved days may be moved again or floored; floored dates are never moved
//! ([`crate::deidentify`] refuses). A year of birth that is all that is left of a date of birth is moved from 1 July.
//!
//! **Ages over 89** (§164.514(b)(2)(i)(C)). Where the profile top-codes ages, a person who is 90 or older at the
//! reference date (or at death, where that is known) or at any event gets the year of birth `reference year − 90`, and dates before that year are raised to
//! its 1 January: an event before the stated year of birth would tell of a greater age. For these people, and these
//! dates only, intervals are not kept.

use std::sync::Arc;

use almoner_model::{Date, IdentifierClass, SubjectId, Vocabulary};

use crate::profile::{Action, Declares, Rule};
use crate::zip3::{Zip3, zip5};

/// From this age on people form one group (§164.514(b)(2)(i)(C), "age 90 or older").
pub const TOP_AGE: i32 = 90;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// One person, as far as the rules need to know. Prints only the id.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectContext {
    /// The exchange's id, which stands in `person_id`.
    pub subject: SubjectId,
    /// Days that dates move, ≤ 0: −1 … −365 at ingest ([`crate::offset::offset_days`]), at release the further offset of
    /// the project, 0 for none.
    pub offset_days: i32,
    /// The date of birth where known. [`crate::deidentify`] takes it from the person table if none is given here.
    pub birth: Option<Date>,
    /// The date of death where it is known and not in the batch.
    pub death: Option<Date>,
    /// Whether the person is known to be over 89. [`crate::deidentify`] also finds out by itself, on the dates given.
    pub over_89: bool,
}

impl SubjectContext {
    /// A person of whom only id and offset are known; the rest is found in the person table.
    pub const fn new(subject: SubjectId, offset_days: i32) -> Self {
        Self { subject, offset_days, birth: None, death: None, over_89: false }
    }
}

impl std::fmt::Debug for SubjectContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubjectContext({}, …)", self.subject)
    }
}

/// What holds for all people of one application.
#[derive(Clone, Debug)]
pub struct DeidContext {
    /// The day at which the ages of the living are tested, after which nothing happened: that of the ingest or release.
    pub reference_date: Date,
    /// Areas that may be named.
    pub zip3: Arc<Zip3>,
    /// What the data declares already; `None` for true data.
    pub applied: Option<Declares>,
}

impl DeidContext {
    /// For true data.
    pub const fn new(reference_date: Date, zip3: Arc<Zip3>) -> Self {
        Self { reference_date, zip3, applied: None }
    }

    /// For data that a profile was applied to before.
    #[must_use]
    pub const fn after(mut self, declared: Declares) -> Self {
        self.applied = Some(declared);
        self
    }

    /// The year of birth of everyone over 89.
    pub fn floor_year(&self) -> i32 {
        self.reference_date.year() - TOP_AGE
    }

    /// Before this day no date of a person over 89 may lie.
    pub(crate) fn floor_date(&self) -> Date {
        Date::from_ymd(self.floor_year(), 1, 1).unwrap_or(Date::from_days(i32::MIN))
    }
}

/// One value of a canonical table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'v> {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(&'v str),
    /// A date.
    Date(Date),
    /// Microseconds since 1970-01-01T00:00 of the local wall clock.
    Datetime(i64),
    /// True or false.
    Bool(bool),
}

/// What becomes of one value. Total: an action that does not fit the value (which no loaded profile contains) drops it.
///
/// `DropRows` is `Null` here; that the row goes is the table's business.
pub fn transform<'v>(
    class: IdentifierClass,
    rule: Rule,
    subject: &SubjectContext,
    ctx: &DeidContext,
    value: Value<'v>,
) -> Value<'v> {
    let top_coded = rule.age_top_code && subject.over_89;
    match (rule.action, value) {
        (Action::Drop | Action::DropRows, _) => Value::Null,
        (Action::TopCode, _) => Value::Bool(subject.over_89),
        (_, Value::Null) => Value::Null,
        (Action::Keep | Action::Shift | Action::Year, Value::Int(year))
            if class == IdentifierClass::BirthYear =>
        {
            Value::Int(birth_year(rule, subject, ctx, year))
        }
        (Action::Keep | Action::Shift | Action::Year, Value::Date(date)) => {
            let moved = match rule.action {
                Action::Shift => date.plus_days(subject.offset_days),
                Action::Year => date.start_of_year(),
                _ => date,
            };
            Value::Date(if top_coded { moved.max(ctx.floor_date()) } else { moved })
        }
        (Action::Keep | Action::Shift | Action::Year, Value::Datetime(micros)) => {
            let moved = match rule.action {
                Action::Shift => micros.saturating_add(i64::from(subject.offset_days) * MICROS_PER_DAY),
                Action::Year => day_of(micros).start_of_year().micros(),
                _ => micros,
            };
            Value::Datetime(if top_coded { moved.max(ctx.floor_date().micros()) } else { moved })
        }
        // A region is free text where it comes from; only what is a state stands.
        (Action::Keep | Action::Pseudonym, Value::Text(text)) if class == IdentifierClass::Region => {
            almoner_model::state_code(text).map_or(Value::Null, Value::Text)
        }
        // A time of day is text too.
        (Action::Keep | Action::Pseudonym, Value::Text(text)) if class == IdentifierClass::EventTime => {
            keep_time(text).map_or(Value::Null, Value::Text)
        }
        (Action::Keep | Action::Pseudonym, value) => value,
        (Action::Zip3, Value::Text(zip)) => ctx.zip3.generalise(zip).map_or(Value::Null, Value::Text),
        (Action::Zip5, Value::Text(zip)) => keep_zip(zip).map_or(Value::Null, Value::Text),
        (Action::Code, Value::Text(code)) if is_code(code) => Value::Text(code),
        _ => Value::Null,
    }
}

/// The year of birth under a rule.
pub(crate) fn birth_year(rule: Rule, subject: &SubjectContext, ctx: &DeidContext, year: i64) -> i64 {
    if rule.age_top_code && subject.over_89 {
        return i64::from(ctx.floor_year());
    }
    match rule.action {
        Action::Shift => match subject.birth.or_else(|| mid_year(year)) {
            Some(birth) => i64::from(birth.plus_days(subject.offset_days).year()),
            None => year,
        },
        _ => year,
    }
}

/// 1 July: where only the year of birth is known, ages computed from it are right on average.
pub(crate) fn mid_year(year: i64) -> Option<Date> {
    Date::from_ymd(i32::try_from(year).ok()?, 7, 1)
}

/// Five digits of a ZIP code, or the three that an earlier application left.
pub(crate) fn keep_zip(zip: &str) -> Option<&str> {
    let cut = zip.trim();
    let three = cut.len() == 3 && cut.bytes().all(|b| b.is_ascii_digit());
    if three { Some(cut) } else { zip5(cut) }
}

/// A time of day, `hh:mm` or `hh:mm:ss`, without what may follow it (fractions, zone); `None` for anything else.
pub(crate) fn keep_time(text: &str) -> Option<&str> {
    let text = text.trim();
    let part = |at: usize, most: u8| {
        let two = text.as_bytes().get(at..at + 2).filter(|two| two.iter().all(u8::is_ascii_digit))?;
        ((two[0] - b'0') * 10 + two[1] - b'0' <= most).then_some(())
    };
    let colon = |at: usize| (text.as_bytes().get(at) == Some(&b':')).then_some(());
    part(0, 23).and(colon(2)).and(part(3, 59))?;
    let end = if text.len() == 5 { 5 } else { colon(5).and(part(6, 60)).map(|()| 8)? };
    let rest = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b':' | b'Z');
    text.bytes().skip(end).all(rest).then(|| &text[..end])
}

/// Whether the text is `VOCABULARY:code` that a known system could have made.
pub(crate) fn is_code(text: &str) -> bool {
    text.split_once(':').and_then(|(v, code)| Vocabulary::from_id(v).map(|v| v.accepts(code))) == Some(true)
}

pub(crate) fn day_of(micros: i64) -> Date {
    Date::from_days(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX))
}

pub(crate) trait Micros {
    fn micros(self) -> i64;
}

impl Micros for Date {
    fn micros(self) -> i64 {
        i64::from(self.days()) * MICROS_PER_DAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, profile, subject};
    use IdentifierClass as C;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn date(text: &str) -> Value<'static> {
        Value::Date(text.parse().expect("a date"))
    }

    #[test]
    fn dates_under_each_profile() {
        let (ctx, person) = (context(), subject(1, -10));
        let day = |name: &str| {
            transform(C::EventDate, profile(name).rule(C::EventDate), &person, &ctx, date("2020-03-05"))
        };
        assert_eq!(day("safe-harbor"), date("2020-01-01"));
        assert_eq!(day("date-shifted"), date("2020-02-24"));
        assert_eq!(day("limited"), date("2020-03-05"));
    }

    #[test]
    fn datetimes_keep_their_time_of_day_when_they_move() {
        let (ctx, person) = (context(), subject(1, -1));
        let rule = |action| Rule { action, age_top_code: false };
        let at = |action| transform(C::EventDatetime, rule(action), &person, &ctx, Value::Datetime(5));
        assert_eq!(at(Action::Shift), Value::Datetime(5 - MICROS_PER_DAY));
        assert_eq!(at(Action::Year), Value::Datetime(0));
        assert_eq!(at(Action::Keep), Value::Datetime(5));
        let before = transform(C::EventDatetime, rule(Action::Year), &person, &ctx, Value::Datetime(-1));
        assert_eq!(before, Value::Datetime(-365 * MICROS_PER_DAY));
    }

    #[test]
    fn people_over_89_are_one_group() {
        let ctx = context();
        let old = SubjectContext { over_89: true, ..subject(1, -30) };
        for name in ["safe-harbor", "date-shifted"] {
            let p = profile(name);
            let run = |class, value| transform(class, p.rule(class), &old, &ctx, value);
            assert_eq!(run(C::BirthYear, Value::Int(1911)), Value::Int(1936), "{name}");
            assert_eq!(run(C::AgeFlag, Value::Bool(false)), Value::Bool(true));
            assert_eq!(run(C::EventDate, date("1930-05-05")), date("1936-01-01"));
            let later = run(C::EventDate, date("1990-05-05"));
            assert_eq!(later, date(if name == "safe-harbor" { "1990-01-01" } else { "1990-04-05" }));
        }
        let p = profile("limited");
        let run = |class, value| transform(class, p.rule(class), &old, &ctx, value);
        assert_eq!(run(C::BirthYear, Value::Int(1911)), Value::Int(1911));
        assert_eq!(run(C::EventDate, date("1930-05-05")), date("1930-05-05"));
    }

    #[test]
    fn a_year_of_birth_moves_with_the_date_of_birth() {
        let (ctx, rule) = (context(), profile("date-shifted").rule(C::BirthYear));
        let born = |text: &str, offset| {
            let person = SubjectContext { birth: Some(text.parse().expect("a date")), ..subject(1, offset) };
            transform(C::BirthYear, rule, &person, &ctx, Value::Int(1980))
        };
        assert_eq!(born("1980-02-01", -31), Value::Int(1980));
        assert_eq!(born("1980-02-01", -32), Value::Int(1979));
        let unknown = |offset| transform(C::BirthYear, rule, &subject(1, offset), &ctx, Value::Int(1980));
        assert_eq!((unknown(-182), unknown(-183)), (Value::Int(1980), Value::Int(1979)));
    }

    #[test]
    fn places_and_codes() {
        let (ctx, person) = (context(), subject(1, -1));
        let run = |name: &str, class, text: &'static str| {
            transform(class, profile(name).rule(class), &person, &ctx, Value::Text(text))
        };
        assert_eq!(run("safe-harbor", C::PostalCode, "02139-4307"), Value::Text("021"));
        assert_eq!(run("date-shifted", C::PostalCode, "03601"), Value::Text("000"));
        assert_eq!(run("limited", C::PostalCode, "02139-4307"), Value::Text("02139"));
        assert_eq!(run("limited", C::PostalCode, "021"), Value::Text("021"));
        assert_eq!(run("limited", C::PostalCode, "K1A 0B1"), Value::Null);
        assert_eq!(run("limited", C::SourceCode, "SNOMED:44054006"), Value::Text("SNOMED:44054006"));
        assert_eq!(run("limited", C::SourceCode, "Medhurst46"), Value::Null);
        assert_eq!(run("limited", C::SourceCode, "SNOMED:Medhurst46"), Value::Null);
        for (text, expected) in [
            ("10:15", Some("10:15")),
            (" 10:15:59 ", Some("10:15:59")),
            ("10:15:59.123+02:00", Some("10:15:59")),
            ("Medhurst46", None),
            ("25:15", None),
            ("10:61", None),
            ("10:15 Medhurst", None),
            ("10:15:5", None),
            ("1015", None),
            ("", None),
            ("10:\u{e9}0", None),
        ] {
            assert_eq!(
                run("limited", C::EventTime, text),
                expected.map_or(Value::Null, Value::Text),
                "{text}"
            );
        }
        for (class, text) in
            [(C::FreeText, "x"), (C::NoteText, "x"), (C::DeviceIdentifier, "x"), (C::SourceId, "x")]
        {
            for name in crate::Profile::NAMES {
                assert_eq!(run(name, class, text), Value::Null, "{name} {class:?}");
            }
        }
    }

    #[test]
    fn codes_are_judged_as_the_model_judges_them() {
        for text in [
            "SNOMED:44054006",
            "LOINC:8302-2",
            "X:1",
            "SNOMED:1",
            "SNOMED",
            "",
            ":",
            "UCUM:mm[Hg]",
            "Race:2106-3",
        ] {
            assert_eq!(is_code(text), almoner_model::Code::parse(text).is_some(), "{text}");
        }
    }

    /// Counts the codings of a JSON value by system, and those that are not what the system could have made.
    fn codings(value: &serde_json::Value, counts: &mut BTreeMap<&'static str, (u64, u64)>) {
        if let (Some(system), Some(code)) = (value["system"].as_str(), value["code"].as_str())
            && let Some(vocabulary) = Vocabulary::from_uri(system)
        {
            let (all, refused) = counts.entry(vocabulary.id()).or_default();
            *all += 1;
            *refused += u64::from(!vocabulary.accepts(code));
        }
        match value {
            serde_json::Value::Object(map) => map.values().for_each(|v| codings(v, counts)),
            serde_json::Value::Array(items) => items.iter().for_each(|v| codings(v, counts)),
            _ => {}
        }
    }

    #[test]
    fn codes_of_real_exports_are_kept() {
        let mut counts = BTreeMap::new();
        for part in ["fhir-bulk/smart-10", "fhir-bulk/ms-anon-11", "fhir-examples/hl7-r4"] {
            let Some(dir) = crate::testing::data(part) else { return };
            for file in std::fs::read_dir(dir).expect("listed") {
                let Ok(text) = std::fs::read_to_string(file.expect("listed").path()) else { continue };
                let whole = serde_json::from_str(&text).map(|value| vec![value]);
                let lines = || text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
                for value in whole.unwrap_or_else(|_| lines()) {
                    codings(&value, &mut counts);
                }
            }
        }
        let (all, refused) = counts.values().fold((0, 0), |(a, r), (n, m)| (a + n, r + m));
        println!("refused of all codings, by system: {counts:?}");
        assert!(all > 10_000 && refused * 200 <= all, "{refused} of {all}");
    }

    proptest! {
        /// Backward only, intervals exact, and two applications add up.
        #[test]
        fn shifts_compose(a in -200_000..100_000i32, b in -200_000..100_000i32, first in -365..=0i32, second in -365..=0i32) {
            let (ctx, rule) = (context(), profile("date-shifted").rule(C::EventDate));
            let shift = |days, offset| {
                match transform(C::EventDate, rule, &subject(1, offset), &ctx, Value::Date(Date::from_days(days))) {
                    Value::Date(d) => d.days(),
                    other => panic!("{other:?}"),
                }
            };
            prop_assert!(shift(a, first) <= a);
            prop_assert_eq!(shift(a, first) - shift(b, first), a - b);
            prop_assert_eq!(shift(shift(a, first), second), shift(a, first + second));
        }
    }
}
