//! `almoner-verify`: checks, on anyone's machine and without trusting the operator, what Almoner published.
//!
//! A thin shell over the library: it parses arguments, reads files, calls one check and prints the result. Exit codes:
//! 0 intact, 1 something is wrong, 2 wrong usage, 3 could not be checked.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to a person on a terminal"
)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use almoner_ledger::audit::{Audit, audit};
use almoner_ledger::cose::CoseReceipt;
use almoner_ledger::evidence::{Pack, verify_evidence};
use almoner_ledger::fork::Fork;
use almoner_ledger::handover;
use almoner_ledger::package::verify_package;
use almoner_ledger::policy::{Policy, Standing};
use almoner_ledger::receipt::Receipt;
use almoner_ledger::source::{Source, SourceError, at_trusting, keys_of, leaves, verifier_key};
use almoner_ledger::{Checkpoint, VerifierKey};

const USAGE: &str = "\
almoner-verify checks what an Almoner server published, offline and without trusting it.

  almoner-verify ledger DIR|URL [--vkey KEY|FILE] [--known CHECKPOINT] [--threads N]
      Every entry, hash and link of the log, and the signed root over them.
      KEY is the log's verifier key line, which you should have from its operator by another way.
      Without it DIR/vkey or URL/vkey is used, which shows only that the log agrees with itself.
      CHECKPOINT is a checkpoint file that you kept: the log must still begin with it.
  almoner-verify receipt FILE ENTRY --vkey KEY|FILE
      That the entry (the exact bytes of its leaf) stands in the log.
      FILE is its proof (.tlog-proof) or its COSE receipt (.cose).
  almoner-verify fork EVIDENCE --vkey KEY|FILE
      That a log signed two histories: evidence that a witness or a mirror kept.
  almoner-verify release DIR [--vkey KEY|FILE]
      That every file of a release is the one in its manifest and SHA256SUMS, and the manifest the one in the log.
      Without --vkey the key in DIR/ledger/vkey is used, which shows only that the package agrees with itself.
  almoner-verify evidence PACK --vkey KEY|FILE [--ledger DIR|URL]
      For boards: that every person in a release had permitted it at the entry that the release names.
      With the log at hand, also that nothing that they said was left out.
  almoner-verify replay LEDGER PAYLOADS --vkey KEY|FILE
      For boards and auditors: every permit, count, release and download decided again from the entries before it.
      Needs the program almoner-verify-replay beside this one; `almoner-verify replay --help` says more.

  --handovers FILE
      How the log's keys followed each other (`handovers` beside its checkpoint), where another than KEY signed.
      Logs, release packages and evidence packs carry their own.
  --policy FILE
      With ledger, receipt, release and evidence: the checkpoint must also have the quorum of witnesses of this policy (C2SP
      tlog-policy). A log line in it stands for --vkey.
  --ca FILE
      With ledger and evidence: the authority of an https address where it is not one of the usual ones, PEM.
  --json   one JSON object on standard output
Exit codes: 0 intact, 1 something is wrong, 2 wrong usage, 3 a file or address could not be read, so nothing is known.";

struct Arguments {
    positional: Vec<String>,
    vkey: Option<String>,
    known: Option<String>,
    ledger: Option<String>,
    policy: Option<String>,
    handovers: Option<String>,
    ca: Option<String>,
    threads: usize,
    json: bool,
}

fn arguments() -> Result<Arguments, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments {
        positional: vec![],
        vkey: None,
        known: None,
        ledger: None,
        policy: None,
        handovers: None,
        ca: None,
        threads,
        json: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--vkey" => parsed.vkey = Some(value()?),
            "--known" => parsed.known = Some(value()?),
            "--ledger" => parsed.ledger = Some(value()?),
            "--policy" => parsed.policy = Some(value()?),
            "--handovers" => parsed.handovers = Some(value()?),
            "--ca" => parsed.ca = Some(value()?),
            "--threads" => {
                parsed.threads = value()?.parse().map_err(|_| "--threads needs a number".to_owned())?
            }
            "--json" => parsed.json = true,
            "--help" | "-h" => parsed.positional.insert(0, "help".into()),
            flag if flag.starts_with("--") => return Err(format!("unknown option {flag}")),
            _ => parsed.positional.push(arg),
        }
    }
    Ok(parsed)
}

