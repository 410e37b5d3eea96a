//! Runs the crash tests: `kill [POINTS]`, `power [DROPS]`. Each prints its figures and one line `bar: …`, and fails where the
//! bar is missed. `appender` is the child that dies.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measuring program")]

use std::path::Path;
use std::process::ExitCode;

use almoner_crash::acts::Plan;
use almoner_crash::{child, full, kill, power};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let program = std::env::current_exe().unwrap_or_default();
    let met = match args.first().map(String::as_str) {
        Some("appender") => {
            let plan = Plan { callers: number(3, 1), rounds: number(4, 1), each: number(5, 1) };
            Ok(child::run(Path::new(&args[1]), number(2, 0), plan, number(6, 1) == 1))
        }
        Some("full") => Ok(args.get(1).is_some_and(|dir| full::child(Path::new(dir)))),
        Some("kill") => kills(&program, number(1, 1_000), number(2, 1)),
        Some("power") => drops(&program, number(1, 200), number(2, 1)),
        _ => Err("usage: almoner-crash kill [POINTS [SEED]] | power [DROPS [SEED]]".into()),
    };
    match met {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn kills(program: &Path, points: u64, seed: u64) -> Result<bool, String> {
    kill::available()?;
    let done = kill::run(program, points, seed).map_err(|e| e.to_string())?;
    done.struck.iter().for_each(|(fault, times)| println!("{times} times {fault}"));
    done.faults.iter().for_each(|fault| println!("FAULT {fault}"));
    println!("{} points lay behind the end of the process and are not counted", done.missed);
    println!(
        "{} acts acknowledged, {} durable but cut off before they were said",
        done.acknowledged, done.unsaid
    );
    println!(
        "bar: {} points, {} with an acknowledged act lost, a gap or a duplicate (0 allowed)",
        done.total(),
        done.faults.len()
    );
    Ok(done.faults.is_empty() && done.total() >= points && done.acknowledged > 0)
}

fn drops(program: &Path, drops: u64, seed: u64) -> Result<bool, String> {
    power::available()?;
    let run = |drops, synced| power::run(program, drops, seed, synced).map_err(|e| e.to_string());
    let done = run(drops, true)?;
    done.faults.iter().for_each(|fault| println!("FAULT {fault}"));
    println!("{} of {} drops while the process was at work", done.at_work, done.drops);
    println!("{} acts acknowledged, {} durable but not yet said", done.acknowledged, done.unsaid);
    let control = run(drops.min(20), false)?;
    println!(
        "negative control (synchronous=NORMAL): {} faults in {} drops",
        control.faults.len(),
        control.drops
    );
    control.faults.first().inspect(|fault| println!("  such as {fault}"));
    println!(
        "bar: {} drops, {} with an acknowledged act lost, a gap or a duplicate (0 allowed); the negative control {}",
        done.drops,
        done.faults.len(),
        if control.faults.is_empty() { "PASSES (it must fail)" } else { "fails, as it must" }
    );
    Ok(done.faults.is_empty() && done.drops >= drops && done.acknowledged > 0 && !control.faults.is_empty())
}
