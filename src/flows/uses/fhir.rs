//! Uses as FHIR R4 `AuditEvent`s in the shape of IHE Basic Audit Log Patterns (BALP 1.1).
//!
//! | use | profile | why |
//! |---|---|---|
//! | `count.answered` | `IHE.BasicAudit.Query` | somebody searched, and no one person is the subject |
//! | `release.built` | `IHE.BasicAudit.Create` | a package was made at somebody's call; nobody has it yet |
//! | `download.opened` | `IHE.BasicAudit.Read` | the recipient reads the package |
//! | a disclosure about one person | `IHE.BasicAudit.PrivacyDisclosure.Source` | for that person's own page only |
//!
//! What the ledger does not hold is said to be unknown and not made up: the network address of a client has a
//! `data-absent-reason`. `entity[query].query` names the cohort definition by its digest, since the definition is a document.
//! People are named by nothing but the participant's own token id, as a logical reference without an address. An erased
//! entry claims no profile, because who acted is what was erased.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use super::Use;
use super::disclosures::Disclosure;

/// A single resource or a bundle.
pub const MEDIA_TYPE: &str = "application/fhir+json; fhirVersion=4.0";
/// One resource a line.
pub const NDJSON_MEDIA_TYPE: &str = "application/fhir+ndjson";

const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit";
const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ENTITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const DUO: &str = "http://purl.obolibrary.org/obo/duo.owl";
const SNOMED: &str = "http://snomed.info/sct";
const ABSENT: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";

#[derive(Clone, PartialEq, Debug, Serialize)]
struct Coding {
    system: &'static str,
    code: String,
    display: String,
}

