//! The Consent examples of HL7 R4, each with its reviewed outcome, as published and with the scope changed to research.

use super::*;
use crate::consent::{CategorySet, DirectiveState, Purpose, Reason, SubjectState, Use, Verdict, evaluate};

/// 2026-11-22.
const TODAY: Date = Date::from_days(20_779);

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
    match read(consent, "fhir:test".into(), &|_| None, TODAY) {
        Reading::Directive(directive) => *directive,
        Reading::Nothing(rule) => panic!("{rule}"),
    }
}

/// Several examples are dated after the moment that they are evaluated at.
fn signed_before(mut directive: Directive) -> Directive {
    directive.signed = Signed::on(Date::from_days(16_000));
    directive
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
            let verdict = verdict(signed_before(directive(c)), &wanted);
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
    let basic = signed_before(directive(&basic));
    let last_day = use_at("2016-01-01T23:59:59Z", &["person"]);
    assert!(verdict(basic.clone(), &last_day).permit, "the last day");
    let late = verdict(basic, &use_at("2016-01-02T00:00:00Z", &["person"]));
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
    let of = |status: &str| read(&consent(status, Value::Null), "l".into(), &|_| None, TODAY);
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
        serde_json::json!({"type": "permit", "period": {"start": "2022", "end": "2019"}}),
        serde_json::json!({"type": "permit", "dataPeriod": {"start": "2022", "end": "2019"}}),
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
fn a_denial_for_a_time_that_ends_before_it_begins_denies() {
    let wanted = use_at("2021-01-01T00:00:00Z", &["person"]);
    let years = serde_json::json!({"start": "2022", "end": "2019"});
    for key in ["period", "dataPeriod"] {
        let denial = serde_json::json!({"type": "permit", "provision": [{"type": "deny", key: years}]});
        assert!(!verdict(directive(&consent("active", denial)), &wanted).permit, "{key}");
    }
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
        read(&consent, "fhir:test".into(), &|_| None, TODAY)
    };
    let heard = |reading: Reading| matches!(reading, Reading::Directive(d) if d.signed.date == TODAY);
    assert!(heard(undated("OPTOUT", "active", json!({}))));
    assert!(heard(undated("OPTIN", "inactive", json!({"type": "permit"}))));
    assert!(heard(undated("OPTIN", "rejected", json!({"type": "permit"}))));
    assert!(heard(undated("OPTOUT", "active", json!({"type": "permit"}))), "the exception needs a date");
    assert!(matches!(undated("OPTIN", "active", json!({})), Reading::Nothing("no-date")));
}

/// `wanted` after these versions of one document, recorded in this order.
fn after(versions: &[Directive], wanted: &Use) -> Verdict {
    let contributor: almoner_model::ContributorId = "north".parse().expect("slug");
    let directives = versions.iter().zip(1..).map(|(d, seq)| DirectiveState {
        seq,
        contributor: contributor.clone(),
        directive: d.clone().into(),
        lifts: None,
    });
    let said = SubjectState { directives: directives.collect(), ..SubjectState::default() };
    evaluate(&said, &contributor, wanted)
}

fn hiv_denied() -> Value {
    serde_json::json!({"type": "permit", "provision": [{"type": "deny", "securityLabel": [{"code": "HIV"}]}]})
}

fn dated(mut consent: Value, date: &str) -> Directive {
    consent["dateTime"] = date.into();
    directive(&consent)
}

#[test]
fn denials_are_heard_without_a_usable_date_and_permissions_beside_them_are_not() {
    let wanted = use_at("2026-11-22T12:00:00Z", &["person", "drug_exposure"]);
    let other = || Directive { lineage: "form:x".into(), ..directive(&research("OPTIN", Value::Null)) };
    assert!(after(&[other()], &wanted).permit);
    for date in [Value::Null, "someday".into(), "2031-01-01".into(), "2031".into()] {
        let mut mixed = research("OPTIN", hiv_denied());
        mixed["dateTime"] = date.clone();
        let mixed = directive(&mixed);
        assert!(!mixed.rules.has(Effect::Permit), "{date}");
        assert!(!mixed.signed.is_after(Timestamp::from_date(TODAY)), "{date}");
        let verdict = after(&[other(), mixed], &wanted);
        assert_eq!(verdict.main_reason(), Some(Reason::CategoryDenied), "{date}");
    }
    let mut only = research("OPTIN", Value::Null);
    only["dateTime"] = "2031-01-01".into();
    assert!(matches!(read(&only, "l".into(), &|_| None, TODAY), Reading::Nothing("date-in-future")));
}

#[test]
fn every_way_to_opt_out_is_a_denial_and_an_opt_in_with_restrictions_needs_them() {
    let wanted = use_at("2021-01-01T00:00:00Z", &["person"]);
    for rule in ["OPTOUT", "OPTOUTE", "optoute", " OptOut ", "EMRGONLY"] {
        let verdict = verdict(directive(&research(rule, Value::Null)), &wanted);
        assert_eq!(verdict.main_reason(), Some(Reason::Denied), "{rule}");
    }
    let exception = serde_json::json!({"type": "permit", "purpose": [{"code": "HRESCH"}]});
    assert!(verdict(directive(&research("OPTOUTE", exception)), &wanted).permit, "opt-out with exceptions");
    assert!(!verdict(directive(&research("OPTINR", Value::Null)), &wanted).permit, "which restrictions?");
    assert!(verdict(directive(&research("OPTINR", hiv_denied())), &wanted).permit);
    assert!(!verdict(directive(&research("optin", Value::Null)), &wanted).permit, "not as HL7 writes it");
}

