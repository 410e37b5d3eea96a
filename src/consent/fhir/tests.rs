//! The Consent examples of HL7 R4, each with its reviewed outcome, as published and with the scope changed to research.

use super::*;
use crate::consent::{CategorySet, DirectiveState, Purpose, Reason, SubjectState, Use, Verdict, evaluate};

fn use_at(at: &str, tables: &[&str]) -> Use {
    Use {
        purpose: Purpose::of(Duo::HealthResearch, [Duo::EthicsApproval]),
        recipient: "institute".parse().expect("slug"),
        project: "stroke".parse().expect("slug"),
        required: CategorySet::of_tables(tables.iter().copied()).expect("tables"),
        delivered: CategorySet::EMPTY,
        at: Timestamp::parse(at).expect("a time"),
    }
}

fn verdict(directive: Directive, wanted: &Use) -> Verdict {
    let contributor: almoner_model::ContributorId = "north".parse().expect("slug");
    let said =
        DirectiveState { seq: 1, contributor: contributor.clone(), directive: directive.into(), lifts: None };
    evaluate(
        &SubjectState { directives: vec![said], withdrawals: vec![], as_one: None },
        &contributor,
        wanted,
    )
}

fn directive(consent: &Value) -> Directive {
    match read(consent, "fhir:test".into(), &|_| None, Date::from_days(16_000)) {
        Reading::Directive(directive) => *directive,
        Reading::Nothing(rule) => panic!("{rule}"),
    }
}

fn example(name: &str) -> Option<Value> {
    let dir = crate::testdata::dir("consent/hl7-r4")?;
    let text = std::fs::read(dir.join(format!("Consent-consent-example-{name}.json"))).expect("the example");
    Some(serde_json::from_slice(&text).expect("JSON"))
}

/// `(example, main reason as published, main reason with scope research)`; `None` is a permission. Evaluated for health
/// research on the person row at 2015-12-01.
const REVIEWED: &[(&str, Option<Reason>, Option<Reason>)] = &[
    ("Emergency", Some(Reason::Denied), Some(Reason::Denied)),
    ("Out", Some(Reason::Denied), Some(Reason::Denied)),
    ("basic", Some(Reason::OtherPurpose), None),
    ("grantor", Some(Reason::Denied), Some(Reason::Denied)),
    ("notAuthor", Some(Reason::NotUnderstood), Some(Reason::NotUnderstood)),
    ("notOrg", Some(Reason::Denied), Some(Reason::Denied)),
    ("notThem", Some(Reason::NotUnderstood), Some(Reason::NotUnderstood)),
    ("notThis", Some(Reason::NotUnderstood), Some(Reason::NotUnderstood)),
    ("notTime", Some(Reason::OutsidePeriod), Some(Reason::OutsidePeriod)),
    ("pkb", Some(Reason::Denied), Some(Reason::Denied)),
    ("signature", Some(Reason::NotUnderstood), Some(Reason::NotUnderstood)),
    ("smartonfhir", Some(Reason::OutsidePeriod), Some(Reason::OutsidePeriod)),
];

#[test]
fn the_hl7_examples_have_their_reviewed_outcomes() {
    let wanted = use_at("2015-12-01T12:00:00Z", &["person"]);
    for (name, published, research) in REVIEWED {
        let Some(mut consent) = example(name) else { return };
        let verdict_of = |c: &Value| {
            let verdict = verdict(directive(c), &wanted);
            if verdict.permit { None } else { verdict.main_reason() }
        };
        assert_eq!(verdict_of(&consent), *published, "{name} as published");
        consent["scope"]["coding"][0]["code"] = "research".into();
        assert_eq!(verdict_of(&consent), *research, "{name} as research");
    }
}

#[test]
fn an_opt_in_ends_with_its_period_and_an_exception_permits_only_its_class() {
    let Some(mut basic) = example("basic") else { return };
    basic["scope"]["coding"][0]["code"] = "research".into();
    assert!(verdict(directive(&basic), &use_at("2016-01-01T23:59:59Z", &["person"])).permit, "the last day");
    let late = verdict(directive(&basic), &use_at("2016-01-02T00:00:00Z", &["person"]));
    assert_eq!(late.main_reason(), Some(Reason::OutsidePeriod));

    let mut smart = example("smartonfhir").expect("present as the other");
    smart["scope"]["coding"][0]["code"] = "research".into();
    let within = "2016-06-23T07:10:00Z";
    assert!(verdict(directive(&smart), &use_at(within, &["drug_exposure"])).permit);
    assert!(!verdict(directive(&smart), &use_at(within, &["person", "drug_exposure"])).permit);
}

