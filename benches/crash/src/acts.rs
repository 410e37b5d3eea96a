//! What is appended, by whom it was acknowledged, and what must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use almoner::events::Actor;
use almoner::store::signing::SigningKeys;
use almoner::store::sqlite::{FaultHook, Options, SqliteStore, Step};
use almoner::store::{NewEntry, NoProjections, Store as _, StoreError};
use almoner::system::{SystemClock, SystemEntropy};
use almoner_ledger::LogKey;
use almoner_model::SubjectId;

/// An act: run, caller, number.
pub type Act = (u64, u64, u64);

/// Acts that were acknowledged, with the places they were told.
pub type Acknowledged = BTreeMap<Act, u64>;

/// How much a child appends.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Threads that append at one time.
    pub callers: u64,
    /// How often the store is opened and closed.
    pub rounds: u64,
    /// Acts of each caller between opening and closing.
    pub each: u64,
}

impl Plan {
    /// Acts of a run.
    pub fn acts(&self, run: u64) -> Vec<Act> {
        let numbers = self.rounds * self.each;
        (0..self.callers).flat_map(|caller| (0..numbers).map(move |n| (run, caller, n))).collect()
    }
}

/// A writer that does not sync what it commits: the negative control.
struct Unsynced;

impl FaultHook for Unsynced {
    fn before(&self, _: Step) -> Result<(), StoreError> {
        Ok(())
    }
    fn after(&self, _: Step) -> Result<(), StoreError> {
        Ok(())
    }
    fn synced(&self) -> bool {
        false
    }
}

/// Opens the store in `dir` as the server does; not `synced`, as it never does.
///
/// # Errors
/// As [`SqliteStore::open`].
pub fn open(dir: &Path, synced: bool) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(Options {
        path: dir.join("ledger.sqlite"),
        keys: SigningKeys::new(|_| LogKey::new("almoner.example/crash", &[5; 32])),
        wrapping_key: [6; 32],
        anchor: Some(dir.join("last.checkpoint")),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        projector: Arc::new(NoProjections),
        faults: if synced { None } else { Some(Arc::new(Unsynced)) },
    })
}

/// The entry of an act, the same each time.
pub fn entry((run, caller, n): Act) -> NewEntry {
    NewEntry {
        event_id: format!("{run:08x}-{caller:04x}-4000-8000-{n:012x}"),
        kind: "crash.tested",
        actor: Actor { role: "operator".into(), id: "crash".into() },
        subject: SubjectId::new(1 + (caller * 31 + n) as i64 % 50).ok(),
        payload: serde_json::json!({"text": "x".repeat(400)}),
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics: vec![],
    }
}

/// Reads what a child said. A line that was cut is not counted.
pub fn read(from: impl BufRead) -> Acknowledged {
    let mut all = Acknowledged::new();
    for line in from.lines().map_while(Result::ok) {
        let numbers: Vec<u64> = line.split(' ').map_while(|n| n.parse().ok()).collect();
        if let ([run, caller, n, seq], true) = (&numbers[..], line.ends_with(" .")) {
            all.insert((*run, *caller, *n), *seq);
        }
    }
    all
}

/// Opens what is left in `dir` and checks it: every acknowledged act is where it was said to be, nothing else than the acts
/// of `runs` is there, none twice, without a gap; all of it intact. Then appends all acts again: those that are there get
/// their old places, the others new ones, each once. Returns how many of them had been durable without being acknowledged.
///
/// # Errors
/// What does not hold.
pub fn check(dir: &Path, told: &mut Acknowledged, runs: Range<u64>, plan: Plan) -> Result<u64, String> {
    let store = open(dir, true).map_err(|e| format!("does not open: {e}"))?;
    let intact = |when: &str| {
        let found = store.audit().map_err(|e| e.to_string())?;
        if found.intact { Ok(()) } else { Err(format!("not intact {when}: {:?}", found.findings)) }
    };
    for (act, seq) in told.iter() {
        let found = store.find_event(&entry(*act).event_id).map_err(|e| e.to_string())?;
        if found != Some(*seq) {
            return Err(format!("{act:?} was acknowledged at {seq} and is at {found:?}"));
        }
    }
    intact("after the restart")?;
    let unsaid = store.size() - told.len() as u64;
    let acts: Vec<Act> = runs.flat_map(|run| plan.acts(run)).collect();
    let mut places = BTreeSet::new();
    for act in &acts {
        let again = store.append(vec![entry(*act)], &[]).map_err(|e| format!("{act:?} again: {e}"))?;
        let place = again[0].seq;
        if told.insert(*act, place).is_some_and(|before| before != place) || !places.insert(place) {
            return Err(format!("{act:?} appended again stands at {place}"));
        }
    }
    let whole = (0..acts.len() as u64).collect::<BTreeSet<_>>();
    if places != whole || store.size() != acts.len() as u64 {
        return Err(format!("{} acts take {} entries", acts.len(), store.size()));
    }
    intact("after appending again")?;
    Ok(unsaid)
}
