//! Answers: the values of all windows of a view, computed from an entity's tiles in one pass from newest to oldest.
//!
//! Merges only, no subtraction: a walk begins at the end of a window, and as it crosses the start, the features of
//! that window take their value from what was merged so far. Windows with the same end share a walk, so a view whose
//! windows all end at the instant asked about takes one. No tile straddles an edge that an allowed question can ask
//! about, so the value is that of the events in the window, exactly (`ANS-1`; the property tests hold it against the
//! oracle).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;

use thiserror::Error;

use crate::aggregate::State;
use crate::error::{ErrorKind, Explain};
use crate::event::Partition;
use crate::plan::FeaturePlan;
use crate::state::{PartitionState, Tile};
use crate::time::{Span, Time, TimeRange};
use crate::value::Value;

/// The status of a value: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The instant is before the entity's horizon in this view, which other views of the row can answer for. The value
    /// is null.
    TooEarly,
    /// No event of the entity passes the view's filter between the earliest start and the latest end of the view's
    /// windows.
    NotFound,
    /// The newest event is older than the view's `max_age`. The value is kept.
    OutsideMaxAge,
    /// The value is null.
    Null,
    /// There is a value.
    Present,
}

impl Status {
    /// Every status with its name.
    pub const NAMED: [(&str, Self); 5] = [
        ("too_early", Self::TooEarly),
        ("not_found", Self::NotFound),
        ("outside_max_age", Self::OutsideMaxAge),
        ("null", Self::Null),
        ("present", Self::Present),
    ];

    /// The name used in outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooEarly => "too_early",
            Self::NotFound => "not_found",
            Self::OutsideMaxAge => "outside_max_age",
            Self::Null => "null",
            Self::Present => "present",
        }
    }

    /// The status of a value computed from values alone, as derived features are.
    #[must_use]
    pub const fn of(value: &Value) -> Self {
        Self::of_null(value.is_null())
    }

    /// The same, for callers that hold columns: whether the value is null is all that matters.
    #[must_use]
    pub const fn of_null(is_null: bool) -> Self {
        if is_null { Self::Null } else { Self::Present }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One view's answer about one entity at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The instant asked about.
    pub at: Time,
    /// One value per feature of the plan. They never depend on the status, but for [`Status::TooEarly`]: an unknown
    /// entity is an empty window.
    pub values: Vec<Value>,
    /// One status per feature of the plan.
    pub statuses: Vec<Status>,
    /// The event time of the view's newest event between the earliest start and the latest end of its windows, whatever
    /// an aggregate's own filter says.
    pub newest: Option<Time>,
    /// How many of the values are null because an int64 total does not fit, for engines to count.
    pub overflowed: u64,
}

impl Answer {
    /// The answer about an entity that no event names, or whose key is null: every window is empty.
    #[must_use]
    pub fn unknown(plan: &FeaturePlan, at: Time) -> Self {
        walk(plan, &[], at)
    }

    /// The answer about an instant before the entity's horizon: nothing is known of any window.
    #[must_use]
    pub fn too_early(plan: &FeaturePlan, at: Time) -> Self {
        let features = plan.features.len();
        Self {
            at,
            values: vec![Value::Null; features],
            statuses: vec![Status::TooEarly; features],
            newest: None,
            overflowed: 0,
        }
    }

    /// Gives values their statuses.
    pub(crate) fn new(
        plan: &FeaturePlan,
        at: Time,
        values: Vec<Value>,
        newest: Option<Time>,
        overflowed: u64,
    ) -> Self {
        let age = |newest: Time| Span::from_millis(at.millis().saturating_sub(newest.millis()));
        let stale = |newest: Time| plan.max_age.is_some_and(|max_age| age(newest) > max_age);
        let statuses = values.iter().map(|value| match newest {
            None => Status::NotFound,
            Some(newest) if stale(newest) => Status::OutsideMaxAge,
            Some(_) => Status::of(value),
        });
        Self { at, statuses: statuses.collect(), values, newest, overflowed }
    }
}

/// The question is about an instant whose tiles have grown already.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "at {at} is before {horizon}, the earliest instant that can still be looked up for this entity \
     (its newest arrival less the view's `time_travel` of {time_travel})"
)]
pub struct TooEarly {
    /// The instant asked about.
    pub at: Time,
    /// The entity's retention horizon: the earliest instant that can be asked about.
    pub horizon: Time,
    /// The view's `time_travel`.
    pub time_travel: Span,
}

impl Explain for TooEarly {
    fn kind(&self) -> ErrorKind {
        ErrorKind::TooEarly
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("ask about a later instant, or use `train` for the past".into())
    }
}

/// The entity's retention horizon: the greatest of its partitions' horizons; none without any state.
#[must_use]
pub fn horizon(plan: &FeaturePlan, partitions: &[(Partition, PartitionState)]) -> Option<Time> {
    partitions.iter().map(|(_, state)| state.horizon(plan)).max()
}

/// Answers every feature of the plan about the entity with these states.
///
/// # Errors
/// Refuses an `at` before the entity's [`horizon`]: its tiles may straddle that window's edges by now.
pub fn answer(
    plan: &FeaturePlan,
    partitions: &[(Partition, PartitionState)],
    at: Time,
) -> Result<Answer, TooEarly> {
    match horizon(plan, partitions) {
        Some(horizon) if at < horizon => Err(TooEarly { at, horizon, time_travel: plan.time_travel }),
        _ => Ok(walk(plan, partitions, at)),
    }
}

