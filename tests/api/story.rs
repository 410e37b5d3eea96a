//! The whole line over HTTP, on the small sample: two hospitals, consents, a project, a count, a request with its decisions,
//! a release, its download by ranges, what a board can check, a withdrawal, and a second release without the person.

use std::path::{Path, PathBuf};
use std::time::Duration;

use almoner::dataset::Mode;
use almoner::flows::Act;
use almoner::flows::ingest::{self, IngestRequest, Source, Told};
use almoner::jobs::Silent;
use almoner::system::SystemEntropy;
use almoner_control::replay::replay;
use almoner_ledger::VerifierKey;
use almoner_ledger::evidence::{Pack, verify_evidence};
use almoner_model::Digest;
use serde_json::{Value, json};

use crate::house::{Answer, House};

pub const HOSPITALS: [&str; 2] = ["north-general", "southfield-clinic"];

fn sample(hospital: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/two-hospitals-20").join(hospital).join("fhir")
}

/// The record numbers of a hospital's patients.
pub fn record_numbers(hospital: &str) -> Vec<String> {
    let text = std::fs::read_to_string(sample(hospital).join("Patient.000.ndjson")).expect("the sample");
    let patients =
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l.trim_start_matches('\u{feff}')).ok());
    let number = |patient: Value| {
        let all = patient["identifier"].as_array()?.clone();
        let record = all.iter().find(|i| i["type"]["coding"][0]["code"] == "MR")?;
        record["value"].as_str().map(str::to_owned)
    };
    patients.filter_map(number).collect()
}

/// Two hospitals with their data, and consents of everyone of whom there is a record number.
pub fn two_hospitals(house: &House) {
    let operator = house.token("operator", &[]);
    for id in HOSPITALS {
        house
            .post("/v1/contributors", &operator, &json!({"id": id, "name": id, "linkage": true}))
            .expect(201);
        let request = IngestRequest {
            source: Source::Path(sample(id)),
            contributor: id.parse().expect("slug"),
            dataset: None,
            profile: "date-shifted".into(),
            mode: Mode::Full,
            linkage: true,
            told: Told::default(),
            act: Act::operator(&SystemEntropy),
        };
        let summary = house.app.with_ingest(|ctx| ingest::run(ctx, request, &Silent)).expect("published");
        assert!(summary.persons > 10);
        let consents: Vec<Value> = record_numbers(id)
            .into_iter()
            .map(|number| {
                json!({"record_number": number, "document": "broad", "signed": "2026-01-15",
                    "rules": {"effect": "permit", "purposes": ["DUO:0000006"]}})
            })
            .collect();
        let manager = house.token("contributor", &[id]);
        let recorded = house.post("/v1/consents/batch", &manager, &json!({"consents": consents})).expect(201);
        assert_eq!(recorded.json()["recorded"].as_array().expect("a list").len(), consents.len());
    }
    let project = json!({"id": "weight", "title": "Weight and pressure", "recipient": "institute"});
    house.post("/v1/projects", &operator, &project).expect(201);
}

pub fn cohort() -> Value {
    json!({"name": "Measured", "all": [{"domain": "measurement"}]})
}

pub fn request(id: &str) -> Value {
    json!({
        "id": id, "project": "weight", "purpose": "DUO:0000006", "cohort": cohort(), "datasets": HOSPITALS,
        "tables": ["person", "measurement"], "tier": "controlled", "profile": "date-shifted",
        "lay_summary": "We want to learn how weight and blood pressure change together over the years.",
        "ethics": {"protocol": "2026-17", "board": "City", "expires": "2030-12-31"}
    })
}

/// What stands between a submitted request and a release.
pub fn clear_the_way(house: &House, id: &str) {
    for hospital in HOSPITALS {
        let board = house.token("board", &[hospital]);
        let word = json!({"decision": "approved", "reason": "in the interest of our patients"});
        house.post(&format!("/v1/requests/{id}/decisions"), &board, &word).expect(201);
        let manager = house.token("contributor", &[hospital]);
        let basis = json!({"id": format!("basis-{hospital}"), "kind": "expert_determination",
            "profile": "date-shifted", "by": "Expert", "method": "k-anonymity", "scope": "all",
            "document": "determination", "expires": "2030-12-31"});
        house.post("/v1/legal-bases", &manager, &basis).expect(201);
    }
    let researcher = house.token("researcher", &["weight"]);
    let terms = json!({"signatory": "The dean", "document": "No attempt to identify anyone."});
    let signed = house.post(&format!("/v1/requests/{id}/terms"), &researcher, &terms).expect(201).json();
    assert_eq!((&signed["status"], &signed["terms_signed"]), (&json!("approved"), &json!(true)));
}

