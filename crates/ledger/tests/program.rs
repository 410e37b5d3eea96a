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

#[test]
fn a_receipt_without_its_quorum_says_so_and_is_not_accepted() {
    use almoner_ledger::cosignature::{WitnessKey, attach};
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
    let witnesses = [1, 2, 3].map(|n| WitnessKey::new(&format!("w{n}.example"), &[n; 32]).expect("a name"));
    let mut text = format!("log {}\n", key.vkey());
    for (n, witness) in witnesses.iter().enumerate() {
        text += &format!("witness w{n} {}\n", witness.public().line());
    }
    let policy = write("policy", (text + "group two 2 w0 w1 w2\nquorum two\n").as_bytes());
    let leaf = br#"{"event":"1","type":"release.built"}"#;
    let entry = write("leaf.json", leaf);
    let checkpoint = Checkpoint { origin: key.name().into(), size: 1, root: leaf_hash(leaf) };
    let signed = checkpoint.sign(&key).expect("signs");
    let proof = |of: &[usize]| {
        let lines: Vec<String> =
            of.iter().map(|n| witnesses[*n].cosign(&signed.checkpoint.text(), 7).line).collect();
        let checkpoint = attach(&signed.note, lines.iter().map(String::as_str)).expect("a note");
        write("entry.tlog-proof", &Receipt { extra: None, index: 0, hashes: vec![], checkpoint }.to_bytes())
    };
    let run = |proof: &str, more: &[&str]| {
        let done = verify(&[&["receipt", proof, &entry], more].concat());
        (done.status.code(), String::from_utf8(done.stdout).expect("text"))
    };
    let (code, said) = run(&proof(&[1]), &["--policy", &policy]);
    assert_eq!(code, Some(1));
    let expected = "NOT ACCEPTED: the entry stands in the log, but quorum NOT reached: 1 of 3 of two, 2 needed; \
                    cosigned: w1; not: w0, w2";
    assert!(said.contains(expected), "{said}");
    assert_eq!(run(&proof(&[1]), &["--vkey", &key.vkey()]).0, Some(0), "nobody asked for a quorum");
    let (code, said) = run(&proof(&[0, 2]), &["--policy", &policy]);
    assert!(code == Some(0) && said.contains("quorum reached: 2 of 3"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&proof(&[0]), &["--policy", &policy, "--json"]).1).expect("JSON");
    assert_eq!((&json["intact"], &json["quorum"]["reached"]), (&false.into(), &false.into()));
    let other = LogKey::new("almoner.example/log", &[8; 32]).expect("a name");
    let stranger = write("stranger", format!("log {}\nquorum none\n", other.vkey()).as_bytes());
    assert_eq!(run(&proof(&[0, 2]), &["--policy", &stranger]).0, Some(1));
    let cut = write("cut", b"quorum none");
    assert_eq!(run(&proof(&[0, 2]), &["--policy", &cut]).0, Some(1));
}

#[test]
fn an_evidence_pack_is_checked_against_the_readers_own_policy() {
    use almoner_ledger::cosignature::{WitnessKey, attach};
    use almoner_ledger::{Checkpoint, LogKey};
    use serde_json::{Value, json};
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let key = LogKey::new("almoner.example/log", &[9; 32]).expect("a name");
    let witness = WitnessKey::new("w.example", &[1; 32]).expect("a name");
    let one = format!("witness w {}\nquorum w\n", witness.public().line());
    let policy = write("policy", &format!("log {}\n{one}", key.vkey()));
    let (without_log, cut) = (write("without-log", &one), write("cut", "quorum none"));
    let signed = Checkpoint { origin: key.name().into(), size: 1, root: [7; 32] }.sign(&key).expect("signs");
    let line = witness.cosign(&signed.checkpoint.text(), 7).line;
    let cosigned = attach(&signed.note, [line.as_str()]).expect("a note");
    let entry = json!({"entry": {"leaf": "{}", "opening": "00".repeat(32), "payload": {}}, "proof": []});
    let pack = |note: &[u8]| {
        let use_ = json!({"purpose": {"terms": [], "diseases": [], "methods": false}, "required": [], "delivered": [],
            "project": "p", "recipient": "r", "at": "2026-01-01T00:00:00.000Z"});
        let pack = json!({"format": "almoner-evidence/1", "checkpoint": String::from_utf8_lossy(note), "release": entry,
            "request": entry, "permit": entry, "datasets": [], "wanted": use_, "members": [], "said": [], "others": []});
        write("evidence.json", &pack.to_string())
    };
    let run = |pack: &str, more: &[&str]| {
        let done = verify(&[&["evidence", pack, "--json"], more].concat());
        (serde_json::from_slice::<Value>(&done.stdout).unwrap_or_default(), done)
    };
    for (note, reached) in [(&signed.note, false), (&cosigned, true)] {
        let pack = pack(note);
        for more in [vec!["--policy", &policy], vec!["--policy", &without_log, "--vkey", &key.vkey()]] {
            let (said, done) = run(&pack, &more);
            assert_eq!(said["quorum"]["reached"], json!(reached), "{done:?}");
            assert_eq!(done.status.code(), Some(1), "the entries of this pack are made up");
        }
        assert_eq!(run(&pack, &["--vkey", &key.vkey()]).0["quorum"], Value::Null, "nobody asked");
        for (more, why) in [(&without_log, "--vkey"), (&cut, "line 1")] {
            let done = run(&pack, &["--policy", more]).1;
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.code() == Some(1) && said.contains(why), "{said}");
        }
    }
}

#[test]
fn evidence_of_a_fork_is_checked() {
    use almoner_ledger::fork::Fork;
    use almoner_ledger::{Checkpoint, LogKey};
    let folder = tempfile::tempdir().expect("a folder");
    let key = LogKey::new("almoner.example/log", &[9; 32]).expect("a name");
    let note = |root| Checkpoint { origin: key.name().into(), size: 7, root }.sign(&key).expect("signs").note;
    let run = |fork: &Fork| {
        let path = folder.path().join("evidence.json");
        std::fs::write(&path, fork.to_bytes()).expect("written");
        let done = verify(&["fork", &path.to_string_lossy(), "--vkey", &key.vkey()]);
        (done.status.code(), String::from_utf8(done.stdout).expect("text"))
    };
    let (code, said) = run(&Fork::new("", &note([1; 32]), &note([2; 32]), None, &[]));
    assert!(code == Some(0) && said.contains("FORK: almoner.example/log signed two histories"), "{said}");
    let (code, said) = run(&Fork::new("", &note([1; 32]), &note([1; 32]), None, &[]));
    assert!(code == Some(1) && said.contains("NOT SHOWN: the two checkpoints agree"), "{said}");
}
