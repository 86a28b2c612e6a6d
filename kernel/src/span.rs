//! The span of event time of the tile that an event belongs to, given the newest arrival, in closed form.
//!
//! Tiles are fine near `at` and grow coarser with age, never so coarse that an edge of a window, older or newer, could
//! fall inside one. [`Grid`] says how coarse: it is a pure function of the plan's windows and of an instant that is not after
//! the retention horizon (newest arrival applied, less `time_travel`; the [layout](crate::layout) says how long before), so the tiles are
//! a pure function of the applied events, whenever they were grown.

use crate::time::{Time, TimeRange};
use crate::window::{Edge, GRANULARITIES, Window};

/// Where tiles may lie for one plan's windows at one horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// For each granularity, the instant up to which a tile of that length may reach.
    limits: [Time; GRANULARITIES.len()],
    /// The oldest edge of any window: only windows without a start see events before it.
    oldest_edge: Time,
    /// Whether some window has no start.
    lifetime: bool,
}

impl Grid {
    /// The grid for `windows` at this horizon.
    #[must_use]
    pub fn new(windows: &[Window], horizon: Time) -> Self {
        // Whatever the windows, no tile longer than a tick ends after the horizon: states rest on that for new events. Windows
        // that end at the instant asked about need it as well.
        let oldest_edge = if windows.is_empty() { Time::MAX } else { horizon };
        let mut grid = Self { limits: [horizon; GRANULARITIES.len()], oldest_edge, lifetime: false };
        for window in windows {
            let (start, end) = window.edges_from(horizon);
            grid.add(start, end);
        }
        grid
    }

    /// Lets no tile straddle the edges of this window.
    fn add(&mut self, start: Option<Edge>, end: Edge) {
        self.oldest_edge = self.oldest_edge.min(start.unwrap_or(end).first);
        self.lifetime |= start.is_none();
        for edge in start.into_iter().chain([end]) {
            // Granularities divide each other, so those longer than the step are the ones that do not divide it.
            for (limit, granularity) in self.limits.iter_mut().zip(GRANULARITIES) {
                if granularity > edge.step {
                    *limit = (*limit).min(edge.first);
                }
            }
        }
    }

    /// The tile in which an event at `time` lives; none where no allowed question can see it any more.
    #[must_use]
    pub fn span(&self, time: Time) -> Option<TimeRange> {
        if time < self.oldest_edge {
            let everything = TimeRange { start: Time::NEG_INFINITY, end: self.oldest_edge };
            return self.lifetime.then_some(everything);
        }
        let coarsest = GRANULARITIES.iter().zip(&self.limits).rev().find_map(|(granularity, limit)| {
            let start = time.floor(*granularity);
            let end = start.plus(*granularity);
            (end <= *limit).then_some(TimeRange { start, end })
        });
        Some(coarsest.unwrap_or(TimeRange { start: time, end: time.next() }))
    }

