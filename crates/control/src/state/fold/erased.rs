//! Erasures, and what was written anew for them.
//!
//! What the erased entries had put into the state goes in the transaction of the erasure (`flows::erase`): the fold of what is
//! left never made it.

use super::{Step, Writes};
use crate::events;
use crate::state::read;
use crate::state::records::LastErasure;

impl Step<'_> {
    pub(super) fn subject_erased(&self, e: events::SubjectErased) -> Writes {
        if let Some(contributor) = &e.contributor {
            self.known_contributor(contributor)?;
        }
        let ascending = e.entries.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || e.entries.last().is_some_and(|last| *last >= self.entry.seq) {
            return self.reject("it names entries that are not before it");
        }
        Ok(vec![
            self.write("erasure", self.seq_key(), &self.logged(e))?,
            self.write("erased", "last".to_owned(), &LastErasure { seq: self.entry.seq })?,
        ])
    }

    pub(super) fn dataset_rewritten(&self, e: events::DatasetRewritten) -> Writes {
        let Some(mut dataset) = read::dataset(&self.view, &e.dataset)? else {
            return self.reject("there is no such dataset");
        };
        if dataset.manifest(e.version) != Some(e.from) {
            return self.reject("the version has another manifest");
        }
        dataset.rewritten.insert(e.version, self.logged(e));
        self.put("dataset", dataset.dataset.to_string(), &dataset)
    }

    pub(super) fn release_rewritten(&self, e: events::ReleaseRewritten) -> Writes {
        let Some(release) = read::release(&self.view, &e.release)? else {
            return self.reject("there is no such release");
        };
        if read::release_manifest(&self.view, &release)? != e.from {
            return self.reject("the release has another manifest");
        }
        let mut rewrites = read::release_rewrites(&self.view, &e.release)?.unwrap_or_default();
        let key = e.release.to_string();
        rewrites.times.push(self.logged(e));
        self.put("release-rewritten", key, &rewrites)
    }
}
