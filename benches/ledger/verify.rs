//! The audit of a published log, from files in the page cache.

use std::fs;
use std::path::Path;
use std::time::Instant;

use almoner_ledger::audit::audit;
use almoner_ledger::source::Folder;
use almoner_ledger::tile::{TilePath, bundle};
use almoner_ledger::tree::Edge;
use almoner_ledger::{Checkpoint, VerifierKey, leaf};

/// Entries a second and core.
const BAR: f64 = 1_000_000.0;

/// Measures; says whether the bar is met.
pub fn run(entries: u64) -> bool {
    let dir = super::folder();
    write_log(dir.path(), entries);
    let key = VerifierKey::parse(&super::log_key().vkey()).unwrap();
    let source = Folder(dir.path().into());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut best = 0.0_f64;
    for threads in [1, 1, 1, threads, threads] {
        let begun = Instant::now();
        let found = audit(&source, &key, None, threads);
        let rate = entries as f64 / begun.elapsed().as_secs_f64();
        assert!(found.intact && found.size == entries, "{:?}", found.findings);
        println!("{threads} threads: {rate:.0} entries/s, {:.0} a core", rate / threads as f64);
        best = best.max(rate / threads as f64);
    }
    println!("bar: {best:.0} entries/s and core (at least {BAR:.0})");
    best >= BAR
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
        let bytes = super::fill::leaf_at(seq, prev);
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
