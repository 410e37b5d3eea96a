//! How long a replay takes: of a log with many consents, one release of half of the people, and some thousand permits and counts
//! under a contract. Reads log and bundle from files, as an auditor does.
//!
//! Prints one line of JSON: seconds, and the most memory that was used. The number of consents is the first argument that is no
//! option (default 1,000,000). The log is made by a process of its own.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Instant;

use almoner_control::policy::HOUSE;
use almoner_control::replay::replay;
use almoner_control::replay::testing::{Log, Say};
use almoner_ledger::audit::audit;
use almoner_ledger::members::{Member, members_root};
use almoner_ledger::source::{at, leaves};
use almoner_ledger::{Checkpoint, VerifierKey};
use almoner_model::{Date, Digest, Seq, Timestamp};
use serde_json::{Value, json};

const DECISIONS: usize = 3_000;
const CONTRACT: &str = "permit (principal, action, resource);\n@reason(\"not commercially\")\nforbid (principal, action, resource) \
                        when { context.purpose == \"DUO:0000011\" };\n";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn say(log: &mut Log, kind: &str, payload: Value) -> Outcome<Seq> {
    log.say(Say { kind, payload, ..Say::default() }).ok_or_else(|| "not said".into())
}

fn decide(log: &mut Log, kind: &str, word: &str, mut payload: Value) -> Outcome<Seq> {
    let as_of = log.size();
    payload["as_of"] = as_of.into();
    let policy = Some(Digest::of(HOUSE));
    let say =
        Say { kind, payload, as_of: Some(as_of), decision: Some(word), policy, subject: None, closed: false };
    log.say(say).ok_or_else(|| "not said".into())
}

fn rules(log: &mut Log) -> Outcome<()> {
    let contract = Digest::of(CONTRACT);
    log.head += &format!("{}\n", json!({"document": contract, "text": CONTRACT}));
    let north = json!({"contributor": "north", "name": "North", "linkage": false, "k_min": null});
    say(log, "contributor.registered", north)?;
    say(log, "contract.published", json!({"contributor": "north", "policy": contract}))?;
    let dataset = json!({"dataset": "north", "version": 1, "contributor": "north", "manifest": Digest([1; 32]),
        "profile": "date-shifted", "mode": "full", "persons": 9, "tables": {}});
    say(log, "dataset.published", dataset)?;
    say(log, "project.created", json!({"project": "stroke", "title": "Stroke", "recipient": "uni"}))?;
    let basis = json!({"id": "b1", "contributor": "north", "kind": "expert_determination", "profile": "date-shifted",
        "by": "E", "method": "k", "scope": "all", "document": Digest([2; 32]), "expires": "2030-01-01",
        "no_actual_knowledge": false});
    say(log, "legal_basis.recorded", basis)?;
    let request = json!({"request": "r1", "project": "stroke", "recipient": "uni", "purpose": "DUO:0000006",
        "modifiers": [], "cohort": Digest([3; 32]), "datasets": ["north"],
        "tables": ["person", "condition_occurrence", "measurement"], "tier": "controlled",
        "profile": "date-shifted", "lay_summary": "Why strokes happen.",
        "ethics": {"protocol": "P", "board": "B", "expires": "2030-01-01"}});
    say(log, "request.submitted", request)?;
    let word = json!({"request": "r1", "contributor": "north", "decision": "approved", "delegate": null, "reason": "good"});
    say(log, "request.decided", word)?;
    let terms = json!({"request": "r1", "recipient": "uni", "signatory": "D", "document": Digest([4; 32])});
    say(log, "terms.signed", terms)?;
    Ok(())
}

