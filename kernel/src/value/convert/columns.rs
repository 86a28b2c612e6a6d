//! Conversion of whole Arrow columns to a kernel type.

use std::sync::Arc;

use arrow_array::builder::TimestampMillisecondBuilder;
use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_schema::{DataType, TimeUnit};

use super::{Content, Type, Unfit};
use crate::time::{Time, Zone};
use crate::value::Unit;
use crate::value::arrow::data_type;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Bits of the significand of a float of 16 bits.
const HALF: u32 = 11;

/// A column as one of our types.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The values; null where one does not fit.
    pub column: ArrayRef,
    /// The rows whose value does not fit, in their order.
    pub wrong: Vec<usize>,
}

/// Whether a column of this Arrow type can have values, other than null, that convert to the kernel type. Which of them
/// do is decided row by row.
#[must_use]
pub fn fits(found: &DataType, ty: Type) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256,
        Dictionary, FixedSizeBinary, LargeBinary, LargeUtf8, Null, Timestamp, Utf8, Utf8View,
    };
    let is_decimal = matches!(found, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..));
    let is_text = matches!(found, Utf8 | LargeUtf8 | Utf8View);
    match (found, ty) {
        (Null, _) => true,
        (Dictionary(_, values), _) => fits(values, ty),
        (_, Type::Bool) => matches!(found, Boolean) || found.is_integer() || is_decimal,
        (_, Type::Int64 | Type::Float64) => found.is_integer() || found.is_floating() || is_decimal,
        (_, Type::String) => is_text,
        (_, Type::Timestamp) => is_text || matches!(found, Date32 | Date64 | Timestamp(..)),
        (_, Type::Bytes) => matches!(found, Binary | LargeBinary | BinaryView | FixedSizeBinary(_)),
    }
}

/// A column as a type, timestamps in this [zone](Content::time); none where no value of it [`fits`].
#[must_use]
pub fn column(found: &ArrayRef, ty: Type, zone: Option<Zone>) -> Option<Converted> {
    if *found.data_type() == data_type(ty) {
        return Some(Converted { column: Arc::clone(found), wrong: Vec::new() });
    }
    fits(found.data_type(), ty).then(|| converted(found.len(), ty, zone, |row| content(found, row)))
}

/// A column of text in a format that lacks other types, timestamps in this [zone](Content::time). `content` says what a text
/// is there, such as [`Content::Spelled`].
#[must_use]
pub fn texts<'t>(
    found: &'t StringArray,
    ty: Type,
    zone: Option<Zone>,
    content: impl Fn(&'t str) -> Content<'t>,
) -> Converted {
    if ty == Type::String {
        return Converted { column: Arc::new(found.clone()), wrong: Vec::new() };
    }
    let at = |row| if found.is_null(row) { Content::Null } else { content(found.value(row)) };
    converted(found.len(), ty, zone, at)
}

fn converted<'a>(rows: usize, ty: Type, zone: Option<Zone>, at: impl Fn(usize) -> Content<'a>) -> Converted {
    let mut wrong = Vec::new();
    macro_rules! build {
        ($builder:expr, |$content:ident| $read:expr) => {{
            let mut builder = $builder;
            for row in 0..rows {
                let $content = at(row);
                match $read {
                    Ok(value) => builder.append_option(value),
                    Err(Unfit) => {
                        wrong.push(row);
                        builder.append_null();
                    }
                }
            }
            Arc::new(builder.finish())
        }};
    }
    let column: ArrayRef = match ty {
        Type::Bool => build!(BooleanBuilder::new(), |content| content.bool()),
        Type::Int64 => build!(Int64Builder::new(), |content| content.int64()),
        Type::Float64 => build!(Float64Builder::new(), |content| content.float64()),
        Type::String => build!(StringBuilder::new(), |content| content.string()),
        Type::Timestamp => {
            let builder = TimestampMillisecondBuilder::new().with_timezone("UTC");
            build!(builder, |content| content.time(zone).map(|time| time.map(Time::millis)))
        }
        Type::Bytes => build!(BinaryBuilder::new(), |content| content.bytes()),
    };
    Converted { column, wrong }
}

/// The value in one row of any array.
#[must_use]
pub fn content(array: &dyn Array, row: usize) -> Content<'_> {
    macro_rules! native {
        ($ty:ty) => {
            array.as_primitive::<$ty>().value(row)
        };
    }
    macro_rules! number {
        ($ty:ty, $scale:expr) => {
            Content::Decimal(decimal(&native!($ty).to_string(), *$scale))
        };
    }
    if array.is_null(row) {
        return Content::Null;
    }
    match array.data_type() {
        DataType::Null => Content::Null,
        DataType::Boolean => Content::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Content::Whole(native!(Int8Type).into()),
        DataType::Int16 => Content::Whole(native!(Int16Type).into()),
        DataType::Int32 => Content::Whole(native!(Int32Type).into()),
        DataType::Int64 => Content::Whole(native!(Int64Type).into()),
        DataType::UInt8 => Content::Whole(native!(UInt8Type).into()),
        DataType::UInt16 => Content::Whole(native!(UInt16Type).into()),
        DataType::UInt32 => Content::Whole(native!(UInt32Type).into()),
        DataType::UInt64 => Content::Whole(native!(UInt64Type).into()),
        DataType::Float16 => Content::Float(native!(Float16Type).into(), HALF),
        DataType::Float32 => Content::Float(native!(Float32Type).into(), f32::MANTISSA_DIGITS),
        DataType::Float64 => Content::Float(native!(Float64Type), f64::MANTISSA_DIGITS),
        DataType::Decimal32(_, scale) => number!(Decimal32Type, scale),
        DataType::Decimal64(_, scale) => number!(Decimal64Type, scale),
        DataType::Decimal128(_, scale) => number!(Decimal128Type, scale),
        DataType::Decimal256(_, scale) => number!(Decimal256Type, scale),
        DataType::Utf8 => Content::Text(array.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => Content::Text(array.as_string::<i64>().value(row).into()),
        DataType::Utf8View => Content::Text(array.as_string_view().value(row).into()),
        DataType::Binary => Content::Bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Content::Bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Content::Bytes(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Content::Bytes(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => Content::Clock(Time::from_millis(i64::from(native!(Date32Type)) * DAY)),
        DataType::Date64 => Content::Clock(Time::from_millis(native!(Date64Type))),
        DataType::Timestamp(unit, zone) => {
            let time = match unit {
                TimeUnit::Second => Unit::Seconds.time(native!(TimestampSecondType)),
                TimeUnit::Millisecond => Unit::Millis.time(native!(TimestampMillisecondType)),
                TimeUnit::Microsecond => Unit::Micros.time(native!(TimestampMicrosecondType)),
                TimeUnit::Nanosecond => Unit::Nanos.time(native!(TimestampNanosecondType)),
            };
            if zone.is_some() { Content::Time(time) } else { Content::Clock(time) }
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            match content(dictionary.keys(), row) {
                Content::Whole(key) => usize::try_from(key)
                    .map_or(Content::Null, |key| content(dictionary.values().as_ref(), key)),
                _ => Content::Null,
            }
        }
        _ => Content::Other,
    }
}

/// A decimal number from its digits and how many of them are after the decimal point, or how many zeros follow where that is
/// negative.
fn decimal(unscaled: &str, scale: i8) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    match usize::try_from(scale) {
        Ok(0) => unscaled.to_owned(),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{unscaled}e{}", scale.unsigned_abs()),
    }
}
