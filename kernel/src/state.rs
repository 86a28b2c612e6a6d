//! State: for each (view, entity, log) one list of disjoint tiles that grow coarser with age.
//!
//! The list is a pure function of the events applied from that log: their order, and when tiles were grown, make
//! no difference to its bytes. It is written by the log's owner alone and merged with the lists of the entity's
//! other logs when a question is [answered](crate::answer).
//!
//! A busy entity has thousands of tiles, of which a batch of events changes a few. So the aggregates of a tile stay
//! encoded until an event or a coarser tile needs them, and encoding copies the bytes of all others.

use std::borrow::Cow;

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

/// How much a batch of events adds to the bytes of most states.
const ROOM: usize = 256;

/// What is kept of the events in one span.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The span.
    pub span: TileSpan,
    /// The event time of its newest event.
    pub newest: Time,
    body: Body,
}

/// One state per aggregate of the plan.
#[derive(Clone, Debug)]
enum Body {
    /// Encoded: where in the bytes of the [`LogState`].
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
    fn empty(plan: &FeaturePlan, span: TileSpan) -> Self {
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
            Body::Encoded { .. } => {
                let mut states = Vec::with_capacity(plan.aggregates.len());
                self.each_encoded(plan, bytes, |_, state| states.push(state));
                Cow::Owned(states)
            }
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

    /// Decodes one state after the other, each with the index of its aggregate.
    fn each_encoded(&self, plan: &FeaturePlan, bytes: &[u8], mut each: impl FnMut(usize, State)) {
        let encoded = self.encoded(bytes);
        let mut from = Reader::new(&encoded);
        for (index, aggregate) in plan.aggregates.iter().enumerate() {
            let state = State::decode(aggregate.kind, &mut from);
            each(index, state.expect("they were checked when they came in, or this process encoded them"));
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
            if let Some(merged) = merged.get_mut(index).filter(|_| wanted(index)) {
                merged.merge(state);
            }
        };
        match &self.body {
            Body::Encoded { .. } => self.each_encoded(plan, bytes, |index, state| merge(index, &state)),
            Body::Decoded(states) => states.iter().enumerate().for_each(|(index, state)| merge(index, state)),
        }
    }
}

/// The state of one entity in one view from one log.
#[derive(Clone, Debug)]
pub struct LogState {
    last_offset: Offset,
    newest_arrival: Time,
    /// Oldest first. Disjoint, and where `settled`, each the span that the grid gives it.
    tiles: Vec<Tile>,
    settled: bool,
    /// What it was decoded from or last encoded to: where the tiles that have not changed since have their aggregates.
    bytes: Box<[u8]>,
}

impl Default for LogState {
    fn default() -> Self {
        Self {
            last_offset: -1,
            newest_arrival: Time::NEG_INFINITY,
            tiles: Vec::new(),
            settled: true,
            bytes: Box::default(),
        }
    }
}

/// Equality of what was applied, however much of it is decoded.
impl PartialEq for LogState {
    fn eq(&self, other: &Self) -> bool {
        let applied =
            |state: &Self| (state.last_offset, state.newest_arrival, state.settled, state.tiles.len());
        let equal = |(mine, theirs): (&Tile, &Tile)| {
            (mine.span, mine.newest) == (theirs.span, theirs.newest)
                && mine.encoded(&self.bytes) == theirs.encoded(&other.bytes)
        };
        applied(self) == applied(other) && self.tiles.iter().zip(&other.tiles).all(equal)
    }
}

impl Eq for LogState {}

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

    /// What one of its tiles keeps: one state per aggregate of the plan.
    #[must_use]
    pub fn states<'s>(&'s self, plan: &FeaturePlan, tile: &'s Tile) -> Cow<'s, [State]> {
        tile.states(plan, &self.bytes)
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
        tile.merge_into(plan, &self.bytes, merged, wanted);
    }

