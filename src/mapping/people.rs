//! Keyed digests of source ids, and the index of people that one ingest run works with.
//!
//! Serves the arrow `intake → mapping`. Source ids (record numbers, resource ids) are identifying: nothing after mapping
//! carries one. What takes their place is a SipHash-2-4 under a key that belongs to one contributor, so that equal ids of
//! two hospitals differ, and so that nobody without the key can test a guess. The keys are stable over runs: an
//! incremental export finds the rows of an earlier one by them.
//!
//! Does not give subject ids: the registry does, and the flow writes them in here.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};

use almoner_model::{Origin, RowKey, SubjectId};
use siphasher::{sip, sip128};

use super::identifiers::{Identifiers, NamedIdentifier};

/// The name under which a source id is hashed: `Encounter`, `visit_occurrence`, … Two kinds never share a key.
pub type RowKind<'a> = &'a str;

/// A form in which a hospital sends people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// FHIR: people have a `Patient.id`.
    Fhir,
    /// OMOP tables: people have a `person_id`.
    Omop,
}

/// Ids of people that are compared with each other. Those of the form that a hospital sent first are one space; those of
/// the other are a second, unless the hospital says that equal ids are one person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdSpace {
    /// Of the form that came first, or of both.
    #[default]
    First,
    /// Of the form that came later.
    Second,
}

/// The space of each form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdSpaces {
    /// Of `Patient.id`.
    pub fhir: IdSpace,
    /// Of `person_id`.
    pub omop: IdSpace,
}

impl IdSpaces {
    /// The space of a form.
    pub const fn of(self, form: Form) -> IdSpace {
        match form {
            Form::Fhir => self.fhir,
            Form::Omop => self.omop,
        }
    }
}

/// SipHash-2-4 (Aumasson and Bernstein 2012) of source ids under one contributor's key.
#[derive(Clone)]
pub struct KeyedHasher {
    row: sip::SipHasher24,
    person: sip128::SipHasher24,
}

impl fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHasher(…)")
    }
}

impl KeyedHasher {
    /// From 32 secret bytes of the contributor: the first half keys rows, the second people.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut row = [0; 16];
        let mut person = [0; 16];
        row.copy_from_slice(&key[..16]);
        person.copy_from_slice(&key[16..]);
        Self { row: sip::SipHasher24::new_with_key(&row), person: sip128::SipHasher24::new_with_key(&person) }
    }

    /// The key of a record's rows: of the resource type or table, and its source id. Bits of a [`RowKey`].
    pub fn row_key(&self, kind: RowKind<'_>, id: &str) -> u64 {
        let mut hasher = self.row;
        hasher.write(kind.as_bytes());
        hasher.write(&[0]);
        hasher.write(id.as_bytes());
        RowKey::of_record(Origin::of_kind(kind), hasher.finish()).bits()
    }

    /// The key of a person: of `Patient.id` or `person_id`.
    pub fn person_key(&self, space: IdSpace, id: &str) -> u128 {
        let mut hasher = self.person;
        if space == IdSpace::Second {
            // No text begins so.
            hasher.write(&[0xff]);
        }
        hasher.write(id.as_bytes());
        let digest = sip128::Hasher128::finish128(&hasher);
        digest.as_u128()
    }

    /// A hash of a part of an identifier; no part of one kind is compared with one of another.
    pub(super) fn identifier_hash(&self, part: &str, text: &str) -> u64 {
        let mut hasher = self.person;
        hasher.write(b"identifier\0");
        hasher.write(part.as_bytes());
        hasher.write(&[0]);
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// A hasher for keys that are hashes already: takes the low 64 bits as they are.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

type ByKey = HashMap<u128, u32, BuildHasherDefault<AlreadyHashed>>;

/// Whose an identifier is, as far as earlier exports say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// Nobody is known to have or have had it.
    Unknown,
    /// Several people have or had it, so that it names none of them.
    Nobodys,
    /// One person's alone.
    One(SubjectId),
}

/// People who are not in this export but whom the exchange knows already for this contributor: an incremental export
/// carries rows of theirs without their Patient record.
pub trait OutsidePersons: Send + Sync {
    /// The subject that a source id stands for in a space, if there is one.
    fn lookup(&self, space: IdSpace, source_id: &str) -> Option<SubjectId>;

