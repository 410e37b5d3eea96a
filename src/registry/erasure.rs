//! Erasure: what is known of a person goes, and of each of their source tokens stays that its bearer does not come back.
//!
//! A person who is the patient of several contributors can be erased for one of them: then what that one said of them goes,
//! and the subject stays with the others.

use std::collections::BTreeSet;
use std::time::Duration;

use almoner_model::{ContributorId, SourcePatientId, SubjectId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::joins::Id;
use super::numbers::Name;
use super::schema::{BUSY, kind};
use super::{Registry, RegistryError, Token, resolve};

/// How long those who read an older state are waited for, so that what was deleted can be removed.
const SCRUB_WAIT: Duration = Duration::from_secs(5);

/// A token whose bearer is not taken in again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Refused {
    /// The token.
    pub token: Token,
    /// Whether patients are refused by it too, or consents only: a number by itself may be another patient's.
    pub patients: bool,
}

impl Serialize for Refused {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (hex::encode(self.token.as_bytes()), self.patients).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (text, patients) = <(String, bool)>::deserialize(from)?;
        let mut token = [0; 16];
        hex::decode_to_slice(text, &mut token).map_err(serde::de::Error::custom)?;
        Ok(Self { token: Token(token), patients })
    }
}

impl Registry {
    /// Keeps a token whose bearer is never taken in again.
    ///
    /// # Errors
    /// Database errors.
    pub fn suppress(&self, token: &Token) -> Result<(), RegistryError> {
        self.refuse(&[Refused { token: *token, patients: true }])
    }

