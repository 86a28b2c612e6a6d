//! Divides a backfill among workers, by partitions.
//!
//! Every worker of a source backfills its views, all of them into the same generation. If each did the whole of it, they would
//! do the same work and make each other's flushes fail. States and positions are kept for each partition, so workers that
//! backfill different partitions do not meet: a worker does the partitions that it reads, and leaves the others to their
//! readers. A partition that makes no progress is done by a worker that waits: its reader may have died, may not know the
//! view, or there may be none.
//!
//! The division saves work only and correctness does not depend on it: two workers that do the same partition write the
//! same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_host::Host;
use tidemark_kernel::Partition;
use tidemark_offline::Positions;
use tidemark_store::Generation;
use tokio::sync::watch;

use crate::metrics::ViewMetrics;
use crate::view::ViewWriter;

/// How long a worker with nothing to do waits before it looks at the positions of the others again.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// How long a partition of another worker may make no progress.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many milliseconds longer than that some workers wait, so that not all of them start on a partition at once.
const SPREAD_MS: u128 = 2000;

/// One worker's part in the backfill of a view.
#[derive(Debug)]
pub(crate) struct Division {
    host: Host,
    /// The partitions that this worker reads. They may change at any time.
    own: watch::Receiver<BTreeSet<Partition>>,
    metrics: Arc<ViewMetrics>,
    patience: Duration,
    /// The generation that was looked at last.
    generation: Option<Generation>,
    /// The partitions that it lacked records of.
    seen: BTreeMap<Partition, Seen>,
    /// The partitions among them that this worker backfilled then.
    part: Vec<Partition>,
    /// Whether another worker was seen to do some.
    is_divided: bool,
}

/// A partition of which a generation lacks records.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// As of [`ViewWriter::progress`].
    progress: i128,
    /// The uptime of the first look that found it there.
    since: Duration,
}

impl Division {
    /// The part of a worker that reads these partitions.
    pub(crate) fn new(
        host: Host,
        own: watch::Receiver<BTreeSet<Partition>>,
        metrics: Arc<ViewMetrics>,
    ) -> Self {
        let patience = PATIENCE + Duration::from_millis((host.id() % SPREAD_MS) as u64);
        let (generation, seen, part) = (None, BTreeMap::new(), Vec::new());
        Self { host, own, metrics, patience, generation, seen, part, is_divided: false }
    }

    /// The partitions to do now, of those that a view lacks records of: this worker's own, and those that have made no
    /// progress for too long.
    pub(crate) async fn part(&mut self, view: &ViewWriter, lacking: &Positions) -> Vec<Partition> {
        let mut progress = BTreeMap::new();
        for partition in lacking.keys() {
            progress.insert(*partition, view.progress(*partition).await);
        }
        self.choose(view.generation(), &progress)
    }

    fn choose(&mut self, generation: &Generation, lacking: &BTreeMap<Partition, i128>) -> Vec<Partition> {
        if self.generation.as_ref() != Some(generation) {
            // What was seen in another one says nothing about this one.
            self.generation = Some(generation.clone());
            self.seen.clear();
        }
        self.notice_others(lacking);
        let now = self.host.uptime();
        let look = |(partition, progress): (&Partition, &i128)| {
            let before = self.seen.get(partition).filter(|seen| seen.progress == *progress);
            let since = before.map_or(now, |seen| seen.since);
            (*partition, Seen { progress: *progress, since })
        };
        self.seen = lacking.iter().map(look).collect();
        let own = self.own.borrow().clone();
        let mine = self.seen.iter().filter(|(partition, seen)| {
            own.contains(partition) || now.saturating_sub(seen.since) >= self.patience
        });
        self.part = mine.map(|(partition, _)| *partition).collect();
        self.part.clone()
    }

