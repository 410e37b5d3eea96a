//! What a recipient knows already: earlier releases of the same people.
//!
//! Two releases are read side by side, so what stands between a person and the recipient is not the class in the new one
//! but in both together. What an earlier release told is read from that release itself, value by value: its tables, its
//! profile, its recoding and the data of its day are all in it. The gate measures people as alike only if each earlier
//! release said the same of them, or had none of them.

use std::collections::HashMap;

use super::people::{People, RiskError};

/// What earlier releases told of people who may be in a new one, one release after the other taken in: memory grows with the
/// people, not with the releases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Earlier {
    /// By `person_id` in the new release: the number of what was told of the person by all releases together. Nothing was
    /// told of others.
    told: HashMap<i64, u32>,
    /// The next number.
    next: u32,
    releases: usize,
}

/// The number of those of whom nothing was told.
const NOTHING: u32 = 0;

impl Earlier {
    /// Nothing.
    pub fn none() -> Self {
        Self { told: HashMap::new(), next: NOTHING + 1, releases: 0 }
    }

    /// Takes in an earlier release that has none of the people.
    pub fn add_strangers(&mut self) {
        self.releases += 1;
    }

    /// Takes in an earlier release, as its tables say; `now` gives the `person_id`s that a person of it has, or would have,
    /// in the new release. A person whom it had as two has two classes.
    ///
    /// # Errors
    /// [`RiskError::TooManyValues`].
    pub fn add<I: IntoIterator<Item = i64>>(
        &mut self,
        people: &People,
        now: impl Fn(i64) -> I,
    ) -> Result<(), RiskError> {
        let classes = people.class_of_each()?.into_iter();
        let mut told: Vec<(i64, u32)> =
            classes.flat_map(|(id, class)| now(id).into_iter().map(move |id| (id, class))).collect();
        told.sort_unstable();
        told.dedup();
        let mut numbers: HashMap<(u32, Vec<u32>), u32> = HashMap::new();
        for of_one in told.chunk_by(|a, b| a.0 == b.0) {
            let number = self.told.entry(of_one[0].0).or_insert(NOTHING);
            let classes = of_one.iter().map(|(_, class)| *class).collect();
            *number = *numbers.entry((*number, classes)).or_insert_with(|| {
                self.next += 1;
                self.next - 1
            });
        }
        self.releases += 1;
        Ok(())
    }

    /// How many releases.
    pub const fn releases(&self) -> usize {
        self.releases
    }

    /// For each person the number of what was told of them: equal numbers, equal in each release.
    pub(super) fn numbers(&self, people: &People) -> Vec<u32> {
        people.ids().iter().map(|id| self.told.get(id).copied().unwrap_or(NOTHING)).collect()
    }
}
