//! Every metric of this crate. Labels are bounded: a service, a kind, never an entity.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tidemark_kernel::error::{ErrorKind, Explain};
use tidemark_proto::prometheus::{Exposition, Histogram};

use crate::error::RowError;
use crate::lookups::Results;

/// Upper edges of the latency buckets, in seconds.
const EDGES: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

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

#[derive(Debug)]
struct ServiceCounts {
    lookups: u64,
    rows: u64,
    derived_failures: u64,
    sum_overflows: u64,
    seconds: Histogram,
}

impl Default for ServiceCounts {
    fn default() -> Self {
        let seconds = Histogram::new(EDGES);
        Self { lookups: 0, rows: 0, derived_failures: 0, sum_overflows: 0, seconds }
    }
}

impl Metrics {
    /// Counts an answered call.
    pub(crate) fn answered(&self, service: &str, results: &Results, took: Duration) {
        let mut counts = self.counts.lock();
        for kind in results.iter().filter_map(|result| result.as_ref().err()).map(RowError::kind) {
            *counts.row_errors.entry(kind).or_default() += 1;
        }
        let counts = counts.services.entry(service.to_owned()).or_default();
        counts.lookups += 1;
        counts.rows += results.len() as u64;
        counts.sum_overflows += results.iter().flatten().map(|row| row.overflowed).sum::<u64>();
        counts.seconds.observe(took.as_secs_f64());
    }

    /// Counts a call that failed as a whole.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        *self.counts.lock().errors.entry(kind).or_default() += 1;
    }

    /// Counts derived features that are null because their evaluation failed.
    pub(crate) fn derived_failed(&self, service: &str, failed: u64) {
        if failed > 0 {
            self.counts.lock().services.entry(service.to_owned()).or_default().derived_failures += failed;
        }
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let counts = self.counts.lock();
        let mut text = Exposition::default();
        for (name, help, counter) in OF_SERVICES {
            let counts = counts.services.iter().map(|(service, counts)| (service.as_str(), counter(counts)));
            text.counter(name, help, "service", counts);
        }
        let help = "Lookup calls that failed as a whole.";
        text.errors("tidemark_lookup_errors_total", help, &counts.errors);
        let help = "Rows without an answer in answered calls.";
        text.errors("tidemark_lookup_row_errors_total", help, &counts.row_errors);
        let name = "tidemark_lookup_seconds";
        text.metric(name, "histogram", "How long answered lookup calls took.");
        for (service, counts) in &counts.services {
            text.histogram(name, ("service", service), &counts.seconds);
        }
        text.into_string()
    }
}

/// A counter: its name, what it counts, and where it is.
type Counter = (&'static str, &'static str, fn(&ServiceCounts) -> u64);

const OF_SERVICES: [Counter; 4] = [
    ("tidemark_lookups_total", "Lookup calls that were answered.", |service| service.lookups),
    ("tidemark_lookup_rows_total", "Rows of the calls that were answered.", |service| service.rows),
    (
        "tidemark_lookup_derived_failures_total",
        "Derived features that are null because their evaluation failed.",
        |service| service.derived_failures,
    ),
    (
        "tidemark_lookup_sum_overflows_total",
        "Windowed sums that are null because the int64 total does not fit.",
        |service| service.sum_overflows,
    ),
];

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
