//! The comparison of idle views with the store, in one call at each tick.
//!
//! A store that falls back while nothing is written is noticed by its positions alone. Read by each view for itself, they are most of
//! what a worker with a thousand idle views does, and of what its Redis does. So a view that has nothing to write is not reconciled by itself:
//! the store compares all of them. Those that are not where they should be are reconciled then, which finds out why and restores them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tidemark_offline::Positions;
use tidemark_store::{Generation, OnlineStore};

use super::live::{Live, Reconciler};

/// The views that have nothing to write, and where they should be.
pub(super) struct Idle {
    expected: Positions,
    generations: Vec<Generation>,
    reconcilers: Vec<Reconciler>,
}

impl Idle {
    /// None yet.
    pub(super) const fn at(expected: Positions) -> Self {
        Self { expected, generations: Vec::new(), reconcilers: Vec::new() }
    }

    /// Whether it has a view to compare.
    pub(super) const fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// Adds a view that is idle, as far as this process knows.
    pub(super) fn add(&mut self, view: &Live) {
        self.generations.push(view.writer().generation().clone());
        self.reconcilers.push(view.reconciler());
    }

    /// Has the store compare them, and reconciles those that are elsewhere. Where the store fails or panics it reconciles all of them:
    /// each view then waits or ends, and says so.
    pub(super) async fn compare(self, store: Arc<dyn OnlineStore>) {
        let compared =
            AssertUnwindSafe(store.are_live_at(&self.generations, &self.expected)).catch_unwind().await;
        let mut there = compared.ok().and_then(Result::ok).unwrap_or_default().into_iter();
        for reconciler in &self.reconcilers {
            if there.next() != Some(true) {
                reconciler.reconcile(self.expected.clone());
            }
        }
    }
}
