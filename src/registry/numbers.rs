//! Record numbers: whom they name.
//!
//! A record number never makes two patients of a hospital one. It says whom a consent is about, and for that it must be one
//! patient's alone: in the run, in what earlier runs brought, in every system, and as no other patient's id. A number that
//! was seen with two patients names nobody again, whatever later exports say, for nobody can tell to whom a signature that
//! was given under it belongs.

use almoner_model::{ContributorId, Entropy, SourcePatientId, SubjectId};
use rusqlite::{Connection, OptionalExtension, params};

use super::joins::{Id, Joins};
use super::schema::kind;
use super::{PatientTokens, RegistryError, Token, Tokens};
use crate::mapping::{IdSpace, Whose};

/// The place of a subject in a number that several patients have.
const SHARED: Id = 0;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum By {
    /// A record number by itself.
    Number,
    /// A record number within its system.
    InSystem,
    /// A patient id, read as a number.
    Id,
}

/// That a patient has a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    token: Token,
    by: By,
    subject: SubjectId,
}

/// All that the patients of a run have, in the order of tokens.
#[derive(Debug, Default)]
pub struct Claims(Vec<Claim>);

impl Claims {
    /// Of every patient of a run with the subject that it was given.
    pub fn new<'t>(patients: impl IntoIterator<Item = (SubjectId, &'t PatientTokens)>) -> Self {
        let mut all = Vec::new();
        for (subject, patient) in patients {
            for token in [patient.id_as_number, patient.id_as_reference] {
                all.push(Claim { token, by: By::Id, subject });
            }
            for record in &patient.records {
                all.push(Claim { token: record.number, by: By::Number, subject });
                all.push(Claim { token: record.in_system, by: By::InSystem, subject });
            }
        }
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    /// Pieces of about `size` claims; all claims of one number are in one piece.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = &[Claim]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let last = rest.get(size.min(rest.len()).checked_sub(1)?)?.token;
            let (batch, after) = rest.split_at(rest.partition_point(|claim| claim.token <= last));
            rest = after;
            Some(batch)
        })
    }
}

/// What claims came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claimed {
    /// Numbers that several patients have, and which name nobody.
    pub shared: u64,
    /// Those of them by which a consent was recorded before the data came; it is of nobody's data.
    pub awaited: u64,
    /// Consents' subjects that turned out to be a patient's: (loser, winner).
    pub merged: Vec<(SubjectId, SubjectId)>,
}

/// Writes down whom numbers name.
pub(super) fn claim(joins: &mut Joins<'_>, claims: &[Claim]) -> Result<Claimed, RegistryError> {
    let mut out = Claimed::default();
    for same in claims.chunk_by(|a, b| a.token == b.token) {
        one(joins, same, &mut out)?;
    }
    out.merged = joins.joined().collect();
    Ok(out)
}

fn one(joins: &mut Joins<'_>, claims: &[Claim], out: &mut Claimed) -> Result<(), RegistryError> {
    let [first, ..] = claims else { return Ok(()) };
    let subjects = |joins: &Joins<'_>, wanted: &dyn Fn(By) -> bool| {
        let all = claims.iter().filter(|c| wanted(c.by)).map(|c| joins.current(c.subject.get()));
        let mut all: Vec<Id> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let numbered = subjects(joins, &|by| by != By::Id);
    let mut named = subjects(joins, &|_| true);
    let known = row(joins.db, &first.token)?;
    let of = if first.by == By::InSystem { kind::IN_SYSTEM } else { kind::NUMBER };
    let now = match known {
        Some((subject, kind::AWAITED)) => {
            if joins.holds(subject)? {
                named.push(joins.current(subject));
                named.sort_unstable();
                named.dedup();
            }
            match named[..] {
                [patient] => {
                    joins.unite(patient, subject)?;
                    if joins.current(patient) == joins.current(subject) { patient } else { SHARED }
                }
                _ => SHARED,
            }
        }
        _ if numbered.is_empty() => return Ok(()),
        None if numbered.len() == 1 => numbered[0],
        Some((subject, _)) if subject != SHARED && numbered == [joins.current(subject)] => subject,
        _ => SHARED,
    };
    if of == kind::NUMBER {
        // A number that is another patient's id too names nobody either; that is found when somebody asks.
        out.shared += u64::from(now == SHARED || named.len() > 1);
        out.awaited += u64::from(now == SHARED && known.is_some_and(|(_, kind)| kind == kind::AWAITED));
    }
    if known != Some((now, of)) {
        let mut put = joins.db.prepare_cached(
            "INSERT INTO source (token, subject, kind, scope) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (token) DO UPDATE SET subject = excluded.subject, kind = excluded.kind",
        )?;
        let scope = joins.scope;
        put.execute(params![first.token.as_bytes(), joins.current(now), of, scope.as_bytes()])?;
    }
    Ok(())
}