    /// Keeps tokens whose bearers are never taken in again, in one transaction.
    ///
    /// # Errors
    /// Database errors.
    pub fn refuse(&self, refused: &[Refused]) -> Result<(), RegistryError> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for Refused { token, patients } in refused {
            let sql = "INSERT INTO suppressed (token, refuses) VALUES (?1, ?2)
                 ON CONFLICT (token) DO UPDATE SET refuses = max(refuses, excluded.refuses)";
            tx.prepare_cached(sql)?.execute(params![token.as_bytes(), patients])?;
        }
        Ok(tx.commit()?)
    }

    /// Whether patients with a token are not taken in.
    ///
    /// # Errors
    /// Database errors.
    pub fn is_suppressed(&self, token: &Token) -> Result<bool, RegistryError> {
        resolve::is_suppressed(&self.db(), token)
    }

    /// Whether a record number, or patient id, was that of somebody who was erased.
    ///
    /// # Errors
    /// Database errors.
    pub fn was_erased(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<bool, RegistryError> {
        let db = self.db();
        let mut gone = db.prepare_cached("SELECT 1 FROM suppressed WHERE token = ?1")?;
        for token in Name::new(&self.tokens, contributor, record_number).tokens() {
            if gone.exists([token.as_bytes()])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All tokens whose bearers are not taken in again.
    ///
    /// # Errors
    /// Database errors.
    pub fn refused(&self) -> Result<Vec<Refused>, RegistryError> {
        let db = self.db();
        let mut all = db.prepare("SELECT token, refuses FROM suppressed")?;
        let rows =
            all.query_map([], |row| Ok(Refused { token: Token(row.get(0)?), patients: row.get(1)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The subjects that source tokens are of, as they stand for people now, with whose tokens they are: an older copy of the
    /// registry has people who were erased since.
    ///
    /// # Errors
    /// Database errors.
    pub fn bearers(&self, tokens: &[Refused]) -> Result<Vec<(SubjectId, Token)>, RegistryError> {
        let db = self.db();
        let mut found = BTreeSet::new();
        let mut of =
            db.prepare_cached("SELECT subject, scope FROM source WHERE token = ?1 AND subject <> 0")?;
        for refused in tokens.iter().filter(|refused| refused.patients) {
            let row: Option<(Id, [u8; 16])> =
                of.query_row([refused.token.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((subject, scope)) = row else { continue };
            found.extend(SubjectId::new(self.standing().current(subject)).ok().map(|s| (s, Token(scope))));
        }
        Ok(found.into_iter().collect())
    }

    /// Whether a scope is that of a contributor.
    pub fn is_scope(&self, scope: &Token, contributor: &ContributorId) -> bool {
        self.tokens.scope(contributor) == *scope
    }

    /// All ids of a person, that one included.
    ///
    /// # Errors
    /// Database errors.
    pub fn ids(&self, subject: SubjectId) -> Result<BTreeSet<SubjectId>, RegistryError> {
        let db = self.db();
        let ids = group(&db, self.current(subject).get())?;
        Ok(ids.into_iter().filter_map(|id| SubjectId::new(id).ok()).chain([subject]).collect())
    }

    /// Whether anybody but `contributor` knows the person with these ids.
    ///
    /// # Errors
    /// Database errors.
    pub fn others_know(
        &self,
        ids: &BTreeSet<SubjectId>,
        contributor: &ContributorId,
    ) -> Result<bool, RegistryError> {
        let (db, scope) = (self.db(), self.tokens.scope(contributor));
        for table in ["source", "holder"] {
            let sql = format!("SELECT 1 FROM {table} WHERE subject = ?1 AND scope <> ?2");
            let mut known = db.prepare_cached(&sql)?;
            for id in ids {
                if known.exists(params![id.get(), scope.as_bytes()])? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What is to be refused when a person is erased: each of their source tokens; those of one contributor only, where one
    /// is named.
    ///
    /// # Errors
    /// Database errors.
    pub fn to_refuse(
        &self,
        ids: &BTreeSet<SubjectId>,
        contributor: Option<&ContributorId>,
    ) -> Result<Vec<Refused>, RegistryError> {
        let (db, scope) = (self.db(), contributor.map(|c| *self.tokens.scope(c).as_bytes()));
        let sql = "SELECT token, kind <> ?2 FROM source WHERE subject = ?1 AND (?3 IS NULL OR scope = ?3)";
        let mut of = db.prepare_cached(sql)?;
        let mut all = Vec::new();
        for id in ids {
            let rows = of.query_map(params![id.get(), kind::NUMBER, scope], |row| {
                Ok(Refused { token: Token(row.get(0)?), patients: row.get(1)? })
            })?;
            all.extend(rows.collect::<Result<Vec<_>, _>>()?);
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Forgets a person: their source tokens become suppression tokens, their linkage tokens and the subject go. Returns
    /// how many tokens are kept for suppression.
    ///
    /// # Errors
    /// Database errors.
    pub fn erase(&self, subject: SubjectId) -> Result<u64, RegistryError> {
        self.forget(&self.ids(subject)?, None)
    }

    /// Forgets the person with these ids, or what `contributor` said of them. The ids go when nobody else knows the person.
    /// Returns how many tokens are kept for suppression. Repeating it changes nothing.
    ///
    /// # Errors
    /// Database errors; nothing is then forgotten.
    pub fn forget(
        &self,
        ids: &BTreeSet<SubjectId>,
        contributor: Option<&ContributorId>,
    ) -> Result<u64, RegistryError> {
        let refused = self.to_refuse(ids, contributor)?;
        self.refuse(&refused)?;
        let stays = contributor.map_or(Ok(false), |c| self.others_know(ids, c))?;
        let scope = contributor.map(|c| *self.tokens.scope(c).as_bytes());
        let mut db = self.db();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let numbers: Vec<Id> = ids.iter().map(|id| id.get()).collect();
        for id in &numbers {
            for table in ["source", "linkage", "holder"] {
                let sql = format!("DELETE FROM {table} WHERE subject = ?1 AND (?2 IS NULL OR scope = ?2)");
                tx.execute(&sql, params![id, scope])?;
            }
            if !stays {
                tx.execute("DELETE FROM subject WHERE subject = ?1", [id])?;
                tx.execute("DELETE FROM alias WHERE loser = ?1", [id])?;
            }
        }
        tx.commit()?;
        if !stays {
            self.aliases.write().unwrap_or_else(std::sync::PoisonError::into_inner).forget(&numbers);
        }
        Ok(refused.len() as u64)
    }

    /// Removes from the file whatever was deleted: it is written anew, and the write-ahead log emptied.
    ///
    /// # Errors
    /// [`RegistryError::Read`]; database errors.
    pub fn scrub(&self) -> Result<(), RegistryError> {
        let db = self.db();
        db.execute_batch("VACUUM")?;
        // Others wait for the registry meanwhile.
        db.busy_timeout(SCRUB_WAIT)?;
        let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        db.busy_timeout(BUSY)?;
        // In memory there is no write-ahead log, and nothing to empty.
        if busy? { Err(RegistryError::Read) } else { Ok(()) }
    }
}

/// `subject` and everyone who lost to it, directly or not.
pub(super) fn group(db: &Connection, subject: Id) -> Result<Vec<Id>, RegistryError> {
    let mut ids = db.prepare(
        "WITH RECURSIVE ids (id) AS (SELECT ?1 UNION SELECT loser FROM alias JOIN ids ON winner = id)
         SELECT id FROM ids",
    )?;
    let rows = ids.query_map([subject], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
