//! Identifiers. A hospital's own patient id and the exchange's subject id are different types with no conversion
//! between them: the only way from one to the other is the registry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Sensitive;

/// Why a name was refused as an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 64 characters of `a-z 0-9 - _ .`, beginning with a letter or digit.
    #[error("an id is 1 to 64 characters of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit")]
    Slug,
    /// Not in `1 .. 2^53`.
    #[error("a subject id is a whole number from 1 to 2^53 - 1")]
    Subject,
}

/// What a slug is, for whoever sent another thing.
const SLUG: &str =
    "1 to 64 characters of a-z, 0-9, '-', '_' and single '.', beginning with a letter or digit";

fn is_slug(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    (1..=64).contains(&text.len())
        && text.bytes().all(ok)
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && !text.contains("..")
}

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_slug(text) { Ok(Self(text.to_owned())) } else { Err(IdError::Slug) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                if is_slug(&text) { Ok(Self(text)) } else { Err(IdError::Slug) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::try_from(String::deserialize(deserializer)?).map_err(|_| crate::misfit(SLUG))
            }
        }
    };
}

slug_id!(
    /// A hospital (or other institution) that gives data, e.g. `north-general`.
    ContributorId
);
slug_id!(
    /// A dataset; it has exactly one contributor.
    DatasetId
);
slug_id!(
    /// A research project.
    ProjectId
);
slug_id!(
    /// The institution that receives a release.
    RecipientId
);
slug_id!(
    /// A request for data made by a project.
    RequestId
);
slug_id!(
    /// A release: a frozen package of tables.
    ReleaseId
);

/// The exchange's own id of a person: random, in `1 .. 2^53` so that R and JavaScript keep it exact, and not derived
/// from the person (45 CFR 164.514(c)). It never leaves in a release, where every id is keyed again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SubjectId(i64);

impl SubjectId {
    /// One more than the largest subject id.
    pub const LIMIT: i64 = 1 << 53;

    /// Checks the range.
    ///
    /// # Errors
    /// [`IdError::Subject`] outside `1 .. 2^53`.
    pub const fn new(id: i64) -> Result<Self, IdError> {
        if id >= 1 && id < Self::LIMIT { Ok(Self(id)) } else { Err(IdError::Subject) }
    }

    /// Folds 64 random (or pseudo-random) bits into the range; `None` for the one value that would be 0.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let id = (bits >> 11) as i64;
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for SubjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?)
            .map_err(|_| crate::misfit("a whole number from 1 to 2^53 - 1"))
    }
}

/// A patient id as the hospital writes it (`Patient.id`, `person_id`). Identifying: never printed, logged or stored
/// outside the registry's keyed tokens.
pub type SourcePatientId = Sensitive<String>;

/// The position of an entry in the ledger, from 0. Order is ledger order.
pub type Seq = u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_safe_in_paths_and_urls() {
        for good in ["north", "a", "north-general_2.1", "0"] {
            assert!(good.parse::<ContributorId>().is_ok(), "{good}");
        }
        for bad in ["", "North", "a/b", "..", "a..b", "-a", ".a", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<ContributorId>(), Err(IdError::Slug), "{bad}");
        }
    }

    #[test]
    fn subject_ids_stay_exact_in_a_double() {
        assert!(SubjectId::new(0).is_err() && SubjectId::new(SubjectId::LIMIT).is_err());
        let top = SubjectId::from_bits(u64::MAX).expect("not zero").get();
        assert_eq!(top, SubjectId::LIMIT - 1);
        assert_eq!(top as f64 as i64, top);
        assert_eq!(SubjectId::from_bits(0x7ff), None);
    }
}
