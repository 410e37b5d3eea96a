//! The people of one source who may be counted or released: sorted subject ids, and for those whose permission leaves
//! something out, what. Made by `flows` from the directives; nothing here decides.

use std::collections::BTreeMap;

use almoner_model::{Date, Origin};

use crate::consent::{CategorySet, Limits};

/// The permitted people of one source.
#[derive(Clone, Copy, Debug)]
pub struct Permitted<'a> {
    /// Subject ids, ascending.
    pub ids: &'a [i64],
    /// What is left out, for those of whom something is.
    pub limits: &'a BTreeMap<i64, Limits>,
}

impl Permitted<'_> {
    /// Where `id` stands, searching forward from `from` in steps that double; `Err` says where it would stand. Looking up
    /// ascending ids this way is linear in the number of look-ups times the logarithm of the gaps.
    ///
    /// # Errors
    /// The position where it would stand, if it is not there.
    pub fn find(&self, id: i64, from: usize) -> Result<usize, usize> {
        let mut low = from.min(self.ids.len());
        let mut step = 1;
        while low + step < self.ids.len() && self.ids[low + step] < id {
            low += step;
            step *= 2;
        }
        let high = (low + step + 1).min(self.ids.len());
        match self.ids[low..high].binary_search(&id) {
            Ok(at) => Ok(low + at),
            Err(at) => Err(low + at),
        }
    }
}

/// Whether `limits` let a row be used: no category that it shows by its table and its record is withheld, and every true day that its stored dates
/// `first_day ..= last_day` can stand for is covered. `offset_days` was added to the person's true dates when they were
/// stored. A row without a date passes only where no day is left out.
pub fn covers(
    limits: &Limits,
    (table, origin): (&str, Origin),
    days: Option<(i32, i32)>,
    offset_days: i32,
) -> bool {
    let withheld = |shown: CategorySet| shown.iter().any(|category| limits.withheld.contains(category));
    if origin.shows(table).is_none_or(withheld) {
        return false;
    }
    if limits.days.is_all() {
        return true;
    }
    let Some((first, last)) = days else { return false };
    let (first, last) = (Date::from_days(first - offset_days), Date::from_days(last - offset_days));
    limits
        .days
        .intervals()
        .any(|(from, until)| from.is_none_or(|f| f <= first) && until.is_none_or(|u| last <= u))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Category, DateRanges};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn galloping_finds_what_binary_search_finds(
            mut ids in proptest::collection::vec(1..500i64, 0..80), wanted in 0..520i64, from in 0..90usize
        ) {
            ids.sort_unstable();
            ids.dedup();
            let p = Permitted { ids: &ids, limits: &BTreeMap::new() };
            let from = from.min(ids.iter().take_while(|i| **i < wanted).count());
            prop_assert_eq!(p.find(wanted, from), ids.binary_search(&wanted));
        }
    }

    #[test]
    fn data_periods_are_about_true_days_and_categories_about_tables() {
        let days = DateRanges::between(Date::from_ymd(2020, 1, 1), None);
        let limits = Limits { withheld: CategorySet::EMPTY.with(Category::Notes), days };
        let day = |y, m, d| Date::from_ymd(y, m, d).expect("valid").days();
        let one = |d| Some((d, d));
        // Stored 100 days early: 2019-12-01 was truly 2020-03-10.
        assert!(covers(&limits, ("measurement", Origin::Table), one(day(2019, 12, 1)), -100));
        assert!(!covers(&limits, ("measurement", Origin::Table), one(day(2019, 9, 1)), -100));
        assert!(
            !covers(
                &limits,
                ("measurement", Origin::Table),
                Some((day(2019, 1, 1), day(2019, 12, 31))),
                -100
            ),
            "whole years"
        );
        assert!(!covers(&limits, ("note", Origin::Table), one(day(2021, 1, 1)), 0), "withheld");
        assert!(
            !covers(&limits, ("measurement", Origin::Table), None, 0)
                && !covers(&limits, ("unknown", Origin::Table), one(0), 0)
        );
    }

    #[test]
    fn a_denied_record_is_withheld_in_whatever_table_its_row_is() {
        let withheld = CategorySet::EMPTY.with(Category::Conditions);
        let limits = Limits { withheld, days: DateRanges::all() };
        let one = Some((1, 1));
        assert!(!covers(&limits, ("condition_occurrence", Origin::Condition), one, 0));
        assert!(!covers(&limits, ("observation", Origin::Condition), one, 0));
        assert!(!covers(&limits, ("measurement", Origin::Condition), one, 0));
        assert!(covers(&limits, ("observation", Origin::Observation), one, 0));
        assert!(!covers(&limits, ("condition_era", Origin::Derived), one, 0));
    }
}
