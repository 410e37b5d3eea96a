//! Lines that no reader can accept, and files that belong to no export, each with somebody's identifiers in it: what a
//! reader says about them must not repeat what they hold.

use std::io::{self, Write};

use super::fhir::{Fhir, Type};
use super::omop::{Omop, Table};
use super::people::{Person, Record};
use super::planted::Planted;

/// One person in so many gets a full set of faults written about them.
pub const EVERY: u64 = 4000;

/// Writes one fault of every kind about `person`.
///
/// # Errors
/// If a file cannot be written.
pub fn write<W: Write>(
    (fhir, omop): (Option<&mut Fhir<'_>>, Option<&mut Omop<'_>>),
    (person, record): (&Person, &Record),
    planted: &mut Planted<W>,
) -> io::Result<()> {
    let family = &person.family;
    if let Some(fhir) = fhir {
        for (kind, line) in lines(person, record) {
            fhir.fault(kind, &line)?;
        }
        for (kind, line) in unmappable(person, record) {
            fhir.odd_line(kind, &line)?;
        }
        fhir.disguise(person, record)?;
        miscoded(person, record, planted)?;
        let name = format!("scan {family} {} {}.pdf", person.given, record.mrn);
        fhir.stranger(&name, b"%PDF-1.4\n% nothing to read here\n")?;
        planted.add("file", &record.id, "file_name", &name)?;
        // Bulk files are named by type; some are named after the person they were made for.
        let name = format!("Observation.{}-{}.ndjson", super::names::folded(family), record.mrn);
        fhir.lone(&name, &lone_observation(record))?;
        planted.add("file", &record.id, "file_name", &name)?;
        fhir.lone(&format!("Media.{}.ndjson", record.mrn), &lone_media(person, record))?;
    }
    if let Some(omop) = omop {
        for (table, row) in rows(person, record) {
            omop.fault(table, &row)?;
        }
        omop.disguise(person, record)?;
        let name = format!("letters_{}_{}.csv", super::names::folded(family), record.mrn);
        omop.stranger(&name, format!("recipient,{family}\n{},{}\n", person.street, person.phone).as_bytes())?;
        planted.add("file", &record.id, "file_name", &name)?;
    }
    Ok(())
}

/// The numbers that stand where codes should are the person's, written without their letters and signs.
fn miscoded<W: Write>(person: &Person, record: &Record, planted: &mut Planted<W>) -> io::Result<()> {
    for text in [&record.mrn, &person.ssn, &person.phone] {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        planted.add("code", &record.id, "digits", &digits)?;
    }
    Ok(())
}

fn lone_observation(record: &Record) -> Vec<u8> {
    format!(
        "{{\"resourceType\":\"Observation\",\"id\":\"alone-{mrn}\",\"status\":\"final\",\"code\":{{\"coding\":[{{\"system\":\"http://loinc.org\",\"code\":\"8867-4\"}}]}},\"subject\":{{\"reference\":\"Patient/{id}\"}},\"effectiveDateTime\":\"2025-01-02\",\"valueQuantity\":{{\"value\":71,\"system\":\"http://unitsofmeasure.org\",\"code\":\"/min\"}}}}\n",
        mrn = record.mrn,
        id = record.id
    )
    .into_bytes()
}

fn lone_media(person: &Person, record: &Record) -> Vec<u8> {
    format!(
        "{{\"resourceType\":\"Media\",\"id\":\"photo-{}\",\"status\":\"completed\",\"subject\":{{\"display\":\"{}\"}},\"content\":{{\"title\":\"{}\"}}}}\n",
        record.mrn, person.family, person.email
    )
    .into_bytes()
}

