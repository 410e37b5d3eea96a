//! Erasure in the database: what is destroyed in the transaction of the erasure's entry, and how its bytes leave the files.
//!
//! `secure_delete` overwrites what is deleted with zeros, but where rows were moved between pages before, copies of them can
//! lie in the free space of a page. So [`Writer::scrub`] writes the whole file anew (`VACUUM`) and folds the write-ahead log
//! into it and empties it. That takes as much memory as the file is large, for nothing of it may lie in a shared folder.

use almoner_model::{Seq, SubjectId};
use rusqlite::{OptionalExtension as _, params};

use super::Step;
use super::read::Records;
use super::schema::trouble;
use super::writer::Writer;
use crate::store::destroy::Destroy;
use crate::store::prepare::subject_topic;
use crate::store::{StoreError, Write};

impl Writer {
    /// Destroys what an erasure names; `by` is its entry.
    pub(super) fn destroy(&self, what: &Destroy, by: Seq) -> Result<(), StoreError> {
        for seq in &what.entries {
            self.destroy_payload(*seq, by)?;
        }
        let mut key =
            self.db.prepare_cached("DELETE FROM subject_key WHERE subject = ?1").map_err(trouble)?;
        for subject in &what.subjects {
            key.execute([subject.get()]).map_err(trouble)?;
        }
        for (table, writes) in [(Records::Folded, &what.folded), (Records::Primary, &what.primary)] {
            for Write { kind, key, value } in writes {
                self.write_record(table, kind, key, value.as_ref())?;
            }
        }
        let unnamed = "DELETE FROM folded WHERE kind = ?1 AND key = ?2
             AND NOT EXISTS (SELECT 1 FROM folded WHERE kind = ?3 AND instr(value, ?2) > 0)";
        let mut unnamed = self.db.prepare_cached(unnamed).map_err(trouble)?;
        for shared in &what.shared {
            unnamed.execute([&shared.kind, &shared.key, &shared.named_by]).map_err(trouble)?;
        }
        Ok(())
    }

    fn destroy_payload(&self, seq: Seq, by: Seq) -> Result<(), StoreError> {
        let gone = || StoreError::Invalid(format!("entry {seq} is not there, or was erased before"));
        let sql = "SELECT subject FROM payload WHERE seq = ?1 AND sealed IS NOT NULL";
        let mut of = self.db.prepare_cached(sql).map_err(trouble)?;
        let subject: i64 =
            of.query_row([seq as i64], |row| row.get(0)).optional().map_err(trouble)?.ok_or_else(gone)?;
        let sql = "UPDATE payload SET subject = 0, sealed = NULL, erased_by = ?2 WHERE seq = ?1";
        self.db.prepare_cached(sql).map_err(trouble)?.execute([seq as i64, by as i64]).map_err(trouble)?;
        if let Ok(subject) = SubjectId::new(subject) {
            let sql = "DELETE FROM topic WHERE topic = ?1 AND seq = ?2";
            let mut topic = self.db.prepare_cached(sql).map_err(trouble)?;
            topic.execute(params![subject_topic(subject), seq as i64]).map_err(trouble)?;
        }
        Ok(())
    }

    /// Writes the file anew without what was deleted, and empties the write-ahead log.
    pub(super) fn scrub(&mut self) -> Result<(), StoreError> {
        self.step(Step::Scrub, |w| {
            w.db.execute_batch("VACUUM").map_err(trouble)?;
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            let busy: i64 = w.db.query_row(sql, [], |row| row.get(0)).map_err(trouble)?;
            match busy {
                0 => Ok(()),
                _ => Err(StoreError::Unavailable(
                    "somebody reads an older state of the ledger, so its write-ahead log could not be emptied".into(),
                )),
            }
        })
    }
}
