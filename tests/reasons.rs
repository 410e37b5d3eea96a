//! `docs/reasons.md` and the words that the program has for reasons and rules are the same, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A source file up to its tests, without comments.
fn source(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// All Rust files of a folder, without those of tests.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(at) = folders.pop() {
        for item in std::fs::read_dir(&at).expect("a folder of the sources").flatten() {
            let path = item.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("tests" | "tests.rs") => {}
                _ if path.is_dir() => folders.push(path),
                Some(name) if name.ends_with(".rs") => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// The first quoted text behind each occurrence of `mark` and before `end`.
fn quoted_behind<'t>(text: &'t str, mark: &'t str, end: &'t str) -> impl Iterator<Item = &'t str> + 't {
    text.split(mark).skip(1).filter_map(move |rest| {
        let rest = rest.split(end).next()?;
        rest.split('"').nth(1)
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The variants of an enum, as `rename_all` writes them.
fn variants(text: &str, name: &str) -> Vec<String> {
    let body = text.split(&format!("pub enum {name} {{")).nth(1).and_then(|rest| rest.split('}').next());
    let body = body.unwrap_or_else(|| panic!("no enum {name}"));
    let kebab = |variant: &str| {
        let mut word = String::new();
        for c in variant.chars() {
            if c.is_ascii_uppercase() && !word.is_empty() {
                word.push('-');
            }
            word.push(c.to_ascii_lowercase());
        }
        word
    };
    body.split(',').map(str::trim).filter(|v| !v.is_empty()).map(kebab).collect()
}

/// Every word of the program, with where it is from.
fn of_the_program() -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    let mut add = |path: &Path, word: &str| {
        assert!(is_word(word), "{word} in {} is no word", path.display());
        words.entry(word.to_owned()).or_insert_with(|| path.display().to_string());
    };
    // Words that are named once and used by name.
    for (file, mark, end, least) in [
        ("src/mapping/outcome.rs", ": Reason =", ";", 15),
        ("src/mapping/outcome.rs", ": Rule =", ";", 15),
        ("src/mapping/fhir/findings.rs", "\n    ", ";", 10),
        ("src/gather/bucket.rs", "            Self::", ",", 5),
    ] {
        let path = root().join(file);
        let text = source(&path);
        let found: Vec<&str> = quoted_behind(&text, mark, end).filter(|w| is_word(w)).collect();
        assert!(found.len() >= least, "{file}: {found:?}");
        found.iter().for_each(|word| add(&path, word));
    }
    let path = root().join("src/intake/kinds.rs");
    let text = source(&path);
    let strangers = text.split("pub mod stranger {").nth(1).and_then(|rest| rest.split("\n}").next());
    quoted_behind(strangers.expect("a module"), ": &str =", ";").for_each(|word| add(&path, word));
    // Words that are written where they are used.
    let mut places: Vec<PathBuf> =
        ["src/consent", "src/flows/ingest", "src/intake", "src/gather", "src/mapping"]
            .into_iter()
            .flat_map(files)
            .collect();
    places.push(root().join("src/flows/consent.rs"));
    for path in &places {
        let text = source(path);
        for mark in
            ["Err(\"", "ok_or(\"", "map_err(|_| \"", "Nothing(\"", "rule: \"", "Unmapped(\"", "broken(\""]
        {
            let found = text.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
            found.filter(|w| is_word(w)).for_each(|word| add(path, word));
        }
        for mark in [".reject(", ".move_to_unmapped(", ".move_to_quarantine("] {
            quoted_behind(&text, mark, ")").for_each(|word| add(path, word));
        }
    }
    for (file, name) in [("src/cohort/mod.rs", "Rule"), ("src/error.rs", "ErrorKind")] {
        let path = root().join(file);
        variants(&source(&path), name).iter().for_each(|word| add(&path, word));
    }
    let path = root().join("src/store/sqlite/audit.rs");
    let text = source(&path);
    for mark in ["found.add(\"", "found.check(\"", "found.reject(\""] {
        text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).for_each(|word| add(&path, word));
    }
    add(&root().join("src/cli/mod.rs"), "usage");
    words
}

/// Every word of the page: the first column of its tables.
fn of_the_page() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/reasons.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut words = BTreeSet::new();
    for word in rows {
        assert!(words.insert(word.to_owned()), "{word} stands twice");
    }
    let whole = page.lines().filter(|line| line.starts_with("| `")).all(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        cells.len() == 3 && cells.iter().all(|cell| !cell.trim().is_empty())
    });
    assert!(whole, "every word has a meaning and something to do");
    words
}

#[test]
fn the_page_and_the_program_have_the_same_words() {
    let (program, page) = (of_the_program(), of_the_page());
    let unsaid: Vec<_> = program.iter().filter(|(word, _)| !page.contains(*word)).collect();
    let unknown: Vec<_> = page.iter().filter(|word| !program.contains_key(*word)).collect();
    assert!(unsaid.is_empty(), "not in docs/reasons.md: {unsaid:#?}");
    assert!(unknown.is_empty(), "in docs/reasons.md and nowhere in the program: {unknown:?}");
    assert!(program.len() > 80, "{}", program.len());
}
