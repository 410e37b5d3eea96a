//! The one thread that writes: it drains its queue into one transaction, and acknowledges when that is durable.
//!
//! The crash story is told in [`super`]; the steps here are its steps.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::Duration;

use almoner_control::state::records::LogKeys;
use almoner_ledger::SignedCheckpoint;
use almoner_model::{Clock, Entropy, SubjectId};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::boot;
use super::queue::{Jobs, Nothing, Taken, To, Wake};
use super::read::{Index, Reader, Records};
use super::recent::{Recent, UNINDEXED_MAX, joined};
use super::schema::{tile_id, trouble};
use super::{FaultHook, Published, Step};
use crate::store::batch::{Batch, Tip};
use crate::store::destroy::{Destroy, ERASED};
use crate::store::prepare::{Prepared, Request};
use crate::store::signing::{ROTATION, Signing, SigningKeys};
use crate::store::{Appended, Projector, StoreError, Write};

/// How often a disk that takes nothing is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How many requests a transaction had for those who come back to be worth waiting for.
const GATHER_FROM: usize = 256;

/// How often the processor is given to callers while a transaction gathers.
const GATHER_MAX: usize = 64;

/// What is asked of the writer.
pub enum Job {
    Append(Request, To<Result<Vec<Appended>, StoreError>>),
    /// An append of one entry that destroys.
    Erase(Request, Box<Destroy>, To<Result<Vec<Appended>, StoreError>>),
    /// Removes from the files what was deleted.
    Scrub(To<Result<(), StoreError>>),
    /// Writes, on condition that the first record now has this value.
    Primary(Vec<Write>, Option<Option<Value>>, To<Result<bool, StoreError>>),
}

/// What will be said to a caller once the transaction is durable.
enum Answer {
    Append(Result<Vec<Appended>, StoreError>, To<Result<Vec<Appended>, StoreError>>),
    Primary(Result<bool, StoreError>, To<Result<bool, StoreError>>),
}

impl Answer {
    /// Says no to what was asked.
    fn refused(job: Job, why: &StoreError) {
        match job {
            Job::Append(_, to) | Job::Erase(_, _, to) => to.say(Err(why.clone())),
            Job::Scrub(to) => to.say(Err(why.clone())),
            Job::Primary(_, _, to) => to.say(Err(why.clone())),
        }
    }

    /// A caller that has gone away is not an error: what it asked is done, and asking again finds it done.
    fn send(self, failure: Option<&StoreError>) {
        match self {
            Self::Append(result, to) => to.say(failure.map_or(result, |e| Err(e.clone()))),
            Self::Primary(result, to) => to.say(failure.map_or(result, |e| Err(e.clone()))),
        }
    }
}

/// The sequencer's own state.
pub struct Writer {
    pub db: Connection,
    pub tip: Tip,
    pub keys: SigningKeys,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub projector: Arc<dyn Projector>,
    pub published: Arc<Published>,
    pub faults: Option<Arc<dyn FaultHook>>,
    /// People of whom nothing stays.
    pub gone: BTreeSet<SubjectId>,
}

/// Says how long to wait for those who are about to ask, where the transaction before had `before` requests. Those who were
/// just told their answer together come back together, and a transaction for the first few of them would make all others
/// wait for the disk once more. Few callers are not waited for.
fn gather(before: usize) -> impl FnMut(usize) -> bool {
    let mut looks = 0;
    move |now| {
        looks += 1;
        before >= GATHER_FROM && now < before / 2 && looks <= GATHER_MAX
    }
}

impl Writer {
    /// Works until nobody can ask any more.
    pub fn run(mut self, queue: &Jobs<Job>) {
        let mut before = 0;
        loop {
            match queue.take(self.patience(), gather(before)) {
                Ok(taken) => {
                    before = taken.jobs.len();
                    self.work(taken);
                }
                Err(Nothing::Yet) => self.probe(),
                Err(Nothing::Ever) => break,
            }
        }
        self.index(1);
    }

    /// What was asked, in as few transactions as can be.
    fn work(&mut self, taken: Taken<Job>) {
        let (wake, jobs) = taken.split();
        if let Err(why) = self.accepting() {
            jobs.into_iter().for_each(|job| Answer::refused(job, &why));
            return;
        }
        let mut together = Vec::with_capacity(jobs.len());
        for job in jobs {
            if matches!(job, Job::Append(..) | Job::Primary(..)) {
                together.push(job);
                continue;
            }
            // What destroys is a transaction of its own, in its turn.
            self.answer(std::mem::take(&mut together), &wake);
            match job {
                Job::Scrub(to) => {
                    let scrubbed = self.scrub();
                    if let Err(error) = &scrubbed {
                        self.failed(error);
                    }
                    to.say(scrubbed);
                    wake.wake();
                }
                // It removes from the indexes, so they are brought up to date before.
                job => {
                    self.index(1);
                    self.answer(vec![job], &wake);
                }
            }
        }
        self.answer(together, &wake);
        self.index(UNINDEXED_MAX);
    }

