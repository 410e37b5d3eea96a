//! What commands tell the shell and the people who read their reports.

mod support;

use std::fs;
use std::path::Path;

use support::run::{Program, arg};

/// Twelve people with a diagnosis each; `source` is the hospital's own word for it.
fn export(dir: &Path, source: impl Fn(usize) -> String) {
    fs::create_dir_all(dir).expect("made");
    let mut persons = String::from(
        "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id,person_source_value\n",
    );
    let mut conditions = String::from(
        "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_type_concept_id,condition_source_value\n",
    );
    for n in 1..=12 {
        persons.push_str(&format!("{n},8507,1960,0,0,MR-{n}\n"));
        conditions.push_str(&format!("{n},{n},201826,2020-01-05,32817,{}\n", source(n)));
    }
    fs::write(dir.join("person.csv"), persons).expect("written");
    fs::write(dir.join("condition_occurrence.csv"), conditions).expect("written");
}

/// Erasing is the same command for a number, for a list, and by mistake for nothing.
#[test]
fn whoever_is_named_is_erased_once_and_a_command_that_names_nobody_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::on(folder.path().join("data"));
    let dir = folder.path().join("export");
    export(&dir, |_| "SNOMED:44054006".to_owned());
    program.must(&["ingest", arg(&dir), "--contributor", "north"]);
    let erase = |numbers: &[&str]| program.run(&[&["erase", "--contributor", "north"], numbers].concat());
    let nobody = erase(&[]).expect_err("nobody is named");
    assert!(nobody.contains("no record number was given"), "{nobody}");
    let done = erase(&["MR-3", "MR-4"]).expect("erased");
    assert_eq!(done["erased"].as_array().map(Vec::len), Some(2), "{done}");
    let again = erase(&["MR-5", "MR-3"]).expect_err("erased before");
    assert!(again.contains("record number 2 of 2") && !again.contains("MR-3"), "{again}");
    let next = program.must(&["ingest", arg(&dir), "--contributor", "north"]);
    assert_eq!((&next["persons"], &next["reasons"]["suppressed-person"]), (&9.into(), &6.into()), "{next}");
    assert_eq!(program.must(&["verify"])["intact"], true);
}

#[test]
fn a_list_of_which_nothing_is_recorded_is_a_failure_and_one_of_which_something_is_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::on(folder.path().join("data"));
    let dir = folder.path().join("export");
    export(&dir, |_| "SNOMED:44054006".to_owned());
    program.must(&["ingest", arg(&dir), "--contributor", "north"]);
    let forms = folder.path().join("forms.toml");
    fs::write(
        &forms,
        "[[form]]\nid='broad'\nversion='1'\n[form.rules]\neffect='permit'\npurposes=['DUO:0000006']\n",
    )
    .expect("written");
    let digest = "ab".repeat(32);
    let import = |rows: &[&str]| {
        let list = folder.path().join("consents.csv");
        let rows: String = rows.iter().map(|row| format!("{row},{digest}\n")).collect();
        fs::write(&list, format!("record_number,form_version,date,evidence_digest\n{rows}"))
            .expect("written");
        program.run(&["consent", "import", arg(&list), "--forms", arg(&forms), "--contributor", "north"])
    };
    let refused = import(&["MR-1,9,2026-01-01", "MR-2,1,2026-13-41"]).expect_err("nothing was recorded");
    assert!(refused.contains("nothing was recorded"), "{refused}");
    let some = import(&["MR-1,9,2026-01-01", "MR-2,1,2026-01-01"]).expect("one was");
    assert_eq!(
        (&some["recorded"], &some["rejected"]["unknown-form-version"]),
        (&1.into(), &1.into()),
        "{some}"
    );
    let again = import(&["MR-2,1,2026-01-01"]).expect("it stands recorded");
    assert_eq!((&again["recorded"], &again["already"]), (&0.into(), &1.into()), "{again}");
}

#[test]
fn the_report_says_which_columns_lost_source_values_and_none_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::on(folder.path().join("data"));
    let dir = folder.path().join("export");
    export(&dir, |n| if n <= 3 { format!("Sugar sickness {n}") } else { "SNOMED:44054006".to_owned() });
    program.must(&["ingest", arg(&dir), "--contributor", "north"]);
    let report = program.data.join("datasets/north/v1/reports/de-identification.md");
    let report = fs::read_to_string(report).expect("there");
    assert!(report.contains("| condition_occurrence.condition_source_value | 3 |"), "{report}");
    assert!(!report.contains("Sugar"), "{report}");
}

#[test]
fn an_entry_is_handed_over_with_its_receipts_and_none_that_is_not_there() {
    use almoner_ledger::cose::CoseReceipt;
    use almoner_ledger::receipt::Receipt;
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::on(folder.path().join("data"));
    program.must(&["init"]);
    let dir = folder.path().join("receipts");
    let written = program.must(&["ledger", "receipt", "0", arg(&dir)]);
    let file = |name: &str| fs::read(written[name].as_str().expect("a path")).expect("there");
    let vkey = almoner_ledger::VerifierKey::parse(&String::from_utf8_lossy(&file("vkey"))).expect("a key");
    let proof = Receipt::parse(&file("proof")).expect("a proof");
    let head = proof.check(&file("entry"), &vkey).expect("holds").checkpoint;
    let receipt = CoseReceipt::parse(&file("receipt")).expect("a receipt");
    assert_eq!(receipt.check(&file("entry"), &vkey), Ok(head));
    let refused = program.run(&["ledger", "receipt", "1000", arg(&dir)]).expect_err("not there");
    assert!(refused.contains("there is no entry 1000"), "{refused}");
}

/// The configuration comes back with the folder, and says where the last checkpoint is.
#[test]
fn a_restore_looks_for_the_last_checkpoint_where_the_configuration_in_the_backup_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::on(folder.path().join("data"));
    program.must(&["init"]);
    let beside = folder.path().join("data.checkpoint");
    fs::remove_file(&beside).expect("there");
    let last = folder.path().join("last");
    let config = format!("[ledger]\ncheckpoint = {:?}\n", arg(&last));
    fs::write(program.data.join("config.toml"), config).expect("written");
    let token = ["token", "create", "--role", "operator"];
    program.must(&token);
    let copy = folder.path().join("copy");
    program.must(&["backup", arg(&copy)]);
    program.must(&token);
    fs::remove_dir_all(&program.data).expect("lost");
    let refused = program.run(&["restore", arg(&copy)]).expect_err("a token is lacking");
    assert!(refused.contains("the backup lacks 1 entries"), "{refused}");
    let done = program.must(&["restore", arg(&copy), "--accept-loss"]);
    assert_eq!(done["lost"]["from"], done["entries"], "{done}");
    assert!(!beside.exists());
    program.must(&token);
}
