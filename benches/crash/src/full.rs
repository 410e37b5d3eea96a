//! A disk that is full, or read-only: the store stops accepting and says so, goes on being read, and accepts again without
//! being opened anew when the disk does.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use almoner::store::{Store as _, StoreError};

use crate::acts::{Acknowledged, Plan, check, entry, open, read};
use crate::disk::Disk;
use crate::mount::Mounted;

/// What the disk refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// More bytes (ENOSPC).
    Full,
    /// Any change (EROFS).
    ReadOnly,
}

/// Room that is left when a disk begins to be full, in bytes.
const ROOM: u64 = 100_000;

/// Within which the store notices that the disk takes something again.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// The process on the disk. It says `ready`, `refusing` and `accepting`, and goes on at each line that it is sent.
pub fn child(dir: &Path) -> bool {
    steps(dir).inspect_err(|why| eprintln!("{why}")).is_ok()
}

fn steps(dir: &Path) -> Result<(), String> {
    let store = open(dir, true).map_err(|e| e.to_string())?;
    let mut n = 0;
    let mut append = || {
        let place = store.append(vec![entry((0, 0, n))], &[])?[0].seq;
        println!("0 0 {n} {place} .");
        n += 1;
        Ok::<_, StoreError>(n)
    };
    for _ in 0..10 {
        append().map_err(|e| e.to_string())?;
    }
    say("ready")?;
    let refused = loop {
        match append() {
            Ok(n) if n > 10_000 => return Err("the disk took everything".into()),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    if !matches!(refused, StoreError::Unavailable(_)) || store.accepting().is_ok() {
        return Err(format!("refused by {refused:?}, and says {:?}", store.accepting()));
    }
    let size = store.size();
    let served = store.checkpoint().checkpoint.size == size
        && store.leaves(0..size).is_ok_and(|leaves| leaves.len() as u64 == size)
        && store.entry(size - 1).is_ok_and(|entry| entry.is_some())
        && store.tile(0, 0).is_ok_and(|tile| tile.is_some());
    if !served {
        return Err("what was published is not served".into());
    }
    say("refusing")?;
    let begun = Instant::now();
    while store.accepting().is_err() {
        if begun.elapsed() > NOTICED_WITHIN {
            return Err("the store does not accept again".into());
        }
        std::thread::yield_now();
    }
    for _ in 0..10 {
        append().map_err(|e| e.to_string())?;
    }
    say("accepting")
}

/// Says a word, and waits for a line.
fn say(word: &str) -> Result<(), String> {
    println!("{word}");
    io::stdout().flush().map_err(|e| e.to_string())?;
    io::stdin()
        .lines()
        .next()
        .map_or_else(|| Err("nobody is there".into()), |line| line.map_err(|e| e.to_string()))?;
    Ok(())
}

/// Runs `program`, which has the command `full`, on a disk that refuses and then takes again. What was acknowledged, before
/// and after, is checked.
///
/// # Errors
/// What does not hold.
pub fn run(program: &Path, refusal: Refusal) -> Result<Acknowledged, String> {
    let failed = |e: io::Error| e.to_string();
    let at = tempfile::tempdir().map_err(failed)?;
    let mounted = Mounted::new(Disk::default(), at.path()).map_err(failed)?;
    let mut child = Command::new(program)
        .arg("full")
        .arg(at.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (mut to, from) = (child.stdin.take().ok_or("no input")?, child.stdout.take().ok_or("no output")?);
    let (mut from, mut said, mut met) = (BufReader::new(from), String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).map_err(failed)? == 0 {
            break;
        }
        let mut disk = mounted.disk();
        match (line.trim_end(), refusal) {
            ("ready", Refusal::Full) => {
                let used = disk.used();
                disk.limit(used + ROOM);
            }
            ("ready", Refusal::ReadOnly) => disk.set_read_only(true),
            ("refusing", _) => {
                disk.limit(u64::MAX);
                disk.set_read_only(false);
            }
            ("accepting", _) => {}
            _ => {
                said.push_str(&line);
                continue;
            }
        }
        drop(disk);
        met.push(line.trim_end().to_owned());
        to.write_all(b"\n").map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if !status.success() || met != ["ready", "refusing", "accepting"] {
        return Err(format!("the process ended with {status} after {met:?}"));
    }
    let (mut told, copy) = (read(said.as_bytes()), tempfile::tempdir().map_err(failed)?);
    mounted.unmount().copy_to(copy.path()).map_err(failed)?;
    let plan = Plan { callers: 1, rounds: 1, each: told.len() as u64 };
    check(copy.path(), &mut told, 0..1, plan)?;
    Ok(told)
}
