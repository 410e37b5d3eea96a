//! `/ledger` and `/v1/ledger`: what anybody reads, and how an act leads to its receipt.

use almoner_ledger::cose::CoseReceipt;
use almoner_ledger::receipt::Receipt;
use almoner_ledger::{Checkpoint, VerifierKey};
use serde_json::{Value, json};

use crate::house::{Answer, House};

fn key(house: &House) -> VerifierKey {
    VerifierKey::parse(&house.get("/ledger/vkey", None).expect(200).text).expect("a key")
}

fn signed(house: &House) -> Checkpoint {
    let note = house.get("/ledger/checkpoint", None).expect(200).text;
    Checkpoint::open(note.as_bytes(), &key(house)).expect("signed").checkpoint
}

fn cache(answer: &Answer) -> &str {
    answer.headers["cache-control"].to_str().expect("text")
}

/// The bytes of an answer that is no text.
fn bytes(house: &House, path: &str) -> Vec<u8> {
    let mut answer = ureq::get(format!("{}{path}", house.url())).call().expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/cose; cose-type=\"cose-sign1\"");
    answer.body_mut().read_to_vec().expect("read")
}

/// Follows the way from an answer to both receipts of its entry, and checks them.
fn receipts_of(house: &House, said: &Value) {
    let seq = said.get("seq").or(said.get("ledger_seq")).and_then(Value::as_u64).expect("an entry");
    let entry = format!("/v1/ledger/entries/{seq}");
    assert_eq!(said["receipt"], format!("{entry}/proof"), "{said}");
    let leaf = house.get(&entry, None).expect(200);
    assert!(cache(&leaf).contains("immutable"));
    let proof = house.get(said["receipt"].as_str().expect("a path"), None).expect(200);
    assert_eq!(cache(&proof), "no-cache");
    let proof = Receipt::parse(proof.text.as_bytes()).expect("a proof");
    assert_eq!(proof.index, seq);
    let head = proof.check(leaf.text.as_bytes(), &key(house)).expect("holds").checkpoint;
    assert_eq!(head, signed(house), "the checkpoint covers an act as soon as it is answered");
    let receipt = CoseReceipt::parse(&bytes(house, &format!("{entry}/receipt"))).expect("a receipt");
    assert_eq!(receipt.check(leaf.text.as_bytes(), &key(house)), Ok(head));
}

#[test]
fn what_patients_say_leads_to_its_receipt() {
    let house = House::open();
    let participant = house.participant();
    let rules = json!({"effect": "permit", "purposes": ["DUO:0000006"]});
    let choice = json!({"contributor": "north", "rules": rules});
    receipts_of(&house, &house.post("/v1/me/consents", &participant, &choice).expect(201).json());
    let manager = house.token("contributor", &["north"]);
    let consent = |document: &str| json!({"record_number": "mr-1", "document": document, "signed": "2026-01-15", "rules": rules});
    let recorded = house.post("/v1/consents", &manager, &json!({"consent": consent("one")})).expect(201);
    receipts_of(&house, &recorded.json());
    let both = json!({"consents": [consent("two"), consent("three")]});
    let batch = house.post("/v1/consents/batch", &manager, &both).expect(201).json();
    let recorded = batch["recorded"].as_array().expect("a list");
    assert_eq!(recorded.len(), 2, "{batch}");
    recorded.iter().for_each(|said| receipts_of(&house, said));
}

#[test]
fn there_is_no_receipt_of_what_is_not_there() {
    let house = House::open();
    for path in ["", "/proof", "/receipt"] {
        house.get(&format!("/v1/ledger/entries/{}{path}", house.app.store.size()), None).expect(404);
        house.get(&format!("/v1/ledger/entries/-1{path}"), None).expect(404);
    }
}

#[test]
fn what_was_served_once_is_served_the_same_for_ever() {
    let house = House::open();
    let grow = |to: u64| {
        while house.app.store.size() < to {
            house.contributor(&format!("c{}", house.app.store.size()));
        }
    };
    grow(3);
    let partial = "/ledger/tile/entries/000.p/3";
    let before = house.get(partial, None).expect(200);
    assert_eq!(
        (cache(&before), before.content_type.as_str()),
        ("public, max-age=31536000, immutable", "application/octet-stream")
    );
    house.get("/ledger/tile/entries/000.p/4", None).expect(404);
    house.get("/ledger/tile/0/000", None).expect(404);
    grow(258);
    assert_eq!(house.get(partial, None).expect(200).text, before.text);
    house.get("/ledger/tile/entries/000", None).expect(200);
    let checkpoint = house.get("/ledger/checkpoint", None).expect(200);
    assert_eq!(cache(&checkpoint), "no-cache");
    assert_eq!(signed(&house).size, 258);
}
