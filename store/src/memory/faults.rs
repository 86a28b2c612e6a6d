//! Losses of a store, for the tests of code that uses one.

use super::{Held, MemoryStore};

/// Everything that a [`MemoryStore`] held at one instant.
#[derive(Clone)]
pub struct Snapshot(Held);

impl MemoryStore {
    /// A copy of everything, to [fall back](Self::fall_back) to.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.held.lock().clone())
    }

    /// Falls back to an older instant, as a durable store may: after a failover, or from a backup. The numbers of
    /// generations that were begun since are not given again.
    pub fn fall_back(&self, to: &Snapshot) {
        let mut held = self.held.lock();
        let newest = held.newest.max(to.0.newest);
        *held = Held { newest, ..to.0.clone() };
    }

    /// Loses everything.
    pub fn lose(&self) {
        let mut held = self.held.lock();
        *held = Held { newest: held.newest, ..Held::default() };
    }

    /// Loses every generation, but not which of them is live: as a server does whose keys are deleted by pattern.
    pub fn lose_generations(&self) {
        self.held.lock().generations.clear();
    }
}
