//! A sample of entities: in one pass, without knowing how many there are, and in bounded memory.

use std::collections::BTreeSet;

use tidemark_kernel::key::EntityKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Of the entities that it is shown, those whose keys hash lowest. One that is shown twice counts once.
pub(crate) struct Lowest {
    count: usize,
    seed: u64,
    lowest: BTreeSet<(u64, EntityKey)>,
}

impl Lowest {
    /// At most `count` entities; another `seed` chooses others.
    pub(crate) const fn new(count: usize, seed: u64) -> Self {
        Self { count, seed, lowest: BTreeSet::new() }
    }

    pub(crate) fn add(&mut self, key: EntityKey) {
        let hash = xxh3_64_with_seed(key.as_bytes(), self.seed);
        let is_full = self.lowest.len() >= self.count;
        if is_full && self.lowest.last().is_none_or(|(highest, _)| *highest < hash) {
            return;
        }
        self.lowest.insert((hash, key));
        if self.lowest.len() > self.count {
            self.lowest.pop_last();
        }
    }

    /// Whether it has as many as it may have.
    pub(crate) fn is_full(&self) -> bool {
        self.lowest.len() >= self.count
    }

    /// The entities chosen.
    pub(crate) fn keys(self) -> BTreeSet<EntityKey> {
        self.lowest.into_iter().map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_are_chosen_in_any_order() {
        let key = |number: u32| EntityKey::from_bytes(number.to_be_bytes());
        let choose = |seed, numbers: &mut dyn Iterator<Item = u32>| {
            let mut lowest = Lowest::new(10, seed);
            numbers.for_each(|number| lowest.add(key(number)));
            lowest.keys()
        };
        let chosen = choose(7, &mut (0..1000));
        assert_eq!(chosen.len(), 10);
        assert_eq!(choose(7, &mut (0..1000).rev().chain(0..500)), chosen);
        assert_ne!(choose(8, &mut (0..1000)), chosen);
        assert_eq!(choose(7, &mut (0..4)).len(), 4);
        assert_eq!(Lowest::new(0, 7).keys(), BTreeSet::new());
    }
}
