//! Every metric of this crate. Labels are bounded: a service, a kind, never an entity.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tidemark_kernel::error::{ErrorKind, Explain};
use tidemark_proto::prometheus::{Exposition, Histogram, Metric};

use crate::error::RowError;
use crate::lookups::Results;
use crate::{admission, connections};

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
        self.text().into_string()
    }

    fn text(&self) -> Exposition {
        let counts = self.counts.lock();
        let mut text = Exposition::default();
        for (metric, counter) in OF_SERVICES {
            let counts = counts.services.iter().map(|(service, counts)| (service.as_str(), counter(counts)));
            text.numbers(metric, counts);
        }
        text.errors(ERRORS, &counts.errors);
        text.errors(ROW_ERRORS, &counts.row_errors);
        let mut seconds = text.family(SECONDS);
        for (service, counts) in &counts.services {
            seconds.histogram(&[service], &counts.seconds);
        }
        text
    }
}

/// Every metric of this crate.
#[must_use]
pub fn declared() -> Vec<Metric> {
    [Metrics::default().text().metrics(), &admission::METRICS, &connections::METRICS].concat()
}

/// A counter of a service, and where it is.
type Counter = (Metric, fn(&ServiceCounts) -> u64);

const SERVICE: &[&str] = &["service"];

const OF_SERVICES: [Counter; 4] = [
    (Metric::counter("tidemark_lookups_total", SERVICE, "Lookup calls that were answered."), |service| {
        service.lookups
    }),
    (
        Metric::counter("tidemark_lookup_rows_total", SERVICE, "Rows of the calls that were answered."),
        |service| service.rows,
    ),
    (
        Metric::counter(
            "tidemark_lookup_derived_failures_total",
            SERVICE,
            "Derived features that are null because their evaluation failed.",
        ),
        |service| service.derived_failures,
    ),
    (
        Metric::counter(
            "tidemark_lookup_sum_overflows_total",
            SERVICE,
            "Windowed sums that are null because the int64 total does not fit.",
        ),
        |service| service.sum_overflows,
    ),
];

const ERRORS: Metric =
    Metric::counter("tidemark_lookup_errors_total", &["kind"], "Lookup calls that failed as a whole.");

const ROW_ERRORS: Metric = Metric::counter(
    "tidemark_lookup_row_errors_total",
    &["kind"],
    "Rows without an answer in answered calls.",
);

const SECONDS: Metric =
    Metric::histogram("tidemark_lookup_seconds", SERVICE, "How long answered lookup calls took.");

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
