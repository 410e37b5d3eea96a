//! How many people of the population share a class with those of the sample: `F`, estimated.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use almoner_deid::Zip3;

use super::classes::Classes;
use super::people::{BIRTH, PLACE, People, SEEN, SEX};

/// Years of birth that people are taken to be spread over evenly.
const YEARS: f64 = 90.0;

/// What is known of the population from which the sample comes.
#[derive(Clone, Debug)]
pub enum Population {
    /// Nothing: every person of the population is taken to be in the sample (`F = f`), so that journalist and marketer
    /// risk are at their upper bound, the prosecutor's.
    Unknown,
    /// The sample is this share of the population, drawn evenly: `F = f / share`.
    Share(f64),
    /// The census population of the three-digit ZIP area, spread evenly over 90 years of birth and two sexes, times the
    /// share of the other attributes in the sample; never less than `f`. `F = f` where no area is stated.
    Census(Arc<Zip3>),
}

impl Population {
    /// The estimator in words, for reports.
    pub fn estimator(&self) -> String {
        match self {
            Self::Unknown => "population unknown: taken to be the sample (upper bound)".to_owned(),
            Self::Share(share) => {
                format!("even sampling, {:.4} of the population", share.clamp(f64::MIN_POSITIVE, 1.0))
            }
            Self::Census(zip3) => format!(
                "census of {} by three-digit ZIP area, even over {YEARS} years of birth and two sexes, other attributes \
                 by their share in the sample",
                zip3.census()
            ),
        }
    }

    /// `F` of each class, as the people are released (before any generalisation by the gate).
    pub(super) fn sizes(&self, people: &People, classes: &Classes) -> Vec<f64> {
        let at_least = |class: usize, size: f64| size.max(classes.counts()[class] as f64);
        match self {
            Self::Unknown => classes.counts().iter().map(|f| *f as f64).collect(),
            Self::Share(share) => {
                let share = share.clamp(f64::MIN_POSITIVE, 1.0);
                classes.counts().iter().map(|f| *f as f64 / share).collect()
            }
            Self::Census(zip3) => {
                let shares = Shares::of(classes);
                let area = |class: usize| {
                    let (zip, _) = &people.places.list[classes.codes(class)[PLACE] as usize];
                    zip.as_deref().and_then(|z| z.get(..3)).map_or(0, |area| zip3.population(area))
                };
                let size =
                    |class| f64::from(area(class)) / YEARS / 2.0 * shares.of_class(classes.codes(class));
                (0..classes.len()).map(|class| at_least(class, size(class))).collect()
            }
        }
    }
}

/// The share in the sample of each value of the attributes that the census facts say nothing about.
struct Shares(Vec<HashMap<u32, f64>>);

impl Shares {
    fn of(classes: &Classes) -> Self {
        let known: BTreeSet<usize> = [BIRTH, PLACE, SEX, SEEN].into();
        let persons = classes.persons() as f64;
        let width = classes.cardinalities().len();
        let mut out = vec![HashMap::new(); width];
        for (class, count) in classes.counts().iter().enumerate() {
            for at in (0..width).filter(|at| !known.contains(at)) {
                *out[at].entry(classes.codes(class)[at]).or_insert(0.0) += *count as f64 / persons;
            }
        }
        Self(out)
    }

    fn of_class(&self, codes: &[u32]) -> f64 {
        self.0.iter().zip(codes).filter_map(|(shares, code)| shares.get(code)).product()
    }
}
