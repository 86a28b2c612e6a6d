//! Detects partitions of a topic with records that no worker reads.
//!
//! A worker that waits for something reports it itself. But the worker of a partition may hang, or the member of the
//! consumer group that has the partition may be another program: then its records stay unread, and nothing else would
//! show that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tidemark_kernel::{Partition, Position};
use tidemark_offline::Positions;

/// How long a partition with unread records may make no progress, at least.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long records may take to be read and committed beside the time that they wait for a commit.
const MARGIN: Duration = Duration::from_secs(60);

/// How often a worker looks at what others have committed, while a partition seems to make no progress.
const LOOK: Duration = Duration::from_secs(60);

/// Partitions of a topic with unread records, of which nothing was committed for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stalled {
    /// How many records of each partition are unread. At least one partition.
    unread: BTreeMap<Partition, u64>,
    /// For how long nothing of them was committed, at least.
    patience: Duration,
}

impl Stalled {
    /// How many partitions that are.
    pub(super) fn count(&self) -> usize {
        self.unread.len()
    }
}

/// What is wrong and what to do, without the source.
impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.unread.keys().map(Partition::to_string).collect();
        let (partitions, have) = if names.len() == 1 { ("partition", "has") } else { ("partitions", "have") };
        let (records, minutes) = (self.unread.values().sum::<u64>(), self.patience.as_secs() / 60);
        write!(
            f,
            "{partitions} {} {have} {records} unread records, and nothing of them was committed for {minutes} minutes; \
             see whether each worker still runs, and whether the consumer group has a member that is no worker of this \
             project",
            names.join(", ")
        )
    }
}

/// The partitions of a source's topic that have unread records, as far as this worker has seen.
#[derive(Debug)]
pub(super) struct Unread {
    /// How long a partition may make no progress. A worker commits what it reads only so often.
    patience: Duration,
    seen: BTreeMap<Partition, Seen>,
    /// The partitions that make no progress, also by the commits of other workers.
    stalled: BTreeSet<Partition>,
    /// When it was last tried to see what other workers have committed.
    looked: Option<Duration>,
    /// Whether the last look failed.
    has_failed: bool,
}

/// A partition with unread records.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The highest position that was seen.
    position: Position,
    /// The uptime of the first look that found it there.
    since: Duration,
    end: Position,
}

impl Unread {
    /// None yet, of a topic whose records wait so long for a commit at most.
    pub(super) fn committed_every(every: Duration) -> Self {
        let patience = PATIENCE.max(every.saturating_mul(2).saturating_add(MARGIN));
        Self { patience, seen: BTreeMap::new(), stalled: BTreeSet::new(), looked: None, has_failed: false }
    }

