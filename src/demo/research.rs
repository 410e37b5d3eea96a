//! The researcher's part, the committees', and the patient's: count, request, decide, release, verify, withdraw, again.

use std::fs;
use std::path::{Path, PathBuf};

use almoner_ledger::VerifierKey;
use almoner_ledger::package::verify_package;
use serde_json::{Value, json};

use super::client::Client;
use super::hospital::{Taking, number, token};
use super::screen::Screen;
use super::story::Story;
use super::{DemoError, Place};

/// Type 2 diabetes and metformin, at any time.
fn cohort() -> Value {
    json!({
        "name": "Type 2 diabetes treated with metformin",
        "all": [
            {"domain": "condition", "codes": ["SNOMED:44054006"]},
            {"domain": "drug", "codes": ["RxNorm:860975"]}
        ]
    })
}

const PROJECT: &str = "metformin-outcomes";
const RECIPIENT: &str = "meridian-university";
const TABLES: [&str; 6] = [
    "person",
    "condition_occurrence",
    "drug_exposure",
    "measurement",
    "observation_period",
    "visit_occurrence",
];

/// Tells it from the count to the second release.
pub fn tell(
    screen: &Screen,
    place: &Place,
    operator: &Client,
    hospitals: &[Taking],
    story: &mut Story,
) -> Result<(), DemoError> {
    let step = screen.step("a researcher counts", None);
    operator.post(
        "/v1/projects",
        &json!({"id": PROJECT, "title": "Outcomes under metformin", "recipient": RECIPIENT}),
    )?;
    let researcher = token(operator, "researcher", &[PROJECT])?;
    story.cast("researcher", &researcher);
    let datasets: Vec<&str> = hospitals.iter().map(|h| h.id.as_str()).collect();
    let count = researcher.post(
        "/v1/counts",
        &json!({
            "project": PROJECT, "purpose": "DUO:0000006", "modifiers": ["DUO:0000018"],
            "cohort": cohort(), "datasets": datasets,
        }),
    )?;
    story.count = shown(&count);
    step.done(&format!("{}; protected, and logged before it was shown", story.count));

    let first = ask(screen, &researcher, hospitals, &datasets, "metformin-1")?;
    let vkey = vkey(operator)?;
    let first = release(screen, place, &researcher, &first, &vkey, story)?;

    let patient = withdraw(screen, place, hospitals, &first, story)?;

    let again = ask(screen, &researcher, hospitals, &datasets, "metformin-2")?;
    let second = release(screen, place, &researcher, &again, &vkey, story)?;
    let uses = patient.get("/v1/me/uses")?.to_string();
    if uses.contains(&second) || !uses.contains(&first) {
        return Err(DemoError::broken("the patient's own page does not say what happened to their data"));
    }
    let checkpoint = operator.text("/ledger/checkpoint")?;
    story.ledger_entries = checkpoint.lines().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
    Ok(())
}

/// A count as it is shown: a number, or that there are too few to tell.
fn shown(count: &Value) -> String {
    match (count["about"].as_u64(), count["fewer_than"].as_u64()) {
        (Some(about), _) => format!("about {about}"),
        (_, Some(least)) => format!("fewer than {least}"),
        _ => "an unknown number".into(),
    }
}

/// Submits a request, has the committees approve it, and signs its terms. Gives its id.
fn ask(
    screen: &Screen,
    researcher: &Client,
    hospitals: &[Taking],
    datasets: &[&str],
    id: &str,
) -> Result<String, DemoError> {
    let step = screen.step("a request, and its decisions", None);
    researcher.post(
        "/v1/requests",
        &json!({
            "id": id, "project": PROJECT,
            "purpose": "DUO:0000006", "modifiers": ["DUO:0000018"],
            "cohort": cohort(), "datasets": datasets, "tables": TABLES,
            "tier": "controlled", "profile": "date-shifted",
            "lay_summary": "We want to learn how people with diabetes fare who take metformin.",
            "ethics": {"protocol": "2026-114", "board": "Meridian IRB", "expires": "2029-12-31"},
        }),
    )?;
    for hospital in hospitals {
        hospital.committee.post(
            &format!("/v1/requests/{id}/decisions"),
            &json!({"contributor": hospital.id, "decision": "approved", "reason": "within our consent and our rules"}),
        )?;
    }
    researcher.post(
        &format!("/v1/requests/{id}/terms"),
        &json!({"signatory": "Prof. Example", "document": "We will not try to identify anybody."}),
    )?;
    step.done("both committees approved; terms signed");
    Ok(id.to_owned())
}

