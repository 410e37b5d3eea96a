//! `/v1/requests`: each committee speaks for its own contributor.

use serde_json::json;

use crate::house::House;
use crate::story::{request, two_hospitals};

#[test]
fn a_board_that_sees_all_decides_for_nobody() {
    let house = House::open();
    two_hospitals(&house);
    let researcher = house.token("researcher", &["weight"]);
    let made = house.post("/v1/requests", &researcher, &request("everyone")).expect(201).json();
    let id = made["id"].as_str().or(made["request"].as_str()).expect("an id").to_owned();
    let path = format!("/v1/requests/{id}/decisions");
    let decision = json!({"contributor": "north-general", "decision": "approved", "reason": "Good."});
    let everywhere = house.token("board", &[]);
    house.get(&format!("/v1/requests/{id}"), Some(&everywhere)).expect(200);
    house.post(&path, &everywhere, &decision).expect(403);
    let south = house.token("board", &["southfield-clinic"]);
    house.post(&path, &south, &decision).expect(403);
    let north = house.token("board", &["north-general"]);
    house.post(&path, &north, &decision).expect(201);
}
