//! What a record means: which records become rows, and that the rows say what the record says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use almoner_model::{Date, Origin, RowKey, Tables};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, UInt64Type};
use serde_json::{Value, json};

use super::*;
use crate::mapping::outcome::{Locator, Outcome, reason};
use crate::mapping::vocabulary::{ALLERGY_TO_DRUG, NoVocabulary};
use crate::mapping::{
    Form, KeyedHasher, PersonIndex, StageError, StagedBatch, StagedBuilder, StagedSink, Stated,
};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<StagedBatch>>>);

impl StagedSink for Kept {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        self.0.lock().expect("not poisoned").push(batch);
        Ok(())
    }

    fn stated(&mut self, _: &[Stated]) -> Result<(), StageError> {
        Ok(())
    }
}

/// Maps records of the one patient there is; gives each one's outcome, and the rows by table.
fn mapped(records: &[Value]) -> (Vec<Outcome>, BTreeMap<String, RecordBatch>) {
    let tables = Tables::embedded().expect("consistent");
    let mut persons = PersonIndex::new(KeyedHasher::new(&[7; 32]));
    persons.add(Form::Fhir, "p1");
    let (references, rules, kept) =
        (References::default(), FhirRules::embedded().expect("consistent"), Kept::default());
    let ctx = FhirContext {
        persons: &persons,
        references: &references,
        vocabulary: &NoVocabulary,
        rules: &rules,
        today: "2026-11-22".parse().expect("a date"),
    };
    let rows = StagedBuilder::new(&tables, Box::new(kept.clone()));
    let mut mapper = FhirMapper::new(ctx, &tables, rows).expect("columns");
    let line = |(n, record): (usize, &Value)| {
        let at = Locator::line(0, n as u64 + 1);
        mapper.line(at, &record.to_string(), false, "unread").expect("goes on").1
    };
    let outcomes = records.iter().enumerate().map(line).collect();
    mapper.finish().expect("kept");
    let name = |table: usize| tables.iter().nth(table).expect("a table").table.clone();
    let batches = std::mem::take(&mut *kept.0.lock().expect("not poisoned"));
    (outcomes, batches.into_iter().map(|b| (name(b.table), b.batch)).collect())
}

