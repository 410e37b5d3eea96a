//! What a witness keeps of logs that broke their word, one file each ([`almoner_ledger::fork`]). Anybody can send what only
//! looks suspicious, so of each kind so many are kept per log and no more.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use almoner_ledger::fork::{Fork, prefix_root};
use almoner_ledger::tree::Hash;
use almoner_ledger::witness::{Submission, Suspicion};
use almoner_ledger::{Checkpoint, cosignature::split};

use super::{WitnessError, at, log_name};
use crate::flows::durable;

/// Files of one kind and log: of proofs, which only the log's own key can make, and of suspicions, which anybody can cause.
const KEPT_MAX: usize = 1000;
const KEPT_SUSPICIONS_MAX: usize = 100;

/// Digits of a log's name and of a root in a file's name.
const DIGITS: usize = 16;

/// What is kept.
pub(super) struct Evidence {
    folder: PathBuf,
    /// Files by log and kind.
    kept: Mutex<BTreeMap<(String, Suspicion), usize>>,
}

const fn word(suspicion: Suspicion) -> &'static str {
    match suspicion {
        Suspicion::Forked => "fork",
        Suspicion::Unproven => "unproven",
        Suspicion::Smaller => "smaller",
    }
}

const KINDS: [Suspicion; 3] = [Suspicion::Forked, Suspicion::Unproven, Suspicion::Smaller];

impl Evidence {
    pub(super) fn open<'a>(
        folder: PathBuf,
        origins: impl Iterator<Item = &'a str>,
    ) -> Result<Self, WitnessError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            names.push(entry.map_err(at(&folder))?.file_name().to_string_lossy().into_owned());
        }
        let mut kept = BTreeMap::new();
        for origin in origins {
            for kind in KINDS {
                let prefix = format!("{}-{}-", &log_name(origin)[..DIGITS], word(kind));
                let count = names.iter().filter(|n| n.starts_with(&prefix) && n.ends_with(".json")).count();
                kept.insert((origin.to_owned(), kind), count);
            }
        }
        Ok(Self { folder, kept: Mutex::new(kept) })
    }

    /// Keeps what a refused submission shows, beside `latest`, the note that was cosigned last.
    pub(super) fn keep(&self, suspicion: Suspicion, latest: &[u8], submission: &Submission) {
        let new = &submission.signed;
        let origin = &new.checkpoint.origin;
        let root = hex::encode(new.checkpoint.root);
        let (log, kind, size) = (&log_name(origin)[..DIGITS], word(suspicion), new.checkpoint.size);
        let path = self.folder.join(format!("{log}-{kind}-{size}-{}.json", &root[..DIGITS]));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = kept.entry((origin.clone(), suspicion)).or_default();
        let most = if suspicion == Suspicion::Forked { KEPT_MAX } else { KEPT_SUSPICIONS_MAX };
        if *count >= most || path.exists() {
            return;
        }
        let file = path.display();
        match durable::write(&path, &put_together(suspicion, latest, submission).to_bytes(), 0o600) {
            Ok(()) => {
                *count += 1;
                match suspicion {
                    Suspicion::Forked => {
                        tracing::error!(%origin, size, %file, "the log signed two histories");
                    }
                    Suspicion::Unproven => {
                        tracing::warn!(%origin, size, %file, "refused a proof that failed")
                    }
                    Suspicion::Smaller => {
                        tracing::info!(%origin, size, %file, "refused fewer entries than cosigned")
                    }
                }
            }
            Err(error) => {
                tracing::error!(%origin, size, kind, error = %error.kind(), "evidence could not be kept")
            }
        }
    }

    /// How many proofs of a fork, and how many lesser suspicions, are kept of a log.
    pub(super) fn kept(&self, origin: &str) -> (usize, usize) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |kind| kept.get(&(origin.to_owned(), kind)).copied().unwrap_or(0);
        (count(Suspicion::Forked), count(Suspicion::Unproven) + count(Suspicion::Smaller))
    }
}

fn put_together(suspicion: Suspicion, latest: &[u8], submission: &Submission) -> Fork {
    let new = &submission.signed;
    let told = |old: &Checkpoint| -> Option<Hash> {
        prefix_root(old.size, new.checkpoint.size, &new.checkpoint.root, &submission.proof)
    };
    let old = split(latest).ok().and_then(|(text, _)| Checkpoint::parse(text));
    let root = old.as_ref().and_then(told);
    match suspicion {
        Suspicion::Smaller => Fork::new("fewer entries than cosigned", &new.note, latest, None, &[]),
        Suspicion::Unproven => Fork::new("a proof that failed", latest, &new.note, None, &submission.proof),
        Suspicion::Forked if old.is_some_and(|old| old.size == new.checkpoint.size) => {
            Fork::new("two roots of one size", latest, &new.note, None, &[])
        }
        Suspicion::Forked => Fork::new("another beginning", latest, &new.note, root, &submission.proof),
    }
}
