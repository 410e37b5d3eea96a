//! The audit of a published log, from files in the page cache.

use std::fs;
use std::path::Path;
use std::time::Instant;

use almoner_ledger::audit::audit;
use almoner_ledger::source::Folder;
use almoner_ledger::tile::{TilePath, bundle};
use almoner_ledger::tree::Edge;
use almoner_ledger::{Checkpoint, Leaf, VerifierKey, leaf};
use almoner_model::{Digest, Timestamp};

/// Seconds for a million entries.
const BAR: f64 = 2.0;

/// Measures; says whether the bar is met.
pub fn run(entries: u64) -> bool {
    let dir = super::folder();
    write_log(dir.path(), entries);
    let key = VerifierKey::parse(&super::log_key().vkey()).unwrap();
    let source = Folder(dir.path().into());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut best = f64::MAX;
    for threads in [1, threads, threads] {
        let begun = Instant::now();
        let found = audit(&source, &key, None, threads);
        let seconds = begun.elapsed().as_secs_f64();
        assert!(found.intact && found.size == entries, "{:?}", found.findings);
        println!("{threads} threads: {entries} entries in {seconds:.3} s, {:.0}/s", entries as f64 / seconds);
        best = best.min(seconds);
    }
    let scaled = best * 1e6 / entries as f64;
    println!("bar: {scaled:.2} s for 1,000,000 entries (under {BAR:.0} s)");
    scaled < BAR
}

fn write_log(dir: &Path, entries: u64) {
    let (mut edge, mut prev, mut bundled) = (Edge::new(), leaf::NO_PREV, Vec::new());
    fs::create_dir_all(dir.join("tile/entries")).unwrap();
    let write = |path: TilePath, bytes: &[u8]| {
        let path = dir.join(path.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for seq in 0..entries {
        let some = Digest::of(seq.to_be_bytes());
        let leaf = Leaf {
            actor: some,
            as_of: None,
            decision: None,
            event_id: super::act(1, seq, 512).event_id,
            payload: some,
            policy: None,
            prev: Digest(prev),
            seq,
            subject: Some(some),
            time: Timestamp::from_millis(1_790_000_000_000 + seq as i64),
            kind: "bench.done".into(),
            v: 1,
        };
        let bytes = leaf.to_bytes().unwrap();
        prev = leaf::hash(&bytes);
        edge.push(prev);
        bundled.push(bytes);
        if bundled.len() == 256 || seq + 1 == entries {
            write(TilePath::entries(seq / 256, entries).unwrap(), &bundle(&bundled));
            bundled.clear();
        }
    }
    for tile in edge.take_changes() {
        write(TilePath::hashes(tile.level, tile.index, entries).unwrap(), &tile.bytes);
    }
    let checkpoint = Checkpoint { origin: super::log_key().name().into(), size: entries, root: edge.root() };
    fs::write(dir.join("checkpoint"), checkpoint.sign(&super::log_key()).unwrap().note).unwrap();
}
