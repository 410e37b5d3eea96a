//! Inclusion proofs out of a store, each checked.

use std::time::{Duration, Instant};

use almoner::flows::checkpoint::inclusion;
use almoner::store::Store as _;
use almoner::system::SystemEntropy;
use almoner_ledger::leaf;
use almoner_ledger::proof::check_inclusion;
use almoner_model::Entropy as _;

/// The wait that 99 of 100 proofs keep below.
const BAR: Duration = Duration::from_millis(2);

/// Proofs that are made.
const PROOFS: usize = 20_000;

/// Measures; says whether the bar is met.
pub fn run(entries: u64) -> bool {
    let dir = super::folder();
    super::fill::store(dir.path(), entries);
    let store = super::open(dir.path()).unwrap();
    let root = store.checkpoint().checkpoint.root;
    let mut waits = Vec::with_capacity(PROOFS);
    for n in 0..PROOFS {
        let seq = SystemEntropy.u64() % entries;
        let begun = Instant::now();
        let hashes = inclusion(&store, seq, entries).unwrap();
        waits.push(begun.elapsed());
        if n % 100 == 0 {
            let leaf = leaf::hash(&store.leaves(seq..seq + 1).unwrap()[0]);
            check_inclusion(seq, entries, &leaf, &root, &hashes).unwrap();
        }
    }
    waits.sort_unstable();
    let at = |share: usize| waits[PROOFS * share / 1_000];
    println!("{PROOFS} proofs: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    println!("bar: {:?} for 99 of 100 inclusion proofs at {entries} entries (at most {BAR:?})", at(990));
    at(990) <= BAR
}
