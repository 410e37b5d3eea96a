//! `/v1/erasures`: a hospital erases its patient, the operator everywhere; what the person was handed opens nothing, and they
//! do not come back.

use almoner::system::SystemEntropy;
use almoner_model::SourcePatientId;
use serde_json::{Value, json};

use super::ledger_events;
use crate::house::House;

fn patient(house: &House, hospital: &str, number: &str) {
    let record = SourcePatientId::new(number.into());
    let id = hospital.parse().expect("slug");
    house.app.registry.subject_of_record(&id, &record, &SystemEntropy).expect("a person");
}

/// Asks, and follows the job to its end.
fn erase(house: &House, token: &str, body: &Value) -> Value {
    let job = house.post("/v1/erasures", token, body).expect(202).json();
    let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    loop {
        let job = house.get(&path, Some(token)).expect(200).json();
        match job["state"].as_str() {
            Some("queued" | "running") => std::thread::yield_now(),
            _ => return job,
        }
    }
}

#[test]
fn a_hospital_erases_its_patient_and_nobody_else_s() {
    let house = House::open();
    for id in ["north", "south"] {
        house.contributor(id);
        patient(&house, id, "mr-1");
    }
    let (north, south) = (house.token("contributor", &["north"]), house.token("contributor", &["south"]));
    let consent = json!({"record_number": "mr-1", "document": "broad", "signed": "2026-01-15",
        "rules": {"effect": "permit", "purposes": ["DUO:0000006"]}});
    house.post("/v1/consents", &north, &json!({"consent": consent})).expect(201);
    let invited = house.post("/v1/invitations", &north, &json!({"record_number": "mr-1", "days": 7}));
    let invited = invited.expect(201).json();

    house.post("/v1/erasures", &north, &json!({"contributor": "south", "record_number": "mr-1"})).expect(403);
    house.post("/v1/erasures", &north, &json!({"record_number": "mr-1", "everywhere": true})).expect(403);
    let unknown = erase(&house, &north, &json!({"record_number": "mr-9"}));
    assert_eq!(unknown["state"], "failed", "{unknown}");

    let done = erase(&house, &north, &json!({"record_number": "mr-1"}));
    assert_eq!((&done["state"], &done["result"]["finished"]), (&json!("done"), &json!(true)), "{done}");
    assert!(!done.to_string().contains("mr-1"), "{done}");
    let listed = house.get("/v1/erasures", Some(&north)).expect(200);
    assert_eq!(listed.json()["items"], json!([done["result"]]), "whom it concerned is not told");
    assert_eq!(house.get("/v1/erasures", Some(&south)).expect(200).json()["items"], json!([]));

    let redeemed = json!({"code": invited["code"]}).to_string();
    let headers = [("content-type", "application/json")];
    let path = "/v1/invitations/redemptions";
    house.call("POST", path, None, &headers, Some(redeemed.as_bytes())).expect(403);
    house.post("/v1/consents", &north, &json!({"consent": consent})).expect(403);
    house.post("/v1/invitations", &north, &json!({"record_number": "mr-1", "days": 7})).expect(404);
    let again = erase(&house, &north, &json!({"record_number": "mr-1"}));
    assert!(
        again["failure"]["detail"].as_str().is_some_and(|text| text.contains("erased before")),
        "{again}"
    );
    house.post("/v1/invitations", &south, &json!({"record_number": "mr-1", "days": 7})).expect(201);
    let operator = house.token("operator", &[]);
    // Which entries went together would say that they are one person's, and which stayed, that others know the person.
    let size = house.app.store.size();
    let erased = |token: &str| {
        let events = ledger_events::backfill(&house, token, 0, size);
        events.iter().filter(|event| event["erased"] == true).count()
    };
    let board = house.token("board", &["north"]);
    let researcher = house.token("researcher", &["p"]);
    assert_eq!([&north, &south, &board, &researcher].map(|token| erased(token)), [0; 4]);
    assert_eq!(erased(&operator), 2, "a consent and an invitation");
    let body = json!({"contributor": "south", "record_number": "mr-1", "everywhere": true});
    assert_eq!(erase(&house, &operator, &body)["result"]["contributor"], Value::Null);
}

/// As on a disk that was full for a while: nobody asks again, and nothing is started anew.
#[test]
fn an_erasure_that_was_cut_short_is_finished_without_a_restart() {
    let house = House::open();
    house.contributor("north");
    patient(&house, "north", "mr-1");
    let north = house.token("contributor", &["north"]);
    std::fs::create_dir(&house.app.erased).expect("in the way of the list beside the data folder");
    let cut = erase(&house, &north, &json!({"record_number": "mr-1"}));
    assert_eq!(cut["state"], "failed", "{cut}");
    let finished =
        || house.get("/v1/erasures", Some(&north)).expect(200).json()["items"][0]["finished"].clone();
    assert_eq!(finished(), json!(false));
    let notes = || house.get("/readyz", None).expect(200).json()["notes"].to_string();
    assert!(notes().contains("1 erasures are not finished"), "{}", notes());
    std::fs::remove_dir(&house.app.erased).expect("removed");
    while finished() != json!(true) {
        std::thread::yield_now();
    }
    assert_eq!(notes(), "[]");
    assert!(house.app.erased.is_file());
}
