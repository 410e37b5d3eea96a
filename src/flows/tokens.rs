//! API tokens: made, found again by what the caller shows, ended.
//!
//! A token reads `alm_<id>_<secret>`; the id is public and stands in the ledger, the secret is 32 random bytes of which
//! only the SHA-256 digest is kept (it has full entropy, so no slow hash is needed). The entry `token.issued` is durable
//! before the token works and before it is shown; a crash between leaves an entry without a token, which harms nobody. A
//! token is ended the other way round, first in fact and then in the ledger; repeating the call completes it.
//!
//! What it does not do: participants' tokens, which come from an invitation (`flows::invitation`).

use almoner_model::{Clock, Digest, Entropy, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Act;
use crate::error::ErrorKind;
use crate::events::{Event, TokenIssued, TokenRevoked};
use crate::store::{NewEntry, Store, StoreError, Write};

/// Kind of the primary records.
const KIND: &str = "token";

/// A token as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its public id.
    pub id: String,
    /// SHA-256 of the secret's bytes.
    pub hash: Digest,
    /// The role it acts in.
    pub role: String,
    /// The contributors or projects it is limited to.
    pub scope: Vec<String>,
    /// A name for people.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    pub expires: Option<Timestamp>,
    /// When it was ended.
    pub revoked: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it works at `now`.
    pub fn works(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|e| now < e)
    }
}

/// What a new token is for.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// `operator`, `contributor`, `board` or `researcher`.
    pub role: String,
    /// The contributors or projects it is limited to.
    pub scope: Vec<String>,
    /// A name for people.
    pub label: String,
    /// Days until it stops working.
    pub days: Option<u32>,
}

/// A token that was just made.
pub struct Issued {
    /// As it is kept.
    pub record: TokenRecord,
    /// What its holder shows. It is known only now.
    pub token: Zeroizing<String>,
}

