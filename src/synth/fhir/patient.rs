//! People and institutions: Patient with the US Core extensions, next of kin, insurance, staff, the hospital.

use std::io;

use super::{Fhir, Json, Person, Record, Type};
use crate::synth::people::TODAY;

const RACES: [(&str, &str); 4] = [
    ("2106-3", "White"),
    ("2054-5", "Black or African American"),
    ("2028-9", "Asian"),
    ("2131-1", "Other Race"),
];
const US_CORE: &str = "{\"url\":\"http://hl7.org/fhir/us/core/StructureDefinition/us-core-";

impl Fhir<'_> {
    /// The institution, its place and its staff.
    pub(super) fn institution(&mut self) -> io::Result<()> {
        let site = self.site;
        let json = &mut self.json;
        json.raw("{\"resourceType\":\"Organization\",\"id\":\"").raw(&site.id);
        json.raw("\",\"active\":true,\"name\":").text(&site.name).raw("}");
        self.file(Type::Organization)?;
        let json = &mut self.json;
        json.raw("{\"resourceType\":\"Location\",\"id\":\"")
            .raw(&site.id)
            .raw("-main\",\"status\":\"active\"");
        json.raw(",\"name\":").text(&site.name);
        json.raw(",\"managingOrganization\":{\"reference\":\"Organization/").raw(&site.id).raw("\"}}");
        self.file(Type::Location)?;
        for who in &site.staff {
            let json = &mut self.json;
            json.resource("Practitioner", who.id);
            json.raw(",\"identifier\":[{\"system\":\"http://hl7.org/fhir/sid/us-npi\",\"value\":\"");
            json.raw(&who.npi).raw("\"}],\"active\":true,\"name\":[{\"family\":").text(&who.family);
            json.raw(",\"given\":[").text(&who.given).raw("],\"prefix\":[\"Dr.\"]}]");
            json.raw(",\"telecom\":[{\"system\":\"email\",\"value\":").text(&who.email).raw("}]}");
            self.file(Type::Practitioner)?;
        }
        Ok(())
    }

    /// A Patient with everything that a hospital knows of a person.
    pub(super) fn patient(&mut self, person: &Person, record: &Record) -> io::Result<()> {
        let (json, site) = (&mut self.json, self.site);
        json.raw("{\"resourceType\":\"Patient\",\"id\":\"").raw(&record.id);
        json.raw(
            "\",\"meta\":{\"profile\":[\"http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient\"]}",
        );
        json.raw(
            ",\"text\":{\"status\":\"generated\",\"div\":\"<div xmlns=\\\"http://www.w3.org/1999/xhtml\\\">",
        );
        json.inner(&person.addressed()).raw(", born ").date(person.birth).raw(", record ").raw(&record.mrn);
        json.raw("</div>\"}");
        extensions(json, person, record);
        identifiers(json, person, record, &site.id);
        names(json, person);
        json.raw(",\"telecom\":[{\"system\":\"phone\",\"value\":\"").raw(&person.phone);
        json.raw("\",\"use\":\"home\"},{\"system\":\"email\",\"value\":\"").raw(&person.email).raw("\"}]");
        json.raw(",\"gender\":\"").raw(if person.female { "female" } else { "male" });
        json.raw("\",\"birthDate\":\"").date(person.birth).raw("\"");
        if let Some(death) = person.death {
            json.raw(",\"deceasedDateTime\":\"").time(death, 40_219, super::ZONE).raw("\"");
        }
        address(json, person);
        json.raw(",\"contact\":[{\"relationship\":[{\"text\":\"next of kin\"}],\"name\":{\"text\":");
        json.text(&person.kin)
            .raw("},\"telecom\":[{\"system\":\"phone\",\"value\":\"")
            .raw(&person.kin_phone);
        json.raw("\"}]}],\"generalPractitioner\":[").practitioner_ref(site, person.number).raw("]");
        json.raw(",\"managingOrganization\":{\"reference\":\"Organization/").raw(&site.id).raw("\"}");
        // Fields of no standard, as old interfaces leave them.
        json.raw(",\"x-wristband\":\"").raw(&record.wristband).raw("\"");
        if person.number.is_multiple_of(4) {
            json.raw(",\"legacyRecord\":{\"").inner(&person.family).raw("\":{\"policy\":[\"");
            json.raw(&record.member).raw("\"]}}");
        }
        json.raw("}");
        Ok(())
    }

    /// The next of kin.
    pub(super) fn related_person(&mut self, person: &Person, record: &Record) {
        let json = &mut self.json;
        json.raw("{\"resourceType\":\"RelatedPerson\",\"id\":\"kin-").raw(&record.mrn).raw("\"");
        json.patient_ref("patient", record).raw(",\"name\":[{\"text\":").text(&person.kin);
        json.raw("}],\"telecom\":[{\"system\":\"phone\",\"value\":\"").raw(&person.kin_phone).raw("\"}]}");
    }

    /// The insurance.
    pub(super) fn coverage(&mut self, person: &Person, record: &Record) {
        let json = &mut self.json;
        json.raw("{\"resourceType\":\"Coverage\",\"id\":\"cov-").raw(&record.mrn);
        json.raw("\",\"status\":\"active\",\"subscriberId\":\"").raw(&record.member).raw("\"");
        json.raw(",\"beneficiary\":{\"reference\":\"Patient/").raw(&record.id).raw("\",\"display\":");
        json.text(&person.addressed()).raw("},\"payor\":[{\"display\":\"Mutual of Kestrelmoor\"}]}");
    }
}

