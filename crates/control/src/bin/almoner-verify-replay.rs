//! `almoner-verify-replay`: makes every decision in a log again, on anyone's machine (`almoner-verify replay` starts it).
//!
//! A thin shell over [`almoner_control::replay`]: it parses arguments, audits the log, reads the bundle, prints verdicts. A
//! program of its own because the rules are Cedar, which `almoner-verify` does without. Exit codes: 0 every decision is equal
//! (or what it rests on was erased), 1 something differs or is wrong, 2 wrong usage, 3 could not be checked.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to a person on a terminal"
)]

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use almoner_control::replay::bundle::BundleError;
use almoner_control::replay::{Report, Verdict, replay};
use almoner_ledger::audit::audit;
use almoner_ledger::source::{Source, SourceError, at, keys_of, leaves, verifier_key};
use almoner_ledger::{Checkpoint, VerifierKey};

const USAGE: &str = "\
almoner-verify replay makes every decision in a log again, from the entries before it.

  almoner-verify replay LEDGER PAYLOADS --vkey KEY|FILE
      LEDGER is a folder from `almoner ledger export`, or the address of a published log.
      PAYLOADS is the bundle of opened payloads that the operator made for you: payloads.ndjson from
      `almoner ledger export --payloads`, or what `GET /v1/ledger/payloads` answers a board.
      Permits, counts, releases and downloads are decided again by the rules of then and by what people had said
      until then. Each is `equal`, `differs` (with what is recorded and what comes of the entries) or `erased`.
      Without --vkey LEDGER/vkey is used, which shows only that the log agrees with itself.

  --json     one JSON object on standard output
  --threads  threads that read the log
Exit codes: 0 nothing differs, 1 something differs or is wrong, 2 wrong usage, 3 a file or address could not be read.";

/// Verdicts of a kind that are printed.
const SHOWN: usize = 100;

enum Stop {
    Usage(String),
    Wrong(String),
    Unread(String),
}

#[derive(Default)]
struct Arguments {
    positional: Vec<String>,
    vkey: Option<String>,
    threads: Option<usize>,
    json: bool,
    help: bool,
}

fn arguments() -> Result<Arguments, Stop> {
    let mut parsed = Arguments::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(Stop::Usage(format!("{arg} needs a value")));
        match arg.as_str() {
            "--vkey" => parsed.vkey = Some(value()?),
            "--threads" => {
                let number = value()?.parse();
                parsed.threads = Some(number.map_err(|_| Stop::Usage("--threads needs a number".into()))?);
            }
            "--json" => parsed.json = true,
            "--help" | "-h" => parsed.help = true,
            flag if flag.starts_with("--") => return Err(Stop::Usage(format!("unknown option {flag}"))),
            _ => parsed.positional.push(arg),
        }
    }
    Ok(parsed)
}

fn run(args: &Arguments, place: &str, payloads: &str) -> Result<bool, Stop> {
    let source = at(place);
    let key = match &args.vkey {
        Some(given) => verifier_key(given).map_err(Stop::Wrong)?,
        None => {
            let line = read(&*source, place, "vkey")?;
            VerifierKey::parse(&String::from_utf8_lossy(&line)).map_err(|e| Stop::Wrong(e.to_string()))?
        }
    };
    let key = keys_of(&*source, &key)
        .map_err(|e| Stop::Unread(format!("{place} could not be reached for the log's hand-overs: {e}")))?;
    let note = read(&*source, place, "checkpoint")?;
    let tree = Checkpoint::open(&note, &key).map_err(|e| Stop::Wrong(e.to_string()))?.checkpoint;
    let bundle =
        File::open(payloads).map_err(|e| Stop::Unread(format!("{payloads} cannot be read: {}", e.kind())))?;
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let audited = audit(&*source, &key, None, threads);
    if audited.is_wrong() {
        return Err(Stop::Wrong("the log itself is not intact; see `almoner-verify ledger`".into()));
    }
    if !audited.intact {
        return Err(Stop::Unread(format!("{place} could not be reached for the whole of the log")));
    }
    let report = replay(&tree, &mut leaves(&*source, tree.size), BufReader::with_capacity(1 << 20, bundle));
    let report = report.map_err(|e| match e {
        BundleError::Unread(_) => Stop::Unread(e.to_string()),
        BundleError::Line { .. } => Stop::Wrong(e.to_string()),
    })?;
    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(|e| Stop::Wrong(e.to_string()))?);
    } else {
        tell(&report, key.name(), args.vkey.is_some());
    }
    if report.intact && report.verdicts.is_empty() && report.closed > 0 {
        return Err(Stop::Unread("no decision of this log is opened to you".into()));
    }
    Ok(report.intact)
}

