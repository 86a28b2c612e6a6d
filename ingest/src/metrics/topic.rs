//! The counters and gauges of the reader of a topic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tidemark_kernel::{Partition, Position};

/// The counters of one topic's reader, and where the topic's partitions end.
#[derive(Debug, Default)]
pub struct TopicMetrics {
    /// Records read, of whatever kind.
    pub records: AtomicU64,
    /// Bytes of their keys and values.
    pub bytes: AtomicU64,
    /// Records without a value.
    pub tombstones: AtomicU64,
    /// Records whose value has a member that no field takes: a renamed or misspelt member shows here.
    pub unknown_members: AtomicU64,
    /// How often partitions were given or taken away.
    pub rebalances: AtomicU64,
    ends: Mutex<BTreeMap<Partition, Position>>,
}

impl TopicMetrics {
    /// Where a partition ends, as far as was seen: what is not stable yet lies behind it.
    pub(crate) fn end(&self, partition: Partition) -> Option<Position> {
        self.ends.lock().get(&partition).copied()
    }

    /// Where all partitions end of which that was seen.
    pub(crate) fn all_ends(&self) -> BTreeMap<Partition, Position> {
        self.ends.lock().clone()
    }

    /// A record was read.
    pub(crate) fn read(&self, bytes: usize, tombstone: bool) {
        self.records.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.tombstones.fetch_add(tombstone.into(), Relaxed);
    }

    /// A value was read, and whether it has a member that no field takes.
    pub(crate) fn unknown_members(&self, found: bool) {
        self.unknown_members.fetch_add(found.into(), Relaxed);
    }

    /// Partitions were given or taken away.
    pub(crate) fn rebalanced(&self) {
        self.rebalances.fetch_add(1, Relaxed);
    }

    /// A partition was seen to end here, or later.
    pub(crate) fn ends_at(&self, partition: Partition, end: Position) {
        let mut ends = self.ends.lock();
        let known = ends.entry(partition).or_default();
        *known = end.max(*known);
    }
}
