//! Decisions made again by somebody who has the log and what was opened to them: all equal, until a byte of what they rest on
//! is another, or the operator logs what the rules did not say.

use almoner_control::replay::{Report, Verdict, replay};
use almoner_ledger::Checkpoint;
use serde_json::{Value, json};

use super::*;
use crate::flows::opened::{self, Source as Opening};
use crate::flows::{contributor, download, release};
use crate::release::members::Members;
use crate::store::NewEntry;

const CONTRACT: &str = r#"
    permit (principal, action, resource);
    @reason("we give to the university only")
    forbid (principal, action, resource) unless { principal == Recipient::"uni" };
"#;

/// The lines that are opened to a board of `scope`, or to one of all.
pub(super) fn opened_to(house: &House, scope: Option<&[&str]>) -> Vec<Value> {
    opened_with(house, scope, |id| id.clone())
}

/// The same, where the members of a release are kept under another id.
fn opened_with(
    house: &House,
    scope: Option<&[&str]>,
    of: impl Fn(&almoner_model::ReleaseId) -> almoner_model::ReleaseId,
) -> Vec<Value> {
    let scope: Option<Vec<almoner_model::ContributorId>> =
        scope.map(|all| all.iter().map(|c| c.parse().expect("slug")).collect());
    let members = |id: &almoner_model::ReleaseId| -> Result<Members, DataError> {
        release::members_in(&house.releases(), &house.keys, &of(id))
    };
    let source = Opening { store: house.store.as_ref(), documents: &house.documents, members: &members };
    let mut out = Vec::new();
    opened::write(source, scope.as_deref(), &mut out).expect("written");
    let text = String::from_utf8(out).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub(super) fn again(house: &House, lines: &[Value]) -> Report {
    let tree = Checkpoint::open(&house.store.checkpoint().note, &house.key()).expect("signed").checkpoint;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    replay(&tree, &mut leaves(house).into_iter(), text.as_bytes()).expect("a bundle")
}

/// The report once `change` is made, which says whether it found what to change.
fn changed(house: &House, lines: &[Value], change: impl Fn(&mut Vec<Value>)) -> Report {
    let mut lines = lines.to_vec();
    let before = lines.clone();
    change(&mut lines);
    assert_ne!(lines, before, "something was changed");
    let report = again(house, &lines);
    assert!(!report.intact, "{report:?}");
    report
}

fn line(lines: &mut [Value], is: impl Fn(&Value) -> bool) -> &mut Value {
    lines.iter_mut().find(|line| is(line)).expect("such a line")
}

fn kind_of(house: &House, line: &Value) -> Option<String> {
    let entry = house.store.entry(line["seq"].as_u64()?).expect("reads")?;
    Some(entry.leaf.kind)
}

fn of_kind(lines: &[Value], house: &House, kind: &str) -> (u64, usize) {
    let at = lines.iter().position(|l| kind_of(house, l).as_deref() == Some(kind)).expect("such an entry");
    (lines[at]["seq"].as_u64().expect("a number"), at)
}

fn found(report: &Report, seq: u64, words: &str) {
    let named = report.findings.iter().any(|f| f.seq == Some(seq) && f.problem.contains(words));
    assert!(named, "entry {seq}, {words}: {:?}", report.findings);
}

fn differs(report: &Report, seq: u64, words: &str) {
    let verdict = report.verdicts.iter().find(|d| d.seq == seq).map(|d| d.verdict.clone());
    let Some(Verdict::Differs { computed, .. }) = verdict else { panic!("entry {seq}: {verdict:?}") };
    assert!(computed.contains(words), "{words}: {computed}");
}

/// Two hospitals, one with a contract; a count, a release and a download.
fn busy() -> (House, almoner_model::RequestId, almoner_model::ReleaseId) {
    let house = consented();
    let north = "north".parse().expect("slug");
    house
        .with(|ctx| contributor::publish_contract(&ctx.access, &house.act(), &north, CONTRACT, None))
        .expect("published");
    house.count().expect("counted");
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect("opened");
    (house, wanted, built.release)
}

fn log(house: &House, event: &crate::events::Event, as_of: u64, word: Option<&str>) -> u64 {
    let new = NewEntry {
        event_id: house.act().event_id(0),
        kind: event.kind(),
        actor: house.act().actor,
        subject: None,
        payload: event.payload().expect("JSON"),
        policy: Some(Digest::of(crate::policy::HOUSE)),
        decision: word.map(str::to_owned),
        as_of: Some(as_of),
        until: None,
        topics: Vec::new(),
    };
    house.store.append(vec![new], &[]).expect("appended")[0].seq
}

#[test]
fn every_decision_is_equal_when_it_is_made_again() {
    let (house, wanted, built) = busy();
    let refused = house.approved("other", "company");
    house.with(|ctx| release::release(ctx, &house.act(), &refused)).expect_err("north's contract forbids it");
    withdrawal(&house, "north", 12);
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect_err("a member withdrew");
    house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built without them");
    let report = again(&house, &opened_to(&house, None));
    assert!(report.intact, "{:?} {:?}", report.findings, report.verdicts);
    let equal: Vec<(&str, u64)> = report.decisions.iter().map(|(k, t)| (*k, t.equal)).collect();
    assert_eq!(
        equal,
        [("count.answered", 1), ("download.opened", 1), ("permit.decided", 3), ("release.built", 2)]
    );
    assert!(report.persons > 100 && report.closed == 0, "{report:?}");
    let rules: Vec<_> = report.rules.iter().collect();
    assert!(matches!(rules[..], [(_, used)] if used.of_this_version && used.decisions >= 7), "{rules:?}");
}

#[test]
fn a_board_of_one_hospital_is_shown_its_own_and_what_is_others_stays_closed() {
    let (house, ..) = busy();
    let own = house.approved_with("own", "uni", |r| r.datasets = vec!["north".parse().expect("slug")]);
    house.with(|ctx| release::release(ctx, &house.act(), &own)).expect("built");
    let lines = opened_to(&house, Some(&["north"]));
    let report = again(&house, &lines);
    assert!(report.intact, "{:?} {:?}", report.findings, report.verdicts);
    let of = |kind: &str| report.decisions.get(kind).map_or(0, |t| t.equal);
    assert_eq!((of("permit.decided"), of("release.built"), of("count.answered")), (1, 1, 0));
    assert_eq!(report.closed, 4, "the count, permit, release and download of both hospitals' data");
    let text = serde_json::to_string(&lines).expect("JSON");
    assert!(!text.contains("basis-south") && !text.contains("r-diabetes"), "south's own is not opened");
    // Of people who are in no release of theirs, only whose a consent is.
    let said = lines.iter().filter(|l| kind_of(&house, l).as_deref() == Some("consent.recorded"));
    assert!(said.clone().any(|l| l.get("payload").is_none()), "others' consents stay closed");
    assert!(said.clone().any(|l| l.get("payload").is_some()), "members' are opened");
}

#[test]
fn a_changed_byte_is_told_by_its_entry() {
    let (house, ..) = busy();
    let lines = opened_to(&house, None);
    assert!(again(&house, &lines).intact);
    let broken = |change: &dyn Fn(&mut Vec<Value>)| changed(&house, &lines, change);

    let (contract, at) = of_kind(&lines, &house, "contract.published");
    let digest = lines[at]["payload"]["policy"].clone();
    let policy = broken(&|l| {
        let text = line(l, |l| l["document"] == digest);
        text["text"] = text["text"].as_str().expect("text").replace("unless", "when  ").into();
    });
    found(&policy, contract, "bytes were changed");
    assert_eq!(policy.differing(), 4, "whatever rests on it: {:?}", policy.verdicts);
    let gone = broken(&|l| l.retain(|l| l["document"] != digest));
    found(&gone, contract, "not in the bundle");
    let other = broken(&|l| l[at]["payload"]["contributor"] = "south".into());
    found(&other, contract, "log commits to");

    let house_rules = json!(Digest::of(crate::policy::HOUSE).to_string());
    let (counted, _) = of_kind(&lines, &house, "count.answered");
    let rules = broken(&|l| {
        line(l, |l| l["document"] == house_rules)["text"] = "permit(principal, action, resource);".into()
    });
    found(&rules, counted, "was changed");

    let (permit, at) = of_kind(&lines, &house, "permit.decided");
    let effect = broken(&|l| l[at]["payload"]["effect"] = "deny".into());
    found(&effect, permit, "log commits to");
    differs(&effect, permit, "not the entry's");
    let (request, at) = of_kind(&lines, &house, "request.decided");
    let unsaid = broken(&|l| {
        l.remove(at);
    });
    found(&unsaid, request, "not in the bundle");
    differs(&unsaid, permit, "has not approved");
}

#[test]
fn a_changed_consent_or_member_is_told_by_its_entry() {
    let (house, ..) = busy();
    let lines = opened_to(&house, None);
    let broken = |change: &dyn Fn(&mut Vec<Value>)| changed(&house, &lines, change);
    let (built, _) = of_kind(&lines, &house, "release.built");
    let member = lines.iter().position(|l| {
        kind_of(&house, l).as_deref() == Some("consent.recorded") && l.get("payload").is_some()
    });
    let member = member.expect("a member's consent");
    let seq = lines[member]["seq"].as_u64().expect("a number");
    let said = broken(&|l| l[member]["payload"]["directive"]["rules"]["effect"] = "deny".into());
    found(&said, seq, "log commits to");
    differs(&said, built, "nothing they said permits");
    let closed = broken(&|l| {
        let line = l[member].as_object_mut().expect("an object");
        line.remove("payload");
        line.remove("opening");
    });
    found(&closed, seq, "not opened");
    let left_out = broken(&|l| {
        l.remove(member);
    });
    found(&left_out, seq, "not in the bundle");
    let whose = broken(&|l| l[member]["subject"]["subject"] = 7.into());
    found(&whose, seq, "another person");
    let erased = broken(&|l| l[member] = json!({"seq": seq, "erased": built}));
    found(&erased, seq, "which is no erasure");

    let fewer = broken(&|l| {
        let at = l.iter().position(|l| l.get("member").is_some()).expect("a member");
        l.remove(at);
    });
    differs(&fewer, built, "commits to");
}

#[test]
fn what_an_operator_logs_against_the_rules_differs() {
    use crate::events::{CountAnswered, DownloadOpened, Event, PermitDecided};
    let (house, wanted, built) = busy();
    // A permit that the rules refuse, signed into the log like any other.
    let company = house.approved("other", "company");
    let as_of = house.store.size();
    let policies = [("house".to_owned(), Digest::of(crate::policy::HOUSE))].into();
    let lie = PermitDecided {
        request: company,
        effect: "permit".into(),
        reasons: vec![],
        policies,
        required: Default::default(),
        as_of,
    };
    let permit = log(&house, &Event::PermitDecided(lie), as_of, Some("permit"));
    // A count of what north's contract keeps from that recipient.
    let earlier = house.with(|ctx| ctx.access.store.get("count", &counted_at(&house))).expect("reads");
    let mut lie: CountAnswered = serde_json::from_value(earlier.expect("there")).expect("a count");
    (lie.project, lie.as_of) = ("other".parse().expect("slug"), house.store.size());
    let count = log(&house, &Event::CountAnswered(lie.clone()), lie.as_of, Some("answered"));
    // One that was read from a version that is not there.
    lie.project = "diabetes".parse().expect("slug");
    lie.as_of = house.store.size();
    *lie.datasets.values_mut().next().expect("one") = 2;
    let version = log(&house, &Event::CountAnswered(lie.clone()), lie.as_of, Some("answered"));

    // A member withdraws; the release goes out again, and is built once more of the same people.
    withdrawal(&house, "north", 12);
    let as_of = house.store.size();
    let opened = DownloadOpened { download: house.act().event_id(0), release: built.clone(), as_of };
    let opened = log(&house, &Event::DownloadOpened(opened), as_of, None);
    let permitted = house
        .with(|ctx| decide::permit(&ctx.access, &house.act(), &wanted, crate::consent::CategorySet::EMPTY))
        .expect("the rules say yes");
    let record = house.with(|ctx| crate::state::read::release(&ctx.access.state(), &built)).expect("reads");
    let mut body = record.expect("there").body;
    body.release = "rel-again".parse().expect("slug");
    body.as_of = permitted.entry() + 1;
    let rebuilt = log(&house, &Event::ReleaseBuilt(body.clone()), body.as_of, Some("released"));
    body.release = "rel-coarse".parse().expect("slug");
    body.k = [2, 2];
    let coarse = log(&house, &Event::ReleaseBuilt(body.clone()), body.as_of, Some("released"));

    let lines = opened_with(&house, None, |_| built.clone());
    let report = again(&house, &lines);
    differs(&report, permit, "we give to the university only");
    differs(&report, count, "we give to the university only");
    differs(&report, version, "was the latest");
    differs(&report, opened, "withdrawn");
    differs(&report, rebuilt, "nothing they said permits");
    differs(&report, coarse, "classes of 5");
    assert_eq!(report.differing(), 6, "{:?}", report.verdicts);
    assert_eq!(report.findings_total, 0, "the log itself says what it says: {:?}", report.findings);
}

fn counted_at(house: &House) -> String {
    house.store.scan("count", "", None, 1).expect("reads")[0].0.clone()
}
