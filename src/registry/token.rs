//! Keyed tokens: HMAC-SHA256 under the key `registry-token/v1`, cut to 128 bits. What is hashed begins with its kind and
//! lengths, so that no two kinds, contributors or fields run into each other.

use std::fmt;

use almoner_model::{ContributorId, SourcePatientId};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::linkage::{LinkageRules, Traits};
use crate::keys::Key;
use crate::mapping::IdSpace;

/// A 128-bit keyed token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(super) [u8; 16]);

impl Token {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A record number as a hospital writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordNumber {
    /// The system within which it is one patient's (`Identifier.system`); empty where the export names none.
    pub system: String,
    /// The number.
    pub value: SourcePatientId,
}

/// The tokens of one record number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordTokens {
    /// Of the number by itself, as a list of consents names a patient. Systems do not tell it apart, so it names somebody
    /// only while one patient alone has it.
    pub number: Token,
    /// Of the number within its system.
    pub in_system: Token,
}

/// The tokens of one patient of an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PatientTokens {
    /// Of the hospital's patient id.
    pub id: Token,
    /// Of each record number.
    pub records: Vec<RecordTokens>,
    /// Of the patient id read as a record number: a consent that came before the data may have named it so.
    pub id_as_number: Token,
    /// The same, where it said `Patient/<id>`.
    pub id_as_reference: Token,
    /// Linkage tokens; none if the contributor did not opt in.
    pub linkage: Vec<Token>,
    /// Whether the export says that another record took this one's place. One that it has without saying so stands for
    /// itself, whatever earlier exports said.
    pub replaced: bool,
}

/// Makes tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    pub(super) fn new(key: &Key) -> Self {
        Self { mac: Hmac::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length") }
    }

    fn token(&self, parts: &[&[u8]]) -> Token {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut out = [0; 16];
        out.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Token(out)
    }

    pub(super) fn scope(&self, contributor: &ContributorId) -> Token {
        self.token(&[b"scope", contributor.as_str().as_bytes()])
    }

    /// Of a patient id in the first space.
    pub fn id(&self, contributor: &ContributorId, id: &SourcePatientId) -> Token {
        self.id_in(IdSpace::First, contributor, id)
    }

    /// Of a patient id.
    pub fn id_in(&self, space: IdSpace, contributor: &ContributorId, id: &SourcePatientId) -> Token {
        let kind: &[u8] = match space {
            IdSpace::First => b"id",
            IdSpace::Second => b"id-2",
        };
        self.token(&[kind, contributor.as_str().as_bytes(), id.expose().as_bytes()])
    }

    /// Of a patient id as `Patient/<id>` names it, in whatever space.
    pub fn reference(&self, contributor: &ContributorId, id: &SourcePatientId) -> Token {
        self.token(&[b"reference", contributor.as_str().as_bytes(), id.expose().as_bytes()])
    }

    /// Of a record number by itself.
    pub fn number(&self, contributor: &ContributorId, number: &SourcePatientId) -> Token {
        self.token(&[b"record", contributor.as_str().as_bytes(), number.expose().trim().as_bytes()])
    }

    /// Of a record number within its system.
    pub fn in_system(&self, contributor: &ContributorId, system: &str, number: &SourcePatientId) -> Token {
        let (system, number) = (system.trim().as_bytes(), number.expose().trim().as_bytes());
        self.token(&[b"record-in", contributor.as_str().as_bytes(), system, number])
    }

    fn record(&self, contributor: &ContributorId, record: &RecordNumber) -> RecordTokens {
        let in_system = self.in_system(contributor, &record.system, &record.value);
        RecordTokens { number: self.number(contributor, &record.value), in_system }
    }

    /// The linkage tokens of a person: one for each rule all of whose fields are known.
    pub fn linkage(&self, rules: &LinkageRules, traits: &Traits) -> Vec<Token> {
        let keyed = |rule: &str, fields: &[&str]| {
            let mut parts: Vec<&[u8]> = vec![b"link", rule.as_bytes()];
            parts.extend(fields.iter().map(|f| f.as_bytes()));
            self.token(&parts)
        };
        rules.apply(traits, keyed)
    }

    /// All tokens of one patient whose id is in the first space.
    pub fn patient(
        &self,
        contributor: &ContributorId,
        id: &SourcePatientId,
        records: &[RecordNumber],
        linkage: Vec<Token>,
    ) -> PatientTokens {
        self.patient_in(IdSpace::First, contributor, id, records, linkage)
    }

    /// All tokens of one patient. `linkage` is empty for a contributor that did not opt in.
    pub fn patient_in(
        &self,
        space: IdSpace,
        contributor: &ContributorId,
        id: &SourcePatientId,
        records: &[RecordNumber],
        linkage: Vec<Token>,
    ) -> PatientTokens {
        PatientTokens {
            id: self.id_in(space, contributor, id),
            records: records.iter().map(|r| self.record(contributor, r)).collect(),
            id_as_number: self.number(contributor, id),
            id_as_reference: self.reference(contributor, id),
            linkage,
            replaced: false,
        }
    }
}
