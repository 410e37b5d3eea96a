//! Subjects for record numbers that consents name, which may come before the data: callers that come at the same time
//! share one transaction.
//!
//! A caller puts what it asks for into a queue and waits for the database. Who gets it does what stands in the queue for
//! all, in one transaction; the others, when it is their turn, find that it is done. So a thousand callers wait for a few
//! writes to the disk and not for a thousand. Nobody is told anything before it is durable, and where the transaction fails
//! each of the others asks once more by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use almoner_model::{Entropy, SubjectId};
use rusqlite::{Connection, TransactionBehavior};

use super::joins::Joins;
use super::numbers::{self, Making, Name};
use super::{Aliases, Registry, RegistryError, Token};

type Said = Vec<Result<SubjectId, RegistryError>>;

/// What one caller asks for.
struct Asked {
    /// The contributor.
    scope: Token,
    names: Vec<Name>,
    /// Put there by who did it.
    said: Mutex<Option<Said>>,
}

impl Asked {
    fn said(&self) -> MutexGuard<'_, Option<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those whose turn has not come.
#[derive(Default)]
pub(super) struct Awaiting(Mutex<Vec<Arc<Asked>>>);

impl Awaiting {
    fn queue(&self) -> MutexGuard<'_, Vec<Arc<Asked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subjects of `names`, made where there is none yet.
pub(super) fn subjects(
    registry: &Registry,
    scope: Token,
    names: Vec<Name>,
    entropy: &dyn Entropy,
) -> Result<Said, RegistryError> {
    let mine = Arc::new(Asked { scope, names, said: Mutex::default() });
    registry.awaiting.queue().push(mine.clone());
    let mut db = registry.db();
    if let Some(said) = mine.said().take() {
        return Ok(said);
    }
    let mut all = std::mem::take(&mut *registry.awaiting.queue());
    all.retain(|asked| !Arc::ptr_eq(asked, &mine));
    // Last, so that a failure is its own to tell.
    all.push(mine);
    let mut done = together(&mut db, &registry.standing(), &all, entropy)?;
    let own = done.pop().unwrap_or_default();
    for (asked, said) in all.iter().zip(done) {
        *asked.said() = Some(said);
    }
    Ok(own)
}

/// One transaction for all. Nothing is written where everybody is known.
fn together(
    db: &mut Connection,
    aliases: &Aliases,
    all: &[Arc<Asked>],
    entropy: &dyn Entropy,
) -> Result<Vec<Said>, RegistryError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut making = Making::new(&tx)?;
    let mut done = Vec::with_capacity(all.len());
    for asked in all {
        let joins = Joins::new(&tx, asked.scope, aliases);
        let one = |name| match numbers::awaited(&joins, name, &mut making, entropy) {
            // What is said of one record number is not the others' trouble.
            Err(why @ (RegistryError::Ambiguous | RegistryError::Suppressed)) => Ok(Err(why)),
            other => other.map(Ok),
        };
        done.push(asked.names.iter().map(one).collect::<Result<Said, RegistryError>>()?);
    }
    tx.commit()?;
    Ok(done)
}
