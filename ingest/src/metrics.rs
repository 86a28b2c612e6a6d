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
use tidemark_proto::prometheus::{Exposition, Histogram};

use crate::decode::Batch;

mod topic;

pub use topic::TopicMetrics;

/// Upper edges of the buckets of [`SourceMetrics::freshness`], in seconds.
const FRESHNESS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// Upper edges of the buckets of [`SourceMetrics::commit_seconds`].
const COMMIT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

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
            freshness: Mutex::new(Histogram::new(FRESHNESS)),
            commit_seconds: Mutex::new(Histogram::new(COMMIT)),
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
        if batch.partition.is_of_topic() {
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
        let mut text = Exposition::default();
        let sources = self.sources.lock().clone();
        counters(&mut text, "source", &OF_SOURCES, &sources);
        dead_letters(&mut text, &sources);
        times(&mut text, &sources, now);
        partitions(&mut text, &sources);
        stalled(&mut text, &sources);
        histograms(&mut text, &sources);
        let views = self.views.lock().clone();
        counters(&mut text, "view", &OF_VIEWS, &views);
        let name = "tidemark_ingest_backfill_remaining_records";
        text.metric(name, "gauge", "records of history that a view which is being backfilled still lacks");
        for (view, metrics) in &views {
            text.line(name, &[("view", view)], metrics.backfill_rest.load(Relaxed));
        }
        let help = "pushes over HTTP that were answered with an error";
        text.errors("tidemark_push_errors_total", help, &self.push_errors.lock());
        text.into_string()
    }
}

type Sources = BTreeMap<String, Arc<SourceMetrics>>;

fn counters<T>(text: &mut Exposition, label: &str, counters: &[Counter<T>], of: &BTreeMap<String, Arc<T>>) {
    for (name, help, counter) in counters {
        let counts = of.iter().map(|(value, holder)| (value.as_str(), counter(holder).load(Relaxed)));
        text.counter(name, help, label, counts);
    }
}

fn dead_letters(text: &mut Exposition, sources: &Sources) {
    let name = "tidemark_ingest_dead_letters_total";
    text.metric(name, "counter", "records that are no events");
    for (source, metrics) in sources {
        for (code, count) in metrics.dead.lock().iter() {
            text.line(name, &[("source", source), ("code", code)], *count);
        }
    }
}

/// How far behind and ahead of the clock sources are.
fn times(text: &mut Exposition, sources: &Sources, now: Time) {
    let name = "tidemark_ingest_event_time_lag_seconds";
    text.metric(name, "gauge", "the clock minus the newest event time taken");
    for (source, metrics) in sources {
        let newest = metrics.newest.load(Relaxed);
        if newest > i64::MIN {
            text.line(name, &[("source", source)], now.millis().saturating_sub(newest) as f64 / 1000.0);
        }
    }
    let name = "tidemark_ingest_arrival_ahead_seconds";
    text.metric(name, "gauge", "the newest arrival time minus the clock when it was taken");
    for (source, metrics) in sources {
        let ahead = metrics.ahead.load(Relaxed);
        if ahead > i64::MIN {
            text.line(name, &[("source", source)], ahead as f64 / 1000.0);
        }
    }
}

/// Where the partitions that this process reads stand.
fn partitions(text: &mut Exposition, sources: &Sources) {
    let name = "tidemark_ingest_position";
    text.metric(name, "gauge", "the next record that the views do not have yet");
    for (source, metrics) in sources {
        for (partition, position) in metrics.taken.lock().iter() {
            text.line(name, &[("source", source), ("partition", &partition.to_string())], *position);
        }
    }
    let name = "tidemark_ingest_lag_records";
    text.metric(name, "gauge", "records in the topic that the views do not have yet");
    for (source, metrics) in sources {
        for (partition, position) in metrics.taken.lock().iter() {
            if let Some(end) = metrics.topic.end(*partition) {
                let lag = (end.0 - position).max(0);
                text.line(name, &[("source", source), ("partition", &partition.to_string())], lag);
            }
        }
    }
}

/// How many partitions have unread records that no worker reads.
fn stalled(text: &mut Exposition, sources: &Sources) {
    let name = "tidemark_ingest_stalled_partitions";
    text.metric(
        name,
        "gauge",
        "partitions with unread records of which no worker has committed any for minutes",
    );
    for (source, metrics) in sources {
        text.line(name, &[("source", source)], metrics.stalled.load(Relaxed));
    }
}

fn histograms(text: &mut Exposition, sources: &Sources) {
    let name = "tidemark_ingest_freshness_seconds";
    text.metric(name, "histogram", "from arrival to visible in lookups");
    for (source, metrics) in sources {
        text.histogram(name, ("source", source), &metrics.freshness.lock());
    }
    let name = "tidemark_ingest_commit_seconds";
    text.metric(name, "histogram", "how long commits to the event tables took");
    for (source, metrics) in sources {
        text.histogram(name, ("source", source), &metrics.commit_seconds.lock());
    }
}

/// A counter: its name, what it counts, and where it is.
type Counter<T> = (&'static str, &'static str, fn(&T) -> &AtomicU64);

const OF_SOURCES: [Counter<SourceMetrics>; 8] = [
    ("tidemark_ingest_events_total", "events accepted", |source| &source.events),
    ("tidemark_ingest_repeated_total", "events left out as repetitions", |source| &source.repeated),
    ("tidemark_ingest_commits_total", "commits to the event tables", |source| &source.commits),
    ("tidemark_ingest_rewinds_total", "views caught up from history", |source| &source.rewinds),
    ("tidemark_ingest_tombstones_total", "records of a topic without a value", |source| {
        &source.topic.tombstones
    }),
    (
        "tidemark_ingest_unknown_members_total",
        "records of a topic with a member that no field takes",
        |source| &source.topic.unknown_members,
    ),
    ("tidemark_ingest_read_bytes_total", "bytes of keys and values read from a topic", |source| {
        &source.topic.bytes
    }),
    ("tidemark_ingest_rebalances_total", "times partitions were given or taken away", |source| {
        &source.topic.rebalances
    }),
];

const OF_VIEWS: [Counter<ViewMetrics>; 11] = [
    ("tidemark_ingest_null_keys_total", "events without an entity", |view| &view.null_keys),
    ("tidemark_ingest_failed_expressions_total", "evaluations that failed", |view| &view.failed),
    (
        "tidemark_ingest_applied_events_total",
        "events applied to states, backfills and repeated attempts included",
        |view| &view.applied,
    ),
    ("tidemark_ingest_flushes_total", "buckets flushed to the online store", |view| &view.flushes),
    ("tidemark_ingest_written_bytes_total", "bytes of states flushed", |view| &view.written_bytes),
    ("tidemark_ingest_cache_hits_total", "states that were at hand", |view| &view.cache_hits),
    ("tidemark_ingest_cache_misses_total", "states that were loaded", |view| &view.cache_misses),
    ("tidemark_ingest_lost_races_total", "buckets moved by somebody else", |view| &view.lost_races),
    ("tidemark_ingest_forgotten_states_total", "states removed that no window can see", |view| {
        &view.forgotten
    }),
    ("tidemark_ingest_backfills_total", "times a view was backfilled beside what comes in", |view| {
        &view.backfills
    }),
    (
        "tidemark_ingest_divided_backfills_total",
        "backfills of a view that another worker was seen to do a part of",
        |view| &view.divided_backfills,
    ),
];

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
