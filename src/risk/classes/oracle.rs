//! The measures against ARX's published results and an exhaustive search, on the UCI Adult data with ARX's hierarchies.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

/// The columns in the order of the oracle's nodes.
const COLUMNS: [&str; 9] = [
    "sex",
    "age",
    "race",
    "marital-status",
    "education",
    "native-country",
    "workclass",
    "occupation",
    "salary-class",
];

fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).expect("readable");
    text.lines().filter(|l| !l.is_empty()).map(|l| l.split(';').map(str::to_owned).collect()).collect()
}

/// Codes of a column's values, and its hierarchies from level 1 on.
struct Column {
    codes: HashMap<String, u32>,
    levels: Vec<Hierarchy>,
}

fn column(dir: &Path, name: &str) -> Column {
    let rows = lines(&dir.join(format!("adult_hierarchy_{name}.csv")));
    let codes = rows.iter().enumerate().map(|(i, row)| (row[0].clone(), i as u32)).collect();
    let level = |at: usize| {
        let mut seen: HashMap<&str, u32> = HashMap::new();
        let number = |row: &'_ Vec<String>| row[at].clone();
        let texts: Vec<String> = rows.iter().map(number).collect();
        let mut out = Vec::new();
        for text in &texts {
            let next = seen.len() as u32;
            out.push(*seen.entry(text).or_insert(next));
        }
        out
    };
    Column { codes, levels: (1..rows[0].len()).map(level).collect() }
}

struct Adult {
    classes: Classes,
    columns: Vec<Column>,
}

fn adult(width: usize) -> Option<Adult> {
    let dir = crate::testdata::dir("k-anonymity/arx-adult")?;
    let columns: Vec<Column> = COLUMNS[..width].iter().map(|name| column(&dir, name)).collect();
    let table = lines(&dir.join("adult.csv"));
    let at: Vec<usize> = COLUMNS[..width]
        .iter()
        .map(|name| table[0].iter().position(|c| c == name).expect("a column"))
        .collect();
    let mut rows = Vec::new();
    for row in &table[1..] {
        rows.extend(columns.iter().zip(&at).map(|(column, at)| column.codes[&row[*at]]));
    }
    Some(Adult { classes: Classes::of_rows(width, &rows).expect("few values").0, columns })
}

impl Adult {
    fn sizes(&self, node: &[usize]) -> Vec<u64> {
        let levels: Vec<Option<&Hierarchy>> = self
            .columns
            .iter()
            .zip(node)
            .map(|(column, level)| level.checked_sub(1).map(|at| &column.levels[at]))
            .collect();
        self.classes.generalise(&levels).expect("few values").0
    }
}

#[test]
fn raw_measures_are_those_that_arx_asserts() {
    let Some(adult) = adult(9) else { return };
    let sizes: Vec<f64> = adult.classes.counts().iter().map(|c| *c as f64).collect();
    let report = adult.classes.report(&sizes, "the sample".into());
    assert_eq!((report.persons, report.classes, report.sample_uniques), (30_162, 19_502, 15_512));
    assert!((report.prosecutor_average - 0.646_575_160_798_355_5).abs() < 1e-15);
    assert!((report.prosecutor_max - 1.0).abs() < 1e-15);
}

#[test]
fn optimal_nodes_have_the_published_classes() {
    let Some(adult) = adult(9) else { return };
    for (k, node, classes, below) in [
        (5, [1, 0, 1, 1, 3, 2, 2, 0, 1], 1498, 906),
        (100, [1, 1, 1, 1, 3, 2, 2, 1, 1], 90, 866),
        (5, [1, 2, 1, 1, 3, 2, 2, 1, 1], 48, 0),
        (100, [0, 4, 1, 1, 3, 2, 2, 1, 1], 12, 0),
    ] {
        let sizes = adult.sizes(&node);
        assert_eq!(sizes.len(), classes, "{node:?}");
        assert_eq!(sizes.iter().filter(|s| **s < k).sum::<u64>(), below, "{node:?}");
    }
}

/// From the top down: what generalises a k-anonymous node is k-anonymous.
#[test]
fn the_k_anonymous_nodes_are_those_of_an_exhaustive_search() {
    let Some(adult) = adult(8) else { return };
    let path = crate::testdata::dir("k-anonymity/arx-adult/expected_optima.json").expect("beside the data");
    let oracle: Value = serde_json::from_str(&fs::read_to_string(path).expect("readable")).expect("JSON");
    let nodes =
        |value: &Value| -> HashSet<Vec<usize>> { serde_json::from_value(value.clone()).expect("nodes") };
    let top: Vec<usize> = oracle["levels"].as_array().expect("a list").iter().map(levels_of).collect();
    for k in [2, 5] {
        let expected = &oracle["expected"][k.to_string()];
        let mut anonymous: HashMap<Vec<usize>, Vec<u64>> = HashMap::new();
        let (mut todo, mut seen) = (vec![top.clone()], HashSet::new());
        while let Some(node) = todo.pop() {
            let sizes = adult.sizes(&node);
            if sizes.iter().any(|s| *s < k) {
                continue;
            }
            for at in (0..node.len()).filter(|at| node[*at] > 0) {
                let mut below = node.clone();
                below[at] -= 1;
                if seen.insert(below.clone()) {
                    todo.push(below);
                }
            }
            anonymous.insert(node, sizes);
        }
        assert_eq!(anonymous.len() as u64, expected["n_k_anonymous_nodes"].as_u64().expect("a number"));
        let height = |node: &[usize]| node.iter().sum::<usize>();
        let least = anonymous.keys().map(|n| height(n)).min().expect("the top is one");
        assert_eq!(Some(least as u64), expected["min_height"].as_u64());
        let at_least: HashSet<_> = anonymous.keys().filter(|n| height(n) == least).cloned().collect();
        assert_eq!(at_least, nodes(&expected["nodes_at_min_height"]));
        let most = anonymous.values().map(Vec::len).max().expect("some");
        assert_eq!(Some(most as u64), expected["max_classes"].as_u64());
        let discernibility = |sizes: &[u64]| sizes.iter().map(|s| s * s).sum::<u64>();
        let best = anonymous.values().map(|s| discernibility(s)).min().expect("some");
        assert_eq!(Some(best), expected["best_discernibility"].as_u64());
    }
}

/// The oracle counts levels from 1, or states the highest level.
fn levels_of(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize - 1
}
