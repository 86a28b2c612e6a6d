//! Columns of labels as the types that a service declares.
//!
//! One function decides what of a label file is a key, a request field or a token: values that are the same in the
//! declared type are taken, every other is named by its row. Text is read as another type only where the format of
//! the file has nothing but text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, TimestampMillisecondArray, cast::AsArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use arrow::datatypes::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::array_value_to_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemark_kernel::value::arrow::{array_of, data_type};
use tidemark_kernel::value::{FeatureType, Type};
use tidemark_kernel::{Time, Value};

/// Why a column is not of a declared type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Its own type cannot become the declared one.
    Type,
    /// These rows have values that the declared type does not hold.
    Rows(Vec<usize>),
}

/// The column as a declared type. Nulls stay, and a column of nothing else fits every type. `is_text` says that the
/// column's format has no types, so that its text is read.
pub(super) fn declared(column: &ArrayRef, ty: Type, is_text: bool) -> Result<ArrayRef, Misfit> {
    if column.logical_null_count() == column.len() {
        return Ok(new_null_array(&data_type(ty), column.len()));
    }
    match (column.data_type(), ty) {
        _ if is_text => read(column.as_string::<i32>(), ty),
        (DataType::Int64, Type::Float64) => {
            let whole = column.as_primitive::<Int64Type>();
            each(whole, ty, |whole: i64| exact_float(whole).map(Value::float))
        }
        (DataType::Float16 | DataType::Float32 | DataType::Float64, Type::Int64) => {
            let floats = cast(column, &DataType::Float64).map_err(|_| Misfit::Type)?;
            each(floats.as_primitive::<Float64Type>(), ty, |float: f64| {
                if float.is_nan() { Some(Value::Null) } else { whole(float).map(Value::Int64) }
            })
        }
        _ => widen(column, ty).ok_or(Misfit::Type),
    }
}

/// Values one by one; none where a value is not of the type.
fn each<T: Copy>(
    values: impl IntoIterator<Item = Option<T>>,
    ty: Type,
    read: impl Fn(T) -> Option<Value>,
) -> Result<ArrayRef, Misfit> {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    for (row, value) in values.into_iter().enumerate() {
        let read = value.map_or(Some(Value::Null), &read);
        if read.is_none() {
            wrong.push(row);
        }
        found.push(read.unwrap_or(Value::Null));
    }
    if wrong.is_empty() { Ok(array_of(FeatureType::Scalar(ty), &found)) } else { Err(Misfit::Rows(wrong)) }
}

fn read(texts: &StringArray, ty: Type) -> Result<ArrayRef, Misfit> {
    match ty {
        Type::String => Ok(Arc::new(texts.clone())),
        _ => each(texts, ty, |text| value(text, ty)),
    }
}

/// A text as a declared type.
fn value(text: &str, ty: Type) -> Option<Value> {
    match ty {
        Type::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Int64 => match text.split_once('.') {
            // What pandas makes of whole numbers beside a null.
            Some((number, zeros)) if !zeros.is_empty() && zeros.bytes().all(|zero| zero == b'0') => {
                number.parse().ok().map(Value::Int64)
            }
            _ => text.parse().ok().map(Value::Int64),
        },
        Type::Float64 => {
            // What is too large for a float64 is none; infinity is so only by name.
            let is_named = !text.contains(|character: char| character.is_ascii_digit());
            text.parse().ok().filter(|number: &f64| is_named || number.is_finite()).map(Value::float)
        }
        Type::String => Some(Value::string(text)),
        Type::Timestamp => Time::parse(text).map(Value::Timestamp),
        Type::Bytes => STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into())),
    }
}

/// The float64 that is this number and no other.
fn exact_float(whole: i64) -> Option<f64> {
    let float = whole as f64;
    (float as i128 == i128::from(whole)).then_some(float)
}

/// The int64 that a float is.
fn whole(float: f64) -> Option<i64> {
    // 2^63 is the first float64 behind those that an int64 holds.
    let limit = 9_223_372_036_854_775_808.0;
    (float.trunc() == float && (-limit..limit).contains(&float)).then_some(float as i64)
}

/// Why a value is not of a type, and how one looks that is.
pub(super) fn example(ty: Type) -> (&'static str, &'static str) {
    match ty {
        Type::Bool => ("no bool", "write a bool like true"),
        Type::Int64 => ("no int64", "write an int64 like 42"),
        Type::Float64 => ("no float64", "write a float64 like 4.2"),
        Type::String => ("no text", "write text"),
        Type::Timestamp => ("no instant", "write an instant like 2026-05-01T12:00:00Z"),
        Type::Bytes => ("no base64", "write bytes in base64"),
    }
}

/// The value in a row as messages show it.
pub(super) fn shown(column: &ArrayRef, row: usize) -> String {
    array_value_to_string(column, row).unwrap_or_else(|error| error.to_string())
}