/// What a check came to.
#[derive(Clone, Copy)]
enum Verdict {
    Intact,
    Wrong,
    Unknown,
}

impl From<bool> for Verdict {
    fn from(intact: bool) -> Self {
        if intact { Self::Intact } else { Self::Wrong }
    }
}

/// Why a check ended before its result.
enum Stop {
    /// What was given is not what it should be.
    Wrong(String),
    /// Something could not be read, which says nothing about it.
    Unread(String),
}

impl From<String> for Stop {
    fn from(problem: String) -> Self {
        Self::Wrong(problem)
    }
}

impl From<&str> for Stop {
    fn from(problem: &str) -> Self {
        Self::Wrong(problem.to_owned())
    }
}

fn read(path: &str) -> Result<Vec<u8>, Stop> {
    std::fs::read(path).map_err(|e| Stop::Unread(format!("{path} cannot be read: {}", e.kind())))
}

impl Arguments {
    /// The policy, where one is given.
    fn policy(&self) -> Result<Option<Policy>, Stop> {
        let Some(file) = &self.policy else { return Ok(None) };
        Ok(Some(Policy::parse(&read(file)?).map_err(|e| format!("{file}: {e}"))?))
    }

    /// The log at an address or in a folder.
    fn log(&self, place: &str) -> Result<Box<dyn Source>, Stop> {
        let authorities = self.ca.as_deref().map(read).transpose()?;
        Ok(at_trusting(place, authorities.as_deref())?)
    }

    /// The log's key: the one given, or that of the policy's log that signed `note`; `None` if neither is given.
    fn key(&self, policy: Option<&Policy>, note: &[u8]) -> Result<Option<VerifierKey>, Stop> {
        match (&self.vkey, policy) {
            (Some(given), _) => self.follow(&verifier_key(given)?).map(Some),
            (None, Some(policy)) if !policy.logs().is_empty() => match self.log_of(policy, note)? {
                Some(key) => Ok(Some(key)),
                None => Err("no log of the policy signed the checkpoint".into()),
            },
            (None, _) => Ok(None),
        }
    }

    /// The keys to which the hand-overs lead that were given.
    fn follow(&self, key: &VerifierKey) -> Result<VerifierKey, Stop> {
        let Some(file) = &self.handovers else { return Ok(key.clone()) };
        let handovers = handover::read(&read(file)?).map_err(|e| format!("{file}: {e}"))?;
        Ok(handover::follow(key, &handovers).map_err(|e| format!("{file}: {e}"))?)
    }

    /// The log of the policy that signed `note`.
    fn log_of(&self, policy: &Policy, note: &[u8]) -> Result<Option<VerifierKey>, Stop> {
        if let Some(key) = policy.log_of(note) {
            return self.follow(key).map(Some);
        }
        let followed = policy.logs().iter().filter_map(|log| self.follow(&log.key).ok());
        Ok(followed.into_iter().find(|key| Checkpoint::open(note, key).is_ok()))
    }
}

/// Said where a policy's quorum is all that is lacking.
const LACKING: &str =
    "NOT ACCEPTED: everything agrees with what the log signed, but the quorum has not signed it";

/// What a policy says of a checkpoint.
fn standing(policy: Option<&Policy>, note: &[u8]) -> Result<Option<Standing>, Stop> {
    let Some(policy) = policy else { return Ok(None) };
    Ok(Some(policy.standing(note).map_err(|e| format!("the checkpoint: {e}"))?))
}

/// Whether nothing is asked for that is not there.
fn accepted(standing: Option<&Standing>) -> bool {
    standing.is_none_or(|standing| standing.reached)
}

