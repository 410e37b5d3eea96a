//! Profiles: what is done about each class of identifier, from `schemas/deid/*.toml`.
//!
//! Loading is total: every class has an action, every action fits the type and nullability of every column of its class
//! in `schemas/tables`, no key is unknown, and no action is weaker than the legal basis that the profile claims allows.
//! A profile that loads can be applied to every canonical table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use almoner_model::{Code, ColumnSpec, ColumnType, DatePrecision, Digest, IdentifierClass, Tables};
use serde::{Deserialize, Serialize};

use crate::ages::Ages;
use crate::offset::SHIFT_DAYS_MAX;

/// What is done about a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays as it is.
    Keep,
    /// It becomes null.
    Drop,
    /// The rows that carry it do not leave.
    DropRows,
    /// It is the exchange's own random id already, and stays.
    Pseudonym,
    /// A date moves back by the person's offset; a year of birth becomes the year of the moved date of birth.
    Shift,
    /// A date is floored to 1 January of its year; a year of birth stays a year.
    Year,
    /// The first three digits of a ZIP code where enough people live there, else `000`.
    Zip3,
    /// The first five digits of a ZIP code.
    Zip5,
    /// It stays only if a known code system could have made it, else it becomes null.
    Code,
    /// It says whether the person is 90 or older.
    TopCode,
}

impl Action {
    /// Whether this action leaves no more of a value than `other` does. A partial order.
    pub fn at_least_as_strict_as(self, other: Self) -> bool {
        use Action::{Drop, DropRows, Keep, Shift, Year, Zip3, Zip5};
        self == other
            || matches!((self, other), (Drop | DropRows, _) | (_, Keep) | (Zip3, Zip5) | (Year, Shift))
    }

    /// Whether the action can be carried out on `column`.
    fn fits(self, column: &ColumnSpec) -> Result<(), &'static str> {
        use ColumnType::{Bool, Date, Datetime, Int64, String};
        let birth_year = column.class == IdentifierClass::BirthYear;
        let ok = match self {
            Self::Keep | Self::DropRows => return Ok(()),
            Self::Drop if column.nullable => return Ok(()),
            Self::Drop => return Err("drop needs a column that may be null"),
            Self::Pseudonym => column.class == IdentifierClass::SubjectId && column.kind == Int64,
            Self::Shift | Self::Year => {
                matches!(column.kind, Date | Datetime) || (birth_year && column.kind == Int64)
            }
            Self::Zip3 | Self::Zip5 | Self::Code => column.kind == String && column.nullable,
            Self::TopCode => column.class == IdentifierClass::AgeFlag && column.kind == Bool,
        };
        if ok { Ok(()) } else { Err("the action does not fit the type of the column") }
    }
}

/// The legal ground on which a profile's output may leave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// 45 CFR 164.514(b)(2).
    SafeHarbor,
    /// 45 CFR 164.514(b)(1).
    ExpertDetermination,
    /// 45 CFR 164.514(e).
    LimitedDataSet,
}

impl Basis {
    /// The weakest action that the basis allows for a class. Free text, notes, device identifiers and source ids leave
    /// on no basis.
    pub const fn floor(self, class: IdentifierClass) -> Action {
        use IdentifierClass as C;
        match (class, self) {
            (C::SubjectId, _) => Action::Pseudonym,
            (C::SourceId | C::FreeText | C::DeviceIdentifier | C::NoteText, _) => Action::Drop,
            (C::SourceCode, _) => Action::Code,
            (C::PostalCode, Self::SafeHarbor) => Action::Zip3,
            (C::PostalCode, _) => Action::Zip5,
            (C::StaffOrSiteRef, Self::SafeHarbor) => Action::Drop,
            (C::BirthMonth | C::BirthDay | C::BirthDatetime | C::EventTime, Self::SafeHarbor) => Action::Drop,
            (C::BirthYear | C::EventDate | C::EventDatetime, Self::SafeHarbor) => Action::Year,
            (C::AgeFlag, Self::SafeHarbor) => Action::TopCode,
            _ => Action::Keep,
        }
    }
}

/// What a dataset says of itself, as far as de-identification changed what can be asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declares {
    /// `day` or `year`.
    pub date_precision: DatePrecision,
    /// Whether dates were moved.
    pub shifted: bool,
    /// By how many days at most, all applications together.
    pub shift_days_max: u32,
    /// Whether times of day stay.
    pub times_kept: bool,
    /// The age from which people form one group.
    pub age_top_code: Option<u32>,
    /// How many digits of a ZIP code stay.
    pub zip_digits: u8,
}

