//! What the gate changes: a recoding of the person table and the people who are left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use almoner_model::TableSpec;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::people::{BIRTH, ETHNICITY, PLACE, RACE, SEX, attribute_of};

/// How much of a place stays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// As the profile left it.
    AsReleased,
    /// Three digits of the ZIP code, and the state.
    Zip3,
    /// The state.
    State,
    /// Nothing.
    Withheld,
}

/// A generalisation of everyone alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Recoding {
    /// Whether month, day and datetime of birth stay, if the profile left them.
    #[serde(rename = "birth_date_kept")]
    pub birth_date: bool,
    /// Years of birth are given in bands of this many years, by their first year; 0 withholds them (year 0).
    pub birth_years: u32,
    /// How much of the place stays.
    pub place: Place,
    /// Whether sex stays.
    #[serde(rename = "sex_kept")]
    pub sex: bool,
    /// Whether race stays.
    #[serde(rename = "race_kept")]
    pub race: bool,
    /// Whether ethnicity stays.
    #[serde(rename = "ethnicity_kept")]
    pub ethnicity: bool,
    /// Whether the death table stays.
    #[serde(rename = "death_kept")]
    pub death: bool,
    /// The year of birth that stands for everyone of 90 or older, where the profile top-coded ages; these people keep it,
    /// and no band of the others begins before it.
    pub floor_year: Option<i64>,
}

impl Recoding {
    /// Changes nothing.
    pub const NONE: Self = Self {
        birth_date: true,
        birth_years: 1,
        place: Place::AsReleased,
        sex: true,
        race: true,
        ethnicity: true,
        death: true,
        floor_year: None,
    };

    /// The year that stands for `year`; never a later one.
    pub fn birth_year(&self, year: i64, over_89: bool) -> i64 {
        match i64::from(self.birth_years) {
            0 => 0,
            _ if over_89 && self.floor_year == Some(year) => year,
            width => (year - year.rem_euclid(width)).max(self.floor_year.unwrap_or(i64::MIN)).min(year),
        }
    }

    /// The ZIP code and state that stand for a place.
    pub(super) fn place<'p>(
        &self,
        zip: Option<&'p str>,
        state: Option<&'p str>,
    ) -> (Option<&'p str>, Option<&'p str>) {
        match self.place {
            Place::AsReleased => (zip, state),
            Place::Zip3 => (zip.and_then(|z| z.get(..3)), state),
            Place::State => (None, state),
            Place::Withheld => (None, None),
        }
    }

    /// Applies the recoding to a batch of any table and leaves out the `suppressed` people; `None` if the table does not
    /// leave. `person_id` must be as it was when the people were added to [`super::People`].
    ///
    /// # Errors
    /// Arrow's, if the batch is not of the table.
    pub fn apply(
        &self,
        spec: &TableSpec,
        batch: &RecordBatch,
        suppressed: &BTreeSet<i64>,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        if spec.table == "death" && !self.death {
            return Ok(None);
        }
        let missing = || ArrowError::SchemaError(format!("not a batch of table {}", spec.table));
        let ids = batch.column_by_name("person_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let ids = ids.ok_or_else(missing)?;
        let stays: BooleanArray = ids.values().iter().map(|id| Some(!suppressed.contains(id))).collect();
        let batch = if suppressed.is_empty() { batch.clone() } else { filter_record_batch(batch, &stays)? };
        if spec.table != "person" {
            return Ok(Some(batch));
        }
        let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
            self.person_column(field.name(), column, &batch).unwrap_or_else(|| Arc::clone(column))
        });
        RecordBatch::try_new(batch.schema(), columns.collect()).map(Some)
    }

    /// What the recoding does to a column, in words; `None` if nothing.
    pub fn of_column(&self, table: &str, column: &str) -> Option<String> {
        if table != "person" {
            return None;
        }
        let banded = self.birth_years != 1;
        let text = match (attribute_of(column)?, column) {
            (BIRTH, "year_of_birth" | "age_90_plus") if self.birth_years == 0 => "withheld",
            (BIRTH, "year_of_birth") if banded => {
                return Some(format!(
                    "generalised to bands of {} years, by their first year",
                    self.birth_years
                ));
            }
            (BIRTH, "month_of_birth" | "day_of_birth" | "birth_datetime") if !self.birth_date => "withheld",
            (PLACE, "zip") if self.place == Place::Zip3 => "generalised to three digits",
            (PLACE, "zip") if self.place > Place::Zip3 => "withheld",
            (PLACE, "state") if self.place == Place::Withheld => "withheld",
            (SEX, _) if !self.sex => "withheld",
            (RACE, _) if !self.race => "withheld",
            (ETHNICITY, _) if !self.ethnicity => "withheld",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// The changed column, or `None` if it stays.
    fn person_column(&self, name: &str, column: &ArrayRef, batch: &RecordBatch) -> Option<ArrayRef> {
        let nulls = || Some(new_null_array(column.data_type(), column.len()));
        let zeros = || Some(Arc::new(Int64Array::from(vec![0; column.len()])) as ArrayRef);
        match name {
            "year_of_birth" if self.birth_years != 1 => {
                let (years, flags) =
                    (column.as_primitive::<Int64Type>(), batch.column_by_name("age_90_plus")?.as_boolean());
                let year = |row: usize| self.birth_year(years.value(row), flags.value(row));
                Some(Arc::new((0..years.len()).map(year).collect::<Int64Array>()))
            }
            "age_90_plus" if self.birth_years == 0 => {
                Some(Arc::new(BooleanArray::from(vec![false; column.len()])))
            }
            "month_of_birth" | "day_of_birth" | "birth_datetime" if !self.birth_date => nulls(),
            "zip" | "state" if self.place != Place::AsReleased => {
                let of = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>().cloned();
                let (zips, states) = (of("zip")?, of("state")?);
                let at = |a: &'_ StringArray, row: usize| a.is_valid(row).then(|| a.value(row).to_owned());
                let rows = (0..column.len()).map(|row| {
                    let (zip, state) = (at(&zips, row), at(&states, row));
                    let (zip, state) = self.place(zip.as_deref(), state.as_deref());
                    if name == "zip" { zip } else { state }.map(str::to_owned)
                });
                Some(Arc::new(rows.collect::<StringArray>()))
            }
            _ => {
                let stays = match attribute_of(name)? {
                    SEX => self.sex,
                    RACE => self.race,
                    ETHNICITY => self.ethnicity,
                    _ => true,
                };
                match (stays, name.ends_with("_source_concept_id") || name.ends_with("_source_value")) {
                    (true, _) => None,
                    (false, true) => nulls(),
                    (false, false) => zeros(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who reads a manifest has no page beside it: a member that is `true` must say by its name what is so.
    #[test]
    fn what_a_manifest_says_of_a_recoding_reads_by_itself() {
        let told = serde_json::to_value(Recoding::NONE).expect("JSON");
        let told = told.as_object().expect("members");
        for (name, value) in told {
            assert_eq!(value.is_boolean(), name.ends_with("_kept"), "{name}");
        }
        assert_eq!(told["death_kept"], true);
    }
}