/// What is known of a source token: the subject as it was written, and the kind.
pub(super) fn row(db: &Connection, token: &Token) -> Result<Option<(Id, i64)>, RegistryError> {
    let mut known = db.prepare_cached("SELECT subject, kind FROM source WHERE token = ?1")?;
    Ok(known.query_row([token.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Whose a record number is that a reference names, within its system or, where that is not said, by itself. A number that
/// only a consent has is nobody's yet.
pub(super) fn whose(joins: &Joins<'_>, token: &Token) -> Result<Whose, RegistryError> {
    Ok(match row(joins.db, token)? {
        None | Some((_, kind::AWAITED)) => Whose::Unknown,
        Some((subject, _)) => SubjectId::new(joins.current(subject)).map_or(Whose::Nobodys, Whose::One),
    })
}

/// The text by which somebody names a patient: `Patient/<id>` (a reference, FHIR R4 section 2.3.0.1) names by patient id
/// only; any other is read as a record number and as a patient id, and must mean one patient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// Of the number or reference: under this it waits for data that has not come.
    waits: Token,
    /// Of the patient id, in each space.
    ids: [Token; 2],
}

impl Name {
    pub fn new(tokens: &Tokens, contributor: &ContributorId, text: &SourcePatientId) -> Self {
        let reference = text.expose().strip_prefix("Patient/");
        let (waits, id) = match reference.map(|id| SourcePatientId::new(id.to_owned())) {
            Some(id) => (tokens.reference(contributor, &id), id),
            None => (tokens.number(contributor, text), text.clone()),
        };
        let ids = [IdSpace::First, IdSpace::Second].map(|space| tokens.id_in(space, contributor, &id));
        Self { waits, ids }
    }

    pub fn tokens(&self) -> impl Iterator<Item = Token> {
        [self.waits].into_iter().chain(self.ids)
    }
}

/// Whom a text names.
pub(super) fn named(joins: &Joins<'_>, name: &Name) -> Result<Option<SubjectId>, RegistryError> {
    let mut found = None;
    for token in name.tokens() {
        let Some((subject, _)) = row(joins.db, &token)? else { continue };
        let subject = joins.current(subject);
        if subject == SHARED || found.is_some_and(|other| other != subject) {
            return Err(RegistryError::Ambiguous);
        }
        found = Some(subject);
    }
    Ok(found.and_then(|subject| SubjectId::new(subject).ok()))
}

/// What a transaction that makes subjects reads once.
pub(super) struct Making {
    /// Whether anybody was erased.
    any_gone: bool,
    /// The age of the next subject.
    made: i64,
}

impl Making {
    pub fn new(db: &Connection) -> Result<Self, RegistryError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM suppressed), (SELECT ifnull(max(made), 0) + 1 FROM subject)";
        Ok(db.query_row(sql, [], |row| Ok(Self { any_gone: row.get(0)?, made: row.get(1)? }))?)
    }

    /// A new subject under a random id that is not taken.
    fn subject(&mut self, db: &Connection, entropy: &dyn Entropy) -> Result<SubjectId, RegistryError> {
        let mut put = db.prepare_cached("INSERT OR IGNORE INTO subject (subject, made) VALUES (?1, ?2)")?;
        loop {
            let Some(subject) = SubjectId::from_bits(entropy.u64()) else { continue };
            if put.execute([subject.get(), self.made])? == 1 {
                self.made += 1;
                return Ok(subject);
            }
        }
    }
}

/// See [`super::Registry::subjects_of_records`]. Writes nothing before it knows that the text names nobody yet.
pub(super) fn awaited(
    joins: &Joins<'_>,
    name: &Name,
    making: &mut Making,
    entropy: &dyn Entropy,
) -> Result<SubjectId, RegistryError> {
    if making.any_gone {
        let mut gone = joins.db.prepare_cached("SELECT 1 FROM suppressed WHERE token = ?1")?;
        for token in name.tokens() {
            if gone.exists([token.as_bytes()])? {
                return Err(RegistryError::Suppressed);
            }
        }
    }
    if let Some(subject) = named(joins, name)? {
        return Ok(subject);
    }
    let subject = making.subject(joins.db, entropy)?;
    let mut waits = joins
        .db
        .prepare_cached("INSERT INTO source (token, subject, kind, scope) VALUES (?1, ?2, ?3, ?4)")?;
    let (token, of) = (name.waits, kind::AWAITED);
    waits.execute(params![token.as_bytes(), subject.get(), of, joins.scope.as_bytes()])?;
    Ok(subject)
}
