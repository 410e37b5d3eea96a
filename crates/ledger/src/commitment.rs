//! Salted commitments: how personal data stands in a public leaf without being readable or guessable from it.
//!
//! Every entry has one random 32-byte [`Salt`]. From it each committed field gets its own key, so that opening one field
//! (an evidence pack opens `payload` and `subject`) says nothing about another (`actor` stays closed):
//!
//! ```text
//! opening(field)    = HMAC-SHA256(salt, "almoner-ledger/1 " ‖ field)          field: "actor", "subject" or "payload"
//! commitment(field) = HMAC-SHA256(opening(field), JCS(value))                  RFC 2104, RFC 8785
//! ```
//!
//! With the salt destroyed a commitment cannot be tied to any value; the leaf and every proof still verify.

use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;

/// Length of a salt, an opening and a commitment in bytes.
pub const LEN: usize = 32;

/// The random secret of one entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; LEN]);

/// The committed fields of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// Who acted.
    Actor,
    /// Whom the entry concerns.
    Subject,
    /// What is said.
    Payload,
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(…)")
    }
}

impl Field {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Actor => b"almoner-ledger/1 actor",
            Self::Subject => b"almoner-ledger/1 subject",
            Self::Payload => b"almoner-ledger/1 payload",
        }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; LEN] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl Salt {
    /// The key that opens `field`, and only it.
    pub fn opening(&self, field: Field) -> [u8; LEN] {
        hmac(&self.0, field.label())
    }

    /// The commitment to `canonical` (JCS bytes) in `field`.
    pub fn commit(&self, field: Field, canonical: &[u8]) -> [u8; LEN] {
        commit(&self.opening(field), canonical)
    }
}

/// The commitment to `canonical` (JCS bytes) under an opening key.
pub fn commit(opening: &[u8; LEN], canonical: &[u8]) -> [u8; LEN] {
    hmac(opening, canonical)
}

/// Why a value cannot be committed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A whole number that not every JSON reader keeps exactly.
    #[error("a payload holds a whole number outside ±(2^53 - 1), which JSON readers do not keep exactly")]
    InexactInteger,
    /// Not representable as JSON.
    #[error("a payload is not representable as JSON")]
    NotJson,
}

/// The JCS bytes (RFC 8785) of `value`.
///
/// # Errors
/// [`CanonicalError`] if it holds a whole number outside ±(2^53 − 1), or is no JSON.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(|_| CanonicalError::NotJson)?;
    canonical_value(&value)
}

/// The JCS bytes (RFC 8785) of a JSON value.
///
/// # Errors
/// As [`canonical`].
pub fn canonical_value(value: &serde_json::Value) -> Result<Vec<u8>, CanonicalError> {
    if !exact(value) {
        return Err(CanonicalError::InexactInteger);
    }
    serde_json_canonicalizer::to_vec(value).map_err(|_| CanonicalError::NotJson)
}

fn exact(value: &serde_json::Value) -> bool {
    const LIMIT: i64 = (1 << 53) - 1;
    match value {
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => (-LIMIT..=LIMIT).contains(&i),
            (None, Some(_)) => false,
            (None, None) => true,
        },
        serde_json::Value::Array(items) => items.iter().all(exact),
        serde_json::Value::Object(members) => members.values().all(exact),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_open_apart_and_salts_separate_equal_values() {
        let (a, b) = (Salt([1; 32]), Salt([2; 32]));
        let value = canonical(&json!({"b": 1, "a": "x"})).expect("canonical");
        assert_eq!(value, br#"{"a":"x","b":1}"#);
        assert_ne!(a.commit(Field::Actor, &value), a.commit(Field::Payload, &value));
        assert_ne!(a.commit(Field::Payload, &value), b.commit(Field::Payload, &value));
        assert_eq!(commit(&a.opening(Field::Subject), &value), a.commit(Field::Subject, &value));
    }

    #[test]
    fn whole_numbers_stay_exact_or_are_refused() {
        assert_eq!(canonical(&json!({"n": (1i64 << 53) - 1})).expect("fits"), br#"{"n":9007199254740991}"#);
        assert_eq!(canonical(&json!([1i64 << 53])), Err(CanonicalError::InexactInteger));
        assert_eq!(canonical(&json!([u64::MAX])), Err(CanonicalError::InexactInteger));
        assert_eq!(canonical(&json!(0.25)).expect("decimals have a canonical form"), b"0.25");
    }
}