    /// Whether whoever had a source id was erased.
    fn was_erased(&self, space: IdSpace, source_id: &str) -> bool;

    /// Whether the hospital merged the record with this id into another's.
    fn is_merged_away(&self, space: IdSpace, source_id: &str) -> bool;

    /// Whose an identifier is.
    fn whose(&self, identifier: NamedIdentifier<'_>) -> Whose;
}

/// The people of one ingest run: source id → a small ordinal → subject id.
///
/// Ids and identifiers are two spaces: an identifier never names whoever has it as an id.
///
/// Filled by the reference pass ([`Self::add`], [`Self::merge`]), completed by the flow ([`Self::assign`],
/// [`Self::set_outside`]), then shared and only read.
pub struct PersonIndex {
    hasher: KeyedHasher,
    spaces: IdSpaces,
    by_key: ByKey,
    identifiers: Identifiers,
    merged_into: Vec<u32>,
    subjects: Vec<Option<SubjectId>>,
    outside: Option<Box<dyn OutsidePersons>>,
    late: RwLock<Late>,
}

/// What asking outside the export came to.
enum Found {
    Nobody,
    /// Somebody of the export.
    Here(u32),
    /// Somebody who is not in it.
    Outside(SubjectId),
    /// Somebody who was erased: known, and without a subject.
    Erased,
}

#[derive(Default)]
struct Late {
    by_key: HashMap<u128, Option<u32>, BuildHasherDefault<AlreadyHashed>>,
    subjects: Vec<Option<SubjectId>>,
}

impl fmt::Debug for PersonIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PersonIndex({} persons)", self.len())
    }
}

