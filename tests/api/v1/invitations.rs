//! `/v1/invitations` and `/v1/me`: an invitation opens one hospital's part, once, until it is ended.

use almoner::system::SystemEntropy;
use almoner_model::SourcePatientId;
use serde_json::{Value, json};

use crate::house::House;

/// Two hospitals of which the same person is a patient under record number `mr-1`.
fn two_hospitals(house: &House) {
    for id in ["north", "south"] {
        house.contributor(id);
        let record = SourcePatientId::new("mr-1".into());
        let hospital = id.parse().expect("slug");
        house.app.registry.subject_of_record(&hospital, &record, &SystemEntropy).expect("a person");
        let manager = house.token("contributor", &[id]);
        let consent = json!({"record_number": "mr-1", "document": "broad", "signed": "2026-01-15",
            "rules": {"effect": "permit", "purposes": ["DUO:0000006"]}});
        house.post("/v1/consents", &manager, &json!({"consent": consent})).expect(201);
    }
}

fn invite(house: &House, hospital: &str) -> Value {
    let manager = house.token("contributor", &[hospital]);
    house.post("/v1/invitations", &manager, &json!({"record_number": "mr-1", "days": 7})).expect(201).json()
}

fn redeem(house: &House, code: &Value, status: u16) -> Value {
    let headers = [("content-type", "application/json")];
    let body = json!({"code": code}).to_string();
    let path = "/v1/invitations/redemptions";
    house.call("POST", path, None, &headers, Some(body.as_bytes())).expect(status).json()
}

#[test]
fn an_invitation_is_redeemed_once_listed_by_its_hospital_and_ended() {
    let house = House::open();
    two_hospitals(&house);
    let before = house.app.store.size();
    let invited = invite(&house, "north");
    house.get("/v1/me/choices", invited["code"].as_str()).expect(401);
    let token = redeem(&house, &invited["code"], 201)["token"].as_str().expect("a token").to_owned();
    house.get("/v1/me/choices", Some(&token)).expect(200);
    redeem(&house, &invited["code"], 409);
    redeem(&house, &json!("ali_000000000000_x"), 403);
    let (north, south) = (house.token("contributor", &["north"]), house.token("contributor", &["south"]));
    let listed = house.get("/v1/invitations", Some(&north)).expect(200);
    assert!(listed.json()["items"][0]["redeemed"].is_string());
    assert!(!listed.text.contains("mr-1") && !listed.text.contains("ali_"), "{}", listed.text);
    assert_eq!(house.get("/v1/invitations", Some(&south)).expect(200).json()["items"], json!([]));
    let path = format!("/v1/invitations/{}", invited["id"].as_str().expect("an id"));
    house.call("DELETE", &path, Some(&south), &[], None).expect(404);
    house.get("/v1/me/choices", Some(&token)).expect(200);
    for _ in 0..2 {
        let ended = house.call("DELETE", &path, Some(&north), &[], None).expect(200).json();
        assert!(ended["revoked"].is_string());
    }
    house.get("/v1/me/choices", Some(&token)).expect(401);
    let made = house.app.store.entries(before, 100, &almoner::store::EntryFilter::default()).expect("read");
    let kinds: Vec<&str> =
        made.iter().map(|e| e.leaf.kind.as_str()).filter(|k| k.starts_with("invitation")).collect();
    assert_eq!(kinds, ["invitation.issued", "invitation.redeemed", "invitation.revoked"]);
}

