//! Power loss: a child appends on a disk that forgets; the power goes at a random moment, and what is left is opened.

use std::io::{self, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use almoner_model::{Entropy as _, SeededEntropy};

use crate::acts::{Acknowledged, Plan, check, read};
use crate::child::arguments;
use crate::disk::Disk;
use crate::mount::Mounted;

/// What a child does on the disk.
const PLAN: Plan = Plan { callers: 6, rounds: 4, each: 15 };

/// After so many drops a new disk is taken, so that the checks stay quick.
const DROPS_PER_DISK: u64 = 8;

/// What the drops came to.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    /// How often the power went.
    pub drops: u64,
    /// Of them, while the child was at work.
    pub at_work: u64,
    /// Acts that were acknowledged.
    pub acknowledged: u64,
    /// Acts that were durable and not yet acknowledged.
    pub unsaid: u64,
    /// What did not hold, with the seed of its drop.
    pub faults: Vec<String>,
}

/// Whether file systems can be mounted here.
///
/// # Errors
/// Why not.
pub fn available() -> Result<(), String> {
    let at = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mounted = Mounted::new(Disk::default(), at.path());
    mounted.map(|m| drop(m.unmount())).map_err(|e| format!("FUSE is not available here ({e})"))
}

/// Loses power `drops` times under `program`, which has the command `appender`.
///
/// # Errors
/// If a file system cannot be mounted or a child not started.
pub fn run(program: &Path, drops: u64, seed: u64, synced: bool) -> io::Result<Drops> {
    let dice = SeededEntropy::new(seed);
    let mut done = Drops::default();
    while done.drops < drops && done.faults.len() < 5 {
        let (mut disk, mut told, mut unsaid) = (Disk::default(), Acknowledged::new(), 0);
        for run in 0..DROPS_PER_DISK.min(drops - done.drops) {
            let chance = dice.u64();
            let (image, said, at_work) = one(program, disk, run, &dice, synced)?;
            done.drops += 1;
            done.at_work += u64::from(at_work);
            told.extend(said);
            disk = image.after_power_loss(chance);
            let copy = tempfile::tempdir()?;
            disk.copy_to(copy.path())?;
            // The check appends to the copy only.
            match check(copy.path(), &mut told.clone(), 0..run + 1, PLAN) {
                Ok(left) => unsaid = left,
                Err(fault) => {
                    done.faults.push(format!("drop {} (seed {chance:#x}): {fault}", done.drops));
                    break;
                }
            }
        }
        done.acknowledged += told.len() as u64;
        done.unsaid += unsaid;
    }
    Ok(done)
}

/// One child on `disk` until the power goes: the disk, what was acknowledged, whether the child was at work.
fn one(
    program: &Path,
    disk: Disk,
    run: u64,
    dice: &SeededEntropy,
    synced: bool,
) -> io::Result<(Disk, Acknowledged, bool)> {
    // Opening and recovery take a few dozen changes, a whole run some thousand.
    let after = 1 + dice.u64() % if dice.u64().is_multiple_of(3) { 60 } else { 2_000 };
    let at = tempfile::tempdir()?;
    let mounted = Mounted::new(disk, at.path())?;
    let (gone, power) = channel();
    mounted.disk().arm(after, gone.clone());
    let mut child: Child = Command::new(program)
        .args(arguments(at.path(), run, PLAN, synced))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // The pipe ends with the child, which wakes who waits for the power to go.
    let said = std::thread::spawn(move || {
        let said = read(BufReader::new(out));
        let _ = gone.send(());
        said
    });
    let _ = power.recv();
    let at_work = child.try_wait()?.is_none();
    mounted.disk().cut();
    child.kill()?;
    child.wait()?;
    let said = said.join().map_err(|_| io::Error::other("the reader failed"))?;
    Ok((mounted.unmount(), said, at_work))
}