#[test]
fn no_name_or_reference_is_kept() {
    for (name, ..) in REVIEWED {
        let Some(consent) = example(name) else { return };
        let kept = serde_json::to_string(&directive(&consent)).expect("serialises");
        for value in ["Heuvel", "Nurse", "f001", "f204", "Patient/", "xcda", "Good Health"] {
            assert!(!kept.contains(value), "{name} keeps {value}");
        }
    }
}

fn consent(status: &str, provision: Value) -> Value {
    serde_json::json!({
        "resourceType": "Consent", "status": status, "dateTime": "2020-05-01",
        "scope": {"coding": [{"code": "research"}]},
        "policyRule": {"coding": [{"code": "OPTIN"}]},
        "provision": provision,
    })
}

#[test]
fn only_an_active_consent_is_in_force() {
    let wanted = use_at("2021-01-01T00:00:00Z", &["person"]);
    let of =
        |status: &str| read(&consent(status, Value::Null), "l".into(), &|_| None, Date::from_days(16_000));
    let permits = |status: &str| match of(status) {
        Reading::Directive(d) => verdict(*d, &wanted).permit,
        Reading::Nothing(_) => false,
    };
    assert!(permits("active"));
    for status in ["draft", "proposed", "rejected", "inactive", "entered-in-error", "approved", ""] {
        assert!(!permits(status), "{status}");
    }
    assert!(matches!(of("draft"), Reading::Nothing("not-yet-in-force")));
    let Reading::Directive(rejected) = of("rejected") else { panic!("a refusal is recorded") };
    assert_eq!(verdict(*rejected, &wanted).main_reason(), Some(Reason::Denied));
    let Reading::Directive(inactive) = of("inactive") else { panic!("what ended supersedes") };
    assert_eq!(inactive.status, Status::Inactive);
}

#[test]
fn what_is_not_understood_is_never_a_permission() {
    let wanted = use_at("2021-01-01T00:00:00Z", &["person"]);
    let narrowings = [
        serde_json::json!({"type": "permit", "purpose": [{"code": "NEWCODE"}]}),
        serde_json::json!({"type": "permit", "class": [{"code": "Basic"}]}),
        serde_json::json!({"type": "permit", "code": [{"coding": [{"code": "34133-9"}]}]}),
        serde_json::json!({"type": "permit", "securityLabel": [{"code": "V"}]}),
        serde_json::json!({"type": "permit", "action": [{"coding": [{"code": "collect"}]}]}),
        serde_json::json!({"type": "permit", "period": {"end": "someday"}}),
        serde_json::json!({"type": "permit", "dataPeriod": {}}),
        serde_json::json!({"type": "permit", "modifierExtension": [{"url": "x"}]}),
        serde_json::json!({"type": "permit", "somethingNew": true}),
        serde_json::json!({"type": "maybe"}),
        serde_json::json!({"type": "permit", "provision": [{"purpose": [{"code": "HRESCH"}]}]}),
    ];
    for narrowing in narrowings {
        let verdict = verdict(directive(&consent("active", narrowing.clone())), &wanted);
        assert!(!verdict.permit, "{narrowing}");
        assert!(!verdict.reasons.is_empty(), "{narrowing}");
    }
    let mut unknown_rule = consent("active", Value::Null);
    unknown_rule["policyRule"]["coding"][0]["code"] = "cric".into();
    assert!(!verdict(directive(&unknown_rule), &wanted).permit);
}