/// As [`answer`], of those who know that `at` is not before the horizon.
pub(crate) fn walk(plan: &FeaturePlan, partitions: &[(Partition, PartitionState)], at: Time) -> Answer {
    debug_assert!(
        horizon(plan, partitions).is_none_or(|horizon| horizon <= at),
        "tiles may straddle the edges"
    );
    let edges = plan.windows.iter().map(|window| window.edges(at));
    let windows: Vec<(TimeRange, usize)> = edges.zip(0..).collect();
    let newest = hull(&windows).and_then(|range| newest_within(partitions, range));
    let Walk { values, overflowed, .. } = Walk::new(plan).over(partitions, windows);
    Answer::new(plan, at, values, newest, overflowed)
}

/// From the earliest start to the latest end of some windows; none without any.
fn hull(windows: &[(TimeRange, usize)]) -> Option<TimeRange> {
    let start = windows.iter().map(|(range, _)| range.start).min()?;
    let end = windows.iter().map(|(range, _)| range.end).max()?;
    Some(TimeRange { start, end })
}

/// The event time of the newest event in a range.
fn newest_within(partitions: &[(Partition, PartitionState)], range: TimeRange) -> Option<Time> {
    // Tiles of one partition are disjoint, and the newest comes last.
    partitions.iter().filter_map(|(_, state)| state.tiles_within(range).last()).map(|tile| tile.newest).max()
}

/// The values that merging tiles newest to oldest has given so far.
struct Walk<'p> {
    plan: &'p FeaturePlan,
    /// One per feature, null until its window is finished.
    values: Vec<Value>,
    overflowed: u64,
}

impl<'p> Walk<'p> {
    fn new(plan: &'p FeaturePlan) -> Self {
        Self { plan, values: vec![Value::Null; plan.features.len()], overflowed: 0 }
    }

    /// Finishes windows: what each holds, and which one of the plan it is.
    ///
    /// What was merged begins at an end, so windows share it only where they have the same one.
    fn over(
        mut self,
        partitions: &[(Partition, PartitionState)],
        mut windows: Vec<(TimeRange, usize)>,
    ) -> Self {
        windows.sort_unstable_by_key(|(range, _)| Reverse((range.end, range.start)));
        for windows in windows.chunk_by(|(a, _), (b, _)| a.end == b.end) {
            self.back_from_one_end(partitions, windows);
        }
        self
    }

    /// Finishes windows that have one end, given with the latest start first.
    fn back_from_one_end(
        &mut self,
        partitions: &[(Partition, PartitionState)],
        windows: &[(TimeRange, usize)],
    ) {
        let Some(range) = hull(windows) else { return };
        let (plan, needed) = (self.plan, self.needed(windows));
        let mut merged: Vec<State> =
            plan.aggregates.iter().map(|aggregate| State::empty(aggregate.kind)).collect();
        let mut open = windows.iter().peekable();
        for (state, tile) in NewestFirst::new(partitions, range) {
            // Neither this tile nor an older one belongs to a window that begins after it.
            while let Some((_, window)) = open.next_if(|(window, _)| window.start > tile.span.start) {
                self.finish(*window, &merged);
            }
            let wanted = |aggregate: usize| needed[aggregate] <= tile.span.start;
            state.merge_tile(plan, tile, &mut merged, wanted);
        }
        for (_, window) in open {
            self.finish(*window, &merged);
        }
    }

    /// For each aggregate the earliest start of these windows' features: older tiles are not merged into it.
    fn needed(&self, windows: &[(TimeRange, usize)]) -> Vec<Time> {
        let mut needed = vec![Time::MAX; self.plan.aggregates.len()];
        for feature in &self.plan.features {
            if let Some((range, _)) = windows.iter().find(|(_, window)| *window == feature.window) {
                needed[feature.aggregate] = needed[feature.aggregate].min(range.start);
            }
        }
        needed
    }

    /// Takes the values of a window's features from what was merged.
    fn finish(&mut self, window: usize, merged: &[State]) {
        for (value, feature) in self.values.iter_mut().zip(&self.plan.features) {
            if feature.window == window {
                let merged = &merged[feature.aggregate];
                *value = merged.finish(feature.function);
                self.overflowed += u64::from(merged.overflows(feature.function));
            }
        }
    }
}

/// The tiles of several partitions that lie within a range, each with its state, newest first by their start.
struct NewestFirst<'s> {
    partitions: Vec<(&'s PartitionState, &'s [Tile])>,
}

impl<'s> NewestFirst<'s> {
    fn new(partitions: &'s [(Partition, PartitionState)], range: TimeRange) -> Self {
        Self { partitions: partitions.iter().map(|(_, state)| (state, state.tiles_within(range))).collect() }
    }
}

impl<'s> Iterator for NewestFirst<'s> {
    type Item = (&'s PartitionState, &'s Tile);

    fn next(&mut self) -> Option<Self::Item> {
        let newest = self.partitions.iter_mut().filter(|(_, tiles)| !tiles.is_empty());
        let (state, tiles) = newest.max_by_key(|(_, tiles)| tiles.last().map(|tile| tile.span.start))?;
        let (tile, older) = tiles.split_last()?;
        *tiles = older;
        Some((*state, tile))
    }
}

#[cfg(test)]
mod tests;
