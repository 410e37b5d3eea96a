//! What a refused export leaves behind, whose events of another form are, and whose a consent is that moved.

use super::crash::condition;
use super::whom::{delete, folder, patient, subject, with_access};
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

#[test]
fn a_patient_who_was_deleted_has_no_rows_in_either_form() {
    let lines = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let person = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id";
    let ill = "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_type_concept_id";
    let both = |patients: &[&str]| {
        folder(&[
            ("Patient.ndjson", patients.iter().map(|id| patient(id, "")).collect()),
            ("Condition.ndjson", vec![condition("c", "7", "44054006", None)]),
            ("PERSON.csv", lines(&[person, "7,8507,1950,0,0", "8,8507,1950,0,0"])),
            ("CONDITION_OCCURRENCE.csv", lines(&[ill, "1,7,201826,2020-01-05,1", "2,8,201826,2020-01-05,1"])),
            ("DEATH.csv", lines(&["person_id,death_date,death_type_concept_id", "7,2021-01-05,1"])),
            ("deleted/Bundle.ndjson", vec![delete("Patient/7")]),
        ])
    };
    // The patient as an export has who was deleted, and as it should not.
    for (patients, deleted) in [(&["8"][..], 4), (&["7", "8"][..], 5)] {
        for (mode, agree) in [(Mode::Full, true), (Mode::Incremental, true), (Mode::Full, false)] {
            let house = House::new();
            let send = |dir: &Path, mode| {
                house.with(|ctx| {
                    let mut request = house.request(dir, "north");
                    (request.mode, request.told.same_person_ids) = (mode, agree);
                    run(ctx, request, &Silent).expect("published")
                })
            };
            if mode == Mode::Incremental {
                send(
                    folder(&[("Patient.ndjson", vec![patient("7", ""), patient("8", "")])]).path(),
                    Mode::Full,
                );
            }
            let summary = send(both(patients).path(), mode);
            check(&house, &summary);
            let found = (summary.persons, rows(&summary, "condition_occurrence"), rows(&summary, "death"));
            if agree {
                assert_eq!(found, (1, 1, 0), "{patients:?} {mode:?}");
                assert_eq!(summary.reasons["deleted-at-the-source"], deleted, "{patients:?} {mode:?}");
            } else {
                assert_eq!(found, (3, 2, 1), "the person of the tables is another");
            }
        }
    }
}

#[test]
fn an_export_whose_patients_were_cut_short_is_told_so_before_anything_of_its_people() {
    let people =
        |range: std::ops::Range<u32>| range.map(|n| patient(&format!("p{n}"), "")).collect::<Vec<_>>();
    let cut = |name: &str, lines: Vec<String>| {
        let dir = folder(&[("Condition.ndjson", vec![condition("c", "p1", "44054006", None)])]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        std::io::Write::write_all(&mut packed, lines.join("\n").as_bytes()).expect("packs");
        let mut packed = packed.finish().expect("packs");
        packed.truncate(packed.len() / 4);
        std::fs::write(dir.path().join(name), packed).expect("written");
        dir
    };
    let house = House::new();
    house.ingest(folder(&[("Patient.ndjson", people(0..40))]).path(), "north").expect("published");
    let dir = cut("Patient.ndjson.gz", people(0..40));
    let said = house.ingest(dir.path(), "north").expect_err("refused");
    assert!(matches!(said, IngestError::Incomplete(_)), "{said}");
    assert!(said.to_string().contains("file 1 (Patient): truncated"), "{said}");
    assert!(!said.to_string().contains("Condition"), "{said}");
    // Whoever says that it is not the whole is told that most people are missing.
    let told = house.with(|ctx| {
        let mut request = house.request(dir.path(), "north");
        request.told.accept_incomplete = true;
        run(ctx, request, &Silent)
    });
    assert!(matches!(told, Err(IngestError::OtherPeople { .. })));
    // In tables, and in an archive that cannot be opened.
    let house = House::new();
    let head = "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id".to_owned();
    let table: Vec<String> =
        [head].into_iter().chain((0..40).map(|n| format!("{n},8507,1950,0,0"))).collect();
    let whole = folder(&[("PERSON.csv", table.clone())]);
    house.ingest(whole.path(), "north").expect("published");
    let dir = cut("PERSON.csv.gz", table);
    std::fs::remove_file(dir.path().join("Condition.ndjson")).expect("removed");
    let said = house.ingest(dir.path(), "north").expect_err("refused").to_string();
    assert!(said.contains("file 0 (person): truncated"), "{said}");
    let dir = folder(&[("PERSON.csv", vec!["person_id,year_of_birth".to_owned(), "99,1950".to_owned()])]);
    std::fs::write(dir.path().join("more.zip"), "x").expect("written");
    let said = house.ingest(dir.path(), "north").expect_err("refused").to_string();
    assert!(said.contains("file 1: archive-damaged"), "{said}");
}
