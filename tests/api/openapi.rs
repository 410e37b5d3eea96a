//! `/openapi.json` and the checked-in description say the same, and it is complete.

use std::path::Path;

use serde_json::Value;

use crate::house::House;

#[test]
fn the_checked_in_description_is_what_the_server_says() {
    let house = House::open();
    let said = house.get("/openapi.json", None).expect(200).json();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/almoner.json");
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("file")).expect("JSON");
    assert!(said == stored, "run `cargo run -- schema openapi > openapi/almoner.json`");
}

#[test]
fn every_operation_says_what_it_is_and_how_it_fails() {
    let api = serde_json::to_value(almoner::web::openapi::document()).expect("JSON");
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {path}: no operationId"));
            let (verb, noun) = id.split_once('_').unwrap_or_else(|| panic!("{id}: not <verb>_<noun>"));
            assert!(!verb.is_empty() && !noun.is_empty(), "{id}");
            assert!(ids.insert(id.to_owned()), "{id} twice");
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{id}: no summary");
            for status in ["400", "401", "403", "404", "405", "500", "503"] {
                let content = &operation["responses"][status]["content"];
                assert!(
                    content.get("application/problem+json").is_some(),
                    "{id}: {status} is not documented"
                );
            }
        }
    }
    assert!(ids.len() > 10);
}

/// What a problem says of a body names its members, so every name must be ours.
#[test]
fn no_body_has_members_of_the_callers_own_naming() {
    let api = serde_json::to_value(almoner::web::openapi::document()).expect("JSON");
    let mut bodies: Vec<&Value> = api["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|item| item.as_object().expect("operations").values())
        .map(|operation| &operation["requestBody"])
        .collect();
    let mut seen = 0;
    while let Some(at) = bodies.pop() {
        match at {
            Value::Object(members) => {
                if let Some(name) = at["$ref"].as_str() {
                    bodies.push(api.pointer(name.trim_start_matches('#')).expect("a schema"));
                    seen += 1;
                }
                let own = members.get("additionalProperties").is_some_and(|a| *a != false);
                assert!(!own && members.get("propertyNames").is_none(), "{at}");
                bodies.extend(members.values());
            }
            Value::Array(items) => bodies.extend(items),
            _ => {}
        }
    }
    assert!(seen > 20, "{seen}");
}