/// A record of the patient with what `with` says, over what its type needs.
fn record(kind: &str, with: Value) -> Value {
    let code = json!({"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]});
    let subject = json!({"reference": "Patient/p1"});
    let mut record = json!({
        "resourceType": kind, "id": "r", "subject": subject, "patient": subject, "code": code, "type": code,
        "medicationCodeableConcept": code, "vaccineCode": code, "conclusionCode": [code], "intent": "order",
        "onsetDateTime": "2020-01-01", "performedDateTime": "2020-01-01", "effectiveDateTime": "2020-01-01",
        "authoredOn": "2020-01-01", "whenHandedOver": "2020-01-01", "occurrenceDateTime": "2020-01-01",
        "manufactureDate": "2020-01-01", "collection": {"collectedDateTime": "2020-01-01"},
        "period": {"start": "2020-01-01"},
    });
    if kind == "Encounter" || kind == "Device" && with["type"].is_null() {
        record["type"] = if kind == "Encounter" { json!([code]) } else { code };
    }
    let (Some(all), Value::Object(with)) = (record.as_object_mut(), with) else { panic!("objects") };
    all.extend(with);
    record
}

fn outcome(record: Value) -> Outcome {
    mapped(&[record]).0[0]
}

fn status(kind: &str, code: &str) -> Value {
    match kind {
        "Condition" | "AllergyIntolerance" => json!({"verificationStatus": {"coding": [{"code": code}]}}),
        "MedicationRequest.intent" => json!({"intent": code}),
        _ => json!({"status": code}),
    }
}

#[test]
fn a_record_that_does_not_say_that_it_is_so_is_no_row() {
    let left_out = [
        ("Condition", "unconfirmed", reason::NOT_CONFIRMED),
        ("Condition", "provisional", reason::NOT_CONFIRMED),
        ("Condition", "differential", reason::NOT_CONFIRMED),
        ("Condition", "refuted", reason::NOT_A_FACT),
        ("Condition", "entered-in-error", reason::ENTERED_IN_ERROR),
        ("AllergyIntolerance", "unconfirmed", reason::NOT_CONFIRMED),
        ("AllergyIntolerance", "refuted", reason::NOT_A_FACT),
        ("Encounter", "planned", reason::NOT_A_FACT),
        ("Encounter", "cancelled", reason::NOT_DONE),
        ("Procedure", "preparation", reason::NOT_A_FACT),
        ("Procedure", "not-done", reason::NOT_DONE),
        ("Procedure", "unknown", reason::UNKNOWN_STATUS),
        ("Observation", "registered", reason::NOT_A_FACT),
        ("Observation", "cancelled", reason::NOT_DONE),
        ("DiagnosticReport", "preliminary", reason::NOT_CONFIRMED),
        ("MedicationRequest", "draft", reason::NOT_A_FACT),
        ("MedicationRequest", "cancelled", reason::NOT_DONE),
        ("MedicationRequest.intent", "proposal", reason::NOT_A_FACT),
        ("MedicationRequest.intent", "plan", reason::NOT_A_FACT),
        ("MedicationRequest.intent", "option", reason::NOT_A_FACT),
        ("MedicationAdministration", "not-done", reason::NOT_DONE),
        ("MedicationStatement", "intended", reason::NOT_A_FACT),
        ("MedicationStatement", "not-taken", reason::NOT_DONE),
        ("MedicationDispense", "declined", reason::NOT_DONE),
        ("MedicationDispense", "in-progress", reason::NOT_A_FACT),
        ("Immunization", "not-done", reason::NOT_DONE),
        ("Immunization", "entered-in-error", reason::ENTERED_IN_ERROR),
        ("Device", "entered-in-error", reason::ENTERED_IN_ERROR),
        ("Specimen", "entered-in-error", reason::ENTERED_IN_ERROR),
        ("Procedure", "postponed", reason::UNKNOWN_STATUS),
    ];
    for (kind, code, why) in left_out {
        let type_name = kind.split('.').next().expect("a type");
        let (outcomes, rows) = mapped(&[record(type_name, status(kind, code))]);
        assert_eq!(outcomes, [Outcome::Unmapped(why)], "{kind} {code}");
        assert!(rows.is_empty(), "{kind} {code}");
    }
    let facts = [
        ("Condition", "confirmed"),
        ("AllergyIntolerance", "confirmed"),
        ("Encounter", "in-progress"),
        ("Procedure", "completed"),
        ("Observation", "amended"),
        ("DiagnosticReport", "final"),
        ("MedicationRequest", "stopped"),
        ("MedicationAdministration", "completed"),
        ("MedicationStatement", "active"),
        ("MedicationDispense", "completed"),
        ("Immunization", "completed"),
        ("Device", "active"),
        ("Specimen", "unavailable"),
    ];
    for (kind, code) in facts {
        assert_eq!(outcome(record(kind, status(kind, code))), Outcome::Mapped, "{kind} {code}");
        assert_eq!(outcome(record(kind, json!({}))), Outcome::Mapped, "{kind} without a status");
    }
}

#[test]
fn one_coding_that_denies_is_not_outvoted() {
    let both = json!({"verificationStatus": {"coding": [{"code": "confirmed"}, {"code": "refuted"}]}});
    assert_eq!(outcome(record("Condition", both)), Outcome::Unmapped(reason::NOT_A_FACT));
}

#[test]
fn a_confirmed_condition_says_so() {
    let (_, rows) = mapped(&[
        record("Condition", status("Condition", "confirmed")),
        record("Condition", json!({"id": "other"})),
    ]);
    let conditions = &rows["condition_occurrence"];
    let status = conditions["condition_status_concept_id"].as_primitive::<Int64Type>();
    assert_eq!((status.value(0), status.is_null(1)), (32_893, true));
    let keys = conditions["_row_key"].as_primitive::<UInt64Type>();
    assert!(keys.values().iter().all(|key| RowKey::from_bits(*key).origin() == Origin::Condition));
}

#[test]
fn an_element_that_modifies_and_is_not_understood_leaves_the_record_out() {
    let modifier = json!([{"url": "http://acme.example/was-not", "valueBoolean": true}]);
    let deep = json!({"dosageInstruction": [{"modifierExtension": modifier}]});
    for changed in [
        record("Condition", json!({"modifierExtension": modifier})),
        record("MedicationRequest", deep),
        record("Procedure", json!({"implicitRules": "http://acme.example/rules"})),
    ] {
        assert_eq!(outcome(changed), Outcome::Unmapped(reason::MODIFIED));
    }
}

#[test]
fn an_observation_about_somebody_else_is_not_the_patients() {
    let about = |focus: &str| outcome(record("Observation", json!({"focus": [{"reference": focus}]})));
    assert_eq!(about("RelatedPerson/mother"), Outcome::Unmapped(reason::ABOUT_ANOTHER));
    assert_eq!(about("Patient/p2"), Outcome::Unmapped(reason::ABOUT_ANOTHER));
    assert_eq!(about("Patient/p1"), Outcome::Mapped);
}

#[test]
fn why_there_is_no_result_is_no_result() {
    let absent = json!({"coding": [{"code": "not-performed"}]});
    let code = json!({"coding": [{"system": "http://loinc.org", "code": "8480-6"}]});
    let component = json!({"code": code, "dataAbsentReason": absent});
    let measured = json!({"code": code, "valueQuantity": {"value": 120}});
    let (outcomes, rows) = mapped(&[
        record("Observation", json!({"dataAbsentReason": absent})),
        record("Observation", json!({"component": [component]})),
        record("Observation", json!({"component": [component, measured], "dataAbsentReason": absent})),
        record("Observation", json!({"component": [{"valueInteger": 1}]})),
    ]);
    let none = Outcome::Unmapped(reason::NO_RESULT);
    assert_eq!(outcomes, [none, none, Outcome::Mapped, none]);
    assert_eq!(rows.values().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[test]
fn a_bound_is_never_published_as_the_number() {
    let social = json!([{"coding": [{"code": "social-history"}]}]);
    let quantity = |comparator: &str| json!({"value": 20, "comparator": comparator});
    let (_, rows) = mapped(&[
        record("Observation", json!({"category": social, "valueQuantity": quantity("<")})),
        record("Observation", json!({"category": social, "valueQuantity": quantity("ad")})),
        record("Observation", json!({"category": social, "valueQuantity": {"value": 20}})),
        record(
            "Specimen",
            json!({"collection": {"collectedDateTime": "2020-01-01", "quantity": quantity(">")}}),
        ),
    ]);
    let measurements = &rows["measurement"];
    let numbers = measurements["value_as_number"].as_primitive::<Float64Type>();
    let operators = measurements["operator_concept_id"].as_primitive::<Int64Type>();
    assert_eq!((numbers.value(0), operators.value(0)), (20.0, 4_171_756));
    assert!(numbers.is_null(1) && operators.is_null(1), "a bound of an unknown kind");
    assert_eq!(rows["observation"]["value_as_number"].as_primitive::<Float64Type>().value(0), 20.0);
    assert!(rows["specimen"]["quantity"].is_null(0));
}

#[test]
fn the_normal_range_is_the_one_that_is_normal_in_the_unit_of_the_value() {
    let value = json!({"value": 5, "system": "http://unitsofmeasure.org", "code": "mg/dL"});
    let range = |low: f64, more: Value| {
        let mut range = json!({"low": {"value": low, "code": "mg/dL"}});
        range.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        range
    };
    let critical = range(1.0, json!({"type": {"coding": [{"code": "critical"}]}}));
    let normal = range(2.0, json!({"type": {"coding": [{"code": "normal"}]}}));
    let women = range(3.0, json!({"appliesTo": [{"text": "women"}]}));
    let other_unit = json!({"low": {"value": 4, "code": "mmol/L"}});
    let low = |ranges: Value| {
        let (_, rows) =
            mapped(&[record("Observation", json!({"valueQuantity": value, "referenceRange": ranges}))]);
        let low = rows["measurement"]["range_low"].as_primitive::<Float64Type>().clone();
        low.is_valid(0).then(|| low.value(0))
    };
    assert_eq!(low(json!([critical, normal])), Some(2.0));
    assert_eq!(low(json!([women, normal])), Some(2.0));
    assert_eq!(low(json!([women])), Some(3.0));
    assert_eq!(low(json!([critical])), None);
    assert_eq!(low(json!([normal, range(9.0, json!({}))])), None, "two of them");
    assert_eq!(low(json!([other_unit])), None);
}

#[test]
fn a_prescription_ends_with_its_supply_and_not_with_its_validity() {
    let dispense = |supply: Value| {
        json!({"dispenseRequest": {
            "validityPeriod": {"start": "2020-01-01", "end": "2021-01-01"}, "expectedSupplyDuration": supply,
        }})
    };
    let (_, rows) = mapped(&[
        record("MedicationRequest", dispense(json!({"value": 10, "code": "d"}))),
        record("MedicationRequest", dispense(json!({"value": 10}))),
        record("MedicationRequest", dispense(json!(null))),
    ]);
    let exposures = &rows["drug_exposure"];
    let day = |column: &str, row: usize| {
        let days = exposures[column].as_primitive::<Date32Type>();
        days.is_valid(row).then(|| Date::from_days(days.value(row)).to_string())
    };
    assert_eq!(day("drug_exposure_end_date", 0).as_deref(), Some("2020-01-10"));
    assert_eq!(day("drug_exposure_end_date", 1).as_deref(), Some("2020-01-01"), "ten of what?");
    assert_eq!(day("drug_exposure_end_date", 2).as_deref(), Some("2020-01-01"));
    assert_eq!(day("verbatim_end_date", 0), None);
}

#[test]
fn an_end_that_is_a_month_or_year_is_all_of_it_as_far_as_it_is_past() {
    let (_, rows) = mapped(&[
        record("Condition", json!({"onsetDateTime": "2019-05-20", "abatementDateTime": "2019-05"})),
        record("Condition", json!({"onsetDateTime": "2019-05-20", "abatementDateTime": "2019"})),
        record("Condition", json!({"onsetDateTime": "2026-05-20", "abatementDateTime": "2026"})),
    ]);
    let ends = rows["condition_occurrence"]["condition_end_date"].as_primitive::<Date32Type>().clone();
    let ends: Vec<String> = ends.values().iter().map(|day| Date::from_days(*day).to_string()).collect();
    assert_eq!(ends, ["2019-05-31", "2019-12-31", "2026-11-22"]);
}

#[test]
fn every_form_of_a_date_is_taken() {
    for date in [
        "2020",
        "2020-01",
        "2020-01-01",
        "2020-01-01T10:00:00-05:00",
        "2020-01-01T23:59:59.999-11:30",
        "2020-01-01T00:00:00+14:00",
        "2020-01-01T10:00:00Z",
    ] {
        let (outcomes, rows) = mapped(&[record("Condition", json!({"onsetDateTime": date}))]);
        assert_eq!(outcomes, [Outcome::Mapped], "{date}");
        let start =
            rows["condition_occurrence"]["condition_start_date"].as_primitive::<Date32Type>().value(0);
        assert_eq!(Date::from_days(start).to_string(), "2020-01-01", "{date}");
    }
}

#[test]
fn an_allergy_to_a_drug_has_the_drug_as_its_value() {
    let rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm";
    let drug = json!({"code": {"coding": [{"system": rxnorm, "code": "7980"}]}});
    let (_, rows) = mapped(&[record("AllergyIntolerance", drug), record("AllergyIntolerance", json!({}))]);
    assert_eq!(rows.len(), 1);
    let observations = &rows["observation"];
    let concepts = observations["observation_concept_id"].as_primitive::<Int64Type>();
    assert_eq!(concepts.values().as_ref(), [ALLERGY_TO_DRUG, 0]);
    let values = observations["value_source_value"].as_string::<i32>();
    assert_eq!((values.value(0), values.is_null(1)), ("RxNorm:7980", true));
    let codes = observations["observation_source_value"].as_string::<i32>();
    assert_eq!((codes.value(0), codes.value(1)), ("RxNorm:7980", "SNOMED:44054006"));
}
