//! `almoner-verify` says what is missing, by name, and exits with 1 (something is wrong) or 2 (wrong usage).

use std::path::Path;
use std::process::{Command, Output};

fn verify(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_almoner-verify")).args(args).output().expect("starts")
}

fn said(args: &[&str], code: i32) -> String {
    let done = verify(args);
    assert_eq!(done.status.code(), Some(code), "{args:?}");
    String::from_utf8(done.stderr).expect("text")
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    assert!(said(&["release", &at("nowhere")], 1).contains("nowhere holds no release"));
    std::fs::write(Path::new(&at("release.json")), "{}").expect("written");
    let keyless = said(&["release", &at("")], 1);
    assert!(keyless.contains("vkey is no verifier key"), "{keyless}");
    let pack = said(&["evidence", &at("evidence.json"), "--vkey", &at("vkey.txt")], 1);
    assert!(pack.contains("vkey.txt is no verifier key"), "{pack}");
    assert!(said(&["evidence", "x"], 1).contains("--vkey"));
    assert!(said(&["ledger", &at("nowhere")], 1).contains("vkey"));
    assert!(said(&["everything"], 2).contains("say what to check"));
}