impl PersonIndex {
    /// An empty index of one contributor's people, whose ids are one space whatever their form.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self::within(hasher, IdSpaces::default())
    }

    /// An empty index of one contributor's people, whose ids are told apart by these spaces.
    pub fn within(hasher: KeyedHasher, spaces: IdSpaces) -> Self {
        Self {
            hasher,
            spaces,
            by_key: ByKey::default(),
            identifiers: Identifiers::default(),
            merged_into: Vec::new(),
            subjects: Vec::new(),
            outside: None,
            late: RwLock::default(),
        }
    }

    /// The hasher of this contributor's ids.
    pub fn hasher(&self) -> &KeyedHasher {
        &self.hasher
    }

    /// The spaces of ids.
    pub const fn spaces(&self) -> IdSpaces {
        self.spaces
    }

    /// The ordinal of a person, new if the id was not seen before in its space. Ordinals are dense from 0, in order of first
    /// sight.
    pub fn add(&mut self, form: Form, source_id: &str) -> u32 {
        let next = u32::try_from(self.merged_into.len()).unwrap_or(u32::MAX);
        let ordinal =
            *self.by_key.entry(self.hasher.person_key(self.spaces.of(form), source_id)).or_insert(next);
        if ordinal == next {
            self.merged_into.push(next);
            self.subjects.push(None);
        }
        ordinal
    }

    /// That a person has an identifier, by which references may name them while it is theirs alone.
    pub fn add_identifier(&mut self, system: &str, value: &str, ordinal: u32) {
        self.identifiers.add(&self.hasher, system, value, ordinal);
    }

    /// Makes identifiers fast to find, when all are added.
    pub fn sort_identifiers(&mut self) {
        self.identifiers.sort();
    }

    /// `loser`'s rows become `winner`'s (`Patient.link` `replaced-by`, seen from the loser). A circle is left as it is.
    pub fn merge(&mut self, loser: u32, winner: u32) {
        let (loser, winner) = (self.resolve(loser), self.resolve(winner));
        if loser != winner
            && let Some(slot) = self.merged_into.get_mut(loser as usize)
        {
            *slot = winner;
        }
    }

    /// Takes back that a record was merged into another.
    pub fn hold_apart(&mut self, loser: u32) {
        if let Some(slot) = self.merged_into.get_mut(loser as usize) {
            *slot = loser;
        }
    }

    /// Takes a Patient out whom only a merge named, so that whatever names them finds nobody.
    pub fn forget(&mut self, source_id: &str) {
        self.by_key.remove(&self.hasher.person_key(self.spaces.fhir, source_id));
    }

    /// Whether a record of the export was merged into another of it.
    pub fn has_winner(&self, loser: u32) -> bool {
        self.merged_into.get(loser as usize).is_some_and(|winner| *winner != loser)
    }

    /// The ordinal of a Patient of the export by its id, merges left aside.
    pub fn own(&self, source_id: &str) -> Option<u32> {
        self.by_key.get(&self.hasher.person_key(self.spaces.fhir, source_id)).copied()
    }

    /// Whether the Patient with this id was merged into another, in this export or before.
    pub fn is_merged_away(&self, source_id: &str) -> bool {
        self.own(source_id).is_some_and(|ordinal| self.resolve(ordinal) != ordinal)
            || self.outside.as_ref().is_some_and(|o| o.is_merged_away(self.spaces.fhir, source_id))
    }

    /// Whether the run continues earlier ones, so that its records may have rows already.
    pub fn continues(&self) -> bool {
        self.outside.is_some()
    }

    /// The person that `ordinal` stands for after merges.
    pub fn resolve(&self, mut ordinal: u32) -> u32 {
        while let Some(&next) = self.merged_into.get(ordinal as usize) {
            if next == ordinal {
                break;
            }
            ordinal = next;
        }
        ordinal
    }

    /// The ordinal of the person whom a row names, after merges; `None` if neither the export nor the registry knows
    /// the id (rule `dangling-patient`). Safe to call from many threads.
    pub fn find(&self, form: Form, source_id: &str) -> Option<u32> {
        let space = self.spaces.of(form);
        let key = self.hasher.person_key(space, source_id);
        if let Some(&ordinal) = self.by_key.get(&key) {
            return Some(self.resolve(ordinal));
        }
        let outside = self.outside.as_ref()?;
        self.late(key, || match outside.lookup(space, source_id) {
            Some(subject) => Found::Outside(subject),
            None if outside.was_erased(space, source_id) => Found::Erased,
            None => Found::Nobody,
        })
    }

    /// The ordinal of the one person who has an identifier, after merges; `None` if nobody or several people have it. In a
    /// run that continues earlier ones it must be one person's alone in the export and, as a record number, in all exports
    /// before. Safe to call from many threads.
    pub fn find_identifier(&self, identifier: NamedIdentifier<'_>) -> Option<u32> {
        let mut here = None;
        for ordinal in self.identifiers.of(&self.hasher, identifier).map(|o| self.resolve(o)) {
            if *here.get_or_insert(ordinal) != ordinal {
                return None;
            }
        }
        let Some(outside) = &self.outside else { return here };
        let key = Identifiers::key(&self.hasher, identifier);
        self.late(key, || match (outside.whose(identifier), here) {
            // Changes alone do not show that an identifier is nobody else's.
            (Whose::Unknown | Whose::Nobodys, _) => Found::Nobody,
            (Whose::One(subject), None) => Found::Outside(subject),
            (Whose::One(subject), Some(person)) if self.subject(person) == Some(subject) => {
                Found::Here(person)
            }
            (Whose::One(_), Some(_)) => Found::Nobody,
        })
    }

    /// What `ask` says of a key, which is asked once; someone from outside gets an ordinal.
    fn late(&self, key: u128, ask: impl FnOnce() -> Found) -> Option<u32> {
        if let Some(&known) = self.late.read().unwrap_or_else(PoisonError::into_inner).by_key.get(&key) {
            return known;
        }
        let found = ask();
        let mut late = self.late.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = late.by_key.get(&key) {
            return known;
        }
        let ordinal = match found {
            Found::Nobody => None,
            Found::Here(ordinal) => Some(ordinal),
            Found::Outside(_) | Found::Erased => {
                let subject = if let Found::Outside(subject) = found { Some(subject) } else { None };
                let next = u32::try_from(self.merged_into.len() + late.subjects.len()).ok();
                next.inspect(|_| late.subjects.push(subject))
            }
        };
        late.by_key.insert(key, ordinal);
        ordinal
    }

    /// Writes down the subject id that the registry gave.
    pub fn assign(&mut self, ordinal: u32, subject: SubjectId) {
        if let Some(slot) = self.subjects.get_mut(ordinal as usize) {
            *slot = Some(subject);
        }
    }

    /// The subject id that an ordinal of the export was given itself, merges left aside.
    pub fn assigned(&self, ordinal: u32) -> Option<SubjectId> {
        self.subjects.get(ordinal as usize).copied().flatten()
    }

    /// Where to ask for people who are not in the export.
    pub fn set_outside(&mut self, outside: Box<dyn OutsidePersons>) {
        self.outside = Some(outside);
    }

    /// The subject id of an ordinal, after merges.
    pub fn subject(&self, ordinal: u32) -> Option<SubjectId> {
        let ordinal = self.resolve(ordinal) as usize;
        match ordinal.checked_sub(self.subjects.len()) {
            None => self.subjects[ordinal],
            Some(late) => {
                self.late.read().unwrap_or_else(PoisonError::into_inner).subjects.get(late).copied().flatten()
            }
        }
    }

    /// How many ordinals there are, merged ones and those found outside the export included.
    pub fn len(&self) -> usize {
        self.subjects.len() + self.late.read().unwrap_or_else(PoisonError::into_inner).subjects.len()
    }

    /// How many people the export itself names, merged ones included.
    pub fn named(&self) -> usize {
        self.subjects.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(seed: u8) -> KeyedHasher {
        KeyedHasher::new(&[seed; 32])
    }

    #[test]
    fn the_hash_is_siphash_2_4() {
        // Reference vector of the authors: key 00..0f, input 00..0e.
        let mut key = [0; 32];
        for (i, byte) in key.iter_mut().enumerate() {
            *byte = (i % 16) as u8;
        }
        let mut h = KeyedHasher::new(&key).row;
        h.write(&(0..15).collect::<Vec<u8>>());
        assert_eq!(h.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn keys_belong_to_one_contributor_and_kind() {
        let (a, b) = (hasher(1), hasher(2));
        assert_eq!(a.row_key("Encounter", "1"), hasher(1).row_key("Encounter", "1"));
        assert_ne!(a.row_key("Encounter", "1"), b.row_key("Encounter", "1"));
        assert_ne!(a.row_key("Encounter", "1"), a.row_key("Condition", "1"));
        assert_ne!(a.person_key(IdSpace::First, "1"), b.person_key(IdSpace::First, "1"));
    }

    #[test]
    fn merged_people_are_found_as_the_winner() {
        let mut index = PersonIndex::new(hasher(1));
        let (a, b, c) = (index.add(Form::Fhir, "a"), index.add(Form::Fhir, "b"), index.add(Form::Fhir, "c"));
        assert_eq!((index.add(Form::Fhir, "b"), index.len()), (b, 3));
        index.merge(a, b);
        index.merge(b, c);
        index.merge(c, a);
        assert_eq!(
            (index.find(Form::Fhir, "a"), index.find(Form::Fhir, "b"), index.find(Form::Fhir, "c")),
            (Some(c), Some(c), Some(c))
        );
        index.assign(c, SubjectId::new(7).expect("in range"));
        assert_eq!(index.subject(a).map(SubjectId::get), Some(7));
        assert_eq!(index.find(Form::Fhir, "d"), None);
        index.add_identifier("urn:h", "1", b);
        assert_eq!(index.find_identifier(NamedIdentifier::parse("urn:h|1")), Some(c));
        assert!(index.is_merged_away("a") && !index.is_merged_away("c"));
        index.hold_apart(b);
        assert_eq!(
            (index.find(Form::Fhir, "a"), index.find(Form::Fhir, "b"), index.find(Form::Fhir, "c")),
            (Some(b), Some(b), Some(c))
        );
        assert_eq!(index.own("a"), Some(a));
    }

    #[test]
    fn an_identifier_that_several_people_have_names_nobody() {
        let mut index = PersonIndex::new(hasher(1));
        let (a, b) = (index.add(Form::Fhir, "a"), index.add(Form::Fhir, "b"));
        let find = |index: &PersonIndex, token: &str| index.find_identifier(NamedIdentifier::parse(token));
        index.add_identifier("system", "1", a);
        index.add_identifier("system", "1", a);
        assert_eq!(find(&index, "system|1"), Some(a));
        index.add_identifier("system", "1", b);
        assert_eq!(find(&index, "system|1"), None);
        index.sort_identifiers();
        assert_eq!(find(&index, "system|1"), None);
        index.merge(a, b);
        assert_eq!(find(&index, "system|1"), Some(b), "two records of one person");
    }

    #[test]
    fn an_identifier_never_names_whoever_has_it_as_an_id() {
        let mut index = PersonIndex::new(hasher(1));
        let (_, b) = (index.add(Form::Fhir, "123"), index.add(Form::Fhir, "abc"));
        index.add_identifier("urn:h", "123", b);
        assert_eq!(index.find_identifier(NamedIdentifier::parse("123")), Some(b));
        assert_eq!(index.find_identifier(NamedIdentifier::parse("urn:h|123")), Some(b));
        assert_eq!(index.find_identifier(NamedIdentifier::parse("abc")), None);
        assert_eq!(index.find(Form::Fhir, "urn:h|123"), None);
    }

    #[test]
    fn ids_of_two_forms_are_one_persons_only_where_they_are_one_space() {
        let apart = IdSpaces { fhir: IdSpace::First, omop: IdSpace::Second };
        for (spaces, people) in [(apart, 2), (IdSpaces::default(), 1)] {
            let mut index = PersonIndex::within(hasher(1), spaces);
            let (a, b) = (index.add(Form::Fhir, "1"), index.add(Form::Omop, "1"));
            assert_eq!((a == b, index.len()), (people == 1, people));
            assert_eq!((index.find(Form::Fhir, "1"), index.find(Form::Omop, "1")), (Some(a), Some(b)));
            assert_eq!(index.own("1"), Some(a));
        }
    }

    struct Known;
    impl OutsidePersons for Known {
        fn lookup(&self, _: IdSpace, source_id: &str) -> Option<SubjectId> {
            (source_id == "z").then(|| SubjectId::new(9).expect("in range"))
        }
        fn was_erased(&self, _: IdSpace, source_id: &str) -> bool {
            source_id == "gone"
        }
        fn is_merged_away(&self, _: IdSpace, source_id: &str) -> bool {
            source_id == "old"
        }
        fn whose(&self, identifier: NamedIdentifier<'_>) -> Whose {
            match identifier.value {
                "of-a" => Whose::One(SubjectId::new(7).expect("in range")),
                "of-z" => Whose::One(SubjectId::new(9).expect("in range")),
                "shared" => Whose::Nobodys,
                _ => Whose::Unknown,
            }
        }
    }

    #[test]
    fn people_outside_the_export_are_asked_for_once_and_kept() {
        let mut index = PersonIndex::new(hasher(1));
        index.add(Form::Fhir, "a");
        index.set_outside(Box::new(Known));
        assert_eq!(
            (index.find(Form::Fhir, "z"), index.find(Form::Fhir, "z"), index.find(Form::Fhir, "y")),
            (Some(1), Some(1), None)
        );
        assert_eq!(index.subject(1).map(SubjectId::get), Some(9));
        assert_eq!(index.find(Form::Fhir, "gone"), Some(2));
        assert_eq!(index.subject(2), None, "whoever was erased is known, and has no subject");
        assert_eq!((index.named(), index.len()), (1, 3));
        assert!(index.continues() && index.is_merged_away("old") && !index.is_merged_away("z"));
    }

    #[test]
    fn an_identifier_that_was_anothers_or_several_peoples_names_nobody() {
        let mut index = PersonIndex::new(hasher(1));
        let a = index.add(Form::Fhir, "a");
        index.assign(a, SubjectId::new(7).expect("in range"));
        for value in ["of-a", "of-z", "shared", "new"] {
            index.add_identifier("urn:h", value, a);
        }
        let find = |index: &PersonIndex, value: &str| {
            index.find_identifier(NamedIdentifier::logical("urn:h", value))
        };
        let all = |index: &PersonIndex| ["of-a", "of-z", "shared", "new"].map(|value| find(index, value));
        assert_eq!(all(&index), [Some(a); 4], "an export of everything says it itself");
        index.set_outside(Box::new(Known));
        assert_eq!(all(&index), [Some(a), None, None, None]);
        // Somebody who is not in the export.
        let mut index = PersonIndex::new(hasher(1));
        index.add(Form::Fhir, "b");
        index.set_outside(Box::new(Known));
        assert_eq!(all(&index), [Some(1), Some(2), None, None]);
        assert_eq!(index.subject(2).map(SubjectId::get), Some(9));
    }
}