/// Why a token was not made or ended.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The role cannot be given a token.
    #[error(
        "tokens are made for the roles operator, contributor, board and researcher; participants are invited"
    )]
    Role,
    /// A role that must be limited to something is not.
    #[error("a token for {0} names what it is limited to")]
    Scope(&'static str),
    /// An id in the scope is not one.
    #[error("what a token is limited to is named by ids of a-z, 0-9, '-', '_' and '.'")]
    ScopeId,
    /// The expiry is out of range.
    #[error("a token works for 1 to 3650 days")]
    Days,
    /// There is no such token.
    #[error("there is no such token")]
    Unknown,
    /// The act that is repeated made a token that was ended since.
    #[error("the token that this call made was ended; make another under a new Idempotency-Key")]
    Ended,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TokenError {
    /// What kind of no.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(e) => e.kind(),
            Self::Ended => ErrorKind::Conflict,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Tokens of one data folder.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    /// Where they are kept.
    pub store: &'a dyn Store,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
}

impl Tokens<'_> {
    /// Makes a token.
    ///
    /// # Errors
    /// [`TokenError`] if the role or its limits do not fit, or the store fails.
    pub fn issue(&self, new: NewToken, act: Act) -> Result<Issued, TokenError> {
        check(&new)?;
        let secret = Zeroizing::new(self.entropy.bytes32());
        // From the act, so that repeating it makes the same entry; what the first attempt showed stops working.
        let id = hex::encode(&Sha256::digest(act.event_id.as_bytes())[..6]);
        if self.read(&id)?.is_some_and(|token| token.revoked.is_some()) {
            return Err(TokenError::Ended);
        }
        let now = self.clock.now();
        let record = TokenRecord {
            id: id.clone(),
            hash: Digest::of(*secret),
            role: new.role.clone(),
            scope: new.scope.clone(),
            label: new.label,
            created: now,
            expires: new.days.map(|d| Timestamp::from_millis(now.millis() + i64::from(d) * 86_400_000)),
            revoked: None,
        };
        let event = Event::TokenIssued(TokenIssued { token: id.clone(), role: new.role, scope: new.scope });
        self.store.append(vec![entry(&event, act, &id)], &[])?;
        self.save(&record)?;
        let token = Zeroizing::new(format!("alm_{id}_{}", URL_SAFE_NO_PAD.encode(*secret)));
        Ok(Issued { record, token })
    }

    /// The token that somebody shows, if it works now.
    ///
    /// # Errors
    /// If the store fails.
    pub fn find(&self, shown: &str) -> Result<Option<TokenRecord>, StoreError> {
        let Some((id, secret)) = shown.strip_prefix("alm_").and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        if id.len() != 12 || secret.len() != 43 {
            return Ok(None);
        }
        let Ok(secret) = URL_SAFE_NO_PAD.decode(secret).map(Zeroizing::new) else { return Ok(None) };
        let hash: [u8; 32] = Sha256::digest(secret.as_slice()).into();
        let found = self.read(id)?.filter(|r| bool::from(r.hash.as_bytes().ct_eq(&hash)));
        Ok(found.filter(|r| r.works(self.clock.now())))
    }

    /// Tokens in order of their ids, after `after`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = self.store.scan_primary(KIND, "", after, limit)?;
        Ok(rows.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect())
    }

    /// Whether any token was ever made.
    ///
    /// # Errors
    /// If the store fails.
    pub fn any(&self) -> Result<bool, StoreError> {
        Ok(!self.store.scan_primary(KIND, "", None, 1)?.is_empty())
    }

    /// Ends a token. Ending it again changes nothing.
    ///
    /// # Errors
    /// [`TokenError::Unknown`], or if the store fails.
    pub fn revoke(&self, id: &str, act: Act) -> Result<TokenRecord, TokenError> {
        let mut record = self.read(id)?.ok_or(TokenError::Unknown)?;
        if record.revoked.is_none() {
            record.revoked = Some(self.clock.now());
            self.save(&record)?;
        }
        let topic = format!("token:{id}");
        let said = crate::store::EntryFilter { kinds: vec!["token.revoked".into()], topic: Some(topic) };
        if self.store.entries(0, 1, &said)?.is_empty() {
            let event = Event::TokenRevoked(TokenRevoked { token: id.to_owned() });
            self.store.append(vec![entry(&event, act, id)], &[])?;
        }
        Ok(record)
    }

    fn read(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        let value = self.store.get_primary(KIND, id)?;
        value
            .map(serde_json::from_value)
            .transpose()
            .map_err(|_| StoreError::NotIntact(format!("token {id}")))
    }

    fn save(&self, record: &TokenRecord) -> Result<(), StoreError> {
        let value = serde_json::to_value(record).expect("a record is plain text");
        self.store.put_primary(vec![Write { kind: KIND.into(), key: record.id.clone(), value: Some(value) }])
    }
}

fn check(new: &NewToken) -> Result<(), TokenError> {
    match new.role.as_str() {
        "operator" | "board" => {}
        "contributor" if new.scope.is_empty() => return Err(TokenError::Scope("a contributor")),
        "researcher" if new.scope.is_empty() => return Err(TokenError::Scope("a researcher")),
        "contributor" | "researcher" => {}
        _ => return Err(TokenError::Role),
    }
    if new.days.is_some_and(|d| !(1..=3650).contains(&d)) {
        return Err(TokenError::Days);
    }
    // Contributors' and projects' ids follow the same rule.
    let fits = |id: &String| id.parse::<almoner_model::ContributorId>().is_ok();
    if new.scope.iter().all(fits) { Ok(()) } else { Err(TokenError::ScopeId) }
}

