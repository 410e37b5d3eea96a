//! Resolving patients to subjects inside one transaction.
//!
//! A batch reads every token of it once, decides in memory, and writes once, each in the order of the tokens, so that the
//! B-trees are walked and not jumped about in.

use std::collections::{BTreeMap, HashMap, HashSet};

use almoner_model::{Entropy, SubjectId};
use rusqlite::{Connection, params};

use super::joins::{Id, Joins, draw};
use super::schema::kind;
use super::{PatientTokens, RegistryError, Resolved, Token, numbers};

/// Linkage rows of one token: the scope (contributor) they came from and the subject, 0 where ambiguous.
type Links = Vec<([u8; 16], Id)>;

/// Tokens that several patients of one run have, and which therefore decide nothing in any of its batches.
#[derive(Clone, Default, Debug)]
pub struct Shared {
    /// Of record numbers, and of patient ids that are others' record numbers.
    numbers: HashSet<Token>,
    links: HashSet<Token>,
}

impl Shared {
    /// Of all patients of a run.
    pub fn of<'t>(patients: impl IntoIterator<Item = &'t PatientTokens> + Clone) -> Self {
        let numbers = |p: &'t PatientTokens| {
            p.records.iter().map(|r| r.number).chain([p.id_as_number, p.id_as_reference])
        };
        let links = |p: &'t PatientTokens| p.linkage.iter().copied();
        let all = || patients.clone().into_iter();
        Self {
            numbers: repeated(all().flat_map(|p| numbers(p).map(|token| (token, p.id))).collect()),
            links: repeated(all().flat_map(|p| links(p).map(|token| (token, p.id))).collect()),
        }
    }
}

/// Tokens that patients with different ids have.
fn repeated(mut owned: Vec<(Token, Token)>) -> HashSet<Token> {
    owned.sort_unstable();
    owned.dedup();
    owned.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0).collect()
}

struct Batch<'a, 'j, 's> {
    joins: &'j mut Joins<'a>,
    shared: &'s Shared,
    entropy: &'s dyn Entropy,
    /// Patient ids that are known.
    ids: HashMap<Token, Id>,
    /// Those of them whose records were merged into others.
    merged_away: HashSet<Token>,
    /// Numbers that consents wait under.
    awaited: HashMap<Token, Id>,
    links: HashMap<Token, Links>,
    suppressed: HashSet<Token>,
    new_subjects: BTreeMap<Id, i64>,
    next_made: i64,
    out: Resolved,
}

/// See [`super::Registry::resolve_batch`].
pub(super) fn batch(
    joins: &mut Joins<'_>,
    patients: &[PatientTokens],
    shared: &Shared,
    entropy: &dyn Entropy,
) -> Result<Resolved, RegistryError> {
    let mut batch = Batch::read(joins, patients, shared, entropy)?;
    let mut ids: BTreeMap<Token, Id> = BTreeMap::new();
    let mut links: BTreeMap<Token, Id> = BTreeMap::new();
    for patient in patients {
        if all_tokens(patient).any(|token| batch.suppressed.contains(&token)) {
            batch.out.subjects.push(None);
            continue;
        }
        let subject = batch.resolve(patient, ids.get(&patient.id).copied())?;
        if !patient.replaced && batch.merged_away.remove(&patient.id) {
            mark(batch.joins.db, &patient.id, kind::ID)?;
        }
        ids.insert(patient.id, subject);
        for link in &patient.linkage {
            links.insert(*link, if batch.shared.links.contains(link) { 0 } else { subject });
        }
        batch.out.subjects.push(SubjectId::new(subject).ok());
    }
    batch.write(&ids, &links)
}

/// Everything by which a patient may be known to this contributor.
fn all_tokens(patient: &PatientTokens) -> impl Iterator<Item = Token> {
    let records = patient.records.iter().flat_map(|r| [r.number, r.in_system]);
    records.chain([patient.id, patient.id_as_number, patient.id_as_reference])
}

