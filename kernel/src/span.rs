//! The closed form of a tile: in which span of event time an event lives, given what has arrived.
//!
//! Tiles are fine near `at` and grow coarser with age, never so coarse that a window's older edge could fall inside
//! one. [`Grid`] says how coarse: it is a pure function of the plan's windows and of an instant that is not after the horizon `R`
//! (newest arrival applied, less `head`; the [layout](crate::layout) says how long before), so the tiles are a pure function of the
//! applied events, whenever they were grown.

use crate::time::{Span, Time};
use crate::window::{RUNGS, Window};

/// A half-open span of event time `[start, end)` that one tile covers. `start` may be minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileSpan {
    /// The first instant covered.
    pub start: Time,
    /// The first instant after it.
    pub end: Time,
}

impl TileSpan {
    /// Whether `time` lies inside.
    #[must_use]
    pub fn contains(self, time: Time) -> bool {
        self.start <= time && time < self.end
    }

    /// How long it is; none for a span without a beginning.
    #[must_use]
    pub fn length(self) -> Option<Span> {
        let bounded = self.start != Time::NEG_INFINITY;
        bounded.then(|| Span::from_millis(self.end.millis() - self.start.millis()))
    }
}

/// Where tiles may lie for one plan's windows at one horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// For each rung, the instant up to which a tile of that length may reach.
    limits: [Time; RUNGS.len()],
    /// Events before it are seen by no finite window.
    oldest_start: Time,
    /// Whether some window is `lifetime`.
    lifetime: bool,
}

impl Grid {
    /// The grid for `windows` at this horizon.
    #[must_use]
    pub fn new(windows: &[Window], horizon: Time) -> Self {
        let mut limits = [horizon; RUNGS.len()];
        let mut oldest_start = horizon;
        let mut finite = false;
        for window in windows {
            let Window::Sliding { hop, .. } = *window else { continue };
            finite = true;
            let start = window.start(horizon);
            oldest_start = oldest_start.min(start);
            // Rungs divide each other, so those longer than the hop are the ones that do not divide it.
            for (limit, rung) in limits.iter_mut().zip(RUNGS) {
                if rung > hop {
                    *limit = (*limit).min(start);
                }
            }
        }
        let lifetime = windows.contains(&Window::Lifetime);
        Self { limits, oldest_start: if finite || lifetime { oldest_start } else { Time::MAX }, lifetime }
    }

    /// The tile in which an event at `time` lives; none where no allowed question can see it any more.
    #[must_use]
    pub fn span(&self, time: Time) -> Option<TileSpan> {
        if time < self.oldest_start {
            let everything = TileSpan { start: Time::NEG_INFINITY, end: self.oldest_start };
            return self.lifetime.then_some(everything);
        }
        let coarsest = RUNGS.iter().zip(&self.limits).rev().find_map(|(rung, limit)| {
            let start = time.floor(*rung);
            let end = start.plus(*rung);
            (end <= *limit).then_some(TileSpan { start, end })
        });
        Some(coarsest.unwrap_or(TileSpan { start: time, end: time.next() }))
    }

