//! People as rows of coded quasi-identifiers, gathered from record batches of the person and death tables.

use std::collections::{BTreeSet, HashMap};

use almoner_model::{Date, IdentifierClass, TableSpec, Tables};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};

use super::classes::{Classes, Hierarchy, TooManyValues};

/// Why risk cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RiskError {
    /// A column that `schemas/tables` declares a quasi-identifier, or that says something of the person as such, and that
    /// this module cannot generalise.
    #[error("{table}.{column} can tell who a person is, but there is no generalisation for it")]
    Undeclared {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// See [`TooManyValues`].
    #[error(transparent)]
    TooManyValues(#[from] TooManyValues),
    /// A batch of the person or death table lacks a column or has another type.
    #[error("the batch is not of table {0}")]
    NotTheTable(&'static str),
}

/// The quasi-identifying attributes of a person, in the order of the codes.
pub(super) const BIRTH: usize = 0;
pub(super) const PLACE: usize = 1;
pub(super) const SEX: usize = 2;
pub(super) const RACE: usize = 3;
pub(super) const ETHNICITY: usize = 4;
pub(super) const DEATH: usize = 5;
pub(super) const WIDTH: usize = 6;
/// Behind them, where the gate has it: the number of what earlier releases told of the person.
pub(super) const SEEN: usize = WIDTH;

/// Which columns of the person table make which attribute. The columns of an attribute are one: they are classed together,
/// and a recoding generalises or withholds all of them, so none tells what another does no longer say.
const ATTRIBUTES: [(usize, &[&str]); 5] = [
    (BIRTH, &["year_of_birth", "month_of_birth", "day_of_birth", "birth_datetime", "age_90_plus"]),
    (PLACE, &["zip", "state"]),
    (SEX, &["gender_concept_id", "gender_source_value", "gender_source_concept_id"]),
    (RACE, &["race_concept_id", "race_source_value", "race_source_concept_id"]),
    (ETHNICITY, &["ethnicity_concept_id", "ethnicity_source_value", "ethnicity_source_concept_id"]),
];

/// The attribute that a column of the person table is a part of.
pub(super) fn attribute_of(column: &str) -> Option<usize> {
    ATTRIBUTES.iter().find(|(_, columns)| columns.contains(&column)).map(|(attribute, _)| *attribute)
}

/// Columns of the person table that say nothing of a person once ids are replaced: they must be without values, but for
/// the person's own id.
fn is_reference(class: IdentifierClass) -> bool {
    matches!(class, IdentifierClass::SubjectId | IdentifierClass::StaffOrSiteRef | IdentifierClass::SourceId)
}

/// A birth as released.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Birth {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    /// `birth_datetime`, in microseconds since 1970.
    pub(super) instant: Option<i64>,
    pub(super) over_89: bool,
}

/// Values in the order in which they were first seen; a value's code is its position.
#[derive(Clone, Debug)]
pub(super) struct Values<T> {
    pub(super) list: Vec<T>,
    codes: HashMap<T, u32>,
}

impl<T: Clone + Eq + std::hash::Hash> Values<T> {
    fn new() -> Self {
        Self { list: Vec::new(), codes: HashMap::new() }
    }

    fn code(&mut self, value: T) -> u32 {
        if let Some(code) = self.codes.get(&value) {
            return *code;
        }
        let code = self.list.len() as u32;
        self.list.push(value.clone());
        self.codes.insert(value, code);
        code
    }

    /// A hierarchy that gives values with the same `general` value the same code.
    pub(super) fn level<G: Eq + std::hash::Hash>(&self, general: impl Fn(&T) -> G) -> Hierarchy {
        let mut seen = HashMap::new();
        let mut code = |value: &T| {
            let next = seen.len() as u32;
            *seen.entry(general(value)).or_insert(next)
        };
        self.list.iter().map(&mut code).collect()
    }
}

/// The standard concept, the code as the hospital wrote it, and the concept of that code.
type Coded = (i64, Option<String>, Option<i64>);
/// The day of death, and the moment where it is known.
type Death = (i32, Option<i64>);

/// People to be measured or released. Grows batch by batch; holds a few dozen bytes for each person.
#[derive(Clone)]
pub struct People {
    death_by_day: bool,
    ids: Vec<i64>,
    rows: Vec<u32>,
    pub(super) births: Values<Birth>,
    pub(super) places: Values<(Option<String>, Option<String>)>,
    coded: [Values<Coded>; 3],
    deaths: Values<Option<Death>>,
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "People({})", self.ids.len())
    }
}

