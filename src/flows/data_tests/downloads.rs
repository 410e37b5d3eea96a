//! Downloads: open while everybody in the release and every rule still permits it, counted, closed with a total.

use super::*;
use crate::consent::Category;
use crate::flows::access::PeopleError;
use crate::flows::participant::{self, Participant};
use crate::flows::{invitation, withdraw};

#[test]
fn who_withdraws_stops_the_next_download_and_is_not_in_the_next_release() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let act = house.act();
    let built = house.with(|ctx| release::release(ctx, &act, &wanted)).expect("built");
    let again = house.with(|ctx| release::release(ctx, &act, &wanted)).expect("the same act");
    assert_eq!(again, built);

    let open = house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect("opens");
    let person = open.files.iter().find(|f| f.path == "tables/person.parquet").expect("listed");
    house.with(|ctx| {
        let mut file = download::file(ctx, &open.capability, &person.path).expect("opens");
        let (head, tail) =
            (file.range(0, 4).expect("reads"), file.range(person.bytes - 4, 4).expect("reads"));
        assert_eq!((head.as_slice(), tail.as_slice()), (b"PAR1".as_slice(), b"PAR1".as_slice()));
        download::sent(ctx, &open.capability, 8).expect("counted");
        for path in ["../members.enc", "tables/../release.json", "/etc/passwd", "tables/none.parquet"] {
            assert!(download::file(ctx, &open.capability, path).is_err(), "{path}");
        }
        assert_eq!(download::close(ctx, &house.act(), &open.capability).expect("closed"), 8);
        assert!(download::file(ctx, &open.capability, &person.path).is_err(), "closed");
        assert!(download::file(ctx, "guess", &person.path).is_err());
    });

    let member = house.with(|ctx| release::members(ctx, &built.release)).expect("opens").members.remove(0);
    let subject = SubjectId::new(member.subject.parse().expect("a number")).expect("in range");
    house
        .with(|ctx| {
            withdraw::withdraw(&ctx.access, &house.act(), subject, None, WithdrawalMode::Recall, None)
        })
        .expect("withdrawn");
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect_err("withdrawn");
    assert!(matches!(refused, DataError::Nobody { .. }), "{refused}");
    // Its recipient is told whose rows to destroy; of those who withdrew otherwise, nothing is said.
    let others = house.with(|ctx| release::members(ctx, &built.release)).expect("opens").members;
    let other = others.iter().find(|m| m.subject != member.subject).expect("more than one");
    let other = SubjectId::new(other.subject.parse().expect("a number")).expect("in range");
    house
        .with(|ctx| {
            let mode = WithdrawalMode::NoFurtherUse;
            withdraw::withdraw(&ctx.access, &house.act(), other, None, mode, None)
        })
        .expect("withdrawn");
    let recalled = house.with(|ctx| recall::recalls(ctx, &built.release)).expect("reads");
    assert_eq!(recalled.persons, std::slice::from_ref(&member.pseudonym));
    let second = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    assert!(house.with(|ctx| recall::recalls(ctx, &second.release)).expect("reads").persons.is_empty());
    let left = house.with(|ctx| release::members(ctx, &second.release)).expect("opens").members;
    assert!(left.iter().all(|m| m.subject != member.subject), "who withdrew is not in it");
    assert_eq!((second.persons + suppressed(&house, &second.release)) as i64, 2 * (EACH - 5) - 2);
    house.with(|ctx| download::open(ctx, &house.act(), &second.release)).expect("opens");
}

#[test]
fn whoever_refuses_at_one_hospital_stops_the_next_download() {
    let house = consented();
    // One person at both hospitals, with a consent through each.
    let of = |hospital: &str| {
        let contributor: almoner_model::ContributorId = hospital.parse().expect("slug");
        let number = Sensitive::new(format!("{hospital}-14"));
        house.with(|ctx| ctx.access.people.find_record(&contributor, &number)).expect("reads").expect("known")
    };
    house.registry.alias(of("south"), of("north")).expect("one person");
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect("opens");
    withdrawal(&house, "north", 14);
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect_err("withdrew");
    assert!(matches!(refused, DataError::Nobody { .. }), "what they permit at the other does not help");

    let second = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    house.with(|ctx| download::open(ctx, &house.act(), &second.release)).expect("opens");
    // Somebody else in it signs a later version of the form that permits nothing of the kind any more.
    let contributor: almoner_model::ContributorId = "south".parse().expect("slug");
    let members = house.with(|ctx| release::members(ctx, &second.release)).expect("opens").members;
    let is_member = |number: &String| {
        let number = Sensitive::new(number.clone());
        let found = house.with(|ctx| ctx.access.people.find_record(&contributor, &number)).expect("reads");
        found.is_some_and(|subject| members.iter().any(|m| m.subject == subject.to_string()))
    };
    let number = (15..EACH).map(|n| format!("south-{n}")).find(is_member).expect("someone");
    house.record(
        "south",
        &number,
        paper("form:broad", day(2026, 1, 1), Provision::permit([Duo::PopulationResearch])),
    );
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &second.release)).expect_err("refused");
    assert!(matches!(refused, DataError::Nobody { .. }), "{refused}");
}

