//! The registry's file: how it is opened, its tables, and the check that the key is the right one.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use almoner_model::Digest;
use rusqlite::{Connection, OptionalExtension};

use super::RegistryError;

const FORMAT: i64 = 4;

/// Pages of the write-ahead log before they are copied into the file: rows are in random order, so a page that is copied
/// less often is copied with more in it.
const WAL_PAGES: i64 = 16_384;

/// How long another process that reads or writes is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(30);

/// What a source token is of (`source.kind`).
pub(super) mod kind {
    /// A patient id.
    pub const ID: i64 = 0;
    /// The id of a patient record that its hospital merged into another.
    pub const MERGED_AWAY: i64 = 1;
    /// A record number within its system.
    pub const IN_SYSTEM: i64 = 2;
    /// A record number by itself, as a consent names it.
    pub const NUMBER: i64 = 3;
    /// The same, of a consent that came before the data.
    pub const AWAITED: i64 = 4;
}

/// `scope` is a token of a contributor. `source.subject` is 0 for a record number that several patients of the contributor have or had; so it stays.
/// `linkage.subject` is 0 where two patients of one contributor share the token. `holder` says which contributors' data has
/// a subject, under the id that stands for it. `alias` has one row for each subject that lost, to whom it lost, who may have
/// lost since. `subject.made` orders subjects by age. `suppressed.refuses` is 0 for a number that others may have too: no
/// consent is taken by it, and patients are. `form` says which forms of data a contributor sent, and whether ids of that form
/// are a space of their own.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subject (subject INTEGER PRIMARY KEY, made INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS subject_made ON subject (made);
CREATE TABLE IF NOT EXISTS source (token BLOB PRIMARY KEY, subject INTEGER NOT NULL, kind INTEGER NOT NULL,
    scope BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS linkage (token BLOB NOT NULL, scope BLOB NOT NULL, subject INTEGER NOT NULL,
    PRIMARY KEY (token, scope)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holder (subject INTEGER NOT NULL, scope BLOB NOT NULL, PRIMARY KEY (subject, scope))
    STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alias (loser INTEGER PRIMARY KEY, winner INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS alias_winner ON alias (winner);
CREATE TABLE IF NOT EXISTS form (scope BLOB NOT NULL, form INTEGER NOT NULL, second INTEGER NOT NULL,
    PRIMARY KEY (scope, form)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS suppressed (token BLOB PRIMARY KEY, refuses INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// Opens the file, readable by its owner only.
pub(super) fn open(path: &Path) -> Result<Connection, RegistryError> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "secure_delete", "ON")?;
    db.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    Ok(db)
}

/// Makes the tables where they are missing, and checks format and key.
pub(super) fn prepare(db: &Connection, fingerprint: &Digest) -> Result<(), RegistryError> {
    db.pragma_update(None, "cache_size", -64_000)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(32);
    // Another format's tables are neither read nor changed.
    if db.table_exists(None, "meta")? {
        check_format(db)?;
    }
    db.execute_batch(TABLES)?;
    db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?1), ('offset_epoch', 0)", [FORMAT])?;
    db.execute("INSERT OR IGNORE INTO meta VALUES ('key', ?1)", [fingerprint.to_string()])?;
    check_format(db)?;
    let key: Option<String> =
        db.query_row("SELECT value FROM meta WHERE key = 'key'", [], |row| row.get(0)).optional()?;
    if key != Some(fingerprint.to_string()) {
        return Err(RegistryError::WrongKey);
    }
    Ok(())
}

fn check_format(db: &Connection) -> Result<(), RegistryError> {
    let format: Option<i64> =
        db.query_row("SELECT value FROM meta WHERE key = 'format'", [], |row| row.get(0)).optional()?;
    match format {
        Some(format) if format != FORMAT => Err(RegistryError::Format(format, FORMAT)),
        _ => Ok(()),
    }
}
