//! Sorted sequences of different items, and their union: the exact small form of several aggregates.

use std::cmp::Ordering;

use smallvec::{Array, SmallVec};

/// An item of a sorted sequence, which holds at most one item at each place.
pub(super) trait Item: Clone {
    /// The order of two items. Items that compare equal have the same place.
    fn place(&self, other: &Self) -> Ordering;

    /// Takes in another item of the same place.
    fn absorb(&mut self, other: &Self);
}

/// Adds one item to a sorted sequence.
pub(super) fn insert<A: Array<Item: Item>>(mine: &mut SmallVec<A>, item: A::Item) {
    match mine.binary_search_by(|known| known.place(&item)) {
        Ok(at) => mine[at].absorb(&item),
        Err(at) => mine.insert(at, item),
    }
}

/// Adds an item that must come after all others; false, and nothing added, where it does not.
#[must_use]
pub(super) fn push<A: Array<Item: Item>>(mine: &mut SmallVec<A>, item: A::Item) -> bool {
    let ascends = mine.last().is_none_or(|last| last.place(&item).is_lt());
    if ascends {
        mine.push(item);
    }
    ascends
}

/// Adds all items of another sorted sequence.
///
/// A lookup unites hundreds of small sequences into one that soon holds nearly all of them, so what is known
/// already is found by galloping and moves nothing.
pub(super) fn unite<A: Array<Item: Item>>(mine: &mut SmallVec<A>, theirs: &[A::Item]) {
    let mut fresh: SmallVec<[(usize, &A::Item); 16]> = SmallVec::new();
    let mut from = 0;
    for item in theirs {
        match gallop(mine, from, item) {
            Ok(at) => {
                mine[at].absorb(item);
                from = at + 1;
            }
            Err(at) => {
                fresh.push((at, item));
                from = at;
            }
        }
    }
    weave(mine, &fresh);
}

/// Finds an item's place at or after `from`, in time logarithmic in the distance.
fn gallop<T: Item>(items: &[T], mut from: usize, item: &T) -> Result<usize, usize> {
    let mut step = 1;
    let mut end = from;
    while end < items.len() && items[end].place(item).is_lt() {
        from = end + 1;
        end = from + step;
        step *= 2;
    }
    let end = items.len().min(end + 1);
    match items[from..end].binary_search_by(|known| known.place(item)) {
        Ok(at) => Ok(from + at),
        Err(at) => Err(from + at),
    }
}

/// Inserts each item before the known one at its index, in ascending order.
fn weave<A: Array<Item: Item>>(mine: &mut SmallVec<A>, fresh: &[(usize, &A::Item)]) {
    /// Up to so many items, moving blocks beats merging two runs, which is what the sort comes to.
    const BLOCKS: usize = 16;
    let mut known = mine.len();
    mine.extend(fresh.iter().map(|(_, item)| (*item).clone()));
    if fresh.len() > BLOCKS {
        return mine.sort_by(A::Item::place);
    }
    for (before, (at, _)) in fresh.iter().enumerate().rev() {
        // All items that are not in place yet change sides with the known ones above; the last of them stays.
        mine[*at..=known + before].rotate_right(before + 1);
        known = *at;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Item for (u8, u64) {
        fn place(&self, other: &Self) -> Ordering {
            self.0.cmp(&other.0)
        }

        fn absorb(&mut self, other: &Self) {
            self.1 += other.1;
        }
    }

    fn sorted(items: &[(u8, u64)]) -> SmallVec<[(u8, u64); 2]> {
        let mut sorted = SmallVec::new();
        items.iter().for_each(|item| insert(&mut sorted, *item));
        sorted
    }

    proptest! {
        #[test]
        fn a_union_holds_what_a_map_would(
            mine in proptest::collection::vec((any::<u8>(), 0..9u64), 0..200),
            theirs in proptest::collection::vec((any::<u8>(), 0..9u64), 0..200),
        ) {
            let mut united = sorted(&mine);
            unite(&mut united, &sorted(&theirs));
            let mut map = BTreeMap::new();
            mine.iter().chain(&theirs).for_each(|(place, count)| *map.entry(*place).or_insert(0) += count);
            prop_assert_eq!(united.to_vec(), map.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_ascending_items_are_pushed() {
        let mut items = sorted(&[(3, 1)]);
        assert!(!push(&mut items, (3, 1)));
        assert!(!push(&mut items, (2, 1)));
        assert!(push(&mut items, (4, 1)));
        assert_eq!(items.as_slice(), [(3, 1), (4, 1)]);
    }
}
