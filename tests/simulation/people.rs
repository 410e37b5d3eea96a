//! Lists of paper consents, and participants: invited, informed, withdrawing with a receipt that checks offline.

use std::path::Path;

use almoner::consent::{Signed, Source, WithdrawalMode};
use almoner::events::{ConsentRecorded, Event};
use almoner::flows::access::AccessError;
use almoner::flows::consent::{self, NewConsent, Whose, end_deleted, import, record_fhir};
use almoner::flows::{Act, invitation, participant, permitted_subjects, withdraw};
use almoner::store::{EntryFilter, NewEntry, Store};
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
    assert!(first.waiting > 0 && again.waiting == 0, "told once that nobody is known by the number");
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
    let refused = invitation::invite(&ctx, &world.act("contributor"), &north(), &unknown, 14).err();
    assert_eq!(refused, Some(AccessError::Unknown("patient")));
    let invite = || invitation::invite(&ctx, &world.act("contributor"), &north(), &number, 14);
    let late = invite().expect("invited");
    let invited = invite().expect("invited");
    assert!(invitation::find(&ctx, &invited.secret).expect("store").is_none(), "a code is no token");
    let redeeming = world.act("public");
    let token = invitation::redeem(&ctx, &redeeming, &invited.secret).expect("redeemed");
    let again = invitation::redeem(&ctx, &redeeming, &invited.secret).expect("the same call");
    assert_eq!(token.secret, again.secret, "the answer was lost");
    let second = invitation::redeem(&ctx, &world.act("public"), &invited.secret).err();
    assert!(matches!(second, Some(AccessError::Conflict(_))), "once only");
    let (_, someone) = invitation::find(&ctx, &token.secret).expect("store").expect("the token works");
    assert!(invitation::find(&ctx, "alp_forged").expect("store").is_none());
    let choices = participant::choices(&ctx, &someone).expect("read");
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
    let refused = invite().err();
    assert!(matches!(refused, Some(AccessError::Denied(_))), "whoever withdrew is not contacted");
    world.clock.advance_days(14);
    let expired = invitation::redeem(&ctx, &world.act("public"), &late.secret).err();
    assert!(matches!(expired, Some(AccessError::Denied(_))));
    assert!(invitation::find(&ctx, &token.secret).expect("store").is_some());
    invitation::revoke(&ctx, &world.act("contributor"), &token.id).expect("ended");
    invitation::revoke(&ctx, &world.act("contributor"), &token.id).expect("ended already");
    assert!(invitation::find(&ctx, &token.secret).expect("store").is_none(), "it was ended");
    let kinds = |kind: &str| {
        let filter = EntryFilter { kinds: vec![format!("invitation.{kind}")], topic: None };
        world.store.entries(0, 100, &filter).expect("read").len()
    };
    assert_eq!((kinds("issued"), kinds("redeemed"), kinds("revoked")), (2, 1, 1));
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
fn what_ends_again_is_heard_again_and_a_deleted_permission_ends() {
    let world = World::new(5);
    let subject = world.subject(0);
    let consent = |status: &str, date: &str| {
        serde_json::json!({
            "resourceType": "Consent", "id": "a", "status": status, "dateTime": date,
            "scope": {"coding": [{"code": "research"}]},
            "policyRule": {"coding": [{"code": "OPTIN"}]},
        })
    };
    let hear = |resource: &serde_json::Value| {
        record_fhir(&world.ctx(), &by("system"), &north(), &[1; 32], [(1, subject, resource)]).expect("heard")
    };
    for (status, date, left) in [
        ("active", "2020-05-01", 1),
        ("inactive", "2020-05-01", 0),
        ("active", "2022-05-01", 0),
        ("inactive", "2020-05-01", 0),
    ] {
        assert_eq!(hear(&consent(status, date)).recorded, 1, "{status} {date}");
        assert_eq!(permitted(&world), left, "{status} {date}");
        world.clock.advance_days(1);
        assert_eq!(hear(&consent(status, date)).already, 1, "{status} {date} again, on another day");
    }
    let again = world.ctx().now().expect("ledger time").date().to_string();
    hear(&consent("active", &again));
    assert_eq!(permitted(&world), 1, "signed anew");
    let end =
        || end_deleted(&world.ctx(), &by("system"), &north(), &[1; 32], ["a", "unknown"]).expect("heard");
    assert_eq!((end().recorded, permitted(&world)), (1, 0));
    assert_eq!((end().recorded, permitted(&world)), (0, 0));
}

