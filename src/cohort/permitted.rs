//! The people who may be counted or released, as the cohort engine needs them: sorted subject ids, each with the limits
//! of its directive. Made by `flows` from the decision; nothing here decides.

use std::collections::BTreeSet;

use almoner_model::{Date, Seq};

/// What one shape of directive leaves of a person's data. Few shapes serve many people.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Limits {
    /// First true day of data covered.
    pub data_from: Option<Date>,
    /// Last true day of data covered.
    pub data_to: Option<Date>,
    /// Names of data categories that are withheld.
    pub denied_categories: BTreeSet<String>,
}

impl Limits {
    /// Whether every row may be used.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an event on the stored day range may be used, `offset_days` being what was added to the person's true
    /// dates when they were stored. The whole range must lie inside, so that a date known to the year only must have
    /// its whole year inside.
    pub fn covers(&self, first_day: i32, last_day: i32, offset_days: i32) -> bool {
        let after = self.data_from.is_none_or(|from| first_day - offset_days >= from.days());
        let before = self.data_to.is_none_or(|to| last_day - offset_days <= to.days());
        after && before
    }
}

/// The permitted people.
#[derive(Clone, Debug, Default)]
pub struct Permitted {
    ids: Vec<i64>,
    shape: Vec<u32>,
    directives: Vec<Vec<Seq>>,
    shapes: Vec<Limits>,
}

impl Permitted {
    /// From (subject id, limits, sequence numbers of the permitting directive entries); the last of a repeated id wins.
    pub fn new(people: impl IntoIterator<Item = (i64, Limits, Vec<Seq>)>) -> Self {
        let mut by_shape = std::collections::BTreeMap::new();
        let mut rows = std::collections::BTreeMap::new();
        for (id, limits, directives) in people {
            let next = by_shape.len() as u32;
            let shape = *by_shape.entry(limits).or_insert(next);
            rows.insert(id, (shape, directives));
        }
        let mut shapes = vec![Limits::default(); by_shape.len()];
        for (limits, shape) in by_shape {
            shapes[shape as usize] = limits;
        }
        let mut out = Self { shapes, ..Self::default() };
        for (id, (shape, directives)) in rows {
            out.ids.push(id);
            out.shape.push(shape);
            out.directives.push(directives);
        }
        out
    }

    /// Everyone in `ids` without limits. `ids` need not be sorted.
    pub fn without_limits(mut ids: Vec<i64>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        let n = ids.len();
        Self { ids, shape: vec![0; n], directives: vec![Vec::new(); n], shapes: vec![Limits::default()] }
    }

    /// Sorted subject ids.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nobody is permitted.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The distinct shapes.
    pub fn shapes(&self) -> &[Limits] {
        &self.shapes
    }

    /// The limits of the person at `position` of [`Permitted::ids`].
    pub fn limits_at(&self, position: usize) -> &Limits {
        &self.shapes[self.shape[position] as usize]
    }

    /// The permitting directives of the person at `position`.
    pub fn directives_at(&self, position: usize) -> &[Seq] {
        &self.directives[position]
    }

    /// Where `id` stands, searching forward from `from` in steps that double; `Err` says where it would stand. Looking up
    /// ascending ids this way is linear in the number of look-ups times the logarithm of the gaps.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn galloping_finds_what_binary_search_finds(
            mut ids in proptest::collection::vec(1..500i64, 0..80), wanted in 0..520i64, from in 0..90usize
        ) {
            ids.sort_unstable();
            ids.dedup();
            let p = Permitted::without_limits(ids.clone());
            let from = from.min(ids.iter().take_while(|i| **i < wanted).count());
            prop_assert_eq!(p.find(wanted, from), ids.binary_search(&wanted));
        }
    }

    #[test]
    fn data_periods_are_about_true_days() {
        let limits = Limits { data_from: Date::from_ymd(2020, 1, 1), ..Limits::default() };
        let day = |y, m, d| Date::from_ymd(y, m, d).expect("valid").days();
        // Stored 100 days early: 2019-12-01 was truly 2020-03-10.
        assert!(limits.covers(day(2019, 12, 1), day(2019, 12, 1), -100));
        assert!(!limits.covers(day(2019, 9, 1), day(2019, 9, 1), -100));
    }
}
