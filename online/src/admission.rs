//! How many rows are answered at once. A row costs memory until its answer is sent, and clients choose how many they ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tidemark_host::Host;
use tidemark_proto::prometheus::{Exposition, Metric};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::LookupError;

/// Every metric of this file.
pub(crate) const METRICS: [Metric; 2] = [ROWS, WAITING];

const ROWS: Metric =
    Metric::gauge("tidemark_lookup_rows_in_progress", &[], "Rows of the calls that are being answered.");
const WAITING: Metric = Metric::gauge(
    "tidemark_lookup_calls_waiting",
    &[],
    "Lookup calls that wait until there is room for their rows.",
);

/// How many rows a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLimits {
    /// In one call.
    pub per_call: usize,
    /// In all calls under way: at least as many as in one call.
    pub in_progress: usize,
    /// How long a call waits for others to end.
    pub patience: Duration,
}

impl RowLimits {
    /// The limits for calls of so many rows.
    #[must_use]
    pub const fn of_calls(rows: usize) -> Self {
        Self { per_call: rows, in_progress: rows.saturating_mul(CALLS), patience: Duration::from_secs(5) }
    }
}

impl Default for RowLimits {
    fn default() -> Self {
        Self::of_calls(10_000)
    }
}

/// How many calls of the largest size are answered at once.
const CALLS: usize = 4;

/// Lets calls in while there is room for their rows.
pub(crate) struct Admission {
    limits: RowLimits,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Room for the rows of a call, until it is dropped.
pub(crate) struct Admitted {
    _room: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(limits: RowLimits) -> Self {
        // A semaphore gives as many at once as fit into 32 bits.
        let per_call = limits.per_call.min(u32::MAX as usize);
        let in_progress = limits.in_progress.clamp(per_call, Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(in_progress));
        Self { limits: RowLimits { per_call, in_progress, ..limits }, room, waiting: AtomicUsize::new(0) }
    }

    /// How many rows a call may have.
    pub(crate) const fn per_call(&self) -> usize {
        self.limits.per_call
    }

    /// Waits until there is room for this many rows. Dropped before, it waits no more.
    ///
    /// # Errors
    /// Fails where no call may have as many, and where there is no room in time.
    pub(crate) async fn admit(&self, host: &Host, rows: usize) -> Result<Admitted, LookupError> {
        let RowLimits { per_call, in_progress, patience } = self.limits;
        let too_many = LookupError::TooManyRows { rows, limit: per_call };
        let wanted = u32::try_from(rows).ok().filter(|_| rows <= per_call).ok_or(too_many)?;
        let _waiting = Waiting::count(&self.waiting);
        match host.timeout(patience, Arc::clone(&self.room).acquire_many_owned(wanted)).await {
            Some(Ok(room)) => Ok(Admitted { _room: room }),
            // Nothing closes the semaphore.
            Some(Err(_)) | None => Err(LookupError::Overloaded { rows: in_progress }),
        }
    }

    /// Its metrics, in Prometheus' text form.
    pub(crate) fn render(&self) -> String {
        let mut text = Exposition::default();
        let taken = self.limits.in_progress.saturating_sub(self.room.available_permits());
        text.family(ROWS).number(&[], taken);
        text.family(WAITING).number(&[], self.waiting.load(Relaxed));
        text.into_string()
    }
}

/// One that waits, also where it is dropped while it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::error::{ErrorKind, Explain};
    use tidemark_kernel::time::Time;

    use super::*;

    fn host() -> Host {
        Host::real(Arc::new(Time::default))
    }

    #[tokio::test]
    async fn rows_are_admitted_while_there_is_room() {
        let patience = Duration::from_millis(1);
        let admission = Admission::new(RowLimits { per_call: 3, in_progress: 5, patience });
        let (three, two) = (admission.admit(&host(), 3).await, admission.admit(&host(), 2).await);
        let (three, two) = (three.expect("room"), two.expect("room"));
        assert!(admission.render().contains("tidemark_lookup_rows_in_progress{} 5\n"));
        let refused = admission.admit(&host(), 1).await.err().expect("no room");
        assert_eq!(refused.kind(), ErrorKind::Overloaded);
        assert!(admission.admit(&host(), 0).await.is_ok(), "a call without rows needs no room");
        drop(three);
        assert!(admission.admit(&host(), 1).await.is_ok());
        drop(two);
        assert!(admission.render().contains("tidemark_lookup_rows_in_progress{} 0\n"));
        let refused = admission.admit(&host(), 4).await.err().expect("too many");
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        assert_eq!(
            refused.explained(),
            "the call has 4 rows, and 3 are allowed; send the rows in several calls, or raise `lookups: {rows: …}` in \
             tidemark.yaml"
        );
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_waits_no_more() {
        let patience = Duration::from_secs(600);
        let admission = Admission::new(RowLimits { per_call: 1, in_progress: 1, patience });
        let host = host();
        let first = admission.admit(&host, 1).await.expect("room");
        let mut second = Box::pin(admission.admit(&host, 1));
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert!(admission.render().contains("tidemark_lookup_calls_waiting{} 1\n"));
        drop(second);
        assert!(admission.render().contains("tidemark_lookup_calls_waiting{} 0\n"));
        drop(first);
        assert!(admission.admit(&host, 1).await.is_ok());
    }
}