fn read(source: &dyn Source, place: &str, path: &str) -> Result<Vec<u8>, Stop> {
    source.read(path).map_err(|e| match e {
        SourceError::Unreadable { reason, .. } => {
            Stop::Unread(format!("{place} could not be reached: {reason}"))
        }
        e => Stop::Wrong(e.to_string()),
    })
}

fn tell(report: &Report, origin: &str, key_given: bool) {
    println!("log     {origin}\nsize    {} entries, {} of them opened", report.entries, report.opened);
    for (digest, used) in &report.rules {
        let whose = if used.of_this_version { "of this version" } else { "of another version: read them" };
        println!("rules   house {digest}, {whose}: asked {} times", used.decisions);
    }
    println!("\n{:>9} {:>9} {:>9}", "equal", "differs", "erased");
    for (kind, t) in &report.decisions {
        println!("{:>9} {:>9} {:>9}  {kind}", t.equal, t.differs, t.erased);
    }
    println!("{:>9} people in releases, each with what they had said\n", report.persons);
    for (kind, count) in &report.not_recomputable {
        println!("not decided again: {count} {kind}, which rest on the data");
    }
    if report.closed > 0 {
        println!("not opened to you: {} decisions, of which nothing is said", report.closed);
    }
    let verdicts = report.verdicts.iter().filter(|d| d.verdict != Verdict::Equal);
    for decided in verdicts.clone().take(SHOWN) {
        match &decided.verdict {
            Verdict::Differs { recorded, computed } => println!(
                "DIFFERS entry {} {}\n          recorded: {recorded}\n          computed: {computed}",
                decided.seq, decided.kind
            ),
            Verdict::Erased { entry } => {
                println!("ERASED  entry {} {}: it rests on entry {entry}", decided.seq, decided.kind);
            }
            Verdict::Equal => {}
        }
    }
    let more = verdicts.count().saturating_sub(SHOWN);
    if more > 0 {
        println!("and {more} more; --json has all");
    }
    for finding in &report.findings {
        match finding.seq {
            Some(seq) => println!("WRONG   entry {seq}: {}", finding.problem),
            None => println!("WRONG   {}", finding.problem),
        }
    }
    if report.findings_total > report.findings.len() as u64 {
        println!("WRONG   and {} more", report.findings_total - report.findings.len() as u64);
    }
    let erased: u64 = report.decisions.values().map(|tally| tally.erased).sum();
    if erased > 0 {
        println!("{erased} rest on what was erased since: of those nothing can be said");
    }
    match (report.intact, key_given) {
        (true, _) if report.verdicts.is_empty() => {
            println!("NO DECISION is opened to you, so none was made again")
        }
        (true, true) => {
            let all = if erased > 0 { "every other decision" } else { "every decision" };
            println!("equal: {all} that is opened to you is what the entries before it make of it")
        }
        (true, false) => println!(
            "equal, but the key came with the log: compare it with one you have by another way, and give it with --vkey"
        ),
        (false, _) => println!("NOT EQUAL"),
    }
}

fn main() -> ExitCode {
    let done = arguments().and_then(|args| match args.positional.as_slice() {
        _ if args.help => {
            println!("{USAGE}");
            Ok(true)
        }
        [ledger, payloads] => run(&args, ledger, payloads),
        _ => Err(Stop::Usage("name the log and the payloads".into())),
    });
    let (code, problem) = match done {
        Ok(equal) => return ExitCode::from(u8::from(!equal)),
        Err(Stop::Usage(problem)) => (2, format!("{problem}\n\n{USAGE}")),
        Err(Stop::Wrong(problem)) => (1, problem),
        Err(Stop::Unread(problem)) => (3, format!("{problem}; nothing was checked")),
    };
    eprintln!("almoner-verify replay: {problem}");
    ExitCode::from(code)
}
