//! Visits, diagnoses, measurements, drugs, procedures, vaccines, allergies, implants and specimens.

use super::{Fhir, Json, Person, Record, Scene, Visit, ZONE};
use crate::synth::codes::{BLOOD, LOINC, Measured, PRESSURE, RXNORM, SMOKING, SMOKING_ANSWERS, Term, UCUM};
use crate::synth::life::{Class, Event, pressures};
use crate::synth::site::Site;

const CATEGORY: &str = ",\"category\":[{\"coding\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/";

impl Fhir<'_> {
    /// The visit itself. `subject.display` carries the name in every one of them.
    pub(super) fn encounter(&mut self, person: &Person, record: &Record, visit: &Visit, events: &[Event]) {
        let (json, site) = (&mut self.json, self.site);
        let (code, display) = match visit.class {
            Class::Ambulatory => ("AMB", "ambulatory"),
            Class::Emergency => ("EMER", "emergency"),
            Class::Inpatient => ("IMP", "inpatient encounter"),
        };
        json.resource("Encounter", visit.id).raw(",\"identifier\":[{\"use\":\"official\",\"value\":\"V-");
        json.raw(&record.mrn).raw("-").date(visit.start).raw("\"}],\"status\":\"finished\",\"class\":");
        json.raw("{\"system\":\"http://terminology.hl7.org/CodeSystem/v3-ActCode\",\"code\":\"").raw(code);
        json.raw("\",\"display\":\"").raw(display).raw("\"},\"type\":[{\"coding\":[{\"system\":");
        json.raw(
            "\"http://snomed.info/sct\",\"code\":\"185347001\",\"display\":\"Encounter for problem\"}]}]",
        );
        json.raw(",\"subject\":{\"reference\":\"Patient/").raw(&record.id).raw("\",\"display\":");
        json.text(&person.addressed()).raw("},\"participant\":[{\"individual\":");
        json.practitioner_ref(site, visit.practitioner).raw("}],\"period\":{\"start\":\"");
        json.time(visit.start, visit.at, ZONE).raw("\",\"end\":\"");
        json.time(visit.end, visit.at + 1500, ZONE).raw("\"}");
        if let Some(Event::Condition(term, ..)) = events.first() {
            json.raw(",\"reasonCode\":[").concept(term, term.display).raw("]");
        }
        json.raw(",\"location\":[{\"location\":{\"reference\":\"Location/").raw(&site.id);
        json.raw("-main\",\"display\":").text(&site.name).raw("}}],\"serviceProvider\":");
        json.raw("{\"reference\":\"Organization/").raw(&site.id).raw("\"}}");
    }

    /// Everything else that happens at a visit.
    pub(super) fn event(&mut self, scene: &Scene<'_>, event: &Event, all: &[Event]) {
        let (json, site) = (&mut self.json, self.site);
        match event {
            Event::Condition(term, onset, end) => condition(json, site, scene, term, (*onset, *end)),
            Event::Pressure(systolic, diastolic) => pressure(json, scene, *systolic, *diastolic),
            Event::Measure(what, value) => measure(json, site, scene, what, *value),
            Event::Smoking(answer) => smoking(json, scene, *answer),
            Event::Prescription(drug, days) => prescription(json, site, scene, drug, *days),
            Event::Dose(drug) => {
                medicine(json, scene, "MedicationAdministration", "completed", drug, ("subject", "context"));
                json.when("effectiveDateTime", scene.visit).raw("}");
            }
            Event::Reported(drug) => {
                medicine(json, scene, "MedicationStatement", "active", drug, ("subject", "context"));
                json.when("effectiveDateTime", scene.visit).raw(",\"informationSource\":{\"display\":");
                json.text(&scene.person.kin).raw("}}");
            }
            Event::Dispensed(drug, days) => {
                medicine(json, scene, "MedicationDispense", "completed", drug, ("subject", "context"));
                json.when("whenHandedOver", scene.visit).raw(",\"daysSupply\":{\"value\":").number(*days);
                json.raw(",\"unit\":\"d\"},\"receiver\":[{\"display\":").text(&scene.person.kin).raw("}]}");
            }
            Event::Procedure(term) => procedure(json, site, scene, term),
            Event::Vaccine(term) => vaccine(json, site, scene, term),
            Event::Allergy(term) => allergy(json, scene, term),
            Event::Device(term) => device(json, scene, term),
            Event::Specimen => specimen(json, scene),
            Event::Report(results) => self.report(scene, *results, all),
            Event::Note => self.document(scene),
        }
    }
}

