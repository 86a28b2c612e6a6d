//! State: for each (view, entity, log) one list of disjoint tiles that grow coarser with age.
//!
//! The list is a pure function of the events applied from that log: their order, and when tiles were grown, make
//! no difference to its bytes. It is written by the log's owner alone and merged with the lists of the entity's
//! other logs when a question is [answered](crate::answer).

use crate::aggregate::State;
use crate::codec::{DecodeError, Reader, Writer};
use crate::event::{Offset, Stamp};
use crate::plan::FeaturePlan;
use crate::span::{Grid, TileSpan};
use crate::time::Time;
use crate::value::Value;

/// The first byte of every stored state: the version of this layout.
///
/// Layout 1, integers as varints, signed ones zigzag: version (1 byte), last offset, newest arrival (ms), number of
/// tiles; then each tile, oldest first: kind (0 bounded, 1 without a beginning), start (bounded only: its distance
/// from the previous tile's end, or for the first tile the instant itself), length (without a beginning: the end),
/// how long before the end its newest event was (ms), and one state per aggregate of the plan.
pub const LAYOUT: u8 = 1;

/// What is kept of the events in one span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The span.
    pub span: TileSpan,
    /// The event time of its newest event.
    pub newest: Time,
    /// One state per aggregate of the plan.
    pub states: Box<[State]>,
}

impl Tile {
    fn empty(plan: &FeaturePlan, span: TileSpan) -> Self {
        let states = plan.aggregates.iter().map(|aggregate| State::empty(aggregate.kind)).collect();
        Self { span, newest: Time::NEG_INFINITY, states }
    }

    fn merge(&mut self, other: &Self) {
        self.newest = self.newest.max(other.newest);
        for (mine, theirs) in self.states.iter_mut().zip(&other.states) {
            mine.merge(theirs);
        }
    }
}

/// The state of one entity in one view from one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    last_offset: Offset,
    newest_arrival: Time,
    /// Oldest first. Disjoint, and where `settled`, each the span that the grid gives it.
    tiles: Vec<Tile>,
    settled: bool,
}

impl Default for LogState {
    fn default() -> Self {
        Self { last_offset: -1, newest_arrival: Time::NEG_INFINITY, tiles: Vec::new(), settled: true }
    }
}

impl LogState {
    /// The state before any event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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

    /// This log's horizon `R`: the newest arrival applied, less the view's `head`.
    #[must_use]
    pub fn horizon(&self, plan: &FeaturePlan) -> Time {
        self.newest_arrival.minus(plan.head)
    }

