//! Work that outlives a request: queued, run a few at a time, followed, and remembered over a restart.
//!
//! A job's record is primary state: it is written when the job is queued, when it starts and when it ends. The work itself
//! is a closure, because what it needs (an upload's key, a permit) is never stored; so a job that a restart cut short is
//! marked `interrupted`, and whoever asked for it asks again: every flow that jobs run can be repeated. Submitting under
//! the same id again returns the job that is there, unless it was interrupted. Progress lives in memory only.
//!
//! What it does not do: know what any job does.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use almoner_model::{Clock, ContributorId, ProjectId, Timestamp};
use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ErrorKind;
use crate::store::{Store, StoreError, Write};

pub mod live;
pub mod progress;

use live::Live;
pub use progress::{Progress, Recorded, Silent, Unit};

const KIND: &str = "job";
/// Jobs that are read at a time when all are looked through.
const SCANNED: usize = 500;

/// Where a job is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for its turn.
    Queued,
    /// Is being done.
    Running,
    /// Ended well; there is a result.
    Done,
    /// Was refused or failed; there is a failure.
    Failed,
    /// Was ended on request.
    Cancelled,
    /// The server stopped before it ended. Ask for it again.
    Interrupted,
}

impl JobState {
    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Why a job did not end well.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of no.
    pub kind: ErrorKind,
    /// What is wrong and what to do. Never a patient's value; for faults an incident id only.
    pub detail: String,
    /// Why, one reason each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What was measured against what is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Value>,
}

impl Failure {
    /// A failure with a sentence.
    pub fn new(kind: ErrorKind, detail: impl ToString) -> Self {
        Self { kind, detail: detail.to_string(), reasons: Vec::new(), measured: None }
    }
}

/// A job as it is kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: String,
    /// What it does: `ingest`, `release` …
    pub kind: String,
    /// Public id of the token that asked.
    pub owner: String,
    /// Whose data it works on.
    pub contributor: Option<ContributorId>,
    /// For which project.
    pub project: Option<ProjectId>,
    /// Where it is in its life.
    pub state: JobState,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What it is doing now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Stage>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How far a job is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Name of the stage.
    pub stage: String,
    /// Units done in it.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

/// A job to be done.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The id of the act that asks for it: asking again finds the same job.
    pub id: String,
    /// What it does.
    pub kind: &'static str,
    /// Public id of the token that asks.
    pub owner: String,
    /// Whose data it works on.
    pub contributor: Option<ContributorId>,
    /// For which project.
    pub project: Option<ProjectId>,
}

/// What a job does.
pub type Work = Box<dyn FnOnce(&dyn Progress) -> Result<Value, Failure> + Send>;

/// The queue, its threads and its memory. Threads end when it is dropped.
pub struct Jobs {
    shared: Arc<Shared>,
    queue: Mutex<Option<Sender<(String, Work)>>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    live: Mutex<HashMap<String, Arc<Live>>>,
    stopping: Arc<AtomicBool>,
}