/// A note that names someone, in one resource of eight.
fn remark(json: &mut Json, scene: &Scene<'_>) {
    if scene.hides(8) {
        json.raw(",\"note\":[{\"text\":\"Discussed with ").inner(&scene.person.kin).raw(" on ");
        json.raw(&scene.person.kin_phone).raw("; lives at ").inner(&scene.person.street).raw("\"}]");
    }
}

fn condition(
    json: &mut Json,
    site: &Site,
    scene: &Scene<'_>,
    term: &Term,
    (onset, end): (almoner_model::Date, Option<almoner_model::Date>),
) {
    json.resource("Condition", scene.id);
    json.raw(",\"clinicalStatus\":{\"coding\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/condition-clinical\"");
    json.raw(",\"code\":\"").raw(if end.is_some() { "resolved" } else { "active" }).raw("\"}]}");
    json.raw(",\"verificationStatus\":{\"coding\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/");
    json.raw("condition-ver-status\",\"code\":\"confirmed\"}]}");
    json.raw(CATEGORY).raw("condition-category\",\"code\":\"encounter-diagnosis\"}]}],\"code\":");
    if scene.hides(8) {
        json.raw("{\"coding\":[").coding(term).raw("],\"text\":\"").inner(term.display).raw(", seen with ");
        json.inner(&scene.person.addressed()).raw(" (").raw(&scene.record.mrn).raw(")\"}");
    } else {
        json.concept(term, term.display);
    }
    json.patient_ref("subject", scene.record).encounter_ref(scene.visit).raw(",\"onsetDateTime\":\"");
    json.time(onset, scene.visit.at, ZONE).raw("\"");
    if let Some(end) = end {
        json.raw(",\"abatementDateTime\":\"").time(end, scene.visit.at, ZONE).raw("\"");
    }
    json.when("recordedDate", scene.visit);
    if scene.hides(4) {
        json.raw(",\"recorder\":").practitioner_ref(site, scene.visit.practitioner);
    }
    remark(json, scene);
    json.raw("}");
}

fn observation(json: &mut Json, scene: &Scene<'_>, laboratory: bool, term: &Term) {
    json.resource("Observation", scene.id).raw(",\"status\":\"final\"").raw(CATEGORY);
    json.raw("observation-category\",\"code\":\"").raw(if laboratory { "laboratory" } else { "vital-signs" });
    json.raw("\"}]}],\"code\":").concept(term, term.display).patient_ref("subject", scene.record);
    json.encounter_ref(scene.visit).when("effectiveDateTime", scene.visit).when("issued", scene.visit);
}

fn quantity(json: &mut Json, what: &Measured, value: i64, unit: &str) {
    json.raw("\"valueQuantity\":{\"value\":").fixed(value, what.decimals).raw(",\"unit\":").text(unit);
    json.raw(",\"system\":\"http://unitsofmeasure.org\",\"code\":\"").raw(what.unit).raw("\"}");
}

fn pressure(json: &mut Json, scene: &Scene<'_>, systolic: i64, diastolic: i64) {
    observation(json, scene, false, &PRESSURE);
    json.raw(",\"component\":[");
    for (at, (what, value)) in pressures(systolic, diastolic).into_iter().enumerate() {
        json.raw(if at == 0 { "{\"code\":" } else { ",{\"code\":" }).concept(&what.term, what.term.display);
        json.raw(",");
        quantity(json, what, value, what.unit);
        json.raw("}");
    }
    json.raw("]}");
}

fn measure(json: &mut Json, site: &Site, scene: &Scene<'_>, what: &Measured, value: i64) {
    observation(json, scene, what.laboratory, &what.term);
    json.raw(",");
    if scene.hides(64) {
        // Some systems print the label of the tube into the unit.
        quantity(json, what, value, &format!("{} {}", what.unit, scene.person.family));
    } else {
        quantity(json, what, value, what.unit);
    }
    if scene.hides(16) {
        json.raw(",\"performer\":[").practitioner_ref(site, scene.visit.practitioner).raw("]");
        json.raw(",\"device\":{\"display\":\"Analyser of ").inner(&scene.person.given).raw("'s ward, 10.");
        json.number(scene.visit.hiding as i64 & 127).raw(".7.21\"}");
    }
    remark(json, scene);
    json.raw("}");
}

