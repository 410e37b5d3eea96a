//! Encryption of what is kept beside the leaves: AES-256-GCM under one key per person, each wrapped by the data folder's
//! key (label `payload-wrap/v1` of the keyring). An erasure (`erase`) destroys the wrapped key together with the payloads and
//! with what the fold keeps of the person. It does not reach the wrapped key in a backup, which is why a folder that is put
//! back is erased again (`flows::erase`).
//!
//! ```text
//! sealed  = nonce(12) ‖ GCM(subject key, salt(32) ‖ length of actor (4, big endian) ‖ actor ‖ payload)
//!           additional data: event id ‖ commitment to the payload, so that a row cannot stand in for another
//! wrapped = nonce(12) ‖ GCM(wrapping key, subject key);   additional data: "subject:" ‖ id
//! ```
//!
//! Entries about nobody are sealed under the key of "subject 0".
//!
//! Two callers may each make a key for the same new person, where the cache was emptied in between. The first that is
//! stored is the person's key. Every entry carries its key along until that key is known to be durable, so the writer sees
//! another one and has the entry sealed again ([`Sealer::seal_under`]); a leaf does not depend on how it is sealed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{Aead, AeadInPlace, KeyInit, Payload as Message};
use aes_gcm::{Aes256Gcm, Nonce};
use almoner_ledger::commitment::Salt;
use almoner_model::{Digest, Entropy};

use crate::store::StoreError;
use crate::store::prepare::Prepared;

/// Length of a nonce in bytes.
const NONCE: usize = 12;

/// Length of an authentication tag in bytes.
const TAG: usize = 16;

/// Keys kept unwrapped at a time. A full cache is emptied.
const CACHED_MAX: usize = 100_000;

/// What was under the commitments of one entry.
#[derive(Debug)]
pub struct Opened {
    pub salt: Salt,
    pub actor_json: Vec<u8>,
    pub payload_json: Vec<u8>,
}

/// Seals and opens payloads.
pub struct Sealer {
    wrapping: Aes256Gcm,
    cache: Mutex<HashMap<i64, Cached>>,
}

#[derive(Clone)]
struct Cached {
    cipher: Arc<Aes256Gcm>,
    /// Until the key is durable: its wrapped form, which every entry sealed under it carries along.
    unsaved: Option<Vec<u8>>,
}

fn not_intact(what: &str) -> StoreError {
    StoreError::NotIntact(format!("{what} does not open under its key"))
}

impl Sealer {
    /// A sealer whose subject keys are wrapped under `wrapping`.
    pub fn new(wrapping: &[u8; 32]) -> Self {
        Self { wrapping: Aes256Gcm::new(wrapping.into()), cache: Mutex::default() }
    }

    /// Seals an entry. `load` reads a subject's wrapped key from the store.
    pub fn seal(
        &self,
        entry: &mut Prepared,
        entropy: &dyn Entropy,
        load: impl FnOnce(i64) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<(), StoreError> {
        let subject = entry.subject.map_or(0, almoner_model::SubjectId::get);
        let cached = self.key_for(subject, entropy, load)?;
        entry.sealed = seal_with(&cached.cipher, entry, entropy)?;
        entry.new_key = cached.unsaved;
        Ok(())
    }

    /// Seals an entry under its subject's key as stored, which from now on is the one that is used.
    pub fn seal_under(
        &self,
        wrapped: &[u8],
        entry: &Prepared,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, StoreError> {
        let subject = entry.subject.map_or(0, almoner_model::SubjectId::get);
        let cipher = self.cipher_of(subject, wrapped)?;
        let sealed = seal_with(&cipher, entry, entropy)?;
        // It may be stored by the very transaction that is being written, so it is carried along like a new one.
        let right = Cached { cipher, unsaved: Some(wrapped.to_vec()) };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(subject, right);
        Ok(sealed)
    }

    /// Opens what [`Sealer::seal`] made.
    pub fn open(
        &self,
        subject: i64,
        sealed: &[u8],
        event_id: &str,
        commitment: &Digest,
        load: impl FnOnce(i64) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Opened, StoreError> {
        // A key that is not known to be durable may be one that is never stored.
        let cipher = match self.cached(subject).filter(|cached| cached.unsaved.is_none()) {
            Some(cached) => cached.cipher,
            None => {
                let wrapped = load(subject)?
                    .ok_or_else(|| StoreError::NotIntact("a payload's key is missing".into()))?;
                self.unwrap_key(subject, &wrapped)?
            }
        };
        let clear = decrypt(&cipher, sealed, &additional(event_id, commitment))
            .ok_or_else(|| not_intact("a payload"))?;
        let parts = clear.split_first_chunk::<32>().and_then(|(salt, rest)| {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (actor, payload) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            Some(Opened { salt: Salt(*salt), actor_json: actor.to_vec(), payload_json: payload.to_vec() })
        });
        parts.ok_or_else(|| not_intact("a payload"))
    }

    /// The cipher of a stored, wrapped subject key. The cache is not asked.
    pub fn unwrap_key(&self, subject: i64, wrapped: &[u8]) -> Result<Arc<Aes256Gcm>, StoreError> {
        let cipher = self.cipher_of(subject, wrapped)?;
        self.remember(subject, Cached { cipher: cipher.clone(), unsaved: None });
        Ok(cipher)
    }

    fn cipher_of(&self, subject: i64, wrapped: &[u8]) -> Result<Arc<Aes256Gcm>, StoreError> {
        let key = decrypt(&self.wrapping, wrapped, format!("subject:{subject}").as_bytes())
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .ok_or_else(|| not_intact("a subject's key"))?;
        Ok(Arc::new(Aes256Gcm::new(&key.into())))
    }

    /// Says that these keys, each with its subject, were carried along by what is now durable.
    pub fn saved<'a>(&self, keys: impl Iterator<Item = (i64, &'a [u8])>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, wrapped) in keys {
            if let Some(cached) = cache.get_mut(&subject)
                && cached.unsaved.as_deref() == Some(wrapped)
            {
                cached.unsaved = None;
            }
        }
    }

