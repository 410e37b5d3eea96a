//! Which subjects turned out to be one person: a disjoint-set forest (Tarjan 1975) in memory.
//!
//! Every group has one subject that stands for it, which need not be the root of its tree. Trees are joined by size, so
//! that a question takes at most log2(n) steps and a join a constant number of writes, in whatever order people are joined
//! and whoever of them stays. Asked without the database, and so without waiting for whoever writes to it.

use std::collections::{BTreeMap, HashMap};

type Id = i64;

/// The root of a tree with more than one subject.
#[derive(Clone, Copy, Debug)]
struct Group {
    size: u32,
    stands: Id,
}

/// Loser → winner, for everyone who has more than one id.
#[derive(Clone, Default, Debug)]
pub(super) struct Aliases {
    /// Towards the root; a root has none.
    parents: HashMap<Id, Id>,
    groups: HashMap<Id, Group>,
}

impl Aliases {
    /// From pairs (loser, winner) of which each loser has one, in any order.
    pub fn load(pairs: impl IntoIterator<Item = (Id, Id)>) -> Self {
        let mut out = Self::default();
        let pairs: HashMap<Id, Id> = pairs.into_iter().collect();
        for (&loser, &winner) in &pairs {
            let (a, b) = (out.root(loser), out.root(winner));
            if a != b {
                out.link(a, b, winner);
            }
        }
        // Who stands for a group is whoever lost to nobody.
        let last: Vec<Id> = pairs.values().filter(|w| !pairs.contains_key(w)).copied().collect();
        for winner in last {
            let root = out.root(winner);
            if let Some(group) = out.groups.get_mut(&root) {
                group.stands = winner;
            }
        }
        out
    }

    fn root(&self, mut id: Id) -> Id {
        while let Some(&parent) = self.parents.get(&id) {
            id = parent;
        }
        id
    }

    fn link(&mut self, a: Id, b: Id, stands: Id) {
        let size = |this: &Self, root| this.groups.get(&root).map_or(1, |g| g.size);
        let (of_a, of_b) = (size(self, a), size(self, b));
        let (root, child) = if of_a >= of_b { (a, b) } else { (b, a) };
        self.groups.remove(&child);
        self.parents.insert(child, root);
        self.groups.insert(root, Group { size: of_a.saturating_add(of_b), stands });
    }

    /// The subject that stands for `id`; itself, if it was never joined.
    pub fn current(&self, id: Id) -> Id {
        let root = self.root(id);
        self.groups.get(&root).map_or(root, |group| group.stands)
    }

    /// Joins the people of two subjects; what stood for `winner` stands for all.
    pub fn join(&mut self, loser: Id, winner: Id) {
        let stands = self.current(winner);
        let (a, b) = (self.root(loser), self.root(winner));
        if a != b {
            self.link(a, b, stands);
        }
    }

    /// Forgets all ids of a person.
    pub fn forget(&mut self, ids: &[Id]) {
        for id in ids {
            self.parents.remove(id);
            self.groups.remove(id);
        }
    }

    /// Everyone who lost, with who stands for them now.
    pub fn pairs(&self) -> BTreeMap<Id, Id> {
        let ids = self.parents.keys().chain(self.groups.keys());
        ids.map(|id| (*id, self.current(*id))).filter(|(id, stands)| id != stands).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(aliases: &Aliases, mut id: Id) -> u32 {
        let mut steps = 0;
        while let Some(&parent) = aliases.parents.get(&id) {
            (id, steps) = (parent, steps + 1);
        }
        steps
    }

    #[test]
    fn a_question_takes_logarithmic_steps_in_the_worst_orders() {
        let n: Id = 1 << 14;
        let mut orders: Vec<Vec<(Id, Id)>> = vec![
            // A chain in which the large group always loses, one in which it always wins, and a tournament.
            (1..n).map(|i| (i, i + 1)).collect(),
            (1..n).map(|i| (i + 1, i)).collect(),
            Vec::new(),
        ];
        let mut step = 1;
        while step < n {
            orders[2].extend((0..n / (2 * step)).map(|k| (2 * step * k + 1, 2 * step * k + step + 1)));
            step *= 2;
        }
        for order in orders {
            let mut aliases = Aliases::default();
            for (loser, winner) in order {
                aliases.join(loser, winner);
            }
            assert_eq!(aliases.parents.len() as Id, n - 1, "one write for each join");
            assert_eq!(aliases.groups.len(), 1);
            let stands = aliases.current(1);
            assert!((1..=n).all(|id| aliases.current(id) == stands));
            assert!((1..=n).map(|id| depth(&aliases, id)).max() <= Some(14));
        }
    }

    #[test]
    fn who_lost_to_nobody_stands_for_all_however_they_are_read() {
        // As written: 5 lost to 4, 4 to 9, 9 to 2; and 8 to 7.
        let rows = [(5, 4), (4, 9), (9, 2), (8, 7)];
        for turn in 0..rows.len() {
            let mut order = rows.to_vec();
            order.rotate_left(turn);
            let aliases = Aliases::load(order);
            assert_eq!([5, 4, 9, 2, 8, 7, 1].map(|id| aliases.current(id)), [2, 2, 2, 2, 7, 7, 1]);
            assert_eq!(aliases.pairs(), BTreeMap::from([(4, 2), (5, 2), (9, 2), (8, 7)]));
        }
        let mut aliases = Aliases::load(rows);
        aliases.forget(&[5, 4, 9, 2]);
        assert_eq!(aliases.pairs(), BTreeMap::from([(8, 7)]));
    }
}
