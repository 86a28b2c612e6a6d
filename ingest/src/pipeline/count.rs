//! Counting what became of records.

use tidemark_kernel::Partition;

use super::Pipeline;
use crate::decode::Batch;
use crate::tally::Tally;

impl Pipeline {
    /// What became of the records of a batch.
    pub(super) fn tally(&self, batch: &Batch) -> Tally {
        Tally::of(batch, &self.source, self.views.iter().map(|view| &**view.plan()))
    }

    /// Counts a batch, and its events that were left out as repetitions. Rows of files are counted file by file, for those who
    /// asked for them.
    pub(super) fn count(&self, batch: &Batch, repeated: u64) {
        self.watch_arrivals(batch);
        self.metrics.repeated(repeated);
        if batch.partition == Partition::FILE {
            return;
        }
        let tally = self.tally(batch);
        self.health.taken(&tally.clone().with_repeated(repeated));
        // The sender of a push learns it from the answer, and must not make the process unready for all others.
        if batch.partition != Partition::PUSH {
            self.health.judge(&tally);
        }
    }
}
