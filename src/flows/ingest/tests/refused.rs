//! What a refused export leaves behind, whose events of another form are, and whose a consent is that moved.

use super::crash::condition;
use super::whom::{folder, patient, subject, with_access};
use super::*;

#[test]
fn a_refused_export_writes_nothing_of_its_people() {
    let house = House::new();
    let people = |range: std::ops::Range<u32>| {
        folder(&[("Patient.ndjson", range.map(|n| patient(&format!("p{n}"), "")).collect())])
    };
    house.ingest(people(0..20).path(), "north").expect("published");
    let wrong = people(30..60);
    assert!(matches!(house.ingest(wrong.path(), "north"), Err(IngestError::OtherPeople { .. })));
    let known = |id: &str| {
        let north = "north".parse().expect("slug");
        house
            .registry
            .lookup(&north, &almoner_model::SourcePatientId::new(id.to_owned()))
            .expect("reads")
            .is_some()
    };
    assert!(known("p3") && !known("p40"), "whoever was refused is not known");
}

#[test]
fn that_ids_agree_can_be_said_after_a_refusal_and_before_the_second_form_comes() {
    for early in [false, true] {
        let house = House::new();
        let fhir = folder(&[("Patient.ndjson", (1..=20).map(|n| patient(&n.to_string(), "")).collect())]);
        let head =
            "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id".to_owned();
        let rows = (1..=20).map(|n| format!("{n},8507,1950,0,0"));
        let omop = folder(&[("PERSON.csv", [head].into_iter().chain(rows).collect())]);
        let send = |dir: &Path, agree: bool| {
            house.with(|ctx| {
                let mut request = house.request(dir, "north");
                request.told.same_person_ids = agree;
                run(ctx, request, &Silent)
            })
        };
        send(fhir.path(), early).expect("published");
        if !early {
            assert!(matches!(send(omop.path(), false), Err(IngestError::OtherPeople { .. })));
        }
        send(omop.path(), !early).expect("of the same people");
    }
}

#[test]
fn events_of_a_form_whose_people_never_came_are_nobodys() {
    let house = House::new();
    let head = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id".to_owned();
    let rows_of = (1..=20).map(|n| format!("{n},8507,1950,0,0"));
    let omop = folder(&[("PERSON.csv", [head].into_iter().chain(rows_of).collect())]);
    house.ingest(omop.path(), "north").expect("published");
    let events = folder(&[("Condition.ndjson", vec![condition("c", "7", "44054006", None)])]);
    let changes = continued::incremental(&house, events.path(), "date-shifted").expect("published");
    assert_eq!((changes.rules["dangling-patient"], rows(&changes, "condition_occurrence")), (1, 0));
}

#[test]
fn a_consent_that_turns_out_to_be_anothers_permits_nothing_of_who_had_it_before() {
    use crate::consent::{Category, CategorySet, Purpose, Use};
    let house = House::new();
    let dir = folder(&[("Patient.ndjson", ["a", "b"].map(|id| patient(id, "")).into())]);
    house.ingest(dir.path(), "north").expect("published");
    let north: almoner_model::ContributorId = "north".parse().expect("a slug");
    let [a, b] = ["a", "b"].map(|id| subject(&house, "north", id));
    let consent = serde_json::json!({
        "resourceType": "Consent", "id": "k", "status": "active", "scope": {"coding": [{"code": "research"}]},
        "dateTime": "2024-01-01", "policyRule": {"coding": [{"code": "OPTIN"}]},
    });
    with_access(&house, |ctx| {
        let actor = Actor { role: "contributor".into(), id: "test".into() };
        let wanted = Use {
            purpose: Purpose::of(almoner_model::Duo::HealthResearch, []),
            recipient: "uni".parse().expect("slug"),
            project: "p".parse().expect("slug"),
            required: CategorySet::EMPTY.with(Category::Demographics),
            delivered: CategorySet::EMPTY,
            at: ctx.now().expect("a time"),
        };
        let permit = |who| {
            let now = ctx.store.size();
            crate::flows::permitted::verdict(ctx, who, &north, &wanted, now).expect("reads").permit
        };
        let record =
            |who| crate::flows::consent::record_fhir(ctx, &actor, &north, &[7; 32], [(1, who, &consent)]);
        assert_eq!(record(a).expect("recorded").recorded, 1);
        assert_eq!((permit(a), permit(b)), (true, false));
        assert_eq!(record(b).expect("recorded").recorded, 1);
        assert_eq!((permit(a), permit(b)), (false, true));
        let size = ctx.store.size();
        assert_eq!((record(b).expect("read").already, ctx.store.size()), (1, size), "said once");
    });
}