fn smoking(json: &mut Json, scene: &Scene<'_>, answer: usize) {
    observation(json, scene, false, &SMOKING);
    let answer = &SMOKING_ANSWERS[answer];
    if scene.hides(2) {
        let text = format!("{} says {}", answer.display, scene.person.addressed());
        json.raw(",\"valueCodeableConcept\":").concept(answer, &text).raw("}");
    } else {
        json.raw(",\"valueString\":\"Asked ").inner(&scene.person.addressed()).raw(": ");
        json.inner(answer.display).raw("\"}");
    }
}

/// The beginning of every resource about a medicine.
fn medicine(
    json: &mut Json,
    scene: &Scene<'_>,
    name: &str,
    status: &str,
    drug: &Term,
    (subject, context): (&str, &str),
) {
    json.resource(name, scene.id).raw(",\"status\":\"").raw(status).raw("\",\"medicationCodeableConcept\":");
    json.concept(drug, drug.display).patient_ref(subject, scene.record).raw(",\"").raw(context);
    json.raw("\":{\"reference\":\"Encounter/").uuid(scene.visit.id).raw("\"}");
}

fn prescription(json: &mut Json, site: &Site, scene: &Scene<'_>, drug: &Term, days: i64) {
    json.resource("MedicationRequest", scene.id);
    if scene.hides(4) {
        // The medicine, and once more the person, as contained resources.
        json.raw(",\"contained\":[{\"resourceType\":\"Medication\",\"id\":\"med\",\"code\":");
        json.concept(drug, drug.display)
            .raw("},{\"resourceType\":\"Patient\",\"id\":\"who\",\"name\":[{\"text\":");
        json.text(&scene.person.addressed()).raw("}],\"identifier\":[{\"value\":\"").raw(&scene.person.ssn);
        json.raw("\"}]}],\"status\":\"active\",\"intent\":\"order\",\"medicationReference\":{\"reference\":\"#med\"}");
    } else {
        json.raw(",\"status\":\"active\",\"intent\":\"order\",\"medicationCodeableConcept\":");
        json.concept(drug, drug.display);
    }
    json.patient_ref("subject", scene.record).encounter_ref(scene.visit).when("authoredOn", scene.visit);
    json.raw(",\"requester\":").practitioner_ref(site, scene.visit.practitioner);
    json.raw(",\"dosageInstruction\":[{\"sequence\":1,\"text\":\"1 daily");
    if scene.hides(8) {
        json.raw("; ").inner(&scene.person.kin).raw(" collects it");
    }
    json.raw(
        "\",\"timing\":{\"repeat\":{\"frequency\":1,\"period\":1,\"periodUnit\":\"d\"}},\"doseAndRate\":",
    );
    json.raw("[{\"doseQuantity\":{\"value\":1}}]}],\"dispenseRequest\":{\"numberOfRepeatsAllowed\":3,\"quantity\":");
    json.raw("{\"value\":").number(days).raw("},\"expectedSupplyDuration\":{\"value\":").number(days);
    json.raw(",\"unit\":\"d\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"d\"}}");
    remark(json, scene);
    json.raw("}");
}

fn procedure(json: &mut Json, site: &Site, scene: &Scene<'_>, term: &Term) {
    json.resource("Procedure", scene.id)
        .raw(",\"status\":\"completed\",\"code\":")
        .concept(term, term.display);
    json.patient_ref("subject", scene.record)
        .encounter_ref(scene.visit)
        .raw(",\"performedPeriod\":{\"start\":\"");
    json.time(scene.visit.start, scene.visit.at, ZONE).raw("\",\"end\":\"");
    json.time(scene.visit.start, scene.visit.at + 900, ZONE).raw("\"},\"performer\":[{\"actor\":");
    json.practitioner_ref(site, scene.visit.practitioner).raw("}]");
    if scene.hides(4) {
        json.raw(",\"outcome\":{\"text\":\"Tolerated well by ").inner(&scene.person.addressed()).raw("\"}");
    }
    remark(json, scene);
    json.raw("}");
}

fn vaccine(json: &mut Json, site: &Site, scene: &Scene<'_>, term: &Term) {
    json.resource("Immunization", scene.id).raw(",\"status\":\"completed\",\"vaccineCode\":");
    json.concept(term, term.display).patient_ref("patient", scene.record).encounter_ref(scene.visit);
    json.when("occurrenceDateTime", scene.visit).raw(",\"primarySource\":true,\"lotNumber\":\"LOT-");
    json.raw(&scene.record.wristband).raw("\",\"performer\":[{\"actor\":");
    json.practitioner_ref(site, scene.visit.practitioner).raw("}]}");
}

