//! What is judged on the last day on which something holds, and would be logged after it: it is judged again, so that the
//! moment of an entry is one at which it was permitted, and whoever decides again on that day comes to the same.

use std::sync::Mutex;

use almoner_model::Clock;

use super::meanwhile::Interposed;
use super::replayed::{again, opened_to};
use super::*;
use crate::consent::Period;
use crate::flows::contributor;
use crate::policy::Refusal;

/// `work`, whose first append comes at `then`.
fn late<T>(house: &House, then: &str, work: impl FnOnce(&DataContext<'_>) -> T) -> T {
    let then = Timestamp::parse(then).expect("a time");
    let clock = house.clock.clone();
    let passes: Box<dyn FnOnce() + Send> =
        Box::new(move || clock.advance_millis(then.millis() - clock.now().millis()));
    let between = Interposed { inner: Arc::clone(&house.store), first: Mutex::new(Some(passes)) };
    let done = house.with_store(&between, work);
    assert!(house.clock.now() == then, "something was to be appended");
    done
}

fn at(house: &House, time: &str) {
    let time = Timestamp::parse(time).expect("a time");
    house.clock.advance_millis(time.millis() - house.clock.now().millis());
}

fn intact(house: &House) {
    let report = again(house, &opened_to(house, None));
    assert!(report.intact, "{:?} {:?}", report.findings, report.verdicts);
}

fn logged(house: &House, kind: &str) -> usize {
    let filter = EntryFilter { kinds: vec![kind.to_owned()], topic: None };
    house.store.entries(0, 100, &filter).expect("reads").len()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, DataError>) {
    let error = answer.expect_err("it is over");
    assert!(matches!(&error, DataError::Access(AccessError::Refused(Refusal { .. }))), "{error}");
}

/// The last day of the determinations and of the legal bases of these tests.
const LAST: &str = "2030-01-01T23:59:59.999Z";
const AFTER: &str = "2030-01-02T00:00:00.000Z";

#[test]
fn a_count_on_the_last_day_of_a_contract_is_judged_again_after_it() {
    let house = consented();
    let contract = format!(
        "permit (principal, action, resource); forbid (principal, action, resource) when {{ context.today > {} }};",
        day(2030, 1, 1).days()
    );
    let north = "north".parse().expect("slug");
    house
        .with(|ctx| contributor::publish_contract(&ctx.access, &house.act(), &north, &contract, None))
        .expect("published");
    at(&house, LAST);
    house.count().expect("on the last day");
    refused(late(&house, AFTER, |ctx| count::count(ctx, &house.act(), &counting())));
    assert_eq!(logged(&house, "count.answered"), 1, "what is not said is not logged");
    intact(&house);
}

#[test]
fn a_download_on_the_last_day_of_a_determination_is_judged_again_after_it() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built").release;
    at(&house, LAST);
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect("on the last day");
    refused(late(&house, AFTER, |ctx| download::open(ctx, &house.act(), &built)));
    assert_eq!(logged(&house, "download.opened"), 1);
    intact(&house);
}

#[test]
fn a_permit_on_the_last_day_of_a_determination_is_decided_again_after_it() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    at(&house, LAST);
    house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("on the last day");
    refused(late(&house, AFTER, |ctx| release::release(ctx, &house.act(), &wanted)));
    let report = again(&house, &opened_to(&house, None));
    assert!(report.intact, "{:?} {:?}", report.findings, report.verdicts);
    assert_eq!(report.decisions["permit.decided"].equal, 2, "one that permits and one that refuses");
}

/// A consent ends at an instant.
#[test]
fn a_download_at_the_last_instant_of_a_consent_is_judged_again_after_it() {
    let house = consented();
    let until = Timestamp::parse("2026-12-01T10:00:00.000Z");
    let ends =
        Provision { period: Some(Period { from: None, until }), ..Provision::permit([Duo::HealthResearch]) };
    house.record("north", "north-30", paper("form:broad", day(2026, 2, 2), ends));
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built").release;
    at(&house, "2026-12-01T10:00:00.000Z");
    house.with(|ctx| download::open(ctx, &house.act(), &built)).expect("at the last instant");
    let then = "2026-12-01T10:00:00.001Z";
    let over = late(&house, then, |ctx| download::open(ctx, &house.act(), &built)).expect_err("it is over");
    assert!(matches!(over, DataError::Nobody { .. }), "{over}");
    assert_eq!(logged(&house, "download.opened"), 1);
    intact(&house);
}
