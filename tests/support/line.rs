//! From a published dataset to a downloaded release, over HTTP as its users go, and everything that can be read on the way.
//! Answers are kept by the [`Server`] and searched with the rest.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::run::{Program, Server, arg};

/// What came of asking for a release.
#[derive(Debug)]
pub enum Outcome {
    /// It was built; its people, and where its files were downloaded to.
    Released(u64),
    /// The gate refused, with what it measured.
    Refused(Value),
}

/// Every canonical table that a person can permit; notes never leave.
const TABLES: [&str; 11] = [
    "person",
    "observation_period",
    "visit_occurrence",
    "condition_occurrence",
    "drug_exposure",
    "procedure_occurrence",
    "device_exposure",
    "measurement",
    "observation",
    "death",
    "specimen",
];

/// Everyone with one of `record_numbers` at `contributor` consents; a project asks for everyone's data under `profile`; all
/// who must agree do. Downloads what is released to `to`.
///
/// # Panics
/// If anything but the gate says no.
pub fn whole_line(
    program: &Program,
    contributor: &str,
    profile: &str,
    record_numbers: &[String],
    to: &Path,
) -> Outcome {
    consents(program, contributor, record_numbers, to);
    let token = |role: &str, scope: &str| {
        let made = program.must(&["token", "create", "--role", role, "--for", scope]);
        made["token"].as_str().expect("a token").to_owned()
    };
    let operator = program.must(&["token", "create", "--role", "operator"]);
    let operator = operator["token"].as_str().expect("a token").to_owned();
    let (manager, board) = (token("contributor", contributor), token("board", contributor));
    let researcher = token("researcher", "everyone");
    let server = program.serve();
    let post = |path: &str, token: &str, body: &Value| {
        let (status, answer) = server.call("POST", path, Some(token), Some(body));
        assert!((200..300).contains(&status), "{path}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice::<Value>(&answer).unwrap_or_default()
    };
    let cohort = json!({"name": "Everyone", "all": [{"domain": "condition"}]});
    post(
        "/v1/projects",
        &operator,
        &json!({"id": "everyone", "title": "Everyone", "recipient": "institute"}),
    );
    post(
        "/v1/counts",
        &researcher,
        &json!({"project": "everyone", "purpose": "DUO:0000006", "cohort": cohort}),
    );
    let request = json!({
        "id": "r-1", "project": "everyone", "purpose": "DUO:0000006", "cohort": cohort, "datasets": [contributor],
        "tables": TABLES, "tier": "controlled", "profile": profile,
        "lay_summary": "We want to learn how people fare over the years with the illnesses that they have.",
        "ethics": {"protocol": "2026-17", "board": "City", "expires": "2030-12-31"}
    });
    post("/v1/requests", &researcher, &request);
    let word = json!({"decision": "approved", "reason": "in the interest of our patients"});
    post("/v1/requests/r-1/decisions", &board, &word);
    post("/v1/legal-bases", &manager, &legal_basis(profile));
    let terms = json!({"signatory": "The dean", "document": "No attempt to identify anyone."});
    post("/v1/requests/r-1/terms", &researcher, &terms);
    let job = finished(&server, &researcher, &post("/v1/releases", &researcher, &json!({"request": "r-1"})));
    let outcome = match job["state"].as_str() {
        Some("done") => {
            let release = job["result"]["release"].as_str().expect("a release").to_owned();
            download(&server, &researcher, &release, to);
            for (path, token) in [
                (format!("/v1/releases/{release}/evidence"), &board),
                (format!("/v1/releases/{release}/manifest"), &board),
                (format!("/v1/releases/{release}/recalls"), &researcher),
            ] {
                assert_eq!(server.call("GET", &path, Some(token), None).0, 200, "{path}");
            }
            Outcome::Released(job["result"]["persons"].as_u64().expect("a number"))
        }
        _ => {
            assert_eq!(job["failure"]["kind"], "refused", "{job}");
            Outcome::Refused(job["failure"]["measured"].clone())
        }
    };
    read_everything(&server, contributor, &[&operator, &manager, &board, &researcher]);
    outcome
}

/// The legal basis that releases under a profile rest on.
fn legal_basis(profile: &str) -> Value {
    let (kind, attested) = match profile {
        "safe-harbor" => ("safe_harbor_attestation", true),
        "limited" => ("data_use_agreement", false),
        _ => ("expert_determination", false),
    };
    json!({"id": "basis-1", "kind": kind, "profile": profile, "by": "The privacy officer", "method": "as agreed",
        "scope": "all", "document": "the document", "expires": "2030-12-31", "no_actual_knowledge": attested,
        "recipient": "institute"})
}

fn consents(program: &Program, contributor: &str, record_numbers: &[String], to: &Path) {
    fs::create_dir_all(to).expect("made");
    let (list, forms) = (to.join("consents.csv"), to.join("forms.toml"));
    let evidence = "0".repeat(64);
    let mut rows = String::from("record_number,form_version,date,evidence_digest\n");
    for number in record_numbers {
        rows += &format!("\"{number}\",1,2024-05-06,{evidence}\n");
    }
    fs::write(&list, rows).expect("written");
    let form = "[[form]]\nid = \"broad\"\nversion = \"1\"\ntitle = \"Health research\"\ncovers = \"contributor\"\n\
        years_valid = 30\n[form.rules]\neffect = \"permit\"\npurposes = [\"DUO:0000006\"]\n";
    fs::write(&forms, form).expect("written");
    let args = ["consent", "import", arg(&list), "--contributor", contributor, "--forms", arg(&forms)];
    let said = program.must(&args);
    assert_eq!(said["recorded"], record_numbers.len() as u64, "{said}");
    // They hold record numbers, and are no part of what is searched.
    fs::remove_file(list).and_then(|()| fs::remove_file(forms)).expect("removed");
}

fn finished(server: &Server, token: &str, job: &Value) -> Value {
    let path = format!("/v1/jobs/{}", job["id"].as_str().expect("a job"));
    for _ in 0..3_000 {
        let (status, answer) = server.call("GET", &path, Some(token), None);
        assert_eq!(status, 200);
        let job: Value = serde_json::from_slice(&answer).expect("JSON");
        if !matches!(job["state"].as_str(), Some("queued" | "running")) {
            return job;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the release took too long");
}

fn download(server: &Server, researcher: &str, release: &str, to: &Path) {
    let path = format!("/v1/releases/{release}/downloads");
    let (status, answer) = server.call("POST", &path, Some(researcher), Some(&json!({})));
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    let open: Value = serde_json::from_slice(&answer).expect("JSON");
    let capability = open["capability"].as_str().expect("a capability");
    for file in open["files"].as_array().expect("a list") {
        let name = file["path"].as_str().expect("a path");
        let (status, bytes) =
            server.call("GET", &format!("/v1/downloads/{capability}/files/{name}"), None, None);
        assert_eq!(status, 200, "{name}");
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

/// Reads every list and description there is, and the reports of the dataset, as everyone.
fn read_everything(server: &Server, dataset: &str, tokens: &[&String]) {
    let (_, document) = server.call("GET", "/openapi.json", None, None);
    let document: Value = serde_json::from_slice(&document).expect("JSON");
    let mut read = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let path = path.replace("/datasets/{id}", &format!("/datasets/{dataset}"));
        let path = path
            .replace("/versions/{version}", "/versions/1")
            .replace("/contributors/{id}", "/contributors/real");
        if operations.get("get").is_none() || path.contains('{') || path.ends_with("/events") {
            continue;
        }
        for token in tokens {
            read += u64::from(server.call("GET", &path, Some(token), None).0 == 200);
        }
    }
    assert!(read > 30, "{read} answers");
}
