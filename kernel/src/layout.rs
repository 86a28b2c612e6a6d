//! Layouts of states: up to which instant tiles are coarsened, and how a large state is split into parts by cells of
//! time.

use crate::time::{Span, Time};

/// How a state is laid out in tiles and bytes. All states of a generation have one layout, so that all workers
/// write equal bytes for equal events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// One piece: each flush writes all of it. Tiles have grown by the retention horizon.
    One = 1,
    /// A busy state is in parts, of which a flush writes those that have changed: most often only the newest. So that the others
    /// stay as they are, tiles grow once in a *cell* of time and not with each event.
    #[default]
    Two = 2,
}

/// How many cells there are in a `time_travel` at most; more than half as many at least. The more there are, the less does a flush
/// write, and the more parts has a state.
const CELLS: u64 = 16;

/// How many tiles are not older than the horizon where a state is in parts. With fewer, the bytes saved would be few, and
/// each part costs a store as much as some tiles.
pub(crate) const BUSY: usize = 24;

impl Layout {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// The one whose states begin with this byte.
    pub(crate) fn from_version(version: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| *layout as u8 == version)
    }

    /// The instant by which the tiles of a state with this horizon have grown: not after the horizon, since questions about
    /// any instant from there on must be answered.
    pub(crate) fn grown_to(self, time_travel: Span, horizon: Time) -> Time {
        match self {
            Self::One => horizon,
            Self::Two => horizon.floor(Cells::of(time_travel).0),
        }
    }
}

/// Cells of event time: `[n * length, (n + 1) * length)` is cell `n`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells(Span);

impl Cells {
    /// Those of a view with this `time_travel`: their length is a power of two in milliseconds, and between a sixteenth and an eighth
    /// of the `time_travel`, or one millisecond.
    pub(crate) fn of(time_travel: Span) -> Self {
        let sixteenth = time_travel.millis().unsigned_abs() / CELLS;
        let length = sixteenth.max(1).next_power_of_two();
        Self(Span::from_millis(i64::try_from(length).unwrap_or(i64::MAX)))
    }

    /// The cell around an instant.
    pub(crate) const fn around(self, time: Time) -> i64 {
        time.millis().div_euclid(self.0.millis())
    }

    /// The first instant of a cell.
    pub(crate) const fn start(self, cell: i64) -> Time {
        Time::from_millis(cell.saturating_mul(self.0.millis()))
    }
}