/// Says what a policy says.
fn tell_quorum(standing: Option<&Standing>) {
    if let Some(standing) = standing {
        println!("{}  {standing}", if standing.reached { "witness" } else { "WRONG  " });
    }
}

/// `value` with what a policy says, as JSON.
fn with_quorum(mut value: serde_json::Value, standing: Option<&Standing>) -> String {
    if let (Some(standing), Some(object)) = (standing, value.as_object_mut()) {
        let said = serde_json::json!({"reached": standing.reached, "words": standing.words});
        object.insert("quorum".into(), said);
    }
    value.to_string()
}

/// A log whose checkpoint was read once, so that a growing log is checked under that one.
struct Pinned {
    log: Box<dyn Source>,
    checkpoint: OnceLock<Vec<u8>>,
}

impl Source for Pinned {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        if path != "checkpoint" {
            return self.log.read(path);
        }
        if let Some(note) = self.checkpoint.get() {
            return Ok(note.clone());
        }
        let note = self.log.read(path)?;
        Ok(self.checkpoint.get_or_init(|| note).clone())
    }
}

/// What it means that a file of a log was not had; `why` it was needed.
fn not_had(place: &str, why: &str, error: SourceError) -> Stop {
    match error {
        SourceError::Unreadable { reason, .. } => {
            Stop::Unread(format!("{place} could not be reached: {reason}"))
        }
        error => Stop::Wrong(format!("{why}{error}")),
    }
}

/// A file of a log; `why` it was needed.
fn read_log(source: &dyn Source, place: &str, path: &str, why: &str) -> Result<Vec<u8>, Stop> {
    source.read(path).map_err(|e| not_had(place, why, e))
}

/// All keys of a log that `key` leads to.
fn own_keys(source: &dyn Source, place: &str, key: &VerifierKey) -> Result<VerifierKey, Stop> {
    keys_of(source, key).map_err(|e| not_had(place, "", e))
}

/// The leaf of an entry: the file itself, or what an opened entry (`leaf`, `opening`, `payload`) says under `leaf`.
fn leaf(entry: Vec<u8>) -> Vec<u8> {
    let opened: Option<serde_json::Value> = serde_json::from_slice(&entry).ok();
    let leaf = opened.and_then(|opened| opened.get("leaf")?.as_str().map(|leaf| leaf.as_bytes().to_vec()));
    leaf.unwrap_or(entry)
}

fn ledger(args: &Arguments, place: &str) -> Result<Verdict, Stop> {
    let source = Pinned { log: args.log(place)?, checkpoint: OnceLock::new() };
    let policy = args.policy()?;
    let given = match &policy {
        Some(policy) => args.key(Some(policy), &read_log(&source, place, "checkpoint", "")?)?,
        None => args.key(None, &[])?,
    };
    let key_given = given.is_some();
    let key = match given {
        Some(key) => key,
        None => {
            let line = read_log(&source, place, "vkey", "no --vkey was given and ")?;
            VerifierKey::parse(&String::from_utf8_lossy(&line)).map_err(|e| e.to_string())?
        }
    };
    let key = own_keys(&source, place, &key)?;
    let known = match &args.known {
        Some(path) => {
            Some(Checkpoint::open(&read(path)?, &key).map_err(|e| format!("{path}: {e}"))?.checkpoint)
        }
        None => None,
    };
    let note = read_log(&source, place, "checkpoint", "")?;
    let standing = standing(policy.as_ref(), &note)?;
    let result = audit(&source, &key, known.as_ref(), args.threads);
    if args.json {
        let value = serde_json::to_value(&result).map_err(|e| e.to_string())?;
        println!("{}", with_quorum(value, standing.as_ref()));
    } else {
        tell_quorum(standing.as_ref());
        tell(&result, key_given, accepted(standing.as_ref()));
    }
    let unknown = !result.intact && !result.is_wrong() && accepted(standing.as_ref());
    Ok(if unknown { Verdict::Unknown } else { (result.intact && accepted(standing.as_ref())).into() })
}

