//! Cosignatures are collected: this log's checkpoints go to the witnesses of a policy, and what they sign is kept.
//!
//! One thread looks at the log and gives out rounds ([`board`]); one thread per witness asks it ([`mod@exchange`]). They only
//! read the log, and write at most as often as rounds come, so no append waits for a witness. Every request has a bounded
//! time, and a witness in trouble is left alone for longer each time.
//!
//! What was collected is primary state of the store, so that it is there after a restart, and for whoever makes a receipt:
//! [`covering`] gives the checkpoint that a receipt is best made under.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use almoner_ledger::policy::Policy;
use almoner_ledger::receipt::Receipt;
use almoner_ledger::{Checkpoint, SignedCheckpoint, VerifierKey};
use almoner_model::{Clock, Seq, Timestamp};
use serde_json::{Value, json};

use super::checkpoint::{PublishError, consistency_between, receipt_under};
use crate::store::{Store, StoreError, Write};

pub mod board;
pub mod exchange;
#[cfg(test)]
mod tests;

use board::{Board, Kept, Member, News, Seat, Task, Timing};
use exchange::{Endpoint, Http, Trouble, exchange};

/// Kind of the primary records of what was collected.
const KIND: &str = "cosigned";

/// The newest checkpoint with its quorum, and the newest that was before the witnesses.
const QUORUM: &str = "quorum";
const LATEST: &str = "latest";

/// Why collecting does not start.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// The policy file.
    #[error("the policy {file}: {problem}")]
    Policy {
        /// Which file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread.
    #[error("collecting cosignatures cannot start: {0}")]
    Thread(#[from] io::Error),
}

/// Collects cosignatures until it is dropped.
pub struct Cosigner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    timing: Timing,
    started: Instant,
    inner: Mutex<Inner>,
    /// Told when there is something to do or to stop.
    changed: Condvar,
}

struct Inner {
    board: Board,
    stopped: bool,
}

/// How it stands with a witness.
#[derive(Clone, Debug)]
pub struct WitnessStatus {
    /// Its name in the policy.
    pub name: String,
    /// Its verifier key line.
    pub vkey: String,
    /// Where it is asked.
    pub url: Option<String>,
    /// How it stands, in one word.
    pub state: &'static str,
    /// Why it does not cosign.
    pub problem: Option<String>,
    /// Entries that it cosigned last.
    pub size: Option<u64>,
    /// When it did, by its clock.
    pub cosigned: Option<Timestamp>,
    /// Cosignatures, answers that refused or could not be used, and requests without an answer, since the start.
    pub counts: [u64; 3],
}

/// How it stands with all of them.
#[derive(Clone, Debug)]
pub struct Status {
    /// Entries of the log.
    pub size: u64,
    /// Entries under the newest checkpoint with its quorum, and when it was reached.
    pub quorum: Option<(u64, Timestamp)>,
    /// The quorum of the present round in words.
    pub words: String,
    /// The witnesses, in the order of the policy.
    pub witnesses: Vec<WitnessStatus>,
    /// What is wrong, for people.
    pub alarms: Vec<String>,
}

/// Reads the policy of a log whose keys are `of`.
///
/// # Errors
/// [`CosignError::Policy`] if it cannot be read, is none, or names other logs and not this one.
pub fn read_policy(file: &Path, of: &VerifierKey) -> Result<Policy, CosignError> {
    let refuse = |problem: String| CosignError::Policy { file: file.display().to_string(), problem };
    let text = std::fs::read(file).map_err(|e| refuse(format!("cannot be read ({})", e.kind())))?;
    let policy = Policy::parse(&text).map_err(|e| refuse(e.to_string()))?;
    let logs = policy.logs();
    if !logs.is_empty() && logs.iter().all(|log| of.lines().all(|line| line != log.key.line())) {
        return Err(refuse(format!("it names other logs and not this one, {}", of.line())));
    }
    Ok(policy)
}

/// The ways to the witnesses of a policy, over HTTP; `None` for one without a URL.
///
/// # Errors
/// [`CosignError::Policy`] if a URL or the certificates cannot be used.
pub fn endpoints(
    policy: &Policy,
    roots: Option<&Path>,
    timing: &Timing,
) -> Result<Vec<Option<Box<dyn Endpoint>>>, CosignError> {
    let refuse = |problem: String| CosignError::Policy { file: "of the witnesses".into(), problem };
    let endpoint = |url: &String| -> Result<Box<dyn Endpoint>, CosignError> {
        Ok(Box::new(Http::new(url, roots, timing.request).map_err(refuse)?))
    };
    policy.witnesses().iter().map(|witness| witness.url.as_ref().map(endpoint).transpose()).collect()
}

