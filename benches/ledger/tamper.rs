//! One flipped byte in every kind of stored ledger thing, in the database and in a published log, and every published file
//! with another length: found and named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use almoner::flows::checkpoint::export;
use almoner::state::projection::Projector;
use almoner::store::sqlite::audit::audit_file;
use almoner::store::{NoProjections, Store as _};
use almoner_ledger::VerifierKey;
use almoner_ledger::audit::audit;
use almoner_ledger::source::Folder;
use rusqlite::{Connection, params};

/// Table, column, row, and the class and row that must be named.
const ROWS: &[(&str, &str, &str, &str, &str)] = &[
    ("entry", "leaf", "seq = 7", "entry", "7"),
    ("tile", "hashes", "id = 1", "entry", "384"),
    ("tile", "hashes", "id = 1 << 48", "tile", "1/0"),
    ("payload", "sealed", "seq = 8", "payload", "8"),
    ("subject_key", "wrapped", "subject = (SELECT subject FROM payload WHERE seq = 9)", "payload", "9"),
    ("event", "event_id", "seq = 10", "event", "10"),
    ("topic", "topic", "seq = 11", "topic", "11"),
    ("checkpoint", "note", "id = 1", "checkpoint", "checkpoint"),
];

/// Tampers with everything; says whether all of it was found and named.
pub fn run() -> bool {
    let dir = super::folder();
    let store = super::open(dir.path()).unwrap();
    for n in 0..600 {
        store.append(vec![super::act(1, n, 512)], &[]).unwrap();
    }
    let published = super::folder();
    export(&store, published.path()).unwrap();
    drop(store);
    let (mut found, mut total) = (0, 0);
    for (table, column, row, class, name) in ROWS {
        let copy = super::folder();
        std::fs::copy(dir.path().join("ledger.sqlite"), copy.path().join("ledger.sqlite")).unwrap();
        let path = copy.path().join("ledger.sqlite");
        flip_row(&path, table, column, row);
        let projector: Arc<dyn Projector> = Arc::new(NoProjections);
        let result = audit_file(&path, &super::keys(), &super::WRAPPING_KEY, &projector).unwrap();
        let named = result.findings.iter().find(|f| f.class == *class && f.row == *name);
        println!(
            "{table}.{column} {row}: {}",
            named.map_or("NOT NAMED".into(), |f| format!("{class} {name}: {}", f.problem))
        );
        (found, total) = (found + u64::from(named.is_some()), total + 1);
    }
    let mut files = Vec::new();
    list(published.path(), &mut files);
    for file in files {
        let name = file.strip_prefix(published.path()).unwrap().to_string_lossy().into_owned();
        let good = std::fs::read(&file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let longer = [good.as_slice(), b"0"].concat();
        for (what, bad) in [
            ("flipped", flipped.as_slice()),
            ("emptied", &[]),
            ("cut", &good[..good.len() - 1]),
            ("longer", &longer),
        ] {
            std::fs::write(&file, bad).unwrap();
            let key = VerifierKey::parse(&super::log_key().vkey()).unwrap();
            let result = audit(&Folder(published.path().into()), &key, None, 2);
            let named = result.findings.iter().find(|f| f.to_string().contains(&name));
            // The key file is no part of what the key signs: whoever verifies brings the key.
            let expected = name != "vkey";
            println!("{name} {what}: {}", named.map_or("nothing found".to_owned(), ToString::to_string));
            (found, total) = (found + u64::from(named.is_some() && expected), total + u64::from(expected));
        }
        std::fs::write(&file, &good).unwrap();
    }
    println!("bar: {found} of {total} altered rows and files found and named (all required)");
    found == total
}

fn flip_row(path: &Path, table: &str, column: &str, row: &str) {
    let db = Connection::open(path).unwrap();
    let of = format!("FROM {table} WHERE {row}");
    let kind: String = db.query_row(&format!("SELECT typeof({column}) {of}"), [], |r| r.get(0)).unwrap();
    let mut bytes: Vec<u8> =
        db.query_row(&format!("SELECT CAST({column} AS BLOB) {of}"), [], |r| r.get(0)).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let value = if kind == "text" { "CAST(?1 AS TEXT)" } else { "?1" };
    let done =
        db.execute(&format!("UPDATE {table} SET {column} = {value} WHERE {row}"), params![bytes]).unwrap();
    assert_eq!(done, 1);
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}