    /// The tile that the tile `span` has grown into; none where no allowed question can see it any more.
    #[must_use]
    pub fn grown(&self, span: TileSpan) -> Option<TileSpan> {
        let inside = if span.start == Time::NEG_INFINITY {
            Time::from_millis(span.end.millis() - 1)
        } else {
            span.start
        };
        self.span(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows(lengths: &[&str]) -> Vec<Window> {
        let span = |text| Span::parse(text).expect("a span");
        lengths.iter().map(|text| Window::sliding(span(text)).expect("a window")).collect()
    }

    /// The definition of design section 4, word by word, for one event.
    fn defined(windows: &[Window], horizon: Time, time: Time) -> Option<TileSpan> {
        let finite: Vec<(Span, Time)> = windows
            .iter()
            .filter_map(|window| match window {
                Window::Sliding { hop, .. } => Some((*hop, window.start(horizon))),
                Window::Lifetime => None,
            })
            .collect();
        let edge = finite.iter().map(|(_, start)| *start).chain([horizon]).min().expect("the horizon");
        if time < edge {
            let everything = TileSpan { start: Time::NEG_INFINITY, end: edge };
            return windows.contains(&Window::Lifetime).then_some(everything);
        }
        let mut best = TileSpan { start: time, end: time.next() };
        for rung in RUNGS {
            let span = TileSpan { start: time.floor(rung), end: time.floor(rung).plus(rung) };
            let fits = |(hop, start): &(Span, Time)| hop.millis() % rung.millis() == 0 || span.end <= *start;
            if span.end <= horizon && finite.iter().all(fits) {
                best = span;
            }
        }
        Some(best)
    }

    fn any_windows() -> impl Strategy<Value = Vec<Window>> {
        let length = prop::sample::select(vec!["30ms", "5s", "1m", "10m", "1h", "6h", "1d", "7d", "30d"]);
        let window =
            (length, prop::option::of(prop::sample::select(RUNGS.to_vec()))).prop_map(|(length, hop)| {
                let length = Span::parse(length).expect("a span");
                let hop = hop.filter(|hop| *hop <= length);
                match hop {
                    Some(hop) => Window::with_hop(length, hop).expect("a window"),
                    None => Window::sliding(length).expect("a window"),
                }
            });
        prop::collection::vec(prop_oneof![9 => window, 1 => Just(Window::Lifetime)], 1..5)
    }

    proptest! {
        #[test]
        fn the_grid_is_the_definition(
            windows in any_windows(), horizon in -4_000_000_000_000i64..4_000_000_000_000, age in -20_000i64..4_000_000_000,
        ) {
            let (horizon, time) = (Time::from_millis(horizon), Time::from_millis(horizon - age));
            let span = Grid::new(&windows, horizon).span(time);
            prop_assert_eq!(span, defined(&windows, horizon, time));
            // What states rest on for new events.
            let finest = TileSpan { start: time, end: time.next() };
            prop_assert!(time < horizon || span == Some(finest));
        }

        #[test]
        fn tiles_only_grow_into_tiles(
            windows in any_windows(), horizon in -4_000_000_000_000i64..4_000_000_000_000,
            age in -20_000i64..4_000_000_000, later in 0i64..8_000_000_000, inside in 0.0f64..1.0,
        ) {
            let (now, then) = (Time::from_millis(horizon), Time::from_millis(horizon + later));
            let time = Time::from_millis(horizon - age);
            if let Some(span) = Grid::new(&windows, now).span(time) {
                let grown = Grid::new(&windows, then).grown(span);
                prop_assert_eq!(grown, Grid::new(&windows, then).span(time));
                if let Some(length) = span.length() {
                    let offset = (length.millis() as f64 * inside) as i64;
                    let other = Time::from_millis(span.start.millis() + offset.min(length.millis() - 1));
                    prop_assert_eq!(grown, Grid::new(&windows, then).span(other));
                }
            }
        }
    }

    #[test]
    fn recent_events_live_in_fine_tiles_and_old_ones_in_coarse_ones() {
        let horizon = Time::parse("2026-01-31T12:34:56.789Z").expect("a time");
        let grid = Grid::new(&windows(&["10m", "1h", "1d", "7d"]), horizon);
        let length = |ago: &str| {
            let time = horizon.minus(Span::parse(ago).expect("a span"));
            grid.span(time).and_then(TileSpan::length).map(|length| length.to_string())
        };
        assert_eq!(length("0s").as_deref(), Some("1ms"));
        assert_eq!(length("5m").as_deref(), Some("10s"));
        assert_eq!(length("30m").as_deref(), Some("1m"));
        assert_eq!(length("20h").as_deref(), Some("10m"));
        assert_eq!(length("6d").as_deref(), Some("1h"));
        assert_eq!(length("8d"), None);
    }
}
