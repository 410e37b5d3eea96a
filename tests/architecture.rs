//! The house keeps its own rules: layers import downward only, every file says what it is, files stay readable, and
//! heavy dependencies are named in one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each module of the root package. A longer path wins. Imports go to the same layer or below.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("testdata", 0),
    ("events", 1),
    ("keys", 1),
    ("mapping", 1),
    ("risk", 1),
    ("consent", 1),
    ("request", 1),
    ("policy", 1),
    ("state", 1),
    ("cohort", 1),
    ("cohort/execute", 2),
    ("release", 2),
    ("release/terms", 1),
    ("intake", 2),
    ("gather", 2),
    ("dataset", 2),
    ("catalog", 2),
    ("store", 2),
    ("registry", 2),
    ("blob", 2),
    ("spool", 2),
    ("vocabulary", 2),
    ("flows", 3),
    ("jobs", 3),
    ("config", 4),
    ("system", 4),
    ("app", 4),
    ("tls", 4),
    ("web", 4),
    ("cli", 4),
    ("push", 4),
    ("synth", 4),
    ("demo", 4),
    ("main", 5),
    ("lib", 5),
];

/// Crates that may be named in one place only, with the paths where they may.
const CONFINED: &[(&str, &[&str])] = &[
    ("polars", &["cohort/execute"]),
    ("rusqlite", &["store/sqlite", "registry"]),
    ("object_store", &["blob"]),
    ("actix_web", &["web", "tls", "cli/serve"]),
];

const HARD_LINES: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// `(path relative to src without extension, text)` of every file of the root package.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "found only {} files", files.len());
    files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&src).expect("below src").with_extension("");
            let name = name.to_string_lossy().replace('\\', "/");
            let name = name.strip_suffix("/mod").unwrap_or(&name).to_owned();
            (name, fs::read_to_string(path).expect("readable"))
        })
        .collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .filter(|(path, _)| module == *path || module.starts_with(&format!("{path}/")))
        .max_by_key(|(path, _)| path.len())
        .map(|(_, layer)| *layer)
}

/// The code of a file up to its unit tests: they may use anything.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

/// The modules of this crate that a file names, as paths: `crate::a::b` gives `a/b`, `crate::{a::b, c}` gives both.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line_start in text.match_indices("crate::").map(|(i, _)| i) {
        let before = text[..line_start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = text[..line_start].rfind('\n').map_or(0, |i| i + 1);
        if text[line..line_start].trim_start().starts_with("//") {
            continue;
        }
        expand(&text[line_start + "crate::".len()..], "", &mut found);
    }
    found
}

fn expand(rest: &str, prefix: &str, out: &mut Vec<String>) {
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if !word.is_empty() {
        let path = if prefix.is_empty() { word.clone() } else { format!("{prefix}/{word}") };
        match rest[word.len()..].strip_prefix("::") {
            Some(next) => expand(next, &path, out),
            None => out.push(path),
        }
        return;
    }
    let Some(body) = rest.strip_prefix('{') else {
        if !prefix.is_empty() {
            out.push(prefix.to_owned());
        }
        return;
    };
    let (mut depth, mut start) = (0_i32, 0);
    for (i, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                expand(body[start..i].trim_start(), prefix, out);
                return;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(body[start..i].trim_start(), prefix, out);
                start = i + 1;
            }
            _ => {}
        }
    }
}

#[test]
fn imports_are_read_out_of_nested_braces() {
    let text = "use crate::{a::{b, c::D}, e};\nlet x = crate::f::g();\n// crate::not::this\nuse crate::h::*;";
    assert_eq!(imports(text), ["a/b", "a/c/D", "e", "f/g", "h"]);
}

#[test]
fn layers_import_downward_only() {
    let mut wrong = Vec::new();
    for (module, text) in sources() {
        let Some(own) = layer(&module) else {
            wrong.push(format!("src/{module}: its module has no layer in tests/architecture.rs"));
            continue;
        };
        for import in imports(without_tests(&text)) {
            if let Some(other) = layer(&import).filter(|other| *other > own) {
                wrong.push(format!("src/{module} (layer {own}) imports {import} (layer {other})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    let mut files = Vec::new();
    for dir in ["src", "crates", "tests", "benches"] {
        rust_files(&root().join(dir), &mut files);
    }
    let silent: Vec<String> = files
        .iter()
        .filter(|path| !fs::read_to_string(path).expect("readable").starts_with("//! "))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "no `//!` on the first line:\n{}", silent.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("crates"), &mut files);
    let long: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).expect("readable");
            let lines = without_tests(&text).lines().count();
            (lines > HARD_LINES).then(|| format!("{}: {lines} lines without tests", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "over {HARD_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn heavy_dependencies_are_named_in_one_place() {
    let mut wrong = Vec::new();
    for (module, text) in sources() {
        for (dependency, places) in CONFINED {
            let named = without_tests(&text).lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && line.contains(&format!("{dependency}::"))
            });
            let allowed = places.iter().any(|p| module == *p || module.starts_with(&format!("{p}/")));
            if named && !allowed {
                wrong.push(format!("src/{module} names {dependency}, which belongs in {places:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_link_no_network_disk_or_data_engine() {
    let forbidden = ["tokio", "actix-web", "polars", "rusqlite", "ureq", "object_store", "parquet"];
    for name in ["model", "deid"] {
        let text = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).expect("readable");
        let manifest: toml::Table = text.parse().expect("a manifest");
        let dependencies = manifest["dependencies"].as_table().expect("a table");
        for dependency in forbidden {
            assert!(!dependencies.contains_key(dependency), "crates/{name} depends on {dependency}");
        }
    }
}

#[test]
fn what_auditors_build_links_no_data_engine_and_the_small_one_no_rules_engine() {
    let engines = ["tokio", "actix-web", "polars", "arrow", "rusqlite", "object_store", "parquet"];
    let dependencies = |name: &str| {
        let file = root().join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(file).expect("readable").parse().expect("a manifest");
        manifest["dependencies"].as_table().expect("a table").clone()
    };
    for name in ["ledger", "control"] {
        let linked = dependencies(name);
        let heavy: Vec<_> = engines.iter().filter(|e| linked.contains_key(**e)).collect();
        assert!(heavy.is_empty(), "crates/{name} depends on {heavy:?}");
    }
    assert!(!dependencies("ledger").contains_key("cedar-policy"), "almoner-verify builds in seconds");
    let mut files = Vec::new();
    rust_files(&root().join("crates/control/src"), &mut files);
    let cedar = files.iter().filter(|f| {
        fs::read_to_string(f)
            .expect("readable")
            .lines()
            .any(|l| l.contains("cedar_policy::") && !l.trim_start().starts_with("//"))
    });
    let cedar: Vec<_> = cedar.filter_map(|f| f.file_name()).collect();
    assert_eq!(cedar, ["engine.rs"], "the rules engine is named in one place");
}

#[test]
fn names_say_what_a_thing_is() {
    let vague = ["utils", "util", "common", "helpers", "helper", "manager", "misc"];
    let named: BTreeMap<String, ()> = sources()
        .into_iter()
        .filter(|(module, _)| module.split('/').any(|part| vague.contains(&part)))
        .map(|(module, _)| (module, ()))
        .collect();
    assert!(named.is_empty(), "{named:?}");
}
