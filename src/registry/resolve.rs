//! Resolving patients to subjects inside one transaction.
//!
//! A batch reads every token of it once, decides in memory, and writes once, each in the order of the tokens, so that the
//! B-trees are walked and not jumped about in.

use std::collections::{BTreeMap, HashMap, HashSet};

use almoner_model::{Entropy, SubjectId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{PatientTokens, RegistryError, Resolved, Token};

type Id = i64;

/// What the database knows of a source token.
#[derive(Clone, Copy)]
struct Known {
    subject: Id,
    pending: bool,
}

/// Linkage rows of one token: the scope (contributor) they came from and the subject, 0 where ambiguous.
type Links = Vec<([u8; 16], Id)>;

struct Batch<'a> {
    db: &'a Connection,
    scope: Token,
    entropy: &'a dyn Entropy,
    sources: HashMap<Token, Known>,
    links: HashMap<Token, Links>,
    suppressed: HashSet<Token>,
    aliases: HashMap<Id, Id>,
    /// Record tokens that several patient ids of the batch claim.
    shared: HashSet<Token>,
    /// Linkage tokens that several patient ids of the batch have.
    shared_links: HashSet<Token>,
    new_subjects: BTreeMap<Id, i64>,
    next_made: i64,
    out: Resolved,
}

/// See [`super::Registry::resolve_batch`].
pub(super) fn batch(
    db: &Connection,
    scope: Token,
    patients: &[PatientTokens],
    entropy: &dyn Entropy,
) -> Result<Resolved, RegistryError> {
    let mut batch = Batch::read(db, scope, patients, entropy)?;
    let mut sources: BTreeMap<Token, Id> = BTreeMap::new();
    let mut links: BTreeMap<Token, Id> = BTreeMap::new();
    for patient in patients {
        if batch.is_suppressed(patient) {
            batch.out.subjects.push(None);
            continue;
        }
        let subject = batch.resolve(patient, &sources)?;
        sources.insert(patient.id, subject);
        for record in patient.records.iter().filter(|r| !batch.shared.contains(r)) {
            sources.entry(*record).or_insert(subject);
        }
        if batch.sources.get(&patient.id_as_record).is_some_and(|k| k.pending) {
            sources.entry(patient.id_as_record).or_insert(subject);
        }
        for link in &patient.linkage {
            links.insert(*link, if batch.shared_links.contains(link) { 0 } else { subject });
        }
        batch.out.subjects.push(SubjectId::new(subject).ok());
    }
    for position in &mut batch.out.subjects {
        *position = position.and_then(|s| SubjectId::new(batch_current(&batch.aliases, s.get())).ok());
    }
    batch.write(&sources, &links)
}

/// Tokens that patients with different ids share.
fn shared(patients: &[PatientTokens], tokens: impl Fn(&PatientTokens) -> &Vec<Token>) -> HashSet<Token> {
    let mut owners: HashMap<Token, Token> = HashMap::new();
    let mut out = HashSet::new();
    for patient in patients {
        for token in tokens(patient) {
            if *owners.entry(*token).or_insert(patient.id) != patient.id {
                out.insert(*token);
            }
        }
    }
    out
}

fn batch_current(aliases: &HashMap<Id, Id>, subject: Id) -> Id {
    aliases.get(&subject).copied().unwrap_or(subject)
}

