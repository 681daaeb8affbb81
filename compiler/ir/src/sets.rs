//! Sets that are joined step by step.

use std::collections::HashMap;
use std::hash::Hash;

/// Disjoint sets of `T`; what was never joined is alone. Joins and look-ups take nearly constant time (union by size, with
/// path compression).
#[derive(Clone, Debug)]
pub struct DisjointSets<T> {
    ids: HashMap<T, usize>,
    items: Vec<T>,
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl<T> Default for DisjointSets<T> {
    fn default() -> DisjointSets<T> {
        DisjointSets { ids: HashMap::new(), items: Vec::new(), parents: Vec::new(), sizes: Vec::new() }
    }
}

impl<T: Copy + Eq + Hash> DisjointSets<T> {
    /// The item that stands for all that are joined with `item`.
    pub fn root(&mut self, item: T) -> T {
        let root = self.find(item);
        self.items[root]
    }

    /// Joins the sets of two items.
    pub fn join(&mut self, a: T, b: T) {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        let (small, large) = if self.sizes[a] < self.sizes[b] { (a, b) } else { (b, a) };
        self.parents[small] = large;
        self.sizes[large] += self.sizes[small];
    }

    fn find(&mut self, item: T) -> usize {
        let id = *self.ids.entry(item).or_insert_with(|| {
            self.items.push(item);
            self.parents.push(self.parents.len());
            self.sizes.push(1);
            self.parents.len() - 1
        });
        let mut root = id;
        while self.parents[root] != root {
            self.parents[root] = self.parents[self.parents[root]];
            root = self.parents[root];
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::DisjointSets;

    #[test]
    fn chains_are_one_set() {
        let mut sets = DisjointSets::default();
        (0..100_000).for_each(|i| sets.join(i, i + 1));
        assert_eq!(sets.root(0), sets.root(100_000));
        assert_ne!(sets.root(0), sets.root(100_001));
        assert_eq!(sets.root(7_000_000), 7_000_000);
    }
}
