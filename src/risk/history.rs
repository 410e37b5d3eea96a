//! What a recipient knows already: earlier releases of the same people.
//!
//! Two releases are read side by side, so what stands between a person and the recipient is not the class in the new one
//! but in both together. What an earlier release told is read from that release itself, value by value: its tables, its
//! profile, its recoding and the data of its day are all in it. The gate measures people as alike only if each earlier
//! release said the same of them, or had none of them.

use std::collections::HashMap;

use super::people::{People, RiskError};

/// An earlier release, by what it told of people who may be in the new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Earlier {
    /// The `person_id` in the new release and the class in the earlier one, ascending. A person whom the earlier release
    /// had as two has two classes.
    told: Vec<(i64, u32)>,
}

impl Earlier {
    /// Of the people of an earlier release, as its tables say; `now` gives the `person_id`s that a person of it has, or
    /// would have, in the new release.
    ///
    /// # Errors
    /// [`RiskError::TooManyValues`].
    pub fn new<I: IntoIterator<Item = i64>>(
        people: &People,
        now: impl Fn(i64) -> I,
    ) -> Result<Self, RiskError> {
        let classes = people.class_of_each()?.into_iter();
        let mut told: Vec<(i64, u32)> =
            classes.flat_map(|(id, class)| now(id).into_iter().map(move |id| (id, class))).collect();
        told.sort_unstable();
        told.dedup();
        Ok(Self { told })
    }

    /// The classes of a person; none for who is not in it.
    fn of(&self, id: i64) -> impl Iterator<Item = u32> + '_ {
        let from = self.told.partition_point(|(other, _)| *other < id);
        self.told[from..].iter().take_while(move |(other, _)| *other == id).map(|(_, class)| *class)
    }
}

/// For each person the number of what the earlier releases told of them together: equal numbers, equal in each.
pub(super) fn numbers(people: &People, earlier: &[Earlier]) -> Vec<u32> {
    let mut numbers: HashMap<Vec<(usize, u32)>, u32> = HashMap::new();
    let told = |id: &i64| -> Vec<(usize, u32)> {
        earlier.iter().enumerate().flat_map(|(at, e)| e.of(*id).map(move |class| (at, class))).collect()
    };
    let number = |id| {
        let next = numbers.len() as u32;
        *numbers.entry(told(id)).or_insert(next)
    };
    people.ids().iter().map(number).collect()
}
