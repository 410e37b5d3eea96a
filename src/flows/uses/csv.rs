//! Tables for spreadsheets: CSV (RFC 4180) from the same rows as the JSON, cell by cell.
//!
//! A cell is the text of the JSON member: lists are joined with `; `, null is empty. Every cell is quoted. A cell that a
//! spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return, or one of their
//! full-width forms) gets one apostrophe in front, and so does one that begins with an apostrophe itself. Whoever reads the
//! table by program takes one leading apostrophe away from every cell ([`unguarded`]) and has the exact text again.

use csv::{QuoteStyle, Terminator, WriterBuilder};
use serde_json::Value;

/// The media type, with what RFC 4180 §3 lets it say.
pub const MEDIA_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// Beginnings that spreadsheets take for formulas, and the apostrophe itself.
const GUARDED: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠', '\''];

/// The text of a cell as it stands in the table.
fn guarded(text: &str) -> String {
    if text.starts_with(GUARDED) { format!("'{text}") } else { text.to_owned() }
}

/// The text that a cell of a table stands for.
pub fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').unwrap_or(cell)
}

/// The text of a JSON member.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

/// Rows as lines of CSV, with the names of `columns` above them if `headed`. Members that are no columns are left out.
pub fn lines(columns: &[&str], rows: &[Value], headed: bool) -> String {
    let mut writer = WriterBuilder::new()
        .quote_style(QuoteStyle::Always)
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    let head = headed.then(|| columns.iter().map(ToString::to_string).collect::<Vec<_>>());
    let cells = |row: &Value| columns.iter().map(|c| guarded(&text(&row[c]))).collect::<Vec<_>>();
    for record in head.into_iter().chain(rows.iter().map(cells)) {
        // Writing to memory does not fail, and all records have as many cells.
        let _ = writer.write_record(record);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(table: &str) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(table.as_bytes());
        let records = reader.records().map(|r| r.expect("a record"));
        records.map(|r| r.iter().map(ToOwned::to_owned).collect()).collect()
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_text() {
        for nasty in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1"] {
            let table = lines(&["a"], &[json!({"a": nasty})], false);
            let cell = &parsed(&table)[0][0];
            assert_eq!((cell.strip_prefix('\''), unguarded(cell)), (Some(nasty), nasty));
        }
        assert_eq!(lines(&["a", "b"], &[json!({"a": "x", "c": 1})], true), "\"a\",\"b\"\r\n\"x\",\"\"\r\n");
    }

    proptest! {
        #[test]
        fn a_table_says_the_same_as_the_rows(
            rows in prop::collection::vec(("\\PC{0,12}|[-=+@'\t\r\n\",;]{1,6}", any::<Option<u64>>(),
                prop::collection::vec("[a-z@0-9]{1,8}", 0..4)), 0..12)
        ) {
            let columns = ["title", "persons", "datasets"];
            let rows: Vec<Value> =
                rows.into_iter().map(|(t, p, d)| json!({"datasets": d, "persons": p, "title": t})).collect();
            let table = parsed(&lines(&columns, &rows, true));
            prop_assert_eq!(&table[0], &columns.map(str::to_owned).to_vec());
            prop_assert_eq!(table.len(), rows.len() + 1);
            for (line, row) in table[1..].iter().zip(&rows) {
                for (cell, column) in line.iter().zip(columns) {
                    prop_assert!(!cell.starts_with(&GUARDED[..10]));
                    prop_assert_eq!(unguarded(cell), text(&row[column]));
                }
            }
        }
    }
}