/// Half of the people are in the release; everyone signed one of forty versions of forms on one of 2,000 days.
fn people(log: &mut Log, consents: u64) -> Outcome<Vec<Member>> {
    let mut members = Vec::new();
    for n in 0..consents {
        let (member, subject) = (n % 2 == 0, i64::try_from(n)? + 1);
        let signed = Date::from_days(18_000 + i32::try_from(n % 2_000)?);
        let payload = json!({"contributor": "north", "lifts": null, "directive": {
            "source": "form", "lineage": format!("form:{}", n % 40), "signed": {"date": signed},
            "status": "active", "covers": "contributor", "rules": {"effect": "permit", "purposes": ["DUO:0000042"],
            "provisions": [{"effect": "deny", "categories": ["genetics"]}]}}});
        let kind = "consent.recorded";
        let say = Say { kind, payload, subject: Some(subject), closed: !member, ..Say::default() };
        let seq = log.say(say).ok_or("not said")?;
        if member {
            members.push(Member {
                also: Vec::new(),
                directives: vec![seq],
                pseudonym: (subject * 7).to_string(),
                salt: Digest::of(n.to_be_bytes()),
                subject: subject.to_string(),
            });
        }
    }
    Ok(members)
}

fn make(dir: &Path, consents: u64) -> Outcome<()> {
    let mut log = Log::new(Timestamp::from_millis(1_795_348_800_000))?;
    rules(&mut log)?;
    let members = people(&mut log, consents)?;
    let (house, contract) = (Digest::of(HOUSE), Digest::of(CONTRACT));
    for n in 0..DECISIONS {
        if n % 2 == 0 {
            let answer = json!({"project": "stroke", "purpose": "DUO:0000006", "modifiers": [], "required": [],
                "cohort": Digest([2; 32]), "datasets": {"north": 1}, "answer": Digest([3; 32])});
            decide(&mut log, "count.answered", "answered", answer)?;
        } else {
            let permit = json!({"request": "r1", "effect": "permit", "reasons": [],
                "policies": {"house": house, "north": contract}, "required": ["demographics", "conditions"]});
            decide(&mut log, "permit.decided", "permit", permit)?;
        }
    }
    for member in &members {
        log.head += &format!("{}\n", json!({"release": "rel-1", "member": member}));
    }
    let built = json!({"release": "rel-1", "request": "r1", "project": "stroke", "recipient": "uni",
        "datasets": {"north": 1}, "manifest": Digest([5; 32]), "members_root": members_root(&members)?,
        "persons": members.len(), "tables": {}, "k": [5, 7]});
    decide(&mut log, "release.built", "released", built)?;
    log.write(dir)?;
    Ok(())
}

/// The most memory that this process used so far, in MiB (Linux).
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[expect(clippy::print_stdout, reason = "the figure of a bar")]
fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [dir, consents] = args.as_slice() {
        return make(Path::new(dir), consents.parse()?);
    }
    let consents = args.first().map_or("1000000", String::as_str);
    let folder = tempfile::tempdir()?;
    let place = folder.path().to_string_lossy().into_owned();
    let made = std::process::Command::new(std::env::current_exe()?).args([&*place, consents]).status()?;
    if !made.success() {
        return Err("the log could not be made".into());
    }
    let source = at(&place);
    let key = VerifierKey::parse(&String::from_utf8(source.read("vkey")?)?)?;
    let tree = Checkpoint::open(&source.read("checkpoint")?, &key)?.checkpoint;
    let begun = Instant::now();
    let audited = audit(&*source, &key, None, 2);
    let audit_s = begun.elapsed().as_secs_f64();
    let bundle = folder.path().join("payloads.ndjson");
    let bytes = std::fs::metadata(&bundle)?.len();
    let begun = Instant::now();
    let report = replay(
        &tree,
        &mut leaves(&*source, tree.size),
        BufReader::with_capacity(1 << 20, File::open(bundle)?),
    )?;
    let replay_s = begun.elapsed().as_secs_f64();
    let decisions = report.verdicts.len();
    if !audited.intact || !report.intact || decisions != DECISIONS + 1 {
        return Err(format!("not equal: {:?} {:?}", report.findings.first(), report.decisions).into());
    }
    println!(
        "{}",
        json!({"consents": consents, "members": report.persons, "decisions": decisions, "bundle_mb": bytes / 1_000_000,
            "audit_s": audit_s, "replay_s": replay_s, "peak_mib": peak_mib()})
    );
    Ok(())
}
