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
use almoner::flows::tokens::NewToken;
use almoner::flows::{Act, handover};
use almoner::store::Store;
use almoner::system::{SystemClock, SystemEntropy};
use almoner::web;
use almoner_model::{Clock, ManualClock};

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

/// Has the key of a ledger changed and runs `command` on it, with the key before and with the key after: before the change,
/// while both sign, and when only the new one does, which who has only the old key must not accept. Says whether all was so.
pub fn rotated(command: &[String]) -> bool {
    let (program, args) = command.split_first().expect("a command to run");
    let folder = super::folder();
    let mut config = Config::default();
    config.http.listen.set_port(0);
    let place = Folder::at(folder.path().join("data"));
    App::init(&place, &config, &SystemClock, &SystemEntropy).unwrap();
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let app = Arc::new(App::open(place, config, clock.clone(), Arc::new(SystemEntropy)).unwrap());
    let serving = web::spawn(Arc::clone(&app)).unwrap();
    let url = format!("{}/ledger", serving.url);
    let grow = || {
        for _ in 0..300 {
            let new = NewToken { role: "board".into(), scope: vec![], label: "bench".into(), days: None };
            app.tokens().issue(new, Act::operator(&SystemEntropy)).unwrap();
        }
    };
    let accepts = |when: &str, vkey: &str, expected: bool| {
        let done = Command::new(program).args(args).arg(&url).arg(vkey).status().unwrap();
        println!("{when}: {done}, {} expected", if expected { "0" } else { "another" });
        done.success() == expected
    };
    grow();
    let old = app.store.vkey();
    let mut fine = accepts("one key", &old, true);
    handover::rotate(&app.access(), &Act::operator(&SystemEntropy), &app.signing_keys().unwrap(), 1).unwrap();
    grow();
    let new = app.store.vkey();
    fine &= accepts("both sign, the old one is known", &old, true);
    fine &= accepts("both sign, the new one is known", &new, true);
    clock.advance_days(2);
    grow();
    fine &= accepts("the new one signs, the old one is known", &old, false);
    fine &= accepts("the new one signs and is known", &new, true);
    serving.stop().unwrap();
    fine
}
