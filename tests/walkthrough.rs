//! `docs/walkthrough.md`, run as it stands: its commands in a shell, against the programs of this build and a real server.
//! Needs `sh` and `curl`. Only the port is another.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The commands of a page: its `sh` blocks, in order.
fn commands(page: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

/// The folder that has `almoner` and `almoner-verify`. Testing the workspace builds both.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_almoner")).parent().expect("a folder");
    assert!(
        folder.join("almoner-verify").exists() || folder.join("almoner-verify.exe").exists(),
        "almoner-verify is not built: `cargo test --workspace`, or first `cargo build -p almoner-ledger`"
    );
    folder.to_owned()
}

#[test]
fn the_walkthrough_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/walkthrough.md")).expect("the page");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let script = commands(&page).replace("127.0.0.1:8210", &format!("127.0.0.1:{port}"));
    assert!(script.matches("call ").count() > 15, "the page has lost its commands");

    let place = tempfile::tempdir().expect("a folder");
    #[expect(clippy::disallowed_methods, reason = "where the shell finds curl")]
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").expect("a path"));
    // A page that breaks must not leave its server behind.
    let guard = "trap 'kill \"${SERVER:-}\" 2>/dev/null' EXIT\n";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{guard}{script}echo the end of the page")).env_clear().env("PATH", path);
    let ran = shell.current_dir(place.path()).stdin(Stdio::null()).output().expect("sh runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    let told = format!("{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    // A trap's own status is the last command's, so the end is known by its word.
    assert!(said.trim_end().ends_with("the end of the page"), "{told}");
    assert!(!told.contains("NOT INTACT"), "{told}");
    for holds in [
        "intact: files, manifest, entry and the log's signature agree",
        "intact: everyone had permitted it, and nothing that they said was left out",
        "\"lay_summary\":",
    ] {
        assert!(said.contains(holds), "{holds}: {told}");
    }
    let persons: Vec<u64> = said
        .lines()
        .filter(|line| line.contains("\"kind\":\"release\""))
        .filter_map(|line| line.split("\"persons\":").nth(1)?.split(',').next()?.parse().ok())
        .collect();
    assert!(matches!(persons[..], [first, second] if 0 < second && second < first), "{persons:?}: {told}");
}
