//! What is erased, closed, of another version, or no bundle at all.

use almoner_model::Timestamp;
use serde_json::json;

use super::testing::{Log, Say};
use super::*;
use crate::policy::HOUSE;

const CONSENTS: i64 = 3;

fn house() -> Digest {
    Digest::of(HOUSE)
}

fn say(log: &mut Log, kind: &str, payload: Value) -> Seq {
    log.say(Say { kind, payload, ..Say::default() }).expect("said")
}

/// A decision on all that was said before it.
fn decide(log: &mut Log, kind: &str, word: &str, rules: Digest, mut payload: Value) -> Seq {
    let as_of = log.size();
    payload["as_of"] = as_of.into();
    let say = Say {
        kind,
        payload,
        as_of: Some(as_of),
        decision: Some(word),
        policy: Some(rules),
        ..Say::default()
    };
    log.say(say).expect("said")
}

fn permit(log: &mut Log, effect: &str, rules: Digest, reasons: &[&str]) -> Seq {
    let payload = json!({"request": "r1", "effect": effect, "reasons": reasons, "policies": {"house": rules},
        "required": ["demographics"]});
    decide(log, "permit.decided", effect, rules, payload)
}

fn consent(log: &mut Log, subject: i64, closed: bool) -> Seq {
    let payload = json!({"contributor": "north", "lifts": null, "directive": {
        "source": "form", "lineage": "form:broad", "signed": {"date": "2020-01-01"}, "status": "active",
        "covers": "contributor", "rules": {"effect": "permit"}}});
    let kind = "consent.recorded";
    log.say(Say { kind, payload, subject: Some(subject), closed, ..Say::default() }).expect("said")
}

/// A hospital, a request that it approved, and consents of everyone in the release and of one who is not.
fn log() -> Log {
    let mut log = Log::new(Timestamp::parse("2026-11-22T12:00:00Z").expect("a time")).expect("a key");
    say(
        &mut log,
        "contributor.registered",
        json!({"contributor": "north", "name": "North", "linkage": false, "k_min": null}),
    );
    say(
        &mut log,
        "dataset.published",
        json!({"dataset": "north", "version": 1, "contributor": "north",
        "manifest": Digest([1; 32]), "profile": "date-shifted", "mode": "full", "persons": 9, "tables": {}}),
    );
    say(&mut log, "project.created", json!({"project": "stroke", "title": "Stroke", "recipient": "uni"}));
    say(
        &mut log,
        "legal_basis.recorded",
        json!({"id": "b1", "contributor": "north", "kind": "expert_determination",
        "profile": "date-shifted", "by": "E", "method": "k", "scope": "all", "document": Digest([2; 32]),
        "expires": "2030-01-01", "no_actual_knowledge": false}),
    );
    say(
        &mut log,
        "request.submitted",
        json!({"request": "r1", "project": "stroke", "recipient": "uni",
        "purpose": "DUO:0000006", "modifiers": [], "cohort": Digest([3; 32]), "datasets": ["north"],
        "tables": ["person"], "tier": "controlled", "profile": "date-shifted", "lay_summary": "Why strokes happen.",
        "ethics": {"protocol": "P", "board": "B", "expires": "2030-01-01"}}),
    );
    say(
        &mut log,
        "request.decided",
        json!({"request": "r1", "contributor": "north", "decision": "approved",
        "delegate": null, "reason": "good"}),
    );
    say(
        &mut log,
        "terms.signed",
        json!({"request": "r1", "recipient": "uni", "signatory": "D", "document": Digest([4; 32])}),
    );
    for subject in 1..=CONSENTS {
        consent(&mut log, subject, false);
    }
    consent(&mut log, 99, true);
    log
}

fn member(subject: i64, directives: &[Seq]) -> almoner_ledger::members::Member {
    almoner_ledger::members::Member {
        also: Vec::new(),
        directives: directives.to_vec(),
        pseudonym: format!("{}", 1_000 + subject),
        salt: Digest([7; 32]),
        subject: subject.to_string(),
    }
}

