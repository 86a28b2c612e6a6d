//! Every metric of this crate, since the process began. Labels are sources, views, partitions, codes and kinds of errors,
//! never entities.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tidemark_expr::ViewRows;
use tidemark_kernel::{ErrorKind, Partition, Time};
use tidemark_offline::Positions;
use tidemark_proto::prometheus::{Exposition, Histogram, Metric};

use crate::decode::Batch;

mod topic;

pub use topic::TopicMetrics;

/// Upper edges of the buckets of [`SourceMetrics::freshness`], in seconds.
const FRESHNESS_EDGES: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// Upper edges of the buckets of [`SourceMetrics::commit_seconds`].
const COMMIT_EDGES: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The counters of all sources and views, and of pushes.
#[derive(Debug, Default)]
pub struct Metrics {
    sources: Mutex<BTreeMap<String, Arc<SourceMetrics>>>,
    views: Mutex<BTreeMap<String, Arc<ViewMetrics>>>,
    /// Pushes over HTTP that were answered with an error: also those whose source there is not.
    push_errors: Mutex<BTreeMap<ErrorKind, u64>>,
}

/// The counters of one source.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    events: AtomicU64,
    commits: AtomicU64,
    rewinds: AtomicU64,
    repeated: AtomicU64,
    dead: Mutex<BTreeMap<&'static str, u64>>,
    /// The greatest event time taken, in milliseconds; the least there is before any.
    newest: AtomicI64,
    /// How far the newest arrival was ahead of the clock when it was taken, in milliseconds.
    ahead: AtomicI64,
    /// From an event's arrival to its being visible in lookups.
    freshness: Mutex<Histogram>,
    commit_seconds: Mutex<Histogram>,
    /// How many partitions of the topic make no progress although they have unread records.
    stalled: AtomicU64,
    /// The next offset that every view has, by partition.
    taken: Mutex<BTreeMap<Partition, i64>>,
    topic: Arc<TopicMetrics>,
}

/// The counters of one view.
#[derive(Debug, Default)]
pub struct ViewMetrics {
    null_keys: AtomicU64,
    failed: AtomicU64,
    applied: AtomicU64,
    flushes: AtomicU64,
    written_bytes: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    lost_races: AtomicU64,
    forgotten: AtomicU64,
    backfills: AtomicU64,
    divided_backfills: AtomicU64,
    backfill_rest: AtomicU64,
}

impl Default for SourceMetrics {
    fn default() -> Self {
        Self {
            events: AtomicU64::default(),
            commits: AtomicU64::default(),
            rewinds: AtomicU64::default(),
            repeated: AtomicU64::default(),
            dead: Mutex::default(),
            newest: AtomicI64::new(i64::MIN),
            ahead: AtomicI64::new(i64::MIN),
            freshness: Mutex::new(Histogram::new(FRESHNESS_EDGES)),
            commit_seconds: Mutex::new(Histogram::new(COMMIT_EDGES)),
            stalled: AtomicU64::default(),
            taken: Mutex::default(),
            topic: Arc::default(),
        }
    }
}

impl SourceMetrics {
    /// Every view has taken a batch, by `now`.
    pub(crate) fn taken(&self, batch: &Batch, now: Time) {
        self.events.fetch_add(batch.events.num_rows() as u64, Relaxed);
        let mut dead = self.dead.lock();
        batch.dead.iter().for_each(|letter| *dead.entry(letter.code).or_default() += 1);
        drop(dead);
        if let Some(newest) = batch.event_times().iter().max() {
            self.newest.fetch_max(*newest, Relaxed);
        }
        // Rows of files arrive when they happened, which says nothing about us.
        if batch.partition != Partition::FILE {
            let ages = batch.arrival_times().iter().map(|arrival| now.millis().saturating_sub(*arrival));
            let mut freshness = self.freshness.lock();
            ages.for_each(|age| freshness.observe(age.max(0) as f64 / 1000.0));
            drop(freshness);
            if let Some(newest) = batch.arrival_times().iter().max() {
                self.ahead.store(newest.saturating_sub(now.millis()), Relaxed);
            }
        }
        if batch.partition.is_shared() {
            self.taken.lock().insert(batch.partition, batch.to.0);
        }
    }

    /// Partitions were given to this process, which reads on from these positions: how far behind it is can be told
    /// before it has taken anything.
    pub(crate) fn taken_over(&self, positions: &Positions) {
        self.taken.lock().extend(positions.iter().map(|(partition, position)| (*partition, position.0)));
    }

    /// Partitions were taken away.
    pub(crate) fn given_up(&self, partitions: &[Partition]) {
        self.taken.lock().retain(|partition, _| !partitions.contains(partition));
    }

