//! The process that dies: it appends, and says each act and its place only once it is acknowledged.

use std::io::Write as _;
use std::path::Path;

use almoner::store::{Store as _, StoreError};

use crate::acts::{Act, Plan, entry, open};

/// Tries to append an act that a passing failure may refuse.
const TRIES: u32 = 3;

/// The arguments of the command `appender`.
pub fn arguments(dir: &Path, run: u64, plan: Plan, synced: bool) -> Vec<String> {
    let numbers = [run, plan.callers, plan.rounds, plan.each, u64::from(synced)];
    let mut all = vec!["appender".to_owned(), dir.display().to_string()];
    all.extend(numbers.iter().map(u64::to_string));
    all
}

/// Appends by `plan`. Says whether all of it was acknowledged.
pub fn run(dir: &Path, run: u64, plan: Plan, synced: bool) -> bool {
    (0..plan.rounds).all(|round| {
        let store = match open(dir, synced) {
            Ok(store) => store,
            Err(error) => {
                eprintln!("does not open: {error}");
                return false;
            }
        };
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..plan.callers)
                .map(|caller| {
                    let numbers = round * plan.each..(round + 1) * plan.each;
                    let store = &store;
                    scope.spawn(move || numbers.into_iter().all(|n| append(store, (run, caller, n))))
                })
                .collect();
            // The scope waits for those that are not asked.
            callers.into_iter().all(|caller| caller.join().unwrap_or(false))
        })
    })
}

fn append(store: &almoner::store::sqlite::SqliteStore, act: Act) -> bool {
    for _ in 0..TRIES {
        match store.append(vec![entry(act)], &[]) {
            Ok(places) => {
                let line = format!("{} {} {} {} .\n", act.0, act.1, act.2, places[0].seq);
                // Who cannot say it has not acknowledged it.
                return std::io::stdout().lock().write_all(line.as_bytes()).is_ok();
            }
            Err(StoreError::NotDurable(_)) => return false,
            Err(_) => {}
        }
    }
    false
}
