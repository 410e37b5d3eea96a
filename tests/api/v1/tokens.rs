//! `/v1/tokens`: made, paged, ended; repeated calls with an idempotency key act once.

use serde_json::json;

use crate::house::House;

#[test]
fn a_list_is_read_page_by_page() {
    let house = House::open();
    let operator = house.token("operator", &[]);
    for n in 0..7 {
        let body = json!({"role": "researcher", "scope": [format!("p{n}")], "label": "x", "days": 3});
        let made = house.post("/v1/tokens", &operator, &body).expect(201).json();
        assert!(made["token"].as_str().expect("token").starts_with("alm_"));
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/tokens?limit=3".to_owned());
    loop {
        let page = house.get(&path, Some(&operator)).expect(200).json();
        for item in page["items"].as_array().expect("items") {
            assert!(item.get("hash").is_none() && item.get("token").is_none());
            seen.push(item["id"].as_str().expect("id").to_owned());
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/tokens?limit=3&cursor={next}"),
            None => break,
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (8, 8));
}

#[test]
fn a_repeated_call_acts_once_and_gives_the_same_answer() {
    let house = House::open();
    let operator = house.token("operator", &[]);
    let headers = [("content-type", "application/json"), ("idempotency-key", "k-1")];
    let call =
        |body: &str| house.call("POST", "/v1/tokens", Some(&operator), &headers, Some(body.as_bytes()));
    let before = house.app.store.size();
    let first = call(r#"{"role":"board"}"#).expect(201);
    let second = call(r#"{"role":"board"}"#).expect(201);
    assert_eq!(first.text, second.text);
    assert_eq!(second.headers["idempotent-replay"], "true");
    assert_eq!(house.app.store.size(), before + 1);
    call(r#"{"role":"operator"}"#).expect(409);
    let other = house.token("operator", &[]);
    let theirs =
        house.call("POST", "/v1/tokens", Some(&other), &headers, Some(br#"{"role":"board"}"#)).expect(201);
    assert_ne!(theirs.text, first.text, "a key counts for its caller only");
    let kept = format!("{:?}", house.app.store.scan_primary("idempotency", "", None, 10).expect("store"));
    assert!(!kept.contains("alm_"), "no secret in clear at rest");
}