    /// One transaction, and its answers.
    fn answer(&mut self, jobs: Vec<Job>, wake: &Wake) {
        if jobs.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(jobs.len());
        let result = self.transact(jobs, &mut answers);
        self.ended(&result);
        for answer in answers {
            answer.send(result.as_ref().err());
        }
        wake.wake();
    }

    /// How long the next job is waited for. Where the disk takes nothing, it is tried again every [`PROBE_EVERY`].
    fn patience(&self) -> Option<Duration> {
        (self.published.waiting().is_some() && self.accepting().is_ok()).then_some(PROBE_EVERY)
    }

    /// Whether the disk takes something again: the checkpoint that is stored is written once more.
    fn probe(&mut self) {
        let sql = "BEGIN IMMEDIATE; UPDATE checkpoint SET note = note; COMMIT";
        let written = self.db.execute_batch(sql).map_err(trouble);
        self.ended(&written.map(|()| true));
    }

    /// After a transaction, or an attempt that wrote nothing (`false`): what it means for the next.
    fn ended(&mut self, result: &Result<bool, StoreError>) {
        let before = self.published.waiting();
        match result {
            Err(error) => {
                if before.is_none() {
                    tracing::error!(%error, "the ledger takes nothing until the disk does");
                }
                self.published.wait(Some(error.clone()));
                self.failed(error);
            }
            Ok(true) if before.is_some() => {
                tracing::info!("the ledger takes entries again");
                self.published.wait(None);
            }
            Ok(_) => {}
        }
    }

    fn accepting(&self) -> Result<(), StoreError> {
        self.published.stopped.get().map_or(Ok(()), |why| Err(why.clone()))
    }

    /// After a failure: stops where the disk cannot be relied upon, else goes back to what is stored.
    fn failed(&mut self, error: &StoreError) {
        if !matches!(error, StoreError::NotDurable(_)) {
            return self.step_back();
        }
        tracing::error!(%error, "the ledger stops");
        // Set once: what came first is what is to be looked at.
        let _ = self.published.stopped.set(error.clone());
        if !self.db.is_autocommit() && self.db.execute_batch("ROLLBACK").is_err() {
            tracing::error!("the ledger's transaction could not be undone");
        }
    }

    /// Moves what is to be indexed into the indexes, if it is `at_least` so many entries. A failure leaves it where it
    /// is, where it is found as well; it is tried again after the next append.
    fn index(&mut self, at_least: usize) {
        if self.recent().len() < at_least || self.accepting().is_err() {
            return;
        }
        if let Err(error) = self.step(Step::Index, |w| w.write_indexes()) {
            tracing::error!(%error, "the ledger's indexes could not be brought up to date");
            self.failed(&error);
        } else {
            *self.published.recent.write().unwrap_or_else(PoisonError::into_inner) = Recent::default();
        }
    }

