//! States kept between batches, within bounds: encoded but for an index of their tiles, since decoded aggregates take many
//! times the memory.
//!
//! Two halves: what is used goes into the young one; once that has half of the bytes allowed, it becomes the old one
//! and the old one is dropped. So a state stays if it is used again before half a cache of other states is used.

use std::collections::HashMap;

use tidemark_kernel::{EntityKey, PartitionState};
use tidemark_store::BUCKETS;

use super::expiry::Expiry;
use super::partition::Touched;

/// What an entity costs besides its key and its state: its place in the map, and what the allocator adds.
const OVERHEAD: usize = 128;

/// States of one partition as of the positions we know, by bucket.
#[derive(Debug)]
pub(super) struct Cache {
    buckets: Vec<Halves>,
    /// The bytes of all young halves.
    young: usize,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<EntityKey, Cached>,
    old: HashMap<EntityKey, Cached>,
}

/// A state, and what is known of its expiry.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) state: PartitionState,
    pub(super) expiry: Option<Expiry>,
}

fn size(key: &EntityKey, cached: &Cached) -> usize {
    key.as_bytes().len() + cached.state.allocated() + size_of::<Cached>() + OVERHEAD
}

impl Default for Cache {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Halves::default()).collect(), young: 0 }
    }
}

impl Cache {
    /// Takes a state out. The caller puts it back once its change is stored.
    pub(super) fn take(&mut self, bucket: usize, key: &EntityKey) -> Option<Cached> {
        let Halves { young, old } = &mut self.buckets[bucket];
        if let Some(cached) = young.remove(key) {
            self.young -= size(key, &cached);
            return Some(cached);
        }
        old.remove(key)
    }

    /// Keeps the states that were just stored; how many bytes of memory they have.
    pub(super) fn keep(&mut self, bucket: usize, entities: Vec<Touched>) -> usize {
        let mut kept = 0;
        for entity in entities {
            let Some(state) = entity.state else { continue };
            let cached = Cached { state, expiry: entity.expiry };
            // It was taken out before.
            let bytes = size(&entity.key, &cached);
            kept += bytes;
            self.young += bytes;
            self.buckets[bucket].young.insert(entity.key, cached);
        }
        kept
    }

    /// Forgets what is known of a bucket's states.
    pub(super) fn forget(&mut self, bucket: usize) {
        let forgotten = std::mem::take(&mut self.buckets[bucket]);
        self.young -= forgotten.young.iter().map(|(key, cached)| size(key, cached)).sum::<usize>();
    }

    /// Keeps within `bytes`.
    pub(super) fn trim(&mut self, bytes: usize) {
        if self.young > bytes / 2 {
            self.young = 0;
            for halves in &mut self.buckets {
                halves.old = std::mem::take(&mut halves.young);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Value;

    use super::*;

    fn touched(number: i64) -> Touched {
        let key = EntityKey::encode(&[Value::Int64(number)]).expect("no null");
        Touched::new(key, Some(PartitionState::new()))
    }

    #[test]
    fn what_was_not_used_lately_goes_first() {
        let mut cache = Cache::default();
        let two = cache.keep(0, vec![touched(1), touched(2)]);
        cache.trim(two);
        let used = cache.take(0, &touched(2).key).expect("the old half is still there");
        cache.keep(0, vec![Touched::new(touched(2).key, Some(used.state)), touched(3)]);
        cache.trim(two);
        assert!(cache.take(0, &touched(1).key).is_none());
        assert!(cache.take(0, &touched(2).key).is_some());
        assert!(cache.take(0, &touched(3).key).is_some());
        assert_eq!(cache.young, 0);
    }

    #[test]
    fn a_bucket_is_forgotten_alone() {
        let mut cache = Cache::default();
        cache.keep(3, vec![touched(1)]);
        cache.keep(4, vec![touched(1)]);
        cache.forget(3);
        assert!(cache.take(3, &touched(1).key).is_none());
        assert!(cache.take(4, &touched(1).key).is_some());
        assert_eq!(cache.young, 0);
    }
}