#[test]
fn a_signature_in_the_future_is_refused_at_every_door_and_folds_to_nothing() {
    let world = World::new(6);
    let ctx = world.ctx();
    let later = ctx.now().expect("ledger time").date().plus_days(2);
    let directive = crate::directive(Source::Form, Signed::on(later), true, None);
    let new =
        NewConsent { whose: Whose::Subject(world.subject(0)), directive: directive.clone(), lifts: None };
    let refused =
        consent::record(&ctx, &world.act("contributor"), &north(), new).expect_err("not signed yet");
    assert!(matches!(&refused, AccessError::Invalid { pointer, .. } if pointer == "/signed"), "{refused}");
    let (_, forms) = example();
    let digest = "ab".repeat(32);
    let list = format!("record_number,form_version,date,evidence_digest\nMRN-1,broad@2,{later},{digest}\n");
    let listed = import(&ctx, &by("operator"), &north(), list.as_bytes(), &forms).expect("read");
    assert_eq!((listed.recorded, listed.rejected["date-in-future"]), (0, 1));

    // An older server took it in.
    let event = Event::ConsentRecorded(ConsentRecorded {
        contributor: north(),
        directive: serde_json::to_value(directive).expect("JSON"),
        lifts: None,
    });
    let act = world.act("contributor");
    let entry = NewEntry {
        event_id: act.event_id,
        kind: event.kind(),
        actor: act.actor,
        subject: Some(world.subject(0)),
        payload: event.payload().expect("JSON"),
        policy: None,
        decision: None,
        as_of: None,
        until: None,
        topics: vec![],
    };
    world.store.append(vec![entry], &[]).expect("it is in the log");
    assert_eq!(permitted(&world), 0);
    world.clock.advance_days(30);
    assert_eq!(permitted(&world), 0, "it never says anything");
}

#[test]
fn the_same_act_again_has_the_same_entry() {
    let world = World::new(7);
    let say = |act: &Act, source: Source, permit: bool| {
        let now = world.ctx().now().expect("ledger time");
        let signed =
            if source == Source::Form { Signed::on(crate::date("2025-01-01")) } else { Signed::at(now) };
        let directive = crate::directive(source, signed, permit, None);
        let new = NewConsent { whose: Whose::Subject(world.subject(0)), directive, lifts: None };
        consent::record(&world.ctx(), act, &north(), new).expect("recorded")
    };
    for source in [Source::Form, Source::Participant] {
        let act = world.act("participant");
        let first = say(&act, source, true);
        world.clock.advance_days(1);
        assert_eq!(say(&act, source, true), first, "the answer was lost");
        assert_eq!(say(&world.act("other"), source, true), first, "nothing new is said");
        let refusal = say(&world.act("participant"), source, false);
        assert_ne!(refusal, first);
        let again = say(&world.act("participant"), source, true);
        assert!(again > refusal, "said anew after something else");
        assert_eq!(say(&act, source, true), first, "the first act is the first entry");
    }
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

#[test]
fn the_last_word_of_a_document_governs_also_within_one_call_and_when_it_was_said_before() {
    let world = World::new(9);
    let subject = world.subject(0);
    let say = |permit: bool| NewConsent {
        whose: Whose::Subject(subject),
        directive: crate::directive(Source::Form, Signed::on(crate::date("2025-01-01")), permit, None),
        lifts: None,
    };
    let record = |said: Vec<NewConsent>| {
        consent::record_batch(&world.ctx(), &world.act("contributor"), &north(), said).expect("recorded")
    };
    let refusal = record(vec![say(false)]);
    let both = record(vec![say(true), say(false)]);
    assert!(both[1] > both[0] && both[0] > refusal[0], "the refusal is said after the permission: {both:?}");
    assert_eq!(permitted(&world), 0);
    assert_eq!(record(vec![say(false)]), [both[1]], "nothing new");

    let person = world.subject(1);
    let hear = |code: &str| {
        let consent = serde_json::json!({
            "resourceType": "Consent", "id": "a", "status": "active", "dateTime": "2020-05-01",
            "scope": {"coding": [{"code": "research"}]}, "policyRule": {"coding": [{"code": code}]},
        });
        let one = [(1, person, &consent)];
        record_fhir(&world.ctx(), &by("system"), &north(), &[1; 32], one).expect("heard").recorded
    };
    for (code, left) in [("OPTOUT", 0), ("OPTIN", 1), ("OPTOUT", 0)] {
        assert_eq!((hear(code), permitted(&world)), (1, left), "{code}");
        assert_eq!(hear(code), 0, "{code} again");
    }
}
