//! Instants written as text.
//!
//! Files and records come from many programs, which write the same instant in many ways. There is one reader of them, so
//! that a spelling is an instant everywhere or nowhere. Expressions have a narrower one of their own: what they mean must
//! not change with it.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, Utc};

use super::Time;

/// How much of an instant precedes its zone, at least.
const TO_THE_MINUTE: &str = "0000-00-00 00:00";

impl Time {
    /// Reads an instant as [`parse_rfc3339`](Self::parse_rfc3339) does, and also with the zones that databases write: `Z`
    /// or `UTC`, or hours with or without minutes (`+01`, `+0100`, `+01:00`), with or without a space before it. The
    /// seconds may be left out before a zone.
    ///
    /// None for anything else: a text is only read where no two readers could take it for different instants.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_rfc3339(text).or_else(|| {
            let (clock, zone) = split_zone(text.trim())?;
            let offset = offset(zone)?;
            let time = written_out(clock).then(|| unzoned(clock))??.checked_sub_offset(offset)?;
            valid(time.and_utc())
        })
    }

    /// Reads RFC 3339 (`2026-11-20T08:30:00.125+01:00`), also with a space for the `T`. Without a zone it is UTC,
    /// and then the seconds, or all but the date, may be left out. Anything finer than a millisecond is floored.
    ///
    /// None for anything else: no part may have fewer digits (`26-11-20` would be the year 26), and no event could
    /// carry an instant outside the years 1 to 9999. Expressions read text this way.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let text = text.trim();
        if !written_out(text) {
            return None;
        }
        valid(zoned(text).or_else(|| Some(unzoned(text)?.and_utc()))?)
    }

    /// Whether an instant in text names its zone. One that does not is UTC.
    #[must_use]
    pub fn names_zone(text: &str) -> bool {
        split_zone(text.trim()).is_some()
    }
}

fn valid(time: DateTime<Utc>) -> Option<Time> {
    Some(Time(time.timestamp_millis())).filter(|time| time.is_valid())
}

/// Whether date and clock have every digit. chrono takes any number of digits, and spaces between them.
fn written_out(text: &str) -> bool {
    let has = |part: Option<&str>, shape| part.is_some_and(|part| has_digits(part, shape));
    let clock = match text.len() {
        10 => true,
        16 => has(text.get(11..), "00:00"),
        _ => has(text.get(11..19), "00:00:00"),
    };
    clock && has(text.get(..10), "0000-00-00")
}

/// Whether there is a digit wherever `shape` has a `0`, and the same character as in `shape` elsewhere.
fn has_digits(text: &str, shape: &str) -> bool {
    let same = |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(same)
}

fn zoned(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

fn unzoned(text: &str) -> Option<NaiveDateTime> {
    let clocks = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let clock = clocks.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    clock.or_else(day)
}

/// An instant's clock and its zone, with the space before it; none where it names no zone.
fn split_zone(text: &str) -> Option<(&str, &str)> {
    let is_zone = |character: char| !(character.is_ascii_digit() || matches!(character, ':' | '.'));
    let at = text.get(TO_THE_MINUTE.len()..)?.find(is_zone)?;
    Some(text.split_at(TO_THE_MINUTE.len() + at))
}

fn offset(zone: &str) -> Option<FixedOffset> {
    let zone = zone.strip_prefix(' ').unwrap_or(zone);
    if matches!(zone, "Z" | "z" | "UTC") {
        return FixedOffset::east_opt(0);
    }
    let digits = zone.strip_prefix(['+', '-'])?;
    if has_digits(digits, "00") {
        return format!("{zone}00").parse().ok();
    }
    let is_whole = has_digits(digits, "0000") || has_digits(digits, "00:00");
    is_whole.then(|| zone.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_and_written() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 01:00:00.0019+01:00", 1),
            ("1969-12-31T23:59:59.9999", -1),
            ("1970-01-02", 86_400_000),
            (" 1970-01-01T00:01 ", 60_000),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01T00:00:60Z", 60_000),
            ("0001-01-01", Time::MIN.millis()),
            ("9999-12-31T23:59:59.999Z", Time::MAX.millis()),
        ] {
            assert_eq!(Time::parse(text), Some(Time::from_millis(millis)), "{text}");
            assert_eq!(Time::parse_rfc3339(text), Some(Time::from_millis(millis)), "{text}");
        }
        assert_eq!(Time::MIN.to_string(), "0001-01-01T00:00:00.000Z");
        assert_eq!(Time::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn zones_are_read_as_databases_write_them() {
        for text in [
            "2026-01-01 08:00:00 UTC",
            "2026-01-01T08:00:00UTC",
            "2026-01-01 08:00:00+00",
            "2026-01-01 08:00:00.000 +0000",
            "2026-01-01T09:00:00+0100",
            "2026-01-01 09:00:00 +01:00",
            "2026-01-01 03:00:00-05",
            "2026-01-01 13:30:00.0009+0530",
            "2026-01-01T08:00Z",
            "2026-01-01 08:00:00 Z",
            "2026-01-01T07:00-01:00",
            "2026-01-01 08:00 UTC",
        ] {
            assert_eq!(Time::parse(text).map(Time::millis), Some(1_767_254_400_000), "{text}");
            assert_eq!(Time::parse_rfc3339(text), None, "{text}: expressions mean what they meant");
            assert!(Time::names_zone(text), "{text}");
        }
        assert_eq!(Time::parse("1969-12-31 23:59:59.9999 UTC"), Some(Time::from_millis(-1)), "floored");
        assert!(Time::names_zone("2026-01-01T08:00:00Z") && Time::names_zone(" 2026-01-01T08:00:00-01:00"));
        for text in ["2026-01-01", "2026-01-01T08:00", "2026-01-01 08:00:00.125 "] {
            assert!(!Time::names_zone(text), "{text}");
        }
        for text in ["0001-01-01 00:00:00+01", "9999-12-31 23:59:59-0001"] {
            assert_eq!(Time::parse(text), None, "{text}: outside years 1 to 9999");
        }
    }

    #[test]
    fn what_could_be_misread_is_no_instant() {
        for text in [
            "",
            "yesterday",
            "26-11-20",
            "2026-1-5",
            "+12026-01-01",
            "-0044-03-15",
            "2026-11-2008:30:00",
            "2026- 11- 20",
            "2026-02-30",
            "2026-11-20 8:30",
            "2026-11-20  08:30",
            "2026-11-20 08:30:00.",
            "2026-11-20T24:00:00Z",
            "0000-12-31",
            "9999-12-31T23:59:59-00:01",
            "２026-11-20",
            "2026-11-20x08:30",
            "2026-11-20Z",
            "2026-11-20 UTC",
            "2026-11-20 08:30:00  UTC",
            "2026-11-20 08:30:00 CET",
            "2026-11-20 08:30:00 GMT",
            "2026-11-20 08:30:00+1",
            "2026-11-20 08:30:00+010",
            "2026-11-20 08:30:00+01:0",
            "2026-11-20 08:30:00+01 00",
            "2026-11-20 08:30:00+0160",
            "2026-11-20 08:30:00+24",
            "2026-11-20 08:30:00 +0000 UTC",
            "2026-11-20 08:30:00.+00",
            "01/02/2026",
            "20261120",
            "1767254400",
        ] {
            assert_eq!(Time::parse(text), None, "{text}");
            assert_eq!(Time::parse_rfc3339(text), None, "{text}");
        }
    }
}
