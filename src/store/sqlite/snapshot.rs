//! A database as of one moment, copied while others write to it.
//!
//! SQLite's online backup copies pages under one read transaction. In WAL mode that blocks neither the writer nor readers;
//! only the write-ahead log is not begun anew until the copy is done. The copy is a database in one file, without a
//! write-ahead log of its own.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::schema::{open_reader, trouble};
use crate::store::StoreError;

/// Pages copied between two reports.
const PAGES: i32 = 4_096;

/// Copies the database at `from` to the new file `to`; `copied` hears of bytes. Durable on return, but for the name.
///
/// # Errors
/// [`StoreError::Unavailable`] or [`StoreError::NotIntact`], as SQLite says.
pub fn snapshot(from: &Path, to: &Path, copied: &dyn Fn(u64)) -> Result<(), StoreError> {
    let source = open_reader(from)?;
    // Held to the end, so that all pages are of one moment and a writer does not make the copy start again.
    source.execute_batch("BEGIN").map_err(trouble)?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(trouble)?;
    let page: i64 = source.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(trouble)?;
    let mut copy = Connection::open(to).map_err(trouble)?;
    {
        let backup = Backup::new(&source, &mut copy).map_err(trouble)?;
        let mut left = None;
        loop {
            let step = backup.step(PAGES).map_err(trouble)?;
            let now = backup.progress().remaining;
            copied((left.unwrap_or_else(|| backup.progress().pagecount) - now).max(0) as u64 * page as u64);
            left = Some(now);
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                _ => return Err(StoreError::Unavailable("the database is locked".into())),
            }
        }
    }
    copy.pragma_update(None, "journal_mode", "DELETE").map_err(trouble)?;
    copy.close().map_err(|(_, error)| trouble(error))
}
