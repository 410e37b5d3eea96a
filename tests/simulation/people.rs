//! Lists of paper consents, and participants: invited, informed, withdrawing with a receipt that checks offline.

use std::path::Path;

use almoner::consent::WithdrawalMode;
use almoner::events::Event;
use almoner::flows::access::AccessError;
use almoner::flows::consent::{import, record_fhir};
use almoner::flows::{participant, permitted_subjects, withdraw};
use almoner::store::{EntryFilter, Store};
use almoner_ledger::VerifierKey;
use almoner_ledger::receipt::Receipt;
use almoner_model::{SourcePatientId, Timestamp};

use crate::health;
use crate::world::{World, by, dataset, north};

fn example() -> (Vec<u8>, String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/two-hospitals-20/north-general");
    let read = |name: &str| std::fs::read(dir.join(name)).expect("the example is checked in");
    (read("consents.csv"), String::from_utf8(read("forms.toml")).expect("UTF-8"))
}

fn permitted(world: &World) -> usize {
    let wanted = health(world.ctx().now().expect("ledger time"));
    permitted_subjects(&world.ctx(), &wanted, &[dataset()], None).expect("answered").ids().len()
}

#[test]
fn a_list_of_paper_consents_is_recorded_once_and_before_the_data() {
    let world = World::new(1);
    world.clock.advance_days(300);
    let (list, forms) = example();
    let rows = list.iter().filter(|b| **b == b'\n').count() as u64 - 1;
    assert_eq!(permitted(&world), 0);
    let first = import(&world.ctx(), &by("operator"), &north(), &list, &forms).expect("imported");
    assert_eq!((first.read, first.recorded, first.already), (rows, rows, 0), "{:?}", first.rejected);
    assert!(permitted(&world) > 0);
    let size = world.store.size();
    let again = import(&world.ctx(), &by("contributor"), &north(), &list, &forms).expect("imported");
    assert_eq!((again.recorded, again.already), (0, rows));
    assert_eq!(world.store.size(), size, "the same list again appends nothing");
    let broken = [&list[..], b"NG-9,broad@2,2026-13-01,xyz\n"].concat();
    let broken = import(&world.ctx(), &by("operator"), &north(), &broken, &forms).expect("the rest goes on");
    assert_eq!(broken.errors.len(), 1);
    assert_eq!((broken.errors[0].line, broken.errors[0].rule.as_str()), (rows + 2, "invalid-date"));
}

#[test]
fn a_participant_sees_what_was_said_and_withdraws_with_a_receipt() {
    let world = World::new(2);
    world.clock.advance_days(300);
    let (list, forms) = example();
    import(&world.ctx(), &by("operator"), &north(), &list, &forms).expect("imported");
    let text = String::from_utf8(list.clone()).expect("UTF-8");
    let number = text.lines().nth(1).expect("a row").split(',').next().expect("a record number");
    let number = SourcePatientId::new(number.to_owned());
    let before = permitted(&world);

    let ctx = world.ctx();
    let unknown = SourcePatientId::new("nobody".to_owned());
    let refused = participant::invite(&ctx, &world.act("contributor"), &north(), &unknown, 30).err();
    assert_eq!(refused, Some(AccessError::Unknown("patient")));
    let invited =
        participant::invite(&ctx, &world.act("contributor"), &north(), &number, 30).expect("invited");
    let someone = participant::find(&ctx, &invited.token).expect("store").expect("the token works");
    assert!(participant::find(&ctx, "alp_forged").expect("store").is_none());
    let choices = participant::choices(&ctx, someone.subject).expect("read");
    assert_eq!(choices.choices.len(), 1);
    assert!(choices.choices[0].governs && choices.withdrawals.is_empty());

    world.clock.advance_days(1);
    let receipt = withdraw::withdraw(
        &ctx,
        &world.act("participant"),
        someone.subject,
        None,
        WithdrawalMode::NoFurtherUse,
        None,
    )
    .expect("withdrawn");
    assert_eq!(receipt.hospitals.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["North"]);
    assert_eq!(receipt.time, Timestamp::from_date(receipt.time.date()), "the log does not say at what hour");
    let key = VerifierKey::parse(&receipt.vkey).expect("a key");
    let proof = Receipt::parse(receipt.proof.as_bytes()).expect("a receipt");
    proof.check(receipt.entry.as_bytes(), &key).expect("it checks offline");
    proof
        .check(receipt.entry.replace("consent.withdrawn", "consent.recorded").as_bytes(), &key)
        .expect_err("another entry does not");

    assert_eq!(permitted(&world), before - 1);
    let again = import(&ctx, &by("operator"), &north(), &list, &forms).expect("imported");
    assert_eq!(again.recorded, 0);
    assert_eq!(permitted(&world), before - 1, "importing the old paper again lifts nothing");
    let refused = participant::invite(&ctx, &world.act("contributor"), &north(), &number, 30).err();
    assert!(matches!(refused, Some(AccessError::Denied(_))), "whoever withdrew is not contacted");
    world.clock.advance_days(31);
    assert!(participant::find(&ctx, &invited.token).expect("store").is_none(), "it expired");
}

#[test]
fn fhir_consents_of_an_export_are_recorded_once() {
    let world = World::new(3);
    let consent = |id: &str, status: &str, code: &str| {
        serde_json::json!({
            "resourceType": "Consent", "id": id, "status": status, "dateTime": "2020-05-01",
            "scope": {"coding": [{"code": "research"}]},
            "policyRule": {"coding": [{"code": code}]},
        })
    };
    let resources =
        [consent("a", "active", "OPTIN"), consent("b", "draft", "OPTIN"), consent("c", "active", "OPTOUT")];
    let lines = || resources.iter().enumerate().map(|(n, c)| (n as u64 + 1, world.subject(n), c));
    let summary = record_fhir(&world.ctx(), &by("system"), &north(), &[1; 32], lines()).expect("recorded");
    assert_eq!((summary.read, summary.recorded), (3, 2));
    assert_eq!(summary.rejected["not-yet-in-force"], 1);
    assert_eq!(permitted(&world), 1);
    let again = record_fhir(&world.ctx(), &by("system"), &north(), &[1; 32], lines()).expect("recorded");
    assert_eq!((again.recorded, again.already), (0, 2));

    let ended = consent("a", "inactive", "OPTIN");
    let one = [(1, world.subject(0), &ended)];
    record_fhir(&world.ctx(), &by("system"), &north(), &[1; 32], one).expect("recorded");
    assert_eq!(permitted(&world), 0, "the same document, no longer in force");
}

#[test]
fn nothing_that_a_person_said_stands_in_a_leaf() {
    let world = World::new(4);
    world.clock.advance_days(300);
    let (list, forms) = example();
    import(&world.ctx(), &by("operator"), &north(), &list, &forms).expect("imported");
    let filter = EntryFilter { kinds: vec!["consent.recorded".into()], topic: None };
    let entries = world.store.entries(0, 1_000, &filter).expect("read");
    assert!(!entries.is_empty());
    for entry in entries {
        let leaf = String::from_utf8(entry.bytes).expect("JSON");
        let value = entry.payload.value().expect("present").clone();
        let Event::ConsentRecorded(said) = Event::read("consent.recorded", value).expect("reads") else {
            panic!("of this kind")
        };
        assert_eq!(said.contributor, north());
        for word in ["north", "broad", "DUO", "permit", "form"] {
            assert!(!leaf.contains(word), "{word} in {leaf}");
        }
    }
}
