//! `/v1/uploads`: declared, continued where they stopped, protected by the client's key.

use almoner_model::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::house::{Answer, House};

const MIB: usize = 1 << 20;

fn declare(house: &House, token: &str, key: &str, data: &[u8]) -> Answer {
    let body =
        json!({"files": [{"name": "Patient.ndjson", "bytes": data.len(), "sha256": Digest::of(data)}]});
    let headers = [("content-type", "application/json"), ("almoner-upload-key", key)];
    house.call("POST", "/v1/uploads", Some(token), &headers, Some(body.to_string().as_bytes()))
}

fn write(house: &House, token: &str, key: &str, id: &str, offset: usize, bytes: &[u8]) -> Answer {
    let headers = [("content-type", "application/octet-stream"), ("almoner-upload-key", key)];
    let path = format!("/v1/uploads/{id}/files/0?offset={offset}");
    house.call("PATCH", &path, Some(token), &headers, Some(bytes))
}

fn received(answer: &Answer) -> u64 {
    answer.json()["received"].as_u64().expect("received")
}

#[test]
fn an_upload_goes_on_where_it_stopped() {
    let house = House::open();
    let token = house.token("contributor", &["north"]);
    let key = STANDARD.encode([7; 32]);
    let data: Vec<u8> = (0..2 * MIB + 500).map(|i| (i % 251) as u8).collect();
    let upload = declare(&house, &token, &key, &data).expect(201).json();
    let id = upload["id"].as_str().expect("id");
    assert_eq!(upload["contributor"], "north");

    let half = write(&house, &token, &key, id, 0, &data[..MIB + 100]).expect(200);
    assert_eq!(received(&half), MIB as u64, "whole chunks count");
    let elsewhere = write(&house, &token, &key, id, 5, b"x").expect(409).json();
    assert_eq!(elsewhere["measured"]["received"], MIB);
    let state = house.get(&format!("/v1/uploads/{id}"), Some(&token)).expect(200).json();
    assert_eq!(state["files"][0]["received"], MIB);
    let rest = write(&house, &token, &key, id, MIB, &data[MIB..]).expect(200);
    assert_eq!(received(&rest), data.len() as u64);
    write(&house, &token, &key, id, data.len(), b"more").expect(422);

    let other = STANDARD.encode([8; 32]);
    write(&house, &token, &other, id, data.len(), b"").expect(403);
    let stranger = house.token("contributor", &["south"]);
    house.get(&format!("/v1/uploads/{id}"), Some(&stranger)).expect(404);
    write(&house, &stranger, &key, id, 0, b"").expect(404);
    house.call("DELETE", &format!("/v1/uploads/{id}"), Some(&token), &[], None).expect(204);
    house.get(&format!("/v1/uploads/{id}"), Some(&token)).expect(404);
    assert_eq!(std::fs::read_dir(&house.app.spool).expect("spool").count(), 0);
}

#[test]
fn names_of_files_and_keys_are_not_taken_as_they_come() {
    let house = House::open();
    let token = house.token("contributor", &["north"]);
    let key = STANDARD.encode([7; 32]);
    let post = |key: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("almoner-upload-key", key)];
        house.call("POST", "/v1/uploads", Some(&token), &headers, Some(body.to_string().as_bytes()))
    };
    let file = |name: &str| json!({"files": [{"name": name, "bytes": 1, "sha256": Digest::of(b"x")}]});
    for name in ["Marine542_Patient.ndjson", "../../x.ndjson", "a/Patient.ndjson", "x.pdf", ""] {
        let refused = post(&key, &file(name)).expect(422);
        assert!(!refused.text.contains("Marine"), "{}", refused.text);
    }
    post("short", &file("Patient.ndjson")).expect(400);
    post(&key, &json!({"files": []})).expect(422);
    let mut huge = file("Patient.ndjson");
    huge["files"][0]["bytes"] = json!(u64::MAX);
    post(&key, &huge).expect(422);
    let mut theirs = file("Patient.ndjson");
    theirs["contributor"] = json!("south");
    post(&key, &theirs).expect(403);
    post(&key, &file("Patient.ndjson")).expect(201);
}
