//! The text format of Prometheus: `name{label="value"} number`, one a line, under two lines that tell of the metric.
//!
//! Each process answers the texts of its parts one after the other, so a text has no end mark, and its counters are
//! named as a whole (`…_total`): it is format 0.0.4, not OpenMetrics.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use tidemark_kernel::ErrorKind;

/// A text that grows. Writing to a string cannot fail.
///
/// Labels are names of definitions, codes and numbers: nothing in them needs escaping.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric of a kind (`counter`, `gauge` or `histogram`), whose lines follow.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A number of the metric that was begun.
    pub fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }

    /// A whole counter with one label: its values, with the count of each.
    pub fn counter<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        self.metric(name, "counter", help);
        for (value, count) in counts {
            self.line(name, &[(label, value)], count);
        }
    }

    /// A whole counter of errors: of every kind, also where none was counted, since rates need a zero to begin with.
    pub fn errors(&mut self, name: &str, help: &str, counts: &BTreeMap<ErrorKind, u64>) {
        let count = |kind: ErrorKind| counts.get(&kind).copied().unwrap_or_default();
        self.counter(name, help, "kind", ErrorKind::ALL.map(|kind| (kind.name(), count(kind))));
    }

    /// The lines of a histogram of the metric that was begun.
    pub fn histogram(&mut self, name: &str, (label, value): (&str, &str), histogram: &Histogram) {
        let edges = histogram.edges.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let (bucket, mut total) = (format!("{name}_bucket"), 0);
        for (edge, count) in edges.zip(&histogram.buckets) {
            total += count;
            self.line(&bucket, &[(label, value), ("le", &edge)], total);
        }
        self.line(&format!("{name}_sum"), &[(label, value)], histogram.sum);
        self.line(&format!("{name}_count"), &[(label, value)], total);
    }

    /// What was written.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
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
        let mut text = Exposition::default();
        text.counter("a_total", "As.", "b", [("x", 1), ("y", 2)]);
        text.metric("c", "gauge", "C.");
        text.line("c", &[("d", "x"), ("e", "0")], 1.5);
        let expected = "# HELP a_total As.\n# TYPE a_total counter\na_total{b=\"x\"} 1\na_total{b=\"y\"} 2\n\
                        # HELP c C.\n# TYPE c gauge\nc{d=\"x\",e=\"0\"} 1.5\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn errors_of_every_kind_are_counted() {
        let mut text = Exposition::default();
        text.errors("errors_total", "Errors.", &BTreeMap::from([(ErrorKind::Conflict, 3)]));
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
        text.histogram("s", ("v", "x"), &histogram);
        let expected = "s_bucket{v=\"x\",le=\"0.5\"} 1\ns_bucket{v=\"x\",le=\"1\"} 2\n\
                        s_bucket{v=\"x\",le=\"+Inf\"} 3\ns_sum{v=\"x\"} 10.25\ns_count{v=\"x\"} 3\n";
        assert_eq!(text.into_string(), expected);
    }
}
