//! The FHIR R4 data types that mapping reads, borrowed from the line.
//!
//! Unknown elements are passed over without being built; an element of another JSON type than FHIR's makes the resource
//! `wrong-type`. Nothing here is checked beyond its shape.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize as Derive;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A string borrowed from the line unless it has escapes. Does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    /// Not borrowed from a line.
    pub fn owned(text: &str) -> Text<'static> {
        Text(Cow::Owned(text.to_owned()))
    }
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// The text of an optional element, empty if absent.
pub fn text<'t>(element: &'t Option<Text<'_>>) -> &'t str {
    element.as_deref().unwrap_or_default()
}

/// Coding (R4 §2.24.0.5).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct Coding<'a> {
    #[serde(borrow)]
    pub system: Option<Text<'a>>,
    pub code: Option<Text<'a>>,
}

/// CodeableConcept (R4 §2.24.0.6).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct CodeableConcept<'a> {
    #[serde(borrow)]
    pub coding: Vec<Coding<'a>>,
}

impl CodeableConcept<'_> {
    /// Whether any coding has this code, of whatever system: for elements with a required binding.
    pub fn has(&self, codes: &[&str]) -> bool {
        self.coding.iter().any(|coding| codes.contains(&text(&coding.code)))
    }
}

/// Reference (R4 §2.3).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct Reference<'a> {
    #[serde(borrow)]
    pub reference: Option<Text<'a>>,
    pub identifier: Option<Identifier<'a>>,
}

/// Identifier (R4 §2.24.0.14).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct Identifier<'a> {
    #[serde(borrow)]
    pub r#use: Option<Text<'a>>,
    pub r#type: Option<CodeableConcept<'a>>,
    pub system: Option<Text<'a>>,
    pub value: Option<Text<'a>>,
}

/// Period (R4 §2.24.0.13).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct Period<'a> {
    #[serde(borrow)]
    pub start: Option<Text<'a>>,
    pub end: Option<Text<'a>>,
}

/// Quantity (R4 §2.24.0.8).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct Quantity<'a> {
    #[serde(borrow)]
    pub system: Option<Text<'a>>,
    pub code: Option<Text<'a>>,
    pub comparator: Option<Text<'a>>,
    pub value: Option<f64>,
}

impl Quantity<'_> {
    /// Its number, if it is just that: a number with a comparator (`<5`) is none.
    pub fn exact(&self) -> Option<f64> {
        self.value.filter(|_| text(&self.comparator).is_empty())
    }
}

/// HumanName (R4 §2.24.0.15).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct HumanName<'a> {
    #[serde(borrow)]
    pub r#use: Option<Text<'a>>,
    pub family: Option<Text<'a>>,
    pub given: Vec<Option<Text<'a>>>,
}

/// ContactPoint (R4 §2.24.0.18).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default)]
pub struct ContactPoint<'a> {
    #[serde(borrow)]
    pub system: Option<Text<'a>>,
    pub value: Option<Text<'a>>,
}

/// Address (R4 §2.24.0.16).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default, rename_all = "camelCase")]
pub struct Address<'a> {
    #[serde(borrow)]
    pub r#use: Option<Text<'a>>,
    pub line: Vec<Option<Text<'a>>>,
    pub city: Option<Text<'a>>,
    pub state: Option<Text<'a>>,
    pub postal_code: Option<Text<'a>>,
    pub country: Option<Text<'a>>,
    pub period: Option<Period<'a>>,
}

/// Extension (R4 §2.5), as far as US Core's race, ethnicity and birth sex need.
#[derive(Clone, Debug, Default, Derive)]
#[serde(default, rename_all = "camelCase")]
pub struct Extension<'a> {
    #[serde(borrow)]
    pub url: Option<Text<'a>>,
    pub value_code: Option<Text<'a>>,
    pub value_coding: Option<Coding<'a>>,
    pub extension: Vec<Extension<'a>>,
}

/// Observation.referenceRange (R4 §10.1.3).
#[derive(Clone, Debug, Default, Derive)]
#[serde(default, rename_all = "camelCase")]
pub struct ReferenceRange<'a> {
    #[serde(borrow)]
    pub low: Option<Quantity<'a>>,
    pub high: Option<Quantity<'a>>,
    pub r#type: Option<CodeableConcept<'a>>,
    pub applies_to: Vec<CodeableConcept<'a>>,
    pub age: Option<serde::de::IgnoredAny>,
}

impl ReferenceRange<'_> {
    /// Whether it says what is normal (and not what is therapeutic or critical).
    fn is_normal(&self) -> bool {
        self.r#type.as_ref().is_none_or(|kind| kind.coding.is_empty() || kind.has(&["normal"]))
    }
}

/// The range that is normal for this result: the only one of its kind, or the only one that is not for some people or ages.
pub fn normal_range<'r>(ranges: &'r [ReferenceRange<'r>]) -> Option<&'r ReferenceRange<'r>> {
    let normal: Vec<_> = ranges.iter().filter(|range| range.is_normal()).collect();
    let general = || normal.iter().filter(|range| range.applies_to.is_empty() && range.age.is_none());
    match normal.as_slice() {
        [one] => Some(one),
        _ if general().count() == 1 => general().next().copied(),
        _ => None,
    }
}
