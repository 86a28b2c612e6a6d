//! Faults that are put back on purpose, to show that the simulation finds them.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// States are used whatever position they were loaded at: the protocol that `docs/exactly-once.md` replaced relied
    /// on epochs alone.
    UncheckedLoad,
    /// A flush writes half of its states in a call of its own.
    SplitFlush,
    /// A flush is applied wherever its bucket stands.
    UncheckedFlush,
    /// A table accepts rows wherever its partitions stand, as a bare Delta table does.
    UncheckedCommit,
    /// A partition is read from where the consumer group says, and not from where `events` ends.
    GroupOffsets,
}

impl Mutant {
    pub(crate) const NAMED: [(&str, Self); 5] = [
        ("unchecked-load", Self::UncheckedLoad),
        ("split-flush", Self::SplitFlush),
        ("unchecked-flush", Self::UncheckedFlush),
        ("unchecked-commit", Self::UncheckedCommit),
        ("group-offsets", Self::GroupOffsets),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant)
    }
}