#[test]
fn what_was_revoked_or_has_run_out_is_not_downloaded_and_totals_are_logged() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let open = house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect("opens");
    house.with(|ctx| download::sent(ctx, &open.capability, 8)).expect("counted");
    assert_eq!(house.with(download::tidy).expect("nothing to do"), 0);
    house.clock.advance_millis(61 * 60_000);
    assert_eq!(house.with(download::tidy).expect("ends it"), 1);
    assert_eq!(house.with(download::tidy).expect("once"), 0);
    let filter = EntryFilter { kinds: vec!["download.closed".into()], topic: None };
    let closed = house.store.entries(0, 10, &filter).expect("reads");
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].payload.value().expect("there")["bytes_sent"], 8);

    let revoked = RequestDecided {
        request: wanted.clone(),
        contributor: "north".parse().expect("slug"),
        decision: "revoked".into(),
        delegate: None,
        reason: "the recipient has moved".into(),
    };
    house.with(|ctx| decide::decide(&ctx.access, &house.act(), revoked)).expect("revoked");
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &built.release)).expect_err("revoked");
    assert!(matches!(refused, DataError::Access(AccessError::Refused(_))), "{refused}");
}

/// A release, a member of it, and what they permit instead of all health research from now on.
fn narrowed(
    rules: impl FnOnce(Provision) -> Provision,
) -> (House, almoner_model::ReleaseId, almoner_model::RequestId) {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built").release;
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect("opens");
    let members = house.with(|ctx| release::members(ctx, &built)).expect("opens").members;
    let north: almoner_model::ContributorId = "north".parse().expect("slug");
    let is_member = |number: &String| {
        let number = Sensitive::new(number.clone());
        let found = house.with(|ctx| ctx.access.people.find_record(&north, &number)).expect("reads");
        found.is_some_and(|subject| members.iter().any(|m| m.subject == subject.to_string()))
    };
    let number = (5..EACH).map(|n| format!("north-{n}")).find(is_member).expect("someone");
    let rules = rules(Provision::permit([Duo::HealthResearch]));
    house.record("north", &number, paper("form:broad", day(2026, 1, 1), rules));
    (house, built, wanted)
}

#[test]
fn whoever_permits_less_than_the_release_holds_stops_its_download() {
    use crate::consent::{Category, DataPeriod, Effect, Period};
    let deny = |rules: Provision| Provision { effect: Effect::Deny, ..rules };
    let cases: [(&str, Provision); 2] = [
        (
            "a category that is in it",
            Provision {
                provisions: vec![deny(Provision {
                    categories: vec![Category::Conditions],
                    ..Provision::new(Effect::Deny)
                })],
                ..Provision::permit([Duo::HealthResearch])
            },
        ),
        (
            "days that are in it",
            Provision {
                data: Some(DataPeriod { from: Some(day(2015, 6, 1)), until: None }),
                ..Provision::permit([Duo::HealthResearch])
            },
        ),
    ];
    for (what, rules) in cases {
        let (house, built, _) = narrowed(|_| rules);
        let refused = house.with(|ctx| download::open(ctx, &house.act(), &built));
        assert!(matches!(refused, Err(DataError::Nobody { .. })), "{what}");
    }
    // Less, but of nothing that the release can hold.
    let (house, built, _) = narrowed(|all| Provision {
        data: Some(DataPeriod { from: None, until: Some(day(2027, 1, 1)) }),
        ..all
    });
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect("opens");
    // A permission that runs out, without anybody saying anything.
    let until = Timestamp::parse("2026-12-01T00:00:00Z").expect("a time");
    let (house, built, wanted) =
        narrowed(|all| Provision { period: Some(Period { from: None, until: Some(until) }), ..all });
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect("still in force");
    house.clock.advance_millis(10 * 24 * 3_600_000);
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &built)).expect_err("ran out");
    assert!(matches!(refused, DataError::Nobody { .. }), "{refused}");
    let second = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    house.with(|ctx| download::open(ctx, &house.act(), &second.release)).expect("opens");
}

