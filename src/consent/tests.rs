//! What consent must never do, as properties; and GA4GH's data-use matching decisions as vectors.

use std::sync::Arc;

use almoner_model::{ContributorId, Date, Duo, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use super::directive::lifts;
use super::*;

fn north() -> ContributorId {
    "north".parse().expect("slug")
}

/// Signed on that day of 1960.
fn directive(lineage: &str, signed: i32, rules: Provision) -> Directive {
    Directive {
        source: Source::Form,
        lineage: lineage.to_owned(),
        signed: Signed::on(Date::from_days(signed - 3_653)),
        status: Status::Active,
        covers: Coverage::Contributor,
        form: None,
        evidence: None,
        rules,
    }
}

fn said(seq: u64, directive: Directive) -> DirectiveState {
    DirectiveState { seq, contributor: north(), directive: Arc::new(directive), lifts: None }
}

fn wanted(purpose: Purpose, category: Category) -> Use {
    Use {
        purpose,
        recipient: "institute".parse().expect("slug"),
        project: "stroke".parse().expect("slug"),
        required: CategorySet::EMPTY.with(category),
        delivered: CategorySet::EMPTY,
        at: Timestamp::from_millis(50),
    }
}

fn health() -> Use {
    wanted(Purpose::of(Duo::HealthResearch, []), Category::Demographics)
}

fn terms(value: &Value) -> Vec<Duo> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|t| t.as_str().expect("text").parse().expect("a DUO term")).collect()
}

/// The use that a vector's purpose states, and the permission that its dataset carries.
fn vector(case: &Value, ancestors: &Value) -> (Use, Provision) {
    let (dataset, purpose) = (&case["dataset"], &case["purpose"]);
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().map(|c| c.as_str().expect("text").to_owned()).collect()
    };
    let mut rules = Provision::permit(dataset["permission"].as_str().map(|t| t.parse().expect("a DUO term")));
    rules.diseases = texts(&dataset["disease"]);
    rules.conditions = terms(&dataset["modifiers"]);
    let mut stated = Purpose::default();
    for (key, value) in purpose.as_object().expect("an object") {
        match key.as_str() {
            "hmb" => stated.terms.push(Duo::HealthResearch),
            "general_use" => stated.terms.push(Duo::GeneralResearch),
            "population_origins" => stated.terms.push(Duo::PopulationResearch),
            "methods" => stated.methods = true,
            "non_profit" => {
                stated.terms.push(Duo::HealthResearch);
                if value == true {
                    stated.modifiers.insert(Duo::NotForProfitOrganisation);
                }
            }
            "disease" => {
                stated.terms.push(Duo::DiseaseResearch);
                stated.diseases.extend(
                    texts(value).into_iter().map(|code| Disease {
                        ancestors: texts(&ancestors[&code]).into_iter().collect(),
                        code,
                    }),
                );
            }
            statement => {
                let statement = serde_json::from_value(Value::from(statement)).expect("a known statement");
                stated.statements.insert(statement);
            }
        }
    }
    (wanted(stated, Category::Demographics), rules)
}

#[test]
fn ga4gh_data_use_decisions() {
    let Some(path) = crate::testdata::dir("duo/matching_vectors.json") else { return };
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON");
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 33);
    for case in cases {
        let (wanted, rules) = vector(case, &vectors["disease_ancestors"]);
        let state = SubjectState {
            directives: vec![said(1, directive("d", 0, rules))],
            withdrawals: vec![],
            as_one: None,
        };
        let verdict = evaluate(&state, &north(), &wanted);
        let decided = match (verdict.permit, verdict.reasons.contains(&Reason::NeedsBoard)) {
            (true, _) => "approve",
            (false, true) => "abstain",
            (false, false) => "deny",
        };
        assert_eq!(decided, case["expect"], "{}", case["name"]);
    }
}

fn duo() -> impl Strategy<Value = Duo> {
    prop::sample::select(vec![
        Duo::NoRestriction,
        Duo::GeneralResearch,
        Duo::HealthResearch,
        Duo::DiseaseResearch,
        Duo::PopulationResearch,
        Duo::ClinicalCare,
    ])
}

