//! The bytes of a state, whole and in parts.
//!
//! Integers are varints, signed ones zigzag.
//!
//! **Layout 1**: version (1 byte), last offset, newest arrival (ms), number of tiles; then the tiles, oldest first.
//!
//! A tile: kind (0 bounded, 1 without a beginning), start (bounded only: its distance from the previous tile's end, or for the
//! first tile the instant itself), length (without a beginning: the end), how long before the end its newest event was (ms),
//! and one state per aggregate of the plan.
//!
//! **Layout 2**: version (1 byte), last offset, newest arrival (ms), number of other parts. Where that is 0, number of tiles
//! and the tiles as in layout 1. Else, for each part its number (its distance from the one before; for the first, from the cell
//! before the one that tiles have grown to) and its number of tiles; then the parts. In a part, the first tile begins at a
//! distance from the start of the cell that the part is numbered by.
//!
//! A state is in parts where at least 24 tiles begin at or after the instant that tiles have grown to. All older tiles are in the part
//! of the cell before that instant. Each of the others is in the part of its cell, or, where it lies ahead of the newest arrival, in
//! the part of the arrival's cell: so there are at most some twenty parts.

use std::collections::{BTreeMap, BTreeSet};

use crate::aggregate::State;
use crate::codec::{DecodeError, Reader, Writer};
use crate::layout::{BUSY, Cells, Layout};
use crate::parts::{Rest, StateChange};
use crate::plan::FeaturePlan;
use crate::span::Grid;
use crate::time::{Time, TimeRange};

use super::{Body, PartitionState, Tile, decoded};

/// How much a batch of events adds to the bytes of most states.
const ROOM: usize = 256;

/// How many bytes a header has at most, without what it says of the parts.
const HEADER: usize = 1 + 3 * 10;

/// A part in the body of a state. It begins where the one before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartAt {
    number: i64,
    tiles: usize,
    end: usize,
}

