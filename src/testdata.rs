//! Where the third-party test data lies: `ALMONER_TEST_DATA`, or `../shared/data` beside the project.
//!
//! Third-party data is read from there and never copied into the project. Where the folder is absent a test prints why
//! it is skipped; under `CI` that is a failure.

use std::path::{Path, PathBuf};

/// The folder `part` of the test data, or `None` with a printed reason.
///
/// # Panics
/// When it is absent and `CI` is set: a skipped test is a failure there.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "used by tests only")]
pub fn dir(part: &str) -> Option<PathBuf> {
    let root = std::env::var("ALMONER_TEST_DATA")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = root.join(part);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("CI").is_err(), "test data {part} is absent, and under CI nothing is skipped");
    eprintln!("skipped: test data {part} is absent (set ALMONER_TEST_DATA)");
    None
}
