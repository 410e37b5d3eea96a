//! Sets of days: which days' data a verdict covers.
//!
//! Disjoint, sorted, inclusive intervals, never touching, so that equal sets are equal values.

use crate::Date;
use serde::{Deserialize, Serialize};

/// A set of days.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct DateRanges(Vec<(i32, i32)>);

const MIN: i32 = i32::MIN / 2;
const MAX: i32 = i32::MAX / 2;

impl DateRanges {
    /// No day.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Every day.
    pub fn all() -> Self {
        Self(vec![(MIN, MAX)])
    }

    /// From `from` to `until`, both included; open where `None`.
    pub fn between(from: Option<Date>, until: Option<Date>) -> Self {
        let (a, b) = (from.map_or(MIN, Date::days), until.map_or(MAX, Date::days));
        if a <= b { Self(vec![(a, b)]) } else { Self::none() }
    }

    /// Whether there is no day in it.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every day is in it.
    pub fn is_all(&self) -> bool {
        self.0 == [(MIN, MAX)]
    }

    /// Whether `day` is in it. Days are true dates: undo the subject's offset first.
    pub fn contains(&self, day: Date) -> bool {
        self.0.iter().any(|(a, b)| (*a..=*b).contains(&day.days()))
    }

    /// The inclusive intervals, in order; `None` where open.
    pub fn intervals(&self) -> impl Iterator<Item = (Option<Date>, Option<Date>)> + '_ {
        self.0.iter().map(|(a, b)| {
            ((*a != MIN).then(|| Date::from_days(*a)), (*b != MAX).then(|| Date::from_days(*b)))
        })
    }

    /// Days in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(i32, i32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut out: Vec<(i32, i32)> = Vec::with_capacity(all.len());
        for (a, b) in all {
            match out.last_mut() {
                Some(last) if a <= last.1 + 1 => last.1 = last.1.max(b),
                _ => out.push((a, b)),
            }
        }
        Self(out)
    }

    /// Days in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::none();
        for (a, b) in &self.0 {
            for (c, d) in &other.0 {
                let (from, until) = (*a.max(c), *b.min(d));
                if from <= until {
                    out = out.union(&Self(vec![(from, until)]));
                }
            }
        }
        out
    }

    /// Days in this and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut gaps = Vec::with_capacity(other.0.len() + 1);
        let mut from = MIN;
        for (a, b) in &other.0 {
            if from < *a {
                gaps.push((from, a - 1));
            }
            from = b + 1;
        }
        if from <= MAX {
            gaps.push((from, MAX));
        }
        self.intersection(&Self(gaps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_ranges() -> impl Strategy<Value = DateRanges> {
        proptest::collection::vec((-40..40i32, 0..12i32), 0..5).prop_map(|parts| {
            parts.into_iter().fold(DateRanges::none(), |set, (a, len)| {
                set.union(&DateRanges::between(Some(Date::from_days(a)), Some(Date::from_days(a + len))))
            })
        })
    }

    proptest! {
        #[test]
        fn the_operations_are_those_of_sets(a in any_ranges(), b in any_ranges(), day in -60..60i32) {
            let day = Date::from_days(day);
            prop_assert_eq!(a.union(&b).contains(day), a.contains(day) || b.contains(day));
            prop_assert_eq!(a.intersection(&b).contains(day), a.contains(day) && b.contains(day));
            prop_assert_eq!(a.minus(&b).contains(day), a.contains(day) && !b.contains(day));
            prop_assert_eq!(a.minus(&a), DateRanges::none());
            prop_assert_eq!(DateRanges::all().minus(&a).minus(&DateRanges::all()), DateRanges::none());
            prop_assert_eq!(DateRanges::all().minus(&a).union(&a), DateRanges::all());
        }
    }

    #[test]
    fn an_interval_that_ends_before_it_begins_has_no_day() {
        let (a, b) = (Date::from_days(5), Date::from_days(4));
        assert!(DateRanges::between(Some(a), Some(b)).is_none());
        assert!(DateRanges::between(None, None).is_all());
    }
}