fn tell(result: &Audit, key_given: bool, accepted: bool) {
    println!("log     {}", result.origin);
    println!("size    {} entries", result.size);
    println!("root    {}", result.root);
    if let Some(time) = result.last_time {
        println!("last    {time}");
    }
    for (kind, count) in &result.kinds {
        println!("        {count:>9} {kind}");
    }
    for finding in &result.findings {
        println!("{}  {finding}", if finding.unread { "UNREAD" } else { "WRONG " });
    }
    if result.findings_total > result.findings.len() as u64 {
        println!("WRONG   and {} more", result.findings_total - result.findings.len() as u64);
    }
    match (result.intact, key_given) {
        (true, _) if !accepted => println!("{LACKING}"),
        (true, true) => println!("intact: every entry, link, hash and the signature agree"),
        (true, false) => {
            println!("intact, but the key came with the log: compare it with one you have by another way")
        }
        (false, _) if !result.is_wrong() => {
            println!("COULD NOT BE CHECKED: files of the log were not reached")
        }
        (false, _) => println!("NOT INTACT"),
    }
}

fn receipt(args: &Arguments, proof: &str, entry: &str) -> Result<Verdict, Stop> {
    let policy = args.policy()?;
    if args.vkey.is_none() && policy.is_none() {
        return Err("a receipt is checked with --vkey, or --policy with a log in it".into());
    }
    let (bytes, leaf) = (read(proof)?, leaf(read(entry)?));
    // The tag of a COSE_Sign1; a proof of the other format begins with a letter.
    if bytes.first() == Some(&0xd2) {
        return cose_receipt(args, proof, &bytes, &leaf);
    }
    let receipt = Receipt::parse(&bytes).map_err(|e| format!("{proof}: {e}"))?;
    let key = args.key(policy.as_ref(), &receipt.checkpoint)?;
    let key = key.ok_or("the policy names no log; give the log's key with --vkey")?;
    let checked = receipt.check(&leaf, &key);
    let standing = standing(policy.as_ref(), &receipt.checkpoint)?;
    let lacking = standing.as_ref().filter(|standing| !standing.reached).map(ToString::to_string);
    let problem = checked.as_ref().err().map(ToString::to_string).or(lacking);
    let size = checked.as_ref().ok().map(|s| s.checkpoint.size);
    if args.json {
        let value = serde_json::json!({
            "intact": problem.is_none(), "origin": key.name(), "seq": receipt.index, "size": size, "problem": problem
        });
        println!("{}", with_quorum(value, standing.as_ref()));
    } else {
        match (&problem, size) {
            (None, Some(size)) => {
                tell_quorum(standing.as_ref());
                println!("intact: entry {} of {} ({size} entries)", receipt.index, key.name());
            }
            (Some(problem), Some(_)) => {
                println!("NOT ACCEPTED: the entry stands in the log, but {problem}");
            }
            (problem, None) => println!("NOT INTACT: {}", problem.as_deref().unwrap_or_default()),
        }
    }
    Ok(problem.is_none().into())
}

fn fork(args: &Arguments, evidence: &str) -> Result<Verdict, Stop> {
    let fork = Fork::parse(&read(evidence)?).map_err(|e| format!("{evidence}: {e}"))?;
    let policy = args.policy()?;
    let key = args.key(policy.as_ref(), fork.first.as_bytes())?;
    let key = key.ok_or("evidence of a fork is checked with --vkey, or --policy with a log in it")?;
    let shown = fork.check(&key);
    let (problem, sizes) = match &shown {
        Ok((first, second)) => (None, Some([first.size, second.size])),
        Err(e) => (Some(e.to_string()), None),
    };
    if args.json {
        println!(
            "{}",
            serde_json::json!({"fork": shown.is_ok(), "origin": key.name(), "sizes": sizes, "problem": problem})
        );
    } else if let Some([first, second]) = sizes {
        println!("FORK: {} signed two histories, of {first} and of {second} entries", key.name());
    } else {
        println!("NOT SHOWN: {}", problem.unwrap_or_default());
    }
    Ok(shown.is_ok().into())
}

