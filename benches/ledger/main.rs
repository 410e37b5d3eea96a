//! The ledger's bars, measured on this machine: `append`, `verify`, `proof`, `boot`, `tamper`. Each prints its figures and
//! one line `bar: …`, and fails where the bar is missed. `.ci/bars/ledger-*` run them. Kills and power loss: `benches/crash`.
//! For programs of other people there are `foreign` and `rotated`, which serve a ledger to one, and `canonical`, which prints
//! what another reader of JCS can compare.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

mod append;
mod bare;
mod boot;
#[path = "../callers/mod.rs"]
mod callers;
mod canonical;
mod fill;
mod foreign;
mod proof;
mod tamper;
mod verify;

use std::path::Path;
use std::sync::Arc;

use almoner::events::Actor;
use almoner::store::signing::SigningKeys;
use almoner::store::sqlite::{Options, SqliteStore};
use almoner::store::{NewEntry, NoProjections, StoreError};
use almoner::system::{SystemClock, SystemEntropy};
use almoner_ledger::LogKey;
use almoner_model::SubjectId;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Signs the measured ledgers.
pub fn log_key() -> LogKey {
    LogKey::new("almoner.example/bench", &[5; 32]).unwrap()
}

/// The keys of the measured ledgers: one.
pub fn keys() -> SigningKeys {
    SigningKeys::new(|_| Ok(log_key()))
}

/// Wraps the payload keys of the measured ledgers.
pub const WRAPPING_KEY: [u8; 32] = [6; 32];

/// Opens the store in `dir` as the server does.
pub fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(Options {
        path: dir.join("ledger.sqlite"),
        keys: keys(),
        wrapping_key: WRAPPING_KEY,
        anchor: Some(dir.join("last.checkpoint")),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        projector: Arc::new(NoProjections),
        faults: None,
    })
}

/// The act `n` of caller `caller`, with a payload of `bytes` bytes in canonical form about one of 10,000 people.
pub fn act(caller: u64, n: u64, bytes: usize) -> NewEntry {
    // The digits of a random UUID are spread; so are these, by an odd multiplier.
    let spread = (caller << 40 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = format!("{:016x}{:016x}", spread, caller << 40 | n);
    NewEntry {
        event_id: format!("{}-{}-4{}-8{}-{}", &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..]),
        kind: "bench.done",
        actor: Actor { role: "operator".into(), id: "bench".into() },
        subject: SubjectId::new(1 + (spread >> 32) as i64 % 10_000).ok(),
        payload: serde_json::json!({"text": "x".repeat(bytes - 11)}),
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics: vec![],
    }
}

/// A folder on the disk that the build uses, or in `ALMONER_BENCH_DIR`: what is measured is a disk, not memory.
pub fn folder() -> tempfile::TempDir {
    let built = || env!("CARGO_TARGET_TMPDIR").into();
    tempfile::tempdir_in(std::env::var("ALMONER_BENCH_DIR").unwrap_or_else(|_| built())).unwrap()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |at: usize, default: u64| args.get(at).map_or(default, |a| a.parse().unwrap());
    let met = match args.first().map(String::as_str) {
        Some("append") => append::run(number(1, 64), number(2, 5)),
        Some("verify") => verify::run(number(1, 1_000_000)),
        Some("proof") => proof::run(number(1, 1_000_000)),
        Some("die") => boot::append_and_die(Path::new(&args[1])),
        Some("boot") => boot::run(number(1, 10_000_000)),
        Some("tamper") => tamper::run(),
        Some("foreign") => foreign::run(&args[1], &args[2..]),
        Some("rotated") => foreign::rotated(&args[1..]),
        Some("canonical") => canonical::run(number(1, 10_000)),
        None => append::run(64, 3) && verify::run(100_000),
        Some(other) => {
            panic!(
                "unknown measure {other}: append, verify, proof, boot, tamper, foreign, rotated or canonical"
            )
        }
    };
    std::process::exit(i32::from(!met));
}
