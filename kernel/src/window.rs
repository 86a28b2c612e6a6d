//! Windows: which range of event time an answer uses.
//!
//! At each instant a window has two [edges](Window::edges): it holds the events of `[start, end)`. Whatever needs an
//! edge takes both from there, and none assumes that a window ends at the instant asked about. Which of the events
//! in it a question sees is another matter: that is [visibility](crate::visibility).
//!
//! For length `w` and hop `h` the window at `at` is `[floor(at - w, h), at)`: its newer edge is exact, its older
//! edge moves in steps of `h`. Windows are answered at read time, so a value decays with no new event.

use std::fmt;

use thiserror::Error;

use crate::time::{Span, Time, TimeRange};

/// The steps that tiles and hops are made of, finest first; each divides the next.
pub const GRANULARITIES: [Span; 10] = [
    Span::from_millis(1),
    Span::from_millis(10),
    Span::from_millis(100),
    Span::from_secs(1),
    Span::from_secs(10),
    Span::from_secs(60),
    Span::from_secs(600),
    Span::from_secs(3600),
    Span::from_secs(6 * 3600),
    Span::from_secs(86_400),
];

/// The longest finite window: a hundred years. Longer ones are `lifetime`.
pub const LONGEST: Span = Span::from_secs(36_525 * 86_400);

/// Why a window is not one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WindowError {
    /// The window would never hold an event.
    #[error("a window is at least 1ms long")]
    Empty,
    /// The window is longer than [`LONGEST`].
    #[error("a window is at most {LONGEST} long; for everything before `at` use lifetime")]
    TooLong,
    /// The hop is not one of the granularities.
    #[error("a hop is one of 1ms, 10ms, 100ms, 1s, 10s, 1m, 10m, 1h, 6h, 1d, not {0}")]
    NotAGranularity(Span),
    /// The hop is longer than the window.
    #[error("the hop {hop} is longer than the window {length}")]
    HopTooLong {
        /// The hop asked for.
        hop: Span,
        /// The window's length.
        length: Span,
    },
}

/// The range of event time that an answer uses, for each instant `at` that can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// `[floor(at - length, hop), at)`.
    Sliding {
        /// How far back the window reaches.
        length: Span,
        /// The step of its older edge: one of [`GRANULARITIES`].
        hop: Span,
    },
    /// Everything before `at`: `[-inf, at)`.
    Lifetime,
}

/// Where one edge of a window can lie from some instant on: at `first` or at a later multiple of `step`, as `first`
/// is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// Where it lies at that instant. Edges never move back.
    pub(crate) first: Time,
    /// One of [`GRANULARITIES`].
    pub(crate) step: Span,
}

impl Window {
    /// A window with the default hop: the coarsest granularity with `length >= 60 hops`, so that it is at most 1/60
    /// longer than its name.
    ///
    /// # Errors
    /// Fails where the length is zero or longer than [`LONGEST`].
    pub fn sliding(length: Span) -> Result<Self, WindowError> {
        let hop =
            GRANULARITIES.into_iter().rev().find(|granularity| length.millis() / 60 >= granularity.millis());
        Self::with_hop(length, hop.unwrap_or(Span::TICK))
    }

    /// A window whose older edge is exact: its hop is one tick.
    ///
    /// # Errors
    /// As [`Window::sliding`].
    pub fn exact(length: Span) -> Result<Self, WindowError> {
        Self::with_hop(length, Span::TICK)
    }

    /// A window with a named hop.
    ///
    /// # Errors
    /// Fails where the length is zero or longer than [`LONGEST`], or the hop is no granularity or longer than the window.
    pub fn with_hop(length: Span, hop: Span) -> Result<Self, WindowError> {
        match () {
            () if length == Span::ZERO => Err(WindowError::Empty),
            () if length > LONGEST => Err(WindowError::TooLong),
            () if !GRANULARITIES.contains(&hop) => Err(WindowError::NotAGranularity(hop)),
            () if hop > length => Err(WindowError::HopTooLong { hop, length }),
            () => Ok(Self::Sliding { length, hop }),
        }
    }

    /// The edges of the window at `at`: it holds the events whose event time lies in this range.
    ///
    /// The start is never after the end, and as `at` goes on neither edge moves back.
    #[must_use]
    pub const fn edges(self, at: Time) -> TimeRange {
        match self {
            Self::Sliding { length, hop } => TimeRange { start: at.minus(length).floor(hop), end: at },
            Self::Lifetime => TimeRange { start: Time::NEG_INFINITY, end: at },
        }
    }

    /// Where its start and its end can lie at `at` and at all later instants; `lifetime` has no start.
    pub(crate) const fn edges_from(self, at: Time) -> (Option<Edge>, Edge) {
        let TimeRange { start, end } = self.edges(at);
        let end = Edge { first: end, step: Span::TICK };
        match self {
            Self::Sliding { hop, .. } => (Some(Edge { first: start, step: hop }), end),
            Self::Lifetime => (None, end),
        }
    }

    /// How far before `at` the start can lie at most; none for `lifetime`.
    #[must_use]
    pub const fn reach(self) -> Option<Span> {
        match self {
            Self::Sliding { length, hop } => Some(Span::from_millis(length.millis() + hop.millis() - 1)),
            Self::Lifetime => None,
        }
    }
}

