//! Whether records of a topic wait that no worker reads.
//!
//! A worker that waits for something says so itself. But the worker of a partition may hang, or the member of the consumer
//! group that has the partition may be another program: then its records stay unread, and nothing else would tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tidemark_kernel::{Log, Position, Span};
use tidemark_offline::Positions;

/// How long a partition with unread records may make no progress, in minutes.
const MINUTES: i64 = 5;

/// As [`MINUTES`].
pub(crate) const PATIENCE: Span = Span::from_secs(MINUTES * 60);

/// The same as a length of uptime.
const STALLED_AFTER: Duration = Duration::from_secs(MINUTES.unsigned_abs() * 60);

/// How often a worker looks at what others have committed, while a partition seems to make no progress.
const LOOK: Duration = Duration::from_secs(60);

/// Partitions of a topic with unread records, of which nothing was committed for minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// How many records of each partition are unread. At least one partition.
    pub unread: BTreeMap<Log, u64>,
}

/// What is wrong and what to do, without the source.
impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.unread.keys().map(Log::to_string).collect();
        let (partitions, have) = if names.len() == 1 { ("partition", "has") } else { ("partitions", "have") };
        let records: u64 = self.unread.values().sum();
        write!(
            f,
            "{partitions} {} {have} {records} unread records, and nothing of them was committed for {MINUTES} minutes; \
             see whether each worker still runs, and whether the consumer group has a member that is no worker of this \
             project",
            names.join(", ")
        )
    }
}

/// The partitions of a source's topic that have unread records, as far as this worker has seen.
#[derive(Debug, Default)]
pub(super) struct Unread {
    seen: BTreeMap<Log, Seen>,
    /// Those that make no progress, by what other workers have committed as well.
    stalled: BTreeSet<Log>,
    /// When it was looked at that last.
    looked: Option<Duration>,
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
    /// Partitions that end at `ends` are committed up to `positions` or further, at this uptime. Whether it is time to see
    /// how far other workers have committed them.
    pub(super) fn look(&mut self, uptime: Duration, positions: &Positions, ends: &Positions) -> bool {
        let mut seen = BTreeMap::new();
        for (log, end) in ends {
            let position = positions.get(log).copied().unwrap_or(Position::START);
            // Another look may have seen more of what others have committed.
            let before = self.seen.get(log).filter(|before| before.position >= position);
            let (position, since) =
                before.map_or((position, uptime), |before| (before.position, before.since));
            if position < *end {
                seen.insert(*log, Seen { position, since, end: *end });
            }
        }
        self.seen = seen;
        let overdue = self.overdue(uptime);
        self.stalled.retain(|log| overdue.contains(log));
        !overdue.is_empty() && self.looked.is_none_or(|looked| uptime >= looked + LOOK)
    }

    /// The same, once it is known how far other workers have committed them. What makes no progress, where a partition is
    /// among it that was not before.
    pub(super) fn confirm(
        &mut self,
        uptime: Duration,
        positions: &Positions,
        ends: &Positions,
    ) -> Option<Stalled> {
        self.look(uptime, positions, ends);
        self.looked = Some(uptime);
        let overdue = self.overdue(uptime);
        let before = std::mem::replace(&mut self.stalled, overdue);
        if self.stalled.is_subset(&before) { None } else { self.get() }
    }

    /// The partitions that make no progress, if there are any.
    pub(super) fn get(&self) -> Option<Stalled> {
        let unread = |log: &Log| {
            let seen = self.seen.get(log)?;
            Some((*log, (seen.end.0 - seen.position.0).unsigned_abs()))
        };
        let unread: BTreeMap<Log, u64> = self.stalled.iter().filter_map(unread).collect();
        (!unread.is_empty()).then_some(Stalled { unread })
    }

    /// The partitions that have stayed where they are for too long.
    fn overdue(&self, uptime: Duration) -> BTreeSet<Log> {
        let seen = self.seen.iter();
        let overdue = seen.filter(|(_, seen)| uptime.saturating_sub(seen.since) >= STALLED_AFTER);
        overdue.map(|(log, _)| *log).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<const N: usize>(positions: [(i32, i64); N]) -> Positions {
        positions.into_iter().map(|(log, position)| (Log(log), Position(position))).collect()
    }

    #[test]
    fn a_partition_that_no_worker_reads_is_told_once_until_it_makes_progress() {
        let (ends, mut unread) = (at([(0, 10), (1, 10), (2, 0)]), Unread::default());
        let start = Duration::from_secs(7);
        assert!(!unread.look(start, &at([(0, 4)]), &ends));
        let later = start + STALLED_AFTER;
        assert!(!unread.look(later - LOOK, &at([(0, 5)]), &ends), "not for long enough");
        assert!(unread.look(later, &at([(0, 5)]), &ends), "partition 1");
        assert_eq!(unread.get(), None, "another worker may have committed it");
        let told = unread.confirm(later, &at([(0, 5)]), &ends).expect("told");
        assert_eq!(told.unread, BTreeMap::from([(Log(1), 10)]));
        assert!(told.to_string().starts_with("partition 1 has 10 unread records, "), "{told}");
        assert!(!unread.look(later, &at([(0, 5)]), &ends), "it was looked at just now");
        assert!(unread.look(later + LOOK, &at([(0, 10)]), &at([(0, 10), (1, 12)])));
        assert_eq!(
            unread.confirm(later + LOOK, &at([(0, 10)]), &at([(0, 10), (1, 12)])),
            None,
            "told before"
        );
        assert_eq!(unread.get().expect("it still is").unread, BTreeMap::from([(Log(1), 12)]));
        let much_later = later + STALLED_AFTER;
        unread.look(much_later, &at([(0, 10), (1, 3)]), &at([(0, 10), (1, 12)]));
        assert_eq!(unread.get(), None, "it makes progress");
    }

    #[test]
    fn what_other_workers_commit_is_progress() {
        let (ends, mut unread) = (at([(0, 10), (1, 20)]), Unread::default());
        unread.look(Duration::ZERO, &at([]), &ends);
        assert!(unread.look(STALLED_AFTER, &at([]), &ends));
        let committed = at([(0, 10), (1, 7)]);
        assert_eq!(unread.confirm(STALLED_AFTER, &committed, &ends), None);
        for minutes in 1..MINUTES.unsigned_abs() {
            let now = STALLED_AFTER + Duration::from_secs(minutes * 60);
            assert!(
                !unread.look(now, &at([]), &ends),
                "this worker has not seen it again after {minutes} minutes"
            );
        }
        assert!(unread.look(STALLED_AFTER * 2, &at([]), &ends));
        let told = unread.confirm(STALLED_AFTER * 2, &committed, &ends).expect("partition 1 has stayed at 7");
        assert_eq!(told.unread, BTreeMap::from([(Log(1), 13)]));
        assert!(
            Stalled { unread: BTreeMap::from([(Log(1), 1), (Log(3), 2)]) }
                .to_string()
                .starts_with("partitions 1, 3 have 3 unread records, ")
        );
    }
}
