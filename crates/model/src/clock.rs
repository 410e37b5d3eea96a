//! Time as a parameter: [`Timestamp`] and the [`Clock`] that is passed to whoever needs "now".
//!
//! Nothing in layers 0 and 1 reads the wall clock (`clippy.toml` forbids it). A decision's only clock is the time of a
//! ledger leaf, which is monotonic.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dates::Date;

/// Milliseconds since the Unix epoch, UTC. Written as RFC 3339 with milliseconds (`2026-11-22T09:30:00.000Z`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Midnight UTC at the start of `date`.
    pub const fn from_date(date: Date) -> Self {
        Self(date.days() as i64 * 86_400_000)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The UTC calendar date.
    pub const fn date(self) -> Date {
        Date::from_days(self.0.div_euclid(86_400_000) as i32)
    }

    /// This instant with the time of day removed: what is written about participants' own acts.
    pub const fn coarse(self) -> Self {
        Self::from_date(self.date())
    }

    /// Reads RFC 3339. `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|t| Self(t.timestamp_millis()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| crate::misfit("an RFC 3339 time such as 2026-11-22T09:30:00.000Z"))
    }
}

/// Where "now" comes from.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// A clock that tests move by hand.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `start`.
    pub const fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.0))
    }

    /// Moves forward by `millis`.
    pub fn advance_millis(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// Moves forward by whole days.
    pub fn advance_days(&self, days: i64) {
        self.advance_millis(days * 86_400_000);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_as_rfc3339() {
        let t = Timestamp::parse("2026-11-22T10:30:00.250+01:00").expect("valid");
        assert_eq!(t.to_string(), "2026-11-22T09:30:00.250Z");
        assert_eq!(Timestamp::parse(&t.to_string()), Some(t));
        assert_eq!(t.coarse().to_string(), "2026-11-22T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(-1).date().to_string(), "1969-12-31");
    }

    #[test]
    fn the_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::at(Timestamp::from_millis(5));
        assert_eq!(clock.now().millis(), 5);
        clock.advance_days(1);
        assert_eq!(clock.now().millis(), 86_400_005);
    }
}
