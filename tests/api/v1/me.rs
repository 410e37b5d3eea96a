//! `/v1/me/disclosures`: what a patient reads about their own data.

use almoner::flows::{Act, invitation};
use almoner::system::SystemEntropy;
use almoner_model::SourcePatientId;
use serde_json::{Value, json};

use super::uses::same;
use crate::house::House;
use crate::story::{HOSPITALS, record_numbers};

/// The token of a patient of the first hospital, by invitation.
fn invited(house: &House, number: &str) -> String {
    let hospital = HOSPITALS[0].parse().expect("an id");
    let record = SourcePatientId::new(number.to_owned());
    let act = || Act::operator(&SystemEntropy);
    let code =
        invitation::invite(&house.app.access(), &act(), &hospital, &record, 14).expect("invited").secret;
    invitation::redeem(&house.app.access(), &act(), &code).expect("redeemed").secret.to_string()
}

/// Somebody whose data is in the release, and somebody whose is not.
fn in_and_out(house: &House) -> (String, String) {
    let (mut inside, mut outside) = (None, None);
    for number in record_numbers(HOSPITALS[0]) {
        let token = invited(house, &number);
        let told = house.get("/v1/me/disclosures", Some(&token)).expect(200).json();
        let some = !told["disclosures"].as_array().expect("a list").is_empty();
        *(if some { &mut inside } else { &mut outside }) = Some(token);
    }
    (inside.expect("a member"), outside.expect("somebody left out by the gate or the cohort"))
}

pub fn reads_an_accounting(house: &House, release: &str) {
    let (inside, outside) = in_and_out(house);
    let read = |query: &str| house.get(&format!("/v1/me/disclosures{query}"), Some(&inside)).expect(200);
    let told = read("").json();
    let disclosures = told["disclosures"].as_array().expect("a list");
    assert_eq!(disclosures.len(), 1, "one download");
    let d = &disclosures[0];
    // 45 CFR 164.528(b)(2): date, who received, what, why.
    assert_eq!((&d["recipient"], &d["release"]), (&json!("institute"), &json!(release)));
    assert!(d["description"].as_str().expect("text").contains("measurement, person"), "{d}");
    assert!(d["purpose_statement"].as_str().expect("text").starts_with("We want to learn"), "{d}");
    assert_eq!(d["accounting_owed"], false);
    assert_eq!(d["rule"], "45 CFR 164.514(b)(1), 164.502(d)(2)");
    assert_eq!(d["legal_basis"], format!("expert determination basis-{}", HOSPITALS[0]));
    assert_eq!(told["prepared"], json!([]));
    let years = |day: &Value| day.as_str().and_then(|d| d[..4].parse::<i32>().ok()).expect("a year");
    assert_eq!(years(&told["to"]) - years(&told["from"]), 6);

    same(&read("?format=csv").text, disclosures);
    let text = read("?format=text").text;
    assert!(text.contains("to institute\n") && text.contains("No accounting is owed"), "{text}");
    let events = read("?format=fhir").json();
    assert_eq!(events["entry"][0]["resource"]["id"], d["event_id"]);
    let me = house.get("/v1/me", Some(&inside)).expect(200).json()["id"].clone();
    assert_eq!(events["entry"][0]["resource"]["entity"][0]["what"]["identifier"]["value"], me);
    assert_eq!(read("?to=2020-01-01").json()["disclosures"], json!([]));
    let nothing = house.get("/v1/me/disclosures?format=text", Some(&outside)).expect(200).text;
    assert!(nothing.contains("Nothing about you was disclosed"), "{nothing}");
    for other in ["operator", "contributor", "board", "researcher"] {
        house.get("/v1/me/disclosures", Some(&house.token(other, HOSPITALS.as_slice()))).expect(403);
    }
    house.get("/v1/me/disclosures?from=yesterday", Some(&inside)).expect(400);
}
