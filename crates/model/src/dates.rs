//! Civil dates: days since 1970-01-01, and the partial dates of FHIR.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A calendar date as days since 1970-01-01 (Arrow `Date32`), in the years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

/// The text or the numbers are not a date of the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a calendar date")]
pub struct NotADate;

impl Date {
    /// From days since 1970-01-01.
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i32 {
        self.0
    }

    /// From year, month 1–12 and day 1–31.
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Option<Self> {
        if !(1..=9999).contains(&year)
            || !(1..=12).contains(&month)
            || day == 0
            || day > days_in_month(year, month)
        {
            return None;
        }
        Some(Self(days_from_civil(year, month, day)))
    }

    fn civil(self) -> NaiveDate {
        NaiveDate::from_num_days_from_ce_opt(self.0.saturating_add(719_163)).unwrap_or_default()
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.civil().year()
    }

    /// The month, 1–12.
    pub fn month(self) -> u32 {
        self.civil().month()
    }

    /// The day of the month, 1–31.
    pub fn day(self) -> u32 {
        self.civil().day()
    }

    /// `days` later (earlier if negative).
    #[must_use]
    pub const fn plus_days(self, days: i32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// 1 January of the same year.
    #[must_use]
    pub fn start_of_year(self) -> Self {
        Self(days_from_civil(self.year(), 1, 1))
    }

    /// Completed years from `birth` to `self`; negative before birth.
    pub fn age_since(self, birth: Self) -> i32 {
        let (a, b) = (self.civil(), birth.civil());
        a.year() - b.year() - i32::from((a.month(), a.day()) < (b.month(), b.day()))
    }

    /// Reads `YYYY-MM-DD` only.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match PartialDate::parse(text)? {
            PartialDate { date, precision: DatePrecision::Day } => Some(date),
            _ => None,
        }
    }
}

const fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 => 28 + is_leap(year) as u32,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a valid civil date (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.civil();
        write!(f, "{:04}-{:02}-{:02}", d.year(), d.month(), d.day())
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Date {
    type Err = NotADate;
    fn from_str(text: &str) -> Result<Self, NotADate> {
        Self::parse(text.as_bytes()).ok_or(NotADate)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|_| crate::misfit("a calendar date such as 2027-12-31"))
    }
}

/// How much of a date was given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatePrecision {
    /// `YYYY`
    Year,
    /// `YYYY-MM`
    Month,
    /// `YYYY-MM-DD`
    Day,
}

/// A FHIR `date` (R4 §2.24.0.1): a year, a year and month, or a full date, floored to its first day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialDate {
    /// The first day of what was given.
    pub date: Date,
    /// How much was given.
    pub precision: DatePrecision,
}

impl PartialDate {
    /// Reads `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let number = |s: &[u8]| -> Option<u32> {
            s.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
        };
        let year = number(text.get(..4)?)? as i32;
        let (month, day, precision) = match text.len() {
            4 => (1, 1, DatePrecision::Year),
            7 if text[4] == b'-' => (number(&text[5..])?, 1, DatePrecision::Month),
            10 if text[4] == b'-' && text[7] == b'-' => {
                (number(&text[5..7])?, number(&text[8..])?, DatePrecision::Day)
            }
            _ => return None,
        };
        Some(Self { date: Date::from_ymd(year, month, day)?, precision })
    }
}

/// A FHIR `dateTime` or `instant`, or an OMOP `datetime`: the *local* calendar date as written (the date the hospital
/// lived through, not UTC's), its precision, and the local time of day in seconds where one was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalDateTime {
    /// The local date.
    pub date: Date,
    /// How much of the date was given.
    pub precision: DatePrecision,
    /// Seconds after local midnight.
    pub seconds: Option<u32>,
}

impl LocalDateTime {
    /// Reads a partial date, or a date with `T` or a space and `hh:mm[:ss[.fff]]` and an optional zone, which is
    /// checked and not applied.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() <= 10 {
            let PartialDate { date, precision } = PartialDate::parse(text)?;
            return Some(Self { date, precision, seconds: None });
        }
        let date = Date::parse(&text[..10])?;
        if !matches!(text[10], b'T' | b't' | b' ') {
            return None;
        }
        let seconds = parse_time(&text[11..])?;
        Some(Self { date, precision: DatePrecision::Day, seconds: Some(seconds) })
    }

    /// Microseconds since 1970-01-01T00:00:00 of the local wall clock (Arrow `Timestamp(Microsecond, None)`).
    pub fn micros(self) -> Option<i64> {
        self.seconds.map(|s| i64::from(self.date.days()) * 86_400_000_000 + i64::from(s) * 1_000_000)
    }
}

