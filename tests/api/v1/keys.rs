//! `/v1/ledger/keys` and `/ledger/handovers`: the key that signs the ledger changes, and readers follow.

use almoner_ledger::receipt::Receipt;
use almoner_ledger::{Checkpoint, VerifierKey, handover};
use serde_json::json;

use crate::house::House;

#[test]
fn a_reader_of_the_first_key_follows_to_the_second() {
    let house = House::open();
    house.contributor("north");
    let operator = house.token("operator", &[]);
    let read = |path: &str| house.get(path, None).expect(200).text;
    let first = VerifierKey::parse(&read("/ledger/vkey")).expect("a key");
    assert_eq!(read("/ledger/handovers").trim(), "[]");
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let rotate = || {
        let body = json!({"overlap_days": 7}).to_string();
        house
            .call("POST", "/v1/ledger/keys", Some(&operator), &headers, Some(body.as_bytes()))
            .expect(201)
            .json()
    };
    let done = rotate();
    assert_eq!(rotate(), done, "the same act");
    assert_eq!((&done["epoch"], &done["old"]), (&json!(1), &json!(first.line())), "{done}");
    let second = VerifierKey::parse(&read("/ledger/vkey")).expect("a key");
    assert_eq!(done["new"], second.line());

    let note = read("/ledger/checkpoint");
    for key in [&first, &second] {
        Checkpoint::open(note.as_bytes(), key).expect("signed by both");
    }
    let handovers = handover::read(read("/ledger/handovers").as_bytes()).expect("reads");
    for pinned in [&first, &second] {
        let all = handover::follow(pinned, &handovers).expect("leads to both");
        assert_eq!(all.lines().collect::<Vec<_>>(), [first.line(), second.line()]);
        let proof = read(done["receipt"].as_str().expect("a path"));
        let leaf = read(&format!("/v1/ledger/entries/{}", done["seq"]));
        Receipt::parse(proof.as_bytes())
            .expect("reads")
            .check(leaf.trim_end().as_bytes(), &all)
            .expect("holds");
    }
    house.post("/v1/ledger/keys", &operator, &json!({"overlap_days": 400})).expect(422);
    house.post("/v1/ledger/keys", &house.token("board", &[]), &json!({})).expect(403);
    let house = house.restart();
    let again = VerifierKey::parse(&house.get("/ledger/vkey", None).expect(200).text).expect("a key");
    assert_eq!(again.line(), second.line());
}
