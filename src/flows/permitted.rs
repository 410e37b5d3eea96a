//! Who permits a use: [`PermittedSubjects`], by evaluating each distinct shape of directives once.

use std::collections::BTreeMap;

use almoner_model::{ContributorId, DatasetId, Seq};

use crate::consent::{Limits, Reason};

/// The people of one dataset's contributor who permit a use.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PermittedIn {
    /// Their subject ids, ascending.
    pub ids: Vec<i64>,
    /// For those whose permission leaves something out: what.
    pub limits: BTreeMap<i64, Limits>,
}

/// The people who permit a use, by dataset, as of a ledger size.
///
/// A person's permission covers the data of the hospital through which it was given unless it says otherwise, so who is
/// permitted differs between datasets of different contributors.
#[derive(Clone, PartialEq, Debug)]
pub struct PermittedSubjects {
    /// By dataset.
    pub datasets: BTreeMap<DatasetId, PermittedIn>,
    /// The contributor of each dataset.
    pub contributors: BTreeMap<DatasetId, ContributorId>,
    /// How many people do not permit it in any of the datasets, by the most telling reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Ledger size that it was made at.
    pub as_of: Seq,
}

impl PermittedSubjects {
    /// Everyone permitted in at least one of the datasets, ascending.
    pub fn ids(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.datasets.values().flat_map(|d| d.ids.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether nobody is permitted.
    pub fn is_empty(&self) -> bool {
        self.datasets.values().all(|d| d.ids.is_empty())
    }
}