    /// The tile that the tile `span` has grown into; none where no allowed question can see it any more.
    #[must_use]
    pub fn grown(&self, span: TimeRange) -> Option<TimeRange> {
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
    use crate::time::Span;
    use proptest::prelude::*;

    fn windows(lengths: &[&str]) -> Vec<Window> {
        let span = |text| Span::parse(text).expect("a span");
        lengths.iter().map(|text| Window::sliding(span(text)).expect("a window")).collect()
    }

    /// The definition of design section 4, word by word, for one event.
    fn defined(windows: &[Window], horizon: Time, time: Time) -> Option<TimeRange> {
        let finite: Vec<(Span, Time)> = windows
            .iter()
            .filter_map(|window| match window {
                Window::Sliding { hop, .. } => Some((*hop, window.edges(horizon).start)),
                Window::Lifetime => None,
            })
            .collect();
        let edge = finite.iter().map(|(_, start)| *start).chain([horizon]).min().expect("the horizon");
        if time < edge {
            let everything = TimeRange { start: Time::NEG_INFINITY, end: edge };
            return windows.contains(&Window::Lifetime).then_some(everything);
        }
        let mut best = TimeRange { start: time, end: time.next() };
        for granularity in GRANULARITIES {
            let span =
                TimeRange { start: time.floor(granularity), end: time.floor(granularity).plus(granularity) };
            let fits =
                |(hop, start): &(Span, Time)| hop.millis() % granularity.millis() == 0 || span.end <= *start;
            if span.end <= horizon && finite.iter().all(fits) {
                best = span;
            }
        }
        Some(best)
    }

    fn any_windows() -> impl Strategy<Value = Vec<Window>> {
        let length = prop::sample::select(vec!["30ms", "5s", "1m", "10m", "1h", "6h", "1d", "7d", "30d"]);
        let window = (length, prop::option::of(prop::sample::select(GRANULARITIES.to_vec()))).prop_map(
            |(length, hop)| {
                let length = Span::parse(length).expect("a span");
                let hop = hop.filter(|hop| *hop <= length);
                match hop {
                    Some(hop) => Window::with_hop(length, hop).expect("a window"),
                    None => Window::sliding(length).expect("a window"),
                }
            },
        );
        prop::collection::vec(prop_oneof![9 => window, 1 => Just(Window::Lifetime)], 1..5)
    }

    /// A window of a kind that does not exist yet: it ends `offset` before the instant asked about, and both of its
    /// edges move in steps of `hop`. Without a length, it has no start.
    #[derive(Clone, Copy, Debug)]
    struct Shifted {
        offset: Span,
        length: Option<Span>,
        hop: Span,
    }

    impl Shifted {
        fn edges(self, at: Time) -> TimeRange {
            let end = at.minus(self.offset);
            let start = self.length.map_or(Time::NEG_INFINITY, |length| end.minus(length).floor(self.hop));
            TimeRange { start, end: end.floor(self.hop) }
        }

        fn add_to(self, grid: &mut Grid, horizon: Time) {
            let edges = self.edges(horizon);
            let start = self.length.map(|_| Edge { first: edges.start, step: self.hop });
            grid.add(start, Edge { first: edges.end, step: self.hop });
        }
    }

    fn any_shifted() -> impl Strategy<Value = Shifted> {
        let spans =
            ["0s", "30ms", "5s", "1m", "90m", "1d", "7d"].map(|text| Span::parse(text).expect("a span"));
        let span = prop::sample::select(spans.to_vec());
        let length = prop::option::weighted(0.9, span.clone());
        let hop = prop::sample::select(GRANULARITIES.to_vec());
        (span, length, hop).prop_map(|(offset, length, hop)| Shifted { offset, length, hop })
    }

    /// The grid of windows that exist and of some that end before the instant asked about.
    fn grid_of(windows: &[Window], shifted: &[Shifted], horizon: Time) -> Grid {
        let mut grid = Grid::new(windows, horizon);
        shifted.iter().for_each(|window| window.add_to(&mut grid, horizon));
        grid
    }

    proptest! {
        #[test]
        fn no_tile_straddles_an_edge_of_a_window_that_ends_before_the_instant(
            windows in prop_oneof![Just(Vec::<Window>::new()), any_windows()],
            shifted in prop::collection::vec(any_shifted(), 1..4),
            horizon in -4_000_000_000_000i64..4_000_000_000_000, age in -20_000i64..4_000_000_000,
            later in prop_oneof![0i64..100_000, 0i64..8_000_000_000],
        ) {
            let (now, then) = (Time::from_millis(horizon), Time::from_millis(horizon + later));
            let time = Time::from_millis(horizon - age);
            let edges: Vec<TimeRange> = windows
                .iter()
                .map(|window| window.edges(then))
                .chain(shifted.iter().map(|window| window.edges(then)))
                .collect();
            let tile = grid_of(&windows, &shifted, now).span(time);
            let grown = grid_of(&windows, &shifted, then).span(time);
            let Some(tile) = tile else {
                prop_assert!(edges.iter().all(|window| time < window.start), "no later question sees it");
                return Ok(());
            };
            prop_assert!(tile.contains(time));
            for edge in edges.iter().flat_map(|window| [window.start, window.end]) {
                prop_assert!(edge <= tile.start || tile.end <= edge, "{edge} in {tile:?}");
            }
            prop_assert_eq!(grid_of(&windows, &shifted, then).grown(tile), grown);
        }

        #[test]
        fn the_grid_is_the_definition(
            windows in any_windows(), horizon in -4_000_000_000_000i64..4_000_000_000_000, age in -20_000i64..4_000_000_000,
        ) {
            let (horizon, time) = (Time::from_millis(horizon), Time::from_millis(horizon - age));
            let span = Grid::new(&windows, horizon).span(time);
            prop_assert_eq!(span, defined(&windows, horizon, time));
            // What states rest on for new events.
            let finest = TimeRange { start: time, end: time.next() };
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
            grid.span(time).and_then(TimeRange::length).map(|length| length.to_string())
        };
        assert_eq!(length("0s").as_deref(), Some("1ms"));
        assert_eq!(length("5m").as_deref(), Some("10s"));
        assert_eq!(length("30m").as_deref(), Some("1m"));
        assert_eq!(length("20h").as_deref(), Some("10m"));
        assert_eq!(length("6d").as_deref(), Some("1h"));
        assert_eq!(length("8d"), None);
    }
}