fn effect() -> impl Strategy<Value = Effect> {
    prop::sample::select(vec![Effect::Permit, Effect::Permit, Effect::Deny, Effect::Silent])
}

fn leaf() -> impl Strategy<Value = Provision> {
    let categories = prop::sample::subsequence(
        vec![Category::Demographics, Category::Drugs, Category::Notes, Category::Hiv],
        0..3,
    );
    let period = prop::option::weighted(0.2, (0..100_i64, 0..100_i64)).prop_map(|p| {
        p.map(|(a, b)| Period {
            from: Some(Timestamp::from_millis(a)),
            until: Some(Timestamp::from_millis(b)),
        })
    });
    let data = prop::option::weighted(0.3, (0..20_i32, 0..20_i32)).prop_map(|p| {
        p.map(|(a, len)| DataPeriod { from: Some(Date::from_days(a)), until: Some(Date::from_days(a + len)) })
    });
    let recipients = prop::sample::subsequence(vec!["institute", "company"], 0..2);
    let conditions = prop::option::weighted(0.2, Just(Duo::NonCommercial));
    let unclear = prop::bool::weighted(0.1);
    (effect(), prop::collection::vec(duo(), 0..2), categories, period, data, recipients, conditions, unclear)
        .prop_map(|(effect, purposes, categories, period, data, recipients, conditions, unclear)| Provision {
            purposes,
            categories,
            period,
            data,
            recipients: recipients.into_iter().map(|r| r.parse().expect("slug")).collect(),
            conditions: conditions.into_iter().collect(),
            not_understood: if unclear { vec!["x".into()] } else { vec![] },
            ..Provision::new(effect)
        })
}

fn tree() -> impl Strategy<Value = Provision> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        (leaf(), prop::collection::vec(inner, 0..3))
            .prop_map(|(node, provisions)| Provision { provisions, ..node })
    })
}

fn state() -> impl Strategy<Value = SubjectState> {
    let one = (prop::sample::select(vec!["a", "b", "c"]), 0..4_i32, tree());
    prop::collection::vec(one, 0..4).prop_map(|all| SubjectState {
        as_one: None,
        directives: all
            .into_iter()
            .enumerate()
            .map(|(n, (lineage, signed, rules))| said(n as u64, directive(lineage, signed, rules)))
            .collect(),
        withdrawals: vec![],
    })
}

fn any_use() -> impl Strategy<Value = Use> {
    let category = prop::sample::select(vec![Category::Demographics, Category::Drugs, Category::Hiv]);
    (duo(), category, any::<bool>()).prop_map(|(term, category, bound)| {
        wanted(Purpose::of(term, bound.then_some(Duo::NonCommercial)), category)
    })
}

/// Whether `after` permits nothing that `before` does not.
fn no_more(before: &Verdict, after: &Verdict) -> bool {
    !after.permit || (before.permit && after.limits.days.minus(&before.limits.days).is_none())
}

/// The tree with `change` made to its `n`th node (counted before its children, round and round).
fn changed(mut tree: Provision, n: usize, change: &dyn Fn(&mut Provision)) -> Provision {
    fn count(node: &Provision) -> usize {
        1 + node.provisions.iter().map(count).sum::<usize>()
    }
    fn walk(node: &mut Provision, n: &mut usize, change: &dyn Fn(&mut Provision)) {
        if *n == 0 {
            change(node);
        }
        *n = n.wrapping_sub(1);
        node.provisions.iter_mut().for_each(|p| walk(p, n, change));
    }
    let mut n = n % count(&tree);
    walk(&mut tree, &mut n, change);
    tree
}

