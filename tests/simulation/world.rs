//! The world of the simulation: a ledger in memory with the server's own fold, a clock moved by hand, a registry and a
//! shelf of documents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use almoner::events::{Actor, ContributorRegistered, DatasetPublished, Event};
use almoner::flows::{AccessContext, Act, ConsentIndex, Documents, People, PeopleError, contributor};
use almoner::keys::Keyring;
use almoner::state::Projections;
use almoner::store::memory::MemoryStore;
use almoner::store::{NewEntry, Store};
use almoner_ledger::LogKey;
use almoner_model::{
    ContributorId, DatasetId, Digest, Entropy, ManualClock, SeededEntropy, SourcePatientId, SubjectId,
    Timestamp,
};

/// A registry that makes ids from record numbers.
#[derive(Default)]
pub struct Register(Mutex<BTreeMap<(String, String), SubjectId>>);

impl People for Register {
    fn subject_of_record(
        &self,
        contributor: &ContributorId,
        number: &SourcePatientId,
        entropy: &dyn Entropy,
    ) -> Result<SubjectId, PeopleError> {
        let mut known = self.0.lock().expect("not poisoned");
        let key = (contributor.to_string(), number.expose().clone());
        let fresh = || SubjectId::from_bits(entropy.u64()).expect("not zero");
        Ok(*known.entry(key).or_insert_with(fresh))
    }

    fn find_record(
        &self,
        contributor: &ContributorId,
        number: &SourcePatientId,
    ) -> Result<Option<SubjectId>, PeopleError> {
        let key = (contributor.to_string(), number.expose().clone());
        Ok(self.0.lock().expect("not poisoned").get(&key).copied())
    }

    fn aliases(&self) -> Result<Vec<(SubjectId, SubjectId)>, PeopleError> {
        Ok(Vec::new())
    }
}

#[derive(Default)]
pub struct Shelf(Mutex<BTreeMap<Digest, Vec<u8>>>);

impl Documents for Shelf {
    fn put(&self, bytes: &[u8]) -> Result<Digest, String> {
        let digest = Digest::of(bytes);
        self.0.lock().expect("not poisoned").insert(digest, bytes.to_vec());
        Ok(digest)
    }

    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().expect("not poisoned").get(digest).cloned())
    }
}

pub struct World {
    pub clock: Arc<ManualClock>,
    pub entropy: Arc<SeededEntropy>,
    pub store: MemoryStore,
    pub people: Register,
    pub shelf: Shelf,
    pub keys: Keyring,
    pub index: ConsentIndex,
}

pub fn north() -> ContributorId {
    "north".parse().expect("slug")
}

pub fn dataset() -> DatasetId {
    "north-main".parse().expect("slug")
}

pub fn by(role: &str) -> Actor {
    Actor { role: role.into(), id: "test".into() }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::parse("2026-01-05T09:00:00Z").expect("a time")));
        let entropy = Arc::new(SeededEntropy::new(seed));
        let key = LogKey::new("almoner.local/simulation", &[7; 32]).expect("a key");
        let store =
            MemoryStore::new(key, clock.clone(), entropy.clone(), Arc::new(Projections)).expect("a store");
        let world = Self {
            clock,
            entropy,
            store,
            people: Register::default(),
            shelf: Shelf::default(),
            keys: Keyring::from_root(&[9; 32]),
            index: ConsentIndex::new(),
        };
        let ctx = world.ctx();
        contributor::register(
            &ctx,
            &world.act("operator"),
            ContributorRegistered { contributor: north(), name: "North".into(), linkage: false, k_min: None },
        )
        .expect("registered");
        world.publish();
        world
    }

    fn publish(&self) {
        let event = Event::DatasetPublished(DatasetPublished {
            dataset: dataset(),
            version: 1,
            contributor: north(),
            manifest: Digest::of(b"manifest"),
            profile: "date-shifted".into(),
            mode: "full".into(),
            persons: 8,
            tables: BTreeMap::new(),
        });
        let act = self.act("system");
        let entry = NewEntry {
            event_id: act.event_id,
            kind: event.kind(),
            actor: act.actor,
            subject: None,
            payload: event.payload().expect("JSON"),
            policy: None,
            decision: None,
            as_of: None,
            until: None,
            topics: vec![],
        };
        self.store.append(vec![entry], &[]).expect("published");
    }

    pub fn ctx(&self) -> AccessContext<'_> {
        AccessContext {
            store: &self.store,
            people: &self.people,
            documents: &self.shelf,
            keys: &self.keys,
            index: &self.index,
            clock: &*self.clock,
            entropy: &*self.entropy,
        }
    }

    pub fn act(&self, role: &str) -> Act {
        Act::new(by(role), &*self.entropy)
    }

    pub fn subject(&self, n: usize) -> SubjectId {
        let number = SourcePatientId::new(format!("MRN-{n}"));
        self.people.subject_of_record(&north(), &number, &*self.entropy).expect("known")
    }

    pub fn pick(&self, n: u64) -> u64 {
        self.entropy.u64() % n
    }
}
