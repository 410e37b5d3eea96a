//! Downloads: open while everybody in the release and every rule still permits it, counted, closed with a total.

use super::*;

#[test]
fn who_withdraws_stops_the_next_download_and_is_not_in_the_next_release() {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
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
    let second = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let left = house.with(|ctx| release::members(ctx, &second.release)).expect("opens").members;
    assert!(left.iter().all(|m| m.subject != member.subject), "who withdrew is not in it");
    assert_eq!((second.persons + suppressed(&house, &second.release)) as i64, 2 * (EACH - 5) - 1);
    house.with(|ctx| download::open(ctx, &house.act(), &second.release)).expect("opens");
}

#[test]
fn whoever_refuses_at_one_hospital_stops_the_next_download() {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
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
    let refusal = NewConsent {
        whose: Whose::Record(Sensitive::new(number)),
        directive: Directive {
            source: Source::Form,
            lineage: "form:broad".into(),
            signed: Signed::on(Date::from_ymd(2026, 1, 1).expect("valid")),
            status: Status::Active,
            covers: Coverage::Contributor,
            form: None,
            evidence: None,
            rules: Provision::permit([Duo::PopulationResearch]),
        },
        lifts: None,
    };
    house
        .with(|ctx| consent::record_batch(&ctx.access, &house.act(), &contributor, vec![refusal]))
        .expect("recorded");
    let refused = house.with(|ctx| download::open(ctx, &house.act(), &second.release)).expect_err("refused");
    assert!(matches!(refused, DataError::Nobody { .. }), "{refused}");
}

#[test]
fn what_was_revoked_or_has_run_out_is_not_downloaded_and_totals_are_logged() {
    let house = ready();
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.legal_bases();
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
