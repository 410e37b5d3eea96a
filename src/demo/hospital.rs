//! The hospitals' part: registered, given tokens, their contracts published, their exports and consents sent.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::screen::Screen;
use super::story::Story;
use super::{DemoError, Place};
use crate::flows::ingest::Told;
use crate::push::{self, Push, Server};
use crate::synth::{Hospital, Summary};

/// The contract of the first hospital: only named recipients, only health research.
const STRICT: &str = r#"// North General: health research by universities that we know.
permit (principal == Recipient::"meridian-university", action, resource)
when { context.purpose == "DUO:0000006" || context.broader_purposes.contains("DUO:0000006") };
"#;

/// The contract of the second: anybody, but nothing for profit.
const OPEN: &str = r#"// Southfield: any health research that is not for profit.
permit (principal, action, resource)
when { context.modifiers.contains("DUO:0000018") };
"#;

/// A hospital that takes part.
pub struct Taking {
    /// Its id, which is also its dataset's.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its data manager.
    pub manager: Client,
    /// Its data access committee.
    pub committee: Client,
}

/// Sets both hospitals up and takes their data in.
pub fn set_up(
    screen: &Screen,
    place: &Place,
    operator: &Client,
    made: &Summary,
    story: &mut Story,
) -> Result<Vec<Taking>, DemoError> {
    let step = screen.step("hospitals and their contracts", None);
    let mut hospitals = Vec::new();
    for (hospital, contract) in made.hospitals.iter().zip([STRICT, OPEN]) {
        hospitals.push(register(operator, hospital, contract, story)?);
    }
    step.done("registered, each with a committee and a contract of its own");
    for (hospital, synthetic) in hospitals.iter().zip(&made.hospitals) {
        send(screen, place, hospital, synthetic, story)?;
    }
    story.people_linked = story.people_received.saturating_sub(subjects(operator)?);
    let step = screen.step("consents on paper", None);
    for hospital in &hospitals {
        let folder = place.exports.join(&hospital.id);
        let said = hospital.manager.post(
            "/v1/consents/import",
            &json!({
                "contributor": hospital.id,
                "forms": std::fs::read_to_string(folder.join("forms.toml"))?,
                "list": std::fs::read_to_string(folder.join("consents.csv"))?,
            }),
        )?;
        story.consents += number(&said["summary"], "recorded");
    }
    step.done(&format!("{} consents in all; deny by default for everybody else", story.consents));
    Ok(hospitals)
}

/// How many people the exchange knows. No hospital is told which of its patients are also another's; what the operator
/// may know is a total.
fn subjects(operator: &Client) -> Result<u64, DemoError> {
    let metrics = operator.text("/metrics")?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("almoner_subjects "));
    let number = line.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| DemoError::broken("the metrics do not say how many people there are"))
}

fn register(
    operator: &Client,
    hospital: &Hospital,
    contract: &str,
    story: &mut Story,
) -> Result<Taking, DemoError> {
    operator.post("/v1/contributors", &json!({"id": hospital.id, "name": hospital.name, "linkage": true}))?;
    let manager = token(operator, "contributor", &[&hospital.id])?;
    let committee = token(operator, "board", &[&hospital.id])?;
    manager.put(&format!("/v1/contributors/{}/contract", hospital.id), &json!({"policy": contract}))?;
    manager.post(
        "/v1/legal-bases",
        &json!({
            "id": format!("{}-expert", hospital.id),
            "contributor": hospital.id,
            "kind": "expert_determination",
            "profile": "date-shifted",
            "by": "Dr. Example, statistician",
            "method": "risk of re-identification measured on the population; class sizes enforced at release",
            "scope": "all tables, controlled access",
            "document": "An expert determination would stand here.",
            "expires": "2028-12-31",
            "no_actual_knowledge": true,
        }),
    )?;
    story.cast(&format!("contributor {}", hospital.id), &manager);
    story.cast(&format!("board of {}", hospital.id), &committee);
    Ok(Taking { id: hospital.id.clone(), name: hospital.name.clone(), manager, committee })
}

/// A token for a role, limited to some institutions or projects.
pub fn token(operator: &Client, role: &str, scope: &[&str]) -> Result<Client, DemoError> {
    let said =
        operator.post("/v1/tokens", &json!({"role": role, "scope": scope, "label": "demo", "days": 30}))?;
    match said["token"].as_str() {
        Some(token) => Ok(operator.as_other(token)),
        None => Err(DemoError::broken("a token has no secret")),
    }
}

/// Pushes a hospital's export and waits until its dataset is published.
fn send(
    screen: &Screen,
    place: &Place,
    hospital: &Taking,
    synthetic: &Hospital,
    story: &mut Story,
) -> Result<(), DemoError> {
    let step = screen.step("an export arrives", None);
    let export = place.exports.join(&hospital.id).join("fhir");
    let push = Push {
        dir: export,
        server: Server::new(hospital.manager.url(), hospital.manager.token(), None)?,
        contributor: None,
        dataset: None,
        profile: Some("date-shifted".into()),
        incremental: false,
        told: Told::default(),
        patience: Duration::from_secs(30),
        state: place.exports.join("push-state"),
    };
    let said = push::push(&push, &step)?;
    let persons = number(&said, "persons");
    if persons != synthetic.persons {
        return Err(DemoError::broken(format!(
            "{} sent {} people and {persons} arrived",
            hospital.id, synthetic.persons
        )));
    }
    let lines = &said["lines"];
    story.lines.read += number(lines, "read");
    story.lines.mapped += number(lines, "mapped");
    story.lines.unmapped += number(lines, "unmapped");
    story.lines.quarantined += number(lines, "quarantined");
    story.people_received += persons;
    story.consents += number(&said["consents"], "recorded");
    step.done(&format!(
        "{}: {persons} people, {} lines, {} set aside unread",
        hospital.name,
        number(lines, "read"),
        number(lines, "quarantined")
    ));
    Ok(())
}

/// A number of an answer; 0 where there is none.
pub fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}