impl Declares {
    /// What holds after this was applied to data that already declares `before`.
    #[must_use]
    pub fn after(self, before: Self) -> Self {
        Self {
            date_precision: self.date_precision.min(before.date_precision),
            shifted: self.shifted || before.shifted,
            shift_days_max: self.shift_days_max + before.shift_days_max,
            times_kept: self.times_kept && before.times_kept,
            age_top_code: match (self.age_top_code, before.age_top_code) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            zip_digits: self.zip_digits.min(before.zip_digits),
        }
    }
}

/// Why a profile does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not the TOML that a profile is (an unknown key or action is reported here too).
    #[error("profile: {0}")]
    Toml(String),
    /// Another format.
    #[error("profile: format is not almoner-deid-profile/1")]
    Format,
    /// A class without an action: nothing leaves by default.
    #[error("profile {profile}: class {class:?} has no action; name one (drop is always safe)")]
    Missing {
        /// The profile.
        profile: String,
        /// The class.
        class: IdentifierClass,
    },
    /// The action cannot be carried out on a column of its class.
    #[error("profile {profile}: {action:?} for {table}.{column}: {reason}")]
    Unfit {
        /// The profile.
        profile: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The action.
        action: Action,
        /// Why not.
        reason: &'static str,
    },
    /// The action leaves more than the claimed basis allows.
    #[error(
        "profile {profile}: {action:?} for class {class:?} leaves more than {basis:?} allows ({floor:?} or stricter)"
    )]
    TooWeak {
        /// The profile.
        profile: String,
        /// The class.
        class: IdentifierClass,
        /// The action.
        action: Action,
        /// The claimed basis.
        basis: Basis,
        /// The weakest that it allows.
        floor: Action,
    },
    /// Top-coding of ages is switched on without the actions it needs, or off where the basis asks for it.
    #[error(
        "profile {profile}: age_top_code needs birth_year = year, shift or drop and age_flag = top_code, and Safe Harbor needs age_top_code"
    )]
    TopCode {
        /// The profile.
        profile: String,
    },
    /// A name that is none of the built-in profiles.
    #[error("there is no profile {0:?}; there are safe-harbor, date-shifted and limited")]
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    format: String,
    name: String,
    version: u32,
    basis: Basis,
    title: String,
    age_top_code: bool,
    classes: BTreeMap<IdentifierClass, Action>,
}

/// A checked profile, with the tables it was checked against.
#[derive(Clone)]
pub struct Profile {
    tables: Tables,
    name: String,
    version: u32,
    basis: Basis,
    title: String,
    age_top_code: bool,
    ages: Arc<Ages>,
    actions: BTreeMap<IdentifierClass, Action>,
    digest: Digest,
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.tables.digest() == other.tables.digest()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile({} v{})", self.name, self.version)
    }
}

/// One action with what else the profile says that bears on it: all that [`crate::transform`] needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The action.
    pub action: Action,
    /// Whether ages over 89 form one group.
    pub age_top_code: bool,
}

const EMBEDDED: &[(&str, &str)] = &[
    ("safe-harbor", include_str!("../../../schemas/deid/safe-harbor.toml")),
    ("date-shifted", include_str!("../../../schemas/deid/date-shifted.toml")),
    ("limited", include_str!("../../../schemas/deid/limited.toml")),
];

