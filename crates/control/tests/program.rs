//! `almoner-verify-replay`, as an auditor starts it: exit codes, verdicts in words and as JSON.

use std::path::Path;
use std::process::Command;

use almoner_control::policy::HOUSE;
use almoner_control::replay::testing::{Log, Say};
use almoner_model::{Digest, Timestamp};
use serde_json::{Value, json};

fn run(args: &[&str], code: i32) -> (String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_almoner-verify-replay")).args(args).output().expect("starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(done.stdout), text(done.stderr));
    assert_eq!(done.status.code(), Some(code), "{args:?}\n{out}{err}");
    (out, err)
}

/// A log with one count, of a project that there is or not.
fn counted(dir: &Path, project: &str) {
    let mut log = Log::new(Timestamp::from_millis(1_764_000_000_000)).expect("a key");
    let north = json!({"contributor": "north", "name": "North", "linkage": false, "k_min": null});
    let dataset = json!({"dataset": "north", "version": 1, "contributor": "north", "manifest": Digest([1; 32]),
        "profile": "date-shifted", "mode": "full", "persons": 9, "tables": {}});
    let created = json!({"project": "stroke", "title": "Stroke", "recipient": "uni"});
    for (kind, payload) in
        [("contributor.registered", north), ("dataset.published", dataset), ("project.created", created)]
    {
        log.say(Say { kind, payload, ..Say::default() }).expect("said");
    }
    let payload = json!({"project": project, "purpose": "DUO:0000006", "modifiers": [], "required": [],
        "cohort": Digest([2; 32]), "datasets": {"north": 1}, "answer": Digest([3; 32]), "as_of": 3});
    let (as_of, policy) = (Some(3), Some(Digest::of(HOUSE)));
    let decision = Some("answered");
    log.say(Say { kind: "count.answered", payload, as_of, decision, policy, ..Say::default() })
        .expect("said");
    log.write(dir).expect("written");
}

#[test]
fn verdicts_are_printed_and_the_exit_code_says_the_worst() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    counted(Path::new(&at("right")), "stroke");
    counted(Path::new(&at("wrong")), "other");
    let (right, wrong) = (at("right"), at("wrong"));
    let (payloads, others) = (at("right/payloads.ndjson"), at("wrong/payloads.ndjson"));
    let key = at("right/vkey");

    let (out, _) = run(&[&right, &payloads, "--vkey", &key], 0);
    assert!(out.contains("count.answered") && out.contains("equal: every decision"), "{out}");
    let (out, _) = run(&[&right, &payloads], 0);
    assert!(out.contains("the key came with the log"), "{out}");
    let (out, _) = run(&[&wrong, &others, "--vkey", &key], 1);
    assert!(out.contains("DIFFERS entry 3") && out.contains("there is no such project"), "{out}");
    let (out, _) = run(&[&wrong, &others, "--json"], 1);
    let report: Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(report["verdicts"][0]["verdict"], "differs");
    assert_eq!(report["intact"], false);
    // One log's payloads beside another's entries.
    let (out, _) = run(&[&wrong, &payloads], 1);
    assert!(out.contains("WRONG   entry 3: the payload"), "{out}");

    assert!(run(&[], 2).1.contains("name the log"));
    assert!(run(&["--fast"], 2).1.contains("unknown option"));
    assert!(run(&[&right, &at("nothing")], 3).1.contains("nothing was checked"));
    let no_key = run(&[&right, &payloads, "--vkey", "nonsense"], 1).1;
    assert!(no_key.contains("no verifier key"), "{no_key}");
    std::fs::write(at("right/payloads.ndjson"), "{}\n").expect("written");
    assert!(run(&[&right, &payloads], 1).1.contains("line 1 of the bundle"));
}