    /// Drops the keys of people who were erased.
    pub fn forget(&self, subjects: &[almoner_model::SubjectId]) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in subjects {
            cache.remove(&subject.get());
        }
    }

    fn cached(&self, subject: i64) -> Option<Cached> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&subject).cloned()
    }

    fn remember(&self, subject: i64, cached: Cached) -> Cached {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX {
            cache.retain(|_, c| c.unsaved.is_some());
        }
        cache.entry(subject).or_insert(cached).clone()
    }

    fn key_for(
        &self,
        subject: i64,
        entropy: &dyn Entropy,
        load: impl FnOnce(i64) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Cached, StoreError> {
        if let Some(cached) = self.cached(subject) {
            return Ok(cached);
        }
        if let Some(wrapped) = load(subject)? {
            return Ok(Cached { cipher: self.unwrap_key(subject, &wrapped)?, unsaved: None });
        }
        let key = entropy.bytes32();
        let wrapped = encrypt(&self.wrapping, &key, format!("subject:{subject}").as_bytes(), entropy)?;
        Ok(self.remember(
            subject,
            Cached { cipher: Arc::new(Aes256Gcm::new(&key.into())), unsaved: Some(wrapped) },
        ))
    }
}

fn seal_with(cipher: &Aes256Gcm, entry: &Prepared, entropy: &dyn Entropy) -> Result<Vec<u8>, StoreError> {
    let clear = 36 + entry.actor_json.len() + entry.payload_json.len();
    let mut sealed = Vec::with_capacity(NONCE + clear + TAG);
    sealed.extend_from_slice(&[0; NONCE]);
    sealed.extend_from_slice(&entry.salt.0);
    sealed.extend_from_slice(&(entry.actor_json.len() as u32).to_be_bytes());
    sealed.extend_from_slice(&entry.actor_json);
    sealed.extend_from_slice(&entry.payload_json);
    encrypt_in(cipher, sealed, &additional(&entry.leaf.event_id, &entry.leaf.payload), entropy)
}

fn additional(event_id: &str, commitment: &Digest) -> Vec<u8> {
    [event_id.as_bytes(), commitment.as_bytes()].concat()
}

fn encrypt(
    cipher: &Aes256Gcm,
    clear: &[u8],
    aad: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, StoreError> {
    encrypt_in(cipher, [[0; NONCE].as_slice(), clear].concat(), aad, entropy)
}

/// Encrypts what stands behind the room for a nonce, where it is.
fn encrypt_in(
    cipher: &Aes256Gcm,
    mut sealed: Vec<u8>,
    aad: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, StoreError> {
    let too_long = || StoreError::Invalid("a payload is too long to be encrypted".into());
    let (nonce, clear) = sealed.split_first_chunk_mut::<NONCE>().ok_or_else(too_long)?;
    entropy.fill(nonce);
    let tag = cipher.encrypt_in_place_detached(Nonce::from_slice(nonce), aad, clear);
    sealed.extend_from_slice(&tag.map_err(|_| too_long())?);
    Ok(sealed)
}

fn decrypt(cipher: &Aes256Gcm, sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
    cipher.decrypt(Nonce::from_slice(nonce), Message { msg: sealed, aad }).ok()
}

#[cfg(test)]
impl Sealer {
    /// The cache as it is when the subject's key was stored and dropped from it, and a caller that had looked before made
    /// another one.
    pub fn hold_another_key(&self, subject: i64, entropy: &dyn Entropy) {
        self.cache.lock().expect("not poisoned").remove(&subject);
        self.key_for(subject, entropy, |_| Ok(None)).expect("makes a key");
    }

    /// What an insider who has the wrapping key can do.
    pub fn seal_again(
        &self,
        subject: i64,
        clear: &[u8],
        event_id: &str,
        commitment: &Digest,
        reader: &super::read::Reader<'_>,
    ) -> Vec<u8> {
        let wrapped = reader.wrapped_key(subject).expect("readable").expect("stored");
        let cipher = self.unwrap_key(subject, &wrapped).expect("opens");
        let entropy = almoner_model::SeededEntropy::new(66);
        encrypt(&cipher, clear, &additional(event_id, commitment), &entropy).expect("encrypts")
    }
}
