//! The house rules, contracts, and what happens when either fails.

use super::*;

fn day(text: &str) -> Date {
    text.parse().expect("a date")
}

fn facts() -> Facts {
    Facts {
        contributor: "north".parse().expect("slug"),
        recipient: "institute".parse().expect("slug"),
        project: "stroke".parse().expect("slug"),
        purpose: Duo::HealthResearch,
        modifiers: vec![Duo::NonCommercial],
        today: day("2026-11-22"),
        release: Some(ReleaseFacts {
            diseases: vec![],
            methods: false,
            tables: vec!["person".into(), "condition_occurrence".into()],
            tier: "controlled".into(),
            profile: "date-shifted".into(),
            ethics: EthicsDetermination {
                protocol: "2026-17".into(),
                board: "City".into(),
                expires: day("2026-11-22"),
            },
            decision: "approved".into(),
            terms_signed: true,
            legal_basis: Some(BasisFacts {
                kind: "expert_determination".into(),
                profile: "date-shifted".into(),
                expires: Some(day("2027-01-01")),
            }),
        }),
    }
}

fn ask(facts: Facts, contract: Option<&str>) -> Decision {
    decide(&[(facts, contract.map(str::to_owned))], 7).expect("house rules compile")
}

fn changed(change: impl FnOnce(&mut ReleaseFacts)) -> Facts {
    let mut facts = facts();
    change(facts.release.as_mut().expect("a release"));
    facts
}

#[test]
fn a_complete_request_is_permitted_through_its_last_day() {
    let decision = ask(facts(), None);
    assert_eq!(decision.effect(), Effect::Permit, "{:?}", decision.reasons());
    assert_eq!(decision.policies().keys().collect::<Vec<_>>(), ["house"]);
    let late = Facts { today: day("2026-11-23"), ..facts() };
    assert_eq!(ask(late, None).reasons(), ["north: the ethics board's determination has expired"]);
}

#[test]
fn each_missing_part_is_a_refusal_with_its_own_reason() {
    let refused = |change: fn(&mut ReleaseFacts), word: &str| {
        let decision = ask(changed(change), None);
        assert_eq!(decision.effect(), Effect::Deny, "{word}");
        assert!(decision.reasons().iter().any(|r| r.contains(word)), "{word}: {:?}", decision.reasons());
    };
    refused(|r| r.decision = "pending".into(), "committee");
    refused(|r| r.decision = "revoked".into(), "committee");
    refused(|r| r.terms_signed = false, "signed");
    refused(|r| r.legal_basis = None, "legal basis");
    refused(|r| r.ethics.protocol.clear(), "protocol");
    refused(|r| r.profile = "limited".into(), "164.514(e)");
    refused(|r| r.profile = "safe-harbor".into(), "164.514(b)(2)");
    refused(|r| r.legal_basis.as_mut().expect("there").expires = Some(Date::from_days(0)), "legal basis");
    let nobody = decide(&[], 0).expect("compiles");
    assert_eq!(nobody.effect(), Effect::Deny);
}

#[test]
fn what_is_taken_for_a_legal_basis_is_what_the_house_rules_take() {
    for profile in ["safe-harbor", "date-shifted", "limited", "other"] {
        for kind in ["safe_harbor_attestation", "expert_determination", "data_use_agreement"] {
            let facts = changed(|r| {
                r.profile = profile.into();
                let basis = BasisFacts { kind: kind.into(), profile: profile.into(), expires: None };
                r.legal_basis = Some(basis);
            });
            let permits = ask(facts, None).effect() == Effect::Permit;
            assert_eq!(basis_fits(kind, profile) || profile == "other", permits, "{kind} {profile}");
        }
    }
}

#[test]
fn a_contract_adds_to_the_house_rules_and_never_takes_away() {
    let strict = r#"
        permit (principal, action, resource);
        @reason("we give to non-commercial research only")
        forbid (principal, action, resource) unless { context.modifiers.contains("DUO:0000046") };
    "#;
    assert_eq!(ask(facts(), Some(strict)).effect(), Effect::Permit);
    let commercial = Facts { modifiers: vec![], ..facts() };
    let decision = ask(commercial, Some(strict));
    assert_eq!(decision.reasons(), ["north: we give to non-commercial research only"]);
    assert_eq!(decision.policies()["north"], Digest::of(strict));

    let lax = "permit (principal, action, resource);";
    assert_eq!(ask(changed(|r| r.terms_signed = false), Some(lax)).effect(), Effect::Deny);
}

#[test]
fn a_rule_that_errors_denies() {
    // Integer overflow validates and fails only when it is evaluated; Cedar alone would skip this forbid.
    let overflow = r"
        permit (principal, action, resource);
        forbid (principal, action, resource) when { context.today * 9223372036854775807 == 0 };
    ";
    Policy::compile(overflow).expect("valid Cedar");
    let decision = ask(facts(), Some(overflow));
    assert_eq!(decision.reasons(), ["north: a rule failed while it was evaluated"]);
    assert_eq!(ask(facts(), Some("no Cedar at all")).effect(), Effect::Deny);
}

#[test]
fn a_contract_about_other_things_is_not_accepted() {
    let refused = |text: &str| Policy::compile(text).err();
    assert!(matches!(refused("permit(principal, action,"), Some(EngineError::Syntax(_))));
    let typo =
        r#"permit(principal, action == Action::"release", resource) when { context.tir == "public" };"#;
    assert!(matches!(refused(typo), Some(EngineError::Schemaless(_))));
    assert!(matches!(refused("forbid(principal, action, resource);"), Some(EngineError::NoPermit)));
}

#[test]
fn counts_are_asked_of_contracts_too() {
    let count = Facts { release: None, ..facts() };
    assert_eq!(ask(count.clone(), None).effect(), Effect::Permit);
    let no_counts = r#"
        permit (principal, action, resource);
        forbid (principal, action == Action::"count", resource);
    "#;
    assert_eq!(ask(count, Some(no_counts)).effect(), Effect::Deny);
    assert_eq!(ask(facts(), Some(no_counts)).effect(), Effect::Permit);
}
