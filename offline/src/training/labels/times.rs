//! The instants that labels ask about.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, cast::AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use tidemark_kernel::Time;
use tidemark_kernel::time::{NoInstant, Zone};
use tidemark_kernel::value::{Type, Unit, convert};

use crate::training::declared::{Texts, declared, shown};

/// What a row says of its instant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Instant {
    At(Time),
    Null,
    /// No instant, as it is spelled.
    Bad(String),
    /// What the clocks of the zone never showed, or showed twice, as it is spelled.
    Unclear(String, NoInstant),
}

/// The instants of a column.
#[derive(Debug)]
pub(super) struct Instants {
    pub(super) rows: Vec<Instant>,
    /// Whether some are read as UTC because they name no zone, and none is given.
    pub(super) is_naive: bool,
    /// Whether they are read from text that says no more than they do: neither a number nor finer than a millisecond.
    pub(super) is_exact: bool,
}

/// Why a column has no instants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoInstants {
    /// Its values are numbers, and no unit is given.
    NoUnit,
    /// A unit is given, and its values are no numbers.
    NoNumbers,
    /// The column has another type.
    Type,
}

/// The instants in a column of timestamps, dates (their first moment), text, or numbers of a unit since 1970. Those that name no
/// zone are in `zone`, or UTC. `is_text` says that the format of the column has nothing but text.
pub(super) fn instants(
    column: &ArrayRef,
    unit: Option<Unit>,
    zone: Option<Zone>,
    is_text: bool,
) -> Result<Instants, NoInstants> {
    let column = &match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).map_err(|_| NoInstants::Type)?,
        _ => Arc::clone(column),
    };
    if let (true, Some(unit)) = (is_text, unit) {
        let texts = column.as_string::<i32>();
        return Ok(of_numbers(texts, unit));
    }
    if column.logical_null_count() == column.len() {
        let rows = (0..column.len()).map(|_| Instant::Null).collect();
        return Ok(Instants { rows, is_naive: false, is_exact: false });
    }
    match (spelled_numbers(column), unit) {
        (Some(Err(_)), _) => return Err(NoInstants::Type),
        (Some(Ok(_)), None) => return Err(NoInstants::NoUnit),
        (Some(Ok(numbers)), Some(unit)) => return Ok(of_numbers(&numbers, unit)),
        (None, Some(_)) => return Err(NoInstants::NoNumbers),
        (None, None) => {}
    }
    if let Ok(text) = declared(column, Type::String, None, Texts::Typed) {
        return Ok(of_texts(text.as_string::<i32>(), zone));
    }
    of_timestamps(column, zone)
}

fn of_timestamps(column: &ArrayRef, zone: Option<Zone>) -> Result<Instants, NoInstants> {
    if !convert::fits(column.data_type(), Type::Timestamp) {
        return Err(NoInstants::Type);
    }
    let has_zone = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    let row = |row| match convert::content(column, row).instant(zone) {
        Ok(time) => time.map_or(Instant::Null, Instant::At),
        Err(why) => no_instant(shown(column, row), why),
    };
    let rows = (0..column.len()).map(row).collect();
    Ok(Instants { rows, is_naive: zone.is_none() && !has_zone, is_exact: false })
}

fn of_numbers(texts: &StringArray, unit: Unit) -> Instants {
    let rows = texts.iter().map(|text| instant(text, |text| unit.parse(text).ok_or(NoInstant::NoTime)));
    Instants { rows: rows.collect(), is_naive: false, is_exact: false }
}

fn of_texts(texts: &StringArray, zone: Option<Zone>) -> Instants {
    Instants {
        rows: texts.iter().map(|text| instant(text, |text| Time::parse_in(text, zone))).collect(),
        is_naive: zone.is_none() && texts.iter().flatten().any(|text| !Time::names_zone(text)),
        is_exact: !texts.iter().flatten().any(is_finer),
    }
}

fn instant(text: Option<&str>, read: impl Fn(&str) -> Result<Time, NoInstant>) -> Instant {
    match text.map(|text| (text, read(text))) {
        None => Instant::Null,
        Some((_, Ok(time))) => Instant::At(time),
        Some((text, Err(why))) => no_instant(text.to_owned(), why),
    }
}

fn no_instant(spelled: String, why: NoInstant) -> Instant {
    match why {
        NoInstant::NoTime => Instant::Bad(spelled),
        why => Instant::Unclear(spelled, why),
    }
}

/// Whether a time has more digits than a millisecond has.
fn is_finer(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).count() > 3
}