#[test]
fn what_one_hospital_hands_out_opens_nothing_of_another() {
    let house = House::open();
    two_hospitals(&house);
    let invited = invite(&house, "north");
    let token = redeem(&house, &invited["code"], 201)["token"].as_str().expect("a token").to_owned();
    let said = house.get("/v1/me/choices", Some(&token)).expect(200);
    assert!(said.text.contains("north") && !said.text.contains("south"), "{}", said.text);
    let rules = json!({"effect": "permit", "purposes": ["DUO:0000042"]});
    let choice = |contributor: &str, covers: &str| json!({"contributor": contributor, "covers": covers, "rules": rules});
    house.post("/v1/me/consents", &token, &choice("south", "contributor")).expect(403);
    house.post("/v1/me/consents", &token, &choice("north", "exchange")).expect(422);
    let first = house.post("/v1/me/consents", &token, &choice("north", "contributor")).expect(201).json();
    let again = house.post("/v1/me/consents", &token, &choice("north", "contributor")).expect(201).json();
    assert_eq!(first, again, "the same act has the same answer");
    let elsewhere = json!({"contributor": "south", "mode": "no_further_use"});
    house.post("/v1/me/withdrawals", &token, &elsewhere).expect(403);
    let receipt = house.post("/v1/me/withdrawals", &token, &json!({"mode": "no_further_use"})).expect(201);
    let hospitals = receipt.json()["hospitals"].clone();
    assert_eq!(hospitals.as_array().map(Vec::len), Some(1), "{hospitals}");
    assert_eq!(hospitals[0]["contributor"], "north");
    assert_eq!(house.get("/v1/me/uses", Some(&token)).expect(200).json()["releases"], json!([]));

    let manager = house.token("contributor", &["north"]);
    let wide = json!({"record_number": "mr-1", "document": "broad", "signed": "2026-02-01",
        "covers": "exchange", "rules": rules});
    house.post("/v1/consents", &manager, &json!({"consent": wide})).expect(422);
    house.post("/v1/consents/batch", &manager, &json!({"consents": [wide]})).expect(422);
}

#[test]
fn consents_that_are_sent_again_have_the_entries_that_they_have() {
    let house = House::open();
    two_hospitals(&house);
    let manager = house.token("contributor", &["north"]);
    let consent = |signed: &str| {
        json!({"record_number": "mr-2", "document": "broad", "signed": signed,
        "rules": {"effect": "permit", "purposes": ["DUO:0000006"]}})
    };
    let first = house.post("/v1/consents", &manager, &json!({"consent": consent("2026-01-15")})).expect(201);
    let colleague = house.token("contributor", &["north"]);
    let size = house.app.store.size();
    let again =
        house.post("/v1/consents", &colleague, &json!({"consent": consent("2026-01-15")})).expect(201);
    assert_eq!((first.text, house.app.store.size()), (again.text, size));
    let two = json!({"consents": [consent("2026-01-15"), consent("2026-02-15")]});
    let batch = house.post("/v1/consents/batch", &manager, &two).expect(201).json();
    assert_eq!(house.app.store.size(), size + 1, "{batch}");
    let future = house.post("/v1/consents", &manager, &json!({"consent": consent("2099-01-01")})).expect(422);
    assert!(future.text.contains("future") && future.text.contains("/signed"), "{}", future.text);

    for (rules, pointer) in [
        (json!({"effect": "deny", "purposes": ["DUO:0000046"]}), "/rules/purposes/0"),
        (json!({"effect": "deny", "data": {"from": "2025-01-01", "until": "2000-01-01"}}), "/rules/data"),
    ] {
        let never =
            json!({"record_number": "mr-2", "document": "broad", "signed": "2026-03-15", "rules": rules});
        let refused = house.post("/v1/consents", &manager, &json!({"consent": never})).expect(422);
        assert!(refused.text.contains(pointer), "a denial that denies nothing: {}", refused.text);
    }

    let forms = "[[form]]\nid='refusal'\nversion='1'\n[form.rules]\neffect='deny'\n";
    let digest = "ab".repeat(32);
    let list = format!(
        "record_number,form_version,date,evidence_digest\nmr-3,1,2026-01-01,{digest}\nmr-4,9,2026-01-01,{digest}\n"
    );
    let body = json!({"list": list, "forms": forms});
    let read = |answer: crate::house::Answer| answer.expect(201).json()["summary"].clone();
    let once = read(house.post("/v1/consents/import", &manager, &body));
    assert_eq!((&once["recorded"], &once["rejected"]["unknown-form-version"]), (&json!(1), &json!(1)));
    let twice = read(house.post("/v1/consents/import", &manager, &body));
    assert_eq!((&twice["recorded"], &twice["already"]), (&json!(0), &json!(1)));
}
