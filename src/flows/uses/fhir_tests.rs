//! The AuditEvents against what FHIR R4 and the BALP profiles ask for: a reader that knows the required elements, their
//! cardinalities and the slices, and refuses members it does not know.

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// `AuditEvent` of FHIR R4 with the cardinalities of the base resource. Members that we never write are not here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct R4 {
    resource_type: String,
    id: String,
    meta: Option<Meta>,
    r#type: R4Coding,
    subtype: Vec<R4Coding>,
    action: String,
    recorded: String,
    outcome: String,
    outcome_desc: Option<String>,
    #[serde(default)]
    purpose_of_event: Vec<R4Concept>,
    agent: Vec<R4Agent>,
    source: R4Source,
    entity: Vec<R4Entity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    profile: Vec<String>,
}

#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct R4Coding {
    system: String,
    code: String,
    display: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct R4Concept {
    coding: Vec<R4Coding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct R4Agent {
    r#type: Option<R4Concept>,
    who: Reference,
    requestor: bool,
    network: Option<Network>,
    #[serde(default)]
    purpose_of_use: Vec<R4Concept>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Reference {
    r#type: Option<String>,
    identifier: Option<Identifier>,
    display: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Identifier {
    system: Option<String>,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    address: Option<String>,
    r#type: Option<String>,
    #[serde(default)]
    extension: Vec<Absent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Absent {
    url: String,
    value_code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct R4Source {
    site: String,
    observer: Reference,
    r#type: Vec<R4Coding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct R4Entity {
    what: Option<Reference>,
    r#type: R4Coding,
    role: Option<R4Coding>,
    #[serde(rename = "description")]
    _description: Option<String>,
    query: Option<String>,
    #[serde(default)]
    detail: Vec<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Detail {
    #[serde(rename = "type")]
    kind: String,
    value_string: String,
}

impl R4 {
    fn agents(&self, code: &str) -> Vec<&R4Agent> {
        let is = |a: &&R4Agent| a.r#type.iter().flat_map(|t| &t.coding).any(|c| c.code == code);
        self.agent.iter().filter(is).collect()
    }

    fn entities(&self, kind: &str) -> Vec<&R4Entity> {
        self.entity.iter().filter(|e| e.r#type.code == kind).collect()
    }

    fn has_subtype(&self, code: &str) -> bool {
        self.subtype.iter().any(|s| s.code == code)
    }
}

/// What holds of every AuditEvent of FHIR R4, and of all that are made here.
fn base(event: &AuditEvent) -> R4 {
    let value = serde_json::to_value(event).expect("JSON");
    no_empty_members(&value);
    let read: R4 = serde_json::from_value(value).expect("an AuditEvent of FHIR R4");
    assert_eq!(read.resource_type, "AuditEvent");
    let of_id = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    assert!((1..=64).contains(&read.id.len()) && read.id.chars().all(of_id), "{}", read.id);
    assert!(almoner_model::Timestamp::parse(&read.recorded).is_some(), "an instant has a time zone");
    assert!(["C", "R", "U", "D", "E"].contains(&read.action.as_str()));
    assert!(["0", "4", "8", "12"].contains(&read.outcome.as_str()));
    assert!(!read.r#type.system.is_empty() && !read.source.site.is_empty());
    assert_eq!(read.source.r#type[0].code, "4");
    assert!(read.agent.iter().all(|a| a.who.identifier.is_some() || a.who.display.is_some()));
    for network in read.agent.iter().filter_map(|a| a.network.as_ref()) {
        match &network.address {
            Some(_) => assert_eq!(network.r#type.as_deref(), Some("1")),
            None => {
                assert!(network.extension[0].url == ABSENT && network.extension[0].value_code == "unknown")
            }
        }
    }
    for detail in read.entity.iter().flat_map(|e| &e.detail) {
        assert!(!detail.kind.is_empty() && !detail.value_string.is_empty(), "{}", detail.kind);
    }
    for purpose in read.purpose_of_event.iter().chain(read.agent.iter().flat_map(|a| &a.purpose_of_use)) {
        assert_eq!(purpose.coding.len(), 1);
    }
    read
}

/// FHIR JSON: arrays, objects and texts are not empty, and nothing is null.
fn no_empty_members(value: &Value) {
    match value {
        Value::Null => panic!("a null"),
        Value::String(text) => assert!(!text.is_empty() && text.trim() == text, "{text:?}"),
        Value::Array(all) => {
            assert!(!all.is_empty());
            all.iter().for_each(no_empty_members);
        }
        Value::Object(all) => {
            assert!(!all.is_empty());
            all.values().for_each(no_empty_members);
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What `Query`, `Create` and `Read` ask for: type, subtype, action, the slices `client`, `server` and `user`.
fn restful(event: &AuditEvent, profile: &str, interaction: &str, action: &str, client: &str) -> R4 {
    let read = base(event);
    let meta = read.meta.as_ref().expect("a profile");
    assert_eq!(meta.profile, [format!("{PROFILES}.{profile}")]);
    assert_eq!((read.r#type.system.as_str(), read.r#type.code.as_str()), (EVENT_TYPE, "rest"));
    assert!(read.has_subtype(interaction));
    assert_eq!((read.action.as_str(), read.outcome.as_str()), (action, "0"));
    let server = if client == "110153" { "110152" } else { "110153" };
    let (clients, servers) = (read.agents(client), read.agents(server));
    assert!(clients.len() == 1 && servers.len() == 1);
    assert!(clients[0].network.is_some() && servers[0].network.is_some(), "network 1..1");
    assert_eq!(servers[0].who, read.source.observer);
    let user = read.agents(if profile == "Create" { "AUT" } else { "IRCP" });
    assert!(user.len() == 1 && user[0].requestor && user[0].network.is_none(), "users are no devices");
    read
}

fn used(kind: &str) -> Use {
    Use {
        seq: 7,
        time: "2026-11-22T09:30:00.000Z".into(),
        event_id: "0d1f6f0e-3a1e-4b52-9f10-3b6c7f0c9a11".into(),
        kind: kind.into(),
        project: Some("weight".into()),
        title: Some("Weight".into()),
        recipient: Some("institute".into()),
        purpose: Some("DUO:0000006".into()),
        purpose_label: Some("health or medical or biomedical research".into()),
        datasets: vec!["north@1".into(), "south@2".into()],
        cohort: Some("ab".repeat(32)),
        actor_role: Some("researcher".into()),
        actor: Some("4f1d".into()),
        ..Use::default()
    }
}

fn of_release(kind: &str) -> Use {
    Use {
        release: Some("rel-1".into()),
        tables: vec!["person".into(), "measurement".into()],
        profile: Some("date-shifted".into()),
        persons: Some(23),
        bytes_sent: Some(0),
        ..used(kind)
    }
}

#[test]
fn a_count_is_a_query() {
    let read = restful(&audit_event("o/log", &used("count.answered")), "Query", "search", "E", "110153");
    let queries = read.entities("2");
    assert_eq!(queries.len(), 1, "the slice is 1..1");
    assert_eq!(queries[0].role.as_ref().expect("a role").code, "24");
    assert!(queries[0].what.is_none() && queries[0].detail.is_empty(), "0..0 in the profile");
    let query = STANDARD.decode(queries[0].query.as_ref().expect("1..1")).expect("base64");
    assert!(String::from_utf8(query).expect("text").contains(&"ab".repeat(32)));
    assert!(read.entities("1").is_empty(), "no person");
}

#[test]
fn a_release_is_made_and_a_download_reads_it() {
    let made =
        restful(&audit_event("o/log", &of_release("release.built")), "Create", "create", "C", "110153");
    let read = restful(&audit_event("o/log", &of_release("download.opened")), "Read", "read", "R", "110152");
    assert!(read.has_subtype("disclose") && !made.has_subtype("disclose"), "nobody has it before");
    for event in [made, read] {
        let data = event.entities("2");
        assert_eq!(data.len(), 1, "the slice is 1..1");
        assert!(data[0].what.is_some() && data[0].query.is_none());
        assert!(["3", "4", "20"].contains(&data[0].role.as_ref().expect("a role").code.as_str()));
        assert!(event.entities("1").is_empty(), "no person");
    }
}

#[test]
fn an_erased_entry_claims_no_profile() {
    let erased =
        Use { seq: 7, time: used("").time, event_id: used("").event_id, erased: true, ..Use::default() };
    for kind in super::super::KINDS {
        let read = base(&audit_event("o/log", &Use { kind: kind.into(), ..erased.clone() }));
        assert!(read.meta.is_none() && read.outcome_desc.is_some());
        assert_eq!(read.agent.len(), 2);
    }
}

#[test]
fn a_disclosure_is_recorded_by_its_source_and_names_the_person_by_their_token_only() {
    let told: Disclosure = serde_json::from_value(json!({
        "date": "2026-11-22", "recipient": "institute", "description": "Rows about you",
        "project": "weight", "title": "Weight", "purpose": "DUO:0000006", "purpose_label": "research",
        "purpose_statement": "We want to learn", "accounting_owed": false, "rule": "164.514", "accounting": "None owed",
        "legal_basis": null, "release": "rel-1", "directives": [3], "hospital": "north", "hospital_name": "North",
        "time": "2026-11-22T09:30:00.000Z", "seq": 9, "event_id": "0d1f6f0e-3a1e-4b52-9f10-3b6c7f0c9a11"
    }))
    .expect("a disclosure");
    let read = base(&disclosure_event("o/log", "inv_1", &told));
    assert_eq!(
        read.meta.as_ref().expect("a profile").profile,
        [format!("{PROFILES}.PrivacyDisclosure.Source")]
    );
    assert_eq!((read.r#type.system.as_str(), read.r#type.code.as_str()), (DCM, "110106"));
    let disclose = &read.subtype[0];
    assert_eq!(
        (disclose.system.as_str(), disclose.code.as_str(), read.action.as_str()),
        (LIFECYCLE, "disclose", "R")
    );
    let (source, recipient, custodian) =
        (read.agents("110153"), read.agents("110152"), read.agents("159541003"));
    assert!(source.len() == 1 && recipient.len() == 1 && custodian.len() == 1);
    assert!(source[0].network.is_some() && recipient[0].network.is_some(), "network 1..1");
    assert_eq!(source[0].who, read.source.observer, "val-audit-source");
    let people = read.entities("1");
    assert!(people.len() == 1 && read.entity.len() >= 2);
    assert_eq!(people[0].role.as_ref().expect("a role").code, "1");
    let patient = people[0].what.as_ref().expect("1..1");
    let identifier = patient.identifier.as_ref().expect("a logical reference");
    assert_eq!((patient.r#type.as_deref(), identifier.value.as_str()), (Some("Patient"), "inv_1"));
}

#[test]
fn a_bundle_has_its_events_and_the_way_to_the_next_page() {
    let event = audit_event("o/log", &used("count.answered"));
    let bundle_of = |events: &[AuditEvent], next| {
        let value = bundle(events, next);
        no_empty_members(&value);
        value
    };
    let full = bundle_of(std::slice::from_ref(&event), Some("/v1/uses?cursor=Nw"));
    assert_eq!(full["entry"][0]["fullUrl"], format!("urn:uuid:{}", event.id));
    assert_eq!(full["link"][0]["relation"], "next");
    assert!(bundle_of(&[], None).get("entry").is_none());
    assert_eq!(ndjson(&[event.clone(), event]).lines().count(), 2);
}
