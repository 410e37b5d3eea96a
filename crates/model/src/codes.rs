//! Codes of known systems. A source value is kept as `VOCABULARY:code` (`SNOMED:44054006`) only if its system is known
//! and the text is one that the system could have made: its check digit is right, its layout is that of the system, or it
//! stands on the system's list (`schemas/codes`). Anything else is where identifiers hide.
//!
//! Not found is a short number under a system whose codes are short numbers without a check digit (CPT, CVX, RxNorm).

mod syntax;
mod ucum;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! accepts {
    (ucum, $code:expr) => {
        ucum::is_unit($code)
    };
    ($list:literal, $code:expr) => {
        syntax::listed(include_str!(concat!("../../../schemas/codes/", $list, ".txt")), $code)
    };
    ($syntax:ident, $code:expr) => {
        syntax::$syntax($code)
    };
}

macro_rules! vocabularies {
    ($($variant:ident $id:literal $syntax:tt [$($uri:literal),*];)*) => {
        /// A code system, named as OMOP names its vocabularies (`vocabulary_id`).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Vocabulary { $(#[doc = $id] $variant),* }

        impl Vocabulary {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The OMOP `vocabulary_id`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id),* }
            }

            /// By OMOP `vocabulary_id`.
            pub fn from_id(id: &str) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// By the `system` URI of a FHIR Coding.
            pub fn from_uri(uri: &str) -> Option<Self> {
                match uri { $($($uri => Some(Self::$variant),)*)* _ => None }
            }

            /// Whether `code` is one that this system could have made.
            pub fn accepts(self, code: &str) -> bool {
                match self { $(Self::$variant => accepts!($syntax, code.as_bytes())),* }
            }
        }
    };
}

vocabularies! {
    Snomed "SNOMED" sctid ["http://snomed.info/sct", "urn:oid:2.16.840.1.113883.6.96"];
    Loinc "LOINC" loinc ["http://loinc.org", "urn:oid:2.16.840.1.113883.6.1"];
    RxNorm "RxNorm" rxcui ["http://www.nlm.nih.gov/research/umls/rxnorm", "urn:oid:2.16.840.1.113883.6.88"];
    Icd10Cm "ICD10CM" icd10 ["http://hl7.org/fhir/sid/icd-10-cm", "urn:oid:2.16.840.1.113883.6.90"];
    Icd10 "ICD10" icd10 ["http://hl7.org/fhir/sid/icd-10", "urn:oid:2.16.840.1.113883.6.3"];
    Icd10Gm "ICD10GM" icd10 ["http://fhir.de/CodeSystem/bfarm/icd-10-gm", "http://fhir.de/CodeSystem/dimdi/icd-10-gm"];
    Icd10Pcs "ICD10PCS" icd10pcs ["http://www.cms.gov/Medicare/Coding/ICD10", "http://hl7.org/fhir/sid/icd-10-pcs"];
    Icd9Cm "ICD9CM" icd9 ["http://hl7.org/fhir/sid/icd-9-cm"];
    Cpt4 "CPT4" cpt ["http://www.ama-assn.org/go/cpt"];
    Hcpcs "HCPCS" hcpcs ["https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", "urn:oid:2.16.840.1.113883.6.285"];
    Cdt "CDT" cdt ["http://www.ada.org/cdt", "http://ada.org/cdt", "http://www.ada.org/snodent"];
    Cvx "CVX" cvx ["http://hl7.org/fhir/sid/cvx", "urn:oid:2.16.840.1.113883.12.292"];
    Ndc "NDC" ndc ["http://hl7.org/fhir/sid/ndc"];
    Atc "ATC" atc ["http://www.whocc.no/atc"];
    Ucum "UCUM" ucum ["http://unitsofmeasure.org"];
    Race "Race" omb ["urn:oid:2.16.840.1.113883.6.238", "http://hl7.org/fhir/v3/Race"];
    Gender "Gender" "gender" ["http://hl7.org/fhir/administrative-gender"];
    ActCode "ActCode" "act-code" ["http://terminology.hl7.org/CodeSystem/v3-ActCode", "http://hl7.org/fhir/v3/ActCode"];
    ObservationCategory "ObservationCategory" "observation-category" ["http://terminology.hl7.org/CodeSystem/observation-category"];
    Interpretation "ObservationInterpretation" "observation-interpretation"
        ["http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"];
    DischargeDisposition "DischargeDisposition" "discharge-disposition"
        ["http://terminology.hl7.org/CodeSystem/discharge-disposition"];
    NullFlavor "NullFlavor" "null-flavor" ["http://terminology.hl7.org/CodeSystem/v3-NullFlavor"];
    DataAbsent "DataAbsentReason" "data-absent-reason" ["http://terminology.hl7.org/CodeSystem/data-absent-reason"];
}

/// A code of a known system, written `VOCABULARY:code`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    vocabulary: Vocabulary,
    code: String,
}

impl Code {
    /// `None` unless `code` has the system's syntax.
    pub fn new(vocabulary: Vocabulary, code: &str) -> Option<Self> {
        vocabulary.accepts(code).then(|| Self { vocabulary, code: code.to_owned() })
    }

    /// Reads `VOCABULARY:code`.
    pub fn parse(text: &str) -> Option<Self> {
        let (vocabulary, code) = text.split_once(':')?;
        Self::new(Vocabulary::from_id(vocabulary)?, code)
    }

    /// The system.
    pub const fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    /// The code alone.
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.vocabulary.id(), self.code)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| crate::misfit("VOCABULARY:code of a known system"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_systems_syntax() {
        for good in [
            "SNOMED:44054006",
            "LOINC:8302-2",
            "RxNorm:314076",
            "ICD10CM:E11.9",
            "CVX:62",
            "UCUM:mm[Hg]",
            "UCUM:kg/m2",
            "ATC:A10BA02",
            "Race:2106-3",
            "NDC:0069-2587-10",
            "NDC:50580-506-02",
            "NDC:50090-0001",
            "NDC:00069258710",
            "ActCode:AMB",
            "Gender:female",
            "ObservationCategory:vital-signs",
            "UCUM:{score}",
        ] {
            assert_eq!(Code::parse(good).map(|c| c.to_string()).as_deref(), Some(good));
        }
        for bad in [
            "SNOMED:Smith",
            "SNOMED:12",
            "LOINC:555-55-5555",
            "RxNorm:Marine542",
            "ICD10CM:Upton",
            "Local:17",
            "UCUM:{John Smith}",
            "UCUM:Smith",
            "ActCode:Smith",
            "Gender:Smith",
            "ObservationCategory:smith",
            "ActCode:# http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "ActCode:",
            "SNOMED:555551234",
            "LOINC:55512-3",
            "NDC:999-12-3456",
            "NDC:555-555-5555",
            "NDC:----------",
            "CVX:5551234",
            "44054006",
            "Race:555-12",
        ] {
            assert_eq!(Code::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_vocabulary_is_found_by_its_id() {
        for v in Vocabulary::ALL {
            assert_eq!(Vocabulary::from_id(v.id()), Some(*v));
        }
    }
}