#[test]
fn a_repeated_count_or_download_is_answered_and_logged_again() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built").release;
    let act = house.act();
    let open = || house.with(|ctx| download::open(ctx, &act, &built)).expect("opens");
    let (first, second) = (open(), open());
    assert_ne!(
        (first.seq, &first.download, &first.capability),
        (second.seq, &second.download, &second.capability)
    );
    let request = counting();
    let act = house.act();
    let count = || house.with(|ctx| count::count(ctx, &act, &request)).expect("answered");
    let (first, second) = (count(), count());
    assert!(second.seq > first.seq && second.count == first.count);
}

#[test]
fn a_participant_sees_the_counts_that_could_count_them_and_no_others() {
    let house = ready();
    let hospital: almoner_model::ContributorId = "north".parse().expect("slug");
    let conditional = Provision {
        conditions: vec![Duo::NonCommercial],
        provisions: vec![Provision { categories: vec![Category::Drugs], ..Provision::new(Effect::Deny) }],
        ..Provision::permit([Duo::HealthResearch])
    };
    house.record("north", "north-30", paper("form:broad", day(2026, 1, 1), conditional));
    let counts = |modifiers: &[Duo], definition: &str| {
        let request = CountRequest {
            project: "diabetes".parse().expect("slug"),
            purpose: Duo::HealthResearch,
            modifiers: modifiers.to_vec(),
            definition: definition.as_bytes().to_vec(),
            datasets: datasets(),
        };
        house.with(|ctx| {
            count::count(ctx, &house.act(), &request).expect("answered");
            let subject = ctx.access.people.find_record(&hospital, &Sensitive::new("north-30".into()));
            let subject = subject.expect("reads").expect("known");
            let who = Participant { subject, hospital: hospital.clone() };
            let seen = participant::counted_by(&ctx.access, &who).expect("reads");
            seen.iter().map(|c| c.counts).sum::<u64>()
        })
    };
    let conditions = r#"{"name": "c", "all": [{"domain": "condition", "concepts": [201826]}]}"#;
    let drugs = r#"{"name": "d", "all": [{"domain": "drug", "concepts": [201826]}]}"#;
    assert_eq!(counts(&[], conditions), 0, "the recipient was not bound to the condition");
    assert_eq!(counts(&[Duo::NotForProfitNonCommercial], conditions), 1, "it was");
    assert_eq!(counts(&[Duo::NotForProfitNonCommercial], drugs), 1, "drugs are denied");
}

#[test]
fn what_is_no_record_number_names_nobody() {
    let house = House::new();
    for text in ["", "  ", &"9".repeat(201)] {
        let number = Sensitive::new((*text).to_owned());
        let (found, made) = house.with(|ctx| {
            let (people, north) = (ctx.access.people, "north".parse().expect("slug"));
            (
                people.find_record(&north, &number),
                people.subject_of_record(&north, &number, ctx.access.entropy),
            )
        });
        assert_eq!((found, made), (Err(PeopleError::NotOne), Err(PeopleError::NotOne)));
    }
}

#[test]
fn what_was_said_before_a_merge_is_seen_and_lifted_after_it() {
    let house = consented();
    let north: almoner_model::ContributorId = "north".parse().expect("slug");
    let of = |n: i64| {
        let number = Sensitive::new(format!("north-{n}"));
        house.with(|ctx| ctx.access.people.find_record(&north, &number)).expect("reads").expect("known")
    };
    let (before, now) = (of(14), of(15));
    let mode = WithdrawalMode::NoContact;
    let said =
        house.with(|ctx| withdraw::withdraw(&ctx.access, &house.act(), before, Some(&north), mode, None));
    let seq = said.expect("withdrawn").seq;
    house.registry.alias(before, now).expect("one person");
    let number = Sensitive::new("north-15".to_owned());
    let invite = || house.with(|ctx| invitation::invite(&ctx.access, &house.act(), &north, &number, 7).err());
    assert!(matches!(invite(), Some(AccessError::Denied(_))), "the person asked not to be written to");
    let who = Participant { subject: now, hospital: north.clone() };
    let page = || house.with(|ctx| participant::choices(&ctx.access, &who)).expect("reads");
    assert!(page().withdrawals.iter().any(|w| w.state.seq == seq && w.stands));
    let signed = house.with(|ctx| ctx.access.now()).expect("ledger time").millis() + 1;
    let directive = Directive {
        source: Source::Participant,
        signed: Signed::at(almoner_model::Timestamp::from_millis(signed)),
        ..paper("participant", day(2026, 1, 1), Provision::permit([Duo::HealthResearch]))
    };
    let lifting = NewConsent { whose: Whose::Subject(now), directive, lifts: Some(seq) };
    house.with(|ctx| consent::record(&ctx.access, &house.act(), &north, lifting)).expect("lifts it");
    assert!(page().withdrawals.iter().all(|w| !w.stands));
    assert!(invite().is_none(), "may be written to again");
}
