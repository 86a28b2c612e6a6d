//! Faults that the simulation switches on to show that it finds them; most of them were once real. They exist only in
//! builds with the feature `mutants`.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// A fault, by what it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// States count that were made before the version of their source changed, and changed back.
    EarlierReading,
    /// A view is not compared with `events`: it stays behind where catching up was cut short.
    Uncompared,
    /// A live generation that was lost is opened again and again.
    LostView,
    /// A batch that overlaps what was taken is added whole, and its dead letters are committed without a look at `events`.
    Overlap,
    /// Views get the records of a compacted topic before `events` holds them.
    AppliedFirst,
    /// A worker that takes over a partition starts without the ids of its events.
    ForgottenIds,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Puts a fault back, or none, for all ingestion on this thread from now on.
#[cfg(feature = "mutants")]
pub fn put_back(mutant: Option<Mutant>) {
    ON.set(mutant);
}

/// Whether a fault is put back.
#[cfg(feature = "mutants")]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// None is.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_on(_: Mutant) -> bool {
    false
}