#[test]
fn a_denial_within_what_cannot_be_read_is_total() {
    use serde_json::json;
    let wanted = use_at("2021-01-01T00:00:00Z", &["person"]);
    let deny = json!({"type": "deny", "securityLabel": [{"code": "HIV"}]});
    let mut deep = deny.clone();
    for _ in 0..7 {
        deep = json!({"type": "permit", "provision": [deep]});
    }
    let mut newer = research("OPTIN", Value::Null);
    newer["decision"] = "deny".into();
    let mut status = research("OPTIN", json!({"type": "permit", "provision": [{"type": "deny"}]}));
    status["status"] = "revoked".into();
    for consent in [
        research("OPTIN", json!([deny])),
        research("OPTIN", json!({"type": "DENY"})),
        research("OPTIN", json!({"type": "permit", "provision": deny})),
        research("OPTIN", json!({"type": "permit", "provision": [[deny]]})),
        research("OPTIN", deep),
        newer,
        status,
    ] {
        let other = Directive { lineage: "form:x".into(), ..directive(&research("OPTIN", Value::Null)) };
        let read = directive(&consent);
        assert!(read.rules.depth() <= 8, "the state takes it");
        assert!(after(&[other, read], &wanted).main_reason() >= Some(Reason::CategoryDenied), "{consent}");
    }
    let mut unknown = research("OPTIN", Value::Null);
    unknown["status"] = "revoked".into();
    assert_eq!(directive(&unknown).status, Status::Inactive, "it ends what it permitted");
}

#[test]
fn of_days_that_are_not_known_exactly_the_one_on_the_side_of_the_denial_counts() {
    let wanted = use_at("2026-11-22T12:00:00Z", &["person"]);
    let permit = |date: &str| dated(research("OPTIN", Value::Null), date);
    let deny = |date: &str| dated(research("OPTOUT", Value::Null), date);
    let permits = |versions: &[Directive]| after(versions, &wanted).permit;
    for vague in ["2020", "2020-03"] {
        assert!(!permits(&[permit("2020-03-10"), deny(vague)]), "the denial may be later: {vague}");
        assert!(!permits(&[deny(vague), permit("2020-03-10")]), "{vague}");
        assert!(permits(&[deny(vague), permit("2021-01-01")]), "later in any case: {vague}");
        assert!(!permits(&[deny("2020-03-10"), permit(vague)]), "the permission may be earlier: {vague}");
        assert!(permits(&[permit(vague)]), "{vague}");
    }
    // Of a document that does both, either side is as its day lets it be.
    let mixed = dated(research("OPTIN", hiv_denied()), "2020");
    let drugs = use_at("2026-11-22T12:00:00Z", &["drug_exposure"]);
    assert!(!after(&[mixed.clone(), permit("2020-03-10")], &drugs).permit, "its denial may be the last word");
    assert!(after(&[mixed, permit("2020-03-10")], &wanted).permit);
    assert!(!permit("2026").signed.is_after(Timestamp::from_date(TODAY)), "of a year that has begun");
}

#[test]
fn what_ends_a_consent_ends_it_whatever_date_the_consent_has() {
    let wanted = use_at("2026-11-22T12:00:00Z", &["person"]);
    let permit = |date: &str| dated(research("OPTIN", Value::Null), date);
    let ended = |status: &str, date: &str, changed: Option<&str>| {
        let mut consent = research("OPTIN", Value::Null);
        consent["status"] = status.into();
        if let Some(at) = changed {
            consent["meta"]["lastUpdated"] = at.into();
        }
        dated(consent, date)
    };
    for status in ["inactive", "rejected", "entered-in-error"] {
        let versions = [permit("2020-05-01"), permit("2022-05-01"), ended(status, "2020-05-01", None)];
        assert!(!after(&versions, &wanted).permit, "{status}: the date is the consent's, not the end's");
        let old = ended(status, "2020-05-01", Some("2021-02-03T04:05:06Z"));
        let versions = [permit("2020-05-01"), permit("2022-05-01"), old];
        assert!(after(&versions, &wanted).permit, "{status}: it was said again after it ended");
    }
    let refusal = dated(research("OPTOUT", Value::Null), "2020-05-01");
    assert!(
        after(&[refusal.clone(), deleted("fhir:test".into(), TODAY)], &wanted).main_reason()
            == Some(Reason::Denied)
    );
    assert!(!after(&[permit("2020-05-01"), deleted("fhir:test".into(), TODAY)], &wanted).permit);
    let mixed = dated(research("OPTIN", hiv_denied()), "2020-05-01");
    let other = Directive { lineage: "form:x".into(), ..permit("2020-01-01") };
    let drugs = use_at("2026-11-22T12:00:00Z", &["drug_exposure"]);
    assert!(!after(&[other, mixed, deleted("fhir:test".into(), TODAY)], &drugs).permit, "its denial stays");
}

#[test]
fn a_signature_in_the_future_says_nothing() {
    let permit = directive(&research("OPTIN", Value::Null));
    let before = use_at("2014-12-30T23:59:59Z", &["person"]);
    assert_eq!(verdict(permit.clone(), &before).main_reason(), Some(Reason::NoConsent));
    assert!(verdict(permit, &use_at("2014-12-31T00:00:00Z", &["person"])).permit, "it is tomorrow elsewhere");
}
