//! The crash tests in small: what `.ci/bars/kill-appends` and `.ci/bars/power-loss` do at length.

#![expect(clippy::print_stderr, reason = "says where a test cannot run")]

use std::path::Path;

use almoner_crash::{full, kill, power};

const PROGRAM: &str = env!("CARGO_BIN_EXE_almoner-crash");

/// Whether a test can run; under CI it must.
fn can(available: Result<(), String>) -> bool {
    match available {
        Ok(()) => true,
        Err(why) if std::env::var_os("CI").is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("not run: {why}");
            false
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_a_call_fails_or_the_process_is_killed() {
    if !can(kill::available()) {
        return;
    }
    let done = kill::run(Path::new(PROGRAM), 26, 3).expect("runs");
    assert!(done.faults.is_empty(), "{:#?}", done.faults);
    assert!(done.total() >= 26 && done.acknowledged > 0, "{done:?}");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    if !can(power::available()) {
        return;
    }
    let done = power::run(Path::new(PROGRAM), 8, 5, true).expect("runs");
    assert!(done.faults.is_empty(), "{:#?}", done.faults);
    assert!(done.drops == 8 && done.at_work > 0 && done.acknowledged > 0, "{done:?}");
}

#[test]
fn a_full_or_read_only_disk_stops_entries_and_not_reading_and_room_lets_them_in_again() {
    if !can(power::available()) {
        return;
    }
    for refusal in [full::Refusal::Full, full::Refusal::ReadOnly] {
        let told = full::run(Path::new(PROGRAM), refusal).unwrap_or_else(|why| panic!("{refusal:?}: {why}"));
        assert!(told.len() >= 20, "{refusal:?}: {}", told.len());
    }
}

#[test]
fn a_ledger_that_does_not_sync_is_caught() {
    if !can(power::available()) {
        return;
    }
    let done = power::run(Path::new(PROGRAM), 20, 7, false).expect("runs");
    assert!(!done.faults.is_empty(), "the power loss does not bite: {done:?}");
}