    /// The tiles, oldest first.
    #[must_use]
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// Applies one event that has passed the view's filter and key, with one input per aggregate of the plan.
    ///
    /// Events come in log order; one at or before [`last_offset`](Self::last_offset) was applied already and
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
            self.newest_arrival = stamp.arrival_time;
            self.settled = false;
        }
        if let Some(tile) = self.tile_for(plan, stamp.event_time) {
            tile.newest = tile.newest.max(stamp.event_time);
            for (state, input) in tile.states.iter_mut().zip(inputs) {
                state.apply(input, stamp.order());
            }
        }
    }

    /// The tile around `time`. One that has not grown yet is as good as the one it will grow into; a new one must
    /// not overlap those that have not grown, so it is as fine as needed and grows with them.
    fn tile_for(&mut self, plan: &FeaturePlan, time: Time) -> Option<&mut Tile> {
        let next = self.tiles.partition_point(|tile| tile.span.start <= time);
        let before = next.checked_sub(1).map(|before| self.tiles[before].span);
        if before.is_some_and(|before| before.contains(time)) {
            return self.tiles.get_mut(next - 1);
        }
        let (horizon, finest) = (self.horizon(plan), TileSpan { start: time, end: time.next() });
        // Nothing coarser ends by the horizon. Most events are that new, and need no look at the windows.
        let new = time >= horizon && !plan.windows.is_empty();
        let span = if new { finest } else { Grid::new(&plan.windows, horizon).span(time)? };
        let overlaps = before.is_some_and(|before| before.end > span.start)
            || self.tiles.get(next).is_some_and(|after| after.span.start < span.end);
        let span = if overlaps { finest } else { span };
        self.tiles.insert(next, Tile::empty(plan, span));
        self.tiles.get_mut(next)
    }

    /// Grows every tile to the span that the horizon gives it. Once per flush is enough: growing sooner or later
    /// ends in the same tiles.
    pub fn settle(&mut self, plan: &FeaturePlan) {
        if self.settled {
            return;
        }
        let grid = Grid::new(&plan.windows, self.horizon(plan));
        let mut grown: Vec<Tile> = Vec::with_capacity(self.tiles.len());
        for mut tile in std::mem::take(&mut self.tiles) {
            let Some(span) = grid.grown(tile.span) else { continue };
            match grown.last_mut().filter(|last| last.span == span) {
                Some(last) => last.merge(&tile),
                None => {
                    tile.span = span;
                    grown.push(tile);
                }
            }
        }
        self.tiles = grown;
        self.settled = true;
    }

    /// The canonical bytes, after [settling](Self::settle).
    #[must_use]
    pub fn encode(&mut self, plan: &FeaturePlan) -> Vec<u8> {
        self.settle(plan);
        let mut out = Writer::new();
        out.u8(LAYOUT);
        out.zigzag(self.last_offset);
        out.zigzag(self.newest_arrival.millis());
        out.varint(self.tiles.len() as u64);
        let mut previous = Time::from_millis(0);
        for tile in &self.tiles {
            encode_span(&mut out, tile.span, previous);
            out.varint((tile.span.end.millis() - tile.newest.millis()) as u64);
            tile.states.iter().for_each(|state| state.encode(&mut out));
            previous = tile.span.end;
        }
        out.into_bytes()
    }

    /// Reads back what [`encode`](Self::encode) wrote under the same plan.
    ///
    /// # Errors
    /// Fails where the bytes are not the canonical form of a state of this plan, or of a newer layout.
    pub fn decode(plan: &FeaturePlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        match from.u8()? {
            LAYOUT => {}
            found if found > LAYOUT => return Err(DecodeError::Newer { found, supported: LAYOUT }),
            _ => return Err(DecodeError::Malformed { at: 0, expected: "a layout version" }),
        }
        let last_offset = from.zigzag()?;
        let newest_arrival = Time::from_millis(from.zigzag()?);
        let mut state = Self { last_offset, newest_arrival, ..Self::default() };
        let applied = last_offset >= 0 && newest_arrival.is_valid();
        if !applied && state != Self::default() {
            return Err(from.malformed("the last offset and newest arrival of a log"));
        }
        let count = from.count(3 + plan.aggregates.len())?;
        if !applied && count > 0 {
            return Err(from.malformed("no tiles before any event"));
        }
        let grid = Grid::new(&plan.windows, state.horizon(plan));
        let mut previous = Time::from_millis(0);
        for index in 0..count {
            let span = decode_span(&mut from, previous, index)?;
            if grid.grown(span) != Some(span) {
                return Err(from.malformed("a tile of this plan"));
            }
            let tile = decode_tile(plan, span, &mut from)?;
            previous = span.end;
            state.tiles.push(tile);
        }
        from.finish()?;
        Ok(state)
    }
}

const BOUNDED: u8 = 0;
const WITHOUT_BEGINNING: u8 = 1;

fn encode_span(out: &mut Writer, span: TileSpan, previous: Time) {
    match span.length() {
        Some(length) => {
            out.u8(BOUNDED);
            out.zigzag(span.start.millis() - previous.millis());
            out.varint(length.millis() as u64);
        }
        None => {
            out.u8(WITHOUT_BEGINNING);
            out.zigzag(span.end.millis());
        }
    }
}

fn decode_span(from: &mut Reader<'_>, previous: Time, index: usize) -> Result<TileSpan, DecodeError> {
    let within = |millis: Option<i64>, from: &Reader<'_>| {
        let time = millis.map(Time::from_millis).filter(|time| time.millis().unsigned_abs() < 1 << 60);
        time.ok_or_else(|| from.malformed("an instant"))
    };
    match from.u8()? {
        BOUNDED => {
            let distance = from.zigzag()?;
            if index > 0 && distance < 0 {
                return Err(from.malformed("tiles in order"));
            }
            let start = within(previous.millis().checked_add(distance), from)?;
            let length = i64::try_from(from.varint()?).ok();
            let end = within(length.and_then(|length| start.millis().checked_add(length)), from)?;
            Ok(TileSpan { start, end })
        }
        WITHOUT_BEGINNING if index == 0 => {
            let end = from.zigzag()?;
            Ok(TileSpan { start: Time::NEG_INFINITY, end: within(Some(end), from)? })
        }
        _ => Err(from.malformed("a kind of tile")),
    }
}

fn decode_tile(plan: &FeaturePlan, span: TileSpan, from: &mut Reader<'_>) -> Result<Tile, DecodeError> {
    let age = i64::try_from(from.varint()?).ok().filter(|age| (1..1 << 60).contains(age));
    let newest = age.map(|age| Time::from_millis(span.end.millis() - age));
    let newest = newest.filter(|time| time.is_valid() && span.contains(*time));
    let newest = newest.ok_or_else(|| from.malformed("a newest event inside its tile"))?;
    let states: Result<Box<[State]>, DecodeError> =
        plan.aggregates.iter().map(|aggregate| State::decode(aggregate.kind, from)).collect();
    Ok(Tile { span, newest, states: states? })
}