impl Jobs {
    /// Starts `at_once` threads, marks what a former process left unfinished, and forgets what ended more than `keep_days`
    /// ago.
    ///
    /// # Errors
    /// If the store fails.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        at_once: usize,
        keep_days: u32,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            store,
            clock,
            live: Mutex::default(),
            stopping: Arc::new(AtomicBool::new(false)),
        });
        shared.tidy(keep_days)?;
        let (queue, waiting) = unbounded();
        let threads = (0..at_once.max(1))
            .map(|n| {
                let (shared, waiting): (_, Receiver<(String, Work)>) = (Arc::clone(&shared), waiting.clone());
                thread::Builder::new().name(format!("job-{n}")).spawn(move || {
                    for (id, work) in waiting {
                        shared.run(&id, work);
                    }
                })
            })
            .collect::<Result<_, _>>()
            .map_err(|e| StoreError::Unavailable(e.to_string()))?;
        Ok(Self { shared, queue: Mutex::new(Some(queue)), threads: Mutex::new(threads) })
    }

    /// Queues a job, or finds the one with the same id.
    ///
    /// # Errors
    /// If the store fails; nothing was queued.
    pub fn submit(&self, new: NewJob, work: Work) -> Result<JobRecord, StoreError> {
        if let Some(known) = self.get(&new.id)?
            && known.state != JobState::Interrupted
        {
            return Ok(known);
        }
        let record = JobRecord {
            id: new.id,
            kind: new.kind.into(),
            owner: new.owner,
            contributor: new.contributor,
            project: new.project,
            state: JobState::Queued,
            created: self.shared.clock.now(),
            started: None,
            finished: None,
            progress: None,
            result: None,
            failure: None,
        };
        self.shared.save(&record)?;
        self.shared.live().insert(record.id.clone(), Arc::new(Live::new(Arc::clone(&self.shared.stopping))));
        match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            // The threads end only when the sender is gone, so somebody receives this.
            Some(queue) => drop(queue.send((record.id.clone(), work))),
            None => return Err(StoreError::Unavailable("the server is stopping".into())),
        }
        Ok(record)
    }

    /// A job, with its present progress.
    ///
    /// # Errors
    /// If the store fails.
    pub fn get(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        Ok(self.shared.read(id)?.map(|record| self.shared.with_progress(record)))
    }

    /// The newest `limit` jobs that `wanted` names, newest first, each with the key of its place in this order; only those
    /// behind the place `after`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest(
        &self,
        wanted: impl Fn(&JobRecord) -> bool,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, JobRecord)>, StoreError> {
        let mut newest: Vec<(String, JobRecord)> = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let rows = self.shared.store.scan_primary(KIND, "", last.as_deref(), SCANNED)?;
            let Some((key, _)) = rows.last() else { break };
            last = Some(key.clone());
            let records = rows.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok());
            let placed = records.filter(&wanted).map(|record| (place(&record), record));
            newest.extend(placed.filter(|(place, _)| after.is_none_or(|after| place.as_str() < after)));
            newest.sort_by(|(a, _), (b, _)| b.cmp(a));
            newest.truncate(limit);
        }
        Ok(newest.into_iter().map(|(place, job)| (place, self.shared.with_progress(job))).collect())
    }

    /// Asks a job to stop at its next safe place. A job that ended stays as it is.
    ///
    /// # Errors
    /// If the store fails.
    pub fn cancel(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        if let Some(live) = self.shared.live().get(id) {
            live.cancel();
        }
        self.get(id)
    }

    /// How many jobs wait or run.
    pub fn unfinished(&self) -> usize {
        self.shared.live().len()
    }

    /// Whether jobs have been told to stop.
    pub fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Tells all jobs to stop at their next safe place; those that wait are not begun.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Stops, and waits until the threads have ended.
    pub fn finish(&self) {
        self.stop();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // The last owner may be a job itself, which cannot wait for its own end. A panic inside a job was caught; one
            // here has nothing left to break.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        let value = self.store.get_primary(KIND, id)?;
        value.map(serde_json::from_value).transpose().map_err(|_| StoreError::NotIntact(format!("job {id}")))
    }

    fn save(&self, record: &JobRecord) -> Result<(), StoreError> {
        let value = serde_json::to_value(record).expect("a record is plain text");
        self.store.put_primary(vec![Write { kind: KIND.into(), key: record.id.clone(), value: Some(value) }])
    }

    fn with_progress(&self, mut record: JobRecord) -> JobRecord {
        if !record.state.is_final() {
            record.progress = self.live().get(&record.id).and_then(|live| live.stage());
        }
        record
    }

    fn tidy(&self, keep_days: u32) -> Result<(), StoreError> {
        let oldest = self.clock.now().millis() - i64::from(keep_days) * 86_400_000;
        let mut after: Option<String> = None;
        loop {
            let page = self.store.scan_primary(KIND, "", after.as_deref(), 500)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut writes = Vec::new();
            for (key, value) in page {
                let Ok(mut record) = serde_json::from_value::<JobRecord>(value) else { continue };
                let value = if record.finished.unwrap_or(record.created).millis() < oldest {
                    None
                } else if record.state.is_final() {
                    continue;
                } else {
                    record.state = JobState::Interrupted;
                    record.finished = Some(self.clock.now());
                    Some(serde_json::to_value(&record).expect("a record is plain text"))
                };
                writes.push(Write { kind: KIND.into(), key, value });
            }
            self.store.put_primary(writes)?;
        }
    }

    fn run(&self, id: &str, work: Work) {
        let Some(live) = self.live().get(id).cloned() else { return };
        if let Err(error) = self.run_recorded(id, &live, work) {
            tracing::error!(job = id, "the state of a job could not be kept: {error}");
        }
        self.live().remove(id);
    }

    fn run_recorded(&self, id: &str, live: &Live, work: Work) -> Result<(), StoreError> {
        let Some(mut record) = self.read(id)? else { return Ok(()) };
        if live.cancelled() {
            record.state = self.ended_early();
        } else {
            record.state = JobState::Running;
            record.started = Some(self.clock.now());
            self.save(&record)?;
            let outcome = catch_unwind(AssertUnwindSafe(|| work(live)));
            match outcome.unwrap_or_else(|_| Err(Failure::new(ErrorKind::Fault, "a bug: the work panicked")))
            {
                Ok(result) => {
                    record.state = JobState::Done;
                    record.result = Some(result);
                }
                Err(_) if live.cancelled() => record.state = self.ended_early(),
                Err(failure) => {
                    record.state = JobState::Failed;
                    record.failure = Some(failure_for_outside(id, failure));
                }
            }
        }
        record.finished = Some(self.clock.now());
        self.save(&record)
    }

    fn ended_early(&self) -> JobState {
        if self.stopping.load(Ordering::Acquire) { JobState::Interrupted } else { JobState::Cancelled }
    }
}

/// Where a job stands in the order of time: later ones are greater.
fn place(job: &JobRecord) -> String {
    format!("{:016}/{}", job.created.millis(), job.id)
}

/// A fault says nothing but under which job the log has more.
fn failure_for_outside(id: &str, failure: Failure) -> Failure {
    if failure.kind != ErrorKind::Fault {
        tracing::info!(job = id, kind = ?failure.kind, "job refused");
        return failure;
    }
    tracing::error!(job = id, "job failed: {}", failure.detail);
    Failure::new(ErrorKind::Fault, format!("The server failed. Tell its operator the id of this job, {id}."))
}

#[cfg(test)]
mod tests;
