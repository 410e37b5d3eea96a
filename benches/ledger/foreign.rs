//! A ledger served over HTTP to a foreign program, at one size after the other.
//!
//! The entries go through the real append path into a store of its own, and the server is the real one over an open data
//! folder. Only their tie is made here: the folder's store, into which the acts of a real exchange would go, is replaced by
//! the one with entries of the bench, so that a log can have any number of entries, none too.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use almoner::app::{App, Folder};
use almoner::config::Config;
use almoner::store::Store;
use almoner::system::{SystemClock, SystemEntropy};
use almoner::web;

/// Entries in one append.
const AT_ONCE: u64 = 1_024;

/// Grows a ledger to each of `sizes` (separated by commas, ascending) and runs `command` with the address of the served
/// ledger and its verifier key as last arguments. Says whether it ended well every time.
pub fn run(sizes: &str, command: &[String]) -> bool {
    let sizes: Vec<u64> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    assert!(sizes.is_sorted(), "a ledger only grows");
    let (program, args) = command.split_first().expect("a command to run");
    let (logged, folder) = (super::folder(), super::folder());
    let store: Arc<dyn Store> = Arc::new(super::open(logged.path()).unwrap());
    let mut config = Config::default();
    config.http.listen.set_port(0);
    let place = Folder::at(folder.path().join("data"));
    App::init(&place, &config, &SystemClock, &SystemEntropy).unwrap();
    let mut app = App::open(place, config, Arc::new(SystemClock), Arc::new(SystemEntropy)).unwrap();
    app.store = Arc::clone(&store);
    let serving = web::spawn(Arc::new(app)).unwrap();
    let url = format!("{}/ledger", serving.url);
    let mut fine = true;
    for size in sizes {
        let begun = Instant::now();
        while store.size() < size {
            let from = store.size();
            let acts = (from..size.min(from + AT_ONCE)).map(|n| super::act(0, n, 64)).collect();
            store.append(acts, &[]).unwrap();
        }
        println!("size {size}, reached in {:.1} s", begun.elapsed().as_secs_f64());
        let done = Command::new(program).args(args).arg(&url).arg(store.vkey()).status().unwrap();
        if !done.success() {
            println!("{program} ended with {done} at size {size}");
            fine = false;
        }
    }
    serving.stop().unwrap();
    fine
}
