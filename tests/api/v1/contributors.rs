//! `/v1/contributors` and `/v1/legal-bases`: changed and ended by whose they are, and by nobody who has not read them.

use almoner_model::Digest;
use serde_json::{Value, json};

use crate::house::{Answer, House};

fn change(house: &House, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    house.call(method, path, Some(token), &headers, Some(body.to_string().as_bytes()))
}

#[test]
fn a_contributor_is_changed_by_itself_and_on_what_it_read() {
    let house = House::open();
    house.contributor("north");
    let (north, south) = (house.token("contributor", &["north"]), house.token("contributor", &["south"]));
    let path = "/v1/contributors/north";
    let read = house.get(path, Some(&north)).expect(200).json();
    let body = json!({"seq": read["seq"], "name": "North General", "linkage": false, "k_min": 20});
    change(&house, "PATCH", path, &south, &body).expect(403);
    let changed = change(&house, "PATCH", path, &north, &body).expect(200).json();
    assert_eq!((&changed["name"], &changed["k_min"]), (&json!("North General"), &json!(20)));
    assert_eq!(changed["registered"], read["registered"]);
    assert_eq!(house.get(path, Some(&south)).expect(200).json(), changed);
    change(&house, "PATCH", path, &north, &body).expect(409);
    let again = json!({"seq": changed["seq"], "name": " ", "linkage": true});
    change(&house, "PATCH", path, &north, &again).expect(422);

    let path = "/v1/contributors/north/contract";
    let policy = "permit (principal, action, resource);";
    let replaces = |digest: Option<Digest>| json!({"policy": policy, "replaces": digest});
    change(&house, "PUT", path, &north, &replaces(Some(Digest::of(policy)))).expect(409);
    change(&house, "PUT", path, &north, &replaces(None)).expect(200);
    change(&house, "PUT", path, &north, &replaces(Some(Digest::of(policy)))).expect(200);
}

#[test]
fn a_legal_basis_fits_what_it_carries_and_is_ended_by_whose_it_is() {
    let house = House::open();
    house.contributor("north");
    let (north, south) = (house.token("contributor", &["north"]), house.token("contributor", &["south"]));
    let basis = |id: &str, kind: &str, profile: &str| {
        json!({"id": id, "kind": kind, "profile": profile, "by": "Expert", "method": "measured", "scope": "all",
            "document": "determination", "expires": "2030-12-31"})
    };
    house.post("/v1/legal-bases", &north, &basis("b", "expert_determination", "limited")).expect(422);
    house.post("/v1/legal-bases", &north, &basis("b", "data_use_agreement", "limited")).expect(422);
    house.post("/v1/legal-bases", &north, &basis("b", "expert_determination", "date-shifted")).expect(201);
    let end = json!({"reason": "revised"});
    house.post("/v1/legal-bases/b/end", &south, &end).expect(404);
    house.post("/v1/legal-bases/none/end", &north, &end).expect(404);
    house.post("/v1/legal-bases/b/end", &north, &json!({"reason": ""})).expect(422);
    for _ in 0..2 {
        assert!(house.post("/v1/legal-bases/b/end", &north, &end).expect(201).json()["ended"].is_string());
    }
    let listed = house.get("/v1/legal-bases", Some(&north)).expect(200).json();
    assert!(listed["items"][0]["ended"].is_string(), "{listed}");
    assert_eq!(house.get("/v1/legal-bases", Some(&south)).expect(200).json()["items"], json!([]));
}
