//! Two hospitals whose dates were not moved alike: people are counted, their days are not compared, and nothing of both
//! leaves together.

use super::*;

fn house() -> House {
    let house = House::new();
    house.ingest_as("north", "date-shifted");
    house.ingest_as("south", "limited");
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.project("diabetes", "uni");
    house
}

#[test]
fn moved_and_true_dates_are_counted_but_not_released_together() {
    let house = house();
    assert!(matches!(house.count().expect("no days between").count, Shown::About(_)));
    house.legal_bases();
    let wanted = house.approved("diabetes", "uni");
    let refused = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect_err("two timelines");
    assert!(matches!(refused, DataError::Timelines { .. }), "{refused}");
    let said = house.with(|ctx| release::explain(ctx, &house.act(), &wanted)).expect("explained");
    assert!(!said.permitted && said.reasons.iter().any(|r| r.contains("one timeline")), "{said:?}");
}

#[test]
fn offsets_of_two_epochs_are_two_timelines() {
    let house = House::new();
    house.ingest("north");
    house.registry.advance_offset_epoch().expect("advances");
    house.ingest("south");
    for hospital in ["north", "south"] {
        house.consents(hospital);
    }
    house.project("diabetes", "uni");
    house.legal_bases();
    let wanted = house.approved("diabetes", "uni");
    let refused = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect_err("two timelines");
    assert!(matches!(refused, DataError::Timelines { .. }), "{refused}");
}