fn entry(event: &Event, act: Act, token: &str) -> NewEntry {
    NewEntry {
        event_id: act.event_id,
        kind: event.kind(),
        actor: act.actor,
        subject: None,
        payload: event.payload().expect("these bodies are plain text"),
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics: vec![format!("token:{token}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_ledger::LogKey;
    use almoner_model::{ManualClock, SeededEntropy};
    use std::sync::Arc;

    use crate::store::NoProjections;
    use crate::store::memory::MemoryStore;

    struct Place {
        store: MemoryStore,
        clock: Arc<ManualClock>,
        entropy: Arc<SeededEntropy>,
    }

    fn place() -> Place {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
        let entropy = Arc::new(SeededEntropy::new(1));
        let key = LogKey::new("almoner.local/test", &[7; 32]).expect("key");
        let store =
            MemoryStore::new(key, clock.clone(), entropy.clone(), Arc::new(NoProjections)).expect("store");
        Place { store, clock, entropy }
    }

    impl Place {
        fn tokens(&self) -> Tokens<'_> {
            Tokens { store: &self.store, clock: &*self.clock, entropy: &*self.entropy }
        }
        fn act(&self) -> Act {
            Act::operator(&*self.entropy)
        }
    }

    fn new(role: &str, scope: &[&str]) -> NewToken {
        let scope = scope.iter().map(ToString::to_string).collect();
        NewToken { role: role.into(), scope, label: String::new(), days: Some(2) }
    }

    #[test]
    fn a_token_works_until_it_expires_or_is_ended() {
        let place = place();
        let issued = place.tokens().issue(new("contributor", &["north"]), place.act()).expect("made");
        let found = place.tokens().find(&issued.token).expect("store").expect("works");
        assert_eq!(found, issued.record);
        let kept = format!("{:?}", place.store.scan_primary(KIND, "", None, 9).expect("store"));
        assert!(!kept.contains(&issued.token[17..]), "only the digest of the secret is kept");

        let other = place.tokens().issue(new("board", &[]), place.act()).expect("made");
        place.tokens().revoke(&other.record.id, place.act()).expect("ended");
        place.tokens().revoke(&other.record.id, place.act()).expect("ended already");
        assert!(place.tokens().find(&other.token).expect("store").is_none());

        place.clock.advance_days(2);
        assert!(place.tokens().find(&issued.token).expect("store").is_none());
        let kinds: Vec<String> = place
            .store
            .entries(0, 9, &crate::store::EntryFilter::default())
            .expect("store")
            .into_iter()
            .map(|e| e.leaf.kind)
            .collect();
        assert_eq!(kinds, ["token.issued", "token.issued", "token.revoked"]);
    }

    #[test]
    fn a_token_that_was_ended_does_not_come_back_with_the_call_that_made_it() {
        let place = place();
        let act = place.act();
        let made = place.tokens().issue(new("board", &[]), act.clone()).expect("made");
        let again = place.tokens().issue(new("board", &[]), act.clone()).expect("the answer was lost");
        assert_eq!(again.record.id, made.record.id);
        place.tokens().revoke(&made.record.id, place.act()).expect("ended");
        let refused = place.tokens().issue(new("board", &[]), act).err().expect("ended");
        assert!(matches!(refused, TokenError::Ended) && refused.kind() == ErrorKind::Conflict);
        assert!(place.tokens().find(&again.token).expect("store").is_none());
    }

    #[test]
    fn another_secret_is_not_the_token() {
        let place = place();
        let issued = place.tokens().issue(new("operator", &[]), place.act()).expect("made");
        let mut forged = issued.token.to_string();
        let last = if forged.ends_with('A') { 'E' } else { 'A' };
        forged.pop();
        forged.push(last);
        for shown in [forged.as_str(), "", "alm_", "alm_x_y", &issued.token[..20]] {
            assert!(place.tokens().find(shown).expect("store").is_none());
        }
    }

    #[test]
    fn roles_are_limited_where_they_must_be() {
        let place = place();
        let refused = |n| place.tokens().issue(n, place.act()).err();
        assert!(matches!(refused(new("contributor", &[])), Some(TokenError::Scope(_))));
        assert!(matches!(refused(new("participant", &[])), Some(TokenError::Role)));
        assert!(matches!(refused(new("board", &["No Such"])), Some(TokenError::ScopeId)));
        let eternal = NewToken { days: Some(0), ..new("operator", &[]) };
        assert!(matches!(refused(eternal), Some(TokenError::Days)));
    }
}