fn change_one(state: &SubjectState, pick: usize, n: usize, change: &dyn Fn(&mut Provision)) -> SubjectState {
    let mut out = state.clone();
    if out.directives.is_empty() {
        return out;
    }
    let at = pick % out.directives.len();
    let mut body = (*out.directives[at].directive).clone();
    body.rules = changed(body.rules, n, change);
    out.directives[at].directive = Arc::new(body);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_denial_added_anywhere_never_permits_more(
        state in state(), wanted in any_use(), denial in tree(), pick in 0..9_usize, n in 0..30_usize,
    ) {
        let before = evaluate(&state, &north(), &wanted);
        let denial = Provision { effect: Effect::Deny, provisions: vec![], ..denial };
        let mut beside = state.clone();
        beside.directives.push(said(99, directive("of its own", 3, denial.clone())));
        prop_assert!(no_more(&before, &evaluate(&beside, &north(), &wanted)));
        let nested = change_one(&state, pick, n, &|node| node.provisions.push(denial.clone()));
        prop_assert!(no_more(&before, &evaluate(&nested, &north(), &wanted)));
    }

    #[test]
    fn what_is_not_understood_never_permits_more(
        state in state(), wanted in any_use(), pick in 0..9_usize, n in 0..30_usize,
    ) {
        let before = evaluate(&state, &north(), &wanted);
        let unclear = change_one(&state, pick, n, &|node| node.not_understood.push("y".into()));
        prop_assert!(no_more(&before, &evaluate(&unclear, &north(), &wanted)));
    }

    #[test]
    fn a_withdrawal_dominates_whatever_was_and_is_said(
        state in state(), wanted in any_use(), seq in 0..200_u64, recall in any::<bool>(), here in any::<bool>(),
    ) {
        let before = evaluate(&state, &north(), &wanted);
        let mode = if recall { WithdrawalMode::Recall } else { WithdrawalMode::NoFurtherUse };
        let withdrawal = |mode, contributor| WithdrawalState { seq, time: Timestamp::from_millis(0), contributor, mode };
        let with = |w: WithdrawalState| SubjectState { withdrawals: vec![w], ..state.clone() };
        let after = evaluate(&with(withdrawal(mode, here.then(north))), &north(), &wanted);
        prop_assert!(!after.permit && after.main_reason() == Some(Reason::Withdrawn));
        let access = withdrawal(WithdrawalMode::NoFurtherAccess, None);
        prop_assert!(no_more(&before, &evaluate(&with(access), &north(), &wanted)));
        let elsewhere = withdrawal(mode, Some("south".parse().expect("slug")));
        prop_assert_eq!(&before, &evaluate(&with(elsewhere), &north(), &wanted));
        let contact = withdrawal(WithdrawalMode::NoContact, None);
        prop_assert_eq!(&before, &evaluate(&with(contact), &north(), &wanted));
    }

    #[test]
    fn the_order_of_the_list_is_not_looked_at(state in state(), wanted in any_use(), turn in 0..4_usize) {
        let mut turned = state.clone();
        let len = turned.directives.len().max(1);
        turned.directives.rotate_left(turn % len);
        prop_assert_eq!(evaluate(&state, &north(), &wanted), evaluate(&turned, &north(), &wanted));
    }

    #[test]
    fn only_what_was_permitted_is_permitted(state in state(), wanted in any_use()) {
        let verdict = evaluate(&state, &north(), &wanted);
        prop_assert_eq!(verdict.permit, !verdict.directives.is_empty());
        prop_assert!(verdict.permit || !verdict.reasons.is_empty(), "a refusal has a reason");
        let south: ContributorId = "south".parse().expect("slug");
        prop_assert!(!evaluate(&state, &south, &wanted).permit, "another hospital's data");
    }

    #[test]
    fn a_shape_is_all_that_is_looked_at(a in tree(), b in tree(), wanted in any_use()) {
        let (a, b) = (directive("x", 0, a), directive("x", 0, b));
        if a.shape() == b.shape() {
            let of = |d: Directive| evaluate(
                &SubjectState { directives: vec![said(1, d)], withdrawals: vec![], as_one: None }, &north(), &wanted);
            prop_assert_eq!(of(a), of(b));
        } else {
            prop_assert_ne!(a.rules, b.rules);
        }
    }
}

