//! Times that are numbers: units since the epoch, whole, with a fraction, or in text.
//!
//! Python's `time.time()` gives seconds with a fraction. A float64 is not that decimal number, but the one next to it:
//! 1767254400.123 is a little less than it says, and flooring it would give another millisecond. So its shortest digits
//! are floored.
//!
//! An event's time is a float64 field by the time it is read, whatever digits its record had. Text is therefore read as
//! the float64 nearest to it, or the same text would be one instant in an event and another in a label.

use super::convert::Content;
use crate::time::Time;

/// The digits after the decimal point that are read. The rest is far below a millisecond in every unit.
const FRACTION: usize = 12;

/// The unit of a numeric time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl Unit {
    /// Every unit with its name in definitions.
    pub const NAMED: [(&str, Self); 4] =
        [("s", Self::Seconds), ("ms", Self::Millis), ("us", Self::Micros), ("ns", Self::Nanos)];

    /// The name used in definitions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::Nanos => "ns",
        }
    }

    /// How versions of sources and stored definitions spell it, which never changes.
    #[must_use]
    pub const fn canonical(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::Nanos => "ns",
        }
    }

    /// The unit that is spelled so in stored definitions.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        Self::NAMED.into_iter().map(|(_, unit)| unit).find(|unit| unit.canonical() == text)
    }

    /// The instant that `number` units after the epoch fall in; anything finer than a millisecond is floored.
    /// Seconds beyond the ends of the number line stay there, far outside what an event may carry.
    #[must_use]
    pub const fn time(self, number: i64) -> Time {
        Time::from_millis(match self {
            Self::Seconds => number.saturating_mul(1000),
            Self::Millis => number,
            Self::Micros => number.div_euclid(1000),
            Self::Nanos => number.div_euclid(1_000_000),
        })
    }

    /// The instant that a number of units after the epoch falls in, anything finer than a millisecond floored:
    /// `1767254400.25`. Whole digits are exact, as in an int64 field. Any other number is the float64 nearest to it, as
    /// in a float64 field. None where the text is no such number, or the instant is beyond the ends of the number line.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<Time> {
        if let Ok(whole) = text.trim().parse::<i64>() {
            return self.floored(&whole.to_string());
        }
        let float = Content::Spelled(text).float64().ok()??;
        self.floored(&float.to_string())
    }

    /// The instant of decimal digits.
    fn floored(self, text: &str) -> Option<Time> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = !whole.is_empty() && whole.len() <= 19;
        if !is_number || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // What is cut off of a negative number would floor it to the tick before, where the number ends on one.
        let is_cut = fraction.bytes().skip(FRACTION).any(|digit| digit != b'0');
        let fraction = &fraction[..fraction.len().min(FRACTION)];
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let number: i128 = format!("{whole}{fraction}").parse().ok()?;
        let number = if is_negative { -number - i128::from(is_cut) } else { number };
        let (times, by) = match self {
            Self::Seconds => (1000, 1),
            Self::Millis => (1, 1),
            Self::Micros => (1, 1000),
            Self::Nanos => (1, 1_000_000),
        };
        let millis = (number * times).div_euclid(scale * by);
        i64::try_from(millis).ok().map(Time::from_millis)
    }

    /// The instant of the shortest decimal number that is this float; none for NaN. Beyond the ends of the number line
    /// instants stay there, far outside what an event may carry.
    #[must_use]
    pub fn time_of_float(self, number: f64) -> Option<Time> {
        if number.is_nan() {
            return None;
        }
        let end = if number < 0.0 { i64::MIN } else { i64::MAX };
        Some(self.floored(&number.to_string()).unwrap_or(Time::from_millis(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_floored() {
        for (text, millis) in [
            ("1767254400.1239999999", 1_767_254_400_123),
            ("-1.0000000000001", -1001),
            ("-0", 0),
            ("9223372036854775.807", i64::MAX),
        ] {
            assert_eq!(Unit::Seconds.floored(text), Some(Time::from_millis(millis)), "{text}");
        }
        for text in ["", "-", ".5", "1e9", "1.2.3", "NaN", "inf", "9223372036854775.808"] {
            assert_eq!(Unit::Seconds.floored(text), None, "{text}");
        }
    }

    #[test]
    fn text_is_the_number_that_an_event_would_hold() {
        for (text, millis) in [
            ("1767254400.25", 1_767_254_400_250),
            ("1767254400.123", 1_767_254_400_123),
            (" 1700000000.125 ", 1_700_000_000_125),
            ("1767254400.1239999", 1_767_254_400_123),
            ("1767254400.1239999999", 1_767_254_400_124),
            ("1767254400.9999999", 1_767_254_401_000),
            ("1.7672544e9", 1_767_254_400_000),
            ("-0.0005", -1),
            ("-1.5", -1500),
            ("-1.0000000000001", -1001),
            ("-0", 0),
            ("-62135596800", Time::MIN.millis()),
            ("253402300799.9999", Time::MAX.millis()),
        ] {
            assert_eq!(Unit::Seconds.parse(text), Some(Time::from_millis(millis)), "{text}");
        }
        for text in
            ["", "-", "1.2.3", "1 000", "NaN", "inf", "9223372036854775.808", "9223372036854775807", "1e300"]
        {
            assert_eq!(Unit::Seconds.parse(text), None, "{text}");
        }
        for text in ["1767254400.1239999999", "1767254400.9999999", "1.7672544e9", "-0.0005", "0.9999"] {
            let float: f64 = text.parse().expect("a number");
            assert_eq!(Unit::Seconds.parse(text), Unit::Seconds.time_of_float(float), "{text}");
        }
        assert_eq!(
            Unit::Nanos.parse("1767254400123999999"),
            Some(Time::from_millis(1_767_254_400_123)),
            "no digit of an integer is lost"
        );
        assert_eq!(Unit::Nanos.parse("1999999.9"), Some(Time::from_millis(1)));
        assert_eq!(Unit::Micros.parse("-0.001"), Some(Time::from_millis(-1)));
    }

    #[test]
    fn floats_are_the_number_that_they_were_written_as() {
        for (float, millis) in [
            (1_767_254_400.25, 1_767_254_400_250),
            (1_767_254_400.123, 1_767_254_400_123),
            (1_700_000_000.125, 1_700_000_000_125),
            (-0.0, 0),
            (-0.0005, -1),
            (1e300, i64::MAX),
            (f64::NEG_INFINITY, i64::MIN),
            (f64::INFINITY, i64::MAX),
        ] {
            assert_eq!(Unit::Seconds.time_of_float(float), Some(Time::from_millis(millis)), "{float}");
        }
        assert_eq!(Unit::Seconds.time_of_float(f64::NAN), None);
        assert_eq!(
            Unit::Millis.time_of_float(1_767_254_400_123.5).map(Time::millis),
            Some(1_767_254_400_123)
        );
    }
}
