//! Which dates can be the date of something: neither a day that systems write where they know none, nor in the future, nor
//! long before birth (`schemas/deid/dates.toml`).
//!
//! A sentinel that moves with the other dates of its person gives the person's offset away, and a date in the future makes
//! anybody older than 89. So rows are judged on true dates, while they are gathered; [`crate::deidentify`] refuses true
//! data in which one is left.

use std::collections::BTreeSet;

use almoner_model::Date;
use serde::Deserialize;

const EMBEDDED: &str = include_str!("../../../schemas/deid/dates.toml");

/// Why a date is not the date of anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// A day that systems write where they know none.
    Sentinel,
    /// After the reference date, by more than may be.
    Future,
    /// Before the person's birth, by more than may be.
    BeforeBirth,
}

/// Why the rules do not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatesError {
    /// Not the TOML that it must be.
    #[error("schemas/deid/dates.toml: {0}")]
    Toml(String),
    /// Another format.
    #[error("schemas/deid/dates.toml: format is not almoner-dates/1")]
    Format,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    format: String,
    sentinels: Vec<toml::value::Datetime>,
    birth_sentinels: Vec<toml::value::Datetime>,
    ahead_days_max: i32,
    planned_days_max: i32,
    before_birth_days_max: i32,
    life_years_max: i32,
}

/// The rules, with the day on which they are applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plausible {
    sentinels: BTreeSet<i32>,
    birth_sentinels: BTreeSet<i32>,
    reference: i32,
    ahead: i32,
    planned: i32,
    before_birth: i32,
    earliest: i32,
}

impl Plausible {
    /// The compiled-in rules, as of `reference`: the day of the export or of the ingest.
    ///
    /// # Errors
    /// [`DatesError`] if the file is not what it should be; a test of this crate keeps that from shipping.
    pub fn at(reference: Date) -> Result<Self, DatesError> {
        Self::load(EMBEDDED, reference)
    }

    /// Reads rules in the format of `schemas/deid/dates.toml`.
    ///
    /// # Errors
    /// [`DatesError`] says what is wrong.
    pub fn load(text: &str, reference: Date) -> Result<Self, DatesError> {
        let source: Source = toml::from_str(text).map_err(|e| DatesError::Toml(e.message().to_owned()))?;
        if source.format != "almoner-dates/1" {
            return Err(DatesError::Format);
        }
        let day = |d: &toml::value::Datetime| {
            let date = d.date.filter(|_| d.time.is_none())?;
            Date::from_ymd(date.year.into(), date.month.into(), date.day.into()).map(Date::days)
        };
        let days = |list: &[toml::value::Datetime]| -> Result<BTreeSet<i32>, DatesError> {
            let days = list.iter().map(day).collect::<Option<_>>();
            days.ok_or_else(|| DatesError::Toml("a sentinel is not a date".to_owned()))
        };
        let first = Date::from_ymd(reference.year() - source.life_years_max, 1, 1);
        Ok(Self {
            sentinels: days(&source.sentinels)?,
            birth_sentinels: days(&source.birth_sentinels)?,
            reference: reference.days(),
            ahead: source.ahead_days_max,
            planned: source.planned_days_max,
            before_birth: source.before_birth_days_max,
            earliest: first.map_or(i32::MIN, Date::days),
        })
    }

    /// What is wrong with the day on which something happened to a person born on `birth` or later.
    pub fn event(&self, day: i32, birth: Option<Date>) -> Option<Fault> {
        self.judge(day, birth, self.ahead)
    }

    /// What is wrong with the last day of something that has begun.
    pub fn end(&self, day: i32, birth: Option<Date>) -> Option<Fault> {
        self.judge(day, birth, self.planned)
    }

    /// What is wrong with a date of birth of which year, month and day were given, or else with the earliest day that it
    /// may be.
    pub fn birth(&self, day: Date, whole: bool) -> Option<Fault> {
        if whole && self.birth_sentinels.contains(&day.days()) {
            return Some(Fault::Sentinel);
        }
        (day.days() > self.reference.saturating_add(self.ahead)).then_some(Fault::Future)
    }

    /// Whether the day is a sentinel, or later than anything that is planned.
    pub(crate) fn never(&self, day: i32) -> bool {
        day > self.last_day() || self.sentinels.contains(&day)
    }

    /// The last day that any date of an event may have.
    pub(crate) const fn last_day(&self) -> i32 {
        self.reference.saturating_add(self.planned)
    }

    fn judge(&self, day: i32, birth: Option<Date>, ahead: i32) -> Option<Fault> {
        if self.sentinels.contains(&day) {
            return Some(Fault::Sentinel);
        }
        if day > self.reference.saturating_add(ahead) {
            return Some(Fault::Future);
        }
        let first = birth.map_or(self.earliest, Date::days).saturating_sub(self.before_birth);
        (day < first).then_some(Fault::BeforeBirth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Plausible {
        Plausible::at("2026-11-22".parse().expect("a date")).expect("loads")
    }

    fn day(text: &str) -> i32 {
        text.parse::<Date>().expect("a date").days()
    }

    #[test]
    fn sentinels_futures_and_times_before_birth_are_no_dates() {
        let rules = rules();
        let birth = Some("1980-06-01".parse().expect("a date"));
        for (text, expected) in [
            ("1900-01-01", Some(Fault::Sentinel)),
            ("1970-01-01", Some(Fault::Sentinel)),
            ("2099-12-31", Some(Fault::Sentinel)),
            ("9999-12-31", Some(Fault::Sentinel)),
            ("0001-01-01", Some(Fault::Sentinel)),
            ("2026-11-22", None),
            ("2026-11-23", None),
            ("2026-11-24", Some(Fault::Future)),
            ("2077-03-04", Some(Fault::Future)),
            ("1980-06-01", None),
            ("1979-06-01", None),
            ("1979-05-31", Some(Fault::BeforeBirth)),
        ] {
            assert_eq!(rules.event(day(text), birth), expected, "{text}");
        }
        assert_eq!(rules.event(day("1979-05-31"), None), None);
        assert_eq!(rules.event(day("1870-05-31"), None), Some(Fault::BeforeBirth));
    }

    #[test]
    fn ends_may_be_planned() {
        let rules = rules();
        assert_eq!(rules.end(day("2027-11-23"), None), None);
        assert_eq!(rules.end(day("2027-11-24"), None), Some(Fault::Future));
        assert_eq!(rules.end(day("9999-12-31"), None), Some(Fault::Sentinel));
    }

    #[test]
    fn births_are_judged_by_what_was_given() {
        let rules = rules();
        let date = |text: &str| text.parse::<Date>().expect("a date");
        assert_eq!(rules.birth(date("1900-01-01"), true), Some(Fault::Sentinel));
        assert_eq!(rules.birth(date("1900-01-01"), false), None);
        assert_eq!(rules.birth(date("2027-01-01"), false), Some(Fault::Future));
        assert_eq!(rules.birth(date("1931-05-06"), true), None);
        assert_eq!(rules.birth(date("1970-01-01"), true), None);
    }

    #[test]
    fn a_file_that_is_not_what_it_must_be_is_refused() {
        let at = "2026-11-22".parse().expect("a date");
        assert_eq!(Plausible::load(&EMBEDDED.replace("dates/1", "dates/2"), at), Err(DatesError::Format));
        for (from, to) in [("9999-12-31,", "\"never\","), ("9999-12-31,", "12:00:00,"), ("planned_", "plan_")]
        {
            let text = EMBEDDED.replacen(from, to, 1);
            assert!(matches!(Plausible::load(&text, at), Err(DatesError::Toml(_))), "{to}");
        }
    }
}