    /// How many bytes of memory it has allocated, as long as no event is applied after it was [encoded](Self::encode) or
    /// decoded.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.bytes.len() + self.tiles.capacity() * size_of::<Tile>()
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
        if let Some(index) = self.tile_for(plan, stamp.event_time) {
            let tile = &mut self.tiles[index];
            tile.newest = tile.newest.max(stamp.event_time);
            for (state, input) in tile.states_mut(plan, &self.bytes).iter_mut().zip(inputs) {
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
        let (horizon, finest) = (self.horizon(plan), TileSpan { start: time, end: time.next() });
        // Nothing coarser ends by the horizon. Most events are that new, and need no look at the windows.
        let new = time >= horizon && !plan.windows.is_empty();
        let span = if new { finest } else { Grid::new(&plan.windows, horizon).span(time)? };
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
    pub fn settle(&mut self, plan: &FeaturePlan) {
        if self.settled {
            return;
        }
        self.settled = true;
        let horizon = self.horizon(plan);
        let grid = Grid::new(&plan.windows, horizon);
        // A tile from the horizon on is as fine as can be and does not grow; without windows there is none at all.
        let old = |tile: &Tile| tile.span.start < horizon || plan.windows.is_empty();
        let aged = self.tiles.partition_point(old);
        let mut kept = 0;
        for index in 0..aged {
            let Some(span) = grid.grown(self.tiles[index].span) else { continue };
            let (before, rest) = self.tiles.split_at_mut(index);
            match before[..kept].last_mut().filter(|last| last.span == span) {
                Some(last) => last.merge(plan, &self.bytes, &rest[0]),
                None => {
                    self.tiles.swap(kept, index);
                    self.tiles[kept].span = span;
                    kept += 1;
                }
            }
        }
        self.tiles.drain(kept..aged);
    }

    /// The canonical bytes, after [settling](Self::settle).
    pub fn encode(&mut self, plan: &FeaturePlan) -> Vec<u8> {
        self.settle(plan);
        let mut out = Writer::with_capacity(self.bytes.len() + ROOM);
        out.u8(LAYOUT);
        out.zigzag(self.last_offset);
        out.zigzag(self.newest_arrival.millis());
        out.varint(self.tiles.len() as u64);
        let mut previous = Time::from_millis(0);
        for tile in &mut self.tiles {
            encode_span(&mut out, tile.span, previous);
            out.varint((tile.span.end.millis() - tile.newest.millis()) as u64);
            previous = tile.span.end;
            let start = out.len();
            match &tile.body {
                Body::Encoded { start, end } => out.raw(&self.bytes[*start as usize..*end as usize]),
                Body::Decoded(states) => states.iter().for_each(|state| state.encode(&mut out)),
            }
            match Body::encoded(start, out.len()) {
                Some(body) => tile.body = body,
                None => {
                    tile.states_mut(plan, &self.bytes);
                }
            }
        }
        let bytes = out.into_bytes();
        // As large as need be: what is handed out may have room to spare, but this is kept.
        self.bytes = bytes.as_slice().into();
        bytes
    }

    /// Reads back what [`encode`](Self::encode) wrote under the same plan, to be asked.
    ///
    /// # Errors
    /// Fails where the bytes are not the canonical form of a state of this plan, or of a newer layout.
    pub fn decode(plan: &FeaturePlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(plan, bytes, decoded_body)
    }

    /// The same, to be changed a little and encoded again: all is checked as well, and nothing is decoded yet.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_lazily(plan: &FeaturePlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        let state = Self::read(plan, bytes, encoded_body)?;
        Ok(Self { bytes: bytes.into(), ..state })
    }

    fn read(plan: &FeaturePlan, bytes: &[u8], body: ReadBody) -> Result<Self, DecodeError> {
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
        state.tiles.reserve_exact(count);
        let grid = Grid::new(&plan.windows, state.horizon(plan));
        let mut previous = Time::from_millis(0);
        for index in 0..count {
            let span = decode_span(&mut from, previous, index)?;
            if grid.grown(span) != Some(span) {
                return Err(from.malformed("a tile of this plan"));
            }
            let tile = decode_tile(plan, span, &mut from, body)?;
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

fn decode_tile(
    plan: &FeaturePlan,
    span: TileSpan,
    from: &mut Reader<'_>,
    body: ReadBody,
) -> Result<Tile, DecodeError> {
    let age = i64::try_from(from.varint()?).ok().filter(|age| (1..1 << 60).contains(age));
    let newest = age.map(|age| Time::from_millis(span.end.millis() - age));
    let newest = newest.filter(|time| time.is_valid() && span.contains(*time));
    let newest = newest.ok_or_else(|| from.malformed("a newest event inside its tile"))?;
    Ok(Tile { span, newest, body: body(plan, from)? })
}

/// How the aggregates of a tile are read.
type ReadBody = fn(&FeaturePlan, &mut Reader<'_>) -> Result<Body, DecodeError>;

fn decoded_body(plan: &FeaturePlan, from: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let states = plan.aggregates.iter().map(|aggregate| State::decode(aggregate.kind, from));
    states.collect::<Result<_, _>>().map(Body::Decoded)
}

fn encoded_body(plan: &FeaturePlan, from: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let start = from.at();
    plan.aggregates.iter().try_for_each(|aggregate| State::check(aggregate.kind, from))?;
    Body::encoded(start, from.at()).ok_or_else(|| from.malformed("a state below 4 GiB"))
}