impl Cosigner {
    /// Starts collecting: `endpoints` are the ways to the witnesses, in the order of the policy.
    ///
    /// # Errors
    /// [`CosignError`].
    #[expect(clippy::disallowed_methods, reason = "waits are measured; what is signed takes the clock")]
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        policy: Policy,
        endpoints: Vec<Option<Box<dyn Endpoint>>>,
        timing: Timing,
    ) -> Result<Self, CosignError> {
        let kept = kept(&*store, QUORUM)?;
        let board = Board::new(policy, timing, kept);
        let inner = Mutex::new(Inner { board, stopped: false });
        let started = Instant::now();
        let shared = Arc::new(Shared { store, clock, timing, started, inner, changed: Condvar::new() });
        let mut cosigner = Self { shared, threads: Vec::new() };
        let shared = Arc::clone(&cosigner.shared);
        cosigner.spawn("cosign".into(), move || shared.look())?;
        for (at, endpoint) in endpoints.into_iter().enumerate() {
            if let Some(endpoint) = endpoint {
                let shared = Arc::clone(&cosigner.shared);
                cosigner.spawn(format!("cosign-{at}"), move || shared.ask(at, &*endpoint))?;
            }
        }
        Ok(cosigner)
    }

    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name).spawn(work)?);
        Ok(())
    }

    /// The checkpoint to show: with its quorum where that is at most a second behind, else the newest.
    pub fn shown(&self) -> SignedCheckpoint {
        let newest = self.shared.store.checkpoint();
        let now = self.shared.now();
        self.shared.lock().board.shown(now, &newest)
    }

    /// Whether a checkpoint has the quorum of the policy.
    pub fn reached(&self, note: &[u8]) -> bool {
        self.shared.lock().board.policy().standing(note).is_ok_and(|standing| standing.reached)
    }

    /// Whether the checkpoint in a receipt (`.tlog-proof`) has the quorum of the policy.
    pub fn reached_in(&self, receipt: &[u8]) -> bool {
        Receipt::parse(receipt).is_ok_and(|receipt| self.reached(&receipt.checkpoint))
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let (size, now) = (self.shared.store.size(), self.shared.now());
        let inner = self.shared.lock();
        let board = &inner.board;
        let witnesses = board.policy().witnesses().iter().zip(board.members());
        Status {
            size,
            quorum: board.quorum().map(|(size, time)| (size, seconds(time))),
            words: board.words(),
            witnesses: witnesses.map(|(witness, member)| of_witness(witness, member)).collect(),
            alarms: board.alarms(now),
        }
    }
}

impl Drop for Cosigner {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that collects cosignatures panicked");
            }
        }
    }
}

fn seconds(time: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(time).unwrap_or(0).saturating_mul(1000))
}