impl<'a> Batch<'a> {
    fn read(
        db: &'a Connection,
        scope: Token,
        patients: &[PatientTokens],
        entropy: &'a dyn Entropy,
    ) -> Result<Self, RegistryError> {
        let mut out = Self {
            db,
            scope,
            entropy,
            sources: HashMap::new(),
            links: HashMap::new(),
            suppressed: HashSet::new(),
            aliases: all_aliases(db)?,
            shared: shared(patients, |p| &p.records),
            shared_links: shared(patients, |p| &p.linkage),
            new_subjects: BTreeMap::new(),
            next_made: db.query_row("SELECT ifnull(max(made), 0) + 1 FROM subject", [], |row| row.get(0))?,
            out: Resolved { subjects: Vec::with_capacity(patients.len()), ..Resolved::default() },
        };
        out.out.ambiguous_records = out.shared.len() as u64;
        out.out.ambiguous_links = out.shared_links.len() as u64;
        let mut tokens: Vec<Token> =
            patients.iter().flat_map(|p| p.records.iter().chain([&p.id, &p.id_as_record])).copied().collect();
        tokens.sort_unstable();
        tokens.dedup();
        out.read_sources(&tokens)?;
        let mut tokens: Vec<Token> = patients.iter().flat_map(|p| p.linkage.iter()).copied().collect();
        tokens.sort_unstable();
        tokens.dedup();
        out.read_links(&tokens)?;
        Ok(out)
    }

    fn read_sources(&mut self, tokens: &[Token]) -> Result<(), RegistryError> {
        let mut known = self.db.prepare_cached("SELECT subject, pending FROM source WHERE token = ?1")?;
        let any =
            self.db.query_row("SELECT EXISTS (SELECT 1 FROM suppressed)", [], |row| row.get::<_, bool>(0))?;
        let mut gone = self.db.prepare_cached("SELECT 1 FROM suppressed WHERE token = ?1")?;
        for token in tokens {
            let row = known
                .query_row([token.as_bytes()], |row| Ok(Known { subject: row.get(0)?, pending: row.get(1)? }))
                .optional()?;
            if let Some(row) = row {
                self.sources.insert(*token, Known { subject: self.current(row.subject), ..row });
            }
            if any && gone.exists([token.as_bytes()])? {
                self.suppressed.insert(*token);
            }
        }
        Ok(())
    }

