//! How values spread over buckets.

use std::sync::{Mutex, PoisonError};

/// Counts of values by bucket, and their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    edges: &'static [f64],
    counts: Mutex<Counts>,
}

#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Values per bucket, each counted in one; the last is for those beyond every edge.
    pub(super) buckets: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    /// Buckets with these upper edges, which belong to their bucket.
    pub(super) fn new(edges: &'static [f64]) -> Self {
        let counts = Counts { buckets: vec![0; edges.len() + 1], sum: 0.0 };
        Self { edges, counts: Mutex::new(counts) }
    }

    pub(super) fn observe_all(&self, values: impl IntoIterator<Item = f64>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            counts.buckets[self.edges.partition_point(|edge| *edge < value)] += 1;
            counts.sum += value;
        }
    }

    pub(super) const fn edges(&self) -> &'static [f64] {
        self.edges
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
