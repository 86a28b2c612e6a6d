//! Instants, lengths and ranges of time. Instants are UTC and tick in milliseconds; ranges are half-open.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

mod text;
mod zone;

pub use zone::{NoInstant, ZONES, Zone};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, possibly negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The first instant an event may carry: 0001-01-01T00:00:00Z. Earlier ones are dead letters.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// The last instant an event may carry: 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);
    /// Before every instant.
    pub const NEG_INFINITY: Self = Self(i64::MIN);

    /// The instant `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whether an event may carry this instant (years 1 to 9999, which every reader of our tables can hold).
    #[must_use]
    pub const fn is_valid(self) -> bool {
        Self::MIN.0 <= self.0 && self.0 <= Self::MAX.0
    }

    /// The greatest multiple of `step`, which is not zero, that is not after this instant; `NEG_INFINITY` where
    /// there is none.
    #[must_use]
    pub const fn floor(self, step: Span) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(step.0)))
    }

    /// This instant moved later by `span`; stays at the ends of the number line.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        if self.0 == i64::MIN { self } else { Self(self.0.saturating_add(span.0)) }
    }

    /// This instant moved earlier by `span`; stays at the ends of the number line.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The first tick after this instant.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(Span::TICK)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None if *self == Self::NEG_INFINITY => f.write_str("-inf"),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// A length of time in milliseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The smallest step of time: one millisecond.
    pub const TICK: Self = Self(1);

    /// A length of `millis` milliseconds.
    ///
    /// Negative lengths do not exist and become zero.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(if millis < 0 { 0 } else { millis })
    }

    /// A length of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// The length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Reads `250ms`, `10s`, `10m`, `1h`, `7d`: a whole number and one unit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = text[..digits].parse().ok()?;
        let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..])?.1;
        Some(Self(number.checked_mul(unit)?))
    }
}

const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The shortest spelling that [`Span::parse`] reads back, in the coarsest unit that divides it: `36h`, `7d`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, millis)| self.0 != 0 && self.0 % millis == 0);
        let (name, millis) = unit.unwrap_or(&("s", 1000));
        write!(f, "{}{name}", self.0 / millis)
    }
}

/// A half-open range of event time, `[start, end)`: what a window holds at an instant, and what a tile covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeRange {
    /// The first instant inside; [`Time::NEG_INFINITY`] for a range without a beginning.
    pub start: Time,
    /// The first instant after it. A range that ends at its start is empty.
    pub end: Time,
}

impl TimeRange {
    /// Whether `time` lies inside.
    #[must_use]
    pub fn contains(self, time: Time) -> bool {
        self.start <= time && time < self.end
    }

    /// How long it is; none for a range without a beginning.
    #[must_use]
    pub fn length(self) -> Option<Span> {
        let bounded = self.start != Time::NEG_INFINITY;
        bounded.then(|| Span::from_millis(self.end.millis() - self.start.millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        let [before, start, inside, end] = [9, 10, 29, 30].map(Time::from_millis);
        let range = TimeRange { start, end };
        assert_eq!([before, start, inside, end].map(|time| range.contains(time)), [false, true, true, false]);
        assert_eq!(range.length(), Some(Span::from_millis(20)));
        let empty = TimeRange { start, end: start };
        assert_eq!((empty.contains(start), empty.length()), (false, Some(Span::ZERO)));
        let unbounded = TimeRange { start: Time::NEG_INFINITY, end };
        assert_eq!((unbounded.contains(Time::MIN), unbounded.length()), (true, None));
    }

    #[test]
    fn floor_goes_towards_the_past() {
        let hour = Span::from_secs(3600);
        assert_eq!(Time::from_millis(-1).floor(hour), Time::from_millis(-3_600_000));
        assert_eq!(Time::from_millis(3_600_000).floor(hour), Time::from_millis(3_600_000));
        assert_eq!(Time::NEG_INFINITY.floor(hour), Time::NEG_INFINITY);
        assert_eq!(Time::from_millis(i64::MIN + 1).floor(hour), Time::NEG_INFINITY);
    }

    #[test]
    fn spans_are_read_and_written() {
        for text in ["250ms", "10s", "90s", "10m", "36h", "7d", "0s"] {
            assert_eq!(Span::parse(text).map(|span| span.to_string()), Some(text.to_owned()));
        }
        for text in ["", "10", "m", "-1s", "1.5h", "1 h", "99999999999999999d"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
