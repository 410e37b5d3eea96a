//! Kills and failing system calls: a child appends; `strace` kills it at its n-th `fsync` or write, or lets that call fail;
//! or it is killed at a random moment. What it left is opened and checked.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use almoner_model::{Entropy as _, SeededEntropy};

use crate::acts::{Acknowledged, Plan, check, read};
use crate::child::arguments;

/// What a child does.
const PLAN: Plan = Plan { callers: 4, rounds: 2, each: 5 };

/// After so many points a new folder is taken, so that the checks stay quick.
const POINTS_PER_FOLDER: u64 = 8;

/// System calls, what becomes of the n-th of a thread, and the largest n that is drawn.
const FAULTS: &[(&str, &str, u64)] = &[
    ("fsync,fdatasync", "signal=KILL", 12),
    ("fsync,fdatasync", "error=EIO", 12),
    ("pwrite64", "signal=KILL", 160),
    ("pwrite64", "error=EIO", 160),
    ("pwrite64", "error=ENOSPC", 160),
    ("write", "signal=KILL", 8),
    ("ftruncate", "signal=KILL", 4),
    ("ftruncate", "error=EIO", 4),
    ("unlink", "signal=KILL", 3),
    ("unlink", "error=EIO", 3),
    ("rename", "signal=KILL", 3),
    ("rename", "error=EIO", 3),
    ("kill -9", "at a random moment", 60_000),
];

/// What the points came to.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// Points that struck, by fault.
    pub struck: BTreeMap<String, u64>,
    /// Points that lay behind the end of the child.
    pub missed: u64,
    /// Acts that were acknowledged.
    pub acknowledged: u64,
    /// Acts that were durable and not yet acknowledged.
    pub unsaid: u64,
    /// What did not hold.
    pub faults: Vec<String>,
}

impl Points {
    /// Points that struck.
    pub fn total(&self) -> u64 {
        self.struck.values().sum()
    }
}

/// Whether `strace` can be used here.
///
/// # Errors
/// Why not.
pub fn available() -> Result<(), String> {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    match tried {
        Ok(done) if done.status.success() => Ok(()),
        Ok(_) => Err("strace may not trace here".into()),
        Err(error) => Err(format!("strace is not available here ({error})")),
    }
}

/// Strikes `program`, which has the command `appender`, at `points` points.
///
/// # Errors
/// If a child cannot be started.
pub fn run(program: &Path, points: u64, seed: u64) -> io::Result<Points> {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Points::default()));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (next, all) = (&next, &all);
                let dice = SeededEntropy::new(seed.wrapping_add(worker));
                scope.spawn(move || -> io::Result<()> {
                    while folder(program, next, points, &dice, all)? {}
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| io::Error::other("a worker failed"))?)
    })?;
    all.into_inner().map_err(|_| io::Error::other("a worker failed"))
}

/// The points of one folder; whether there are more to do.
fn folder(
    program: &Path,
    next: &AtomicU64,
    points: u64,
    dice: &SeededEntropy,
    all: &Mutex<Points>,
) -> io::Result<bool> {
    let (dir, mut told) = (tempfile::tempdir()?, Acknowledged::new());
    for run in 0..POINTS_PER_FOLDER {
        let point = next.fetch_add(1, Ordering::SeqCst);
        let (calls, fault, most) = FAULTS[point as usize % FAULTS.len()];
        let at = 1 + dice.u64() % most;
        let (said, struck) = strike(program, dir.path(), run, calls, fault, at)?;
        all.lock().map_err(|_| io::Error::other("a worker failed"))?.acknowledged += said.len() as u64;
        told.extend(said);
        let checked = check(dir.path(), &mut told, 0..run + 1, PLAN);
        let mut all = all.lock().map_err(|_| io::Error::other("a worker failed"))?;
        if struck {
            *all.struck.entry(format!("{calls} {fault}")).or_default() += 1;
        } else {
            all.missed += 1;
        }
        match checked {
            Ok(unsaid) => all.unsaid += unsaid,
            Err(problem) => all.faults.push(format!("{calls} {fault} {at}: {problem}")),
        }
        if all.faults.len() >= 5 || all.total() >= points {
            return Ok(false);
        }
        if all.faults.last().is_some_and(|f| f.starts_with(&format!("{calls} {fault} {at}:"))) {
            return Ok(true);
        }
    }
    Ok(true)
}

/// One child that is struck: what it acknowledged, and whether it was struck at all.
fn strike(
    program: &Path,
    dir: &Path,
    run: u64,
    calls: &str,
    fault: &str,
    at: u64,
) -> io::Result<(Acknowledged, bool)> {
    let by_hand = calls == "kill -9";
    let trace = tempfile::NamedTempFile::new()?;
    let mut command = if by_hand { Command::new(program) } else { Command::new("strace") };
    if !by_hand {
        let inject = format!("inject={calls}:{fault}:when={at}");
        command.args(["-f", "-q", "-e", &format!("trace={calls}"), "-e", &inject, "-o"]);
        command.arg(trace.path()).arg(program);
    }
    let mut child =
        command.args(arguments(dir, run, PLAN, true)).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let said = std::thread::spawn(move || read(BufReader::new(out)));
    if by_hand {
        std::thread::sleep(Duration::from_micros(at));
        child.kill()?;
    }
    let status = child.wait()?;
    let said = said.join().map_err(|_| io::Error::other("the reader failed"))?;
    let trace = std::fs::read_to_string(trace.path())?;
    let by_hand_in_time =
        by_hand && std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL);
    // Not with `--seccomp-bpf`: it loses signals. A thread that is killed takes the others along, and strace says so of each.
    let struck = by_hand_in_time || trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL");
    Ok((said, struck))
}