    fn read_links(&mut self, tokens: &[Token]) -> Result<(), RegistryError> {
        let mut known = self.db.prepare_cached("SELECT scope, subject FROM linkage WHERE token = ?1")?;
        for token in tokens {
            let rows = known.query_map([token.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let links = rows.collect::<Result<Links, _>>()?;
            if !links.is_empty() {
                self.links.insert(*token, links);
            }
        }
        Ok(())
    }

    fn current(&self, subject: Id) -> Id {
        batch_current(&self.aliases, subject)
    }

    fn is_suppressed(&self, patient: &PatientTokens) -> bool {
        patient.records.iter().chain([&patient.id]).any(|t| self.suppressed.contains(t))
    }

    /// The subject of one patient: by id, by record number, by a consent that named the id, by linkage, or new.
    fn resolve(&mut self, patient: &PatientTokens, batch: &BTreeMap<Token, Id>) -> Result<Id, RegistryError> {
        let find = |this: &Self, token: &Token| {
            batch.get(token).map(|s| this.current(*s)).or_else(|| this.sources.get(token).map(|k| k.subject))
        };
        let records: Vec<Token> =
            patient.records.iter().filter(|r| !self.shared.contains(r)).copied().collect();
        let by_source = find(self, &patient.id).or_else(|| records.iter().find_map(|r| find(self, r)));
        let waiting = |this: &Self, token: &Token| {
            this.sources.get(token).filter(|k| k.pending).map(|k| this.current(k.subject))
        };
        let pending: Vec<Id> =
            records.iter().chain([&patient.id_as_record]).filter_map(|token| waiting(self, token)).collect();
        let linked = self.by_linkage(patient, by_source);
        let subject = match (by_source, pending.first(), linked) {
            (Some(subject), _, _) | (None, Some(&subject), _) => subject,
            (None, None, Some(subject)) => {
                self.out.linked += 1;
                subject
            }
            (None, None, None) => return self.create(),
        };
        // What else points to the same person and is another subject so far is a late match.
        for other in pending.into_iter().chain(linked) {
            self.unite(subject, other)?;
        }
        Ok(self.current(subject))
    }

    /// The one subject of other contributors that the linkage tokens of a patient agree on.
    fn by_linkage(&self, patient: &PatientTokens, own: Option<Id>) -> Option<Id> {
        let mut found = None;
        let telling = patient.linkage.iter().filter(|t| !self.shared_links.contains(t));
        for links in telling.filter_map(|t| self.links.get(t)) {
            let of_own = links.iter().find(|(scope, _)| scope == self.scope.as_bytes());
            // Another patient of this contributor has the token, so it does not tell the two apart.
            if of_own.is_some_and(|(_, subject)| *subject == 0 || Some(self.current(*subject)) != own) {
                continue;
            }
            for (_, subject) in links.iter().filter(|(scope, _)| scope != self.scope.as_bytes()) {
                let subject = self.current(*subject);
                if subject == 0 || found.is_some_and(|f| f != subject) {
                    return None;
                }
                found = Some(subject);
            }
        }
        found
    }

    fn create(&mut self) -> Result<Id, RegistryError> {
        let subject = draw(self.db, self.entropy, |id| self.new_subjects.contains_key(&id))?;
        self.new_subjects.insert(subject, self.next_made);
        self.next_made += 1;
        self.out.created += 1;
        Ok(subject)
    }

    fn made(&self, subject: Id) -> Result<i64, RegistryError> {
        match self.new_subjects.get(&subject) {
            Some(made) => Ok(*made),
            None => made(self.db, subject),
        }
    }

    /// The older of two subjects wins.
    fn unite(&mut self, a: Id, b: Id) -> Result<(), RegistryError> {
        let (a, b) = (self.current(a), self.current(b));
        if a == b {
            return Ok(());
        }
        let (winner, loser) = if self.made(a)? <= self.made(b)? { (a, b) } else { (b, a) };
        write_alias(self.db, loser, winner)?;
        for target in self.aliases.values_mut().filter(|t| **t == loser) {
            *target = winner;
        }
        self.aliases.insert(loser, winner);
        self.out.merged.extend(SubjectId::new(loser).ok().zip(SubjectId::new(winner).ok()));
        Ok(())
    }

    fn write(
        self,
        sources: &BTreeMap<Token, Id>,
        links: &BTreeMap<Token, Id>,
    ) -> Result<Resolved, RegistryError> {
        let mut insert = self.db.prepare_cached("INSERT INTO subject (subject, made) VALUES (?1, ?2)")?;
        for (subject, made) in &self.new_subjects {
            insert.execute([subject, made])?;
        }
        let mut insert = self.db.prepare_cached(
            "INSERT INTO source (token, subject, pending) VALUES (?1, ?2, 0)
             ON CONFLICT (token) DO UPDATE SET subject = excluded.subject, pending = 0",
        )?;
        for (token, subject) in sources {
            let subject = self.current(*subject);
            let known = self.sources.get(token);
            if known.is_none_or(|k| k.pending || k.subject != subject) {
                insert.execute(params![token.as_bytes(), subject])?;
            }
        }
        let mut insert = self.db.prepare_cached(
            "INSERT INTO linkage (token, scope, subject) VALUES (?1, ?2, ?3)
             ON CONFLICT (token, scope) DO UPDATE SET subject = excluded.subject",
        )?;
        for (token, subject) in links {
            let subject = self.current(*subject);
            let own = self.links.get(token).and_then(|l| l.iter().find(|(s, _)| s == self.scope.as_bytes()));
            let subject = match own {
                Some((_, known)) if *known == 0 || self.current(*known) != subject => 0,
                _ => subject,
            };
            if own.is_none_or(|(_, known)| *known != subject) {
                insert.execute(params![token.as_bytes(), self.scope.as_bytes(), subject])?;
            }
        }
        Ok(self.out)
    }
}

/// A random id that is not taken.
fn draw(db: &Connection, entropy: &dyn Entropy, taken: impl Fn(Id) -> bool) -> Result<Id, RegistryError> {
    let mut exists = db.prepare_cached("SELECT 1 FROM subject WHERE subject = ?1")?;
    loop {
        let Some(id) = SubjectId::from_bits(entropy.u64()).map(SubjectId::get) else { continue };
        if !taken(id) && !exists.exists([id])? {
            return Ok(id);
        }
    }
}

fn all_aliases(db: &Connection) -> Result<HashMap<Id, Id>, RegistryError> {
    let mut rows = db.prepare_cached("SELECT loser, winner FROM alias")?;
    let pairs = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(pairs.collect::<Result<_, _>>()?)
}

/// When a subject was made, as an ordinal; unknown ones are the youngest.
fn made(db: &Connection, subject: Id) -> Result<i64, RegistryError> {
    let made = db
        .prepare_cached("SELECT made FROM subject WHERE subject = ?1")?
        .query_row([subject], |row| row.get(0))
        .optional()?;
    Ok(made.unwrap_or(i64::MAX))
}

/// Aliases never chain: what pointed to the loser points to the winner at once.
fn write_alias(db: &Connection, loser: Id, winner: Id) -> Result<(), RegistryError> {
    db.execute("UPDATE alias SET winner = ?2 WHERE winner = ?1", [loser, winner])?;
    db.execute("INSERT OR REPLACE INTO alias (loser, winner) VALUES (?1, ?2)", [loser, winner])?;
    Ok(())
}

fn current(db: &Connection, subject: Id) -> Result<Id, RegistryError> {
    let winner = db
        .prepare_cached("SELECT winner FROM alias WHERE loser = ?1")?
        .query_row([subject], |row| row.get(0))
        .optional()?;
    Ok(winner.unwrap_or(subject))
}

/// See [`super::Registry::alias`].
pub(super) fn alias(db: &Connection, loser: SubjectId, winner: SubjectId) -> Result<(), RegistryError> {
    let (loser, winner) = (current(db, loser.get())?, current(db, winner.get())?);
    if loser == winner {
        return Err(RegistryError::SelfAlias);
    }
    write_alias(db, loser, winner)
}

/// The subject of a source token.
pub(super) fn lookup(db: &Connection, token: &Token) -> Result<Option<SubjectId>, RegistryError> {
    let subject: Option<Id> = db
        .prepare_cached("SELECT subject FROM source WHERE token = ?1")?
        .query_row([token.as_bytes()], |row| row.get(0))
        .optional()?;
    match subject {
        Some(id) => Ok(SubjectId::new(current(db, id)?).ok()),
        None => Ok(None),
    }
}

pub(super) fn is_suppressed(db: &Connection, token: &Token) -> Result<bool, RegistryError> {
    Ok(db.prepare_cached("SELECT 1 FROM suppressed WHERE token = ?1")?.exists([token.as_bytes()])?)
}

/// See [`super::Registry::subject_of_record`].
pub(super) fn record(
    db: &Connection,
    record: Token,
    id: Token,
    entropy: &dyn Entropy,
) -> Result<SubjectId, RegistryError> {
    if is_suppressed(db, &record)? || is_suppressed(db, &id)? {
        return Err(RegistryError::Suppressed);
    }
    for token in [&record, &id] {
        if let Some(subject) = lookup(db, token)? {
            return Ok(subject);
        }
    }
    let subject = draw(db, entropy, |_| false)?;
    db.execute(
        "INSERT INTO subject (subject, made) SELECT ?1, ifnull(max(made), 0) + 1 FROM subject",
        [subject],
    )?;
    db.execute(
        "INSERT INTO source (token, subject, pending) VALUES (?1, ?2, 1)",
        params![record.as_bytes(), subject],
    )?;
    Ok(SubjectId::new(subject).expect("draw gives ids in range"))
}