/// A column of numbers as decimal text, every digit of them; none for any other column.
fn spelled_numbers(column: &ArrayRef) -> Option<Result<StringArray, ArrowError>> {
    let ty = column.data_type();
    if ty.is_floating() {
        let floats = cast(column, &DataType::Float64);
        let spell = |floats: ArrayRef| {
            let floats = floats.as_primitive::<Float64Type>().iter();
            floats
                .map(|float| float.filter(|float| !float.is_nan()).map(|float| float.to_string()))
                .collect::<StringArray>()
        };
        return Some(floats.map(spell));
    }
    let texts = |texts: ArrayRef| texts.as_string::<i32>().clone();
    ty.is_numeric().then(|| cast(column, &DataType::Utf8).map(texts))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, TimestampMillisecondArray, UInt64Array};

    use super::*;

    fn at(millis: i64) -> Instant {
        Instant::At(Time::from_millis(millis))
    }

    #[test]
    fn numbers_are_instants_of_their_unit() {
        let seconds = Some(Unit::Seconds);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("1767225600"),
            Some("-0.0005"),
            None,
            Some("1.5e9"),
            Some("1767254400.1239999999"),
            Some("soon"),
        ]));
        let found = instants(&texts, seconds, None, true).unwrap();
        assert_eq!(
            found.rows,
            [
                at(1_767_225_600_000),
                at(-1),
                Instant::Null,
                at(1_500_000_000_000),
                at(1_767_254_400_124),
                Instant::Bad("soon".to_owned()),
            ]
        );
        assert!(!found.is_naive);
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![1999]));
        for (unit, millis) in [("s", 1_999_000), ("ms", 1999), ("us", 1), ("ns", 0)] {
            let unit = Unit::NAMED.iter().find(|(name, _)| *name == unit).map(|(_, unit)| *unit);
            assert_eq!(instants(&whole, unit, None, false).unwrap().rows, [at(millis)]);
        }
        let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1, u64::MAX]));
        assert_eq!(instants(&unsigned, seconds, None, false).unwrap().rows[0], at(1000));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1_767_225_600.123, f64::NAN]));
        let found = instants(&floats, seconds, None, false).unwrap();
        assert_eq!(found.rows, [at(1_767_225_600_123), Instant::Null]);
        let decimals = Decimal128Array::from(vec![1500]).with_precision_and_scale(10, 3).unwrap();
        let decimals: ArrayRef = Arc::new(decimals);
        assert_eq!(instants(&decimals, seconds, None, false).unwrap().rows, [at(1500)]);
    }

    #[test]
    fn units_are_for_numbers_and_numbers_need_one() {
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(instants(&whole, None, None, false).unwrap_err(), NoInstants::NoUnit);
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]));
        assert_eq!(instants(&times, Some(Unit::Millis), None, false).unwrap_err(), NoInstants::NoNumbers);
        let bools: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true]));
        assert_eq!(instants(&bools, None, None, false).unwrap_err(), NoInstants::Type);
    }

    #[test]
    fn times_without_a_zone_are_noticed() {
        let is_naive = |text: &str| {
            let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
            instants(&text, None, None, true).unwrap().is_naive
        };
        assert!(is_naive("2026-05-01T12:00:00") && is_naive("2026-05-01"));
        assert!(!is_naive("2026-05-01T12:00:00Z") && !is_naive("2026-05-01 12:00:00-01:00"));
        assert!(!is_naive("2026-05-01 12:00:00 UTC") && !is_naive("2026-05-01 12:00:00+00"));
        let is_exact = |text: &str| {
            let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
            instants(&text, None, None, true).unwrap().is_exact
        };
        assert!(is_exact("2026-05-01T12:00:00.123Z") && is_exact("2026-05-01"));
        assert!(!is_exact("2026-05-01T12:00:00.123456Z"));
        let times = TimestampMillisecondArray::from(vec![1]);
        let zoned: ArrayRef = Arc::new(times.clone().with_timezone("UTC"));
        let naive: ArrayRef = Arc::new(times);
        assert!(!instants(&zoned, None, None, false).unwrap().is_naive);
        assert!(instants(&naive, None, None, false).unwrap().is_naive);
    }

    #[test]
    fn times_without_a_zone_are_in_the_one_that_is_given() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let skipped = "2026-03-29 02:30:00";
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec!["2026-07-01 09:30:00", "2026-07-01T07:30:00Z", skipped]));
        let found = instants(&texts, None, Some(berlin), true).unwrap();
        let (noon, skip) = (at(1_782_891_000_000), NoInstant::Skipped(berlin));
        assert_eq!(found.rows[..2], [noon, at(1_782_891_000_000)]);
        assert_eq!(found.rows[2], Instant::Unclear(skipped.to_owned(), skip));
        assert!(!found.is_naive);
        let times = TimestampMillisecondArray::from(vec![1_782_898_200_000, 1_774_751_400_000]);
        let zoned: ArrayRef = Arc::new(times.clone().with_timezone("Asia/Tokyo"));
        let naive: ArrayRef = Arc::new(times);
        let found = instants(&naive, None, Some(berlin), false).unwrap();
        assert_eq!(found.rows[0], at(1_782_891_000_000));
        assert!(matches!(&found.rows[1], Instant::Unclear(_, why) if *why == skip));
        let found = instants(&zoned, None, Some(berlin), false).unwrap();
        assert_eq!(found.rows, [at(1_782_898_200_000), at(1_774_751_400_000)], "they name a zone");
    }
}
