//! What a recipient knows already: earlier releases of the same people, under the same pseudonyms.
//!
//! Two releases are read side by side, so what stands between a person and the recipient is not the class in the new one
//! but in both together: of each attribute the finer level that was given, and in which of the releases the person is.
//! The levels of an attribute are a chain, so the finer of two tells everything that the coarser does. The gate measures
//! this. It takes an earlier release to have told, at its level, what is known of the person now.

use std::collections::HashMap;

use super::gate::Node;
use super::people::People;
use super::recoding::{Place, Recoding};

/// An earlier release to the same recipient under the same pseudonyms.
#[derive(Clone, PartialEq, Debug)]
pub struct Earlier {
    /// How it was recoded.
    pub recoding: Recoding,
    /// The pseudonyms in it, ascending.
    pub people: Vec<i64>,
}

/// For each person the number of the set of earlier releases that they are in, and for each such set the finest level of
/// each attribute that they gave.
pub(super) struct History {
    pub(super) of_person: Vec<u32>,
    finest: Vec<Node>,
}

impl History {
    pub(super) fn new(people: &People, earlier: &[Earlier]) -> Self {
        let nodes: Vec<Node> = earlier.iter().map(|e| node(&e.recoding)).collect();
        let mut numbers: HashMap<Vec<usize>, u32> = HashMap::new();
        let (mut of_person, mut finest) = (Vec::with_capacity(people.len()), Vec::new());
        for id in people.ids() {
            let is_in = |at: &usize| earlier[*at].people.binary_search(id).is_ok();
            let seen: Vec<usize> = (0..earlier.len()).filter(is_in).collect();
            let next = finest.len() as u32;
            let number = *numbers.entry(seen.clone()).or_insert(next);
            if number == next {
                finest.push(seen.iter().fold([usize::MAX; 6], |least, at| finer(&least, &nodes[*at])));
            }
            of_person.push(number);
        }
        Self { of_person, finest }
    }

    /// The level of an attribute that a release at `level` tells, together with the earlier ones.
    pub(super) fn level(&self, seen: u32, attribute: usize, level: usize) -> usize {
        level.min(self.finest[seen as usize][attribute])
    }
}

fn finer(a: &Node, b: &Node) -> Node {
    std::array::from_fn(|attribute| a[attribute].min(b[attribute]))
}

/// The node of the lattice that a recoding is.
fn node(recoding: &Recoding) -> Node {
    let birth = match (recoding.birth_date, recoding.birth_years) {
        (true, _) => 0,
        (false, 0) => 5,
        (false, years) => [1, 5, 10, 20].iter().rposition(|width| *width <= years).map_or(0, |at| at + 1),
    };
    let place = match recoding.place {
        Place::AsReleased => 0,
        Place::Zip3 => 1,
        Place::State => 2,
        Place::Withheld => 3,
    };
    let withheld = |stays: bool| usize::from(!stays);
    [
        birth,
        place,
        withheld(recoding.sex),
        withheld(recoding.race),
        withheld(recoding.ethnicity),
        withheld(recoding.death),
    ]
}