fn allergy(json: &mut Json, scene: &Scene<'_>, term: &Term) {
    json.resource("AllergyIntolerance", scene.id);
    json.raw(",\"clinicalStatus\":{\"coding\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/");
    json.raw("allergyintolerance-clinical\",\"code\":\"active\"}]},\"type\":\"allergy\",\"category\":[\"medication\"]");
    json.raw(",\"code\":").concept(term, term.display).patient_ref("patient", scene.record);
    json.when("recordedDate", scene.visit).raw(",\"reaction\":[{\"manifestation\":[{\"text\":\"rash\"}]");
    json.raw(",\"description\":\"as told by ").inner(&scene.person.kin).raw("\"}]}");
}

fn device(json: &mut Json, scene: &Scene<'_>, term: &Term) {
    let serial = scene.visit.hiding % 9_000_000 + 1_000_000;
    json.resource("Device", scene.id).raw(",\"udiCarrier\":[{\"deviceIdentifier\":\"09504000059118\"");
    json.raw(",\"carrierHRF\":\"(01)09504000059118(21)SN").raw(&format!("{serial}-{}", scene.record.mrn));
    json.raw("\"}],\"status\":\"active\",\"serialNumber\":\"SN")
        .raw(&format!("{serial}-{}", scene.record.mrn));
    json.raw("\",\"type\":").concept(term, term.display).patient_ref("patient", scene.record);
    json.raw(",\"url\":\"https://portal.example.org/u/").raw(&scene.person.email).raw("\"}");
}

fn specimen(json: &mut Json, scene: &Scene<'_>) {
    json.resource("Specimen", scene.id)
        .raw(",\"accessionIdentifier\":{\"value\":\"ACC-")
        .raw(&scene.record.mrn);
    json.raw("\"},\"type\":").concept(&BLOOD, BLOOD.display).patient_ref("subject", scene.record);
    json.raw(",\"collection\":{\"collectedDateTime\":\"")
        .time(scene.visit.start, scene.visit.at, ZONE)
        .raw("\"}}");
}

/// A local code that is a record number, and codes of known systems that are names: what no reader may keep.
pub(super) fn disguised(json: &mut Json, person: &Person, record: &Record) {
    json.raw("{\"resourceType\":\"Observation\",\"id\":\"coded-")
        .raw(&record.mrn)
        .raw("\",\"status\":\"final\"");
    json.raw(",\"code\":{\"coding\":[{\"system\":\"https://lab.example.org/local\",\"code\":\"")
        .raw(&record.mrn);
    json.raw("\"},{\"system\":\"").raw(RXNORM).raw("\",\"code\":").text(&person.family).raw("}]}");
    json.patient_ref("subject", record)
        .raw(",\"effectiveDateTime\":\"2024-05-06\",\"valueCodeableConcept\":");
    json.raw("{\"coding\":[{\"system\":\"http://snomed.info/sct\",\"code\":").text(&person.given).raw("}]}}");
}

/// A visit whose class is a name.
pub(super) fn misclassed(json: &mut Json, person: &Person, record: &Record) {
    json.raw("{\"resourceType\":\"Encounter\",\"id\":\"classed-").raw(&record.mrn);
    json.raw("\",\"status\":\"finished\",\"class\":{\"system\":");
    json.raw("\"http://terminology.hl7.org/CodeSystem/v3-ActCode\",\"code\":").text(&person.family).raw("}");
    json.patient_ref("subject", record).raw(",\"period\":{\"start\":\"2024-05-06\"}}");
}

/// A pulse whose unit is a name, or whose answer is an identifier under the name of a known system.
pub(super) fn miscoded(json: &mut Json, record: &Record, (at, (system, code)): (usize, (&str, &str))) {
    json.raw("{\"resourceType\":\"Observation\",\"id\":\"miscoded-").number(at as i64);
    json.raw("-")
        .raw(&record.mrn)
        .raw("\",\"status\":\"final\",\"code\":{\"coding\":[{\"system\":\"")
        .raw(LOINC);
    json.raw("\",\"code\":\"8867-4\"}]}").patient_ref("subject", record);
    json.raw(",\"effectiveDateTime\":\"2024-05-06\",");
    if system == UCUM {
        json.raw("\"valueQuantity\":{\"value\":71,\"system\":\"").raw(system).raw("\",\"code\":").text(code);
        json.raw("}}");
    } else {
        json.raw("\"valueCodeableConcept\":{\"coding\":[{\"system\":\"").raw(system).raw("\",\"code\":");
        json.text(code).raw("}]}}");
    }
}
