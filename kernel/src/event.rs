//! Events, the partitions of a source, and offsets and positions in them.

use std::fmt;

use crate::time::Time;
use crate::value::Value;

/// One partition of a source: an ordered, append-only sequence of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

impl Partition {
    /// The one file partition of a source: all files in the order first taken in.
    pub const FILE: Self = Self(-1);
    /// The one push partition of a source: events sent to the ingest service.
    pub const PUSH: Self = Self(-2);
    /// The list of a source's retractions. It has no events: states are begun at a position in it, and stay there. States
    /// at a position before its end hold rows that were taken back since.
    pub const RETRACTIONS: Self = Self(-3);
}

/// What a [`Partition`] is, by its number. To be matched instead of comparing numbers, so that a new kind does not compile before
/// every decision about kinds is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionKind {
    /// [`Partition::FILE`].
    File,
    /// [`Partition::PUSH`].
    Push,
    /// [`Partition::RETRACTIONS`].
    Retractions,
    /// One of several that workers share, by its number.
    Shared(i32),
}

impl Partition {
    /// What it is.
    #[must_use]
    pub const fn kind(self) -> PartitionKind {
        match self {
            Self::FILE => PartitionKind::File,
            Self::PUSH => PartitionKind::Push,
            Self::RETRACTIONS => PartitionKind::Retractions,
            Self(partition) => PartitionKind::Shared(partition),
        }
    }

    /// Whether other workers may read it as well.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self.kind(), PartitionKind::Shared(_))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            PartitionKind::File => f.write_str("file"),
            PartitionKind::Push => f.write_str("push"),
            PartitionKind::Retractions => f.write_str("retractions"),
            PartitionKind::Shared(partition) => write!(f, "{partition}"),
        }
    }
}

/// An event's place in its partition, from 0. A [position](Position) is the next offset to read.
pub type Offset = i64;

/// The next offset to read from a partition: everything before it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub Offset);

impl Position {
    /// The start of every partition that Tidemark itself keeps.
    pub const START: Self = Self(0);

    /// Behind every record: where a partition ends whose end is not known yet, because a file of it is being read.
    pub const UNBOUNDED: Self = Self(Offset::MAX);

    /// The position where it is known, none for [`UNBOUNDED`](Self::UNBOUNDED).
    #[must_use]
    pub fn bounded(self) -> Option<Self> {
        (self != Self::UNBOUNDED).then_some(self)
    }

    /// The position just after `offset`.
    #[must_use]
    pub const fn after(offset: Offset) -> Self {
        Self(offset + 1)
    }

    /// Whether the record at `offset` was read already.
    #[must_use]
    pub const fn covers(self, offset: Offset) -> bool {
        offset < self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of the records of a partition, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionRange {
    /// The first record inside.
    pub start: Position,
    /// The first record after it. A range that ends at its start, or before it, is empty.
    pub end: Position,
}

impl PositionRange {
    /// Whether the record at `offset` lies inside.
    #[must_use]
    pub const fn contains(self, offset: Offset) -> bool {
        self.start.0 <= offset && offset < self.end.0
    }
}

/// Where and when an event is: everything about it but its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The partition that holds it.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// When it happened.
    pub event_time: Time,
    /// When the system could first have known it.
    pub arrival_time: Time,
}

impl Stamp {
    /// The total order of events: by event time, ties by partition, then by offset.
    #[must_use]
    pub const fn order(&self) -> Order {
        Order { event_time: self.event_time, partition: self.partition, offset: self.offset }
    }
}

/// The total order of events: by event time, ties by partition, then by offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// When the event happened.
    pub event_time: Time,
    /// The partition that holds it.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
}

/// An event as one view sees it: it has passed the view's filter and its key is not null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where and when.
    pub stamp: Stamp,
    /// One value for each [aggregate](crate::plan::Aggregate) of the plan, null where it skips the event.
    pub inputs: Vec<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_numbers_are_no_shared_partitions() {
        let kinds = [Partition::FILE, Partition::PUSH, Partition::RETRACTIONS, Partition(0), Partition(7)]
            .map(Partition::kind);
        let expected = [
            PartitionKind::File,
            PartitionKind::Push,
            PartitionKind::Retractions,
            PartitionKind::Shared(0),
            PartitionKind::Shared(7),
        ];
        assert_eq!(kinds, expected);
        assert_eq!([Partition::FILE, Partition(0)].map(Partition::is_shared), [false, true]);
    }

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        let range = PositionRange { start: Position(3), end: Position(5) };
        assert_eq!([2, 3, 4, 5].map(|offset| range.contains(offset)), [false, true, true, false]);
        assert!(!PositionRange { end: Position(2), ..range }.contains(2));
        assert_eq!([Position(3), Position::UNBOUNDED].map(Position::bounded), [Some(Position(3)), None]);
    }
}
