//! The program at its seams: what it leaves behind, what it says when it fails, and who no longer listens.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::run::{Program, arg};

fn almoner(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_almoner"));
    command.args(args).stdin(Stdio::null()).output().expect("the program starts")
}

#[test]
fn a_failure_is_one_object_on_standard_output_and_a_sentence_on_standard_error() {
    let place = tempfile::tempdir().expect("a folder");
    let none = place.path().join("none");
    for (args, code, kind) in [
        (vec!["serve", "--json", "--data", arg(&none)], 1, "invalid"),
        (
            vec!["push", "x", "--server", "ftp://x", "--token", "t", "--json", "--data", arg(&none)],
            2,
            "usage",
        ),
        (vec!["push", "--json", "--no-such-thing"], 2, "usage"),
    ] {
        let done = almoner(&args);
        assert_eq!(done.status.code(), Some(code), "{args:?}");
        let told: Value = serde_json::from_slice(&done.stdout).expect("one object");
        assert_eq!(told["error"]["kind"], kind, "{told}");
        assert!(!told["error"]["detail"].as_str().expect("a sentence").is_empty(), "{told}");
        let sentence = String::from_utf8(done.stderr).expect("text");
        assert!(!sentence.is_empty() && !sentence.starts_with('{'), "{sentence}");
        let plain: Vec<&str> = args.into_iter().filter(|a| *a != "--json").collect();
        assert!(almoner(&plain).stdout.is_empty(), "{plain:?}");
    }
}

#[test]
fn a_result_that_says_no_stays_the_only_object() {
    let place = tempfile::tempdir().expect("a folder");
    let program = Program::on(place.path().join("data"));
    program.must(&["init"]);
    let blob = program.data.join("datasets/other/v1");
    std::fs::create_dir_all(&blob).expect("made");
    let database = program.data.join("ledger.sqlite");
    let mut bytes = std::fs::read(&database).expect("the ledger");
    let at = memchr::memmem::find(&bytes, b"token.issued").expect("an entry");
    bytes[at] ^= 1;
    std::fs::write(&database, bytes).expect("written");
    let done = almoner(&["verify", "--json", "--data", arg(&program.data)]);
    assert_eq!(done.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&done.stdout).expect("one object");
    assert_eq!(told["intact"], false, "{told}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("not intact"));
}

#[test]
fn who_stops_reading_ends_a_command_quietly() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_almoner"));
    let mut child = command
        .args(["schema", "openapi"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Far more than a pipe holds is to come, and nobody takes it.
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{:?}", done.status);
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}

#[test]
fn a_server_that_is_stopped_leaves_whole_databases() {
    let place = tempfile::tempdir().expect("a folder");
    let program = Program::on(place.path().join("data"));
    program.must(&["init"]);
    program.must(&["contributor", "add", "north-general", "--name", "North"]);
    let server = program.serve();
    let export = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/two-hospitals-20/north-general/fhir");
    program.must(&["ingest", arg(&export), "--contributor", "north-general"]);
    server.stop();
    assert_eq!(beside(&program), [""; 0]);
    // Which thread lets go last is chance, so it is tried more than once.
    for _ in 0..8 {
        let server = program.serve();
        program.must(&["token", "create", "--role", "board"]);
        server.stop();
        assert_eq!(beside(&program), [""; 0]);
    }
}

/// What lies beside the databases while they are open.
fn beside(program: &Program) -> Vec<String> {
    std::fs::read_dir(&program.data)
        .expect("the data folder")
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with("-wal") || name.ends_with("-shm") || name.ends_with(".sock"))
        .collect()
}

#[test]
fn what_was_done_is_shown_by_this_process_and_through_the_server_alike() {
    let place = tempfile::tempdir().expect("a folder");
    let program = Program::on(place.path().join("data"));
    program.must(&["init"]);
    let said = |args: &[&str]| {
        let done = almoner(&[args, &["--data", arg(&program.data)]].concat());
        (done.status.code(), String::from_utf8(done.stdout).expect("text"))
    };
    let all = || {
        let table = said(&["uses", "log", "--format", "csv"]);
        assert!(table.1.starts_with("\"seq\",\"time\",") && table.1.lines().count() == 1, "{table:?}");
        let text = said(&["uses", "log", "--from", "2026-01-01", "--project", "p"]);
        assert_eq!(text, (Some(0), "The ledger has no such use of anybody's data.\n".to_owned()));
        assert_eq!(program.must(&["uses", "log"])["items"], serde_json::json!([]));
        assert_eq!(said(&["uses", "processing", "--format", "fhir-ndjson"]).0, Some(2));
        program.must(&["uses", "processing"])["activities"].clone()
    };
    let here = all();
    assert_eq!(here[0]["id"], "accounts", "{here}");
    let server = program.serve();
    assert_eq!(all(), here);
    server.stop();
}
