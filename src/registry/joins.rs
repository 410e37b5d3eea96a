//! Joining subjects inside one transaction, and who holds whom.
//!
//! Two patients whom one contributor holds apart are never made one by what another contributor's data shows; only their
//! own hospital may say so. What is joined here is seen by others when the transaction is durable.

use std::collections::BTreeSet;

use almoner_model::{Entropy, SubjectId};
use rusqlite::{Connection, OptionalExtension};

use super::aliases::Aliases;
use super::{RegistryError, Token};

pub(super) type Id = i64;

/// The joins of one transaction of one contributor.
pub(super) struct Joins<'a> {
    pub db: &'a Connection,
    /// The contributor.
    pub scope: Token,
    before: &'a Aliases,
    /// Between subjects that stood for somebody before.
    added: Aliases,
    /// Subjects that the contributor turns out to hold, still to be written.
    held: BTreeSet<Id>,
    written: Vec<(Id, Id)>,
}

impl<'a> Joins<'a> {
    pub fn new(db: &'a Connection, scope: Token, before: &'a Aliases) -> Self {
        Self { db, scope, before, added: Aliases::default(), held: BTreeSet::new(), written: Vec::new() }
    }

    /// Writes who is held, and gives what was joined: (loser, winner), in order.
    pub fn finish(self) -> Result<Vec<(Id, Id)>, RegistryError> {
        let mut insert =
            self.db.prepare_cached("INSERT OR IGNORE INTO holder (subject, scope) VALUES (?1, ?2)")?;
        for subject in &self.held {
            insert.execute((subject, self.scope.as_bytes()))?;
        }
        Ok(self.written)
    }

    /// What was joined so far.
    pub fn joined(&self) -> impl Iterator<Item = (SubjectId, SubjectId)> {
        let subject = |id| SubjectId::new(id).ok();
        self.written.iter().filter_map(move |(loser, winner)| subject(*loser).zip(subject(*winner)))
    }

    /// The subject that stands for `id`.
    pub fn current(&self, id: Id) -> Id {
        self.added.current(self.before.current(id))
    }

    /// The contributor has a patient under `subject`.
    pub fn hold(&mut self, subject: Id) {
        self.held.insert(self.current(subject));
    }

    /// Whether the contributor has a patient under `subject`.
    pub fn holds(&self, subject: Id) -> Result<bool, RegistryError> {
        let subject = self.current(subject);
        let mut held = self.db.prepare_cached("SELECT 1 FROM holder WHERE subject = ?1 AND scope = ?2")?;
        Ok(self.held.contains(&subject) || held.exists((subject, self.scope.as_bytes()))?)
    }

    /// Whether another contributor has a patient under `subject`.
    pub fn others_hold(&self, subject: Id) -> Result<bool, RegistryError> {
        let mut held = self.db.prepare_cached("SELECT 1 FROM holder WHERE subject = ?1 AND scope <> ?2")?;
        Ok(held.exists((self.current(subject), self.scope.as_bytes()))?)
    }

    /// Whether some contributor holds the two as two patients.
    fn apart(&self, a: Id, b: Id) -> Result<bool, RegistryError> {
        let mut both = self.db.prepare_cached(
            "SELECT 1 FROM holder a JOIN holder b ON a.scope = b.scope WHERE a.subject = ?1 AND b.subject = ?2",
        )?;
        Ok(both.exists([self.current(a), self.current(b)])? || (self.holds(a)? && self.holds(b)?))
    }

    /// Makes two subjects one, of which the older stays. Does nothing where a contributor holds them apart.
    pub fn unite(&mut self, a: Id, b: Id) -> Result<(), RegistryError> {
        let (a, b) = (self.current(a), self.current(b));
        if a == b || self.apart(a, b)? {
            return Ok(());
        }
        let (winner, loser) = if self.made(a)? <= self.made(b)? { (a, b) } else { (b, a) };
        self.join(loser, winner)
    }

    /// Makes two subjects one.
    pub fn join(&mut self, loser: Id, winner: Id) -> Result<(), RegistryError> {
        let (loser, winner) = (self.current(loser), self.current(winner));
        if loser == winner {
            return Ok(());
        }
        for sql in [
            "INSERT INTO alias (loser, winner) VALUES (?1, ?2)",
            "INSERT OR IGNORE INTO holder (subject, scope) SELECT ?2, scope FROM holder WHERE subject = ?1",
        ] {
            self.db.prepare_cached(sql)?.execute([loser, winner])?;
        }
        self.db.prepare_cached("DELETE FROM holder WHERE subject = ?1")?.execute([loser])?;
        if self.held.remove(&loser) {
            self.held.insert(winner);
        }
        self.added.join(loser, winner);
        self.written.push((loser, winner));
        Ok(())
    }

    /// When a subject was made, as an ordinal; one that is not written yet is the youngest.
    fn made(&self, subject: Id) -> Result<i64, RegistryError> {
        let mut made = self.db.prepare_cached("SELECT made FROM subject WHERE subject = ?1")?;
        Ok(made.query_row([subject], |row| row.get(0)).optional()?.unwrap_or(i64::MAX))
    }
}

/// A random id that is not taken.
pub(super) fn draw(
    db: &Connection,
    entropy: &dyn Entropy,
    taken: impl Fn(Id) -> bool,
) -> Result<Id, RegistryError> {
    let mut exists = db.prepare_cached("SELECT 1 FROM subject WHERE subject = ?1")?;
    loop {
        let Some(id) = SubjectId::from_bits(entropy.u64()).map(SubjectId::get) else { continue };
        if !taken(id) && !exists.exists([id])? {
            return Ok(id);
        }
    }
}

/// The rows of `alias`.
pub(super) fn load(db: &Connection) -> Result<Aliases, RegistryError> {
    let mut rows = db.prepare("SELECT loser, winner FROM alias")?;
    let pairs = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Aliases::load(pairs.collect::<Result<Vec<_>, _>>()?))
}