fn coding(system: &'static str, code: &str, display: &str) -> Coding {
    Coding { system, code: code.to_owned(), display: display.to_owned() }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct Concept {
    coding: Vec<Coding>,
}

fn concept(system: &'static str, code: &str, display: &str) -> Concept {
    Concept { coding: vec![coding(system, code, display)] }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Agent {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Concept>,
    who: Value,
    requestor: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    purpose_of_use: Vec<Concept>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct Source {
    site: String,
    observer: Value,
    r#type: Vec<Coding>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
struct Entity {
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Coding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Coding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<Value>,
}

/// A FHIR R4 `AuditEvent`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    resource_type: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Value>,
    r#type: Coding,
    subtype: Vec<Coding>,
    action: &'static str,
    recorded: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome_desc: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    purpose_of_event: Vec<Concept>,
    agent: Vec<Agent>,
    source: Source,
    entity: Vec<Entity>,
}

/// The server, named by the origin of its ledger.
fn server(origin: &str) -> Value {
    json!({"type": "Device", "identifier": {"value": origin}, "display": format!("Almoner, ledger {origin}")})
}

fn named(kind: &str, id: &str) -> Value {
    json!({"type": kind, "identifier": {"value": id}, "display": id})
}

fn domain(origin: &str) -> Value {
    json!({"address": origin.split('/').next().unwrap_or(origin), "type": "1"})
}

fn unknown() -> Value {
    json!({"extension": [{"url": ABSENT, "valueCode": "unknown"}]})
}

fn agent(kind: Concept, who: Value, requestor: bool, network: Option<Value>) -> Agent {
    Agent { r#type: Some(kind), who, requestor, network, purpose_of_use: Vec::new() }
}

fn source_role() -> Concept {
    concept(DCM, "110153", "Source Role ID")
}

fn destination_role() -> Concept {
    concept(DCM, "110152", "Destination Role ID")
}

fn source(origin: &str) -> Source {
    let kind = vec![coding(SOURCE_TYPE, "4", "Application Server")];
    Source { site: origin.to_owned(), observer: server(origin), r#type: kind }
}

fn detail(name: &str, text: &str) -> Value {
    json!({"type": name, "valueString": text})
}

/// Something that is part of the event, by its id; of a type that no slice of the profiles takes.
fn other(what: Value, description: String) -> Entity {
    let kind = Some(coding(ENTITY_TYPE, "4", "Other"));
    Entity { what: Some(what), r#type: kind, description: Some(description), ..Entity::default() }
}

fn entry_of(origin: &str, seq: u64) -> Entity {
    let what = json!({"identifier": {"system": format!("https://{origin}"), "value": seq.to_string()}});
    other(what, format!("Entry {seq} of the ledger"))
}

fn purposes(purpose: Option<&str>, label: Option<&str>) -> Vec<Concept> {
    let mut all = vec![concept(REASON, "HRESCH", "healthcare research")];
    all.extend(purpose.map(|id| concept(DUO, id, label.unwrap_or(id))));
    all
}

/// What a kind of use is in FHIR: profile, interaction, action, and the roles of client and server.
fn pattern(kind: &str) -> (&'static str, Coding, &'static str, [Concept; 2]) {
    let of = |code| coding(INTERACTION, code, code);
    match kind {
        "count.answered" => ("Query", of("search"), "E", [source_role(), destination_role()]),
        "release.built" => ("Create", of("create"), "C", [source_role(), destination_role()]),
        _ => ("Read", of("read"), "R", [destination_role(), source_role()]),
    }
}

/// A use as an `AuditEvent` of the server whose ledger is named `origin`.
pub fn audit_event(origin: &str, used: &Use) -> AuditEvent {
    let (profile, subtype, action, [client, served]) = pattern(&used.kind);
    let purpose = purposes(used.purpose.as_deref(), used.purpose_label.as_deref());
    let known = !used.erased;
    let actor = match (&used.actor_role, &used.actor) {
        (Some(role), Some(id)) => {
            json!({"type": "Device", "identifier": {"value": id}, "display": format!("{role} {id}")})
        }
        _ => json!({"display": "erased"}),
    };
    let mut agents = vec![
        agent(client, actor, false, Some(unknown())),
        agent(served, server(origin), false, Some(domain(origin))),
    ];
    if let Some(recipient) = &used.recipient {
        let role = match profile {
            "Create" => concept(PARTICIPATION, "AUT", "author (originator)"),
            _ => concept(PARTICIPATION, "IRCP", "information recipient"),
        };
        let user = agent(role, named("Organization", recipient), true, None);
        agents.push(Agent { purpose_of_use: purpose.clone(), ..user });
    }
    let mut entities = if known { vec![subject_of(used)] } else { Vec::new() };
    entities.extend(used.project.as_deref().map(|project| {
        other(
            named("ResearchStudy", project),
            format!("Project: {}", used.title.as_deref().unwrap_or(project)),
        )
    }));
    entities
        .extend(used.datasets.iter().map(|id| other(named("Group", id), format!("Dataset version {id}"))));
    entities.push(entry_of(origin, used.seq));
    let mut subtypes = vec![subtype];
    subtypes.extend(
        (profile == "Read").then(|| coding(LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")),
    );
    AuditEvent {
        resource_type: "AuditEvent",
        id: used.event_id.clone(),
        meta: known.then(|| json!({"profile": [format!("{PROFILES}.{profile}")]})),
        r#type: coding(EVENT_TYPE, "rest", "Restful Operation"),
        subtype: subtypes,
        action,
        recorded: used.time.clone(),
        outcome: "0",
        outcome_desc: used.erased.then(|| "What was recorded about this was erased.".to_owned()),
        purpose_of_event: if known { purpose } else { Vec::new() },
        agent: agents,
        source: source(origin),
        entity: entities,
    }
}

/// What was searched, made or read.
fn subject_of(used: &Use) -> Entity {
    let kind = Some(coding(ENTITY_TYPE, "2", "System Object"));
    if let (None, Some(cohort)) = (&used.release, &used.cohort) {
        let project = used.project.as_deref().unwrap_or_default();
        let query = format!("POST /v1/counts project={project}&cohort=sha256:{cohort}");
        return Entity {
            r#type: kind,
            role: Some(coding(ENTITY_ROLE, "24", "Query")),
            description: Some(query.clone()),
            query: Some(STANDARD.encode(query)),
            ..Entity::default()
        };
    }
    let release = used.release.as_deref().unwrap_or_default();
    let mut details = vec![detail("tables", &used.tables.join(" "))];
    details.extend(used.profile.as_deref().map(|p| detail("de-identification profile", p)));
    details.extend(used.persons.map(|n| detail("persons", &n.to_string())));
    details.extend(used.bytes_sent.map(|n| detail("bytes sent", &n.to_string())));
    Entity {
        what: Some(named("DocumentReference", release)),
        r#type: kind,
        role: Some(coding(ENTITY_ROLE, "3", "Report")),
        description: Some("Release of de-identified data".to_owned()),
        detail: details,
        ..Entity::default()
    }
}

/// A disclosure about one person, who is named by the id of their own token, as an `AuditEvent` of their hospital.
pub fn disclosure_event(origin: &str, person: &str, told: &Disclosure) -> AuditEvent {
    let purpose = purposes(Some(&told.purpose), Some(&told.purpose_label));
    let recipient = named("Organization", &told.recipient);
    let custodian = json!({"type": "Organization", "identifier": {"value": told.hospital}, "display": told.hospital_name});
    let patient = json!({"type": "Patient", "identifier": {"value": person}});
    let mut to = agent(destination_role(), recipient, true, Some(unknown()));
    to.purpose_of_use.clone_from(&purpose);
    let mut data = other(named("DocumentReference", &told.release), told.description.clone());
    data.r#type = Some(coding(ENTITY_TYPE, "2", "System Object"));
    data.role = Some(coding(ENTITY_ROLE, "3", "Report"));
    data.detail = vec![
        detail("purpose", &told.purpose_statement),
        detail("45 CFR 164.528", &told.accounting),
        detail("legal basis", told.legal_basis.as_deref().unwrap_or("unknown")),
    ];
    AuditEvent {
        resource_type: "AuditEvent",
        id: told.event_id.clone(),
        meta: Some(json!({"profile": [format!("{PROFILES}.PrivacyDisclosure.Source")]})),
        r#type: coding(DCM, "110106", "Export"),
        subtype: vec![coding(LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")],
        action: "R",
        recorded: told.time.clone(),
        outcome: "0",
        outcome_desc: None,
        purpose_of_event: purpose,
        agent: vec![
            agent(source_role(), server(origin), false, Some(domain(origin))),
            to,
            agent(concept(SNOMED, "159541003", "Record keeping/library clerk"), custodian, false, None),
        ],
        source: source(origin),
        entity: vec![
            Entity {
                what: Some(patient),
                r#type: Some(coding(ENTITY_TYPE, "1", "Person")),
                role: Some(coding(ENTITY_ROLE, "1", "Patient")),
                ..Entity::default()
            },
            data,
            entry_of(origin, told.seq),
        ],
    }
}

/// A `Bundle` of type `collection`, with a link to the next page where there is one.
pub fn bundle(events: &[AuditEvent], next: Option<&str>) -> Value {
    let entries: Vec<Value> = events
        .iter()
        .map(|event| json!({"fullUrl": format!("urn:uuid:{}", event.id), "resource": event}))
        .collect();
    let mut bundle = json!({"resourceType": "Bundle", "type": "collection"});
    if let Some(next) = next {
        bundle["link"] = json!([{"relation": "next", "url": next}]);
    }
    // An empty array is no FHIR.
    if !entries.is_empty() {
        bundle["entry"] = Value::Array(entries);
    }
    bundle
}

/// Events one a line.
pub fn ndjson(events: &[AuditEvent]) -> String {
    let line = |event: &AuditEvent| serde_json::to_string(event).map(|text| text + "\n").unwrap_or_default();
    events.iter().map(line).collect()
}

#[cfg(test)]
#[path = "fhir_tests.rs"]
mod tests;
