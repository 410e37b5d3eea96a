//! What de-identification did, in counts: by table, column and action. Never a value, never a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::profile::Action;
use almoner_model::IdentifierClass;

/// What was done to one column.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnReport {
    /// What the column is.
    pub class: IdentifierClass,
    /// What was done about it.
    pub action: Action,
    /// Values that came in (nulls not counted).
    pub values_in: u64,
    /// Values that went out, as they were or transformed.
    pub values_out: u64,
}

/// What was done to one table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TableReport {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that went out; fewer only where the profile drops the rows of the table (notes).
    pub rows_out: u64,
    /// By column.
    pub columns: BTreeMap<String, ColumnReport>,
}

/// What was done about results that tell an age or a birth (`schemas/deid/ages.toml`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AgeReport {
    /// Results that were removed.
    pub results_removed: u64,
    /// Ages of 90 or more that became 90.
    pub results_top_coded: u64,
}

impl AgeReport {
    const fn merge(&mut self, other: Self) {
        self.results_removed += other.results_removed;
        self.results_top_coded += other.results_top_coded;
    }
}

/// What was done to all tables. Reports of several batches add up with [`DeidReport::merge`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeidReport {
    /// The profile's name.
    pub profile: String,
    /// People.
    pub persons: u64,
    /// Of them, people whose age is over 89 at the reference date or at any event.
    pub persons_over_89: u64,
    /// Dates of people over 89 that lay before the floored year of birth and were raised to it.
    pub dates_raised: u64,
    /// What was done about results that tell an age or a birth.
    #[serde(default)]
    pub ages: AgeReport,
    /// By table.
    pub tables: BTreeMap<String, TableReport>,
}

impl DeidReport {
    /// Adds the counts of another batch of the same profile.
    pub fn merge(&mut self, other: Self) {
        self.profile = other.profile;
        self.persons += other.persons;
        self.persons_over_89 += other.persons_over_89;
        self.dates_raised += other.dates_raised;
        self.ages.merge(other.ages);
        for (name, theirs) in other.tables {
            let ours = self.tables.entry(name).or_default();
            ours.rows_in += theirs.rows_in;
            ours.rows_out += theirs.rows_out;
            for (column, theirs) in theirs.columns {
                ours.columns
                    .entry(column)
                    .and_modify(|c| {
                        c.values_in += theirs.values_in;
                        c.values_out += theirs.values_out;
                    })
                    .or_insert(theirs);
            }
        }
    }
}