impl PartitionState {
    /// The canonical bytes, after [coarsening](Self::coarsen).
    pub fn encode(&mut self, plan: &FeaturePlan) -> Vec<u8> {
        self.encode_body(plan);
        let mut bytes = self.header(plan);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What has changed since the state was last encoded or [lazily decoded](Self::decode_lazily), for a store that has it as it
    /// was then. For a new state, all of it.
    pub fn change(&mut self, plan: &FeaturePlan) -> StateChange {
        let Former { parts, same, start, rest } = self.encode_body(plan);
        let before: BTreeMap<i64, &[u8]> = contents(&parts[same..], start, &rest).collect();
        let now: BTreeMap<i64, &[u8]> = contents(&self.parts[same..], start, &self.body[start..]).collect();
        let is_kept = |number: &i64| before.contains_key(number) && before.get(number) == now.get(number);
        if same == 0 && !now.keys().any(is_kept) {
            let rest = if parts.is_empty() { Rest::Absent } else { Rest::Removed };
            return StateChange { rest, ..self.whole(plan) };
        }
        let numbers: BTreeSet<i64> = before.keys().chain(now.keys()).copied().collect();
        let changed = numbers.into_iter().filter(|number| !is_kept(number));
        let parts = changed.map(|number| (number, now.get(&number).map(|part| part.to_vec()))).collect();
        StateChange { first: self.header(plan), parts, rest: Rest::Kept }
    }

    /// All of the state as it was last encoded, for a store of which it is not known what it has.
    #[must_use]
    pub fn whole(&self, plan: &FeaturePlan) -> StateChange {
        let mut first = self.header(plan);
        if self.parts.is_empty() {
            first.extend_from_slice(&self.body);
        }
        let parts = contents(&self.parts, 0, &self.body);
        let parts = parts.map(|(number, part)| (number, Some(part.to_vec()))).collect();
        StateChange { first, parts, rest: Rest::Removed }
    }

    /// Coarsens and encodes the tiles. The first parts stay where they are if none of their tiles has changed, which most often
    /// are all but the newest.
    fn encode_body(&mut self, plan: &FeaturePlan) -> Former {
        self.coarsen(plan);
        let split = self.split(plan);
        let same = self.unchanged_parts(&split);
        let start = same.checked_sub(1).map_or(0, |last| self.parts[last].end);
        let rest = if start == 0 { std::mem::take(&mut self.body) } else { self.body.split_off(start) };
        let mut encoding =
            Encoding { plan, start, former: &rest, out: Writer::with_capacity(rest.len() + ROOM) };
        let mut parts = self.parts[..same].to_vec();
        if split.is_empty() {
            encoding.tiles(&mut self.tiles, Time::from_millis(0));
        }
        let (cells, mut from) =
            (Cells::of(plan.time_travel), parts.iter().map(|part| part.tiles).sum::<usize>());
        for (number, tiles) in &split[same..] {
            encoding.tiles(&mut self.tiles[from..from + tiles], cells.start(*number));
            from += tiles;
            parts.push(PartAt { number: *number, tiles: *tiles, end: start + encoding.out.len() });
        }
        self.keep_encoded(encoding.out.into_bytes());
        self.changed_from = self.tiles.len();
        Former { parts: std::mem::replace(&mut self.parts, parts.into()), same, start, rest }
    }

    /// Appends bytes to the body. A cache may keep millions of states, so there is little room that is not used.
    fn keep_encoded(&mut self, encoded: Vec<u8>) {
        if self.body.is_empty() {
            self.body = encoded;
            self.body.shrink_to_fit();
            return;
        }
        if self.body.capacity() - self.body.len() < encoded.len() {
            self.body.reserve_exact(encoded.len() + self.body.len() / 16);
        }
        self.body.extend_from_slice(&encoded);
    }

    /// How many parts, from the first one on, have the tiles that they had when they were encoded last.
    fn unchanged_parts(&self, split: &[(i64, usize)]) -> usize {
        let mut end = 0;
        let is_same = |(part, (number, tiles)): &(&PartAt, &(i64, usize))| {
            end += tiles;
            (part.number, part.tiles) == (*number, *tiles) && end <= self.changed_from
        };
        self.parts.iter().zip(split).take_while(is_same).count()
    }

    /// Into which parts the tiles fall: the number of each and how many tiles it has, oldest first. Empty for one piece.
    fn split(&self, plan: &FeaturePlan) -> Vec<(i64, usize)> {
        let grown_to = self.grown_to(plan);
        let aged = self.tiles.partition_point(|tile| tile.span.start < grown_to);
        if self.layout < Layout::Two || self.tiles.len() - aged < BUSY {
            return Vec::new();
        }
        let cells = Cells::of(plan.time_travel);
        let (before, newest) = (self.cell_before(plan), cells.around(self.newest_arrival));
        let (mut parts, mut rest) = (Vec::new(), self.tiles.as_slice());
        while let Some(first) = rest.first() {
            let number = cells.around(first.span.start).clamp(before, newest);
            let end = cells.start(number.saturating_add(1));
            let is_in = |tile: &Tile| number == newest || tile.span.start < end;
            let tiles = rest.partition_point(is_in).max(1);
            parts.push((number, tiles));
            rest = &rest[tiles..];
        }
        parts
    }

    /// The cell before the one that tiles have grown to.
    fn cell_before(&self, plan: &FeaturePlan) -> i64 {
        Cells::of(plan.time_travel).around(self.grown_to(plan)).saturating_sub(1)
    }

    /// All that comes before the tiles.
    fn header(&self, plan: &FeaturePlan) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEADER + 4 * self.parts.len());
        out.u8(self.layout as u8);
        out.zigzag(self.last_offset);
        out.zigzag(self.newest_arrival.millis());
        if self.layout >= Layout::Two {
            out.varint(self.parts.len() as u64);
        }
        if self.parts.is_empty() {
            out.varint(self.tiles.len() as u64);
        }
        let mut previous = self.cell_before(plan);
        for part in &self.parts {
            out.varint(part.number.abs_diff(previous));
            out.varint(part.tiles as u64);
            previous = part.number;
        }
        out.into_bytes()
    }

    /// Reads back what [`encode`](Self::encode) wrote under the same plan, to be asked.
    ///
    /// # Errors
    /// Fails where the bytes are not the canonical form of a state of this plan, or of a newer layout.
    pub fn decode(plan: &FeaturePlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        // Its tiles are decoded: there is no body for parts to lie in.
        Self::read(plan, bytes, decoded_body).map(|(state, _)| Self { parts: Box::default(), ..state })
    }

    /// As `decode`, for a state that is changed a little and encoded again: everything is checked, and aggregates are
    /// decoded only when needed.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_lazily(plan: &FeaturePlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        let (state, header) = Self::read(plan, bytes, encoded_body)?;
        Ok(Self { body: bytes[header..].to_vec(), changed_from: state.tiles.len(), ..state })
    }

    /// A state, and how long its header is.
    fn read(plan: &FeaturePlan, bytes: &[u8], body: ReadBody) -> Result<(Self, usize), DecodeError> {
        let mut from = Reader::new(bytes);
        let version = from.u8()?;
        let newest = Layout::default() as u8;
        let layout = Layout::from_version(version).ok_or(match version {
            0 => DecodeError::Malformed { at: 0, expected: "a layout version" },
            found => DecodeError::Newer { found, supported: newest },
        })?;
        let last_offset = from.zigzag()?;
        let newest_arrival = Time::from_millis(from.zigzag()?);
        let mut state = Self { last_offset, newest_arrival, ..Self::with_layout(layout) };
        let applied = last_offset >= 0 && newest_arrival.is_valid();
        if !applied && state != Self::with_layout(layout) {
            return Err(from.malformed("the last offset and newest arrival of a partition"));
        }
        // What a tile takes at least; a part has one, and two bytes that announce it.
        let least = 3 + plan.aggregates.len();
        let parts = if layout < Layout::Two { 0 } else { from.count(2 + least)? };
        let mut split = Vec::with_capacity(parts);
        let mut number = state.cell_before(plan);
        for part in 0..parts {
            let distance = i64::try_from(from.varint()?).ok().filter(|distance| part == 0 || *distance > 0);
            number = distance
                .and_then(|distance| number.checked_add(distance))
                .ok_or_else(|| from.malformed("parts in order"))?;
            split.push((number, from.count(least)?));
        }
        let one_piece = if parts == 0 { from.count(least)? } else { 0 };
        // Each fits into what is left, and there are fewer than bytes: no overflow.
        let count = split.iter().map(|(_, tiles)| tiles).sum::<usize>() + one_piece;
        if count > from.remaining() / least {
            return Err(from.malformed("as many tiles as there are bytes for"));
        }
        if !applied && count > 0 {
            return Err(from.malformed("no tiles before any event"));
        }
        state.tiles.reserve_exact(count);
        let (header, cells) = (from.at(), Cells::of(plan.time_travel));
        let read_as = ReadAs { plan, header, body };
        state.read_tiles(read_as, &mut from, one_piece, Time::from_millis(0))?;
        let mut read = Vec::with_capacity(parts);
        for (number, tiles) in &split {
            state.read_tiles(read_as, &mut from, *tiles, cells.start(*number))?;
            read.push(PartAt { number: *number, tiles: *tiles, end: from.at() - header });
        }
        if state.split(plan) != split {
            return Err(from.malformed("the parts of such a state"));
        }
        state.parts = read.into();
        from.finish()?;
        Ok((state, header))
    }

    /// Reads tiles that follow those which were read.
    fn read_tiles(
        &mut self,
        read_as: ReadAs<'_>,
        from: &mut Reader<'_>,
        count: usize,
        mut previous: Time,
    ) -> Result<(), DecodeError> {
        let grid = Grid::new(&read_as.plan.windows, self.grown_to(read_as.plan));
        for _ in 0..count {
            let span = decode_span(from, previous, self.tiles.is_empty())?;
            let in_order = self.tiles.last().is_none_or(|last| last.span.end <= span.start);
            if !in_order || grid.grown(span) != Some(span) {
                return Err(from.malformed("a tile of this plan"));
            }
            let tile = decode_tile(read_as, span, from)?;
            previous = span.end;
            self.tiles.push(tile);
        }
        Ok(())
    }
}

