//! Every metric of this crate, since the process began. Labels are sources, views and codes, never entities.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemark_expr::ViewRows;

use crate::decode::Batch;

/// The counters of all sources and views.
#[derive(Debug, Default)]
pub struct Metrics {
    sources: Mutex<BTreeMap<String, Arc<SourceMetrics>>>,
    views: Mutex<BTreeMap<String, Arc<ViewMetrics>>>,
}

/// The counters of one source.
#[derive(Debug, Default)]
pub(crate) struct SourceMetrics {
    events: AtomicU64,
    commits: AtomicU64,
    rewinds: AtomicU64,
    dead: Mutex<BTreeMap<&'static str, u64>>,
}

/// The counters of one view.
#[derive(Debug, Default)]
pub struct ViewMetrics {
    null_keys: AtomicU64,
    failed: AtomicU64,
    flushes: AtomicU64,
    lost_races: AtomicU64,
}

impl SourceMetrics {
    /// A batch was taken.
    pub(crate) fn taken(&self, batch: &Batch) {
        self.events.fetch_add(batch.events.num_rows() as u64, Relaxed);
        let mut dead = locked(&self.dead);
        batch.dead.iter().for_each(|letter| *dead.entry(letter.code).or_default() += 1);
    }

    /// Rows were committed to the event tables.
    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    /// A view was found behind and caught up from history.
    pub(crate) fn rewound(&self) {
        self.rewinds.fetch_add(1, Relaxed);
    }
}

impl ViewMetrics {
    /// A batch was evaluated.
    pub(crate) fn seen(&self, seen: &ViewRows) {
        self.null_keys.fetch_add(seen.null_keys, Relaxed);
        self.failed.fetch_add(seen.failed, Relaxed);
    }

    /// Buckets were flushed.
    pub(crate) fn flushes(&self, count: usize) {
        self.flushes.fetch_add(count as u64, Relaxed);
    }

    /// A bucket stood elsewhere than we thought.
    pub(crate) fn lost_race(&self) {
        self.lost_races.fetch_add(1, Relaxed);
    }
}

impl Metrics {
    pub(crate) fn source(&self, name: &str) -> Arc<SourceMetrics> {
        Arc::clone(locked(&self.sources).entry(name.to_owned()).or_default())
    }

    pub(crate) fn view(&self, name: &str) -> Arc<ViewMetrics> {
        Arc::clone(locked(&self.views).entry(name.to_owned()).or_default())
    }

    /// All counters in the text format of Prometheus.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        write_all(&mut text, "source", &OF_SOURCES, &locked(&self.sources));
        self.write_dead_letters(&mut text);
        write_all(&mut text, "view", &OF_VIEWS, &locked(&self.views));
        text
    }

    fn write_dead_letters(&self, text: &mut String) {
        let (name, help) = DEAD_LETTERS;
        head(text, name, help);
        for (source, counters) in locked(&self.sources).iter() {
            for (code, count) in locked(&counters.dead).iter() {
                line(text, name, &format!("source=\"{source}\",code=\"{code}\""), *count);
            }
        }
    }
}

/// A counter: its name, what it counts, and where it is.
type Counter<T> = (&'static str, &'static str, fn(&T) -> &AtomicU64);

const OF_SOURCES: [Counter<SourceMetrics>; 3] = [
    ("tidemark_ingest_events_total", "events accepted", |source| &source.events),
    ("tidemark_ingest_commits_total", "commits to the event tables", |source| &source.commits),
    ("tidemark_ingest_rewinds_total", "views caught up from history", |source| &source.rewinds),
];

const DEAD_LETTERS: (&str, &str) = ("tidemark_ingest_dead_letters_total", "records that are no events");

const OF_VIEWS: [Counter<ViewMetrics>; 4] = [
    ("tidemark_ingest_null_keys_total", "events without an entity", |view| &view.null_keys),
    ("tidemark_ingest_failed_expressions_total", "evaluations that failed", |view| &view.failed),
    ("tidemark_ingest_flushes_total", "buckets flushed to the online store", |view| &view.flushes),
    ("tidemark_ingest_lost_races_total", "buckets moved by somebody else", |view| &view.lost_races),
];

fn write_all<T>(text: &mut String, label: &str, counters: &[Counter<T>], of: &BTreeMap<String, Arc<T>>) {
    for (name, help, counter) in counters {
        head(text, name, help);
        of.iter().for_each(|(value, holder)| {
            line(text, name, &format!("{label}=\"{value}\""), counter(holder).load(Relaxed));
        });
    }
}

fn head(text: &mut String, name: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(text, "{name}{{{labels}}} {value}");
}

/// Counters are whole at any instant, whoever panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_spelled_for_prometheus() {
        let metrics = Metrics::default();
        metrics.view("user_payments").lost_race();
        metrics.source("payments").committed();
        let text = metrics.prometheus();
        assert!(text.contains("tidemark_ingest_lost_races_total{view=\"user_payments\"} 1\n"), "{text}");
        assert!(text.contains("tidemark_ingest_commits_total{source=\"payments\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE tidemark_ingest_dead_letters_total counter\n"), "{text}");
    }
}