    /// Forgets every partition.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
        self.stalled.clear();
        (self.looked, self.has_failed) = (None, false);
    }

    /// Takes note that partitions which end at `ends` are committed up to `positions` or further, at this uptime. Whether it
    /// is time to see how far other workers have committed them, which counts as tried then.
    pub(super) fn note(&mut self, uptime: Duration, positions: &Positions, ends: &Positions) -> bool {
        self.see(uptime, positions, ends);
        let overdue = self.overdue(uptime);
        self.stalled.retain(|partition| overdue.contains(partition));
        let is_time = !overdue.is_empty() && self.looked.is_none_or(|looked| uptime >= looked + LOOK);
        if is_time {
            self.looked = Some(uptime);
        }
        is_time
    }

    /// The same, where `committed` is how far any worker has committed them. What makes no progress, where a partition is
    /// among it that was not before.
    pub(super) fn note_committed(
        &mut self,
        uptime: Duration,
        committed: &Positions,
        ends: &Positions,
    ) -> Option<Stalled> {
        self.has_failed = false;
        self.see(uptime, committed, ends);
        let overdue = self.overdue(uptime);
        let before = std::mem::replace(&mut self.stalled, overdue);
        if self.stalled.is_subset(&before) { None } else { self.get() }
    }

    /// Takes note that it could not be seen how far other workers have committed them. Whether it could be before.
    pub(super) fn note_failure(&mut self) -> bool {
        !std::mem::replace(&mut self.has_failed, true)
    }

    /// The partitions that make no progress, if there are any.
    pub(super) fn get(&self) -> Option<Stalled> {
        let unread = |partition: &Partition| {
            let seen = self.seen.get(partition)?;
            Some((*partition, (seen.end.0 - seen.position.0).unsigned_abs()))
        };
        let unread: BTreeMap<Partition, u64> = self.stalled.iter().filter_map(unread).collect();
        (!unread.is_empty()).then_some(Stalled { unread, patience: self.patience })
    }

    fn see(&mut self, uptime: Duration, positions: &Positions, ends: &Positions) {
        let mut seen = BTreeMap::new();
        for (partition, end) in ends {
            let position = positions.get(partition).copied().unwrap_or(Position::START);
            // Another look may have seen more of what others have committed.
            let before = self.seen.get(partition).filter(|before| before.position >= position);
            let (position, since) =
                before.map_or((position, uptime), |before| (before.position, before.since));
            if position < *end {
                seen.insert(*partition, Seen { position, since, end: *end });
            }
        }
        self.seen = seen;
    }

    /// The partitions that have stayed where they are for too long.
    fn overdue(&self, uptime: Duration) -> BTreeSet<Partition> {
        let seen = self.seen.iter();
        let overdue = seen.filter(|(_, seen)| uptime.saturating_sub(seen.since) >= self.patience);
        overdue.map(|(partition, _)| *partition).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<const N: usize>(positions: [(i32, i64); N]) -> Positions {
        positions
            .into_iter()
            .map(|(partition, position)| (Partition(partition), Position(position)))
            .collect()
    }

    fn unread() -> Unread {
        Unread::committed_every(Duration::from_secs(5))
    }

    #[test]
    fn a_partition_that_no_worker_reads_is_told_once_until_it_makes_progress() {
        let (ends, mut unread) = (at([(0, 10), (1, 10), (2, 0)]), unread());
        let start = Duration::from_secs(7);
        assert!(!unread.note(start, &at([(0, 4)]), &ends));
        let later = start + PATIENCE;
        assert!(!unread.note(later - LOOK, &at([(0, 5)]), &ends), "not for long enough");
        assert!(unread.note(later, &at([(0, 5)]), &ends), "partition 1");
        assert_eq!(unread.get(), None, "another worker may have committed it");
        let told = unread.note_committed(later, &at([(0, 5)]), &ends).expect("told");
        assert_eq!(told.unread, BTreeMap::from([(Partition(1), 10)]));
        assert!(told.to_string().starts_with("partition 1 has 10 unread records, "), "{told}");
        assert!(told.to_string().contains(" committed for 5 minutes; "), "{told}");
        assert!(!unread.note(later, &at([(0, 5)]), &ends), "it was looked at just now");
        assert!(unread.note(later + LOOK, &at([(0, 10)]), &at([(0, 10), (1, 12)])));
        let again = unread.note_committed(later + LOOK, &at([(0, 10)]), &at([(0, 10), (1, 12)]));
        assert_eq!(again, None, "told before");
        assert_eq!(unread.get().expect("it still is").unread, BTreeMap::from([(Partition(1), 12)]));
        unread.note(later + PATIENCE, &at([(0, 10), (1, 3)]), &at([(0, 10), (1, 12)]));
        assert_eq!(unread.get(), None, "it makes progress");
    }

    #[test]
    fn what_other_workers_commit_is_progress() {
        let (ends, mut unread) = (at([(0, 10), (1, 20)]), unread());
        unread.note(Duration::ZERO, &at([]), &ends);
        assert!(unread.note(PATIENCE, &at([]), &ends));
        let committed = at([(0, 10), (1, 7)]);
        assert_eq!(unread.note_committed(PATIENCE, &committed, &ends), None);
        assert!(!unread.note(PATIENCE * 2 - LOOK, &at([]), &ends), "this worker has not seen it again");
        assert!(unread.note(PATIENCE * 2, &at([]), &ends));
        let told =
            unread.note_committed(PATIENCE * 2, &committed, &ends).expect("partition 1 has stayed at 7");
        assert_eq!(told.unread, BTreeMap::from([(Partition(1), 13)]));
        let two =
            Stalled { unread: BTreeMap::from([(Partition(1), 1), (Partition(3), 2)]), patience: PATIENCE };
        assert!(two.to_string().starts_with("partitions 1, 3 have 3 unread records, "), "{two}");
    }

    /// What a worker has read stays uncommitted for so long.
    #[test]
    fn seldom_commits_are_waited_for() {
        let (ends, mut unread) = (at([(1, 10)]), Unread::committed_every(Duration::from_secs(600)));
        unread.note(Duration::ZERO, &at([]), &ends);
        let patience = Duration::from_secs(1260);
        assert!(!unread.note(patience - Duration::from_secs(1), &at([]), &ends));
        assert!(unread.note(patience, &at([]), &ends));
        let told = unread.note_committed(patience, &at([]), &ends).expect("told");
        assert!(told.to_string().contains(" committed for 21 minutes; "), "{told}");
    }

    #[test]
    fn a_table_that_cannot_be_opened_is_told_once_and_tried_again_a_minute_later() {
        let (ends, mut unread) = (at([(1, 10)]), unread());
        unread.note(Duration::ZERO, &at([]), &ends);
        assert!(unread.note(PATIENCE, &at([]), &ends) && unread.note_failure());
        assert!(!unread.note(PATIENCE + LOOK / 2, &at([]), &ends), "it was tried just now");
        assert!(unread.note(PATIENCE + LOOK, &at([]), &ends) && !unread.note_failure(), "told before");
        assert!(unread.note_committed(PATIENCE + LOOK, &at([]), &ends).is_some());
        assert!(unread.note_failure(), "it could be opened in between");
        unread.forget();
        assert_eq!(unread.get(), None);
        assert!(!unread.note(PATIENCE + LOOK * 2, &at([]), &ends), "time begins with the next look");
    }
}
