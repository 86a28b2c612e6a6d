//! Conversion of label columns to the types that a service declares.
//!
//! Keys, request fields and tokens are converted by the kernel's [table](convert), as for events: values that the
//! declared type can hold are accepted, every other is reported with its row.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, cast::AsArray, new_null_array};
use arrow::util::display::array_value_to_string;
use tidemark_kernel::time::{NoInstant, Zone};
use tidemark_kernel::value::Type;
use tidemark_kernel::value::arrow::data_type;
use tidemark_kernel::value::convert::{self, Content, NoInt64};

/// Why a column is not of a declared type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Its own type cannot become the declared one.
    Type,
    /// These rows have values that the declared type does not hold.
    Rows(Vec<usize>),
}

/// What a text of a column may be parsed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// Text, or an instant: the format has a type for everything else.
    Typed,
    /// What JSON has no type for.
    Quoted,
    /// Any value: the format has nothing but text.
    Spelled,
}

/// The column as a declared type, times that name no zone in `zone`. Nulls stay, and a column of nothing else fits every type.
pub(super) fn declared(
    column: &ArrayRef,
    ty: Type,
    zone: Option<Zone>,
    texts: Texts,
) -> Result<ArrayRef, Misfit> {
    if column.logical_null_count() == column.len() {
        return Ok(new_null_array(&data_type(ty), column.len()));
    }
    let converted = match (texts, column.as_string_opt::<i32>()) {
        (Texts::Quoted, Some(found)) => convert::texts(found, ty, zone, |text| Content::Quoted(text.into())),
        (Texts::Spelled, Some(found)) => convert::texts(found, ty, zone, Content::Spelled),
        _ => convert::column(column, ty, zone).ok_or(Misfit::Type)?,
    };
    if converted.wrong.is_empty() { Ok(converted.column) } else { Err(Misfit::Rows(converted.wrong)) }
}

/// Why the value in a row is not of a type, and what to write instead.
pub(super) fn explained(
    column: &ArrayRef,
    row: usize,
    ty: Type,
    zone: Option<Zone>,
    texts: Texts,
) -> (Cow<'static, str>, &'static str) {
    let content = match (texts, column.as_string_opt::<i32>()) {
        (Texts::Quoted, Some(found)) => Content::Quoted(found.value(row).into()),
        (Texts::Spelled, Some(found)) => Content::Spelled(found.value(row)),
        _ => convert::content(column, row),
    };
    match (content.integer(), content.instant(zone)) {
        (Err(NoInt64::Rounded), _) if ty == Type::Int64 => (
            "no exact int64: a float64 of this size may have been rounded".into(),
            "write whole numbers without point or exponent",
        ),
        (_, Err(why)) if ty == Type::Timestamp => no_instant(why),
        _ => {
            let (why, help) = example(ty);
            (why.into(), help)
        }
    }
}

/// Why a value is no instant, and what to write instead.
pub(super) fn no_instant(why: NoInstant) -> (Cow<'static, str>, &'static str) {
    let offset = "write its offset, as in 2026-05-01T12:00:00+02:00";
    match why {
        NoInstant::NoTime => ("no instant".into(), "write an instant like 2026-05-01T12:00:00Z"),
        NoInstant::Skipped(zone) => (format!("no instant: the clocks of {zone} skip it").into(), offset),
        NoInstant::Repeated(zone) => {
            (format!("no single instant: the clocks of {zone} show it twice").into(), offset)
        }
    }
}

fn example(ty: Type) -> (&'static str, &'static str) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, NullArray, StringArray, UInt64Array};
    use tidemark_kernel::Value;
    use tidemark_kernel::value::arrow::value_at;

    use super::*;

    #[test]
    fn rows_that_do_not_fit_are_named() {
        let large: ArrayRef = Arc::new(Int64Array::from(vec![1, (1 << 53) + 1, i64::MAX]));
        assert_eq!(
            declared(&large, Type::Float64, None, Texts::Typed).unwrap_err(),
            Misfit::Rows(vec![1, 2])
        );
        let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
        assert_eq!(
            value_at(&declared(&unsigned, Type::Int64, None, Texts::Typed).unwrap(), 0),
            Value::Int64(1)
        );
        assert_eq!(declared(&unsigned, Type::String, None, Texts::Typed).unwrap_err(), Misfit::Type);
    }

    #[test]
    fn a_float_that_may_have_been_rounded_is_no_integer() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![9_007_199_254_740_992.0, 6.532_470_404e17]));
        assert_eq!(declared(&floats, Type::Int64, None, Texts::Typed).unwrap_err(), Misfit::Rows(vec![1]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1e3", "6.532470404e+17"]));
        assert_eq!(declared(&texts, Type::Int64, None, Texts::Spelled).unwrap_err(), Misfit::Rows(vec![1]));
        for (column, texts) in [(&floats, Texts::Typed), (&texts, Texts::Spelled)] {
            let (why, help) = explained(column, 1, Type::Int64, None, texts);
            assert!(why.contains("may have been rounded") && help.contains("without point or exponent"));
        }
    }

    #[test]
    fn text_is_read_where_the_format_has_nothing_else() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("42"), Some("7.0"), None, Some("x7")]));
        assert_eq!(declared(&texts, Type::Int64, None, Texts::Typed).unwrap_err(), Misfit::Type);
        assert_eq!(declared(&texts, Type::Int64, None, Texts::Spelled).unwrap_err(), Misfit::Rows(vec![3]));
        assert_eq!(declared(&texts, Type::Int64, None, Texts::Quoted).unwrap_err(), Misfit::Rows(vec![1, 3]));
        let found = declared(&texts.slice(0, 3), Type::Int64, None, Texts::Spelled).unwrap();
        let found: Vec<Value> = (0..3).map(|row| value_at(&found, row)).collect();
        assert_eq!(found, [Value::Int64(42), Value::Int64(7), Value::Null]);
        let nothing: ArrayRef = Arc::new(NullArray::new(2));
        assert_eq!(declared(&nothing, Type::Timestamp, None, Texts::Typed).unwrap().null_count(), 2);
    }
}
