//! `/v1/consents`: one or many, all or none, and which one is not right.

use serde_json::{Value, json};

use crate::house::House;

fn consent(number: &str, signed: &str) -> Value {
    json!({"record_number": number, "document": "broad", "signed": signed,
        "rules": {"effect": "permit", "purposes": ["DUO:0000006"]}})
}

#[test]
fn what_is_not_right_is_told_by_its_place_and_nothing_is_recorded() {
    let house = House::open();
    house.contributor("north");
    let north = house.token("contributor", &["north"]);
    let before = house.app.store.size();
    let long = "7".repeat(201);
    for (wrong, at) in [
        (consent("mr-1", "2999-01-01"), "/signed"),
        (consent(&long, "2026-01-15"), "/record_number"),
        (
            json!({"record_number": "mr-1", "document": " ", "signed": "2026-01-15", "rules": {"effect": "deny"}}),
            "/document",
        ),
    ] {
        let one = house.post("/v1/consents", &north, &json!({"consent": wrong})).expect(422).json();
        assert_eq!(one["pointer"], format!("/consent{at}"), "{one}");
        let many = json!({"consents": [consent("mr-0", "2026-01-15"), wrong, consent("mr-2", "2026-01-15")]});
        let many = house.post("/v1/consents/batch", &north, &many).expect(422).json();
        assert_eq!(many["pointer"], format!("/consents/1{at}"), "{many}");
        assert!(!format!("{one}{many}").contains("mr-"), "{many}");
    }
    assert_eq!(house.app.store.size(), before, "all or none");
    let many: Vec<Value> = (0..1000).map(|n| consent(&format!("mr-{}", n % 500), "2026-01-15")).collect();
    let said = house.post("/v1/consents/batch", &north, &json!({"consents": many})).expect(201).json();
    let recorded = said["recorded"].as_array().expect("a list");
    assert_eq!((recorded.len() as u64, &recorded[999]["seq"]), (1000, &json!(before + 999)));
}
