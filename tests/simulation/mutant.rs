//! Faults that are put back on purpose, to show that the simulation finds them: of the protocol, in the simulated parts, and
//! of ingestion, in its own code.

use tidemark_ingest::mutant::Mutant as Ingestion;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The protocol with epochs that the one of `docs/exactly-once.md` replaced: states are used whatever position they
    /// were loaded at, and a flush may be split by entities into several calls.
    Epochs,
    /// A flush is split by entities into two calls, of which the second moves the position.
    SplitFlush,
    /// A flush is applied wherever its bucket stands.
    UncheckedFlush,
    /// A table accepts rows wherever its partitions stand, as a bare Delta table does.
    UncheckedCommit,
    /// One of ingestion's own.
    Ingestion(Ingestion),
}

impl Mutant {
    pub(crate) const NAMED: [(&str, Self); 10] = [
        ("epochs", Self::Epochs),
        ("split-flush", Self::SplitFlush),
        ("unchecked-flush", Self::UncheckedFlush),
        ("unchecked-commit", Self::UncheckedCommit),
        ("earlier-reading", Self::Ingestion(Ingestion::EarlierReading)),
        ("uncompared", Self::Ingestion(Ingestion::Uncompared)),
        ("lost-view", Self::Ingestion(Ingestion::LostView)),
        ("overlap", Self::Ingestion(Ingestion::Overlap)),
        ("applied-first", Self::Ingestion(Ingestion::AppliedFirst)),
        ("forgotten-ids", Self::Ingestion(Ingestion::ForgottenIds)),
    ];

    /// The fault of ingestion that a run puts back, if one.
    pub(crate) const fn of_ingestion(mutant: Option<Self>) -> Option<Ingestion> {
        match mutant {
            Some(Self::Ingestion(fault)) => Some(fault),
            _ => None,
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant)
    }
}