fn extensions(json: &mut Json, person: &Person, record: &Record) {
    let race = RACES[person.race];
    json.raw(",\"extension\":[")
        .raw(US_CORE)
        .raw("race\",\"extension\":[{\"url\":\"ombCategory\",\"valueCoding\":");
    json.raw("{\"system\":\"urn:oid:2.16.840.1.113883.6.238\",\"code\":\"")
        .raw(race.0)
        .raw("\",\"display\":\"");
    json.raw(race.1).raw("\"}},{\"url\":\"text\",\"valueString\":\"").raw(race.1).raw("\"}]},").raw(US_CORE);
    let (code, display) =
        if person.hispanic { ("2135-2", "Hispanic or Latino") } else { ("2186-5", "Not Hispanic or Latino") };
    json.raw("ethnicity\",\"extension\":[{\"url\":\"ombCategory\",\"valueCoding\":");
    json.raw("{\"system\":\"urn:oid:2.16.840.1.113883.6.238\",\"code\":\"")
        .raw(code)
        .raw("\",\"display\":\"");
    json.raw(display).raw("\"}},{\"url\":\"text\",\"valueString\":\"").raw(display).raw("\"}]}");
    json.raw(
        ",{\"url\":\"http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName\",\"valueString\":",
    );
    json.text(&person.mother).raw("},").raw(US_CORE).raw("birthsex\",\"valueCode\":\"");
    json.raw(if person.female { "F" } else { "M" });
    json.raw("\"},{\"url\":\"http://hl7.org/fhir/StructureDefinition/patient-birthPlace\",\"valueAddress\":{\"city\":");
    json.text(person.place.town).raw(",\"state\":\"").raw(person.place.state).raw("\"}}");
    json.raw(",{\"url\":\"https://portal.example.org/fhir/last-login\",\"extension\":[{\"url\":\"address\",");
    json.raw("\"valueUrl\":\"https://portal.example.org/u/").raw(&record.mrn).raw("\"}]}]");
}

fn identifiers(json: &mut Json, person: &Person, record: &Record, site: &str) {
    let typed = |json: &mut Json, code: &str, system: &str, value: &str| {
        json.raw("{\"type\":{\"coding\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/v2-0203\",\"code\":\"");
        json.raw(code).raw("\"}]},\"system\":\"").raw(system).raw("\",\"value\":\"").raw(value).raw("\"}");
    };
    json.raw(",\"identifier\":[");
    typed(json, "MR", &format!("https://{site}.example.org/records"), &record.mrn);
    json.raw(",");
    typed(json, "SS", "http://hl7.org/fhir/sid/us-ssn", &person.ssn);
    json.raw(",");
    typed(json, "DL", "urn:oid:2.16.840.1.113883.4.3.25", &person.licence);
    json.raw(",");
    typed(json, "PPN", "http://hl7.org/fhir/sid/passport-USA", &person.passport);
    json.raw(",");
    typed(json, "MB", "https://insurance.example.org/members", &record.member);
    json.raw("]");
}

fn names(json: &mut Json, person: &Person) {
    json.raw(",\"name\":[{\"use\":\"official\",\"family\":").text(&person.family).raw(",\"given\":[");
    json.text(&person.given).raw(",").text(&person.middle).raw("]}");
    if let Some(maiden) = &person.maiden {
        json.raw(",{\"use\":\"maiden\",\"family\":").text(maiden).raw(",\"given\":[");
        json.text(&person.given).raw(",").text(&person.middle).raw("]}");
    }
    json.raw("]");
}

fn address(json: &mut Json, person: &Person) {
    json.raw(
        ",\"address\":[{\"extension\":[{\"url\":\"http://hl7.org/fhir/StructureDefinition/geolocation\"",
    );
    json.raw(",\"extension\":[{\"url\":\"latitude\",\"valueDecimal\":").raw(&person.latitude);
    json.raw("},{\"url\":\"longitude\",\"valueDecimal\":").raw(&person.longitude).raw("}]}],\"line\":[");
    json.text(&person.street).raw("],\"city\":").text(person.place.town).raw(",\"state\":\"");
    json.raw(person.place.state).raw("\",\"postalCode\":\"").raw(&person.zip).raw("\",\"country\":\"US\"");
    json.raw(",\"period\":{\"start\":\"").date(person.birth.max(TODAY.plus_days(-2900))).raw("\"}}]");
}
