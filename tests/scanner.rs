//! The scanner that the canary rests on finds what is there, in every form and file that it claims to search.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use base64::Engine as _;
use support::scan::{Needle, Scanner};

fn scanner() -> Scanner {
    Scanner::new([
        Needle::new("family", "Quillélandre"),
        Needle::new("given", "Ysolwenna"),
        Needle::new("short", "Lia"),
        Needle::new("identifier_SS", "999-12-3456"),
        Needle::new("latitude", "47.59059151011595"),
        Needle::new("person_id", "-1152921504606846977"),
        Needle::new("postalCode", "60637"),
        Needle::new("birthDate", "1961-04-30"),
    ])
}

fn forms(name: &str, bytes: &[u8]) -> Vec<(String, &'static str)> {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join(name), bytes).expect("written");
    scanner().folder(dir.path()).into_iter().map(|f| (f.kind, f.form)).collect()
}

fn found(name: &str, bytes: impl AsRef<[u8]>, kind: &str, form: &str) {
    let forms = forms(name, bytes.as_ref());
    assert!(forms.iter().any(|(k, f)| k == kind && *f == form), "{kind} as {form}: {forms:?}");
}

#[test]
fn text_is_found_as_whole_tokens_in_any_case() {
    found("a.log", "seen: YSOLWENNA.", "given", "text");
    found("a.json", "{\"n\":\"Quill\\u00e9landre\"}", "family", "JSON escapes");
    found("a.log", "ssn=999-12-3456", "identifier_SS", "text");
    found("Ysolwenna.txt", "", "given", "text");
    assert!(forms("a.log", b"Juliana and Ysolwennabel, 999-12-34567").is_empty());
    assert!(forms("a.log", b"nothing here").is_empty());
}

#[test]
fn encodings_are_looked_through() {
    found("a.log", hex::encode("x999-12-3456"), "identifier_SS", "hexadecimal");
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{{\"family\":\"Quillélandre\"}}");
        let coded = base64::engine::general_purpose::STANDARD.encode(text);
        found("a.json", format!("{{\"data\":\"{coded}\"}}"), "family", "base64");
    }
    let wide: Vec<u8> = "Ysolwenna".encode_utf16().flat_map(u16::to_le_bytes).collect();
    found("a.bin", wide, "given", "UTF-16");
    found("a.bin", [&[0, 255][..], &47.59059151011595_f64.to_le_bytes()].concat(), "latitude", "IEEE 754");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(b"for Ysolwenna").expect("packed");
    found("a.gz", gz.finish().expect("packed"), "given", "text");
}

#[test]
fn a_number_is_no_zip_code_and_a_word_no_birth_date_unless_a_text_says_so() {
    for number in ["{\"bytes\":60637}", "{\n  \"bytes\": 60637,\n  \"rows\": 2\n}"] {
        assert!(forms("manifest.json", number.as_bytes()).is_empty(), "{number}");
    }
    found("a.log", "lives in 60637, a town", "postalCode", "text");
    found("manifest.json", "{\"zip\":\"60637\"}", "postalCode", "text");
    found("a.log", "born 1961-04-30, ", "birthDate", "text");
}

fn parquet(dir: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(parquet::basic::ZstdLevel::default()))
        .build();
    let file = File::create(dir.join("part-0.parquet")).expect("made");
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

#[test]
fn compressed_columns_are_decoded() {
    let dir = tempfile::tempdir().expect("a folder");
    let many = |value: &str| Arc::new(StringArray::from(vec![value; 500])) as ArrayRef;
    parquet(
        dir.path(),
        vec![
            ("source_value", many("Lia")),
            ("zip", many("60637")),
            ("lat", Arc::new(Float64Array::from(vec![47.59059151011595; 500]))),
            ("person_id", Arc::new(Int64Array::from(vec![-1_152_921_504_606_846_977; 500]))),
            ("quantity", Arc::new(Int64Array::from(vec![60637; 500]))),
            ("birth_datetime", Arc::new(Date32Array::from(vec![-3168; 500]))),
            ("measurement_date", Arc::new(Date32Array::from(vec![-3168; 500]))),
        ],
    );
    let found = scanner().folder(dir.path());
    let has = |column: &str, kind: &str| {
        found.iter().any(|f| f.place.ends_with(&format!("column {column}")) && f.kind == kind)
    };
    assert!(has("source_value", "short"), "{found:?}");
    assert!(has("zip", "postalCode") && !has("quantity", "postalCode"), "{found:?}");
    assert!(has("lat", "latitude") && has("person_id", "person_id"), "{found:?}");
    assert!(has("birth_datetime", "birthDate") && !has("measurement_date", "birthDate"), "{found:?}");
}

#[test]
fn cells_of_a_database_are_read_even_while_they_are_in_its_write_ahead_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = rusqlite::Connection::open(dir.path().join("x.sqlite")).expect("opens");
    db.pragma_update(None, "journal_mode", "WAL").expect("set");
    db.execute_batch("CREATE TABLE t(a TEXT, b BLOB); INSERT INTO t VALUES ('Lia', x'00ff596f736f');")
        .expect("written");
    db.execute("INSERT INTO t VALUES ('', ?1)", [b"\xffYsolwenna999-12-3456\xff".to_vec()]).expect("written");
    assert!(dir.path().join("x.sqlite-wal").metadata().expect("there").len() > 0);
    let found = scanner().folder(dir.path());
    assert!(found.iter().any(|f| f.place.ends_with("x.sqlite, t.a") && f.kind == "short"), "{found:?}");
    assert!(found.iter().any(|f| f.place.ends_with("x.sqlite-wal") && f.kind == "given"), "{found:?}");
    assert!(found.iter().any(|f| f.place.ends_with("t.b") && f.kind == "identifier_SS"), "{found:?}");
}