    /// So many partitions of the topic have unread records, and no worker makes progress in them.
    pub(crate) fn stalled(&self, partitions: usize) {
        self.stalled.store(partitions as u64, Relaxed);
    }

    /// Rows were committed to the event tables.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        self.commit_seconds.lock().observe(took.as_secs_f64());
    }

    /// A view was found behind and caught up from history.
    pub(crate) fn rewound(&self) {
        self.rewinds.fetch_add(1, Relaxed);
    }

    /// Events were left out as repetitions of others.
    pub(crate) fn repeated(&self, count: u64) {
        self.repeated.fetch_add(count, Relaxed);
    }

    /// What the reader of the source's topic counts.
    pub(crate) fn topic(&self) -> Arc<TopicMetrics> {
        Arc::clone(&self.topic)
    }
}

impl ViewMetrics {
    /// A batch was evaluated.
    pub(crate) fn seen(&self, seen: &ViewRows) {
        self.null_keys.fetch_add(seen.null_keys, Relaxed);
        self.failed.fetch_add(seen.failed, Relaxed);
    }

    /// So many events were applied to states, whatever becomes of the flush.
    pub(crate) fn applied(&self, events: usize) {
        self.applied.fetch_add(events as u64, Relaxed);
    }

    /// Buckets were flushed.
    pub(crate) fn flushes(&self, count: usize) {
        self.flushes.fetch_add(count as u64, Relaxed);
    }

    /// So many bytes of states were flushed.
    pub(crate) fn written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// So many states were at hand, and so many had to be loaded.
    pub(crate) fn cached(&self, hits: usize, misses: usize) {
        self.cache_hits.fetch_add(hits as u64, Relaxed);
        self.cache_misses.fetch_add(misses as u64, Relaxed);
    }

    /// So many states were removed that were not needed any more.
    pub(crate) fn forgot(&self, states: u64) {
        self.forgotten.fetch_add(states, Relaxed);
    }

    /// The view begins to be backfilled beside what comes in.
    pub(crate) fn backfill(&self) {
        self.backfills.fetch_add(1, Relaxed);
    }

    /// Another worker was seen to do a part of a backfill of the view.
    pub(crate) fn divided(&self) {
        self.divided_backfills.fetch_add(1, Relaxed);
    }

    /// How many records of history the view still lacks, in all partitions; 0 once it is up.
    pub(crate) fn backfill_rest(&self, records: u64) {
        self.backfill_rest.store(records, Relaxed);
    }

    /// A bucket stood elsewhere than we thought.
    pub(crate) fn lost_race(&self) {
        self.lost_races.fetch_add(1, Relaxed);
    }
}

impl Metrics {
    pub(crate) fn source(&self, name: &str) -> Arc<SourceMetrics> {
        Arc::clone(self.sources.lock().entry(name.to_owned()).or_default())
    }

    pub(crate) fn view(&self, name: &str) -> Arc<ViewMetrics> {
        Arc::clone(self.views.lock().entry(name.to_owned()).or_default())
    }

    /// A push over HTTP was answered with an error.
    pub(crate) fn push_refused(&self, kind: ErrorKind) {
        *self.push_errors.lock().entry(kind).or_default() += 1;
    }

    /// All metrics in the text format of Prometheus, at `now` by the wall clock.
    #[must_use]
    pub fn prometheus(&self, now: Time) -> String {
        self.text(now).into_string()
    }

    fn text(&self, now: Time) -> Exposition {
        let mut text = Exposition::default();
        let sources = self.sources.lock().clone();
        counters(&mut text, &OF_SOURCES, &sources);
        dead_letters(&mut text, &sources);
        times(&mut text, &sources, now);
        partitions(&mut text, &sources);
        histograms(&mut text, &sources);
        let views = self.views.lock().clone();
        counters(&mut text, &OF_VIEWS, &views);
        let rest = |metrics: &ViewMetrics| metrics.backfill_rest.load(Relaxed);
        text.numbers(BACKFILL_REST, views.iter().map(|(view, metrics)| (view.as_str(), rest(metrics))));
        text.errors(PUSH_ERRORS, &self.push_errors.lock());
        text
    }
}

/// Every metric of this crate.
#[must_use]
pub fn declared() -> Vec<Metric> {
    Metrics::default().text(Time::default()).metrics().to_vec()
}

type Sources = BTreeMap<String, Arc<SourceMetrics>>;

fn counters<T>(text: &mut Exposition, counters: &[Counter<T>], of: &BTreeMap<String, Arc<T>>) {
    for (metric, counter) in counters {
        text.numbers(
            *metric,
            of.iter().map(|(value, holder)| (value.as_str(), counter(holder).load(Relaxed))),
        );
    }
}

