//! State: for each (view, entity, partition) one list of disjoint tiles that grow coarser with age.
//!
//! The list is a pure function of the events applied from that partition: their order, and when tiles were grown, make
//! no difference to its bytes. It is written by the partition's owner alone and merged with the lists of the entity's
//! other partitions when a question is [answered](crate::answer).
//!
//! A busy entity has thousands of tiles, of which a batch of events changes a few. So the aggregates of a tile stay
//! encoded until an event or a coarser tile needs them, encoding copies the bytes of all others, and what is written is
//! a [change](PartitionState::change) of the parts that have changed.

mod bytes;

use std::borrow::Cow;

use self::bytes::PartAt;
use crate::aggregate::State;
use crate::codec::{Reader, Writer};
use crate::defect::defect;
use crate::event::{Offset, Stamp};
use crate::layout::Layout;
use crate::plan::FeaturePlan;
use crate::span::Grid;
use crate::time::{Time, TimeRange};
use crate::value::Value;

/// What is kept of the events in one span.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The span.
    pub span: TimeRange,
    /// The event time of its newest event.
    pub newest: Time,
    body: Body,
}

/// One state per aggregate of the plan.
#[derive(Clone, Debug)]
enum Body {
    /// Encoded: where in the `body` of the [`PartitionState`].
    Encoded { start: u32, end: u32 },
    /// Decoded, to be changed.
    Decoded(Box<[State]>),
}

impl Body {
    /// None beyond 4 GiB, which is more than any store takes.
    fn encoded(start: usize, end: usize) -> Option<Self> {
        Some(Self::Encoded { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
    }
}

impl Tile {
    fn empty(plan: &FeaturePlan, span: TimeRange) -> Self {
        let states = plan.aggregates.iter().map(|aggregate| State::empty(aggregate.kind)).collect();
        Self { span, newest: Time::NEG_INFINITY, body: Body::Decoded(states) }
    }

    fn encoded<'b>(&'b self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        match &self.body {
            Body::Encoded { start, end } => Cow::Borrowed(&bytes[*start as usize..*end as usize]),
            Body::Decoded(states) => {
                let mut out = Writer::new();
                states.iter().for_each(|state| state.encode(&mut out));
                Cow::Owned(out.into_bytes())
            }
        }
    }

    fn states<'b>(&'b self, plan: &FeaturePlan, bytes: &[u8]) -> Cow<'b, [State]> {
        match &self.body {
            Body::Encoded { .. } => Cow::Owned(decoded(plan, &self.encoded(bytes))),
            Body::Decoded(states) => Cow::Borrowed(states),
        }
    }

    fn states_mut(&mut self, plan: &FeaturePlan, bytes: &[u8]) -> &mut [State] {
        if let Body::Encoded { .. } = self.body {
            self.body = Body::Decoded(self.states(plan, bytes).into_owned().into_boxed_slice());
        }
        match &mut self.body {
            Body::Decoded(states) => states,
            Body::Encoded { .. } => unreachable!("it was decoded above"),
        }
    }

    /// Takes in all that a later tile has seen.
    fn merge(&mut self, plan: &FeaturePlan, bytes: &[u8], other: &Self) {
        self.newest = self.newest.max(other.newest);
        other.merge_into(plan, bytes, self.states_mut(plan, bytes), |_| true);
    }

    /// Merges the states of the aggregates that are `wanted` into those of `merged`.
    fn merge_into(
        &self,
        plan: &FeaturePlan,
        bytes: &[u8],
        merged: &mut [State],
        wanted: impl Fn(usize) -> bool,
    ) {
        let mut merge = |index: usize, state: &State| {
            if wanted(index) {
                merged[index].merge(state);
            }
        };
        match &self.body {
            Body::Encoded { .. } => {
                each_encoded(plan, &self.encoded(bytes), |index, state| merge(index, &state));
            }
            Body::Decoded(states) => states.iter().enumerate().for_each(|(index, state)| merge(index, state)),
        }
    }
}

/// The states of a tile from its bytes.
fn decoded(plan: &FeaturePlan, encoded: &[u8]) -> Vec<State> {
    let mut states = Vec::with_capacity(plan.aggregates.len());
    each_encoded(plan, encoded, |_, state| states.push(state));
    states
}