/// Asks for a release and waits for its job.
pub fn release(house: &House, researcher: &str, id: &str) -> Value {
    let asked = house.post("/v1/releases", researcher, &json!({"request": id})).expect(202);
    let place = asked.headers["location"].to_str().expect("text").to_owned();
    for _ in 0..1200 {
        let job = house.get(&place, Some(researcher)).expect(200).json();
        if !matches!(job["state"].as_str(), Some("queued" | "running")) {
            return job;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the release took too long");
}

fn range(house: &House, path: &str, range: &str) -> Answer {
    house.call("GET", path, None, &[("range", range)], None)
}

#[test]
fn from_two_hospitals_to_a_release_and_one_without_who_withdrew() {
    let house = House::open();
    two_hospitals(&house);
    let researcher = house.token("researcher", &["weight"]);

    let count = json!({"project": "weight", "purpose": "DUO:0000006", "cohort": cohort()});
    let count = house.post("/v1/counts", &researcher, &count).expect(201).json();
    // About twenty people: near the edge below which they are too few to tell.
    let about = count["about"].as_u64();
    assert!(about.map_or(count["fewer_than"] == 25, |n| (15..=25).contains(&n)), "{count}");
    let listed = house.get("/v1/counts", Some(&researcher)).expect(200).json();
    assert_eq!(listed["items"][0]["seq"], count["seq"]);
    what_was_counted(&house, &count);

    house.post("/v1/requests", &researcher, &request("r-1")).expect(201);
    let early = house.post("/v1/requests/r-1/permits", &researcher, &json!({})).expect(201).json();
    assert_eq!(early["effect"], "deny");
    assert!(!early["reasons"].as_array().expect("a list").is_empty(), "{early}");
    let refused = release(&house, &researcher, "r-1");
    assert_eq!((&refused["state"], &refused["failure"]["kind"]), (&json!("failed"), &json!("denied")));
    clear_the_way(&house, "r-1");
    let now = house.post("/v1/requests/r-1/permits", &researcher, &json!({})).expect(201).json();
    assert_eq!(now["effect"], "permit", "{now}");
    let read = || house.get("/v1/requests/r-1", Some(&researcher)).expect(200).json()["permit"].clone();
    assert_eq!(read()["effect"], "permit");

    let job = release(&house, &researcher, "r-1");
    assert_eq!(job["state"], "done", "{job}");
    let id = job["result"]["release"].as_str().expect("a release").to_owned();
    let first = house.get(&format!("/v1/releases/{id}"), Some(&researcher)).expect(200).json();
    let manifest = house.get(&format!("/v1/releases/{id}/manifest"), Some(&researcher)).expect(200).json();
    assert_eq!(manifest["persons"], first["persons"]);
    assert!(manifest["risk"]["k_measured"].as_u64() >= Some(5), "{}", manifest["risk"]);
    download(&house, &researcher, &id);
    what_a_board_sees(&house, &id, &manifest);
    let members = evidence(&house, &id, first["persons"].as_u64().expect("a number"));

    // Somebody of the release withdraws on paper: the next download is refused, the next release is without them.
    withdraw_a_member(&house, &members);
    let stopped = house.post(&format!("/v1/releases/{id}/downloads"), &researcher, &json!({})).expect(403);
    assert!(stopped.text.contains("withdrew"), "{}", stopped.text);
    let job = release(&house, &researcher, "r-1");
    assert_eq!(job["state"], "done", "{job}");
    let second = job["result"]["release"].as_str().expect("a release");
    let later = evidence(&house, second, job["result"]["persons"].as_u64().expect("a number"));
    let left: Vec<&String> = members.iter().filter(|m| !later.contains(m)).collect();
    assert!(!left.is_empty(), "who withdrew is not in it");
    house.post(&format!("/v1/releases/{second}/downloads"), &researcher, &json!({})).expect(201);
    what_boards_decide_again(&house);
    let all = house.get("/v1/releases?limit=1", Some(&researcher)).expect(200).json();
    assert!(all["items"].as_array().is_some_and(|i| i.len() == 1) && all["next"].is_string(), "{all}");
}

/// Boards read what was counted and what was answered; hospitals what was counted of theirs.
fn what_was_counted(house: &House, count: &Value) {
    let read = |role: &str, scope: &[&str]| {
        let listed = house.get("/v1/counts", Some(&house.token(role, scope))).expect(200).json();
        listed["items"][0].clone()
    };
    let [north, both] = [&HOSPITALS[..1], &HOSPITALS[..]];
    for (role, scope, told) in [
        ("board", both, true),
        ("board", north, false),
        ("contributor", north, false),
        ("researcher", &["weight"][..], true),
    ] {
        let seen = read(role, scope);
        assert_eq!(seen["cohort_definition"], cohort(), "{role}");
        for part in ["about", "fewer_than"] {
            assert_eq!(seen[part], if told { count[part].clone() } else { Value::Null }, "{role} {part}");
        }
    }
    assert_eq!(read("board", &["elsewhere"]), Value::Null);
}

/// Boards read who was left out in full and when the recipient took the data; the recipient is not told of few.
fn what_a_board_sees(house: &House, id: &str, manifest: &Value) {
    let path = format!("/v1/releases/{id}/gate");
    house.get(&path, Some(&house.token("board", &[HOSPITALS[0]]))).expect(403);
    let gate = house.get(&path, Some(&house.token("board", &HOSPITALS))).expect(200).json();
    let left_out = gate["report"]["suppressed"].as_u64().expect("a number");
    let told = &manifest["risk"]["persons_suppressed"];
    assert_eq!(*told, if (1..11).contains(&left_out) { Value::Null } else { left_out.into() });
    assert!(gate["rows_left_out"]["person"] == left_out && manifest["risk"]["report"]["before"].is_null());
    let board = house.token("board", &[HOSPITALS[0]]);
    let downloads = house.get(&format!("/v1/releases/{id}/downloads"), Some(&board)).expect(200).json();
    let first = &downloads["items"][0];
    assert!(first["bytes_sent"].as_u64() > Some(8) && first["closed"].is_string(), "{downloads}");
}

/// Opens, fetches by ranges, and closes.
fn download(house: &House, researcher: &str, id: &str) {
    let open = house.post(&format!("/v1/releases/{id}/downloads"), researcher, &json!({})).expect(201).json();
    let capability = open["capability"].as_str().expect("a capability");
    let files = open["files"].as_array().expect("a list");
    let person = files.iter().find(|f| f["path"] == "tables/person.parquet").expect("listed");
    let (bytes, sha256) = (person["bytes"].as_u64().expect("a number"), &person["sha256"]);
    let path = format!("/v1/downloads/{capability}/files/tables/person.parquet");
    let head = house.call("HEAD", &path, None, &[], None).expect(200);
    assert_eq!(head.headers["content-length"], bytes.to_string());
    assert_eq!(head.headers["etag"], format!("\"{}\"", sha256.as_str().expect("text")));
    let magic = range(house, &path, "bytes=0-3").expect(206);
    assert_eq!(
        (magic.text.as_str(), &magic.headers["content-range"]),
        ("PAR1", &format!("bytes 0-3/{bytes}").parse().expect("a header"))
    );
    assert_eq!(range(house, &path, "bytes=-4").expect(206).text, "PAR1");
    range(house, &path, &format!("bytes={bytes}-")).expect(416);
    let etag = head.headers["etag"].to_str().expect("text");
    house.call("GET", &path, None, &[("if-none-match", etag)], None).expect(304);
    let sums = house.get(&format!("/v1/downloads/{capability}/files/SHA256SUMS"), None).expect(200);
    assert!(sums.text.contains(sha256.as_str().expect("text")));
    let release = house.get(&format!("/v1/downloads/{capability}/files/release.json"), None).expect(200);
    let listed = files.iter().find(|f| f["path"] == "release.json").expect("listed");
    assert_eq!(listed["sha256"], Digest::of(release.text.as_bytes()).to_string());
    for other in ["tables/none.parquet", "..%2Fmembers.enc", "%2Fetc%2Fpasswd"] {
        house.get(&format!("/v1/downloads/{capability}/files/{other}"), None).expect(404);
    }
    let sent = 8 + (sums.text.len() + release.text.len()) as u64;
    let close = format!("/v1/downloads/{capability}");
    let closed = house.call("DELETE", &close, Some(researcher), &[], None).expect(200).json();
    assert_eq!(closed["bytes_sent"], sent);
    house.get(&path, None).expect(403);
    house.get("/v1/downloads/guess/files/release.json", None).expect(403);
}

/// What a board of all hospitals can check offline; gives the subjects.
fn evidence(house: &House, id: &str, persons: u64) -> Vec<String> {
    let path = format!("/v1/releases/{id}/evidence");
    house.get(&path, Some(&house.token("board", &[HOSPITALS[0]]))).expect(403);
    house.get(&path, Some(&house.token("board", &["elsewhere"]))).expect(404);
    let pack = house.get(&path, Some(&house.token("board", &[]))).expect(200);
    let pack: Pack = serde_json::from_str(&pack.text).expect("a pack");
    let vkey = house.get("/ledger/vkey", None).expect(200);
    let key = VerifierKey::parse(vkey.text.trim()).expect("a key");
    let report = verify_evidence(&pack, &key, None);
    assert!(report.intact, "{:?}", report.findings);
    assert_eq!(report.persons, persons);
    pack.members.into_iter().map(|m| m.subject).collect()
}

/// From what is opened to a board and the public log every decision follows; to a board of one hospital nothing is opened of
/// what was decided on both hospitals' data.
fn what_boards_decide_again(house: &House) {
    let opened = |scope: &[&str]| {
        let path = "/v1/ledger/payloads";
        let bundle = house.get(path, Some(&house.token("board", scope))).expect(200).text;
        let signed = house.app.store.checkpoint().checkpoint;
        let leaves = house.app.store.leaves(0..signed.size).expect("reads");
        let report = replay(&signed, &mut (0..).zip(leaves), bundle.as_bytes())
            .expect("a bundle of the present format");
        assert!(report.intact, "{:?} {:?}", report.findings, report.verdicts);
        report
    };
    for scope in [&[][..], &HOSPITALS[..]] {
        let whole = opened(scope);
        let made = |kind: &str| whole.decisions.get(kind).map_or(0, |t| t.equal);
        let all =
            [made("count.answered"), made("permit.decided"), made("release.built"), made("download.opened")];
        assert!(all.iter().all(|n| *n > 0) && all[2] == 2 && whole.closed == 0, "{all:?}");
    }
    let part = opened(&HOSPITALS[..1]);
    assert!(part.verdicts.is_empty() && part.closed > 5 && part.persons == 0, "{part:?}");
    house.get("/v1/ledger/payloads", Some(&house.token("board", &["elsewhere"]))).expect(404);
}

fn withdraw_a_member(house: &House, members: &[String]) {
    for hospital in HOSPITALS {
        let contributor = hospital.parse().expect("slug");
        for number in record_numbers(hospital) {
            let record = almoner_model::SourcePatientId::new(number.clone());
            let subject = house.app.registry.find_record(&contributor, &record).expect("reads");
            if subject.is_some_and(|s| members.contains(&s.to_string())) {
                // Through every hospital that has them: each one's consent stands by itself.
                for other in HOSPITALS {
                    let manager = house.token("contributor", &[other]);
                    let known = record_numbers(other).into_iter().find(|n| {
                        let record = almoner_model::SourcePatientId::new(n.clone());
                        house.app.registry.find_record(&other.parse().expect("slug"), &record).expect("reads")
                            == subject
                    });
                    let Some(number) = known else { continue };
                    let body = json!({"record_number": number, "mode": "no_further_use"});
                    let receipt = house.post("/v1/withdrawals", &manager, &body).expect(201).json();
                    assert!(receipt["seq"].is_u64(), "{receipt}");
                }
                return;
            }
        }
    }
    panic!("no member is known by a record number");
}
