//! Positions up to which all views have the pushed records, for senders that wait for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemark_kernel::Position;
use tokio::sync::watch;

/// Up to where every view that is up has the pushed records of each source that is running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied(Arc<Mutex<BTreeMap<String, Progress>>>);

#[derive(Debug)]
struct Progress {
    reached: watch::Sender<Position>,
    /// The end of the push partition, as far as it was told.
    end: Position,
}

impl Applied {
    /// A source takes in what is pushed from now on, and has the records before `position`.
    pub(crate) fn begin(&self, source: &str, position: Position) {
        let progress = Progress { reached: watch::Sender::new(position), end: position };
        self.0.lock().insert(source.to_owned(), progress);
    }

    /// The push partition of a source has the records before `end`.
    pub(crate) fn appended(&self, source: &str, end: Position) {
        if let Some(progress) = self.0.lock().get_mut(source) {
            progress.end = end.max(progress.end);
        }
    }

    /// How many records of a source some view does not have; none of one that is not running.
    pub(crate) fn backlog(&self, source: &str) -> i64 {
        self.0.lock().get(source).map_or(0, |progress| progress.end.0 - progress.reached.borrow().0)
    }

    /// Every view of a source has the records before `position`.
    pub(crate) fn reached(&self, source: &str, position: Position) {
        if let Some(Progress { reached, .. }) = self.0.lock().get(source) {
            reached.send_if_modified(|reached| {
                let further = position > *reached;
                *reached = position.max(*reached);
                further
            });
        }
    }

    /// A source takes in nothing any more.
    pub(crate) fn end(&self, source: &str) {
        self.0.lock().remove(source);
    }

    /// Waits until every view of a source has the records before `position`. False where the source ends before, or is
    /// not running.
    pub(crate) async fn wait(&self, source: &str, position: Position) -> bool {
        let reached = self.0.lock().get(source).map(|progress| progress.reached.subscribe());
        match reached {
            Some(mut reached) => reached.wait_for(|reached| *reached >= position).await.is_ok(),
            None => false,
        }
    }
}
