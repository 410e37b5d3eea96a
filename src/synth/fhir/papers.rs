//! What is written in words: notes, reports, consents.

use super::{Fhir, Json, Person, Record, Scene, event_id};
use crate::synth::codes::PANEL;
use crate::synth::life::Event;
use crate::synth::people::TODAY;

impl Fhir<'_> {
    /// A clinical note, base64 as in every real export, with the person's name, age and address in it.
    pub(super) fn document(&mut self, scene: &Scene<'_>) {
        let (person, site) = (scene.person, self.site);
        write_note(&mut self.note, scene);
        let json = &mut self.json;
        json.resource("DocumentReference", scene.id)
            .raw(",\"status\":\"current\",\"type\":{\"coding\":[{\"system\":");
        json.raw("\"http://loinc.org\",\"code\":\"34117-2\",\"display\":\"History and physical note\"}]}");
        json.patient_ref("subject", scene.record).when("date", scene.visit).raw(",\"author\":[");
        json.practitioner_ref(site, scene.visit.practitioner).raw("],\"content\":[{\"attachment\":");
        json.raw("{\"contentType\":\"text/plain; charset=utf-8\",\"title\":\"").inner(&person.family);
        json.raw(" ").date(scene.visit.start).raw(".txt\",\"url\":\"https://").raw(&site.id);
        json.raw(".example.org/scans/").raw(&scene.record.mrn).raw(".pdf\",\"data\":\"");
        json.base64(self.note.as_bytes())
            .raw("\"}}],\"context\":{\"encounter\":[{\"reference\":\"Encounter/");
        json.uuid(scene.visit.id).raw("\"}]}}");
    }

    /// A laboratory report of the last `results` measurements, with a letter in it.
    pub(super) fn report(&mut self, scene: &Scene<'_>, results: usize, all: &[Event]) {
        let (json, site) = (&mut self.json, self.site);
        json.resource("DiagnosticReport", scene.id)
            .raw(",\"status\":\"final\",\"category\":[{\"coding\":[{\"system\":");
        json.raw("\"http://terminology.hl7.org/CodeSystem/v2-0074\",\"code\":\"LAB\"}]}],\"code\":");
        json.concept(&PANEL, PANEL.display).patient_ref("subject", scene.record).encounter_ref(scene.visit);
        json.when("effectiveDateTime", scene.visit).when("issued", scene.visit).raw(",\"performer\":[");
        json.practitioner_ref(site, scene.visit.practitioner).raw("],\"result\":[");
        let mut first = true;
        for (at, event) in all.iter().enumerate().take(scene.at).skip(scene.at - results) {
            if matches!(event, Event::Measure(..)) {
                json.raw(if first { "" } else { "," }).raw("{\"reference\":\"Observation/");
                json.uuid(event_id(scene.visit, at)).raw("\"}");
                first = false;
            }
        }
        json.raw("],\"conclusion\":\"Results sent to ").inner(&scene.person.addressed()).raw(", ");
        json.inner(&scene.person.street)
            .raw("\",\"presentedForm\":[{\"contentType\":\"text/plain\",\"data\":\"");
        let letter = format!(
            "Dear {},\nyour results are back. Please call {}.\n",
            scene.person.addressed(),
            scene.person.kin_phone
        );
        json.base64(letter.as_bytes()).raw("\"}]}");
    }

    /// A Consent to research use, or its refusal (HL7 FHIR R4 Consent, `policyRule` OPTIN or OPTOUT).
    pub(super) fn consent(&mut self, person: &Person, record: &Record, permits: bool) {
        let json = &mut self.json;
        let signed = TODAY.plus_days(-(person.number as i32 % 600) - 40);
        json.raw("{\"resourceType\":\"Consent\",\"id\":\"consent-")
            .raw(&record.mrn)
            .raw("\",\"status\":\"active\"");
        code(json.raw(",\"scope\":"), "http://terminology.hl7.org/CodeSystem/consentscope", "research");
        code(json.raw(",\"category\":["), "http://loinc.org", "59284-0");
        json.raw("],\"patient\":{\"reference\":\"Patient/").raw(&record.id).raw("\",\"display\":");
        json.text(&person.addressed())
            .raw("},\"dateTime\":\"")
            .date(signed)
            .raw("\",\"performer\":[{\"display\":");
        json.text(&person.addressed()).raw("}],\"organization\":[{\"reference\":\"Organization/");
        json.raw(&self.site.id)
            .raw("\"}],\"sourceAttachment\":{\"title\":\"signed by ")
            .inner(&person.family);
        json.raw("\"}");
        let rule = if permits { "OPTIN" } else { "OPTOUT" };
        code(json.raw(",\"policyRule\":"), "http://terminology.hl7.org/CodeSystem/v3-ActCode", rule);
        json.raw(",\"provision\":{\"type\":\"").raw(if permits { "permit" } else { "deny" });
        json.raw("\",\"period\":{\"start\":\"")
            .date(signed)
            .raw("\",\"end\":\"")
            .date(signed.plus_days(10_958));
        json.raw(
            "\"},\"purpose\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/v3-ActReason\",\"code\":",
        );
        json.raw("\"HRESCH\"}]}}");
    }
}

fn code<'j>(json: &'j mut Json, system: &str, code: &str) -> &'j mut Json {
    json.raw("{\"coding\":[{\"system\":\"").raw(system).raw("\",\"code\":\"").raw(code).raw("\"}]}")
}

fn write_note(note: &mut String, scene: &Scene<'_>) {
    let person = scene.person;
    note.clear();
    for part in [
        "# Chief complaint\nReview.\n\n# History of present illness\n",
        &person.addressed(),
        " comes from ",
        &person.street,
        ", ",
        person.place.town,
        ". Reached on ",
        &person.phone,
        " or through ",
        &person.kin,
        ". Record ",
        &scene.record.mrn,
        ", insured under ",
        &scene.record.member,
        ".\n\n# Social history\nMother was ",
        &person.mother,
        ".\n\n# Plan\nContinue as before; see ",
        if person.female { "her" } else { "him" },
        " again in three months.\n",
    ] {
        note.push_str(part);
    }
}