fn sorted(tokens: impl Iterator<Item = Token>) -> Vec<Token> {
    let mut tokens: Vec<Token> = tokens.collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

impl<'a, 'j, 's> Batch<'a, 'j, 's> {
    fn read(
        joins: &'j mut Joins<'a>,
        patients: &[PatientTokens],
        shared: &'s Shared,
        entropy: &'s dyn Entropy,
    ) -> Result<Self, RegistryError> {
        let next_made =
            joins.db.query_row("SELECT ifnull(max(made), 0) + 1 FROM subject", [], |row| row.get(0))?;
        let mut out = Self {
            joins,
            shared,
            entropy,
            ids: HashMap::new(),
            merged_away: HashSet::new(),
            awaited: HashMap::new(),
            links: HashMap::new(),
            suppressed: HashSet::new(),
            new_subjects: BTreeMap::new(),
            next_made,
            out: Resolved { subjects: Vec::with_capacity(patients.len()), ..Resolved::default() },
        };
        out.read_sources(&sorted(patients.iter().flat_map(all_tokens)))?;
        out.read_links(&sorted(patients.iter().flat_map(|p| p.linkage.iter().copied())))?;
        Ok(out)
    }

    fn read_sources(&mut self, tokens: &[Token]) -> Result<(), RegistryError> {
        let db = self.joins.db;
        let any =
            db.query_row("SELECT EXISTS (SELECT 1 FROM suppressed)", [], |row| row.get::<_, bool>(0))?;
        let mut gone = db.prepare_cached("SELECT 1 FROM suppressed WHERE token = ?1 AND refuses")?;
        for token in tokens {
            match numbers::row(db, token)? {
                Some((subject, of @ (kind::ID | kind::MERGED_AWAY))) => {
                    self.ids.insert(*token, subject);
                    if of == kind::MERGED_AWAY {
                        self.merged_away.insert(*token);
                    }
                }
                Some((subject, kind::AWAITED)) if !self.shared.numbers.contains(token) => {
                    self.awaited.insert(*token, subject);
                }
                _ => {}
            }
            if any && gone.exists([token.as_bytes()])? {
                self.suppressed.insert(*token);
            }
        }
        Ok(())
    }

    fn read_links(&mut self, tokens: &[Token]) -> Result<(), RegistryError> {
        let mut known =
            self.joins.db.prepare_cached("SELECT scope, subject FROM linkage WHERE token = ?1")?;
        for token in tokens {
            let rows = known.query_map([token.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let links = rows.collect::<Result<Links, _>>()?;
            if !links.is_empty() {
                self.links.insert(*token, links);
            }
        }
        Ok(())
    }

    /// The subject of one patient: by id, by a consent that waits for this patient alone, by linkage, or new.
    fn resolve(&mut self, patient: &PatientTokens, again: Option<Id>) -> Result<Id, RegistryError> {
        let own = again.or_else(|| self.ids.get(&patient.id).copied()).map(|id| self.joins.current(id));
        let named = patient.records.iter().map(|r| r.number);
        let named = named.chain([patient.id_as_number, patient.id_as_reference]);
        let awaited: Vec<Id> = named.filter_map(|token| self.awaited.get(&token).copied()).collect();
        let linked = self.by_linkage(patient, own);
        let found = match own {
            Some(subject) => Some(subject),
            None => match self.free(awaited.first().copied())? {
                Some(subject) => Some(subject),
                None => {
                    let linked = self.free(linked)?;
                    self.out.linked += u64::from(linked.is_some());
                    linked
                }
            },
        };
        let subject = match found {
            Some(subject) => subject,
            None => self.create()?,
        };
        self.joins.hold(subject);
        // What else points to the same person and is another subject so far is a late match.
        for other in awaited.into_iter().chain(linked) {
            self.joins.unite(subject, other)?;
        }
        Ok(self.joins.current(subject))
    }

    /// `subject`, unless it is another patient's of this contributor.
    fn free(&self, subject: Option<Id>) -> Result<Option<Id>, RegistryError> {
        match subject {
            Some(subject) if !self.joins.holds(subject)? => Ok(Some(self.joins.current(subject))),
            _ => Ok(None),
        }
    }

    /// The one subject of other contributors that the linkage tokens of a patient agree on.
    fn by_linkage(&self, patient: &PatientTokens, own: Option<Id>) -> Option<Id> {
        let scope = *self.joins.scope.as_bytes();
        let mut found = None;
        let telling = patient.linkage.iter().filter(|t| !self.shared.links.contains(t));
        for links in telling.filter_map(|t| self.links.get(t)) {
            let of_own = links.iter().find(|(other, _)| *other == scope);
            // Another patient of this contributor has the token, so it does not tell the two apart.
            if of_own.is_some_and(|(_, subject)| *subject == 0 || Some(self.joins.current(*subject)) != own) {
                continue;
            }
            for (_, subject) in links.iter().filter(|(other, _)| *other != scope) {
                let subject = self.joins.current(*subject);
                if subject == 0 || found.is_some_and(|f| f != subject) {
                    return None;
                }
                found = Some(subject);
            }
        }
        found
    }

    fn create(&mut self) -> Result<Id, RegistryError> {
        let subject = draw(self.joins.db, self.entropy, |id| self.new_subjects.contains_key(&id))?;
        self.new_subjects.insert(subject, self.next_made);
        self.next_made += 1;
        self.out.created += 1;
        Ok(subject)
    }

    fn write(
        mut self,
        ids: &BTreeMap<Token, Id>,
        links: &BTreeMap<Token, Id>,
    ) -> Result<Resolved, RegistryError> {
        let db = self.joins.db;
        let mut insert = db.prepare_cached("INSERT INTO subject (subject, made) VALUES (?1, ?2)")?;
        for (subject, made) in &self.new_subjects {
            insert.execute([subject, made])?;
        }
        let mut insert = db.prepare_cached(
            "INSERT INTO source (token, subject, kind, scope) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (token) DO UPDATE SET subject = excluded.subject",
        )?;
        for (token, subject) in ids {
            let subject = self.joins.current(*subject);
            if self.ids.get(token) != Some(&subject) {
                insert.execute(params![token.as_bytes(), subject, kind::ID, self.joins.scope.as_bytes()])?;
            }
        }
        self.write_links(links)?;
        for position in &mut self.out.subjects {
            *position = position.and_then(|s| SubjectId::new(self.joins.current(s.get())).ok());
        }
        self.out.merged = self.joins.joined().collect();
        Ok(self.out)
    }

    fn write_links(&self, links: &BTreeMap<Token, Id>) -> Result<(), RegistryError> {
        let (joins, scope) = (&self.joins, self.joins.scope);
        let mut insert = joins.db.prepare_cached(
            "INSERT INTO linkage (token, scope, subject) VALUES (?1, ?2, ?3)
             ON CONFLICT (token, scope) DO UPDATE SET subject = excluded.subject",
        )?;
        for (token, subject) in links {
            let subject = joins.current(*subject);
            let own = self.links.get(token).and_then(|l| l.iter().find(|(s, _)| s == scope.as_bytes()));
            let subject = match own {
                Some((_, known)) if *known == 0 || joins.current(*known) != subject => 0,
                _ => subject,
            };
            if own.is_none_or(|(_, known)| *known != subject) {
                insert.execute(params![token.as_bytes(), scope.as_bytes(), subject])?;
            }
        }
        Ok(())
    }
}

/// The subject of a patient id, as it was written, and whether its record was merged away.
pub(super) fn id_row(db: &Connection, token: &Token) -> Result<Option<(Id, bool)>, RegistryError> {
    Ok(numbers::row(db, token)?.map(|(subject, of)| (subject, of == kind::MERGED_AWAY)))
}

pub(super) fn is_suppressed(db: &Connection, token: &Token) -> Result<bool, RegistryError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM suppressed WHERE token = ?1 AND refuses")?
        .exists([token.as_bytes()])?)
}

/// Merges that a hospital declares: see [`super::Registry::merge`].
pub(super) fn merge(joins: &mut Joins<'_>, merges: &[super::Merge]) -> Result<Vec<bool>, RegistryError> {
    let losers: HashSet<Token> = merges.iter().map(|merge| merge.loser).collect();
    merges.iter().map(|merge| merge_one(joins, merge, &losers)).collect()
}

fn merge_one(
    joins: &mut Joins<'_>,
    merge: &super::Merge,
    losers: &HashSet<Token>,
) -> Result<bool, RegistryError> {
    let (from, into) = (merge.from.get(), merge.into.get());
    let one = joins.current(from) == joins.current(into);
    if !one && joins.others_hold(from)? && joins.others_hold(into)? {
        return Ok(false);
    }
    joins.join(from, into)?;
    let stood = numbers::row(joins.db, &merge.loser)?.is_some_and(|(_, of)| of == kind::ID);
    mark(joins.db, &merge.loser, kind::MERGED_AWAY)?;
    // An earlier merge is turned round: what stood for the person gives its place to what takes it.
    if one && stood && !losers.contains(&merge.winner) {
        mark(joins.db, &merge.winner, kind::ID)?;
    }
    Ok(true)
}

/// Says of a patient id whether its record was merged away.
fn mark(db: &Connection, token: &Token, of: i64) -> Result<(), RegistryError> {
    let mut mark = db
        .prepare_cached("UPDATE source SET kind = ?2 WHERE token = ?1 AND kind IN (?3, ?4) AND kind <> ?2")?;
    mark.execute(params![token.as_bytes(), of, kind::ID, kind::MERGED_AWAY])?;
    Ok(())
}