fn dead_letters(text: &mut Exposition, sources: &Sources) {
    let mut family = text.family(DEAD_LETTERS);
    for (source, metrics) in sources {
        for (code, count) in metrics.dead.lock().iter() {
            family.number(&[source, code], *count);
        }
    }
}

/// How far behind and ahead of the clock sources are.
fn times(text: &mut Exposition, sources: &Sources, now: Time) {
    let mut family = text.family(EVENT_TIME_LAG);
    for (source, metrics) in sources {
        let newest = metrics.newest.load(Relaxed);
        if newest > i64::MIN {
            family.number(&[source], now.millis().saturating_sub(newest) as f64 / 1000.0);
        }
    }
    let mut family = text.family(ARRIVAL_AHEAD);
    for (source, metrics) in sources {
        let ahead = metrics.ahead.load(Relaxed);
        if ahead > i64::MIN {
            family.number(&[source], ahead as f64 / 1000.0);
        }
    }
}

/// How far the partitions that this process reads are, and how many of the topic make no progress.
fn partitions(text: &mut Exposition, sources: &Sources) {
    let mut family = text.family(POSITION);
    for (source, metrics) in sources {
        for (partition, position) in metrics.taken.lock().iter() {
            family.number(&[source, &partition.to_string()], *position);
        }
    }
    let mut family = text.family(LAG);
    for (source, metrics) in sources {
        for (partition, position) in metrics.taken.lock().iter() {
            if let Some(end) = metrics.topic.end(*partition) {
                family.number(&[source, &partition.to_string()], (end.0 - position).max(0));
            }
        }
    }
    let stalled = |metrics: &SourceMetrics| metrics.stalled.load(Relaxed);
    text.numbers(STALLED, sources.iter().map(|(source, metrics)| (source.as_str(), stalled(metrics))));
}

fn histograms(text: &mut Exposition, sources: &Sources) {
    let mut family = text.family(FRESHNESS);
    for (source, metrics) in sources {
        family.histogram(&[source], &metrics.freshness.lock());
    }
    let mut family = text.family(COMMIT_SECONDS);
    for (source, metrics) in sources {
        family.histogram(&[source], &metrics.commit_seconds.lock());
    }
}

const SOURCE: &[&str] = &["source"];
const PARTITION: &[&str] = &["source", "partition"];
const VIEW: &[&str] = &["view"];

/// A counter, and where it is.
type Counter<T> = (Metric, fn(&T) -> &AtomicU64);

const OF_SOURCES: [Counter<SourceMetrics>; 8] = [
    (
        Metric::counter(
            "tidemark_ingest_events_total",
            SOURCE,
            "Events that were accepted, repetitions left out.",
        ),
        |source| &source.events,
    ),
    (
        Metric::counter(
            "tidemark_ingest_repeated_total",
            SOURCE,
            "Events that were left out as repetitions of others (`unique`).",
        ),
        |source| &source.repeated,
    ),
    (Metric::counter("tidemark_ingest_commits_total", SOURCE, "Commits to the event tables."), |source| {
        &source.commits
    }),
    (
        Metric::counter(
            "tidemark_ingest_rewinds_total",
            SOURCE,
            "Times a view was found behind the event table and caught up from it.",
        ),
        |source| &source.rewinds,
    ),
    (
        Metric::counter("tidemark_ingest_tombstones_total", SOURCE, "Records of a topic without a value."),
        |source| &source.topic.tombstones,
    ),
    (
        Metric::counter(
            "tidemark_ingest_unknown_members_total",
            SOURCE,
            "Records of a topic with a member that no field takes.",
        ),
        |source| &source.topic.unknown_members,
    ),
    (
        Metric::counter(
            "tidemark_ingest_read_bytes_total",
            SOURCE,
            "Bytes of keys and values that were read from a topic.",
        ),
        |source| &source.topic.bytes,
    ),
    (
        Metric::counter(
            "tidemark_ingest_rebalances_total",
            SOURCE,
            "Times that partitions of a topic were given to this process or taken away.",
        ),
        |source| &source.topic.rebalances,
    ),
];

