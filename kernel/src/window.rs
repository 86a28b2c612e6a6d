//! Windows: which span of event time an answer uses.
//!
//! For length `w` and hop `h` the window at `at` is `[floor(at - w, h), at)`: its newer edge is exact, its older
//! edge moves in steps of `h`. Windows are answered at read time, so a value decays with no new event.

use std::fmt;

use thiserror::Error;

use crate::time::{Span, Time};

/// The steps that tiles and hops are made of, finest first; each divides the next.
pub const RUNGS: [Span; 10] = [
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
    /// The hop is not one of the rungs.
    #[error("a hop is one of 1ms, 10ms, 100ms, 1s, 10s, 1m, 10m, 1h, 6h, 1d, not {0}")]
    NotARung(Span),
    /// The hop is longer than the window.
    #[error("the hop {hop} is longer than the window {length}")]
    HopTooLong {
        /// The hop asked for.
        hop: Span,
        /// The window's length.
        length: Span,
    },
}

/// The span of event time before `at` that an answer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// `[floor(at - length, hop), at)`.
    Sliding {
        /// How far back the window reaches.
        length: Span,
        /// The step of its older edge: one of [`RUNGS`].
        hop: Span,
    },
    /// Everything before `at`.
    Lifetime,
}

impl Window {
    /// A window with the default hop: the coarsest rung with `length >= 60 hops`, so that it is at most 1/60
    /// longer than its name.
    ///
    /// # Errors
    /// Fails where the length is zero or longer than [`LONGEST`].
    pub fn sliding(length: Span) -> Result<Self, WindowError> {
        let hop = RUNGS.into_iter().rev().find(|rung| length.millis() / 60 >= rung.millis());
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
    /// Fails where the length is zero or longer than [`LONGEST`], or the hop is no rung or longer than the window.
    pub fn with_hop(length: Span, hop: Span) -> Result<Self, WindowError> {
        match () {
            () if length == Span::ZERO => Err(WindowError::Empty),
            () if length > LONGEST => Err(WindowError::TooLong),
            () if !RUNGS.contains(&hop) => Err(WindowError::NotARung(hop)),
            () if hop > length => Err(WindowError::HopTooLong { hop, length }),
            () => Ok(Self::Sliding { length, hop }),
        }
    }

    /// The first instant of the window at `at`.
    #[must_use]
    pub const fn start(self, at: Time) -> Time {
        match self {
            Self::Sliding { length, hop } => at.minus(length).floor(hop),
            Self::Lifetime => Time::NEG_INFINITY,
        }
    }

    /// How far before `at` the window can begin at most; none for `lifetime`.
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
        assert!(matches!(Window::with_hop(hour, Span::from_secs(7)), Err(WindowError::NotARung(_))));
        assert!(matches!(
            Window::with_hop(hour, Span::from_secs(86_400)),
            Err(WindowError::HopTooLong { .. })
        ));
    }

    #[test]
    fn a_window_is_at_most_a_sixtieth_longer_than_its_name() {
        let window = Window::sliding(Span::from_secs(3600)).expect("a window");
        let at = Time::from_millis(1_000_000_019_999);
        assert_eq!(at.millis() - window.start(at).millis(), 3_600_000 + 59_999);
    }
}