/// Builds a release of everyone; `erased` of them have no record any more.
fn release(log: &mut Log, erased: usize) -> Seq {
    let members: Vec<_> =
        (1..=CONSENTS).map(|s| member(s, &[6 + u64::try_from(s).expect("small")])).collect();
    for (n, member) in members.iter().enumerate() {
        let line = if n < erased {
            json!({"release": "rel-1", "erased_member": Digest(member.hash().expect("canonical"))})
        } else {
            json!({"release": "rel-1", "member": member})
        };
        log.head += &format!("{line}\n");
    }
    let root = almoner_ledger::members::members_root(&members).expect("canonical");
    let payload = json!({"release": "rel-1", "request": "r1", "project": "stroke", "recipient": "uni",
        "datasets": {"north": 1}, "manifest": Digest([5; 32]), "members_root": root, "persons": members.len(),
        "tables": {}, "k": [5, 7]});
    decide(log, "release.built", "released", house(), payload)
}

fn download(log: &mut Log) -> Seq {
    let as_of = log.size();
    let payload = json!({"download": "d", "release": "rel-1", "as_of": as_of});
    let kind = "download.opened";
    let (as_of, policy) = (Some(as_of), Some(house()));
    log.say(Say { kind, payload, as_of, policy, ..Say::default() }).expect("said")
}

fn erasure(log: &mut Log, entries: &[Seq]) -> Seq {
    say(log, "subject.erased", json!({"erasure": "e", "contributor": null, "entries": entries}))
}

fn found(report: &Report, words: &str) -> bool {
    report.findings.iter().any(|finding| finding.problem.contains(words))
}

fn again(log: &Log) -> Report {
    let (tree, _) = log.checkpoint().expect("signed");
    let mut leaves = (0..).zip(log.leaves.iter().cloned());
    replay(&tree, &mut leaves, log.bundle().as_bytes()).expect("a bundle")
}

fn verdict(report: &Report, seq: Seq) -> Verdict {
    report.verdicts.iter().find(|d| d.seq == seq).expect("a verdict").verdict.clone()
}

#[test]
fn what_follows_from_the_entries_is_equal_and_nothing_else() {
    let mut log = log();
    let permit = permit(&mut log, "permit", house(), &[]);
    let built = release(&mut log, 0);
    let report = again(&log);
    assert!(report.intact, "{report:?}");
    assert_eq!((verdict(&report, permit), verdict(&report, built)), (Verdict::Equal, Verdict::Equal));
    assert_eq!(report.persons, 3);

    // Without the permit just before it, and with one more person.
    let mut late = self::log();
    release(&mut late, 0);
    assert!(matches!(verdict(&again(&late), 11), Verdict::Differs { .. }));
    let mut more = log;
    more.head += &format!("{}\n", json!({"release": "rel-1", "member": member(4, &[7])}));
    let Verdict::Differs { computed, .. } = verdict(&again(&more), built) else { panic!("equal") };
    assert!(computed.contains("commits to"), "{computed}");
}

#[test]
fn a_decision_is_made_on_the_day_of_its_entry_and_on_all_that_stands_before_it() {
    let mut log = log();
    let stale = log.size();
    say(
        &mut log,
        "request.decided",
        json!({"request": "r1", "contributor": "north", "decision": "revoked",
        "delegate": null, "reason": "no"}),
    );
    // Decided before the revocation, logged after it.
    let payload = json!({"request": "r1", "effect": "permit", "reasons": [], "policies": {"house": house()}, "as_of": stale});
    let seq = log.say(Say {
        kind: "permit.decided",
        payload,
        as_of: Some(stale),
        decision: Some("permit"),
        policy: Some(house()),
        ..Say::default()
    });
    let Verdict::Differs { computed, .. } = verdict(&again(&log), seq.expect("said")) else {
        panic!("equal")
    };
    assert!(computed.contains("after what was said before the entry"), "{computed}");

    let mut log = self::log();
    log.wait(4 * 366 * 86_400_000);
    let late = permit(&mut log, "permit", house(), &[]);
    let Verdict::Differs { computed, .. } = verdict(&again(&log), late) else { panic!("equal") };
    assert!(computed.contains("ethics board's determination has expired"), "{computed}");
}