impl Profile {
    /// The names of the built-in profiles.
    pub const NAMES: [&'static str; 3] = ["safe-harbor", "date-shifted", "limited"];

    /// Reads a profile and checks it against the tables.
    ///
    /// # Errors
    /// [`ProfileError`]: what is missing, unknown, unfit or too weak.
    pub fn load(text: &str, tables: &Tables) -> Result<Self, ProfileError> {
        let source: Source = toml::from_str(text).map_err(|e| ProfileError::Toml(e.message().to_owned()))?;
        if source.format != "almoner-deid-profile/1" {
            return Err(ProfileError::Format);
        }
        let profile = Self {
            tables: tables.clone(),
            name: source.name,
            version: source.version,
            basis: source.basis,
            title: source.title,
            age_top_code: source.age_top_code,
            ages: Arc::new(Ages::current().map_err(|e| ProfileError::Toml(e.to_string()))?),
            actions: source.classes,
            // What a profile does about ages is part of what it is.
            digest: Digest::of(if source.age_top_code {
                [text, Ages::text()].concat()
            } else {
                text.to_owned()
            }),
        };
        profile.check()?;
        Ok(profile)
    }

    /// A built-in profile.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`] for another name; the built-in texts themselves load, which a test keeps so.
    pub fn named(name: &str, tables: &Tables) -> Result<Self, ProfileError> {
        let text = EMBEDDED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
        Self::load(text.ok_or_else(|| ProfileError::Unknown(name.to_owned()))?, tables)
    }

    fn check(&self) -> Result<(), ProfileError> {
        let profile = || self.name.clone();
        for &class in IdentifierClass::ALL {
            let Some(&action) = self.actions.get(&class) else {
                return Err(ProfileError::Missing { profile: profile(), class });
            };
            let floor = self.basis.floor(class);
            if !action.at_least_as_strict_as(floor) {
                return Err(ProfileError::TooWeak {
                    profile: profile(),
                    class,
                    action,
                    basis: self.basis,
                    floor,
                });
            }
        }
        for table in self.tables.iter() {
            for column in &table.columns {
                let action = self.rule(column.class).action;
                action.fits(column).map_err(|reason| ProfileError::Unfit {
                    profile: profile(),
                    table: table.table.clone(),
                    column: column.name.clone(),
                    action,
                    reason,
                })?;
            }
        }
        let coded = self.rule(IdentifierClass::BirthYear).action != Action::Keep
            && self.rule(IdentifierClass::AgeFlag).action == Action::TopCode;
        let needed = self.basis == Basis::SafeHarbor;
        if (self.age_top_code && !coded) || (needed && !self.age_top_code) {
            return Err(ProfileError::TopCode { profile: profile() });
        }
        Ok(())
    }

    /// What is done about a class.
    pub fn rule(&self, class: IdentifierClass) -> Rule {
        let action = self.actions.get(&class).copied().unwrap_or(Action::DropRows);
        Rule { action, age_top_code: self.age_top_code }
    }

    /// The tables it was checked against.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Its title, for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The legal basis that it claims.
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// SHA-256 of its text, followed by that of `schemas/deid/ages.toml` where it top-codes ages.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether ages over 89 form one group.
    pub const fn age_top_code(&self) -> bool {
        self.age_top_code
    }

    /// Which results tell an age or a birth.
    pub fn ages(&self) -> &Ages {
        &self.ages
    }

    /// The same profile, which also takes the concepts that `of` knows for the listed codes for what the codes are.
    #[must_use]
    pub fn with_age_concepts(mut self, of: impl Fn(&Code) -> Vec<i64>) -> Self {
        self.ages = Arc::new(Ages::clone(&self.ages).with_concepts(of));
        self
    }

    /// What data says of itself after this profile was applied to true data.
    pub fn declares(&self) -> Declares {
        use IdentifierClass as C;
        let action = |class| self.rule(class).action;
        let shifted = action(C::EventDate) == Action::Shift;
        let times = |class| matches!(action(class), Action::Keep | Action::Shift);
        Declares {
            date_precision: match action(C::EventDate) {
                Action::Keep | Action::Shift => DatePrecision::Day,
                _ => DatePrecision::Year,
            },
            shifted,
            shift_days_max: if shifted { SHIFT_DAYS_MAX } else { 0 },
            times_kept: times(C::EventDatetime) || times(C::EventTime),
            age_top_code: self.age_top_code.then_some(90),
            zip_digits: match action(C::PostalCode) {
                Action::Keep | Action::Zip5 => 5,
                Action::Zip3 => 3,
                _ => 0,
            },
        }
    }

    /// Whether this profile leaves no more of any class than `other`. Only such a profile may be applied to data that
    /// `other` was applied to.
    pub fn at_least_as_strict_as(&self, other: &Self) -> bool {
        let stricter = |&class: &IdentifierClass| {
            self.rule(class).action.at_least_as_strict_as(other.rule(class).action)
        };
        (self.age_top_code || !other.age_top_code) && IdentifierClass::ALL.iter().all(stricter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn edited(name: &str, from: &str, to: &str) -> Result<Profile, ProfileError> {
        let text = EMBEDDED.iter().find(|(n, _)| *n == name).expect("built in").1;
        assert!(text.contains(from), "{from}");
        Profile::load(&text.replacen(from, to, 1), &testing::tables())
    }

    #[test]
    fn the_built_in_profiles_load_and_declare() {
        let [safe, shifted, limited] = Profile::NAMES.map(|n| testing::profile(n).declares());
        let day = |shifted: bool, top, zip, times| Declares {
            date_precision: DatePrecision::Day,
            shifted,
            shift_days_max: if shifted { 365 } else { 0 },
            times_kept: times,
            age_top_code: top,
            zip_digits: zip,
        };
        assert_eq!(safe, Declares { date_precision: DatePrecision::Year, ..day(false, Some(90), 3, false) });
        assert_eq!(shifted, day(true, Some(90), 3, false));
        assert_eq!(limited, day(false, None, 5, true));
        assert_eq!(shifted.after(shifted).shift_days_max, 730);
        assert_eq!(safe.after(shifted).date_precision, DatePrecision::Year);
        assert!(safe.after(shifted).shifted && !limited.after(shifted).times_kept);
        assert_eq!(limited.after(safe).age_top_code, Some(90));
        assert_eq!(limited.after(shifted).zip_digits, 3);
        assert!(matches!(Profile::named("open", &testing::tables()), Err(ProfileError::Unknown(_))));
    }

    #[test]
    fn strictness_is_a_chain_of_the_three() {
        let [safe, shifted, limited] = Profile::NAMES.map(testing::profile);
        let order = [&limited, &shifted, &safe];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(a.at_least_as_strict_as(b), i >= j, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn every_class_needs_an_action() {
        for line in ["source_id         = \"drop\"", "age_flag          = \"top_code\""] {
            assert!(matches!(edited("safe-harbor", line, ""), Err(ProfileError::Missing { .. })), "{line}");
        }
    }

    #[test]
    fn unknown_keys_classes_actions_and_formats_are_refused() {
        for (from, to) in [
            ("region  ", "planet  "),
            ("= \"zip3\"", "= \"zip2\""),
            ("version = 1", "version = 1\nnotes = true"),
            ("version = 1", ""),
            ("age_top_code = true", "age_top_code = true\nage_codes = [\"LOINC:30525-0\"]"),
        ] {
            assert!(matches!(edited("safe-harbor", from, to), Err(ProfileError::Toml(_))), "{from}");
        }
        assert_eq!(edited("limited", "profile/1", "profile/9"), Err(ProfileError::Format));
    }

    #[test]
    fn an_action_must_fit_the_column() {
        for (from, to) in [
            ("concept           = \"keep\"", "concept           = \"drop\""),
            ("region            = \"keep\"", "region            = \"shift\""),
            ("quantity          = \"keep\"", "quantity          = \"code\""),
            ("event_ref         = \"keep\"", "event_ref         = \"pseudonym\""),
            ("region            = \"keep\"", "region            = \"top_code\""),
            ("event_id          = \"keep\"", "event_id          = \"year\""),
        ] {
            assert!(matches!(edited("date-shifted", from, to), Err(ProfileError::Unfit { .. })), "{to}");
        }
    }

    #[test]
    fn a_profile_cannot_claim_a_basis_that_forbids_it() {
        for (from, to) in [
            ("event_date        = \"year\"", "event_date        = \"shift\""),
            ("postal_code       = \"zip3\"", "postal_code       = \"zip5\""),
            ("birth_month       = \"drop\"", "birth_month       = \"keep\""),
            ("source_code       = \"code\"", "source_code       = \"keep\""),
            ("subject_id        = \"pseudonym\"", "subject_id        = \"keep\""),
            ("event_time        = \"drop\"", "event_time        = \"keep\""),
            ("staff_or_site_ref = \"drop\"", "staff_or_site_ref = \"keep\""),
        ] {
            assert!(matches!(edited("safe-harbor", from, to), Err(ProfileError::TooWeak { .. })), "{to}");
        }
        for name in Profile::NAMES {
            for class in ["source_id        ", "free_text        ", "device_identifier"] {
                let from = format!("{class} = \"drop\"");
                let result = edited(name, &from, &format!("{class} = \"keep\""));
                assert!(matches!(result, Err(ProfileError::TooWeak { .. })), "{name} {class}");
            }
        }
        let off = edited("safe-harbor", "age_top_code = true", "age_top_code = false");
        assert!(matches!(off, Err(ProfileError::TopCode { .. })));
        let kept = edited("date-shifted", "birth_year        = \"shift\"", "birth_year        = \"keep\"");
        assert!(matches!(kept, Err(ProfileError::TopCode { .. })));
    }
}