/// What a state was when it was encoded before.
struct Former {
    /// Its parts.
    parts: Box<[PartAt]>,
    /// How many of them, from the first one on, are the same now.
    same: usize,
    /// Where the others begin.
    start: usize,
    /// Their bytes.
    rest: Vec<u8>,
}

/// Tiles on their way into a body, after what stays of it.
struct Encoding<'a> {
    plan: &'a FeaturePlan,
    /// How much stays.
    start: usize,
    /// What followed that before.
    former: &'a [u8],
    /// What follows it now.
    out: Writer,
}

impl Encoding<'_> {
    /// Encodes some tiles, which then have their aggregates in the body.
    fn tiles(&mut self, tiles: &mut [Tile], mut previous: Time) {
        for tile in tiles {
            encode_span(&mut self.out, tile.span, previous);
            self.out.varint((tile.span.end.millis() - tile.newest.millis()) as u64);
            previous = tile.span.end;
            let from = self.start + self.out.len();
            let former = match &tile.body {
                Body::Encoded { start, end } => {
                    let former = &self.former[*start as usize - self.start..*end as usize - self.start];
                    self.out.raw(former);
                    Some(former)
                }
                Body::Decoded(states) => {
                    states.iter().for_each(|state| state.encode(&mut self.out));
                    None
                }
            };
            if let Some(body) = Body::encoded(from, self.start + self.out.len()) {
                tile.body = body;
            } else if let Some(former) = former {
                tile.body = Body::Decoded(decoded(self.plan, former).into());
            }
        }
    }
}

