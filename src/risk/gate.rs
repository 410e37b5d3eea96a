//! The gate before a release: every class at least `k` people, by the least generalisation and suppression.
//!
//! The lattice is the product of these chains, the same for everyone in a release:
//!
//! | attribute | as released → … → withheld |
//! |---|---|
//! | birth | as released → year → 5 → 10 → 20 years → withheld |
//! | place | as released → ZIP3 and state → state → withheld |
//! | sex, race, ethnicity | as released → withheld |
//! | death | as released → table withheld |
//!
//! A coarser date of death than "withheld" is not offered: the dates of the last events would tell it all the same. The
//! limit of suppression holds for those who died by themselves too: where their dates cannot stay without leaving many of
//! them out, the table goes and they stay, for a release of survivors only would mislead.
//! A node costs what its levels cost ([`BIRTH_COST`] and so on, in parts of a million) plus the share of people it
//! suppresses. The cheapest node whose suppression is within the limit wins; among equals, the first in the order of the
//! levels. So the same people give the same release.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{TableSpec, Tables};
use arrow::array::RecordBatch;
use arrow::compute::kernels::cmp::distinct;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::classes::{Classes, Hierarchy, RiskReport, report};
use super::history::Earlier;
use super::people::{BIRTH, Birth, DEATH, ETHNICITY, PLACE, People, RACE, RiskError, SEX, declared};
use super::population::Population;
use super::recoding::{Place, Recoding};

/// Who may see a release.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Anyone.
    Public,
    /// A recipient who signed terms.
    Controlled,
}

/// The class size that a release needs: 11 for the public (the cell size of the US Centers for Medicare and Medicaid
/// Services), 5 under signed terms, and more if a contributor asks for more.
pub fn required_k(tier: Tier, contributors: impl IntoIterator<Item = u32>) -> u32 {
    let least = match tier {
        Tier::Public => 11,
        Tier::Controlled => 5,
    };
    contributors.into_iter().fold(least, u32::max)
}

/// What the gate asks for.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateRules {
    /// The least size of a class.
    pub k: u32,
    /// The greatest share of people who may be left out, in parts of a million.
    pub suppression_limit_ppm: u64,
}

impl GateRules {
    /// At most one in twenty people left out.
    pub const fn new(k: u32) -> Self {
        Self { k, suppression_limit_ppm: 50_000 }
    }
}

/// What reaching a class size costs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// The class size.
    pub k: u32,
    /// The cheapest recoding, or `None` if there is none within the limit.
    pub recoding: Option<Recoding>,
    /// People left out under it.
    pub suppressed: u64,
    /// Its price, in parts of a million.
    pub loss_ppm: u64,
}

/// What the gate did.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateReport {
    /// The rules.
    pub rules: GateRules,
    /// The declared quasi-identifiers.
    pub quasi_identifiers: Vec<String>,
    /// Risk of the people as they came.
    pub before: RiskReport,
    /// Risk of what leaves.
    pub after: RiskReport,
    /// The recoding.
    pub recoding: Recoding,
    /// People left out.
    pub suppressed: u64,
    /// What was paid, in parts of a million.
    pub loss_ppm: u64,
    /// What other class sizes would cost.
    pub costs: Vec<Cost>,
    /// Earlier releases that it was measured together with.
    pub earlier: usize,
}

/// From how many people on a report for recipients says how many were left out.
const TOLD_FROM: u64 = 11;

/// How many were left out, as recipients are told: not where they are few, for who is left out is who is rare.
pub fn told_left_out(people: u64) -> Option<u64> {
    (people == 0 || people >= TOLD_FROM).then_some(people)
}

/// A cost as recipients are told it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ToldCost {
    /// The class size.
    pub k: u32,
    /// The cheapest recoding, or `None` if there is none within the limit.
    pub recoding: Option<Recoding>,
    /// People left out under it; `None` if they are fewer than 11 and not nobody.
    pub suppressed: Option<u64>,
}

impl From<&Cost> for ToldCost {
    fn from(cost: &Cost) -> Self {
        Self { k: cost.k, recoding: cost.recoding, suppressed: told_left_out(cost.suppressed) }
    }
}