fn parse_time(text: &[u8]) -> Option<u32> {
    let two = |at: usize, max: u32| -> Option<u32> {
        let s = text.get(at..at + 2)?;
        if !s.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let n = u32::from(s[0] - b'0') * 10 + u32::from(s[1] - b'0');
        (n <= max).then_some(n)
    };
    let hour = two(0, 24)?;
    if text.get(2) != Some(&b':') {
        return None;
    }
    let minute = two(3, 59)?;
    let mut at = 5;
    let mut second = 0;
    if text.get(at) == Some(&b':') {
        second = two(6, 60)?;
        at = 8;
        if text.get(at) == Some(&b'.') {
            at += 1;
            let digits = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            at += digits;
        }
    }
    let zone = &text[at..];
    let zone_ok = match zone {
        [] | [b'Z' | b'z'] => true,
        [b'+' | b'-', rest @ ..] => {
            rest.len() == 5
                && rest[2] == b':'
                && [0, 1, 3, 4].iter().all(|&i| rest[i].is_ascii_digit())
                && (rest[0], rest[1]) <= (b'1', b'9')
                && rest[3] <= b'5'
        }
        _ => false,
    };
    let total = hour * 3600 + minute * 60 + second.min(59);
    (zone_ok && total <= 86_400).then_some(total.min(86_399))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn partial_dates() {
        let p = |s: &str| PartialDate::parse(s.as_bytes()).map(|p| (p.date.to_string(), p.precision));
        assert_eq!(p("1987"), Some(("1987-01-01".into(), DatePrecision::Year)));
        assert_eq!(p("1987-02"), Some(("1987-02-01".into(), DatePrecision::Month)));
        assert_eq!(p("2000-02-29"), Some(("2000-02-29".into(), DatePrecision::Day)));
        for bad in
            ["", "19", "1900-02-29", "1987-13", "1987-00-01", "0000-01-01", "1987/01/01", "1987-1-1", "198a"]
        {
            assert_eq!(p(bad), None, "{bad}");
        }
    }

    #[test]
    fn local_date_times_keep_the_hospitals_own_day() {
        let p = |s: &str| LocalDateTime::parse(s.as_bytes());
        let late = p("1989-10-04T23:25:16-04:00").expect("valid");
        assert_eq!((late.date.to_string().as_str(), late.seconds), ("1989-10-04", Some(84_316)));
        assert!(p("2016-08-26 00:00:00").is_some() && p("2016-08-26T10:00:00.123Z").is_some());
        assert!(p("2016-08-26T10:00").is_some());
        // Every form of R4's date, dateTime and instant, west of Greenwich too.
        for good in [
            "2015",
            "2015-02",
            "2015-02-07",
            "2015-02-07T13:28:17-05:00",
            "2015-02-07T13:28:17.239-05:00",
            "2015-02-07T13:28:17.239123456Z",
            "2015-02-07T00:00:00-12:00",
            "2015-02-07T00:00:00+14:00",
            "2016-12-31T23:59:60-00:00",
        ] {
            assert!(p(good).is_some(), "{good}");
        }
        for bad in
            ["2016-08-26T25:00:00Z", "2016-08-26T10", "2016-08-26T10:00:00+25:00", "2016-08-26x10:00:00"]
        {
            assert_eq!(p(bad), None, "{bad}");
        }
    }

    #[test]
    fn ages_are_completed_years() {
        let d = |s: &str| s.parse::<Date>().expect("valid");
        assert_eq!(d("2026-05-20").age_since(d("1936-05-21")), 89);
        assert_eq!(d("2026-05-21").age_since(d("1936-05-21")), 90);
        assert_eq!(d("2023-02-28").age_since(d("2000-02-29")), 22);
    }

    proptest! {
        #[test]
        fn every_day_round_trips(days in -719_162..2_932_896i32) {
            let d = Date::from_days(days);
            prop_assert_eq!(Date::from_ymd(d.year(), d.month(), d.day()), Some(d));
            prop_assert_eq!(d.to_string().parse::<Date>(), Ok(d));
        }
    }
}