    fn write_indexes(&self) -> Result<(), StoreError> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(trouble)?;
        let recent = self.recent();
        let mut event = self.db.prepare_cached("INSERT INTO event VALUES (?1, ?2)").map_err(trouble)?;
        for (id, seq) in recent.events_sorted() {
            event.execute(params![id, seq as i64]).map_err(trouble)?;
        }
        let mut topic = self.db.prepare_cached("INSERT INTO topic VALUES (?1, ?2)").map_err(trouble)?;
        for (name, seq) in recent.topics_sorted() {
            topic.execute(params![name, seq as i64]).map_err(trouble)?;
        }
        self.db.execute_batch("DELETE FROM unindexed; COMMIT").map_err(trouble)
    }

    fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.published.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Reader<'_> {
        let index = Index::Memory(&self.published.recent);
        Reader { db: &self.db, sealer: &self.published.sealer, index }
    }

    /// Whether anything was written.
    fn transact(&mut self, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> Result<bool, StoreError> {
        let mut batch = Batch::new(self.tip.clone());
        let (mut primary, mut destroy) = (Vec::new(), None);
        let mut jobs = jobs.into_iter();
        let begun = self.step(Step::Begin, |w| w.db.execute_batch("BEGIN IMMEDIATE").map_err(trouble));
        for job in &mut jobs {
            match job {
                Job::Append(request, to) => answers.push(Answer::Append(self.stage(&mut batch, request), to)),
                Job::Erase(request, what, to) => {
                    answers.push(Answer::Append(self.stage(&mut batch, request), to));
                    destroy = Some(what);
                }
                Job::Scrub(_) => {}
                Job::Primary(writes, expected, to) => {
                    let result = self.as_expected(&writes, expected, &primary);
                    if result == Ok(true) {
                        primary.extend(writes);
                    }
                    answers.push(Answer::Primary(result, to));
                }
            }
        }
        begun?;
        if batch.rows.is_empty() && primary.is_empty() {
            return self.db.execute_batch("ROLLBACK").map(|()| false).map_err(trouble);
        }
        self.step(Step::State, |w| w.write_state(&batch, primary))?;
        if batch.rows.is_empty() {
            return self.step(Step::Commit, |w| w.db.execute_batch("COMMIT").map(|()| true).map_err(trouble));
        }
        self.step(Step::Entries, |w| w.write_entries(&batch))?;
        if let Some(what) = &destroy {
            let by = batch.rows[0].appended.seq;
            self.step(Step::Destroy, |w| w.destroy(what, by))?;
        }
        self.step(Step::Tiles, |w| w.write_tiles(&mut batch))?;
        let (signing, signed) = self.sign(&batch)?;
        self.step(Step::Checkpoint, |w| w.write_checkpoint(&signed))?;
        self.step(Step::Commit, |w| w.db.execute_batch("COMMIT").map_err(trouble))?;
        self.step(Step::Publish, |w| {
            w.published.sealer.saved(batch.rows.iter().filter_map(|r| {
                let wrapped = r.prepared.new_key.as_deref()?;
                Some((r.prepared.subject.map_or(0, SubjectId::get), wrapped))
            }));
            w.remember(&batch);
            if let Some(what) = destroy {
                w.published.sealer.forget(&what.subjects);
                w.gone.extend(what.subjects);
            }
            w.tip = batch.tip;
            w.published.set_signing(signing);
            w.published.set(signed);
            Ok(true)
        })
    }

    /// The keys in force once the batch is written, and the checkpoint that they sign. One under which a key was changed is
    /// kept: it has the signatures of both.
    fn sign(&self, batch: &Batch) -> Result<(Arc<Signing>, SignedCheckpoint), StoreError> {
        let (before, now) = (self.published.signing(), self.clock.now());
        let changed = batch.writes.get(LogKeys::KIND, LogKeys::KEY);
        if changed.is_none() && !before.is_over(now) {
            let signed = before.sign(&batch.tip)?;
            return Ok((before, signed));
        }
        let signing = match changed {
            Some(record) => Signing::changed(&self.keys, record.clone(), self.tip.edge.size())?,
            None => self.reader().signing(&self.keys, now)?,
        };
        let signed = signing.sign(&batch.tip)?;
        if changed.is_some() {
            let (key, note) = (signed.checkpoint.size.to_string(), String::from_utf8_lossy(&signed.note));
            self.write_record(Records::Primary, ROTATION, &key, Some(&json!({"note": note})))?;
        }
        Ok((Arc::new(signing), signed))
    }

    fn stage(&self, batch: &mut Batch, request: Request) -> Result<Vec<Appended>, StoreError> {
        if request.entries.iter().filter_map(|e| e.subject).any(|subject| self.gone.contains(&subject)) {
            return Err(StoreError::Rejected(ERASED.into()));
        }
        batch.stage(request, &self.reader(), &*self.projector, &*self.clock)
    }

    /// One step of the crash story, with a place to fail before and after it.
    pub(super) fn step<T>(
        &mut self,
        step: Step,
        run: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let faults = self.faults.clone();
        if let Some(hook) = &faults {
            hook.before(step)?;
        }
        let done = run(self)?;
        if let Some(hook) = &faults {
            hook.after(step)?;
        }
        Ok(done)
    }

    fn as_expected(
        &self,
        writes: &[Write],
        expected: Option<Option<Value>>,
        pending: &[Write],
    ) -> Result<bool, StoreError> {
        let (Some(expected), Some(first)) = (expected, writes.first()) else { return Ok(true) };
        let same = |w: &&Write| (&w.kind, &w.key) == (&first.kind, &first.key);
        let now = match pending.iter().rev().find(same) {
            Some(write) => write.value.clone(),
            None => self.reader().record(Records::Primary, &first.kind, &first.key)?,
        };
        Ok(now == expected)
    }

    fn write_state(&self, batch: &Batch, primary: Vec<Write>) -> Result<(), StoreError> {
        for (kind, key, value) in batch.writes.iter() {
            self.write_record(Records::Folded, kind, key, value)?;
        }
        for Write { kind, key, value } in primary {
            self.write_record(Records::Primary, &kind, &key, value.as_ref())?;
        }
        Ok(())
    }

    pub(super) fn write_record(
        &self,
        table: Records,
        kind: &str,
        key: &str,
        value: Option<&Value>,
    ) -> Result<(), StoreError> {
        let done = match value {
            Some(value) => {
                let mut statement = self.db.prepare_cached(table.put()).map_err(trouble)?;
                statement.execute(params![kind, key, value.to_string()])
            }
            None => self.db.prepare_cached(table.remove()).map_err(trouble)?.execute([kind, key]),
        };
        done.map(drop).map_err(trouble)
    }

    fn write_entries(&self, batch: &Batch) -> Result<(), StoreError> {
        let prepare = |sql| self.db.prepare_cached(sql).map_err(trouble);
        let mut entry = prepare("INSERT INTO entry VALUES (?1, ?2)")?;
        let mut payload = prepare("INSERT INTO payload VALUES (?1, ?2, ?3, NULL)")?;
        let mut unindexed = prepare("INSERT INTO unindexed VALUES (?1, ?2, ?3)")?;
        let mut key = prepare("INSERT OR IGNORE INTO subject_key VALUES (?1, ?2)")?;
        for row in &batch.rows {
            let (seq, new) = (row.appended.seq as i64, &row.prepared);
            let subject = new.subject.map_or(0, SubjectId::get);
            entry.execute(params![seq, row.leaf]).map_err(trouble)?;
            let mut again = None;
            if let Some(wrapped) = &new.new_key
                && key.execute(params![subject, wrapped]).map_err(trouble)? == 0
            {
                again = self.sealed_again(subject, wrapped, new)?;
            }
            let sealed = again.as_ref().unwrap_or(&new.sealed);
            payload.execute(params![seq, subject, sealed]).map_err(trouble)?;
            unindexed.execute(params![seq, new.event, joined(&new.topics)]).map_err(trouble)?;
        }
        Ok(())
    }

    /// The entry sealed under the key that its subject has, where that is not the one it came with.
    fn sealed_again(
        &self,
        subject: i64,
        came_with: &[u8],
        entry: &Prepared,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match self.reader().wrapped_key(subject)? {
            Some(stored) if stored != came_with => {
                self.published.sealer.seal_under(&stored, entry, &*self.entropy).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn remember(&self, batch: &Batch) {
        let mut recent = self.published.recent.write().unwrap_or_else(PoisonError::into_inner);
        for row in &batch.rows {
            let topics = row.prepared.topics.iter().map(String::as_str);
            recent.add(row.appended.seq, row.prepared.event, topics);
        }
    }

    fn write_tiles(&self, batch: &mut Batch) -> Result<(), StoreError> {
        let mut tile =
            self.db.prepare_cached("INSERT OR REPLACE INTO tile VALUES (?1, ?2)").map_err(trouble)?;
        for changed in batch.tip.edge.take_changes() {
            tile.execute(params![tile_id(changed.level, changed.index), changed.bytes]).map_err(trouble)?;
        }
        Ok(())
    }

    fn write_checkpoint(&self, signed: &SignedCheckpoint) -> Result<(), StoreError> {
        let mut checkpoint =
            self.db.prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES (1, ?1)").map_err(trouble)?;
        checkpoint.execute([&signed.note]).map(drop).map_err(trouble)
    }

    /// After a failure: undoes what is open, and takes up what the database now says, which after a failed commit may be
    /// either end. Where that cannot be read, the old end stays, and the next transaction fails on its own.
    fn step_back(&mut self) {
        if !self.db.is_autocommit() && self.db.execute_batch("ROLLBACK").is_err() {
            tracing::error!("the ledger's transaction could not be undone");
        }
        let read = || {
            let signing = self.reader().signing(&self.keys, self.clock.now())?;
            let end = boot::check(&self.reader(), signing.verifier())?;
            Ok::<_, StoreError>((end, signing, Recent::load(&self.db)?))
        };
        match read() {
            Ok(((tip, signed), signing, recent)) => {
                self.tip = tip;
                self.published.set_signing(Arc::new(signing));
                *self.published.recent.write().unwrap_or_else(PoisonError::into_inner) = recent;
                self.published.set(signed);
            }
            Err(error) => tracing::error!(%error, "the ledger could not be read again after a failure"),
        }
    }
}
