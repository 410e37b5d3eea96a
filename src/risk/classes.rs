//! Equivalence classes over coded attributes, their generalisation, and the measures of them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// For one attribute and each of its codes, the code at a level of generalisation.
pub type Hierarchy = Vec<u32>;

/// The attributes have so many values together that a class has no 128-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quasi-identifiers have too many values to be classed")]
pub struct TooManyValues;

/// Distinct combinations of codes with how many people have each.
#[derive(Clone, Debug)]
pub struct Classes {
    width: usize,
    codes: Vec<u32>,
    counts: Vec<u64>,
    cards: Vec<u32>,
}

impl Classes {
    /// Classes of rows of `width` codes each, with the class of every row.
    ///
    /// # Errors
    /// [`TooManyValues`].
    pub fn of_rows(width: usize, rows: &[u32]) -> Result<(Self, Vec<u32>), TooManyValues> {
        let mut cards = vec![1; width];
        for row in rows.chunks_exact(width) {
            for (card, code) in cards.iter_mut().zip(row) {
                *card = (*card).max(code + 1);
            }
        }
        let radix = radix(&cards)?;
        let mut out = Self { width, codes: Vec::new(), counts: Vec::new(), cards };
        let mut index: HashMap<u128, u32> = HashMap::new();
        let mut of_row = Vec::with_capacity(rows.len() / width.max(1));
        for row in rows.chunks_exact(width) {
            let next = out.counts.len() as u32;
            let class = *index.entry(number(&radix, row.iter().copied())).or_insert(next);
            if class == next {
                out.codes.extend_from_slice(row);
                out.counts.push(0);
            }
            out.counts[class as usize] += 1;
            of_row.push(class);
        }
        Ok((out, of_row))
    }

    /// How many classes there are.
    pub const fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is nobody.
    pub const fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The sizes of the classes.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The codes of a class.
    pub fn codes(&self, class: usize) -> &[u32] {
        &self.codes[class * self.width..(class + 1) * self.width]
    }

    /// How many codes each attribute has.
    pub fn cardinalities(&self) -> &[u32] {
        &self.cards
    }

    /// People in all classes.
    pub fn persons(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sizes of the classes after generalisation by one hierarchy for each attribute (`None`: as they are), and for
    /// each class of `self` the generalised class it falls into.
    ///
    /// # Errors
    /// [`TooManyValues`].
    pub fn generalise(&self, levels: &[Option<&Hierarchy>]) -> Result<(Vec<u64>, Vec<u32>), TooManyValues> {
        let radix = radix(&self.cards)?;
        let mut index: HashMap<u128, u32> = HashMap::new();
        let (mut sizes, mut of_class) = (Vec::new(), Vec::with_capacity(self.len()));
        for (class, count) in self.counts.iter().enumerate() {
            let codes = self.codes(class);
            let general = |(at, code): (usize, &u32)| levels[at].map_or(*code, |l| l[*code as usize]);
            let key = number(&radix, codes.iter().enumerate().map(general));
            let next = sizes.len() as u32;
            let general = *index.entry(key).or_insert(next);
            if general == next {
                sizes.push(0);
            }
            sizes[general as usize] += count;
            of_class.push(general);
        }
        Ok((sizes, of_class))
    }

    /// The measures; `population[class]` is `F`, at least the size in the sample.
    pub fn report(&self, population: &[f64], estimator: String) -> RiskReport {
        report(&self.counts, population, estimator)
    }
}

/// Mixed radix: the weight of each attribute's code in the number of a class.
fn radix(cards: &[u32]) -> Result<Vec<u128>, TooManyValues> {
    let mut weight: u128 = 1;
    let mut out = Vec::with_capacity(cards.len());
    for card in cards {
        out.push(weight);
        weight = weight.checked_mul(u128::from(*card)).ok_or(TooManyValues)?;
    }
    Ok(out)
}

fn number(radix: &[u128], codes: impl Iterator<Item = u32>) -> u128 {
    radix.iter().zip(codes).map(|(weight, code)| weight * u128::from(code)).sum()
}

/// Risk by [the definitions of this module](super). All risks are probabilities.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RiskReport {
    /// People (`n`).
    pub persons: u64,
    /// Classes (`J`).
    pub classes: u64,
    /// Size of the smallest class: the `k` of k-anonymity. 0 if there is nobody.
    pub smallest_class: u64,
    /// People who are alone in their class.
    pub sample_uniques: u64,
    /// People by the size of their class: `1`, `2`, `3-4`, `5-10`, `11-20`, `21-50`, `51-100`, `over 100`.
    pub persons_by_class_size: BTreeMap<String, u64>,
    /// People in classes smaller than 3, 5 and 11.
    pub persons_below: BTreeMap<u32, u64>,
    /// Greatest prosecutor risk.
    pub prosecutor_max: f64,
    /// Average prosecutor risk.
    pub prosecutor_average: f64,
    /// Greatest journalist risk.
    pub journalist_max: f64,
    /// Average journalist risk.
    pub journalist_average: f64,
    /// Marketer risk: the share of people that an attack on all of them is expected to name.
    pub marketer: f64,
    /// How the sizes of classes in the population were estimated.
    pub estimator: String,
}

