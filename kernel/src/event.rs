//! Events and their place in partitions.

use std::fmt;

use crate::time::Time;
use crate::value::Value;

/// One partition of a source: an ordered, append-only run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

impl Partition {
    /// The one file partition of a source: all files in the order first taken in.
    pub const FILE: Self = Self(-1);
    /// The one push partition of a source: events sent to the ingest service.
    pub const PUSH: Self = Self(-2);
    /// The list of a source's retractions. It has no events: states are begun at a position in it, and stay there. States
    /// that stand before its end hold rows that were taken back since.
    pub const RETRACTIONS: Self = Self(-3);
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FILE => f.write_str("file"),
            Self::PUSH => f.write_str("push"),
            Self::RETRACTIONS => f.write_str("retractions"),
            Self(partition) => write!(f, "{partition}"),
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
