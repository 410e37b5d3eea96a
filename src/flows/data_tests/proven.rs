//! Evidence packs: they show that everyone permitted it, and whatever is changed or left out is noticed.

use almoner_ledger::evidence::{OfSomebodyElse, Pack, verify_evidence};

use super::*;
use crate::flows::{consent, download, evidence, release};

/// Both hospitals with consents and what a release needs.
fn consented() -> House {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
    house
}

fn of(house: &House, release: &almoner_model::ReleaseId) -> Pack {
    let pack = house.with(|ctx| evidence::evidence(ctx, release)).expect("made");
    serde_json::from_slice(&serde_json::to_vec(&pack).expect("JSON")).expect("reads back")
}

fn found(house: &House, pack: &Pack) -> String {
    let report = verify_evidence(pack, &house.key(), Some(&mut leaves(house).into_iter()));
    assert!(!report.intact);
    report.findings.join("\n")
}

/// What the check finds once `change` is made.
fn broken(house: &House, pack: &Pack, change: impl FnOnce(&mut Pack)) -> String {
    let mut pack = pack.clone();
    change(&mut pack);
    found(house, &pack)
}

#[test]
fn evidence_shows_that_everyone_permitted_it_and_notices_what_is_left_out() {
    let house = consented();
    // Two people withdraw before the release; they are not in it.
    for n in [10, 11] {
        withdrawal(&house, "north", n);
    }
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    assert_eq!((built.persons + suppressed(&house, &built.release)) as i64, 2 * (EACH - 5) - 2);
    let pack = of(&house, &built.release);
    let report = verify_evidence(&pack, &house.key(), Some(&mut leaves(&house).into_iter()));
    assert!(report.intact && report.complete, "{:?}", report.findings);
    assert_eq!(report.persons, built.persons);

    let broken = |change: &dyn Fn(&mut Pack)| broken(&house, &pack, change);
    let left_out = broken(&|p| {
        p.others.pop();
    });
    assert!(left_out.contains("does not open"), "{left_out}");
    let unsaid = broken(&|p| {
        p.said.remove(0);
    });
    assert!(unsaid.contains("permits") && unsaid.contains("does not open"), "{unsaid}");
    let fewer = broken(&|p| {
        p.members.pop();
    });
    assert!(fewer.contains("members"));
    assert!(broken(&|p| p.members[0].directives = vec![0]).contains("members"));
    broken(&|p| p.said[0].entry.payload["contributor"] = "elsewhere".into());
    broken(&|p| p.said[0].proof = p.said[1].proof.clone());
    broken(&|p| p.said[0].subject = p.said[1].subject.clone());
}

#[test]
fn evidence_is_for_the_use_that_was_asked_for_and_permitted() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let pack = of(&house, &built.release);
    let broken = |change: &dyn Fn(&mut Pack)| broken(&house, &pack, change);
    let another = "asked for and permitted";
    assert!(broken(&|p| p.wanted.purpose.terms = vec![Duo::PopulationResearch]).contains(another));
    assert!(broken(&|p| p.wanted.delivered = crate::consent::CategorySet::EMPTY).contains(another));
    assert!(broken(&|p| p.wanted.required = crate::consent::CategorySet::EMPTY).contains(another));
    let earlier = almoner_model::Timestamp::from_millis(pack.wanted.at.millis() - 1);
    assert!(broken(&|p| p.wanted.at = earlier).contains(another));
    assert!(broken(&|p| p.permit = p.request.clone()).contains("permit"));
    assert!(broken(&|p| p.request = p.permit.clone()).contains("request"));
    // A contributor less, and one more than the release names.
    let fewer = broken(&|p| {
        p.datasets.pop();
    });
    assert!(fewer.contains("dataset versions"), "{fewer}");
    assert!(broken(&|p| p.datasets.push(p.datasets[0].clone())).contains("dataset versions"));
}

#[test]
fn a_later_refusal_of_a_member_cannot_be_left_out() {
    let house = consented();
    let contributor: almoner_model::ContributorId = "north".parse().expect("slug");
    // A second document of the same person, which permits less and leaves the first in force.
    let second = NewConsent {
        whose: Whose::Record(Sensitive::new("north-12".into())),
        directive: Directive {
            source: Source::Form,
            lineage: "form:second".into(),
            signed: Signed::on(Date::from_ymd(2025, 2, 1).expect("valid")),
            status: Status::Active,
            covers: Coverage::Contributor,
            form: None,
            evidence: None,
            rules: Provision::permit([Duo::PopulationResearch]),
        },
        lifts: None,
    };
    let recorded = house
        .with(|ctx| consent::record_batch(&ctx.access, &house.act(), &contributor, vec![second]))
        .expect("recorded");
    let seq = recorded[0];
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let pack = of(&house, &built.release);
    let at = |p: &Pack| {
        let is = |e: &almoner_ledger::evidence::ProvenEntry| {
            almoner_ledger::Leaf::parse(e.entry.leaf.as_bytes()).is_ok_and(|leaf| leaf.seq == seq)
        };
        p.said.iter().position(is).expect("a member said it")
    };
    let omitted = broken(&house, &pack, |p| {
        p.said.remove(at(p));
    });
    assert!(omitted.contains("consent or refusal that the pack does not open"), "{omitted}");
    let moved = broken(&house, &pack, |p| {
        let taken = p.said.remove(at(p));
        p.others.push(OfSomebodyElse { seq, subject: taken.subject.expect("about a person") });
    });
    assert!(moved.contains("was not evaluated"), "{moved}");
}

#[test]
fn what_a_person_said_under_another_id_counts() {
    let house = consented();
    let contributor: almoner_model::ContributorId = "north".parse().expect("slug");
    let find = |number: &str| {
        let number = Sensitive::new(number.to_owned());
        house.with(|ctx| ctx.access.people.find_record(&contributor, &number).expect("reads"))
    };
    let known = find("north-12").expect("has data");
    let other = house.with(|ctx| {
        let number = Sensitive::new("paper-1".to_owned());
        ctx.access.people.subject_of_record(&contributor, &number, ctx.access.entropy).expect("made")
    });
    house.registry.alias(other, known).expect("one person");
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let pack = of(&house, &built.release);
    let report = verify_evidence(&pack, &house.key(), Some(&mut leaves(&house).into_iter()));
    assert!(report.intact, "{:?}", report.findings);
    let position = pack.members.iter().position(|m| m.subject == known.to_string()).expect("a member");
    assert_eq!(pack.members[position].also, [other.to_string()]);
    assert!(broken(&house, &pack, |p| p.members[position].also.clear()).contains("members"));

    house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect("opens");
    house
        .with(|ctx| {
            let mode = WithdrawalMode::NoFurtherUse;
            withdraw::withdraw(&ctx.access, &house.act(), other, None, mode, None)
        })
        .expect("withdrawn");
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect_err("withdrew");
    assert!(matches!(refused, DataError::Nobody { .. }), "{refused}");
    let second = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let left = house.with(|ctx| release::members(ctx, &second.release)).expect("opens").members;
    assert!(left.iter().all(|m| m.subject != known.to_string()));
}
