//! Decisions made again after an erasure: whatever rested on what is gone is `erased`, and nothing differs.

use almoner_control::replay::{Report, Verdict};

use super::erased::whom;
use super::replayed::{again, opened_to};
use super::*;
use crate::flows::opened::{self, Source};
use crate::flows::participant::Participant;
use crate::flows::uses::disclosures;

/// Two hospitals with files, and what was said at them.
fn house() -> House {
    let house = House::on_disk();
    for hospital in ["north", "south"] {
        house.ingest(hospital);
    }
    house.project("diabetes", "uni");
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
    house
}

fn south_alone(house: &House, project: &str) -> almoner_model::RequestId {
    house.approved_with(project, "uni", |r| r.datasets = vec!["south".parse().expect("slug")])
}

/// Nothing differs, and this many decisions of each kind are equal and erased.
fn holds(house: &House, expected: &[(&str, u64, u64)]) -> Report {
    let report = again(house, &opened_to(house, None));
    assert!(report.intact, "{:?} {:?}", report.findings, report.verdicts);
    let of: Vec<_> = report.decisions.iter().map(|(kind, t)| (*kind, t.equal, t.erased)).collect();
    assert_eq!(of, expected);
    for decided in &report.verdicts {
        let Verdict::Erased { entry } = decided.verdict else { continue };
        let entry = house.store.entry(entry).expect("reads").expect("there");
        assert!(matches!(entry.payload, crate::store::Payload::Erased(Some(_))), "it names what is gone");
    }
    for board in ["north", "south"] {
        let report = again(house, &opened_to(house, Some(&[board])));
        assert!(report.intact, "{board}: {:?} {:?}", report.findings, report.verdicts);
    }
    let verified = house.verified();
    let problems: Vec<_> = verified.files().filter_map(|c| c.problem.clone()).collect();
    assert!(verified.intact, "{problems:?} {:?}", verified.ledger.findings);
    report
}

fn built(house: &House, wanted: &almoner_model::RequestId) -> almoner_model::ReleaseId {
    let built = house.with(|ctx| release::release(ctx, &house.act(), wanted)).expect("built").release;
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect("opened");
    built
}

#[test]
fn decisions_that_rest_on_the_erased_are_erased_and_all_others_equal() {
    let house = house();
    house.count().expect("answered");
    let both = house.approved("diabetes", "uni");
    let south = south_alone(&house, "south");
    for wanted in [&both, &south] {
        built(&house, wanted);
    }
    let all = |erased| {
        [
            ("count.answered", 1, 0),
            ("download.opened", 2 - erased, erased),
            ("permit.decided", 2, 0),
            ("release.built", 2 - erased, erased),
        ]
    };
    holds(&house, &all(0));
    house.erase(&whom("north", "north-20")).expect("erased");
    holds(&house, &all(1));
    // What is decided afterwards rests on nothing that is gone.
    house.count().expect("answered");
    built(&house, &both);
    holds(
        &house,
        &[
            ("count.answered", 2, 0),
            ("download.opened", 2, 1),
            ("permit.decided", 3, 0),
            ("release.built", 2, 1),
        ],
    );
}

/// A patient of both hospitals refused at the one, and took it back there; then that hospital's part is erased. What is left
/// must say of the other hospital's data what it said before.
#[test]
fn a_refusal_that_was_taken_back_does_not_come_back_by_an_erasure() {
    let house = house();
    let (here, there) = (house.subject("north", "north-20"), house.subject("south", "south-20"));
    house.registry.alias(there.expect("known"), here.expect("known")).expect("one person");
    let no = paper("form:new", day(2025, 3, 3), Provision::new(Effect::Deny));
    house.record("north", "north-20", no);
    let yes = paper("form:new", day(2025, 4, 4), Provision::permit([Duo::HealthResearch]));
    house.record("north", "north-20", yes);
    let south = south_alone(&house, "south");
    let release = built(&house, &south);
    let id = there.expect("known").to_string();
    let is_member = |release| {
        let list = house.with(|ctx| release::members(ctx, release)).expect("opens");
        list.members.iter().any(|m| m.subject == id || m.also.contains(&id))
    };
    assert!(is_member(&release));
    house.erase(&whom("north", "north-20")).expect("erased");
    assert!(is_member(&release), "nothing of theirs is in it");
    holds(&house, &[("download.opened", 1, 0), ("permit.decided", 1, 0), ("release.built", 1, 0)]);
    assert!(is_member(&built(&house, &south)), "they permit it as before");
}

/// What the other hospital gave of a patient of both was disclosed, and it owes them an account of that, whoever else erased
/// what they had.
#[test]
fn an_erasure_at_one_hospital_leaves_the_others_account_of_disclosures() {
    let house = house();
    let (here, there) = (house.subject("north", "north-20"), house.subject("south", "south-20"));
    house.registry.alias(there.expect("known"), here.expect("known")).expect("one person");
    let both = house.approved("diabetes", "uni");
    let taken = built(&house, &both);
    let left = house.with(|ctx| release::release(ctx, &house.act(), &both)).expect("built").release;
    let subject = there.expect("known");
    let account = |hospital: &str| {
        let who = Participant { subject, hospital: hospital.parse().expect("slug") };
        let made = house.with(|ctx| disclosures::accounting(ctx, &who, None, None)).expect("made");
        let all = |release: &str| made.disclosures.iter().filter(|d| d.release == release).count();
        (all(taken.as_str()), all(left.as_str()), made.prepared.len())
    };
    assert_eq!((account("north"), account("south")), ((1, 0, 1), (1, 0, 1)));
    house.erase(&whom("north", "north-20")).expect("erased");
    for release in [&taken, &left] {
        house.with(|ctx| download::open(ctx, &house.act(), release)).expect("opened, without them");
    }
    assert_eq!(account("south"), (1, 0, 0), "what was taken before they left, and nothing after");
    assert_eq!(account("north"), (0, 0, 0));
    house.erase(&whom("south", "south-20")).expect("erased");
    assert_eq!(account("south"), (0, 0, 0));
    let left = house.store.scan_primary(release::MEMBER_KIND, "", None, 1_000).expect("reads");
    let text = serde_json::to_string(&left).expect("JSON");
    assert!(![here, there].iter().any(|id| text.contains(&id.expect("known").to_string())));
    assert!(house.verified().intact);
}

/// A reader gets all of it as of one moment, or is told to ask again.
#[test]
fn payloads_are_not_opened_while_somebody_is_erased() {
    let house = house();
    built(&house, &house.approved("diabetes", "uni"));
    let members = |id: &almoner_model::ReleaseId| {
        house.erase(&whom("north", "north-20"))?;
        release::members_in(&house.releases(), &house.keys, id)
    };
    let source = Source { store: house.store.as_ref(), documents: &house.documents, members: &members };
    let refused = opened::write(source, None, &mut Vec::new()).expect_err("erased meanwhile");
    assert!(matches!(refused, DataError::Access(AccessError::Conflict(_))), "{refused}");
}