/// The column as a kernel type; none where its own type is neither that nor narrower. Nulls stay.
///
/// Integers of up to 32 bits are int64 and float64, text and dictionaries of it are string, timestamps of any unit
/// and zone are timestamp, floored to milliseconds.
fn widen(column: &ArrayRef, ty: Type) -> Option<ArrayRef> {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary, LargeUtf8, Utf8, Utf8View};
    use DataType::{Float16, Float32, Int8, Int16, Int32, UInt8, UInt16, UInt32};
    let given = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        given => given,
    };
    let fits = match ty {
        _ if *given == data_type(ty) => true,
        Type::Int64 => matches!(given, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Type::Float64 => matches!(given, Float16 | Float32 | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Type::String => matches!(given, Utf8 | LargeUtf8 | Utf8View),
        Type::Bytes => matches!(given, Binary | LargeBinary | BinaryView | FixedSizeBinary(_)),
        Type::Timestamp => return millis(column),
        Type::Bool => false,
    };
    // A column of nothing but nulls has no type to be wrong.
    let fits = fits || *given == DataType::Null;
    fits.then(|| cast(column, &data_type(ty)).ok()).flatten()
}

/// A timestamp column in milliseconds, floored: Arrow's own cast would round times before 1970 up.
fn millis(column: &ArrayRef) -> Option<ArrayRef> {
    let millis: TimestampMillisecondArray = match column.data_type() {
        DataType::Null => return cast(column, &data_type(Type::Timestamp)).ok(),
        DataType::Timestamp(TimeUnit::Second, _) => {
            let seconds = column.as_primitive::<TimestampSecondType>();
            seconds.unary_opt(|seconds| seconds.checked_mul(1000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            column.as_primitive::<TimestampMillisecondType>().clone()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().unary(|micros| micros.div_euclid(1000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().unary(|nanos| nanos.div_euclid(1_000_000))
        }
        _ => return None,
    };
    Some(Arc::new(millis.with_timezone("UTC")))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Float64Array, Int16Array, Int64Array};
    use arrow::array::{NullArray, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::Int8Type;
    use tidemark_kernel::value::arrow::value_at;

    use super::*;

    #[test]
    fn narrower_types_widen_and_others_do_not() {
        let small: ArrayRef = Arc::new(Int16Array::from(vec![Some(-3), None]));
        let wide = widen(&small, Type::Int64).unwrap();
        assert_eq!([value_at(&wide, 0), value_at(&wide, 1)], [Value::Int64(-3), Value::Null]);
        let words: DictionaryArray<Int8Type> = vec!["a", "b"].into_iter().collect();
        let words: ArrayRef = Arc::new(words);
        assert_eq!(value_at(&widen(&words, Type::String).unwrap(), 1), Value::string("b"));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["42"]));
        assert!(widen(&text, Type::Int64).is_none());
        let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
        assert!(widen(&unsigned, Type::Int64).is_none());
    }

    #[test]
    fn times_are_floored() {
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999_999]));
        let millis = widen(&nanos, Type::Timestamp).unwrap();
        let at = |row| value_at(&millis, row);
        assert_eq!([at(0), at(1)], [-1, 1].map(|millis| Value::Timestamp(Time::from_millis(millis))));
    }

    #[test]
    fn numbers_convert_where_they_are_the_same() {
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(1 << 53), None]));
        assert_eq!(
            value_at(&declared(&whole, Type::Float64, false).unwrap(), 0),
            Value::float((1_i64 << 53) as f64)
        );
        let large: ArrayRef = Arc::new(Int64Array::from(vec![1, (1 << 53) + 1, i64::MAX]));
        assert_eq!(declared(&large, Type::Float64, false).unwrap_err(), Misfit::Rows(vec![1, 2]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![7.0, f64::NAN, -0.0]));
        let found = declared(&floats, Type::Int64, false).unwrap();
        let found: Vec<Value> = (0..3).map(|row| value_at(&found, row)).collect();
        assert_eq!(found, [Value::Int64(7), Value::Null, Value::Int64(0)]);
        let broken: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.0, 1e19]));
        assert_eq!(declared(&broken, Type::Int64, false).unwrap_err(), Misfit::Rows(vec![0, 2]));
    }

    #[test]
    fn text_is_read_where_the_format_has_nothing_else() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("42"), Some("7.0"), None, Some("x7")]));
        assert_eq!(declared(&texts, Type::Int64, false).unwrap_err(), Misfit::Type);
        assert_eq!(declared(&texts, Type::Int64, true).unwrap_err(), Misfit::Rows(vec![3]));
        let found = declared(&texts.slice(0, 3), Type::Int64, true).unwrap();
        let found: Vec<Value> = (0..3).map(|row| value_at(&found, row)).collect();
        assert_eq!(found, [Value::Int64(42), Value::Int64(7), Value::Null]);
        let nothing: ArrayRef = Arc::new(NullArray::new(2));
        assert_eq!(declared(&nothing, Type::Timestamp, false).unwrap().null_count(), 2);
    }
}