fn vkey(operator: &Client) -> Result<VerifierKey, DemoError> {
    VerifierKey::parse(operator.text("/ledger/vkey")?.trim()).map_err(|e| DemoError::broken(e.to_string()))
}

/// Builds a release, downloads it, and verifies it without the server.
fn release(
    screen: &Screen,
    place: &Place,
    researcher: &Client,
    request: &str,
    vkey: &VerifierKey,
    story: &mut Story,
) -> Result<String, DemoError> {
    let step = screen.step("a release is built", None);
    let said = researcher.work("/v1/releases", &json!({"request": request}))?;
    let id = said["release"].as_str().unwrap_or_default().to_owned();
    let persons = number(&said, "persons");
    story.released.push(persons);
    step.done(&format!("{persons} people, class size {} or more", said["k"][1]));

    let step = screen.step("downloaded and verified", None);
    let folder = place.downloads.join(&id);
    let (files, bytes) = download(researcher, &id, &folder)?;
    let report = verify_package(&folder, Some(vkey));
    if !report.intact {
        return Err(DemoError::broken(format!(
            "release {id} does not verify: {}",
            report.findings.join("; ")
        )));
    }
    step.done(&format!(
        "{files} files, {:.1} MB; files, manifest and ledger entry agree",
        bytes as f64 / 1e6
    ));
    Ok(id)
}

fn download(researcher: &Client, release: &str, folder: &Path) -> Result<(u64, u64), DemoError> {
    let opened = researcher.post(&format!("/v1/releases/{release}/downloads"), &json!({}))?;
    let capability = opened["capability"].as_str().unwrap_or_default();
    let (mut files, mut bytes) = (0, 0);
    for file in opened["files"].as_array().into_iter().flatten() {
        let name = file["path"].as_str().unwrap_or_default();
        let safe = !name.is_empty() && !name.starts_with('/') && !name.split('/').any(|part| part == "..");
        if !safe {
            return Err(DemoError::broken("a release names a file outside its folder"));
        }
        let path: PathBuf = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let content = researcher.download(&format!("/v1/downloads/{capability}/files/{name}"))?;
        (files, bytes) = (files + 1, bytes + content.len() as u64);
        fs::write(path, content)?;
    }
    researcher.delete(&format!("/v1/downloads/{capability}"))?;
    Ok((files, bytes))
}

/// A patient who is in the release is invited by their hospital, sees so on their own page, and withdraws.
fn withdraw(
    screen: &Screen,
    place: &Place,
    hospitals: &[Taking],
    release: &str,
    story: &mut Story,
) -> Result<Client, DemoError> {
    let step = screen.step("a patient withdraws", None);
    let hospital = &hospitals[0];
    for record in candidates(&place.exports.join(&hospital.id))? {
        let invited = hospital.manager.post(
            "/v1/invitations",
            &json!({"contributor": hospital.id, "record_number": record, "days": 7}),
        )?;
        let redeemed =
            hospital.manager.post("/v1/invitations/redemptions", &json!({"code": invited["code"]}))?;
        let patient = hospital.manager.as_other(redeemed["token"].as_str().unwrap_or_default());
        let uses = patient.get("/v1/me/uses")?;
        if !uses.to_string().contains(release) {
            continue;
        }
        patient.post("/v1/me/withdrawals", &json!({"mode": "no_further_use"}))?;
        story.cast("participant who withdrew", &patient);
        step.done("saw the release by their own invitation, and ended further use");
        return Ok(patient);
    }
    Err(DemoError::broken("nobody in the release was found to withdraw"))
}

/// Record numbers of people whom the hospital knows to take metformin and to have agreed on paper.
fn candidates(export: &Path) -> Result<Vec<String>, DemoError> {
    let text = |name: &str| fs::read(export.join(name)).map(|b| String::from_utf8_lossy(&b).into_owned());
    let after = |line: &str, mark: &str| {
        line.split_once(mark).and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned)
    };
    let treated: std::collections::HashSet<String> = text("fhir/MedicationRequest.000.ndjson")?
        .lines()
        .filter(|line| line.contains("\"code\":\"860975\""))
        .filter_map(|line| after(line, "\"reference\":\"Patient/"))
        .collect();
    let agreed = text("consents.csv")?;
    Ok(text("fhir/Patient.000.ndjson")?
        .lines()
        .filter(|line| after(line, "\"id\":\"").is_some_and(|id| treated.contains(&id)))
        .filter_map(|line| after(line, "\"code\":\"MR\"").and(line.split_once("/records\",\"value\":\"")))
        .filter_map(|(_, rest)| rest.split('"').next().map(str::to_owned))
        .filter(|record| agreed.contains(&format!("\n{record},")))
        .take(20)
        .collect())
}
