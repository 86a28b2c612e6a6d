//! Inferred types for columns of text, where the conversion loses nothing.
//!
//! Numbers that Parquet stores as text have to be converted before a model can be trained on them. But the product code
//! `32E0134` must not become a number. So a column gets a type only if writing its values as that type gives the same text
//! again, in every row: `7` is an int64; `007`, `7.50`, `1e5` and `0000-00-00` are text.

use std::sync::Arc;

use arrow::array::TimestampMillisecondArray;
use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use tidemark_kernel::Time;
use tidemark_kernel::value::{Type, arrow::data_type};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// How the values of a column are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Bool,
    Whole,
    Float,
    Day,
    /// With so many characters: `2026-05-01T12:00:00Z` has 20, with milliseconds 24.
    Instant(usize),
}

/// The type that brings back each text as it is spelled; text where there is none.
pub(super) fn type_of<'a>(columns: impl IntoIterator<Item = &'a StringArray>) -> DataType {
    let mut found = None;
    for text in columns.into_iter().flat_map(|column| column.iter().flatten()) {
        match (found, spelling(text)) {
            (_, None) => return DataType::Utf8,
            (None, some) => found = some,
            (Some(known), Some(other)) if known == other => {}
            _ => return DataType::Utf8,
        }
    }
    match found {
        None => DataType::Utf8,
        Some(Spelling::Bool) => DataType::Boolean,
        Some(Spelling::Whole) => DataType::Int64,
        Some(Spelling::Float) => DataType::Float64,
        Some(Spelling::Day) => DataType::Date32,
        Some(Spelling::Instant(_)) => data_type(Type::Timestamp),
    }
}

/// A column as the type that was found for it.
pub(super) fn convert(texts: &StringArray, ty: &DataType) -> ArrayRef {
    let values = texts.iter();
    match ty {
        DataType::Boolean => Arc::new(values.map(|text| Some(text? == "true")).collect::<BooleanArray>()),
        DataType::Int64 => Arc::new(values.map(|text| text?.parse::<i64>().ok()).collect::<Int64Array>()),
        DataType::Float64 => Arc::new(values.map(|text| text?.parse::<f64>().ok()).collect::<Float64Array>()),
        DataType::Date32 => Arc::new(values.map(|text| day(text?)).collect::<Date32Array>()),
        DataType::Timestamp(..) => {
            let times = values.map(|text| Some(Time::parse(text?)?.millis()));
            Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
        }
        _ => Arc::new(texts.clone()),
    }
}

fn spelling(text: &str) -> Option<Spelling> {
    if matches!(text, "true" | "false") {
        return Some(Spelling::Bool);
    }
    if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) {
        return Some(Spelling::Whole);
    }
    // Without an exponent, which codes of products have as well.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    if is_plain && text.parse::<f64>().is_ok_and(|number| format!("{number:?}") == text) {
        return Some(Spelling::Float);
    }
    if day(text).is_some() {
        return Some(Spelling::Day);
    }
    let written = Time::parse(text)?.to_string();
    let shorter = written.strip_suffix(".000Z").map(|clock| format!("{clock}Z"));
    (written == text || shorter.as_deref() == Some(text)).then_some(Spelling::Instant(text.len()))
}

/// The days since 1970 of a text such as `2026-05-01`.
fn day(text: &str) -> Option<i32> {
    let time = Some(text).filter(|text| text.len() == 10).and_then(Time::parse)?;
    let is_same = time.to_string().starts_with(text);
    i32::try_from(time.millis().div_euclid(DAY)).ok().filter(|_| is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_brings_every_text_back() {
        let of = |texts: &[&str]| type_of([&StringArray::from(texts.to_vec())]);
        assert_eq!(of(&["0", "-3", "9223372036854775807"]), DataType::Int64);
        assert_eq!(of(&["0.5", "-3.0", "123456.789"]), DataType::Float64);
        assert_eq!(of(&["true", "false"]), DataType::Boolean);
        assert_eq!(of(&["2025-12-24", "1969-12-31"]), DataType::Date32);
        assert_eq!(of(&["2025-12-24T08:00:00Z"]), data_type(Type::Timestamp));
        assert_eq!(of(&["2025-12-24T08:00:00.125Z", "2025-12-24T08:00:00.000Z"]), data_type(Type::Timestamp));
        for text in [
            &["007"][..],
            &["1", "0.5"],
            &["7.50"],
            &["32E0134"],
            &["1e16"],
            &["+1"],
            &["-0"],
            &["NaN"],
            &["True"],
            &["9223372036854775808"],
            &["0.1000000000000000055"],
            &["2025-12-24", "0000-00-00"],
            &["2025-12-24T08:00:00Z", "2025-12-24T08:00:00.000Z"],
            &["2025-12-24 08:00:00Z"],
            &["2025-12-24T08:00:00+01:00"],
            &["2025-12-24T08:00:00.1239Z"],
            &["2025-12-31T23:59:60Z"],
            &[" 1"],
            &[],
        ] {
            assert_eq!(of(text), DataType::Utf8, "{text:?}");
        }
    }

    #[test]
    fn dates_before_1970_are_days_before() {
        let texts = StringArray::from(vec![Some("1969-12-31"), None, Some("1970-01-02")]);
        let days = convert(&texts, &DataType::Date32);
        assert_eq!(&*days, &Date32Array::from(vec![Some(-1), None, Some(1)]) as &dyn arrow::array::Array);
    }
}
