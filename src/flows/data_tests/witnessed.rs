//! What is handed out of a witnessed ledger has the witnesses' signatures, once they came: evidence packs, receipts, and the
//! proofs in releases that were written anew.

use almoner_ledger::SignedCheckpoint;
use almoner_ledger::cosignature::{WitnessKey, attach};
use almoner_ledger::evidence::verify_evidence;
use almoner_ledger::policy::Policy;
use almoner_ledger::receipt::Receipt;
use serde_json::json;

use super::erased::whom;
use super::*;
use crate::flows::checkpoint::write_receipt;
use crate::flows::erase::{self, Step};
use crate::flows::evidence;
use crate::store::Write;

fn witness() -> WitnessKey {
    WitnessKey::new("w.example", &[5; 32]).expect("a name")
}

fn policy() -> Policy {
    let text = format!("witness w {}\nquorum w\n", witness().public().line());
    Policy::parse(text.as_bytes()).expect("a policy")
}

fn reached(note: &[u8]) -> bool {
    policy().standing(note).expect("a note").reached
}

/// As if the witness had signed the present checkpoint, and the server had kept that.
fn quorum_comes(store: &dyn Store) {
    let SignedCheckpoint { checkpoint, note } = store.checkpoint();
    let line = witness().cosign(&checkpoint.text(), 7).line;
    let note = attach(&note, [line.as_str()]).expect("a note");
    let note = String::from_utf8(note).expect("text");
    let kept = Write { kind: "cosigned".into(), key: "quorum".into(), value: Some(json!({"note": note})) };
    store.put_primary(vec![kept]).expect("kept");
}

#[test]
fn packs_and_receipts_are_made_under_the_quorum_where_it_has_their_entries() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let pack = || house.with(|ctx| evidence::evidence(ctx, &built.release)).expect("made");
    assert!(!reached(pack().checkpoint.as_bytes()), "nobody has signed");
    quorum_comes(&*house.store);
    let size = house.store.size();
    house.project("another", "uni");
    let made = pack();
    assert!(reached(made.checkpoint.as_bytes()));
    let report = verify_evidence(&made, &house.key(), Some(&mut leaves(&house).into_iter()));
    assert!(report.intact && report.complete, "{:?}", report.findings);
    let dir = tempfile::tempdir().expect("a folder");
    for (seq, signed) in [(size - 1, true), (size, false)] {
        let written = write_receipt(&*house.store, seq, dir.path()).expect("written");
        let receipt = Receipt::parse(&fs::read(written.proof).expect("there")).expect("reads");
        receipt.check(&fs::read(written.entry).expect("there"), &house.key()).expect("holds");
        assert_eq!(reached(&receipt.checkpoint), signed, "entry {seq}");
    }
}

#[test]
fn a_release_that_is_written_anew_gets_the_quorum_that_comes_for_it() {
    let house = House::on_disk();
    house.ingest("north");
    house.ingest("south");
    house.project("diabetes", "uni");
    house.consents("north");
    house.consents("south");
    house.legal_bases();
    let wanted = house.approved("diabetes", "uni");
    let built = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect("built");
    let package = release::package_folder(&house.releases(), &built.release);
    let comes = |step: Step, after: bool| {
        if step == Step::ReleaseExchange && after {
            let report = verify_package(&package, Some(&house.key()));
            assert!(report.intact, "{:?}", report.findings);
            assert_eq!(report.checkpoints.iter().filter(|note| !reached(note)).count(), 2, "not yet");
            quorum_comes(&*house.store);
        }
        Ok(())
    };
    house
        .with_erase(Some(&comes), |ctx| erase::erase(ctx, &house.act(), &whom("north", "north-20")))
        .expect("erased");
    let report = verify_package(&package, Some(&house.key()));
    assert!(report.intact && report.persons_erased == 1, "{:?}", report.findings);
    // The release's own entry was handed out before there was a witness.
    assert_eq!(report.checkpoints.iter().map(|note| reached(note)).collect::<Vec<_>>(), [false, true]);
}
