//! Columns of label files as the kernel's types: narrower types widen, nothing else is coerced.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMillisecondArray, cast::AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::datatypes::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use tidemark_kernel::value::{Type, arrow::data_type};

/// The column as a kernel type; none where its own type is neither that nor narrower. Nulls stay.
///
/// Integers of up to 32 bits are int64 and float64, text and dictionaries of it are string, timestamps of any unit
/// and zone are timestamp, floored to milliseconds.
pub(super) fn widen(column: &ArrayRef, ty: Type) -> Option<ArrayRef> {
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
    use arrow::array::{DictionaryArray, Int16Array, StringArray, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::Int8Type;
    use tidemark_kernel::value::arrow::value_at;
    use tidemark_kernel::{Time, Value};

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
}