impl People {
    /// Nobody yet. `death_by_day` says that true dates of death leave (they are neither moved nor floored): then the day
    /// is taken to be known to an adversary, else only the year.
    ///
    /// # Errors
    /// [`RiskError::Undeclared`] for a declared quasi-identifier, or a column of the person table, that there is no
    /// generalisation for.
    pub fn new(tables: &Tables, death_by_day: bool) -> Result<Self, RiskError> {
        for spec in tables.iter() {
            let known = |column: &str| match spec.table.as_str() {
                "person" => attribute_of(column).is_some(),
                "death" => ["death_date", "death_datetime"].contains(&column),
                _ => false,
            };
            let declared = spec.quasi_identifiers.iter().map(String::as_str);
            let persons = spec.columns.iter().filter(|c| spec.table == "person" && !is_reference(c.class));
            let mut telling = declared.chain(persons.map(|c| c.name.as_str()));
            if let Some(column) = telling.find(|c| !known(c)) {
                return Err(RiskError::Undeclared { table: spec.table.clone(), column: column.to_owned() });
            }
        }
        Ok(Self {
            death_by_day,
            ids: Vec::new(),
            rows: Vec::new(),
            births: Values::new(),
            places: Values::new(),
            coded: [Values::new(), Values::new(), Values::new()],
            deaths: Values::new(),
        })
    }

    /// Adds the people of a batch of the person table; `death` has the rows of the same people, in any order. Without
    /// it (the table does not leave), death is not a quasi-identifier.
    ///
    /// # Errors
    /// [`RiskError::NotTheTable`]; [`RiskError::Undeclared`] if a provider, a site or a hospital's own number is there.
    pub fn add(&mut self, person: &RecordBatch, death: Option<&RecordBatch>) -> Result<(), RiskError> {
        let wrong = || RiskError::NotTheTable("person");
        let column = |name: &str| person.column_by_name(name).ok_or_else(wrong);
        let ids = numbers(column("person_id")?).ok_or_else(wrong)?;
        let [year, month, day] = ["year_of_birth", "month_of_birth", "day_of_birth"]
            .map(|name| column(name).and_then(|c| numbers(c).ok_or_else(wrong)));
        let (year, month, day) = (year?, month?, day?);
        for name in ["location_id", "provider_id", "care_site_id", "person_source_value"] {
            if column(name)?.null_count() < person.num_rows() {
                return Err(RiskError::Undeclared { table: "person".into(), column: name.into() });
            }
        }
        let instant = moments(column("birth_datetime")?).ok_or_else(wrong)?;
        let flag = column("age_90_plus")?.as_boolean_opt().ok_or_else(wrong)?;
        let (zip, state) = (texts(column("zip")?), texts(column("state")?));
        let mut coded = Vec::with_capacity(3);
        for name in ["gender", "race", "ethnicity"] {
            let concept = numbers(column(&format!("{name}_concept_id"))?).ok_or_else(wrong)?;
            let of_source = numbers(column(&format!("{name}_source_concept_id"))?).ok_or_else(wrong)?;
            coded.push((concept, texts(column(&format!("{name}_source_value"))?), of_source));
        }
        let deaths = self.deaths_of(death)?;
        for row in 0..person.num_rows() {
            let id = ids(row).unwrap_or_default();
            let birth = Birth {
                year: year(row).unwrap_or_default(),
                month: month(row).unwrap_or_default(),
                day: day(row).unwrap_or_default(),
                instant: instant(row),
                over_89: flag.value(row),
            };
            let mut codes = [0; WIDTH];
            codes[BIRTH] = self.births.code(birth);
            codes[PLACE] = self.places.code((zip(row), state(row)));
            for (at, (concept, source, of_source)) in coded.iter().enumerate() {
                let value = (concept(row).unwrap_or_default(), source(row), of_source(row));
                codes[SEX + at] = self.coded[at].code(value);
            }
            codes[DEATH] = self.deaths.code(deaths.get(&id).copied());
            self.ids.push(id);
            self.rows.extend_from_slice(&codes);
        }
        Ok(())
    }

    fn deaths_of(&self, death: Option<&RecordBatch>) -> Result<HashMap<i64, Death>, RiskError> {
        let Some(death) = death else { return Ok(HashMap::new()) };
        let wrong = || RiskError::NotTheTable("death");
        let column = |name: &str| death.column_by_name(name).ok_or_else(wrong);
        let ids = numbers(column("person_id")?).ok_or_else(wrong)?;
        let days = column("death_date")?.as_primitive_opt::<Date32Type>().ok_or_else(wrong)?;
        let moments = moments(column("death_datetime")?).ok_or_else(wrong)?;
        let known = |row: usize| {
            let day = days.value(row);
            if self.death_by_day {
                (day, moments(row))
            } else {
                (Date::from_days(day).start_of_year().days(), None)
            }
        };
        Ok((0..death.num_rows()).filter_map(|row| Some((ids(row)?, known(row)))).collect())
    }