/// The report as recipients get it: without the people as they came, whose risk would show those who were left out.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ToldReport {
    /// The rules.
    pub rules: GateRules,
    /// The declared quasi-identifiers.
    pub quasi_identifiers: Vec<String>,
    /// Risk of what leaves.
    pub after: RiskReport,
    /// The recoding.
    pub recoding: Recoding,
    /// What other class sizes would cost.
    pub costs: Vec<ToldCost>,
    /// Earlier releases that it was measured together with.
    pub earlier: usize,
}

impl From<&GateReport> for ToldReport {
    fn from(report: &GateReport) -> Self {
        Self {
            rules: report.rules,
            quasi_identifiers: report.quasi_identifiers.clone(),
            after: report.after.clone(),
            recoding: report.recoding,
            costs: report.costs.iter().map(ToldCost::from).collect(),
            earlier: report.earlier,
        }
    }
}

/// The gate let the release pass, changed so.
#[derive(Clone, PartialEq, Debug)]
pub struct Gated {
    /// The recoding of everyone.
    pub recoding: Recoding,
    /// People who are left out, by `person_id`.
    pub suppressed: BTreeSet<i64>,
    /// What was done and measured.
    pub report: GateReport,
}

impl Gated {
    /// Recodes a batch of any table of the release and leaves out the suppressed people; `None` if the whole table is
    /// withheld.
    ///
    /// # Errors
    /// Arrow's, if the batch is not of the table.
    pub fn apply(&self, spec: &TableSpec, batch: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
        self.recoding.apply(spec, batch, &self.suppressed)
    }
}

impl Gated {
    /// How many values of each column [`Gated::apply`] changes in a batch, of people who stay; columns without a change are
    /// left out.
    ///
    /// # Errors
    /// Arrow's, if the batch is not of the table.
    pub fn changed(
        &self,
        spec: &TableSpec,
        batch: &RecordBatch,
    ) -> Result<BTreeMap<String, u64>, ArrowError> {
        let before = Recoding::NONE.apply(spec, batch, &self.suppressed)?;
        let (Some(before), Some(after)) = (before, self.apply(spec, batch)?) else {
            return Ok(BTreeMap::new());
        };
        let mut out = BTreeMap::new();
        for (at, c) in spec.columns.iter().enumerate() {
            if self.recoding.of_column(&spec.table, &c.name).is_some() {
                let changed = distinct(before.column(at), after.column(at))?.true_count() as u64;
                out.insert(c.name.clone(), changed);
            }
        }
        out.retain(|_, n| *n > 0);
        Ok(out)
    }
}

/// The gate refused, or risk could not be measured.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refused {
    /// No node of the lattice reaches the class size within the suppression limit.
    #[error(
        "classes of at least {required} people cannot be reached: the smallest has {measured}; see what other sizes would cost"
    )]
    ClassSize {
        /// The class size asked for.
        required: u32,
        /// The smallest class as the people came.
        measured: u64,
        /// Risk as the people came.
        before: Box<RiskReport>,
        /// What k = 3, 5 and 11 would cost.
        costs: Vec<Cost>,
    },
    /// See [`RiskError`].
    #[error(transparent)]
    Risk(#[from] RiskError),
}

const MILLION: u64 = 1_000_000;
/// The price of each level of birth; together with the others, withholding everything costs a million.
const BIRTH_COST: [u64; 6] = [0, 20_000, 60_000, 100_000, 150_000, 300_000];
const PLACE_COST: [u64; 4] = [0, 30_000, 70_000, 160_000];
const SEX_COST: [u64; 2] = [0, 240_000];
const RACE_COST: [u64; 2] = [0, 120_000];
const ETHNICITY_COST: [u64; 2] = [0, 60_000];
const DEATH_COST: [u64; 2] = [0, 120_000];

/// A level of each attribute.
type Node = [usize; 6];

