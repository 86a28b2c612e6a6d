//! Casts between our types. Each fails on what it cannot carry over; `try_cast` gives null instead.

use std::sync::Arc;

use arrow::array::builder::{BinaryBuilder, StringBuilder};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType as Millis};
use arrow::error::ArrowError;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Type::{self, Bool, Bytes, Float64, Int64, String as Text, Timestamp};
use tidemark_kernel::value::canonical;

use super::{Result, utc};
use crate::call::Kernel;

/// A cast that exists.
pub(crate) struct Cast {
    pub(crate) from: Type,
    pub(crate) to: Type,
    /// Fails where the value cannot be carried over.
    pub(crate) strict: Kernel,
    /// Gives null there.
    pub(crate) lenient: Kernel,
}

macro_rules! cast {
    ($from:ident => $to:ident, $f:ident) => {
        Cast { from: $from, to: $to, strict: |a| $f(&a[0], true), lenient: |a| $f(&a[0], false) }
    };
}

/// Every cast that may be written, but for those of a type to itself.
pub(crate) static CASTS: [Cast; 13] = [
    cast!(Bool => Int64, bool_to_int),
    cast!(Bool => Text, bool_to_text),
    cast!(Int64 => Float64, int_to_float),
    cast!(Int64 => Text, int_to_text),
    cast!(Float64 => Int64, float_to_int),
    cast!(Float64 => Text, float_to_text),
    cast!(Text => Bool, text_to_bool),
    cast!(Text => Int64, text_to_int),
    cast!(Text => Float64, text_to_float),
    cast!(Text => Timestamp, text_to_timestamp),
    cast!(Text => Bytes, text_to_bytes),
    cast!(Timestamp => Text, timestamp_to_text),
    cast!(Bytes => Text, bytes_to_text),
];

/// The cast from one type to another, if there is one.
pub(crate) fn between(from: Type, to: Type) -> Option<&'static Cast> {
    CASTS.iter().find(|cast| cast.from == from && cast.to == to)
}

/// What to do with a value that cannot be carried over.
fn kept<T>(value: Option<T>, strict: bool, what: impl FnOnce() -> String) -> Result<Option<T>> {
    if value.is_none() && strict { Err(ArrowError::CastError(what())) } else { Ok(value) }
}

fn bool_to_int(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    let integers = array.as_boolean().iter().map(|value| value.map(i64::from));
    Ok(Arc::new(integers.collect::<PrimitiveArray<Int64Type>>()))
}

fn bool_to_text(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    texts(array.as_boolean().iter(), |value| value.to_string())
}

/// To the nearest double, ties to even.
fn int_to_float(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    #[expect(clippy::cast_precision_loss, reason = "rounding is what the cast means")]
    let floats = array.as_primitive::<Int64Type>().unary::<_, Float64Type>(|value| value as f64);
    Ok(Arc::new(floats))
}

fn int_to_text(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    texts(array.as_primitive::<Int64Type>().iter(), |value| value.to_string())
}

/// Towards zero; NaN and what int64 cannot hold fail.
fn float_to_int(array: &ArrayRef, strict: bool) -> Result<ArrayRef> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    let carried = |float: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        (-END..END).contains(&float).then_some(float as i64)
    };
    Ok(Arc::new(primitives::<_, _, Int64Type>(array.as_primitive::<Float64Type>().iter(), strict, carried)?))
}

/// The shortest decimal that reads back as the same double, always with a point or an exponent.
fn float_to_text(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    texts(array.as_primitive::<Float64Type>().iter(), |value| format!("{:?}", canonical(value)))
}

/// `true`, `t`, `yes`, `y`, `1` and their opposites, in any case.
fn text_to_bool(array: &ArrayRef, strict: bool) -> Result<ArrayRef> {
    let read = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    };
    let rows = array.as_string::<i32>().iter().map(|text| match text {
        Some(text) => kept(read(text), strict, || format!("`{text}` is no bool")),
        None => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<BooleanArray>>()?))
}

fn text_to_int(array: &ArrayRef, strict: bool) -> Result<ArrayRef> {
    let read = |text: &str| text.trim().parse().ok();
    Ok(Arc::new(primitives::<_, _, Int64Type>(array.as_string::<i32>().iter(), strict, read)?))
}

/// To the nearest double; `inf` and `NaN` are read too.
fn text_to_float(array: &ArrayRef, strict: bool) -> Result<ArrayRef> {
    let read = |text: &str| text.trim().parse().ok().map(canonical);
    Ok(Arc::new(primitives::<_, _, Float64Type>(array.as_string::<i32>().iter(), strict, read)?))
}

/// RFC 3339, as in [`Time::parse_rfc3339`].
fn text_to_timestamp(array: &ArrayRef, strict: bool) -> Result<ArrayRef> {
    let read = |text: &str| Time::parse_rfc3339(text).map(Time::millis);
    Ok(utc(primitives::<_, _, Millis>(array.as_string::<i32>().iter(), strict, read)?))
}

fn text_to_bytes(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    let mut bytes = BinaryBuilder::new();
    array.as_string::<i32>().iter().for_each(|text| bytes.append_option(text));
    Ok(Arc::new(bytes.finish()))
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp_to_text(array: &ArrayRef, _: bool) -> Result<ArrayRef> {
    texts(array.as_primitive::<Millis>().iter(), |value| Time::from_millis(value).to_string())
}

/// Bytes that are not UTF-8 fail.
fn bytes_to_text(array: &ArrayRef, strict: bool) -> Result<ArrayRef> {
    let mut texts = StringBuilder::with_capacity(array.len(), 0);
    for bytes in array.as_binary::<i32>() {
        let text = match bytes {
            Some(bytes) => {
                kept(std::str::from_utf8(bytes).ok(), strict, || "the bytes are not UTF-8".into())?
            }
            None => None,
        };
        texts.append_option(text);
    }
    Ok(Arc::new(texts.finish()))
}

fn texts<T>(rows: impl Iterator<Item = Option<T>>, written: impl Fn(T) -> String) -> Result<ArrayRef> {
    let mut texts = StringBuilder::new();
    rows.for_each(|row| texts.append_option(row.map(&written)));
    Ok(Arc::new(texts.finish()))
}

fn primitives<T, F, O>(
    rows: impl Iterator<Item = Option<T>>,
    strict: bool,
    carried: F,
) -> Result<PrimitiveArray<O>>
where
    T: Copy + std::fmt::Debug,
    F: Fn(T) -> Option<O::Native>,
    O: ArrowPrimitiveType,
{
    let rows = rows.map(|row| match row {
        Some(value) => kept(carried(value), strict, || format!("cannot cast {value:?} to {}", O::DATA_TYPE)),
        None => Ok(None),
    });
    rows.collect()
}
