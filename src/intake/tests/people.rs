//! Whose records they are: merged and deleted patients, deleted records, and record numbers.

use super::*;

/// A line of a `deleted` file.
fn delete(urls: &[&str]) -> String {
    let entries: Vec<String> =
        urls.iter().map(|url| format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}}}}"#)).collect();
    format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{}]}}"#, entries.join(","))
}

#[test]
fn merges_and_deletions_are_applied() {
    let old = r#"{"resourceType":"Patient","id":"old","birthDate":"1970-05-01","link":[{"type":"replaced-by","other":{"reference":"Patient/p1"}}]}"#;
    let consent = r#"{"resourceType":"Consent","id":"k","patient":{"reference":"Patient/old"}}"#;
    // The record that was merged away is deleted, as servers do; the one that it was merged into keeps what both had.
    let dir = folder(&[
        ("Patient.ndjson", format!("{old}\n{PATIENT}").as_bytes()),
        ("Condition.ndjson", condition("c1", "Patient/old", "2001-02-03").as_bytes()),
        ("deleted/x.ndjson", delete(&["Condition/c9", "Consent/k9", "Patient/old"]).as_bytes()),
        ("Consent.ndjson", consent.as_bytes()),
    ]);
    let ran = run(dir.path(), &limits());
    assert_eq!(ran.rows()["person"], 1);
    assert_eq!(ran.tally.reasons["Patient"][reason::MERGED], 1);
    let persons: Vec<u32> = ran
        .batches
        .iter()
        .flat_map(|(_, b)| b["_person"].as_primitive::<arrow::datatypes::UInt32Type>().values().to_vec())
        .collect();
    assert_eq!(persons, [1, 1]);
    let row_key = hasher().row_key("Condition", "c9");
    let gone = Deletion::Consent { id: Sensitive::new("k9".into()) };
    assert_eq!(ran.deletions, [Deletion::Row { kind: "Condition", row_key }, gone]);
    assert_eq!(ran.findings.by_word()["deleted-after-merge"], 1);
    assert_eq!(ran.consents, 1);
}

#[test]
fn what_an_export_says_was_deleted_makes_no_row_of_it() {
    let other = PATIENT.replace("\"p1\"", "\"p2\"");
    let conditions = [("c1", "p1"), ("c2", "p2"), ("c3", "p2")];
    let conditions = conditions.map(|(id, p)| condition(id, &format!("Patient/{p}"), "2001-02-03"));
    let dir = folder(&[
        ("Patient.ndjson", format!("{PATIENT}\n{other}").as_bytes()),
        ("Condition.ndjson", conditions.join("\n").as_bytes()),
        ("deleted/x.ndjson", delete(&["Condition/c2", "Patient/p1", "Patient/p7"]).as_bytes()),
    ]);
    let ran = run(dir.path(), &limits());
    assert_eq!((ran.rows()["person"], ran.rows()["condition_occurrence"]), (1, 1));
    assert_eq!(ran.tally.reasons["Patient"][reason::DELETED], 1);
    assert_eq!(ran.tally.reasons["Condition"][reason::DELETED], 2);
    assert_eq!(ran.deletions.len(), 2, "of the unknown patient there is nothing to delete");
}

#[test]
fn record_numbers_are_what_the_hospital_means_as_such() {
    let identifier = |kind: &str, r#use: &str, value: &str| {
        let kind = match kind {
            "" => String::new(),
            code => format!(
                r#""type":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"{code}"}}]}},"#
            ),
        };
        format!(r#"{{{kind}"use":"{use}","system":"urn:s","value":"{value}"}}"#)
    };
    let patient = |id: &str, identifiers: &[String]| {
        let identifiers = identifiers.join(",");
        format!(
            r#"{{"resourceType":"Patient","id":"{id}","birthDate":"1970-05-01","identifier":[{identifiers}]}}"#
        )
    };
    for (identifiers, expected) in [
        (vec![("MR", "usual", "1"), ("", "usual", "2"), ("SS", "official", "3")], 1),
        (vec![("MR", "old", "1"), ("MR", "official", " ")], 0),
        // Nobody says that these are record numbers.
        (vec![("", "official", "1"), ("", "", "2"), ("SS", "usual", "3")], 0),
        (vec![("", "usual", "1"), ("", "secondary", "2")], 1),
    ] {
        let identifiers: Vec<_> = identifiers.iter().map(|(k, u, v)| identifier(k, u, v)).collect();
        let dir = folder(&[("Patient.ndjson", patient("p1", &identifiers).as_bytes())]);
        assert_eq!(run(dir.path(), &limits()).record_numbers, expected, "{identifiers:?}");
    }
}