/// A COSE receipt. It carries no cosignatures, so it cannot show a quorum.
fn cose_receipt(args: &Arguments, proof: &str, bytes: &[u8], leaf: &[u8]) -> Result<Verdict, Stop> {
    if args.policy.is_some() {
        return Err(
            "a COSE receipt has no cosignatures of witnesses; give the .tlog-proof with --policy".into()
        );
    }
    let key = args.follow(&verifier_key(args.vkey.as_ref().ok_or("a receipt is checked with --vkey")?)?)?;
    let receipt = CoseReceipt::parse(bytes).map_err(|e| format!("{proof}: {e}"))?;
    let (index, checked) = (receipt.index, receipt.check(leaf, &key).map_err(|e| e.to_string()));
    let size = checked.as_ref().ok().map(|checkpoint| checkpoint.size);
    let problem = checked.as_ref().err();
    if args.json {
        let line = serde_json::json!({
            "intact": problem.is_none(), "origin": key.name(), "seq": index, "size": size, "problem": problem
        });
        println!("{line}");
    } else {
        match (problem, size) {
            (None, Some(size)) => println!("intact: entry {index} of {} ({size} entries)", key.name()),
            (problem, _) => println!("NOT INTACT: {}", problem.map_or("", String::as_str)),
        }
    }
    Ok(problem.is_none().into())
}