#[test]
fn the_version_signed_last_governs_within_one_document_only() {
    let permit = Provision::permit([Duo::GeneralResearch]);
    let refuse = Provision::new(Effect::Deny);
    let of = |all: Vec<(&str, i32, &Provision)>| {
        let directives = all
            .into_iter()
            .enumerate()
            .map(|(n, (lineage, day, rules))| said(n as u64, directive(lineage, day, rules.clone())))
            .collect();
        evaluate(&SubjectState { directives, withdrawals: vec![], as_one: None }, &north(), &health()).permit
    };
    assert!(of(vec![("form", 1, &refuse), ("form", 2, &permit)]));
    assert!(!of(vec![("form", 2, &refuse), ("form", 1, &permit)]), "an older paper entered later");
    assert!(!of(vec![("form", 1, &refuse), ("other", 2, &permit)]), "another document's denial subtracts");
    assert!(!of(vec![("form", 1, &permit), ("form", 1, &refuse)]), "of one day, the last recorded");
}

#[test]
fn only_a_later_act_that_names_a_withdrawal_lifts_it() {
    let day = |n: i64| Timestamp::from_millis(n * 86_400_000);
    let mode = WithdrawalMode::NoFurtherUse;
    let withdrawal = WithdrawalState { seq: 5, time: day(10), contributor: Some(north()), mode };
    let act = |seq: u64, source: Source, signed: Signed, names: Option<u64>| DirectiveState {
        lifts: names,
        ..said(
            seq,
            Directive { source, signed, ..directive("x", 0, Provision::permit([Duo::GeneralResearch])) },
        )
    };
    let lifted = |a: DirectiveState| {
        let state = SubjectState { directives: vec![a], withdrawals: vec![withdrawal.clone()], as_one: None };
        let wanted = Use { at: day(30), ..health() };
        let verdict = evaluate(&state, &north(), &wanted);
        assert_eq!(verdict.permit, state.lifted_at(&withdrawal).contains(&north()));
        verdict.permit
    };
    let on = |n: i32| Signed::on(Date::from_days(n));
    assert!(lifted(act(6, Source::Form, on(12), Some(5))));
    assert!(!lifted(act(6, Source::Form, on(12), None)), "it names nothing");
    assert!(!lifted(act(6, Source::Form, on(12), Some(4))), "it names another");
    assert!(!lifted(act(4, Source::Form, on(12), Some(5))), "it was recorded before");
    assert!(!lifted(act(6, Source::Form, on(10), Some(5))), "it was signed on the same day");
    assert!(
        !lifted(act(6, Source::Form, on(11), Some(5))),
        "somewhere that day began before the withdrawal's ended"
    );
    assert!(!lifted(act(6, Source::Fhir, Signed::at(day(9)), Some(5))));
    let own = |ms: i64| {
        act(6, Source::Participant, Signed::at(Timestamp::from_millis(day(10).millis() + ms)), Some(5))
    };
    assert!(lifted(own(1)), "the participant's own act, moments later");
    assert!(!lifted(own(0)));
    let from_all = WithdrawalState { contributor: None, ..withdrawal.clone() };
    assert!(
        !lifts(&act(6, Source::Form, on(12), Some(5)), &from_all),
        "no hospital takes back what was said to all"
    );
    assert!(lifts(&own(1), &from_all), "the person does");
}

#[test]
fn a_denied_sensitive_category_withholds_notes_and_what_reveals_it() {
    let mut rules = Provision::permit([Duo::GeneralResearch]);
    rules.provisions.push(Provision { categories: vec![Category::Hiv], ..Provision::new(Effect::Deny) });
    let state = SubjectState {
        directives: vec![said(1, directive("f", 0, rules))],
        withdrawals: vec![],
        as_one: None,
    };
    let delivered: CategorySet =
        [Category::Drugs, Category::Notes, Category::Measurements, Category::Deaths].into_iter().collect();
    let verdict = evaluate(&state, &north(), &Use { delivered, ..health() });
    assert!(verdict.permit);
    let withheld: Vec<Category> =
        verdict.limits.withheld.iter().filter(|category| delivered.contains(*category)).collect();
    assert_eq!(withheld, [Category::Drugs, Category::Measurements, Category::Deaths, Category::Notes]);
}

