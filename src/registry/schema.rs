//! The registry's file: how it is opened, its tables, and the check that the key is the right one.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use almoner_model::Digest;
use rusqlite::{Connection, OptionalExtension};

use super::RegistryError;

const FORMAT: i64 = 1;

/// `source.pending` is 1 for a token that a consent made before the data came. `linkage.subject` is 0 where two patients
/// of one contributor share the token. `subject.made` orders subjects by age.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subject (subject INTEGER PRIMARY KEY, made INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS source (token BLOB PRIMARY KEY, subject INTEGER NOT NULL, pending INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS linkage (token BLOB NOT NULL, scope BLOB NOT NULL, subject INTEGER NOT NULL,
    PRIMARY KEY (token, scope)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alias (loser INTEGER PRIMARY KEY, winner INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS suppressed (token BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// Opens the file, readable by its owner only.
pub(super) fn open(path: &Path) -> Result<Connection, RegistryError> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

/// Makes the tables where they are missing, and checks format and key.
pub(super) fn prepare(db: &Connection, fingerprint: &Digest) -> Result<(), RegistryError> {
    db.pragma_update(None, "cache_size", -64_000)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.busy_timeout(std::time::Duration::from_secs(30))?;
    db.set_prepared_statement_cache_capacity(32);
    db.execute_batch(TABLES)?;
    db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?1), ('offset_epoch', 0)", [FORMAT])?;
    db.execute("INSERT OR IGNORE INTO meta VALUES ('key', ?1)", [fingerprint.to_string()])?;
    let format: i64 = db.query_row("SELECT value FROM meta WHERE key = 'format'", [], |row| row.get(0))?;
    if format != FORMAT {
        return Err(RegistryError::Format(format, FORMAT));
    }
    let key: Option<String> =
        db.query_row("SELECT value FROM meta WHERE key = 'key'", [], |row| row.get(0)).optional()?;
    if key != Some(fingerprint.to_string()) {
        return Err(RegistryError::WrongKey);
    }
    Ok(())
}
