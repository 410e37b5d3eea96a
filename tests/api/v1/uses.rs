//! `/v1/uses`, `/v1/me/disclosures` and `/v1/processing-activities` on one world: two hospitals, three counts, a release that
//! was downloaded.

use std::collections::BTreeSet;

use almoner::flows::uses::csv::{text, unguarded};
use serde_json::{Value, json};

use super::{ledger_events, me, processing_activities};
use crate::house::House;
use crate::story::{HOSPITALS, clear_the_way, cohort, release, request, two_hospitals};

/// A title that a spreadsheet would run.
const FORMULA: &str = "=HYPERLINK(\"http://x\",\"1\")";

/// Gives the id of the release.
fn world(house: &House) -> String {
    two_hospitals(house);
    let operator = house.token("operator", &[]);
    let other = json!({"id": "formula", "title": FORMULA, "recipient": "elsewhere"});
    house.post("/v1/projects", &operator, &other).expect(201);
    let count = |project: &str, datasets: Value| {
        let researcher = house.token("researcher", &[project]);
        let body =
            json!({"project": project, "purpose": "DUO:0000006", "cohort": cohort(), "datasets": datasets});
        house.post("/v1/counts", &researcher, &body).expect(201);
    };
    count("weight", json!(HOSPITALS));
    count("weight", json!(HOSPITALS[..1]));
    count("formula", json!(HOSPITALS[1..]));
    let researcher = house.token("researcher", &["weight"]);
    house.post("/v1/requests", &researcher, &request("r-1")).expect(201);
    clear_the_way(house, "r-1");
    let job = release(house, &researcher, "r-1");
    assert_eq!(job["state"], "done", "{job}");
    let id = job["result"]["release"].as_str().expect("a release").to_owned();
    let opened =
        house.post(&format!("/v1/releases/{id}/downloads"), &researcher, &json!({})).expect(201).json();
    let capability = opened["capability"].as_str().expect("a capability");
    house.get(&format!("/v1/downloads/{capability}/files/release.json"), None).expect(200);
    house.call("DELETE", &format!("/v1/downloads/{capability}"), Some(&researcher), &[], None).expect(200);
    id
}

/// The rows that a caller sees.
fn rows(house: &House, path: &str, token: &str) -> Vec<Value> {
    house.get(path, Some(token)).expect(200).json()["items"].as_array().expect("a list").clone()
}

fn kinds(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["kind"].as_str().expect("a kind")).collect()
}

/// A table as its header and its lines.
pub fn table(csv: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
    let mut lines =
        reader.records().map(|r| r.expect("a record").iter().map(ToOwned::to_owned).collect::<Vec<_>>());
    let head = lines.next().expect("a header");
    (head, lines.collect())
}

/// That a table says what the rows say, cell by cell.
pub fn same(csv: &str, rows: &[Value]) {
    let (head, lines) = table(csv);
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(rows) {
        for (cell, column) in line.iter().zip(&head) {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
            assert_eq!(unguarded(cell), text(&row[column]), "{column}");
        }
    }
}

#[test]
fn everyone_reads_what_was_done_with_what_is_theirs_in_every_form() {
    let house = House::open();
    let release = world(&house);
    who_sees_what(&house, &release);
    the_forms_agree(&house);
    pages_and_periods(&house);
    ledger_events::shows_no_more_than_the_lists(&house);
    processing_activities::is_of_those_who_control(&house);
    me::reads_an_accounting(&house, &release);
    what_was_erased_stands_with_its_place(&house);
    house.get("/v1/uses", Some(&house.participant())).expect(403);
    house.get("/v1/uses", None).expect(401);
}

fn who_sees_what(house: &House, release: &str) {
    let all = rows(house, "/v1/uses", &house.token("operator", &[]));
    let expected = ["count.answered", "count.answered", "count.answered", "release.built", "download.opened"];
    assert_eq!(kinds(&all), expected);
    let built = house.get(&format!("/v1/releases/{release}"), Some(&house.token("operator", &[]))).json();
    assert_eq!((&all[3]["persons"], &all[3]["seq"]), (&built["persons"], &built["seq"]));
    let download = &all[4];
    assert!(download["bytes_sent"].as_u64() > Some(8) && download["closed"].is_string(), "{download}");
    assert_eq!(
        (&download["actor_role"], &download["recipient"]),
        (&json!("researcher"), &json!("institute"))
    );
    for (role, scope, expected, told) in [
        ("board", &[][..], &[0, 1, 2, 3, 4][..], true),
        ("board", &HOSPITALS[..], &[0, 1, 2, 3, 4], true),
        ("board", &HOSPITALS[..1], &[0, 1, 3, 4], false),
        ("contributor", &HOSPITALS[1..], &[0, 2, 3, 4], false),
        ("researcher", &["weight"], &[0, 1, 3, 4], true),
        ("researcher", &["formula"], &[2], true),
        ("board", &["nowhere"], &[], false),
    ] {
        let seen = rows(house, "/v1/uses", &house.token(role, scope));
        let seqs: Vec<&Value> = seen.iter().map(|row| &row["seq"]).collect();
        assert_eq!(seqs, expected.iter().map(|n| &all[*n]["seq"]).collect::<Vec<_>>(), "{role} {scope:?}");
        for row in seen.iter().filter(|row| row["release"].is_string()) {
            assert_eq!(row["persons"].is_u64(), told, "{role} {scope:?}: a count over several hospitals");
        }
    }
    // A token's id is hexadecimal, and by chance without a letter.
    let said = all.iter().flat_map(|row| row.as_object().expect("a row"));
    for (_, value) in said.filter(|(key, _)| *key != "actor") {
        assert!(value.as_str().is_none_or(|t| t.parse::<i64>().is_err()), "no id of a person: {value}");
    }
}

