//! Large ledgers, made quickly: entries are written into the database's tables as an append would have left them, but for
//! payloads (erased) and indexes (empty). Checkpoint, tiles and chain are real.

use std::path::Path;

use almoner_ledger::tree::Edge;
use almoner_ledger::{Checkpoint, Leaf, leaf};
use almoner_model::{Digest, Timestamp};
use rusqlite::{Connection, params};

/// Entries in a transaction.
const BATCH: u64 = 100_000;

/// The leaf at `seq` after the one of hash `prev`.
pub fn leaf_at(seq: u64, prev: [u8; 32]) -> Vec<u8> {
    let some = Digest::of(seq.to_be_bytes());
    let leaf = Leaf {
        actor: some,
        as_of: None,
        decision: None,
        event_id: super::act(1, seq, 512).event_id,
        payload: some,
        policy: None,
        prev: Digest(prev),
        seq,
        subject: Some(some),
        time: Timestamp::from_millis(1_700_000_000_000 + seq as i64),
        kind: "bench.done".into(),
        v: 1,
    };
    leaf.to_bytes().unwrap()
}

/// Fills the new store in `dir`.
pub fn store(dir: &Path, entries: u64) {
    drop(super::open(dir).unwrap());
    let mut db = Connection::open(dir.join("ledger.sqlite")).unwrap();
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-65536").unwrap();
    let (mut edge, mut prev, mut seq) = (Edge::new(), leaf::NO_PREV, 0);
    while seq < entries {
        let transaction = db.transaction().unwrap();
        {
            let prepare = |sql| transaction.prepare(sql).unwrap();
            let mut entry = prepare("INSERT INTO entry VALUES (?1, ?2)");
            let mut payload = prepare("INSERT INTO payload VALUES (?1, 0, NULL, NULL)");
            let mut tile = prepare("INSERT OR REPLACE INTO tile VALUES (?1, ?2)");
            for seq in seq..entries.min(seq + BATCH) {
                let bytes = leaf_at(seq, prev);
                prev = leaf::hash(&bytes);
                edge.push(prev);
                entry.execute(params![seq as i64, bytes]).unwrap();
                payload.execute([seq as i64]).unwrap();
            }
            for changed in edge.take_changes() {
                let id = (i64::from(changed.level) << 48) | changed.index as i64;
                tile.execute(params![id, changed.bytes]).unwrap();
            }
        }
        transaction.commit().unwrap();
        seq = entries.min(seq + BATCH);
    }
    let checkpoint = Checkpoint { origin: super::log_key().name().into(), size: entries, root: edge.root() };
    let note = checkpoint.sign(&super::log_key()).unwrap().note;
    db.execute("UPDATE checkpoint SET note = ?1", [note]).unwrap();
}
