//! The start after a kill: a ledger of many entries, of which the last tens of thousands lie in the write-ahead log and
//! outside the indexes.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use almoner::store::Store as _;

/// Seconds for ten million entries.
const BAR: f64 = 5.0;

/// Entries that the killed process appends: nearly as many as stand outside the indexes at most.
const TAIL: u64 = 60_000;

/// Appends the tail, and dies without closing.
pub fn append_and_die(dir: &Path) -> ! {
    let store = super::open(dir).unwrap();
    std::thread::scope(|scope| {
        for caller in 2..66 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..TAIL / 64 {
                    store.append(vec![super::act(caller, n, 512)], &[]).unwrap();
                }
            });
        }
    });
    std::process::abort()
}

/// Measures; says whether the bar is met.
pub fn run(entries: u64) -> bool {
    let dir = super::folder();
    let begun = Instant::now();
    super::fill::store(dir.path(), entries);
    println!("{entries} entries written in {:.0} s", begun.elapsed().as_secs_f64());
    let dying = [dir.path().to_str().unwrap()];
    Command::new(std::env::current_exe().unwrap()).arg("die").args(dying).status().unwrap();
    let log = std::fs::metadata(dir.path().join("ledger.sqlite-wal")).map_or(0, |file| file.len());
    println!("{} MB in the write-ahead log", log >> 20);
    let begun = Instant::now();
    let store = super::open(dir.path()).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let size = store.size();
    store.append(vec![super::act(99, 0, 512)], &[]).unwrap();
    println!("first append {:.2} s after the start", begun.elapsed().as_secs_f64());
    let whole = size == entries + TAIL / 64 * 64;
    println!("bar: {seconds:.2} s to open {size} entries after a kill (at most {BAR:.0} s)");
    whole && seconds <= BAR
}
