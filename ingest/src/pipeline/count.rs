//! Counting what became of records.

use tidemark_kernel::Log;

use super::Pipeline;
use crate::decode::Batch;
use crate::tally::Tally;

impl Pipeline {
    /// What became of the records of a batch.
    pub(super) fn tally(&self, batch: &Batch) -> Tally {
        Tally::of(batch, &self.source, self.views.iter().map(|view| &**view.plan()))
    }

    /// Counts a batch that every view has taken. Rows of files are counted file by file, for those who asked for them.
    pub(super) fn count(&self, batch: &Batch) {
        self.watch_arrivals(batch);
        if batch.log == Log::FILE {
            return;
        }
        let tally = self.tally(batch);
        self.health.taken(&tally);
        // Who pushes is told in the answer, and must not make the process unready for everybody else.
        if batch.log != Log::PUSH {
            self.health.judge(&tally);
        }
    }
}