fn of_witness(witness: &almoner_ledger::policy::PolicyWitness, member: &Member) -> WitnessStatus {
    let (state, problem) = match &member.seat {
        Seat::Waiting => ("waiting", None),
        Seat::Cosigning => ("cosigning", None),
        Seat::NotAsked => ("not-asked", Some("the policy gives no URL for it".to_owned())),
        Seat::Trouble(trouble @ Trouble::Unreachable(_)) => ("unreachable", Some(trouble.to_string())),
        Seat::Trouble(trouble @ Trouble::BadAnswer(_)) => ("unusable", Some(trouble.to_string())),
        Seat::Trouble(trouble) => ("refusing", Some(trouble.to_string())),
    };
    WitnessStatus {
        name: witness.name.clone(),
        vkey: witness.key.line().to_owned(),
        url: witness.url.clone(),
        state,
        problem,
        size: member.size,
        cosigned: member.time.map(seconds),
        counts: [member.cosigned, member.refusals, member.failures],
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until something changed, `at_most` so long; says whether to go on.
    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, at_most: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread that gives out rounds, keeps what was collected and tells the operator.
    fn look(&self) {
        loop {
            let newest = self.store.checkpoint();
            let mut inner = self.lock();
            let now = self.now();
            if inner.board.look(now, &newest) {
                self.changed.notify_all();
            }
            let (changed, news, stopped) =
                (inner.board.take_changed(), inner.board.take_news(), inner.stopped);
            let told: Vec<(bool, String)> = news.iter().map(|news| in_words(news, &inner.board)).collect();
            drop(inner);
            for (wrong, words) in told {
                if wrong { tracing::warn!("{words}") } else { tracing::info!("{words}") }
            }
            if let Some(kept) = changed
                && let Err(error) = keep(&*self.store, &kept)
            {
                tracing::error!(%error, "cosignatures could not be kept");
            }
            if stopped {
                return;
            }
            let inner = self.lock();
            if !inner.stopped {
                drop(self.wait(inner, self.timing.look));
            }
        }
    }

    /// The thread that asks one witness.
    fn ask(&self, at: usize, endpoint: &dyn Endpoint) {
        let Some(key) = self.lock().board.policy().witnesses().get(at).map(|witness| witness.key.clone())
        else {
            return;
        };
        let prove = |old, new| consistency_between(&*self.store, old, new).map_err(|e| e.to_string());
        let seconds = || self.clock.now().millis().max(0).unsigned_abs() / 1000;
        let mut known = 0;
        loop {
            let mut inner = self.lock();
            let (round, signed) = loop {
                if inner.stopped {
                    return;
                }
                match inner.board.task(at, self.now()) {
                    Task::Ask(round, signed) => break (round, signed),
                    Task::Wait(at_most) => inner = self.wait(inner, at_most),
                }
            };
            drop(inner);
            let answer = exchange(endpoint, &key, &mut known, &signed, &prove, &seconds);
            if answer.is_err() {
                // A witness is asked anew where it stands; it may have been put right.
                known = 0;
            }
            let mut inner = self.lock();
            let now = self.now();
            match answer {
                Ok(cosignature) => inner.board.cosigned(at, round, &signed, cosignature, now),
                Err(trouble) => inner.board.failed(at, trouble, now),
            }
            drop(inner);
            self.changed.notify_all();
        }
    }
}

/// What the operator is told, and whether something is wrong.
fn in_words(news: &News, board: &Board) -> (bool, String) {
    let name = |at: &usize| board.policy().witnesses().get(*at).map_or("", |witness| &witness.name);
    match news {
        News::Trouble(at, trouble) => (true, format!("witness {} does not cosign: {trouble}", name(at))),
        News::Well(at) => (false, format!("witness {} cosigns again", name(at))),
        News::QuorumLost => (true, format!("the ledger has lost its quorum of witnesses: {}", board.words())),
        News::QuorumBack => (false, "the ledger has its quorum of witnesses again".to_owned()),
    }
}

fn keep(store: &dyn Store, kept: &Kept) -> Result<(), StoreError> {
    let write = |key: &str, signed: &Option<SignedCheckpoint>| -> Option<Write> {
        let note = String::from_utf8(signed.as_ref()?.note.clone()).ok()?;
        Some(Write { kind: KIND.into(), key: key.into(), value: Some(json!({"note": note})) })
    };
    let writes = [write(QUORUM, &kept.quorum), write(LATEST, &kept.latest)];
    store.put_primary(writes.into_iter().flatten().collect())
}

/// What was collected under this name; `None` if there is nothing, or it is of another key or a longer log.
fn kept(store: &dyn Store, key: &str) -> Result<Option<SignedCheckpoint>, StoreError> {
    let Some(record) = store.get_primary(KIND, key)? else { return Ok(None) };
    let vkey = store.verifier()?;
    let note = record.get("note").and_then(Value::as_str).unwrap_or_default();
    let signed = Checkpoint::open(note.as_bytes(), &vkey).ok();
    Ok(signed.filter(|signed| signed.checkpoint.size <= store.size()))
}

/// The checkpoint to show the entry `seq` under: the one with its quorum if it has the entry, else the one with most
/// cosignatures that has it, else the newest.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub fn covering(store: &dyn Store, seq: Seq) -> Result<SignedCheckpoint, StoreError> {
    for key in [QUORUM, LATEST] {
        if let Some(signed) = kept(store, key)?.filter(|signed| signed.checkpoint.size > seq) {
            return Ok(signed);
        }
    }
    Ok(store.checkpoint())
}

/// The newest checkpoint, with what cosignatures were collected for it.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub fn newest(store: &dyn Store) -> Result<SignedCheckpoint, StoreError> {
    let newest = store.checkpoint();
    for key in [QUORUM, LATEST] {
        if let Some(signed) = kept(store, key)?.filter(|signed| signed.checkpoint == newest.checkpoint) {
            return Ok(signed);
        }
    }
    Ok(newest)
}

/// The receipt (`.tlog-proof`) of an entry, under the checkpoint that [`covering`] gives.
///
/// # Errors
/// As [`super::checkpoint::receipt`].
pub fn receipt(store: &dyn Store, seq: Seq) -> Result<Vec<u8>, PublishError> {
    receipt_under(store, seq, covering(store, seq)?)
}

/// As [`receipt`], and waits a little for the quorum of an entry that was just appended, where there is one to wait for.
///
/// # Errors
/// As [`receipt`].
pub fn receipt_soon(store: &dyn Store, seq: Seq) -> Result<Vec<u8>, PublishError> {
    for _ in 0..SOON_STEPS {
        let waits = kept(store, QUORUM)?.is_some_and(|signed| signed.checkpoint.size <= seq);
        if !waits {
            break;
        }
        thread::sleep(SOON_STEP);
    }
    receipt(store, seq)
}

/// How long a receipt that goes into a package may wait for its quorum.
const SOON_STEPS: u32 = 40;
const SOON_STEP: Duration = Duration::from_millis(50);