fn price(node: &Node) -> u64 {
    BIRTH_COST[node[BIRTH]]
        + PLACE_COST[node[PLACE]]
        + SEX_COST[node[SEX]]
        + RACE_COST[node[RACE]]
        + ETHNICITY_COST[node[ETHNICITY]]
        + DEATH_COST[node[DEATH]]
}

fn recoding(node: &Node, people: &People) -> Recoding {
    Recoding {
        birth_date: node[BIRTH] == 0,
        birth_years: [1, 1, 5, 10, 20, 0][node[BIRTH]],
        place: [Place::AsReleased, Place::Zip3, Place::State, Place::Withheld][node[PLACE]],
        sex: node[SEX] == 0,
        race: node[RACE] == 0,
        ethnicity: node[ETHNICITY] == 0,
        death: node[DEATH] == 0,
        floor_year: people.floor_year(),
    }
}

/// The hierarchies of every attribute at every level; level 0 is as released.
struct Lattice {
    levels: Vec<Vec<Hierarchy>>,
}

impl Lattice {
    fn new(people: &People) -> Self {
        let at = |attribute: usize, level: usize| {
            let mut node = [0; 6];
            node[attribute] = level;
            recoding(&node, people)
        };
        let birth = |level: usize| {
            let recoding = at(BIRTH, level);
            people.births.level(move |b: &Birth| {
                (recoding.birth_year(b.year, b.over_89), b.over_89 && recoding.birth_years != 0)
            })
        };
        let place = |level: usize| {
            let recoding = at(PLACE, level);
            people.places.level(move |(zip, state)| {
                let (zip, state) = recoding.place(zip.as_deref(), state.as_deref());
                (zip.map(str::to_owned), state.map(str::to_owned))
            })
        };
        let mut levels = vec![Vec::new(); 6];
        levels[BIRTH] = (1..BIRTH_COST.len()).map(birth).collect();
        levels[PLACE] = (1..PLACE_COST.len()).map(place).collect();
        for attribute in [SEX, RACE, ETHNICITY, DEATH] {
            levels[attribute] = vec![vec![0; people.values(attribute)]];
        }
        Self { levels }
    }

    /// All nodes, cheapest first, then by levels.
    fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = vec![[0; 6]];
        for (attribute, levels) in self.levels.iter().enumerate() {
            let more = |node: Node| {
                (0..=levels.len()).map(move |level| {
                    let mut node = node;
                    node[attribute] = level;
                    node
                })
            };
            nodes = nodes.into_iter().flat_map(more).collect();
        }
        nodes.sort_by_key(|node| (price(node), *node));
        nodes
    }

    /// What a release at `node` tells. What earlier ones told ([`SEEN`](super::people::SEEN)) stays as it is.
    fn generalise(&self, classes: &Classes, node: &Node) -> Result<(Vec<u64>, Vec<u32>), RiskError> {
        let level =
            |attribute: usize, level: &usize| level.checked_sub(1).map(|l| &self.levels[attribute][l]);
        let own = node.iter().enumerate().map(|(attribute, l)| level(attribute, l));
        Ok(classes.generalise(&own.chain([None]).collect::<Vec<_>>())?)
    }
}

/// The cheapest node found so far for one class size.
struct Best {
    k: u32,
    found: Option<(u64, Node, u64)>,
}

fn search(
    people: &People,
    classes: &Classes,
    lattice: &Lattice,
    rules: GateRules,
    sizes: &[u32],
) -> Result<Vec<Best>, RiskError> {
    let persons = classes.persons();
    let dead: Vec<(usize, u64)> = people.dead(classes).collect();
    let mut best: Vec<Best> = sizes.iter().map(|k| Best { k: *k, found: None }).collect();
    if people.is_empty() {
        return Ok(best);
    }
    for node in lattice.nodes() {
        let price = price(&node);
        let open = |b: &Best| b.found.is_none_or(|(loss, _, _)| price < loss);
        if !best.iter().any(open) {
            break;
        }
        let (counts, of_class) = lattice.generalise(classes, &node)?;
        let dead = if node[DEATH] == 0 { dead.as_slice() } else { &[] };
        for best in best.iter_mut().filter(|b| open(b)) {
            if !keeps_the_dead(dead, &counts, &of_class, best.k, rules.suppression_limit_ppm) {
                continue;
            }
            let small: u64 = counts.iter().filter(|c| **c < u64::from(best.k)).sum();
            let share = small.saturating_mul(MILLION).div_ceil(persons);
            let loss = price + share;
            let better = best.found.is_none_or(|(least, _, _)| loss < least);
            if small < persons && share <= rules.suppression_limit_ppm && better {
                best.found = Some((loss, node, small));
            }
        }
    }
    Ok(best)
}