/// Decodes one state of a tile after the other, each with the index of its aggregate.
fn each_encoded(plan: &FeaturePlan, encoded: &[u8], mut each: impl FnMut(usize, State)) {
    let mut from = Reader::new(encoded);
    for (index, aggregate) in plan.aggregates.iter().enumerate() {
        let state = State::decode(aggregate.kind, &mut from);
        each(index, state.expect("they were checked when they came in, or this process encoded them"));
    }
}

/// The state of one entity in one view from one partition.
#[derive(Clone, Debug)]
pub struct PartitionState {
    layout: Layout,
    last_offset: Offset,
    newest_arrival: Time,
    /// Oldest first. Disjoint, and where `coarsened`, each the span that the grid gives it.
    tiles: Vec<Tile>,
    coarsened: bool,
    /// The first tile that may have changed since `body` was read or written; those before are as they are there.
    changed_from: usize,
    /// The tiles as they were decoded from or last encoded to: where those that have not changed since have their
    /// aggregates.
    body: Vec<u8>,
    /// The parts of the body, one after the other; none where it is one piece.
    parts: Box<[PartAt]>,
}

impl Default for PartitionState {
    fn default() -> Self {
        Self::with_layout(Layout::default())
    }
}

/// Equality of what was applied, however much of it is decoded.
impl PartialEq for PartitionState {
    fn eq(&self, other: &Self) -> bool {
        let applied = |state: &Self| {
            (state.layout, state.last_offset, state.newest_arrival, state.coarsened, state.tiles.len())
        };
        let equal = |(mine, theirs): (&Tile, &Tile)| {
            (mine.span, mine.newest) == (theirs.span, theirs.newest)
                && mine.encoded(&self.body) == theirs.encoded(&other.body)
        };
        applied(self) == applied(other) && self.tiles.iter().zip(&other.tiles).all(equal)
    }
}

impl Eq for PartitionState {}

impl PartitionState {
    /// The state before any event, in the newest layout.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty state in this layout, which it keeps.
    #[must_use]
    pub fn with_layout(layout: Layout) -> Self {
        Self {
            layout,
            last_offset: -1,
            newest_arrival: Time::NEG_INFINITY,
            tiles: Vec::new(),
            coarsened: true,
            changed_from: 0,
            body: Vec::new(),
            parts: Box::default(),
        }
    }