/// `7d`, `7d hop 1d`, `lifetime`: the hop is named only where it is not the default.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Lifetime => f.write_str("lifetime"),
            Self::Sliding { length, .. } if Self::sliding(length) == Ok(*self) => length.fmt(f),
            Self::Sliding { length, hop } => write!(f, "{length} hop {hop}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hop_of(length: &str) -> String {
        let length = Span::parse(length).expect("a span");
        match Window::sliding(length).expect("a window") {
            Window::Sliding { hop, .. } => hop.to_string(),
            Window::Lifetime => "none".into(),
        }
    }

    #[test]
    fn the_default_hop_is_the_coarsest_sixtieth() {
        for (length, hop) in [
            ("1ms", "1ms"),
            ("59ms", "1ms"),
            ("600ms", "10ms"),
            ("10s", "100ms"),
            ("59s", "100ms"),
            ("1m", "1s"),
            ("10m", "10s"),
            ("59m", "10s"),
            ("1h", "1m"),
            ("9h", "1m"),
            ("10h", "10m"),
            ("1d", "10m"),
            ("60h", "1h"),
            ("7d", "1h"),
            ("15d", "6h"),
            ("30d", "6h"),
            ("60d", "1d"),
            ("365d", "1d"),
        ] {
            assert_eq!(hop_of(length), hop, "{length}");
        }
    }

    #[test]
    fn windows_that_are_none_are_refused() {
        let hour = Span::from_secs(3600);
        assert_eq!(Window::sliding(Span::ZERO), Err(WindowError::Empty));
        assert_eq!(Window::sliding(Span::parse("40000d").expect("a span")), Err(WindowError::TooLong));
        assert!(matches!(Window::with_hop(hour, Span::from_secs(7)), Err(WindowError::NotAGranularity(_))));
        assert!(matches!(
            Window::with_hop(hour, Span::from_secs(86_400)),
            Err(WindowError::HopTooLong { .. })
        ));
    }

    #[test]
    fn a_window_is_at_most_a_sixtieth_longer_than_its_name() {
        let window = Window::sliding(Span::from_secs(3600)).expect("a window");
        let at = Time::from_millis(1_000_000_019_999);
        assert_eq!(window.edges(at).length(), Some(Span::from_millis(3_600_000 + 59_999)));
    }

    #[test]
    fn the_start_moves_in_hops_and_the_end_is_the_instant() {
        let window = Window::sliding(Span::from_secs(3600)).expect("a window");
        for (at, start) in [
            ("2026-01-31T12:00:00.000Z", "2026-01-31T11:00:00.000Z"),
            ("2026-01-31T12:00:00.001Z", "2026-01-31T11:00:00.000Z"),
            ("2026-01-31T12:00:59.999Z", "2026-01-31T11:00:00.000Z"),
            ("2026-01-31T12:01:00.000Z", "2026-01-31T11:01:00.000Z"),
            ("1970-01-01T00:00:00.000Z", "1969-12-31T23:00:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T22:59:00.000Z"),
        ] {
            let [start, end] = [start, at].map(|text| Time::parse(text).expect("a time"));
            assert_eq!(window.edges(end), TimeRange { start, end }, "{at}");
            assert_eq!(Window::Lifetime.edges(end), TimeRange { start: Time::NEG_INFINITY, end }, "{at}");
        }
        for at in [Time::NEG_INFINITY, Time::MIN, Time::MAX] {
            let edges = TimeRange { start: Time::NEG_INFINITY, end: at };
            assert_eq!(Window::Lifetime.edges(at), edges, "{at}");
        }
        // Nothing is before minus infinity.
        let none = TimeRange { start: Time::NEG_INFINITY, end: Time::NEG_INFINITY };
        assert_eq!(window.edges(Time::NEG_INFINITY), none);
    }

    fn any_window() -> impl Strategy<Value = Window> {
        let hop = prop::sample::select(GRANULARITIES.to_vec());
        let sliding = (hop, 1..=LONGEST.millis()).prop_map(|(hop, length)| {
            Window::with_hop(Span::from_millis(length.max(hop.millis())), hop).expect("a window")
        });
        prop_oneof![4 => sliding, 1 => Just(Window::Lifetime)]
    }

    proptest! {
        #[test]
        fn edges_are_in_order(
            window in any_window(), at in prop_oneof![-4_000_000_000_000i64..4_000_000_000_000, any::<i64>()],
        ) {
            let at = Time::from_millis(at);
            let edges = window.edges(at);
            prop_assert!(edges.start <= edges.end);
            prop_assert_eq!(edges.end, at, "both kinds end at the instant");
            prop_assert!(!edges.contains(at));
            prop_assert!(window.reach().is_none_or(|reach| at.minus(reach) <= edges.start));
        }

        #[test]
        fn edges_go_on_in_steps(
            window in any_window(), at in -4_000_000_000_000i64..4_000_000_000_000, later in 0i64..8_000_000_000,
        ) {
            let (start, end) = window.edges_from(Time::from_millis(at));
            let edges = window.edges(Time::from_millis(at + later));
            prop_assert_eq!(start.is_none(), edges.start == Time::NEG_INFINITY);
            let start = start.map(|edge| (edge, edges.start));
            for (edge, found) in start.into_iter().chain([(end, edges.end)]) {
                prop_assert!(edge.first <= found && (later > 0 || edge.first == found));
                prop_assert_eq!(found.floor(edge.step), found);
                prop_assert!(GRANULARITIES.contains(&edge.step));
            }
        }
    }
}