fn the_forms_agree(house: &House) {
    let operator = house.token("operator", &[]);
    let json = rows(house, "/v1/uses", &operator);
    let accepted =
        house.call("GET", "/v1/uses", Some(&operator), &[("accept", "text/csv")], None).expect(200);
    assert_eq!(accepted.content_type, "text/csv; charset=utf-8; header=present");
    same(&accepted.text, &json);
    assert!(accepted.text.contains("\"'=HYPERLINK("), "a formula is text");
    let columns: BTreeSet<String> = table(&accepted.text).0.into_iter().collect();
    assert_eq!(columns, json[0].as_object().expect("a row").keys().cloned().collect());
    let lines = house.get("/v1/uses?format=ndjson", Some(&operator)).expect(200);
    let lines: Vec<Value> = lines.text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines, json);
    let bundle = house.get("/v1/uses?format=fhir", Some(&operator)).expect(200);
    assert_eq!(bundle.content_type, "application/fhir+json; fhirVersion=4.0");
    let events = house.get("/v1/uses?format=fhir-ndjson", Some(&operator)).expect(200).text;
    let bundled = bundle.json()["entry"].as_array().expect("entries").clone();
    assert_eq!(bundled.len(), json.len());
    for ((entry, line), row) in bundled.iter().zip(events.lines()).zip(&json) {
        assert_eq!(entry["resource"], serde_json::from_str::<Value>(line).expect("JSON"));
        assert_eq!(
            (&entry["resource"]["id"], &entry["resource"]["recorded"]),
            (&row["event_id"], &row["time"])
        );
    }
    let text = house.get("/v1/uses?format=text", Some(&operator)).expect(200).text;
    assert!(text.lines().count() == 2 * json.len() && text.contains("institute downloaded rel-"), "{text}");
    let no = house.get("/v1/processing-activities?format=fhir", Some(&operator)).expect(400).json();
    assert!(no["detail"].as_str().expect("text").contains("json, text, csv"), "{no}");
}

fn pages_and_periods(house: &House) {
    let operator = house.token("operator", &[]);
    let all = rows(house, "/v1/uses", &operator);
    for form in ["json", "csv", "fhir"] {
        let (mut path, mut seen) = (Some(format!("/v1/uses?format={form}&limit=1&recipient=institute")), 0);
        while let Some(at) = path {
            let page = house.get(&at, Some(&operator)).expect(200);
            seen += match form {
                "json" => page.json()["items"].as_array().expect("a list").len(),
                "csv" => table(&page.text).1.len(),
                _ => page.json()["entry"].as_array().map_or(0, Vec::len),
            };
            let link = page.headers.get("link").map(|l| l.to_str().expect("text").to_owned());
            path = link.map(|l| l.trim_start_matches('<').split('>').next().expect("a link").to_owned());
        }
        assert_eq!(seen, 4, "{form}");
    }
    for (query, expected) in [
        ("project=formula", 1),
        ("project=none", 0),
        ("recipient=elsewhere", 1),
        (&format!("contributor={}", HOSPITALS[1]), 4),
        ("from=2026-01-01", 5),
        ("to=2026-01-01", 0),
        (&format!("from={}", all[3]["time"].as_str().expect("text")), 2),
        (&format!("to={}", all[3]["time"].as_str().expect("text")), 3),
    ] {
        let found = rows(house, &format!("/v1/uses?{query}"), &operator);
        assert_eq!(found.len(), expected, "{query}");
    }
    for bad in
        ["from=yesterday", "cursor=x", "limit=0", "limit=501", "format=xml", "subject=1", "project=%00"]
    {
        house.get(&format!("/v1/uses?{bad}"), Some(&operator)).expect(400);
    }
}

/// What was said of the first count is destroyed, as an erasure does it.
fn what_was_erased_stands_with_its_place(house: &House) {
    let operator = house.token("operator", &[]);
    let before = rows(house, "/v1/uses", &operator);
    let db = rusqlite::Connection::open(house.app.folder.ledger()).expect("opens");
    let seq = before[0]["seq"].as_u64().expect("a number");
    let done = db.execute("UPDATE payload SET sealed = NULL, erased_by = 1 WHERE seq = ?1", [seq as i64]);
    assert_eq!(done.expect("done"), 1);
    let after = rows(house, "/v1/uses", &operator);
    assert_eq!(after[1..], before[1..]);
    let told: BTreeSet<&String> = after[0]
        .as_object()
        .expect("a row")
        .iter()
        .filter(|(_, value)| !value.is_null() && **value != json!([]))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["erased", "event_id", "kind", "seq", "time"]);
    assert_eq!((&after[0]["erased"], &after[0]["seq"]), (&json!(true), &before[0]["seq"]));
    assert_eq!(rows(house, "/v1/uses?project=weight", &operator).len(), 3, "whose it was is gone");
    let bundle = house.get("/v1/uses?format=fhir&limit=1", Some(&operator)).expect(200).json();
    assert!(bundle["entry"][0]["resource"]["meta"].is_null(), "{bundle}");
    let event = ledger_events::backfill(house, &operator, seq, 1).remove(0);
    assert_eq!((&event["erased"], &event["data"]), (&json!(true), &Value::Null));
}