#[test]
fn research_purposes_and_classes_are_read() {
    let provision = serde_json::json!({
        "type": "permit",
        "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
        "dataPeriod": {"start": "2010", "end": "2019-06"},
        "provision": [{"type": "deny", "securityLabel": [{"code": "HIV"}]}],
    });
    let read = directive(&consent("active", provision));
    assert_eq!(read.rules.purposes, [Duo::HealthResearch]);
    let at = "2021-01-01T00:00:00Z";
    let person = verdict(read.clone(), &use_at(at, &["person"]));
    assert!(person.permit);
    let day = |text: &str| text.parse::<Date>().expect("a date");
    assert!(person.limits.days.contains(day("2019-06-30")) && person.limits.days.contains(day("2010-01-01")));
    assert!(!person.limits.days.contains(day("2019-07-01")));
    let drugs = verdict(read, &use_at(at, &["person", "drug_exposure"]));
    assert_eq!(drugs.main_reason(), Some(Reason::CategoryDenied), "drugs would reveal it");
}

/// A research consent with this policy rule and root provision.
fn research(rule: &str, provision: Value) -> Value {
    serde_json::json!({
        "resourceType": "Consent", "status": "active", "dateTime": "2015-01-01",
        "scope": {"coding": [{"code": "research"}]},
        "policyRule": {"coding": [{"code": rule}]},
        "provision": provision
    })
}

#[test]
fn what_is_not_as_r4_says_never_widens_a_permission() {
    use serde_json::json;
    let wanted = use_at("2015-12-01T12:00:00Z", &["person"]);
    let permits = |consent: &Value| verdict(directive(consent), &wanted).permit;
    let purpose = |code: &str| json!([{"coding": [{"code": code}]}]);
    assert!(permits(&research("OPTIN", json!({"type": "permit", "purpose": purpose("HRESCH")}))));
    for wrong in [
        // An object where a list belongs: the purpose, or the exception, would say nothing.
        json!({"type": "permit", "purpose": {"code": "TREAT"}}),
        json!({"type": "permit", "provision": {"type": "deny"}}),
        json!({"type": "permit", "purpose": ["HRESCH"]}),
        json!([{"type": "permit"}]),
        // A clinical trial is less than health research.
        json!({"type": "permit", "purpose": purpose("CLINTRCH")}),
    ] {
        assert!(!permits(&research("OPTIN", wrong.clone())), "{wrong}");
    }
    let mut both = research("OPTIN", json!({"type": "permit"}));
    both["policyRule"]["coding"] = json!([{"code": "OPTIN"}, {"code": "OPTOUT"}]);
    both["provision"] = json!({});
    assert!(!permits(&both), "of two base rules the stricter");
    let mut implicit = research("OPTIN", json!({"type": "permit"}));
    implicit["implicitRules"] = json!("http://example.org/rules");
    assert!(!permits(&implicit), "rules that we do not know");
}

#[test]
fn conditions_of_an_untyped_root_hold_for_what_is_nested() {
    use serde_json::json;
    let permits = |at: &str, root: Value| {
        let mut root = root;
        root["provision"] = json!([{"type": "permit", "purpose": [{"coding": [{"code": "HRESCH"}]}]}]);
        verdict(directive(&research("OPTOUT", root)), &use_at(at, &["person"])).permit
    };
    assert!(permits("2015-12-01T12:00:00Z", json!({})));
    let until = json!({"period": {"start": "2015-01-01", "end": "2016"}});
    assert!(permits("2015-12-01T12:00:00Z", until.clone()));
    assert!(!permits("2026-01-01T12:00:00Z", until));
    assert!(!permits("2015-12-01T12:00:00Z", json!({"class": [{"code": "Condition"}]})));
}

#[test]
fn a_refusal_without_a_date_is_heard_and_a_permission_is_not() {
    use serde_json::json;
    let undated = |rule: &str, status: &str, provision: Value| {
        let mut consent = research(rule, provision);
        consent["status"] = status.into();
        consent.as_object_mut().expect("an object").remove("dateTime");
        read(&consent, "fhir:test".into(), &|_| None, Date::from_days(16_000))
    };
    let heard = |reading: Reading| matches!(reading, Reading::Directive(d) if d.signed.date == Date::from_days(16_000));
    assert!(heard(undated("OPTOUT", "active", json!({}))));
    assert!(heard(undated("OPTIN", "inactive", json!({"type": "permit"}))));
    assert!(heard(undated("OPTIN", "rejected", json!({"type": "permit"}))));
    for permission in
        [undated("OPTIN", "active", json!({})), undated("OPTOUT", "active", json!({"type": "permit"}))]
    {
        assert!(matches!(permission, Reading::Nothing("no-date")));
    }
}
