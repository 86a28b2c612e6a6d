//! Answers: every window of a view in one walk over an entity's tiles, newest to oldest.
//!
//! Merges only, no subtraction: as the walk crosses a window's start, the features of that window take their value
//! from what was merged so far. No tile straddles an edge that an allowed question can ask about, so the value is
//! that of the events in the window, exactly (`ANS-1`; the property tests hold it against the oracle).

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use crate::aggregate::State;
use crate::error::{ErrorKind, Explain};
use crate::event::Log;
use crate::plan::FeaturePlan;
use crate::state::{LogState, Tile};
use crate::time::{Span, Time};
use crate::value::Value;

/// The status of a value: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The instant is before the entity's horizon in this view, which other views of the row can answer for. The value
    /// is null.
    TooEarly,
    /// No event of the entity passes the view's filter between the view's earliest window start and `at`.
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
        if value.is_null() { Self::Null } else { Self::Present }
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
    /// The event time of the view's newest event between the view's earliest window start and `at`, whatever an
    /// aggregate's own filter says.
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
     (its newest arrival less the view's head of {head})"
)]
pub struct TooEarly {
    /// The instant asked about.
    pub at: Time,
    /// The entity's `R`: the earliest instant that can be asked about.
    pub horizon: Time,
    /// The view's `head`.
    pub head: Span,
}

impl Explain for TooEarly {
    fn kind(&self) -> ErrorKind {
        ErrorKind::TooEarly
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("ask about a later instant, or use `train` for the past".into())
    }
}

/// The entity's `R`: the greatest of its logs' horizons; none without any state.
#[must_use]
pub fn horizon(plan: &FeaturePlan, logs: &[(Log, LogState)]) -> Option<Time> {
    logs.iter().map(|(_, state)| state.horizon(plan)).max()
}

/// Answers every feature of the plan about the entity with these states.
///
/// # Errors
/// Refuses an `at` before the entity's [`horizon`]: its tiles may straddle that window's edges by now.
pub fn answer(plan: &FeaturePlan, logs: &[(Log, LogState)], at: Time) -> Result<Answer, TooEarly> {
    match horizon(plan, logs) {
        Some(horizon) if at < horizon => Err(TooEarly { at, horizon, head: plan.head }),
        _ => Ok(walk(plan, logs, at)),
    }
}

/// As [`answer`], of those who know that `at` is not before the horizon.
pub(crate) fn walk(plan: &FeaturePlan, logs: &[(Log, LogState)], at: Time) -> Answer {
    debug_assert!(horizon(plan, logs).is_none_or(|horizon| horizon <= at), "tiles may straddle the edges");
    Walk::new(plan, at).over(logs)
}

/// The merge of tiles newest to oldest, with the windows it has not yet crossed.
struct Walk<'p> {
    plan: &'p FeaturePlan,
    at: Time,
    /// One accumulator per aggregate.
    merged: Vec<State>,
    /// For each aggregate the start of its longest window: older tiles are not merged into it.
    needed: Vec<Time>,
    values: Vec<Value>,
    overflowed: u64,
    /// The next window to finish, by place in `ends`.
    window: usize,
    /// Windows and their starts, latest start first.
    ends: Vec<(Time, usize)>,
}

impl<'p> Walk<'p> {
    fn new(plan: &'p FeaturePlan, at: Time) -> Self {
        let mut ends: Vec<(Time, usize)> =
            plan.windows.iter().enumerate().map(|(index, window)| (window.start(at), index)).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let mut needed = vec![Time::MAX; plan.aggregates.len()];
        for feature in &plan.features {
            let start = plan.windows[feature.window].start(at);
            needed[feature.aggregate] = needed[feature.aggregate].min(start);
        }
        let merged = plan.aggregates.iter().map(|aggregate| State::empty(aggregate.kind)).collect();
        Self {
            plan,
            at,
            merged,
            needed,
            values: vec![Value::Null; plan.features.len()],
            overflowed: 0,
            window: 0,
            ends,
        }
    }

    fn over(mut self, logs: &[(Log, LogState)]) -> Answer {
        let earliest = self.ends.last().map_or(self.at, |(start, _)| *start);
        let mut newest = None;
        for (state, tile) in NewestFirst::new(logs, self.at) {
            if tile.span.start < earliest {
                break;
            }
            self.finish_windows_after(tile.span.start);
            newest = newest.max(Some(tile.newest));
            let wanted = |aggregate: usize| self.needed[aggregate] <= tile.span.start;
            state.merge_tile(self.plan, tile, &mut self.merged, wanted);
        }
        self.finish_all_windows();
        Answer::new(self.plan, self.at, self.values, newest, self.overflowed)
    }

    /// Takes the values of every window that begins after `start`: no older tile belongs to it.
    fn finish_windows_after(&mut self, start: Time) {
        while let Some((begin, window)) = self.ends.get(self.window).copied()
            && begin > start
        {
            self.finish_window(window);
        }
    }

    fn finish_all_windows(&mut self) {
        while let Some((_, window)) = self.ends.get(self.window).copied() {
            self.finish_window(window);
        }
    }

    fn finish_window(&mut self, window: usize) {
        self.window += 1;
        for (value, feature) in self.values.iter_mut().zip(&self.plan.features) {
            if feature.window == window {
                let merged = &self.merged[feature.aggregate];
                *value = merged.finish(feature.function);
                self.overflowed += u64::from(merged.overflows(feature.function));
            }
        }
    }
}

/// The tiles of several logs that lie before `at`, each with its state, newest first by their start.
struct NewestFirst<'s> {
    logs: Vec<(&'s LogState, &'s [Tile])>,
}

impl<'s> NewestFirst<'s> {
    fn new(logs: &'s [(Log, LogState)], at: Time) -> Self {
        let before = |tiles: &'s [Tile]| &tiles[..tiles.partition_point(|tile| tile.span.end <= at)];
        Self { logs: logs.iter().map(|(_, state)| (state, before(state.tiles()))).collect() }
    }
}

impl<'s> Iterator for NewestFirst<'s> {
    type Item = (&'s LogState, &'s Tile);

    fn next(&mut self) -> Option<Self::Item> {
        let newest = self.logs.iter_mut().filter(|(_, tiles)| !tiles.is_empty());
        let (state, tiles) = newest.max_by_key(|(_, tiles)| tiles.last().map(|tile| tile.span.start))?;
        let (tile, older) = tiles.split_last()?;
        *tiles = older;
        Some((*state, tile))
    }
}
