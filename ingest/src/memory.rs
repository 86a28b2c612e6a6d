//! Divides the memory of a process among the caches and queues of an ingestion.
//!
//! One setting bounds it. Every user of memory has a share that depends on how many users there are, and not on what
//! the others hold: nothing waits for memory that another one would have to give back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the ids of a source may take, however little memory there is: some ten thousand of them.
const FEW_IDS: usize = 1 << 20;

/// The memory that an ingestion may use. Clones share it.
///
/// A quarter is for the states that views keep between batches, an eighth for those they work on, an eighth for
/// records that wait for a commit and a sixteenth for records on their way to views (of a compacted topic three sixteenths for
/// both together), a sixteenth for the ids of sources that leave
/// repetitions out, and a quarter for the cache of an [embedded store](Self::embedded_store). The rest is left for what cannot be counted: buffers of readers and writers,
/// and what the allocator does not give back.
#[derive(Clone, Debug)]
pub struct Memory {
    bytes: usize,
    /// How many partitions of views are written.
    writers: Arc<AtomicUsize>,
    /// How many sources are read.
    sources: Arc<AtomicUsize>,
}

impl Memory {
    /// The default of a project: 1 GiB.
    pub const DEFAULT: usize = 1 << 30;

    /// So many bytes.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self { bytes, writers: Arc::default(), sources: Arc::default() }
    }

    /// How many bytes an embedded store may keep in its cache.
    #[must_use]
    pub const fn embedded_store(&self) -> usize {
        self.bytes / 4
    }

    /// The share of a partition of a view.
    pub(crate) fn for_writer(&self) -> WriterMemory {
        WriterMemory(Share::new(self.bytes, &self.writers))
    }

    /// The share of a source.
    pub(crate) fn for_source(&self) -> SourceMemory {
        SourceMemory(Share::new(self.bytes, &self.sources))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(Self::DEFAULT)
    }
}

/// An equal share for each of those who use some of the memory for the same. Dropped, the others have it.
#[derive(Debug)]
struct Share {
    /// The whole memory.
    bytes: usize,
    users: Arc<AtomicUsize>,
}

impl Share {
    fn new(bytes: usize, users: &Arc<AtomicUsize>) -> Self {
        users.fetch_add(1, Relaxed);
        Self { bytes, users: Arc::clone(users) }
    }

    /// The share of one `part`th of the memory.
    fn of(&self, part: usize) -> usize {
        self.bytes / part / self.users.load(Relaxed).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.users.fetch_sub(1, Relaxed);
    }
}

/// The share of one partition of one view.
#[derive(Debug)]
pub(crate) struct WriterMemory(Share);

impl WriterMemory {
    /// How many bytes of states it may keep between batches.
    pub(crate) fn cached(&self) -> usize {
        self.0.of(4)
    }

    /// How many bytes of states it may work on at a time.
    pub(crate) fn worked_on(&self) -> usize {
        self.0.of(8)
    }
}

/// The share of one source.
#[derive(Debug)]
pub(crate) struct SourceMemory(Share);

impl SourceMemory {
    /// How many bytes of records may be on their way to the views.
    pub(crate) fn queued(&self) -> usize {
        self.0.of(16)
    }

    /// How many bytes of records make a commit: as many wait while it is under way.
    pub(crate) fn commit(&self) -> usize {
        self.0.of(16)
    }

    /// How many bytes the ids may take by which repetitions are found.
    pub(crate) fn ids(&self) -> usize {
        self.0.of(16).max(FEW_IDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_less_than_the_whole() {
        let memory = Memory::of(Memory::DEFAULT);
        let writers: Vec<_> = (0..240).map(|_| memory.for_writer()).collect();
        let sources: Vec<_> = (0..3).map(|_| memory.for_source()).collect();
        let states: usize = writers.iter().map(|writer| writer.cached() + writer.worked_on()).sum();
        let records: usize =
            sources.iter().map(|source| source.queued() + 2 * source.commit() + source.ids()).sum();
        let all = states + records + memory.embedded_store();
        assert!(all <= Memory::DEFAULT / 16 * 14 && all > Memory::DEFAULT / 2, "{all}");
    }

    #[test]
    fn a_share_that_is_given_back_goes_to_the_others() {
        let memory = Memory::of(1 << 20);
        let (one, other) = (memory.for_writer(), memory.for_writer());
        assert_eq!(one.cached(), 1 << 17);
        drop(other);
        assert_eq!(one.cached(), 1 << 18);
        let (source, gone) = (memory.for_source(), memory.for_source());
        assert_eq!(source.commit(), 1 << 15);
        drop(gone);
        assert_eq!(source.commit(), 1 << 16);
    }
}
