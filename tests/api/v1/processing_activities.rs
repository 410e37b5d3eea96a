//! `/v1/processing-activities`: the register of GDPR Art. 30.

use serde_json::{Value, json};

use super::uses::same;
use crate::house::House;
use crate::story::HOSPITALS;

fn ids(register: &Value) -> Vec<&str> {
    let activities = register["activities"].as_array().expect("a list");
    activities.iter().map(|a| a["id"].as_str().expect("an id")).collect()
}

pub fn is_of_those_who_control(house: &House) {
    let read = |role: &str, scope: &[&str], query: &str| {
        let path = format!("/v1/processing-activities{query}");
        house.get(&path, Some(&house.token(role, scope))).expect(200)
    };
    let all = read("operator", &[], "").json();
    let [north, south] = HOSPITALS.map(|h| format!("data:{h}"));
    // A project that only counted has no data of anybody.
    assert_eq!(ids(&all), [north.as_str(), south.as_str(), "project:weight", "accounts"]);
    assert_eq!(read("board", &[], "").json()["activities"], all["activities"]);
    assert_eq!(ids(&read("contributor", &HOSPITALS[..1], "").json()), [&north, "project:weight"]);
    assert_eq!(ids(&read("board", &["nowhere"], "").json()), Vec::<&str>::new());
    let project = &all["activities"][2];
    for part in [
        "controllers",
        "purposes",
        "data_subjects",
        "personal_data",
        "recipients",
        "transfers",
        "time_limits",
        "security",
        "to_complete",
    ] {
        assert!(!project[part].as_array().expect("a list").is_empty(), "Art. 30(1): {part}");
    }
    assert_eq!(project["recipients"], json!(["institute"]));
    assert_eq!(project["controllers"].as_array().map(Vec::len), Some(2));
    assert!(project["purposes"][0].as_str().expect("text").contains("request r-1, approved"), "{project}");
    let bases = &read("contributor", &HOSPITALS[..1], "").json()["activities"][1]["legal_bases"];
    assert_eq!(bases.as_array().map(Vec::len), Some(1), "another hospital's basis is its own: {bases}");
    same(&read("operator", &[], "?format=csv").text, all["activities"].as_array().expect("a list"));
    let text = read("operator", &[], "?format=text").text;
    assert!(text.contains("(f) time limits") && text.contains("Weight and pressure"), "{text}");
    house.get("/v1/processing-activities", Some(&house.token("researcher", &["weight"]))).expect(403);
}
