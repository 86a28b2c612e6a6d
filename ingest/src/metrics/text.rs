//! The text format of Prometheus: `name{label="value"} number`, one a line.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Counter;
use super::histogram::Histogram;

/// A text that grows. Writing to a string cannot fail.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Labels are names of definitions, codes and numbers: nothing in them needs escaping.
    pub(super) fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }

    pub(super) fn counters<T>(
        &mut self,
        label: &str,
        counters: &[Counter<T>],
        of: &BTreeMap<String, Arc<T>>,
    ) {
        for (name, help, counter) in counters {
            self.head(name, "counter", help);
            for (value, holder) in of {
                self.line(name, &[(label, value)], counter(holder).load(Relaxed));
            }
        }
    }

    pub(super) fn histograms<T>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        of: &BTreeMap<String, Arc<T>>,
        histogram: impl Fn(&T) -> &Histogram,
    ) {
        self.head(name, "histogram", help);
        for (value, holder) in of {
            let histogram = histogram(holder);
            let counts = histogram.counts();
            let edges = histogram.edges().iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let mut total = 0;
            for (edge, count) in edges.zip(&counts.buckets) {
                total += count;
                self.line(&format!("{name}_bucket"), &[(label, value), ("le", &edge)], total);
            }
            self.line(&format!("{name}_sum"), &[(label, value)], counts.sum);
            self.line(&format!("{name}_count"), &[(label, value)], total);
        }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}
