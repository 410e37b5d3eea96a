//! What a crash may not do to the ledger, tried out: kills and failing system calls ([`kill`]), loss of power on a file
//! system of our own that forgets what was not synced ([`power`], [`disk`], [`mount`]).
//!
//! Disks that are full or read-only: [`full`].
//!
//! Each point is a process that appends known acts and says which were acknowledged. What it leaves is opened, audited and
//! compared ([`acts`]). Run by `.ci/bars/kill-appends` and `.ci/bars/power-loss`, and in small by this package's tests.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program"
)]

pub mod acts;
pub mod child;
pub mod disk;
pub mod full;
pub mod kill;
pub mod mount;
pub mod power;
