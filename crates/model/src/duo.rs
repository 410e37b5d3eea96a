//! Purposes and limits of use: the GA4GH Data Use Ontology (DUO) terms that directives and requests are written in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! duo {
    ($($variant:ident $id:literal $short:literal $label:literal $parent:expr;)*) => {
        /// A DUO term.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Duo { $(#[doc = concat!($id, " ", $label)] $variant),* }

        impl Duo {
            /// All terms known here.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// `DUO:0000042`
            pub const fn id(self) -> &'static str { match self { $(Self::$variant => $id),* } }
            /// The ontology's shorthand, e.g. `GRU`.
            pub const fn shorthand(self) -> &'static str { match self { $(Self::$variant => $short),* } }
            /// The ontology's label.
            pub const fn label(self) -> &'static str { match self { $(Self::$variant => $label),* } }
            /// The broader term in the tree of permissions, where there is one.
            pub const fn parent(self) -> Option<Self> { match self { $(Self::$variant => $parent),* } }
        }
    };
}

duo! {
    NoRestriction "DUO:0000004" "NRES" "no restriction" None;
    GeneralResearch "DUO:0000042" "GRU" "general research use" Some(Self::NoRestriction);
    HealthResearch "DUO:0000006" "HMB" "health or medical or biomedical research" Some(Self::GeneralResearch);
    DiseaseResearch "DUO:0000007" "DS" "disease specific research" Some(Self::HealthResearch);
    PopulationResearch "DUO:0000011" "POA" "population origins or ancestry research only" Some(Self::GeneralResearch);
    ResearchSpecific "DUO:0000012" "RS" "research specific restrictions" None;
    NoMethods "DUO:0000015" "NMDS" "no general methods research" None;
    GeneticStudiesOnly "DUO:0000016" "GSO" "genetic studies only" None;
    NotForProfitNonCommercial "DUO:0000018" "NPUNCU" "not for profit, non commercial use only" None;
    Publication "DUO:0000019" "PUB" "publication required" None;
    Collaboration "DUO:0000020" "COL" "collaboration required" None;
    EthicsApproval "DUO:0000021" "IRB" "ethics approval required" None;
    Geographical "DUO:0000022" "GS" "geographical restriction" None;
    PublicationMoratorium "DUO:0000024" "MOR" "publication moratorium" None;
    TimeLimit "DUO:0000025" "TS" "time limit on use" None;
    UserSpecific "DUO:0000026" "US" "user specific restriction" None;
    ProjectSpecific "DUO:0000027" "PS" "project specific restriction" None;
    InstitutionSpecific "DUO:0000028" "IS" "institution specific restriction" None;
    ReturnToDatabase "DUO:0000029" "RTN" "return to database or resource" None;
    ClinicalCare "DUO:0000043" "CC" "clinical care use" Some(Self::NoRestriction);
    PopulationProhibited "DUO:0000044" "NPOA" "population origins or ancestry research prohibited" None;
    NotForProfitOrganisation "DUO:0000045" "NPU" "not for profit organisation use only" None;
    NonCommercial "DUO:0000046" "NCU" "non-commercial use only" None;
}

impl Duo {
    /// Whether it is a permission, a kind of use; the others modify one.
    pub const fn is_permission(self) -> bool {
        matches!(
            self,
            Self::NoRestriction
                | Self::GeneralResearch
                | Self::HealthResearch
                | Self::DiseaseResearch
                | Self::PopulationResearch
                | Self::ClinicalCare
        )
    }

    /// Whether a permission for `self` covers a use for `purpose`: the same term or a narrower one.
    pub fn covers(self, purpose: Self) -> bool {
        let mut at = Some(purpose);
        while let Some(term) = at {
            if term == self {
                return true;
            }
            at = term.parent();
        }
        false
    }
}

/// Not the id of a known DUO term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known DUO term (e.g. DUO:0000042)")]
pub struct NotADuoTerm;

impl FromStr for Duo {
    type Err = NotADuoTerm;
    fn from_str(text: &str) -> Result<Self, NotADuoTerm> {
        Self::ALL.iter().copied().find(|d| d.id() == text || d.shorthand() == text).ok_or(NotADuoTerm)
    }
}

impl fmt::Display for Duo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl fmt::Debug for Duo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl Serialize for Duo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Duo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|_| crate::misfit("a known DUO term such as DUO:0000042"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broad_permission_covers_a_narrow_use_and_not_the_reverse() {
        assert!(Duo::GeneralResearch.covers(Duo::HealthResearch));
        assert!(Duo::HealthResearch.covers(Duo::DiseaseResearch));
        assert!(!Duo::DiseaseResearch.covers(Duo::HealthResearch));
        assert!(!Duo::HealthResearch.covers(Duo::PopulationResearch));
        assert!(!Duo::GeneralResearch.covers(Duo::ClinicalCare));
        assert_eq!("HMB".parse(), Ok(Duo::HealthResearch));
    }
}