/// Bins of class sizes: greatest size in the bin, and its name.
const BINS: [(u64, &str); 8] = [
    (1, "1"),
    (2, "2"),
    (4, "3-4"),
    (10, "5-10"),
    (20, "11-20"),
    (50, "21-50"),
    (100, "51-100"),
    (u64::MAX, "over 100"),
];

pub(super) fn report(sizes: &[u64], population: &[f64], estimator: String) -> RiskReport {
    let persons: u64 = sizes.iter().sum();
    let mut out = RiskReport {
        persons,
        classes: sizes.len() as u64,
        smallest_class: sizes.iter().copied().min().unwrap_or(0),
        persons_by_class_size: BINS.iter().map(|(_, name)| ((*name).to_owned(), 0)).collect(),
        persons_below: [(3, 0), (5, 0), (11, 0)].into(),
        estimator,
        ..RiskReport::default()
    };
    if persons == 0 {
        return out;
    }
    for size in sizes {
        let bin = BINS.iter().find(|(most, _)| size <= most).map_or("over 100", |(_, name)| name);
        *out.persons_by_class_size.entry(bin.to_owned()).or_default() += size;
        for (k, below) in &mut out.persons_below {
            *below += if *size < u64::from(*k) { *size } else { 0 };
        }
    }
    out.sample_uniques = out.persons_by_class_size["1"];
    let n = persons as f64;
    out.prosecutor_max = 1.0 / out.smallest_class as f64;
    out.prosecutor_average = out.classes as f64 / n;
    out.marketer = sizes.iter().zip(population).map(|(f, pop)| *f as f64 / pop).sum::<f64>() / n;
    out.journalist_max = 1.0 / population.iter().copied().fold(f64::INFINITY, f64::min);
    out.journalist_average = (out.classes as f64 / population.iter().sum::<f64>()).max(out.marketer);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of El Emam (2013): classes of 1, 2 and 3 in a sample; ten times as many in the population.
    #[test]
    fn measures_of_a_small_sample() {
        let rows = [1, 7, 2, 7, 2, 7, 3, 8, 3, 8, 3, 8];
        let (classes, of_row) = Classes::of_rows(2, &rows).expect("few values");
        assert_eq!((classes.counts(), of_row), ([1, 2, 3].as_slice(), vec![0, 1, 1, 2, 2, 2]));
        let r = classes.report(&[10.0, 20.0, 30.0], "x".into());
        assert_eq!((r.persons, r.classes, r.smallest_class, r.sample_uniques), (6, 3, 1, 1));
        assert_eq!((r.prosecutor_max, r.prosecutor_average), (1.0, 0.5));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(r.journalist_max, 0.1) && near(r.journalist_average, 0.05) && near(r.marketer, 0.05));
        // Classes that differ in their share of the population: 2 of 4 and 2 of 40.
        let (two, _) = Classes::of_rows(1, &[0, 0, 1, 1]).expect("few values");
        let s = two.report(&[4.0, 40.0], "x".into());
        let average = (2.0 / 4.0 + 2.0 / 40.0) / 4.0;
        assert!(
            near(s.journalist_max, 0.25) && near(s.marketer, average) && near(s.journalist_average, average)
        );
        assert_eq!(r.persons_below, [(3, 3), (5, 6), (11, 6)].into());
        assert_eq!(r.persons_by_class_size["3-4"], 3);
        assert_eq!(Classes::of_rows(2, &[]).expect("none").0.report(&[], "x".into()).smallest_class, 0);
    }

    #[test]
    fn generalisation_joins_classes() {
        let (classes, _) = Classes::of_rows(2, &[0, 0, 1, 0, 2, 1]).expect("few values");
        let level = vec![0, 0, 1];
        let (sizes, of_class) = classes.generalise(&[Some(&level), None]).expect("few values");
        assert_eq!((sizes, of_class), (vec![2, 1], vec![0, 0, 1]));
        let all = vec![0, 0, 0];
        let (sizes, _) = classes.generalise(&[Some(&all), Some(&vec![0, 0])]).expect("few values");
        assert_eq!(sizes, [3]);
    }

    #[test]
    fn too_many_values_are_refused() {
        let row = [u32::MAX - 1; 5];
        assert_eq!(Classes::of_rows(5, &row).err(), Some(TooManyValues));
        assert!(Classes::of_rows(4, &row[..4]).is_ok());
    }
}

#[cfg(test)]
mod oracle;
