//! Forgetting states that are not needed any more, a few at a time.
//!
//! Stores that do not forget by themselves are walked through over and over: [`OnlineStore::expire`] is one step. What
//! may be forgotten is decided here, by the kernel's [`Retention`] and by how far each partition was read: the clock alone
//! would forget states while their partition is not read, and events that continue them would then begin from nothing. So a
//! partition that is not read forgets nothing, however long the pause.
//!
//! [`OnlineStore::expire`]: crate::OnlineStore::expire

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tidemark_kernel::event::Partition;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::retention::Retention;
use tidemark_kernel::time::Time;

/// Says from its bytes how long a state is needed that was stored without saying so; none: for good. Versions before
/// format 2 of the embedded store wrote such states.
pub type Judge = Arc<dyn Fn(&[u8]) -> Option<Retention> + Send + Sync>;

/// A walk through the states of one generation, over and over, that forgets those that are not needed any more.
#[derive(Clone)]
pub struct Sweep {
    judge: Judge,
    /// The last entity of the step before; none at the start of a round.
    after: Option<EntityKey>,
    /// The newest arrival among the states of each partition, as whole rounds have found it.
    reached: BTreeMap<Partition, Time>,
    /// The newest arrivals that this round has found so far.
    found: BTreeMap<Partition, Time>,
}

/// What is stored beside a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// When it was written, by the clock of the store.
    pub(crate) written: Time,
    /// How long it is needed; none: for good.
    pub(crate) retention: Option<Retention>,
}

impl Sweep {
    /// A walk that begins with the first entity. Its first round only finds out how far each partition was read.
    #[must_use]
    pub fn new(judge: Judge) -> Self {
        Self { judge, after: None, reached: BTreeMap::new(), found: BTreeMap::new() }
    }

    /// Whether the last step has ended a round.
    #[must_use]
    pub const fn is_at_start(&self) -> bool {
        self.after.is_none()
    }

    /// The entity after which the next step begins.
    pub(crate) const fn after(&self) -> Option<&EntityKey> {
        self.after.as_ref()
    }

    /// How long a state is needed that does not say so.
    pub(crate) fn judge(&self, state: &[u8]) -> Option<Retention> {
        (self.judge)(state)
    }

    /// Takes note of a state that is met with, and says whether it may be forgotten at `now`.
    pub(crate) fn meet(&mut self, partition: Partition, term: Term, now: Time) -> bool {
        if let Some(retention) = term.retention {
            let found = self.found.entry(partition).or_insert(retention.since);
            *found = retention.since.max(*found);
        }
        self.is_due(partition, term, now)
    }

    /// Whether a state may be forgotten at `now`.
    pub(crate) fn is_due(&self, partition: Partition, term: Term, now: Time) -> bool {
        let Some(retention) = term.retention else { return false };
        let reached = self.reached.get(&partition);
        retention.expiry(term.written) <= now && reached.is_some_and(|reached| retention.passed() <= *reached)
    }

    /// A step has ended with the entity `last`, or with the last one of all.
    pub(crate) fn step(&mut self, last: Option<EntityKey>) {
        self.after = last;
        if self.after.is_none() {
            for (partition, found) in std::mem::take(&mut self.found) {
                let reached = self.reached.entry(partition).or_insert(found);
                *reached = found.max(*reached);
            }
        }
    }
}

impl fmt::Debug for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep")
            .field("after", &self.after)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}
