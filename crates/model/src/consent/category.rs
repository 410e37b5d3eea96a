//! Categories of data: what a directive can permit or deny separately.
//!
//! An ordinary category is one or more canonical tables. A sensitive category (mental health, HIV, …) has no table of its
//! own: it shows in many, so denying it withholds every ordinary category that could reveal it, notes always among them.
//! Codes are not weighed one by one: a category that might reveal is withheld whole.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! categories {
    ($($variant:ident $name:literal [$($table:literal),*];)*) => {
        /// One category of data.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Category { $(#[doc = $name] $variant),* }

        impl Category {
            /// All of them; ordinary ones first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As written in forms and payloads.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The canonical tables whose rows are of this category; none for a sensitive category.
            pub const fn tables(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($table),*]),* }
            }
        }
    };
}

categories! {
    Demographics "demographics" ["person", "observation_period"];
    Visits "visits" ["visit_occurrence", "visit_detail"];
    Conditions "conditions" ["condition_occurrence", "condition_era"];
    Drugs "drugs" ["drug_exposure", "drug_era"];
    Procedures "procedures" ["procedure_occurrence"];
    Devices "devices" ["device_exposure"];
    Measurements "measurements" ["measurement"];
    Observations "observations" ["observation"];
    Deaths "deaths" ["death"];
    Notes "notes" ["note"];
    Specimens "specimens" ["specimen"];
    MentalHealth "mental_health" [];
    SubstanceUse "substance_use" [];
    SexualHealth "sexual_health" [];
    Hiv "hiv" [];
    Genetics "genetics" [];
    Violence "violence" [];
}

impl Category {
    /// The category of a canonical table; `None` for a table that is not one.
    pub fn of_table(table: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.tables().contains(&table))
    }

    /// Whether it has no table of its own.
    pub const fn is_sensitive(self) -> bool {
        self.tables().is_empty()
    }

    /// Whether data of category `other` is, or could reveal, data of this category. The person row reveals no sensitive
    /// category; everything clinical could, visits (a ward), deaths (their cause) and notes included. Genetics is
    /// the results of genetic tests: they show where results, specimens, procedures and notes are.
    pub const fn shows_in(self, other: Self) -> bool {
        if self as u8 == other as u8 {
            return true;
        }
        if !self.is_sensitive() || other.is_sensitive() {
            return false;
        }
        let revealed_by_nothing = matches!(other, Self::Demographics);
        let no_test_result =
            matches!(other, Self::Visits | Self::Conditions | Self::Drugs | Self::Devices | Self::Deaths);
        !(revealed_by_nothing || matches!(self, Self::Genetics) && no_test_result)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a category of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a category of data")]
pub struct NotACategory;

impl FromStr for Category {
    type Err = NotACategory;
    fn from_str(text: &str) -> Result<Self, NotACategory> {
        Self::ALL.iter().copied().find(|c| c.name() == text).ok_or(NotACategory)
    }
}

impl Serialize for Category {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Category {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| {
            crate::misfit(&format!(
                "one of {}",
                Self::ALL.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ")
            ))
        })
    }
}

/// A set of categories. Serialised as a list of names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CategorySet(u32);

impl CategorySet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// The categories of the named canonical tables.
    ///
    /// # Errors
    /// The first name that is not a canonical table.
    pub fn of_tables<'a>(tables: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        tables.into_iter().try_fold(Self::EMPTY, |set, t| Category::of_table(t).map(|c| set.with(c)).ok_or(t))
    }

    /// This set and `category`.
    #[must_use]
    pub const fn with(self, category: Category) -> Self {
        Self(self.0 | 1 << category as u8)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `category` is in it.
    pub const fn contains(self, category: Category) -> bool {
        self.0 & (1 << category as u8) != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its categories in order.
    pub fn iter(self) -> impl Iterator<Item = Category> {
        Category::ALL.iter().copied().filter(move |c| self.contains(*c))
    }
}

impl FromIterator<Category> for CategorySet {
    fn from_iter<I: IntoIterator<Item = Category>>(categories: I) -> Self {
        categories.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for CategorySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for CategorySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for CategorySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Category>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tables;

    #[test]
    fn every_canonical_table_has_exactly_one_category() {
        for table in Tables::embedded().expect("consistent").iter() {
            let holders = Category::ALL.iter().filter(|c| c.tables().contains(&table.table.as_str())).count();
            assert_eq!(holders, 1, "{}", table.table);
        }
        assert_eq!(CategorySet::of_tables(["person", "payer_plan_period"]), Err("payer_plan_period"));
    }

    #[test]
    fn a_sensitive_category_shows_in_notes_drugs_and_labs() {
        for sensitive in Category::ALL.iter().filter(|c| c.is_sensitive()) {
            for reveals in [Category::Notes, Category::Measurements] {
                assert!(sensitive.shows_in(reveals));
            }
            let treated = *sensitive != Category::Genetics;
            assert_eq!(sensitive.shows_in(Category::Drugs), treated, "{sensitive}");
            assert_eq!(sensitive.shows_in(Category::Conditions), treated, "{sensitive}");
            assert!(!sensitive.shows_in(Category::Demographics));
        }
        assert!(!Category::Drugs.shows_in(Category::Notes));
    }

    #[test]
    fn sets_are_lists_of_names() {
        let set: CategorySet = [Category::Hiv, Category::Drugs].into_iter().collect();
        let text = serde_json::to_string(&set).expect("serialises");
        assert_eq!(text, r#"["drugs","hiv"]"#);
        assert_eq!(serde_json::from_str::<CategorySet>(&text).expect("reads"), set);
    }
}