/// Whether of those who died (class and size) no greater share is left out than may be of all. True where nobody died.
fn keeps_the_dead(dead: &[(usize, u64)], counts: &[u64], of_class: &[u32], k: u32, limit_ppm: u64) -> bool {
    let small = |class: usize| counts[of_class[class] as usize] < u64::from(k);
    let (mut all, mut left_out) = (0u64, 0u64);
    for (class, people) in dead {
        all += people;
        left_out += if small(*class) { *people } else { 0 };
    }
    left_out.saturating_mul(MILLION) <= all.saturating_mul(limit_ppm)
}

/// Makes a release of `people` safe to the required class size, or refuses. Deterministic. Measured is what the recipient
/// then has: the release read together with the `earlier` ones (see [`Earlier`]).
///
/// # Errors
/// [`Refused`], with what is required, what was measured and what other class sizes would cost.
pub fn gate(
    people: &People,
    tables: &Tables,
    rules: GateRules,
    population: &Population,
    earlier: &Earlier,
) -> Result<Gated, Refused> {
    let (classes, of_person) = people.classed(&earlier.numbers(people))?;
    let lattice = Lattice::new(people);
    let found = search(people, &classes, &lattice, rules, &[rules.k, 3, 5, 11])?;
    let before = classes.report(&population.sizes(people, &classes), population.estimator());
    let costs: Vec<Cost> = found[1..]
        .iter()
        .map(|b| Cost {
            k: b.k,
            recoding: b.found.map(|(_, node, _)| recoding(&node, people)),
            suppressed: b.found.map_or(0, |(_, _, suppressed)| suppressed),
            loss_ppm: b.found.map_or(0, |(loss, _, _)| loss),
        })
        .collect();
    let Some((loss_ppm, node, suppressed_count)) = found[0].found else {
        let (required, measured) = (rules.k, before.smallest_class);
        return Err(Refused::ClassSize { required, measured, before: Box::new(before), costs });
    };
    let (counts, of_class) = lattice.generalise(&classes, &node)?;
    let small = |general: u32| counts[general as usize] < u64::from(rules.k);
    let suppressed = people.pick(|at| small(of_class[of_person[at] as usize]));
    let after = after(&counts, &of_class, &classes, rules.k, &population.sizes(people, &classes), population);
    let recoding = recoding(&node, people);
    Ok(Gated {
        recoding,
        suppressed,
        report: GateReport {
            rules,
            quasi_identifiers: declared(tables),
            before,
            after,
            recoding,
            suppressed: suppressed_count,
            loss_ppm,
            costs,
            earlier: earlier.releases(),
        },
    })
}

/// Risk of what leaves. `F` of a generalised class is the sum over the classes it joins, a lower bound, since the
/// population has classes that the sample has not.
fn after(
    counts: &[u64],
    of_class: &[u32],
    classes: &Classes,
    k: u32,
    population: &[f64],
    estimator: &Population,
) -> RiskReport {
    let mut sizes = vec![0.0; counts.len()];
    for (class, general) in of_class.iter().enumerate().take(classes.len()) {
        sizes[*general as usize] += population[class];
    }
    let stays = |(f, _): &(&u64, f64)| **f >= u64::from(k);
    let (counts, sizes): (Vec<u64>, Vec<f64>) =
        counts.iter().zip(sizes).filter(stays).map(|(f, size)| (*f, size)).unzip();
    report(&counts, &sizes, estimator.estimator())
}

#[cfg(test)]
mod tests;
