//! Values in Arrow arrays: one Arrow type for each kernel type.

use std::sync::Arc;

use arrow_array::builder::TimestampMillisecondBuilder;
use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, ListArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::{FeatureType, Type, Value, canonical};
use crate::defect::defect;
use crate::time::Time;

/// The Arrow type of a scalar.
#[must_use]
pub fn data_type(ty: Type) -> DataType {
    match ty {
        Type::Bool => DataType::Boolean,
        Type::Int64 => DataType::Int64,
        Type::Float64 => DataType::Float64,
        Type::String => DataType::Utf8,
        Type::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        Type::Bytes => DataType::Binary,
    }
}

/// The Arrow type of a feature: lists are `List`, counts are `List<Struct<value, count>>`.
#[must_use]
pub fn feature_data_type(ty: FeatureType) -> DataType {
    match ty {
        FeatureType::Scalar(ty) => data_type(ty),
        FeatureType::List(ty) => DataType::List(item(data_type(ty))),
        FeatureType::Counts(ty) => DataType::List(item(DataType::Struct(count_fields(ty)))),
    }
}

fn item(ty: DataType) -> FieldRef {
    Arc::new(Field::new("item", ty, true))
}

fn count_fields(ty: Type) -> Fields {
    vec![Field::new("value", data_type(ty), true), Field::new("count", DataType::Int64, true)].into()
}

/// The value in one row of an array of one of the [scalar types](data_type). Floats become canonical.
///
/// # Panics
/// On an array of any other type, which only a defect hands over.
#[must_use]
pub fn value_at(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int64 => Value::Int64(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Float64(canonical(array.as_primitive::<Float64Type>().value(row))),
        DataType::Utf8 => Value::string(array.as_string::<i32>().value(row)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Value::Timestamp(Time::from_millis(array.as_primitive::<TimestampMillisecondType>().value(row)))
        }
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).into()),
        other => defect("columns have one of the Arrow types of scalars", other),
    }
}

/// An array of a feature's values.
///
/// # Panics
/// On a value of another type, which only a defect hands over.
#[must_use]
pub fn array_of<'a>(ty: FeatureType, values: impl IntoIterator<Item = &'a Value>) -> ArrayRef {
    match ty {
        FeatureType::Scalar(ty) => scalars(ty, values),
        FeatureType::List(ty) => {
            let lists = values.into_iter().map(|value| match value {
                Value::List(list) => Some(list.iter()),
                Value::Null => None,
                other => defect("a feature of lists has lists", other),
            });
            list_of(lists, data_type(ty), |items| scalars(ty, items))
        }
        FeatureType::Counts(ty) => {
            let lists = values.into_iter().map(|value| match value {
                Value::Counts(counts) => Some(counts.iter()),
                Value::Null => None,
                other => defect("a feature of counts has counts", other),
            });
            list_of(lists, DataType::Struct(count_fields(ty)), |items| counts(ty, &items))
        }
    }
}

fn list_of<'a, T: 'a, L: ExactSizeIterator<Item = &'a T>>(
    lists: impl Iterator<Item = Option<L>>,
    ty: DataType,
    array: impl FnOnce(Vec<&'a T>) -> ArrayRef,
) -> ArrayRef {
    let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        valid.push(list.is_some());
        lengths.push(list.as_ref().map_or(0, ExactSizeIterator::len));
        items.extend(list.into_iter().flatten());
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(item(ty), offsets, array(items), Some(NullBuffer::from(valid))))
}

fn counts(ty: Type, counts: &[&(Value, i64)]) -> ArrayRef {
    let values = scalars(ty, counts.iter().map(|(value, _)| value));
    let mut numbers = Int64Builder::with_capacity(counts.len());
    counts.iter().for_each(|(_, count)| numbers.append_value(*count));
    Arc::new(StructArray::new(count_fields(ty), vec![values, Arc::new(numbers.finish())], None))
}

fn scalars<'a>(ty: Type, values: impl IntoIterator<Item = &'a Value>) -> ArrayRef {
    macro_rules! build {
        ($builder:expr, $variant:ident, |$value:ident| $item:expr) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    Value::$variant($value) => builder.append_value($item),
                    Value::Null => builder.append_null(),
                    other => defect(concat!("a column of ", stringify!($variant), " has its values"), other),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    match ty {
        Type::Bool => build!(BooleanBuilder::new(), Bool, |value| *value),
        Type::Int64 => build!(Int64Builder::new(), Int64, |value| *value),
        Type::Float64 => build!(Float64Builder::new(), Float64, |value| *value),
        Type::String => build!(StringBuilder::new(), String, |value| value),
        Type::Timestamp => {
            build!(TimestampMillisecondBuilder::new().with_timezone("UTC"), Timestamp, |value| value.millis())
        }
        Type::Bytes => build!(BinaryBuilder::new(), Bytes, |value| value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_survive_the_way_there_and_back() {
        for value in [
            Value::Bool(true),
            Value::Int64(-3),
            Value::float(-0.0),
            Value::string("ß"),
            Value::Timestamp(Time::from_millis(-1)),
            Value::Bytes([0, 255].as_slice().into()),
        ] {
            let ty = value.scalar_type().expect("a scalar");
            let array = array_of(FeatureType::Scalar(ty), [&value, &Value::Null]);
            assert_eq!(array.data_type(), &data_type(ty));
            assert_eq!([value_at(&array, 0), value_at(&array, 1)], [value, Value::Null]);
        }
    }

    #[test]
    #[should_panic(expected = "columns have one of the Arrow types of scalars")]
    fn an_array_of_another_type_is_no_null() {
        let _ = value_at(&arrow_array::Int32Array::from(vec![1]), 0);
    }

    #[test]
    #[should_panic(expected = "a column of Int64 has its values")]
    fn a_value_of_another_type_is_no_null() {
        let _ = array_of(FeatureType::Scalar(Type::Int64), [&Value::float(1.0)]);
    }

    #[test]
    fn lists_keep_null_and_empty_apart() {
        let empty = Value::List([].into());
        let full = Value::List([Value::Int64(1), Value::Int64(2)].into());
        let array = array_of(FeatureType::List(Type::Int64), [&full, &Value::Null, &empty]);
        let list = array.as_list::<i32>();
        assert_eq!((list.value(0).len(), list.is_null(1), list.value(2).len()), (2, true, 0));
        let counts = Value::Counts([(Value::string("a"), 2)].into());
        let ty = FeatureType::Counts(Type::String);
        assert_eq!(array_of(ty, [&counts]).data_type(), &feature_data_type(ty));
    }
}