/// Lines that are not FHIR, or not about anybody.
fn lines(person: &Person, record: &Record) -> Vec<(Type, Vec<u8>)> {
    let (family, given, mrn, id) = (&person.family, &person.given, &record.mrn, &record.id);
    let (birth, ssn) = (person.birth, &person.ssn);
    let coded = "\"code\":{\"coding\":[{\"system\":\"http://loinc.org\",\"code\":\"8867-4\"}]}";
    let deep = "[".repeat(400);
    let mut list: Vec<(Type, Vec<u8>)> = [
        // Cut off in the middle of a name.
        (Type::Observation, format!("{{\"resourceType\":\"Observation\",\"id\":\"cut-{mrn}\",\"subject\":{{\"display\":\"{family}")),
        // Not JSON at all.
        (Type::Condition, format!("Patient {given} {family}, born {birth}, {ssn}: see paper record {mrn}")),
        // A wrong type.
        (Type::Patient, format!("{{\"resourceType\":\"Patient\",\"id\":\"twisted-{mrn}\",\"name\":[{{\"family\":\"{family}\"}}],\"birthDate\":{{\"value\":\"{birth}\"}}}}")),
        (Type::Observation, format!("{{\"resourceType\":\"Observation\",\"id\":\"words-{mrn}\",\"status\":\"final\",{coded},\"subject\":{{\"reference\":\"Patient/{id}\"}},\"effectiveDateTime\":\"2024-03-01\",\"valueQuantity\":{{\"value\":\"71 for {family}\"}}}}")),
        // No such day.
        (Type::Condition, format!("{{\"resourceType\":\"Condition\",\"id\":\"day-{mrn}\",\"code\":{{\"coding\":[{{\"system\":\"http://snomed.info/sct\",\"code\":\"38341003\"}}]}},\"subject\":{{\"reference\":\"Patient/{id}\"}},\"onsetDateTime\":\"2024-02-31 {family}\"}}")),
        // About nobody in the export.
        (Type::Observation, format!("{{\"resourceType\":\"Observation\",\"id\":\"lost-{mrn}\",\"status\":\"final\",{coded},\"subject\":{{\"reference\":\"Patient/nobody-{mrn}\"}},\"effectiveDateTime\":\"2024-03-01\"}}")),
        (Type::Procedure, format!("{{\"resourceType\":\"Procedure\",\"id\":\"query-{mrn}\",\"status\":\"completed\",\"code\":{{\"text\":\"x\"}},\"subject\":{{\"reference\":\"Patient?identifier=http://hl7.org/fhir/sid/us-ssn|{ssn}\"}}}}")),
        // Not an object.
        (Type::Condition, format!("[{{\"resourceType\":\"Patient\",\"name\":\"{family}\"}}]")),
        (Type::Encounter, format!("\"{given} {family}\"")),
        // A number that is none, and nesting without end.
        (Type::Observation, format!("{{\"resourceType\":\"Observation\",\"id\":\"inf-{mrn}\",{coded},\"subject\":{{\"reference\":\"Patient/{id}\"}},\"valueQuantity\":{{\"value\":Infinity-{family}}}}}")),
        (Type::Device, format!("{{\"resourceType\":\"Device\",\"id\":\"deep-{mrn}\",\"note\":{deep}\"{family}\"")),
    ]
    .into_iter()
    .map(|(kind, line)| (kind, line.into_bytes()))
    .collect();
    // NUL bytes, and bytes that are not UTF-8.
    list.push((
        Type::Immunization,
        format!("\0\0{{\"resourceType\":\"Immunization\",\0\"id\":\"{family}\"}}").into_bytes(),
    ));
    let mut broken =
        format!("{{\"resourceType\":\"Condition\",\"id\":\"bytes-{mrn}\",\"note\":\"{family}").into_bytes();
    broken.extend_from_slice(b"\xff\xfe\"}");
    list.push((Type::Condition, broken));
    list
}

/// Lines that are sound but say nothing that is kept: an unheard-of type that is somebody's name, a type in the wrong file.
fn unmappable(person: &Person, record: &Record) -> Vec<(Type, Vec<u8>)> {
    let (family, mrn) = (&person.family, &record.mrn);
    [
        (Type::Coverage, format!("{{\"resourceType\":\"{family}\",\"id\":\"{mrn}\"}}")),
        (
            Type::RelatedPerson,
            format!(
                "{{\"resourceType\":\"Basic\",\"id\":\"basic-{mrn}\",\"{family}\":\"{}\"}}",
                person.email
            ),
        ),
    ]
    .into_iter()
    .map(|(kind, line)| (kind, line.into_bytes()))
    .collect()
}

/// Rows that are not OMOP, or not about anybody.
fn rows(person: &Person, record: &Record) -> Vec<(Table, String)> {
    let (family, mrn, id) = (&person.family, &record.mrn, record.person_id);
    vec![
        (Table::Condition, format!("{family},{id},201826,2024-03-01")),
        (
            Table::Measurement,
            format!(
                "9000000000000000001,{id},3004410,born {},,,32817,0,6.5,0,8554,,,1,,,LOINC:4548-4,0,%,0,{mrn},,",
                person.birth
            ),
        ),
        (
            Table::Drug,
            format!(
                "9000000000000000002,{},40163924,2024-03-01,,2024-03-30,,,32817,,0,1,30,\"{family}\",0,,1,,,RxNorm:860975,0,,",
                id / 2
            ),
        ),
        (
            Table::Procedure,
            format!(
                "9000000000000000003,{mrn},4249893,2024-03-01,,,,32817,0,1,1,,,SNOMED:73761001,0,\"{family}\""
            ),
        ),
    ]
}
