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
    /// A flush is applied whatever the position of its bucket.
    UncheckedFlush,
    /// A table accepts rows whatever the positions of its partitions, as a bare Delta table does.
    UncheckedCommit,
    /// One of ingestion's own.
    Ingestion(Ingestion),
}

impl Mutant {
    /// Each with the seed from which on it is looked for: shortly before one that finds it, so that the tests take little time. After
    /// a change that gives the seeds other histories, seeds from there on may take longer, and these numbers are worth a look.
    pub(crate) const NAMED: [(&str, Self, u64); 10] = [
        ("epochs", Self::Epochs, 40),
        ("split-flush", Self::SplitFlush, 40),
        ("unchecked-flush", Self::UncheckedFlush, 70),
        ("unchecked-commit", Self::UncheckedCommit, 0),
        ("earlier-reading", Self::Ingestion(Ingestion::EarlierReading), 300),
        ("uncompared", Self::Ingestion(Ingestion::Uncompared), 140),
        ("lost-view", Self::Ingestion(Ingestion::LostView), 0),
        ("overlap", Self::Ingestion(Ingestion::Overlap), 35),
        ("applied-first", Self::Ingestion(Ingestion::AppliedFirst), 0),
        ("forgotten-ids", Self::Ingestion(Ingestion::ForgottenIds), 0),
    ];

    /// The fault of ingestion that a run puts back, if one.
    pub(crate) const fn of_ingestion(mutant: Option<Self>) -> Option<Ingestion> {
        match mutant {
            Some(Self::Ingestion(fault)) => Some(fault),
            _ => None,
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, ..)| *known == name).map(|(_, mutant, _)| *mutant)
    }
}
