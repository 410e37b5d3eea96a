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
    use almoner_ledger::cose::SignedRoot;
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
    let cose = SignedRoot::new(&signed, &key).and_then(|root| root.receipt(0, Vec::new()).to_bytes());
    let receipt = Receipt { extra: None, index: 0, hashes: Vec::new(), checkpoint: signed.note };
    let proof = write("entry.tlog-proof", &receipt.to_bytes());
    let (cose, vkey) = (write("entry.cose", &cose.expect("signs")), write("vkey", key.vkey().as_bytes()));
    let opened = serde_json::json!({"leaf": leaf, "opening": {}, "payload": {}}).to_string();
    for (name, entry, code) in [
        ("leaf.json", leaf.to_owned(), 0),
        ("entry.json", opened.clone(), 0),
        ("other.json", opened.replace("built", "burnt"), 1),
    ] {
        for receipt in [&proof, &cose] {
            let done = verify(&["receipt", receipt, &write(name, entry.as_bytes()), "--vkey", &vkey]);
            let said = String::from_utf8_lossy(&done.stdout);
            assert_eq!(done.status.code(), Some(code), "{name} {receipt}: {said}");
        }
    }
    let entry = write("leaf.json", leaf.as_bytes());
    let neither =
        [("text", b"almost a proof\n".as_slice(), "tlog-proof"), ("bytes", b"\xd2\x84\x00", "COSE")];
    for (name, bytes, format) in neither {
        let told = said(&["receipt", &write(name, bytes), &entry, "--vkey", &vkey], 1);
        assert!(told.contains(format), "{told}");
    }
}

#[test]
fn a_log_that_is_not_reached_is_not_called_rewritten() {
    use almoner_ledger::audit::audit;
    use almoner_ledger::source::{Source, SourceError};
    use almoner_ledger::{Checkpoint, LogKey};
    let key = LogKey::new("almoner.example/log", &[9; 32]).expect("a name");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let url = format!("http://{closed}/ledger");
    for args in [vec!["ledger", &url], vec!["ledger", &url, "--vkey", &key.vkey()]] {
        let done = verify(&args);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status.code(), Some(3), "{out}{err}");
        assert!(!out.contains("NOT INTACT") && err.contains("could not be reached"), "{out}{err}");
    }

    // A line that breaks in the middle: the head is had, the entries are not.
    struct Broken(Vec<u8>);
    impl Source for Broken {
        fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
            match path {
                "checkpoint" => Ok(self.0.clone()),
                _ => Err(SourceError::Unreadable { path: path.into(), reason: "connection reset".into() }),
            }
        }
    }
    let head = |size| Checkpoint { origin: key.name().into(), size, root: [7; 32] };
    let log = Broken(head(700).sign(&key).expect("signs").note);
    let checker = almoner_ledger::VerifierKey::parse(&key.vkey()).expect("a key");
    for threads in [1, 3] {
        let found = audit(&log, &checker, Some(&head(300)), threads);
        assert!(!found.intact && !found.is_wrong(), "{:?}", found.findings);
        assert_eq!((found.unread, found.findings_total), (6, 6), "bundles and tiles: {:?}", found.findings);
    }
}
