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

#[test]
fn a_receipt_is_checked_against_an_opened_entry_and_against_its_bare_leaf() {
    use almoner_ledger::receipt::Receipt;
    use almoner_ledger::tree::leaf_hash;
    use almoner_ledger::{Checkpoint, LogKey};
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_string_lossy().into_owned()
    };
    let key = LogKey::new("almoner.example/log", &[9; 32]).expect("a name");
    let leaf = r#"{"event":"1","type":"release.built"}"#;
    let checkpoint = Checkpoint { origin: key.name().into(), size: 1, root: leaf_hash(leaf.as_bytes()) };
    let signed = checkpoint.sign(&key).expect("signs");
    let receipt = Receipt { extra: None, index: 0, hashes: Vec::new(), checkpoint: signed.note };
    let (proof, vkey) =
        (write("entry.tlog-proof", &receipt.to_bytes()), write("vkey", key.vkey().as_bytes()));
    let opened = serde_json::json!({"leaf": leaf, "opening": {}, "payload": {}}).to_string();
    for (name, entry, code) in [
        ("leaf.json", leaf.to_owned(), 0),
        ("entry.json", opened.clone(), 0),
        ("other.json", opened.replace("built", "burnt"), 1),
    ] {
        let done = verify(&["receipt", &proof, &write(name, entry.as_bytes()), "--vkey", &vkey]);
        assert_eq!(done.status.code(), Some(code), "{name}: {}", String::from_utf8_lossy(&done.stdout));
    }
}
