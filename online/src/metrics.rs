//! Every metric of this crate, in Prometheus' text form. Labels are bounded: a service, a kind, never an entity.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_kernel::error::{ErrorKind, Explain};

use crate::error::RowError;
use crate::lookups::Results;

/// Upper edges of the latency buckets, in seconds.
const EDGES: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// What lookups count. Only answered calls have a latency.
#[derive(Debug, Default)]
pub struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    services: BTreeMap<String, ServiceCounts>,
    errors: BTreeMap<ErrorKind, u64>,
    row_errors: BTreeMap<ErrorKind, u64>,
}

#[derive(Debug, Default)]
struct ServiceCounts {
    lookups: u64,
    rows: u64,
    derived_failures: u64,
    sum_overflows: u64,
    /// Calls per bucket, each counted in one; the last is for those beyond every edge.
    buckets: [u64; EDGES.len() + 1],
    seconds: f64,
}

impl Metrics {
    /// Counts an answered call.
    pub(crate) fn answered(&self, service: &str, results: &Results, took: Duration) {
        let mut counts = self.counts();
        for kind in results.iter().filter_map(|result| result.as_ref().err()).map(RowError::kind) {
            *counts.row_errors.entry(kind).or_default() += 1;
        }
        let seconds = took.as_secs_f64();
        let counts = counts.services.entry(service.to_owned()).or_default();
        counts.lookups += 1;
        counts.rows += results.len() as u64;
        counts.sum_overflows += results.iter().flatten().map(|row| row.overflowed).sum::<u64>();
        counts.seconds += seconds;
        counts.buckets[EDGES.partition_point(|edge| *edge < seconds)] += 1;
    }

    /// Counts a call that failed as a whole.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        *self.counts().errors.entry(kind).or_default() += 1;
    }

    /// Counts derived features that are null because their evaluation failed.
    pub(crate) fn derived_failed(&self, service: &str, failed: u64) {
        if failed > 0 {
            self.counts().services.entry(service.to_owned()).or_default().derived_failures += failed;
        }
    }

    /// All metrics in Prometheus' text exposition form.
    #[must_use]
    pub fn render(&self) -> String {
        let counts = self.counts();
        let mut out = Exposition(String::new());
        out.metric("tidemark_lookups_total", "counter", "Lookup calls that were answered.");
        out.per_service("tidemark_lookups_total", &counts, |service| service.lookups);
        out.metric("tidemark_lookup_rows_total", "counter", "Rows of the calls that were answered.");
        out.per_service("tidemark_lookup_rows_total", &counts, |service| service.rows);
        let help = "Derived features that are null because their evaluation failed.";
        out.metric("tidemark_lookup_derived_failures_total", "counter", help);
        out.per_service("tidemark_lookup_derived_failures_total", &counts, |service| {
            service.derived_failures
        });
        let help = "Windowed sums that are null because the int64 total does not fit.";
        out.metric("tidemark_lookup_sum_overflows_total", "counter", help);
        out.per_service("tidemark_lookup_sum_overflows_total", &counts, |service| service.sum_overflows);
        out.metric("tidemark_lookup_errors_total", "counter", "Lookup calls that failed as a whole.");
        out.per_kind("tidemark_lookup_errors_total", &counts.errors);
        out.metric(
            "tidemark_lookup_row_errors_total",
            "counter",
            "Rows without an answer in answered calls.",
        );
        out.per_kind("tidemark_lookup_row_errors_total", &counts.row_errors);
        out.metric("tidemark_lookup_seconds", "histogram", "How long answered lookup calls took.");
        out.latencies("tidemark_lookup_seconds", &counts);
        out.0
    }

    /// Counting leaves nothing half done, so a lock poisoned by a panic elsewhere is as good as any.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text form: `name{label="value"} number`, one per line.
struct Exposition(String);

impl Exposition {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn per_service(&mut self, name: &str, counts: &Counts, count: impl Fn(&ServiceCounts) -> u64) {
        for (service, counts) in &counts.services {
            let number = count(counts);
            self.line(format_args!("{name}{{service=\"{service}\"}} {number}"));
        }
    }

    fn per_kind(&mut self, name: &str, counts: &BTreeMap<ErrorKind, u64>) {
        for kind in ErrorKind::ALL {
            let number = counts.get(&kind).copied().unwrap_or_default();
            self.line(format_args!("{name}{{kind=\"{}\"}} {number}", kind.name()));
        }
    }

    fn latencies(&mut self, name: &str, counts: &Counts) {
        for (service, counts) in &counts.services {
            let mut calls = 0;
            let edges = EDGES.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (edge, count) in edges.zip(counts.buckets) {
                calls += count;
                self.line(format_args!("{name}_bucket{{service=\"{service}\",le=\"{edge}\"}} {calls}"));
            }
            self.line(format_args!("{name}_sum{{service=\"{service}\"}} {}", counts.seconds));
            self.line(format_args!("{name}_count{{service=\"{service}\"}} {calls}"));
        }
    }

    /// Writing to a string cannot fail.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_edges_belong_to_their_bucket() {
        let metrics = Metrics::default();
        metrics.answered("fraud", &vec![], Duration::from_micros(100));
        metrics.answered("fraud", &vec![], Duration::from_micros(101));
        metrics.answered("fraud", &vec![], Duration::from_secs(9));
        let text = metrics.render();
        for line in [
            "tidemark_lookup_seconds_bucket{service=\"fraud\",le=\"0.0001\"} 1",
            "tidemark_lookup_seconds_bucket{service=\"fraud\",le=\"0.00025\"} 2",
            "tidemark_lookup_seconds_bucket{service=\"fraud\",le=\"2.5\"} 2",
            "tidemark_lookup_seconds_bucket{service=\"fraud\",le=\"+Inf\"} 3",
            "tidemark_lookup_seconds_count{service=\"fraud\"} 3",
            "tidemark_lookups_total{service=\"fraud\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
