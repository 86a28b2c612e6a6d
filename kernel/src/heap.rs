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
