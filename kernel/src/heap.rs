//! How much memory states take: what lies outside of a value itself.
//!
//! What the allocator adds to each piece is left out.

use smallvec::{Array, SmallVec};

/// The counts of an [`Arc`](std::sync::Arc), before what it points to.
pub(crate) const COUNTS: usize = 2 * size_of::<usize>();

/// The buffer of a vector that has outgrown its place.
pub(crate) fn spilled<A: Array>(items: &SmallVec<A>) -> usize {
    if items.spilled() { items.capacity() * size_of::<A::Item>() } else { 0 }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::Value;

    #[test]
    fn what_lies_outside_is_counted() {
        let mut items: SmallVec<[i64; 2]> = smallvec![1, 2];
        assert_eq!(spilled(&items), 0, "in its place");
        items.push(3);
        assert_eq!(spilled(&items), items.capacity() * 8);
        assert_eq!(Value::Int64(1).heap(), 0);
        assert_eq!(Value::string("four").heap(), COUNTS + 4);
        let list = Value::List([Value::string("four"), Value::Null].into());
        assert_eq!(list.heap(), COUNTS + 2 * size_of::<Value>() + COUNTS + 4);
    }
}