    /// Counts the backfill as divided once another worker has done some of it since the last look.
    fn notice_others(&mut self, lacking: &BTreeMap<Partition, i128>) {
        let by_others = |(partition, seen): (&Partition, &Seen)| {
            !self.part.contains(partition) && lacking.get(partition) != Some(&seen.progress)
        };
        if !self.is_divided && self.seen.iter().any(by_others) {
            self.is_divided = true;
            self.metrics.divided();
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Time;

    use super::*;
    use crate::metrics::Metrics;
    use crate::tests::fixture::{Patient, by_user};

    fn generation(number: u64) -> Generation {
        Generation { view: "by_user".into(), number, fingerprint: by_user().new_generation_fingerprint() }
    }

    #[tokio::test]
    async fn partitions_of_others_are_left_to_them_while_they_make_progress() {
        let (host, metrics) = (Host::new(Patient::default()), Metrics::default());
        let (own, reads) = watch::channel(BTreeSet::from([Partition(0)]));
        let mut division = Division::new(host.clone(), reads, metrics.view("by_user"));
        let counted = |metrics: &Metrics| {
            let text = metrics.prometheus(Time::default());
            text.contains("tidemark_ingest_divided_backfills_total{view=\"by_user\"} 1\n")
        };
        let (first, second) = (generation(1), generation(2));

        let both = BTreeMap::from([(Partition(0), 5), (Partition(1), 0)]);
        assert_eq!(division.choose(&first, &both), [Partition(0)], "its own");
        host.sleep(Duration::from_secs(3600)).await;
        for progress in 1..20 {
            let part = division.choose(&first, &BTreeMap::from([(Partition(1), progress)]));
            assert!(part.is_empty(), "{part:?} at {progress}");
            host.sleep(LOOK).await;
        }
        assert!(counted(&metrics), "another worker has a part in it");
        host.sleep(PATIENCE).await;
        let stuck = BTreeMap::from([(Partition(1), 19)]);
        assert_eq!(division.choose(&first, &stuck), [Partition(1)], "no progress");

        assert!(
            division.choose(&second, &stuck).is_empty(),
            "what was seen of another generation does not count"
        );
        own.send_replace(BTreeSet::from([Partition(0), Partition(1)]));
        assert_eq!(division.choose(&second, &stuck), [Partition(1)], "it was given to this worker");
        assert!(counted(&metrics), "counted once");
    }

    #[tokio::test]
    async fn partitions_that_are_taken_away_are_left_to_their_next_reader() {
        let (host, metrics) = (Host::new(Patient::default()), Metrics::default());
        let (own, reads) = watch::channel(BTreeSet::from([Partition(0), Partition(1)]));
        let mut division = Division::new(host.clone(), reads, metrics.view("by_user"));
        let is_divided = || {
            let text = metrics.prometheus(Time::default());
            text.contains("tidemark_ingest_divided_backfills_total{view=\"by_user\"} 1\n")
        };
        let generation = generation(1);
        let at = |zero, one| BTreeMap::from([(Partition(0), zero), (Partition(1), one)]);

        assert_eq!(division.choose(&generation, &at(0, 0)), [Partition(0), Partition(1)]);
        own.send_replace(BTreeSet::from([Partition(0)]));
        assert_eq!(
            division.choose(&generation, &at(5, 5)),
            [Partition(0)],
            "it was taken away in the middle"
        );
        assert!(!is_divided(), "what this worker did before is no part of another");
        host.sleep(PATIENCE / 2).await;
        assert_eq!(division.choose(&generation, &at(9, 7)), [Partition(0)], "its next reader goes on");
        assert!(is_divided());
        host.sleep(PATIENCE / 2).await;
        assert_eq!(division.choose(&generation, &at(9, 7)), [Partition(0)], "it has time");
        host.sleep(PATIENCE).await;
        assert_eq!(
            division.choose(&generation, &at(9, 7)),
            [Partition(0), Partition(1)],
            "its next reader has died as well"
        );
        own.send_replace(BTreeSet::new());
        host.sleep(PATIENCE).await;
        assert_eq!(division.choose(&generation, &at(10, 9)), [], "this worker reads none any more");
        host.sleep(PATIENCE).await;
        assert_eq!(
            division.choose(&generation, &at(10, 9)),
            [Partition(0), Partition(1)],
            "and no other does"
        );
    }
}