fn release(args: &Arguments, dir: &str) -> Result<Verdict, Stop> {
    let dir = Path::new(dir);
    if !dir.join("release.json").is_file() {
        return Err(format!("{} holds no release: there is no release.json in it", dir.display()).into());
    }
    let policy = args.policy()?;
    let note = match &policy {
        Some(_) => {
            let file = dir.join("ledger/entry.tlog-proof");
            let file = file.to_string_lossy();
            Receipt::parse(&read(&file)?).map_err(|e| format!("{file}: {e}"))?.checkpoint
        }
        None => Vec::new(),
    };
    let given = args.key(policy.as_ref(), &note)?;
    let key_given = given.is_some();
    let key = match given {
        Some(key) => key,
        None => verifier_key(&dir.join("ledger/vkey").to_string_lossy())?,
    };
    let report = verify_package(dir, Some(&key));
    // Those of its own entry, and of each by which somebody was erased.
    let notes = report.checkpoints.iter().map(|note| standing(policy.as_ref(), note));
    let standing = Standing::of_all(notes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
    let verdict = report.intact && (policy.is_none() || standing.as_ref().is_some_and(|s| s.reached));
    if args.json {
        let value = serde_json::to_value(&report).map_err(|e| e.to_string())?;
        println!("{}", with_quorum(value, standing.as_ref()));
        return Ok(verdict.into());
    }
    if let Some(release) = &report.release {
        println!("release {release}");
    }
    println!("files   {} ({} bytes)", report.files, report.bytes);
    if let (Some(seq), Some(size)) = (report.seq, report.log_size) {
        println!("entry   {seq} of {} ({size} entries)", key.name());
    }
    tell_quorum(standing.as_ref());
    if report.persons_erased > 0 {
        println!("erased  {} people since it was built, by entries of the log", report.persons_erased);
    }
    findings(&report.findings);
    match (report.intact, key_given) {
        (true, _) if !accepted(standing.as_ref()) => println!("{LACKING}"),
        (true, true) => println!("intact: files, manifest, entry and the log's signature agree"),
        (true, false) => {
            println!(
                "intact, but the key came with the package: compare it with one you have by another way"
            );
        }
        (false, _) => println!("NOT INTACT"),
    }
    Ok(verdict.into())
}

fn findings(findings: &[String]) {
    for finding in findings.iter().take(100) {
        println!("WRONG   {finding}");
    }
    if findings.len() > 100 {
        println!("WRONG   and {} more", findings.len() - 100);
    }
}

fn evidence(args: &Arguments, pack: &str) -> Result<Verdict, Stop> {
    let policy = args.policy()?;
    let given = args.key(None, &[])?;
    if given.is_none() && policy.is_none() {
        return Err("an evidence pack is checked with --vkey, or --policy with a log in it".into());
    }
    let pack: Pack =
        serde_json::from_slice(&read(pack)?).map_err(|_| format!("{pack} is not an evidence pack"))?;
    let signer = || args.key(policy.as_ref(), pack.checkpoint.as_bytes());
    let key = given.map_or_else(signer, |key| Ok(Some(key)))?;
    let key = key.ok_or("the policy names no log; give the log's key with --vkey")?;
    // All proofs of a pack lead to this one.
    let standing = standing(policy.as_ref(), pack.checkpoint.as_bytes())?;
    let report = match &args.ledger {
        None => verify_evidence(&pack, &key, None),
        Some(place) => {
            let source = args.log(place)?;
            let key = own_keys(&*source, place, &key)?;
            let note = read_log(&*source, place, "checkpoint", "")?;
            let log = Checkpoint::open(&note, &key).map_err(|e| e.to_string())?.checkpoint;
            let audited = audit(&*source, &key, None, args.threads);
            if audited.is_wrong() {
                return Err("the log itself is not intact; see `almoner-verify ledger`".into());
            }
            if !audited.intact {
                return Err(Stop::Unread(format!("{place} could not be reached for the whole of the log")));
            }
            verify_evidence(&pack, &key, Some(&mut leaves(&*source, log.size)))
        }
    };
    let verdict = report.intact && accepted(standing.as_ref());
    if args.json {
        let value = serde_json::to_value(&report).map_err(|e| e.to_string())?;
        println!("{}", with_quorum(value, standing.as_ref()));
        return Ok(verdict.into());
    }
    tell_quorum(standing.as_ref());
    println!("persons {}\nentries {}\nas of   {}", report.persons, report.entries, report.as_of);
    if report.persons_erased > 0 || report.entries_erased > 0 {
        println!(
            "erased  {} people of the release and {} entries of what people said, by entries of the log",
            report.persons_erased, report.entries_erased
        );
    }
    findings(&report.findings);
    match (report.intact, report.complete) {
        (true, _) if !accepted(standing.as_ref()) => println!("{LACKING}"),
        (true, true) => {
            println!("intact: everyone had permitted it, and nothing that they said was left out")
        }
        (true, false) => {
            println!("intact: everyone had permitted it; check with --ledger that nothing was left out")
        }
        (false, _) => println!("NOT INTACT"),
    }
    Ok(verdict.into())
}

/// Starts the program that decides again, which lies beside this one: it holds the rules and takes longer to build.
fn replay() -> ExitCode {
    const NAME: &str = "almoner-verify-replay";
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(NAME)));
    let started =
        beside.map(|program| std::process::Command::new(program).args(std::env::args_os().skip(2)).status());
    match started {
        Some(Ok(status)) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(3)),
        _ => {
            eprintln!(
                "almoner-verify: `replay` is a program of its own, {NAME}, and there is none beside this one: make it with \
                 `cargo build --release -p almoner-control` and put it there; nothing was checked"
            );
            ExitCode::from(3)
        }
    }
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "replay") {
        return replay();
    }
    let args = match arguments() {
        Ok(args) => args,
        Err(problem) => return usage(&problem),
    };
    let words: Vec<&str> = args.positional.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["ledger", place] => ledger(&args, place),
        ["release", dir] => release(&args, dir),
        ["evidence", pack] => evidence(&args, pack),
        ["receipt", proof, entry] => receipt(&args, proof, entry),
        ["fork", evidence] => fork(&args, evidence),
        ["help", ..] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => return usage("say what to check"),
    };
    match done {
        Ok(Verdict::Intact) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(1),
        Ok(Verdict::Unknown) => ExitCode::from(3),
        Err(Stop::Wrong(problem)) => {
            eprintln!("almoner-verify: {problem}");
            ExitCode::from(1)
        }
        Err(Stop::Unread(problem)) => {
            eprintln!("almoner-verify: {problem}; nothing was checked");
            ExitCode::from(3)
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("almoner-verify: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}
