//! The tables of `ledger.sqlite`, and how a connection is set up.
//!
//! `entry` and `tile` are the public log; `payload` and `subject_key` are what erasure destroys; `event` and `topic` are
//! indexes that can be made again from leaves and payloads (`topic` also holds what callers added), and `unindexed` is
//! what is still to be moved into them ([`super::recent`]); `folded` is a fold over the entries; `primary_state` is not.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;

/// Version of this layout.
pub const FORMAT: &str = "almoner-store/1";

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL);
CREATE TABLE payload (seq INTEGER PRIMARY KEY, subject INTEGER NOT NULL, sealed BLOB, erased_by INTEGER);
CREATE TABLE subject_key (subject INTEGER PRIMARY KEY, wrapped BLOB NOT NULL);
CREATE TABLE event (event_id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE topic (topic TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (topic, seq)) WITHOUT ROWID;
CREATE TABLE unindexed (seq INTEGER PRIMARY KEY, event_id BLOB NOT NULL, topics TEXT NOT NULL);
CREATE TABLE tile (id INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE checkpoint (id INTEGER PRIMARY KEY CHECK (id = 1), note BLOB NOT NULL);
CREATE TABLE folded (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE primary_state (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
";

/// How much is written to the write-ahead log before it is folded into the database file.
const WAL_PAGES: u32 = 16_384;

/// Where the tile at `level`, `index` lies in the table `tile`.
pub const fn tile_id(level: u8, index: u64) -> i64 {
    ((level as i64) << 48) | index as i64
}

/// The trouble that SQLite reports, without any value.
pub fn trouble(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly};
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    if let Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC) = error.sqlite_error().map(|e| e.extended_code) {
        return StoreError::NotDurable("SQLite says fsync failed".into());
    }
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::NotIntact("the database file is damaged".into()),
        Some(DiskFull) => StoreError::Unavailable("the disk is full".into()),
        Some(ReadOnly) => StoreError::Unavailable("the disk is read-only".into()),
        Some(code) => StoreError::Unavailable(format!("SQLite says {code:?}")),
        None => StoreError::NotIntact("a stored value has the wrong type".into()),
    }
}

/// Opens the database for writing; creates file (readable by its owner only) and tables where there are none.
/// `empty` is the signed checkpoint of the empty log, which a new database begins with.
pub fn open_writer(path: &Path, empty: &[u8]) -> Result<Connection, StoreError> {
    if !path.exists() {
        create_private(path)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(trouble)?;
    db.set_prepared_statement_cache_capacity(64);
    db.busy_timeout(std::time::Duration::from_secs(5)).map_err(trouble)?;
    db.pragma_update(None, "page_size", 4096).map_err(trouble)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(trouble)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(trouble)?;
    db.pragma_update(None, "secure_delete", "ON").map_err(trouble)?;
    db.pragma_update(None, "temp_store", "MEMORY").map_err(trouble)?;
    db.pragma_update(None, "cache_size", -65_536).map_err(trouble)?;
    db.pragma_update(None, "wal_autocheckpoint", WAL_PAGES).map_err(trouble)?;
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(trouble)?;
    if tables == 0 {
        let transaction = db.transaction().map_err(trouble)?;
        transaction.execute_batch(TABLES).map_err(trouble)?;
        transaction.execute("INSERT INTO meta VALUES ('format', ?1)", [FORMAT]).map_err(trouble)?;
        transaction.execute("INSERT INTO checkpoint VALUES (1, ?1)", [empty]).map_err(trouble)?;
        transaction.commit().map_err(trouble)?;
    }
    Ok(db)
}

/// Opens the database for reading only.
pub fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(trouble)?;
    db.set_prepared_statement_cache_capacity(64);
    db.busy_timeout(std::time::Duration::from_secs(5)).map_err(trouble)?;
    Ok(db)
}

fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(StoreError::Unavailable(format!("the database file cannot be made: {}", error.kind())))
        }
    }
}
