//! Whatever goes wrong is a problem of one of the five kinds, and repeats nothing that was sent.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::house::House;

#[test]
fn what_the_framework_refuses_is_a_problem_too() {
    let house = House::with(|config| config.http.body_bytes_max = 2_000);
    let operator = house.token("operator", &[]);
    let json = [("content-type", "application/json")];
    let post = |body: &[u8]| house.call("POST", "/v1/tokens", Some(&operator), &json, Some(body));

    house.get("/nowhere", None).expect(404);
    let wrong_way = house.call("PUT", "/v1/tokens", Some(&operator), &json, Some(b"{}")).expect(405);
    assert_eq!(wrong_way.headers["allow"], "GET, POST");
    post(b"{\"role\": Marine542").expect(400);
    let misfit = post(b"{\"role\": \"Marine542\"}").expect(422);
    assert!(misfit.text.contains("operator") && !misfit.text.contains("Marine"), "{}", misfit.text);
    assert_eq!(misfit.json()["pointer"], "/role");
    post(vec![b' '; 3_000].as_slice()).expect(413);
    let typeless = [("content-type", "text/plain")];
    house.call("POST", "/v1/tokens", Some(&operator), &typeless, Some(b"{}")).expect(415);
    house.get("/v1/tokens?limit=many", Some(&operator)).expect(400);
    house.get("/v1/tokens?limit=0", Some(&operator)).expect(400);
    house.get("/v1/tokens?cursor=!", Some(&operator)).expect(400);
    house.get("/v1/jobs/none", Some(&operator)).expect(404);
    house.get("/v1/datasets/none", Some(&operator)).expect(404);
    house.get("/v1/me", Some("alm_forged")).expect(401);
    assert_eq!(house.get("/v1/me", None).expect(401).headers["www-authenticate"], "Bearer realm=\"almoner\"");
}

#[test]
fn a_body_that_does_not_fit_is_told_by_its_member() {
    let house = House::open();
    let researcher = house.token("researcher", &["p"]);
    let mut request = json!({
        "id": "r1", "project": "p", "purpose": "DUO:0000006", "modifiers": ["DUO:0000042", "Marine542"],
        "cohort": {}, "datasets": ["north"], "tables": ["person"], "tier": "controlled", "profile": "limited",
        "lay_summary": "", "ethics": {"protocol": "1", "board": "b", "expires": "2030-01-01"}
    });
    let told = |body: &serde_json::Value| {
        let problem = house.post("/v1/requests", &researcher, body).expect(422);
        assert!(!problem.text.contains("542"), "{}", problem.text);
        let problem = problem.json();
        let text = |name: &str| problem[name].as_str().expect("text").to_owned();
        (text("pointer"), text("detail"))
    };
    let (pointer, detail) = told(&request);
    assert_eq!(pointer, "/modifiers/1");
    assert!(detail.contains("a known DUO term"), "{detail}");
    request["modifiers"] = json!([]);
    request["ethics"]["expires"] = json!("5422");
    assert_eq!(told(&request).0, "/ethics/expires");
    request["ethics"] = json!({"protocol": "1", "expires": "2030-01-01"});
    assert_eq!(told(&request).0, "/ethics/board");
}

#[test]
fn a_token_that_does_not_work_is_refused_where_none_is_needed() {
    let house = House::open();
    house.get("/healthz", None).expect(200);
    let operator = house.token("operator", &[]);
    let made = house.post("/v1/tokens", &operator, &json!({"role": "board"})).expect(201).json();
    let (board, id) = (made["token"].as_str().expect("token"), made["info"]["id"].as_str().expect("id"));
    house.get("/v1/me", Some(board)).expect(200);
    house.call("DELETE", &format!("/v1/tokens/{id}"), Some(&operator), &[], None).expect(200);
    house.get("/v1/me", Some(board)).expect(401);
}

#[test]
fn strangers_cannot_fill_store_or_metrics() {
    let house = House::open();
    let operator = house.token("operator", &[]);
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    for path in ["/v1/nowhere", "/v1/tokens", "/v1/requests"] {
        house.call("POST", path, None, &headers, Some(b"{}"));
        house.call("POST", "/v1/nowhere", Some(&operator), &headers, Some(b"{}")).expect(404);
    }
    let kept = house.app.store.scan_primary("idempotency", "", None, 10).expect("store");
    assert!(kept.is_empty(), "{kept:?}");
    for method in ["MARINE", "HOLMES"] {
        let mut stream = TcpStream::connect(house.url().trim_start_matches("http://")).expect("connects");
        let head = format!("{method} /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
    let metrics = house.get("/metrics", Some(&operator)).expect(200).text;
    assert!(metrics.contains("other") && !metrics.contains("MARINE"), "{metrics}");
}