#[test]
fn what_was_erased_is_told_with_its_entry_and_only_where_the_log_says_so() {
    let mut log = log();
    permit(&mut log, "permit", house(), &[]);
    let built = release(&mut log, 0);
    let gone = 7;
    let by = erasure(&mut log, &[gone as Seq]);
    log.lines[gone] = json!({"seq": gone, "erased": by}).to_string();
    let report = again(&log);
    assert_eq!(verdict(&report, built), Verdict::Erased { entry: gone as Seq });
    assert!(report.intact, "what was erased is no fault: {report:?}");
    let (line, whole) = (log.lines[by as usize].clone(), log.lines[8].clone());
    log.lines[by as usize].clear();
    assert!(!again(&log).intact, "an erasure that is not opened names nothing");
    log.lines[by as usize] = line;
    log.lines[8] = json!({"seq": 8, "erased": by}).to_string();
    assert!(found(&again(&log), "does not name it"), "one erasure is no cover for others");
    log.lines[8] = whole;
    log.lines[gone] = json!({"seq": gone, "erased": built}).to_string();
    assert!(!again(&log).intact, "a release erases nothing");

    // The member's own record is gone too, but for its place under the root.
    let mut log = self::log();
    permit(&mut log, "permit", house(), &[]);
    let built = release(&mut log, 1);
    let before = download(&mut log);
    let by = erasure(&mut log, &[gone as Seq]);
    log.lines[gone] = json!({"seq": gone, "erased": by}).to_string();
    let report = again(&log);
    assert_eq!(verdict(&report, built), Verdict::Erased { entry: gone as Seq });
    assert!(found(&report, "no entry that is opened says so"), "a member is not left out without an entry");
    let hash = Digest(member(1, &[gone as Seq]).hash().expect("canonical"));
    say(
        &mut log,
        "release.rewritten",
        json!({"erasure": "e", "release": "rel-1", "from": hash, "to": hash, "members": [hash], "persons": 2, "tables": {}}),
    );
    let after = download(&mut log);
    let report = again(&log);
    assert!(report.intact, "{report:?}");
    assert_eq!(verdict(&report, before), Verdict::Erased { entry: gone as Seq });
    assert_eq!(verdict(&report, after), Verdict::Equal, "who had left was not asked");

    // Something that a permit rests on; what is wrong in any case is still told.
    let mut log = self::log();
    let decided = permit(&mut log, "permit", house(), &[]);
    let by = erasure(&mut log, &[3]);
    log.lines[3] = json!({"seq": 3, "erased": by}).to_string();
    assert_eq!(verdict(&again(&log), decided), Verdict::Erased { entry: 3 });
}

#[test]
fn decisions_under_other_house_rules_are_made_again_by_those_and_it_is_said() {
    let other = "@id(\"all\")\npermit (principal, action, resource);\n";
    let rules = Digest::of(other);
    let mut log = log();
    let decided = permit(&mut log, "permit", rules, &[]);
    let Verdict::Differs { computed, .. } = verdict(&again(&log), decided) else { panic!("equal") };
    assert!(computed.contains("not in the bundle"), "{computed}");
    log.head += &format!("{}\n", json!({"document": rules, "text": other}));
    let report = again(&log);
    assert!(report.intact, "{report:?}");
    assert_eq!(report.rules[&rules], RulesUsed { decisions: 1, of_this_version: false });
}

#[test]
fn a_bundle_that_is_none_is_refused_with_its_line() {
    let mut log = log();
    permit(&mut log, "permit", house(), &[]);
    let (tree, _) = log.checkpoint().expect("signed");
    let refused = |text: &str| {
        let mut leaves = (0..).zip(log.leaves.iter().cloned());
        replay(&tree, &mut leaves, text.as_bytes()).expect_err("no bundle").to_string()
    };
    let whole = log.bundle();
    assert!(refused("").contains("empty"));
    assert!(refused(&whole.replace("audit/1", "audit/2")).contains("understands"));
    assert!(refused("{\"origin\": 1}\n").contains("line 1"));
    let mut lines: Vec<&str> = whole.lines().collect();
    lines.swap(2, 3);
    assert!(refused(&lines.join("\n")).contains("order of the log"));
    let mut cut = whole.clone();
    cut.truncate(whole.len() - 20);
    assert!(refused(&cut).contains("not a line of a bundle"));

    let fewer: Vec<&str> = whole.lines().take(5).collect();
    let mut leaves = (0..).zip(log.leaves.iter().cloned());
    let report = replay(&tree, &mut leaves, fewer.join("\n").as_bytes()).expect("a bundle");
    assert!(!report.intact && report.findings[0].problem.contains("not in the bundle"), "{report:?}");
    let mut other = (0..).zip(log.leaves.iter().skip(1).cloned());
    let report = replay(&tree, &mut other, whole.as_bytes()).expect("a bundle");
    assert!(report.findings.iter().any(|f| f.problem.contains("checkpoint signs")), "{report:?}");
}
