//! What the machine allows: the same callers, disk and number of bytes without anything of this project's. Each entry is one
//! row of a SQLite table, hashed onto the one before it; whatever stands in the queue is one transaction.
//!
//! It is what the append path is measured against, in the same run: figures of one machine on two days differ more than
//! those of both programs on one.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

/// Requests taken into one transaction at most.
const BATCH_MAX: usize = 2_048;

type Slot = Arc<(Mutex<bool>, Condvar)>;

/// Takes entries from any number of callers.
pub struct Bare(SyncSender<(Vec<u8>, Slot)>);

impl Bare {
    /// A new database in `dir`.
    pub fn open(dir: &Path) -> Self {
        let db = Connection::open(dir.join("bare.sqlite")).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "synchronous", "FULL").unwrap();
        db.pragma_update(None, "wal_autocheckpoint", 16_384).unwrap();
        db.execute_batch("CREATE TABLE entry (seq INTEGER PRIMARY KEY, hash BLOB, bytes BLOB)").unwrap();
        let (queue, jobs) = sync_channel(16_384);
        std::thread::spawn(move || write(&db, &jobs));
        Self(queue)
    }

    /// Appends, and returns when it is durable.
    pub fn append(&self, bytes: Vec<u8>) {
        let slot: Slot = Arc::default();
        self.0.send((bytes, slot.clone())).unwrap();
        let (done, ready) = &*slot;
        drop(ready.wait_while(done.lock().unwrap(), |done| !*done).unwrap());
    }
}

fn write(db: &Connection, jobs: &Receiver<(Vec<u8>, Slot)>) {
    let (mut seq, mut last) = (0_i64, [0; 32]);
    while let Ok(first) = jobs.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(jobs.try_iter().take(BATCH_MAX - 1)).collect();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut insert = db.prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3)").unwrap();
        for (bytes, _) in &batch {
            last = Sha256::new().chain_update(last).chain_update(bytes).finalize().into();
            insert.execute((seq, last, bytes)).unwrap();
            seq += 1;
        }
        db.execute_batch("COMMIT").unwrap();
        for (_, slot) in batch {
            *slot.0.lock().unwrap() = true;
            slot.1.notify_one();
        }
    }
}