const OF_VIEWS: [Counter<ViewMetrics>; 11] = [
    (
        Metric::counter(
            "tidemark_ingest_null_keys_total",
            VIEW,
            "Events that a view leaves out because a key of its entity is null.",
        ),
        |view| &view.null_keys,
    ),
    (
        Metric::counter(
            "tidemark_ingest_failed_expressions_total",
            VIEW,
            "Evaluations that failed: a filter counts as false then, an input as null.",
        ),
        |view| &view.failed,
    ),
    (
        Metric::counter(
            "tidemark_ingest_applied_events_total",
            VIEW,
            "Events applied to states, with those of backfills and of repeated attempts.",
        ),
        |view| &view.applied,
    ),
    (
        Metric::counter(
            "tidemark_ingest_flushes_total",
            VIEW,
            "Buckets that were flushed to the online store.",
        ),
        |view| &view.flushes,
    ),
    (
        Metric::counter("tidemark_ingest_written_bytes_total", VIEW, "Bytes of states that were flushed."),
        |view| &view.written_bytes,
    ),
    (
        Metric::counter(
            "tidemark_ingest_cache_hits_total",
            VIEW,
            "States that were in memory when events came for them.",
        ),
        |view| &view.cache_hits,
    ),
    (
        Metric::counter(
            "tidemark_ingest_cache_misses_total",
            VIEW,
            "States that had to be loaded from the online store.",
        ),
        |view| &view.cache_misses,
    ),
    (
        Metric::counter(
            "tidemark_ingest_lost_races_total",
            VIEW,
            "Flushes that were refused because another process had moved the bucket.",
        ),
        |view| &view.lost_races,
    ),
    (
        Metric::counter(
            "tidemark_ingest_forgotten_states_total",
            VIEW,
            "States that were removed because no question can see their events.",
        ),
        |view| &view.forgotten,
    ),
    (
        Metric::counter("tidemark_ingest_backfills_total", VIEW, "Backfills of a view that were begun."),
        |view| &view.backfills,
    ),
    (
        Metric::counter(
            "tidemark_ingest_divided_backfills_total",
            VIEW,
            "Backfills of a view of which another worker did a part.",
        ),
        |view| &view.divided_backfills,
    ),
];

const DEAD_LETTERS: Metric = Metric::counter(
    "tidemark_ingest_dead_letters_total",
    &["source", "code"],
    "Records that were rejected, by the code of the reason.",
);

const EVENT_TIME_LAG: Metric = Metric::gauge(
    "tidemark_ingest_event_time_lag_seconds",
    SOURCE,
    "The clock minus the newest event time that was read.",
);

const ARRIVAL_AHEAD: Metric = Metric::gauge(
    "tidemark_ingest_arrival_ahead_seconds",
    SOURCE,
    "The newest arrival time minus the clock when it was read; negative in health.",
);

const POSITION: Metric = Metric::gauge(
    "tidemark_ingest_position",
    PARTITION,
    "The offset of the next record that the views do not have yet.",
);

const LAG: Metric = Metric::gauge(
    "tidemark_ingest_lag_records",
    PARTITION,
    "Records in the topic that the views do not have yet.",
);

const STALLED: Metric = Metric::gauge(
    "tidemark_ingest_stalled_partitions",
    SOURCE,
    "Partitions with unread records of which no worker has committed any for minutes.",
);

const FRESHNESS: Metric = Metric::histogram(
    "tidemark_ingest_freshness_seconds",
    SOURCE,
    "From the arrival of an event until lookups see it.",
);

const COMMIT_SECONDS: Metric =
    Metric::histogram("tidemark_ingest_commit_seconds", SOURCE, "How long commits to the event tables took.");

const BACKFILL_REST: Metric = Metric::gauge(
    "tidemark_ingest_backfill_remaining_records",
    VIEW,
    "Records of history that a backfill of the view still lacks; 0 where none runs.",
);

const PUSH_ERRORS: Metric = Metric::counter(
    "tidemark_push_errors_total",
    &["kind"],
    "Pushes over HTTP that were answered with an error.",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_spelled_for_prometheus() {
        let metrics = Metrics::default();
        metrics.view("user_payments").lost_race();
        metrics.source("payments").committed(Duration::from_millis(20));
        metrics.source("payments").stalled(3);
        metrics.push_refused(ErrorKind::Conflict);
        let text = metrics.prometheus(Time::default());
        for line in [
            "tidemark_ingest_stalled_partitions{source=\"payments\"} 3",
            "tidemark_ingest_lost_races_total{view=\"user_payments\"} 1",
            "tidemark_ingest_commits_total{source=\"payments\"} 1",
            "# TYPE tidemark_ingest_dead_letters_total counter",
            "# TYPE tidemark_push_errors_total counter",
            "tidemark_push_errors_total{kind=\"conflict\"} 1",
            "tidemark_push_errors_total{kind=\"internal\"} 0",
            "tidemark_ingest_commit_seconds_bucket{source=\"payments\",le=\"0.01\"} 0",
            "tidemark_ingest_commit_seconds_bucket{source=\"payments\",le=\"0.025\"} 1",
            "tidemark_ingest_commit_seconds_count{source=\"payments\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
