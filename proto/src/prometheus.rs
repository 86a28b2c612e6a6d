//! The text format of Prometheus: `name{label="value"} number`, one a line, under two lines that describe the metric.
//!
//! Each process answers the texts of its parts one after the other, so a text has no end mark, and its counters are
//! named as a whole (`…_total`): it is format 0.0.4, not OpenMetrics.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use tidemark_kernel::ErrorKind;

/// A metric as it is declared: once. Only declared metrics can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// With its unit, if it has one, and `_total` behind that for a counter.
    pub name: &'static str,
    /// How its numbers behave.
    pub kind: Kind,
    /// The names of its labels, in the order in which their values are given.
    pub labels: &'static [&'static str],
    /// What the number says, in one sentence: for Prometheus, and for `docs/reference/metrics.md`.
    pub help: &'static str,
}

/// How the numbers of a metric behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows from 0, where the process began.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values in buckets.
    Histogram,
}

impl Kind {
    /// The type in the text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// Declares a counter.
    #[must_use]
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// Declares a gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// Declares a histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help }
    }
}

/// A text that grows. Writing to a string cannot fail.
///
/// Values of labels are names of definitions, codes and numbers: nothing in them needs escaping.
#[derive(Debug, Default)]
pub struct Exposition {
    written: String,
    metrics: Vec<Metric>,
}

impl Exposition {
    /// Begins a metric. Begin it also where it has no number yet, so that [`Exposition::metrics`] knows it.
    pub fn family(&mut self, metric: Metric) -> Family<'_> {
        let Metric { name, kind, help, .. } = metric;
        let _ = writeln!(self.written, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        self.metrics.push(metric);
        Family { written: &mut self.written, metric }
    }

    /// A whole metric with one label: its values, with the number of each.
    pub fn numbers<'v>(&mut self, metric: Metric, numbers: impl IntoIterator<Item = (&'v str, u64)>) {
        let mut family = self.family(metric);
        numbers.into_iter().for_each(|(value, number)| family.number(&[value], number));
    }

    /// A whole counter of errors by kind: of every kind, also where none was counted, since rates need a zero to begin with.
    pub fn errors(&mut self, metric: Metric, counts: &BTreeMap<ErrorKind, u64>) {
        let count = |kind: ErrorKind| counts.get(&kind).copied().unwrap_or_default();
        self.numbers(metric, ErrorKind::ALL.map(|kind| (kind.name(), count(kind))));
    }

    /// The metrics that were begun, in order.
    #[must_use]
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// What was written.
    #[must_use]
    pub fn into_string(self) -> String {
        self.written
    }
}

/// A metric that was begun, whose numbers follow.
#[derive(Debug)]
pub struct Family<'t> {
    written: &'t mut String,
    metric: Metric,
}

impl Family<'_> {
    /// A number, with a value for each label of the metric.
    pub fn number(&mut self, values: &[&str], number: impl Display) {
        self.line("", values, None, number);
    }

    /// The numbers of a histogram, with a value for each label of the metric.
    pub fn histogram(&mut self, values: &[&str], histogram: &Histogram) {
        let edges = histogram.edges.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (edge, count) in edges.zip(&histogram.buckets) {
            total += count;
            self.line("_bucket", values, Some(&edge), total);
        }
        self.line("_sum", values, None, histogram.sum);
        self.line("_count", values, None, total);
    }

    fn line(&mut self, suffix: &str, values: &[&str], edge: Option<&str>, number: impl Display) {
        let Metric { name, labels, .. } = self.metric;
        debug_assert_eq!(labels.len(), values.len(), "a value for each label of {name}");
        let labels = labels.iter().copied().zip(values.iter().copied());
        let labels: Vec<String> = labels
            .chain(edge.map(|edge| ("le", edge)))
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let _ = writeln!(self.written, "{name}{suffix}{{{}}} {number}", labels.join(","));
    }
}

/// How values spread over buckets, and their sum.
#[derive(Clone, Debug)]
pub struct Histogram {
    edges: &'static [f64],
    /// Values per bucket, each counted in one; the last is for those beyond every edge.
    buckets: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Buckets with these upper edges, in order, which belong to their bucket.
    #[must_use]
    pub fn new(edges: &'static [f64]) -> Self {
        Self { edges, buckets: vec![0; edges.len() + 1], sum: 0.0 }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        self.buckets[self.edges.partition_point(|edge| *edge < value)] += 1;
        self.sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_spelled_for_prometheus() {
        let (a, c) = (Metric::counter("a_total", &["b"], "As."), Metric::gauge("c", &["d", "e"], "C."));
        let mut text = Exposition::default();
        text.numbers(a, [("x", 1), ("y", 2)]);
        text.family(c).number(&["x", "0"], 1.5);
        assert_eq!(text.metrics(), [a, c]);
        let expected = "# HELP a_total As.\n# TYPE a_total counter\na_total{b=\"x\"} 1\na_total{b=\"y\"} 2\n\
                        # HELP c C.\n# TYPE c gauge\nc{d=\"x\",e=\"0\"} 1.5\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn errors_of_every_kind_are_counted() {
        let errors = Metric::counter("errors_total", &["kind"], "Errors.");
        let mut text = Exposition::default();
        text.errors(errors, &BTreeMap::from([(ErrorKind::Conflict, 3)]));
        let text = text.into_string();
        assert_eq!(text.lines().count(), 2 + ErrorKind::ALL.len(), "{text}");
        assert!(text.contains("\nerrors_total{kind=\"conflict\"} 3\n"), "{text}");
        assert!(text.contains("\nerrors_total{kind=\"internal\"} 0\n"), "{text}");
    }

    #[test]
    fn buckets_are_cumulative_and_edges_belong_to_their_bucket() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        [0.5, 0.75, 9.0].into_iter().for_each(|value| histogram.observe(value));
        let mut text = Exposition::default();
        text.family(Metric::histogram("s", &["v"], "S.")).histogram(&["x"], &histogram);
        let expected = "# HELP s S.\n# TYPE s histogram\n\
                        s_bucket{v=\"x\",le=\"0.5\"} 1\ns_bucket{v=\"x\",le=\"1\"} 2\n\
                        s_bucket{v=\"x\",le=\"+Inf\"} 3\ns_sum{v=\"x\"} 10.25\ns_count{v=\"x\"} 3\n";
        assert_eq!(text.into_string(), expected);
    }
}