    /// How it is laid out, which never changes.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The offset of the last event applied, -1 before any.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.last_offset
    }

    /// The newest arrival time applied, minus infinity before any.
    #[must_use]
    pub const fn newest_arrival(&self) -> Time {
        self.newest_arrival
    }

    /// This partition's retention horizon: the newest arrival applied, less the view's `time_travel`.
    #[must_use]
    pub fn horizon(&self, plan: &FeaturePlan) -> Time {
        self.newest_arrival.minus(plan.time_travel)
    }

    /// The instant by which tiles have grown: none that begins later is longer than a tick.
    fn grown_to(&self, plan: &FeaturePlan) -> Time {
        self.layout.grown_to(plan.time_travel, self.horizon(plan))
    }

    /// The tiles, oldest first.
    #[must_use]
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// The tiles that lie within a range as a whole, oldest first. One that straddles an edge of it is left out; the grid
    /// keeps tiles off the edges that an allowed question can ask about.
    pub(crate) fn tiles_within(&self, range: TimeRange) -> &[Tile] {
        let until = &self.tiles[..self.tiles.partition_point(|tile| tile.span.end <= range.end)];
        &until[until.partition_point(|tile| tile.span.start < range.start)..]
    }

    /// What one of its tiles keeps: one state per aggregate of the plan.
    #[must_use]
    pub fn states<'s>(&'s self, plan: &FeaturePlan, tile: &'s Tile) -> Cow<'s, [State]> {
        tile.states(plan, &self.body)
    }

    /// Merges what one of its tiles keeps for the aggregates that are `wanted` into `merged`, which has a state per
    /// aggregate.
    pub(crate) fn merge_tile(
        &self,
        plan: &FeaturePlan,
        tile: &Tile,
        merged: &mut [State],
        wanted: impl Fn(usize) -> bool,
    ) {
        tile.merge_into(plan, &self.body, merged, wanted);
    }

    /// How many bytes of memory it has allocated, as long as no event is applied after it was [encoded](Self::encode) or
    /// decoded.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.body.capacity() + self.tiles.capacity() * size_of::<Tile>() + size_of_val(&*self.parts)
    }

    /// Applies one event that has passed the view's filter and key, with one input per aggregate of the plan.
    ///
    /// Events come in partition order; one at or before [`last_offset`](Self::last_offset) was applied already and
    /// changes nothing. An event too old for any allowed question still moves the horizon and the last offset.
    pub fn apply(&mut self, plan: &FeaturePlan, stamp: &Stamp, inputs: &[Value]) {
        if stamp.offset <= self.last_offset {
            return;
        }
        self.admit(plan, stamp, inputs);
    }

    /// Applies an event whatever its offset: replays admit events in the order in which they become visible.
    pub(crate) fn admit(&mut self, plan: &FeaturePlan, stamp: &Stamp, inputs: &[Value]) {
        self.last_offset = self.last_offset.max(stamp.offset);
        if stamp.arrival_time > self.newest_arrival {
            let grown_to = self.grown_to(plan);
            self.newest_arrival = stamp.arrival_time;
            self.coarsened &= self.grown_to(plan) == grown_to;
        }
        if let Some(index) = self.tile_for(plan, stamp.event_time) {
            self.changed_from = self.changed_from.min(index);
            let tile = &mut self.tiles[index];
            tile.newest = tile.newest.max(stamp.event_time);
            let states = tile.states_mut(plan, &self.body);
            if states.len() != inputs.len() {
                defect("an event has an input for each aggregate", &(states.len(), inputs.len()));
            }
            for (state, input) in states.iter_mut().zip(inputs) {
                state.apply(input, stamp.order());
            }
        }
    }

    /// The index of the tile around `time`. One that has not grown yet is as good as the one it will grow into; a new one
    /// must not overlap those that have not grown, so it is as fine as needed and grows with them.
    fn tile_for(&mut self, plan: &FeaturePlan, time: Time) -> Option<usize> {
        let next = self.tiles.partition_point(|tile| tile.span.start <= time);
        let before = next.checked_sub(1).map(|before| self.tiles[before].span);
        if before.is_some_and(|before| before.contains(time)) {
            return Some(next - 1);
        }
        let (grown_to, finest) = (self.grown_to(plan), TimeRange { start: time, end: time.next() });
        // Nothing coarser ends by then. Most events are that new, and need no look at the windows.
        let new = time >= grown_to && !plan.windows.is_empty();
        let span = if new { finest } else { Grid::new(&plan.windows, grown_to).span(time)? };
        let overlaps = before.is_some_and(|before| before.end > span.start)
            || self.tiles.get(next).is_some_and(|after| after.span.start < span.end);
        let span = if overlaps { finest } else { span };
        if self.tiles.len() == self.tiles.capacity() {
            // Most states have few tiles, and a cache may keep millions of states.
            self.tiles.reserve_exact(1 + self.tiles.len() / 4);
        }
        self.tiles.insert(next, Tile::empty(plan, span));
        Some(next)
    }

    /// Grows every tile to the span that the horizon gives it. Once per flush is enough: growing sooner or later
    /// ends in the same tiles.
    pub fn coarsen(&mut self, plan: &FeaturePlan) {
        if self.coarsened {
            return;
        }
        self.coarsened = true;
        self.changed_from = 0;
        let grown_to = self.grown_to(plan);
        let grid = Grid::new(&plan.windows, grown_to);
        // A tile from there on is as fine as can be and does not grow; without windows there is none at all.
        let old = |tile: &Tile| tile.span.start < grown_to || plan.windows.is_empty();
        let aged = self.tiles.partition_point(old);
        let mut kept = 0;
        for index in 0..aged {
            let Some(span) = grid.grown(self.tiles[index].span) else { continue };
            let (before, rest) = self.tiles.split_at_mut(index);
            match before[..kept].last_mut().filter(|last| last.span == span) {
                Some(last) => last.merge(plan, &self.body, &rest[0]),
                None => {
                    self.tiles.swap(kept, index);
                    self.tiles[kept].span = span;
                    kept += 1;
                }
            }
        }
        self.tiles.drain(kept..aged);
    }
}