/// The content of each of some parts, which lie in `bytes`; these begin at `start` in the body.
fn contents<'b>(parts: &'b [PartAt], start: usize, bytes: &'b [u8]) -> impl Iterator<Item = (i64, &'b [u8])> {
    let mut from = 0;
    parts.iter().map(move |part| {
        let end = part.end - start;
        (part.number, &bytes[std::mem::replace(&mut from, end)..end])
    })
}

const BOUNDED: u8 = 0;
const WITHOUT_BEGINNING: u8 = 1;

fn encode_span(out: &mut Writer, span: TimeRange, previous: Time) {
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

fn decode_span(from: &mut Reader<'_>, previous: Time, is_first: bool) -> Result<TimeRange, DecodeError> {
    let within = |millis: Option<i64>, from: &Reader<'_>| {
        let time = millis.map(Time::from_millis).filter(|time| time.millis().unsigned_abs() < 1 << 60);
        time.ok_or_else(|| from.malformed("an instant"))
    };
    match from.u8()? {
        BOUNDED => {
            let distance = from.zigzag()?;
            let start = within(previous.millis().checked_add(distance), from)?;
            let length = i64::try_from(from.varint()?).ok();
            let end = within(length.and_then(|length| start.millis().checked_add(length)), from)?;
            Ok(TimeRange { start, end })
        }
        WITHOUT_BEGINNING if is_first => {
            let end = from.zigzag()?;
            Ok(TimeRange { start: Time::NEG_INFINITY, end: within(Some(end), from)? })
        }
        _ => Err(from.malformed("a kind of tile")),
    }
}

fn decode_tile(read_as: ReadAs<'_>, span: TimeRange, from: &mut Reader<'_>) -> Result<Tile, DecodeError> {
    let age = i64::try_from(from.varint()?).ok().filter(|age| (1..1 << 60).contains(age));
    let newest = age.map(|age| Time::from_millis(span.end.millis() - age));
    let newest = newest.filter(|time| time.is_valid() && span.contains(*time));
    let newest = newest.ok_or_else(|| from.malformed("a newest event inside its tile"))?;
    Ok(Tile { span, newest, body: (read_as.body)(read_as.plan, from, read_as.header)? })
}

/// As what tiles are read.
#[derive(Clone, Copy)]
struct ReadAs<'p> {
    plan: &'p FeaturePlan,
    /// How long the header is, after which the body begins.
    header: usize,
    body: ReadBody,
}

/// How the aggregates of a tile are read.
type ReadBody = fn(&FeaturePlan, &mut Reader<'_>, usize) -> Result<Body, DecodeError>;

fn decoded_body(plan: &FeaturePlan, from: &mut Reader<'_>, _: usize) -> Result<Body, DecodeError> {
    let states = plan.aggregates.iter().map(|aggregate| State::decode(aggregate.kind, from));
    states.collect::<Result<_, _>>().map(Body::Decoded)
}

fn encoded_body(plan: &FeaturePlan, from: &mut Reader<'_>, header: usize) -> Result<Body, DecodeError> {
    let start = from.at() - header;
    plan.aggregates.iter().try_for_each(|aggregate| State::check(aggregate.kind, from))?;
    Body::encoded(start, from.at() - header).ok_or_else(|| from.malformed("a state below 4 GiB"))
}
