//! Conversion of values of any format to declared fields, and the reasons of dead letters.
//!
//! Which value a field takes is the kernel's [table](tidemark_kernel::value::convert), the same for every format. This
//! module writes the reason where a value does not fit: what is expected, what was found, and what to change where the
//! definition may be wrong.

use std::borrow::Cow;

use tidemark_kernel::time::{NoInstant, Zone};
use tidemark_kernel::value::Type;
use tidemark_kernel::value::convert::{Content, NoInt64, Unfit};

use super::builder::Cell;
use super::json::shortened;

/// A value as a declared type, or why it is none; `zone` is that of a time that names none, and `shown` is how the message
/// quotes the value.
pub(super) fn cell<'a>(
    ty: Type,
    zone: Option<Zone>,
    content: Content<'a>,
    shown: impl FnOnce() -> String,
) -> Result<Cell<'a>, String> {
    if ty == Type::Int64 {
        let cell = content.integer().map(|number| number.map_or(Cell::Null, Cell::Int64));
        return cell.map_err(|why| unfit(expected_int64(why), &shown()));
    }
    if ty == Type::Timestamp {
        let cell = content.instant(zone).map(|time| match time {
            Some(time) if zone.is_none() && content.is_clock() => Cell::Clock(time),
            time => time.map_or(Cell::Null, Cell::Timestamp),
        });
        return cell.map_err(|why| unfit(&expected_time(why), &shown()));
    }
    let expected = expected(ty, zone, &content);
    read(ty, content).map_err(|Unfit| unfit(&expected, &shown()))
}

/// A text of a format that has nothing else, as a declared type: a field of CSV, the key or a header of a Kafka record.
pub(crate) fn text(ty: Type, zone: Option<Zone>, text: &str) -> Result<Cell<'_>, String> {
    cell(ty, zone, Content::Spelled(text), || format!("`{}`", shortened(text)))
}

fn read(ty: Type, content: Content<'_>) -> Result<Cell<'_>, Unfit> {
    let cell = match ty {
        Type::Bool => content.bool()?.map(Cell::Bool),
        Type::Int64 => content.int64()?.map(Cell::Int64),
        Type::Float64 => content.float64()?.map(Cell::Float64),
        Type::String => content.string()?.map(Cell::String),
        Type::Timestamp => content.time(None)?.map(Cell::Timestamp),
        Type::Bytes => content.bytes()?.map(Cell::Bytes),
    };
    Ok(cell.unwrap_or(Cell::Null))
}

/// Why a value is none of its field's.
pub(super) fn unfit(expected: &str, shown: &str) -> String {
    format!("expected {expected}, got {shown}")
}

/// What a field takes, and what to do about a value such as this, which it does not.
pub(super) fn expected(ty: Type, zone: Option<Zone>, content: &Content<'_>) -> Cow<'static, str> {
    let expected = match ty {
        Type::Bool => "true or false",
        Type::Int64 => expected_int64(content.integer().err().unwrap_or(NoInt64::NoNumber)),
        Type::Float64 => match content {
            Content::Whole(number) if i64::try_from(*number).is_ok() => {
                "a number that a float64 holds exactly (declare the field as int64 to keep every digit)"
            }
            Content::Whole(_) => {
                "a number that a float64 holds exactly (no type holds this one: write it as a float to round it)"
            }
            _ => "a number like 4.2",
        },
        Type::String if is_number(content) => {
            "a string (write the number in quotes, or declare the field as int64 or float64)"
        }
        Type::String => "a string",
        Type::Timestamp => return expected_time(content.instant(zone).err().unwrap_or(NoInstant::NoTime)),
        Type::Bytes => "bytes in base64",
    };
    expected.into()
}

fn expected_time(why: NoInstant) -> Cow<'static, str> {
    let once = |zone: Zone, what: &str| {
        let offset = "write its offset, as in 2026-05-01T12:00:00+02:00";
        format!("a time that the clocks of {zone} show once (they {what} this one: {offset})").into()
    };
    match why {
        NoInstant::NoTime => {
            "a time like 2026-05-01T12:00:00Z (a numeric time is an int64 or float64 field with a `unit`)"
                .into()
        }
        NoInstant::Skipped(zone) => once(zone, "skip"),
        NoInstant::Repeated(zone) => once(zone, "repeat"),
    }
}

const fn is_number(content: &Content<'_>) -> bool {
    matches!(content, Content::Whole(_) | Content::Float(..) | Content::Decimal(_) | Content::Number(_))
}

const fn expected_int64(why: NoInt64) -> &'static str {
    match why {
        NoInt64::NoNumber => "an int64 like 42",
        NoInt64::Fraction => "an int64 like 42 (declare the field as float64 to keep fractions)",
        NoInt64::Range => "an int64, from -9223372036854775808 to 9223372036854775807",
        NoInt64::Rounded => {
            "an exact int64 (a float64 of this size may have been rounded: write whole numbers without point or exponent)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(ty: Type, content: Content<'_>) -> String {
        cell(ty, None, content, || "it".to_owned()).expect_err("a misfit")
    }

    #[test]
    fn advice_is_of_the_value() {
        let range = "expected an int64, from -9223372036854775808 to 9223372036854775807, got it";
        let fraction = "expected an int64 like 42 (declare the field as float64 to keep fractions), got it";
        let rounded = "expected an exact int64 (a float64 of this size may have been rounded: write whole numbers without \
                       point or exponent), got it";
        let large = "18446744073709551615";
        for (content, expected) in [
            (Content::Whole(u64::MAX.into()), range),
            (Content::Number(large.into()), range),
            (Content::Spelled(large), range),
            (Content::Quoted(large.into()), range),
            (Content::Spelled("1.5"), fraction),
            (Content::Number("1.5".into()), fraction),
            (Content::Float(1.5, 53), fraction),
            (Content::Float(653_247_040_368_672_768.0, 53), rounded),
            (Content::Number("6.532470404e+17".into()), rounded),
            (Content::Spelled("9007199254740994.0"), rounded),
            (Content::Spelled("x"), "expected an int64 like 42, got it"),
        ] {
            assert_eq!(reason(Type::Int64, content.clone()), expected, "{content:?}");
            assert_eq!(unfit(&super::expected(Type::Int64, None, &content), "it"), expected);
        }
        let exact = |number| reason(Type::Float64, Content::Whole(number));
        assert!(exact((1 << 53) + 1).contains("declare the field as int64"));
        assert!(exact(u64::MAX.into()).contains("no type holds this one"));
    }

    #[test]
    fn an_hour_that_a_clock_change_skips_or_repeats_is_said_to_be_one() {
        let berlin = Zone::named("Europe/Berlin");
        for (time, what) in [("2026-03-29 02:30:00", "skip"), ("2026-10-25 02:30:00", "repeat")] {
            let reason = format!(
                "expected a time that the clocks of Europe/Berlin show once (they {what} this one: write its offset, as in \
                 2026-05-01T12:00:00+02:00), got `{time}`"
            );
            assert_eq!(text(Type::Timestamp, berlin, time), Err(reason));
            assert!(text(Type::Timestamp, None, time).is_ok(), "UTC without a zone");
        }
    }
}