/// A vocabulary may have moved a record's row to a table that is asked for: its own category must not be forgotten.
#[test]
fn what_is_denied_and_not_asked_for_is_withheld_where_its_rows_may_be() {
    let state = |denied: Provision| {
        let mut rules = Provision::permit([Duo::GeneralResearch]);
        rules.provisions.push(denied);
        SubjectState { directives: vec![said(1, directive("f", 0, rules))], ..SubjectState::default() }
    };
    let withheld = |denied: Provision, asked: Category| {
        let delivered = CategorySet::EMPTY.with(asked);
        let verdict = evaluate(&state(denied), &north(), &Use { delivered, ..health() });
        assert!(verdict.permit && verdict.limits.days.is_all());
        verdict.limits.withheld.iter().collect::<Vec<_>>()
    };
    let conditions = || Provision { categories: vec![Category::Conditions], ..Provision::new(Effect::Deny) };
    assert_eq!(withheld(conditions(), Category::Observations), [Category::Conditions]);
    assert_eq!(withheld(conditions(), Category::Drugs), [], "a condition is never a drug");
    let since = Some(DataPeriod { from: Date::from_ymd(2020, 1, 1), until: None });
    let later = Provision { data: since, ..conditions() };
    assert_eq!(withheld(later, Category::Observations), [Category::Conditions], "denied in part");
}

#[test]
fn of_two_readings_of_a_merged_person_the_stricter_holds() {
    let permit = Provision::permit([Duo::GeneralResearch]);
    let one = |seq, directive: Directive| SubjectState {
        directives: vec![said(seq, directive)],
        ..SubjectState::default()
    };
    let permits =
        |parts: Vec<(i64, SubjectState)>| evaluate(&SubjectState::merged(parts), &north(), &health());
    let both = permits(vec![
        (1, one(1, directive("form", 1, permit.clone()))),
        (2, one(2, directive("form", 2, permit.clone()))),
    ]);
    assert!(both.permit);
    assert_eq!(both.directives, [2], "the later version, by which both readings permit");
    // The document was ended under the id that the person has now.
    let ended = Directive { status: Status::Inactive, ..directive("form", 2, permit.clone()) };
    assert!(!permits(vec![(1, one(1, directive("form", 1, permit.clone()))), (2, one(2, ended))]).permit);
    let narrower = directive("form", 2, Provision::permit([Duo::PopulationResearch]));
    assert!(!permits(vec![(1, one(1, directive("form", 1, permit.clone()))), (2, one(2, narrower))]).permit);
    // A refusal under one id is not undone by a later permission under the other.
    let refusal = directive("form", 1, Provision::new(Effect::Deny));
    assert!(!permits(vec![(1, one(1, refusal)), (2, one(2, directive("form", 2, permit)))]).permit);
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let text = include_str!("../../docs/consent.md");
    let block = |kind: &str| {
        let from = text.split_once(&format!("```{kind}\n")).expect("a block").1;
        from.split_once("```").expect("its end").0
    };
    let directive: Directive = serde_json::from_str(block("json")).expect("a directive");
    let state = SubjectState { directives: vec![said(1, directive)], withdrawals: vec![], as_one: None };
    let bound = Purpose::of(Duo::HealthResearch, [Duo::NonCommercial]);
    let at =
        |category| Use { at: Timestamp::from_millis(1_800_000_000_000), ..wanted(bound.clone(), category) };
    assert!(evaluate(&state, &north(), &at(Category::Demographics)).permit);
    let drugs = evaluate(&state, &north(), &at(Category::Drugs));
    assert_eq!(drugs.main_reason(), Some(Reason::CategoryDenied));
    let forms = form::Forms::load(block("toml")).expect("definitions");
    assert!(forms.find("broad@2").is_some() && forms.find("2").is_some() && forms.find("3").is_none());
    for category in Category::ALL {
        assert!(text.contains(category.name()), "{category} is documented");
    }
}