    /// How many people there are.
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is nobody.
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Their classes, as they are.
    pub(super) fn classes(&self) -> Result<Classes, RiskError> {
        Ok(Classes::of_rows(WIDTH, &self.rows)?.0)
    }

    /// Their classes by the attributes and [`SEEN`], which is `seen` of each person's position; with the class of each.
    pub(super) fn classed(&self, seen: &[u32]) -> Result<(Classes, Vec<u32>), RiskError> {
        let mut rows = Vec::with_capacity(self.len() * (WIDTH + 1));
        for (codes, seen) in self.rows.chunks_exact(WIDTH).zip(seen) {
            rows.extend_from_slice(codes);
            rows.push(*seen);
        }
        Ok(Classes::of_rows(WIDTH + 1, &rows)?)
    }

    /// Each `person_id` with the number of its class, as they are: equal numbers, equal in everything that is known here.
    pub(super) fn class_of_each(&self) -> Result<Vec<(i64, u32)>, RiskError> {
        let (_, of_each) = Classes::of_rows(WIDTH, &self.rows)?;
        Ok(self.ids.iter().copied().zip(of_each).collect())
    }

    /// Their `person_id`s, by position.
    pub(super) fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// These people of them.
    #[cfg(test)]
    pub(super) fn only(&self, ids: &[i64]) -> Self {
        let mut out = Self { ids: Vec::new(), rows: Vec::new(), ..self.clone() };
        for (id, codes) in
            self.ids.iter().zip(self.rows.chunks_exact(WIDTH)).filter(|(id, _)| ids.contains(id))
        {
            out.ids.push(*id);
            out.rows.extend_from_slice(codes);
        }
        out
    }

    /// The people for whom `pick` holds, given their position.
    pub(super) fn pick(&self, pick: impl Fn(usize) -> bool) -> BTreeSet<i64> {
        self.ids.iter().enumerate().filter(|(at, _)| pick(*at)).map(|(_, id)| *id).collect()
    }

    /// Of `classes` those of people who died, with how many they are.
    pub(super) fn dead<'p>(&'p self, classes: &'p Classes) -> impl Iterator<Item = (usize, u64)> + 'p {
        let died = |class: &usize| self.deaths.list[classes.codes(*class)[DEATH] as usize].is_some();
        (0..classes.len()).filter(died).map(|class| (class, classes.counts()[class]))
    }

    /// How many values an attribute of sex, race, ethnicity or death has.
    pub(super) fn values(&self, attribute: usize) -> usize {
        match attribute {
            BIRTH => self.births.list.len(),
            PLACE => self.places.list.len(),
            DEATH => self.deaths.list.len(),
            coded => self.coded[coded - SEX].list.len(),
        }
    }

    /// The year of birth that stands for everyone of 90 or older; `None` if there is nobody of that age or if the profile
    /// left their years apart.
    pub(super) fn floor_year(&self) -> Option<i64> {
        let mut years = self.births.list.iter().filter(|b| b.over_89).map(|b| b.year);
        let first = years.next()?;
        years.all(|year| year == first).then_some(first)
    }
}

/// Reads an `Int64` column, nulls as `None`.
fn numbers(array: &ArrayRef) -> Option<impl Fn(usize) -> Option<i64> + '_> {
    let array = array.as_primitive_opt::<Int64Type>()?;
    Some(move |row: usize| array.is_valid(row).then(|| array.value(row)))
}

/// Reads a datetime column in microseconds since 1970, nulls as `None`.
fn moments(array: &ArrayRef) -> Option<impl Fn(usize) -> Option<i64> + '_> {
    let array = array.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(move |row: usize| array.is_valid(row).then(|| array.value(row)))
}

/// Reads a text column, nulls as `None`.
fn texts(array: &ArrayRef) -> impl Fn(usize) -> Option<String> + '_ {
    let array = array.as_string_opt::<i32>();
    move |row: usize| array.filter(|a| a.is_valid(row)).map(|a| a.value(row).to_owned())
}

/// The declared quasi-identifiers, `table.column`, for reports.
pub(super) fn declared(tables: &Tables) -> Vec<String> {
    let of = |spec: &TableSpec| -> Vec<String> {
        spec.quasi_identifiers.iter().map(|c| format!("{}.{c}", spec.table)).collect()
    };
    tables.iter().flat_map(of).collect()
}
