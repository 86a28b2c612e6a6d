//! Parts and floors of instants, in UTC and the proleptic Gregorian calendar.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Int64Type, TimestampMillisecondType as Millis};
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use tidemark_kernel::time::Time;

use super::{Result, row_by_row, utc};
use crate::call::Kernel;

/// Something that can be named after an instant: a part of it, or a unit to floor it to.
pub(crate) struct Unit {
    /// As it is written.
    pub(crate) word: &'static str,
    /// Names the kernel.
    pub(crate) name: &'static str,
    pub(crate) kernel: Kernel,
}

macro_rules! part {
    ($word:literal, $f:expr) => {
        Unit {
            word: $word,
            name: concat!("date_part_", $word),
            kernel: |arguments| {
                let part = |ms| Ok(i64::from($f(calendar(ms)?)));
                Ok(Arc::new(row_by_row::<Millis, Int64Type>(&arguments[0], part)?))
            },
        }
    };
}

macro_rules! floor {
    ($word:literal, $f:expr) => {
        Unit {
            word: $word,
            name: concat!("date_trunc_", $word),
            kernel: |arguments| Ok(utc(row_by_row::<Millis, Millis>(&arguments[0], $f)?)),
        }
    };
}

type Calendar = DateTime<Utc>;

/// The parts of an instant, each an int64.
pub(crate) static PARTS: [Unit; 12] = [
    part!("year", |t: Calendar| t.year()),
    part!("quarter", |t: Calendar| t.quarter()),
    part!("month", |t: Calendar| t.month()),
    part!("week", |t: Calendar| t.iso_week().week()),
    part!("day", |t: Calendar| t.day()),
    part!("doy", |t: Calendar| t.ordinal()),
    part!("dow", |t: Calendar| t.weekday().num_days_from_sunday()),
    part!("isodow", |t: Calendar| t.weekday().number_from_monday()),
    part!("hour", |t: Calendar| t.hour()),
    part!("minute", |t: Calendar| t.minute()),
    part!("second", |t: Calendar| t.second()),
    part!("epoch", |t: Calendar| t.timestamp()),
];

const DAY: i64 = 86_400_000;

/// The units an instant can be floored to.
pub(crate) static FLOORS: [Unit; 8] = [
    floor!("year", |ms| first_day(ms, |_| 1)),
    floor!("quarter", |ms| first_day(ms, |month| (month - 1) / 3 * 3 + 1)),
    floor!("month", |ms| first_day(ms, |month| month)),
    // 1970-01-01 was a Thursday, so weeks begin three days before a multiple of seven.
    floor!("week", |ms: i64| floored(ms, 7 * DAY, 3 * DAY)),
    floor!("day", |ms| floored(ms, DAY, 0)),
    floor!("hour", |ms| floored(ms, 3_600_000, 0)),
    floor!("minute", |ms| floored(ms, 60_000, 0)),
    floor!("second", |ms| floored(ms, 1000, 0)),
];

/// Milliseconds since the epoch, as an int64.
pub(crate) fn epoch_ms(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    Ok(Arc::new(row_by_row::<Millis, Int64Type>(&arguments[0], Ok)?))
}

/// The instant so many milliseconds after the epoch; what no event could carry fails.
pub(crate) fn to_timestamp_millis(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let instant = |ms| if Time::from_millis(ms).is_valid() { Ok(ms) } else { Err(out_of_range(ms)) };
    Ok(utc(row_by_row::<Int64Type, Millis>(&arguments[0], instant)?))
}

fn calendar(ms: i64) -> Result<Calendar> {
    DateTime::from_timestamp_millis(ms).ok_or_else(|| out_of_range(ms))
}

fn floored(ms: i64, step: i64, shift: i64) -> Result<i64> {
    let past = ms.checked_add(shift).ok_or_else(|| out_of_range(ms))?.rem_euclid(step);
    ms.checked_sub(past).ok_or_else(|| out_of_range(ms))
}

fn first_day(ms: i64, month: impl Fn(u32) -> u32) -> Result<i64> {
    let instant = calendar(ms)?;
    let day = NaiveDate::from_ymd_opt(instant.year(), month(instant.month()), 1);
    let start = day.and_then(|day| day.and_hms_opt(0, 0, 0)).ok_or_else(|| out_of_range(ms))?;
    Ok(start.and_utc().timestamp_millis())
}

fn out_of_range(ms: i64) -> ArrowError {
    ArrowError::ComputeError(format!("the calendar does not reach {ms} ms"))
}
