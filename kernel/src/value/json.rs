//! Values in JSON.
//!
//! | type | in JSON |
//! |---|---|
//! | bool | `true`, `false` |
//! | int64 | a number without fraction or exponent, exact to the last digit; or its digits as a string, which clients use whose numbers are floats |
//! | float64 | a number, the nearest float to its digits; `"NaN"`, `"Infinity"`, `"-Infinity"` as strings |
//! | string | a string |
//! | timestamp | a string in RFC 3339; anything finer than a millisecond is floored, no zone means UTC |
//! | bytes | a string in standard base64 with padding |
//! | list | an array |
//! | counts | an array of `{"value": …, "count": …}`, the most frequent first |
//! | any, absent | `null` |
//!
//! Events, lookups and dead letters all go through here, so that a value that one of them writes is one that the others read.
//! They differ in what they take besides: a record is [`content`], of which a field takes what its type
//! [holds](super::convert); a lookup is [`read`], by the type that its service declares, and converts nothing.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value as Json, json};

use super::convert::Content;
use super::{Type, Value};

/// What a JSON text, whose syntax was checked, stands for.
#[inline]
#[must_use]
pub fn content(text: &str) -> Content<'_> {
    match text.as_bytes().first() {
        Some(b'n') => Content::Null,
        Some(b't') => Content::Bool(true),
        Some(b'f') => Content::Bool(false),
        Some(b'"') => string(text).map_or(Content::Other, Content::Quoted),
        Some(b'-' | b'0'..=b'9') => Content::Number(text.into()),
        _ => Content::Other,
    }
}

/// The content of a JSON string, which is its text unless there are escapes in it.
#[inline]
fn string(text: &str) -> Option<Cow<'_, str>> {
    let content = text.strip_prefix('"')?.strip_suffix('"')?;
    if content.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(content.into())
    }
}

/// The value of a type that a JSON text, whose syntax was checked, stands for; none if it stands for no such value.
///
/// Nothing is converted: `42.0` is no int64, `42` no string.
#[must_use]
pub fn read(ty: Type, text: &str) -> Option<Value> {
    let content = content(text);
    let is_own = match (ty, &content) {
        (_, Content::Null)
        | (Type::Bool, Content::Bool(_))
        | (Type::Float64, Content::Number(_) | Content::Quoted(_))
        | (Type::String | Type::Timestamp | Type::Bytes, Content::Quoted(_)) => true,
        (Type::Int64, Content::Number(digits)) => !digits.contains(['.', 'e', 'E']),
        (Type::Int64, Content::Quoted(digits)) => {
            matches!(Content::Quoted((&**digits).into()).int64(), Ok(Some(_)))
        }
        _ => false,
    };
    if is_own { content.value(ty).ok() } else { None }
}

/// How an int64 is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Int64 {
    /// As a number.
    #[default]
    Number,
    /// As a string of its digits.
    String,
}

/// A value as JSON, which [`read`] and [`content`] read back.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a>(pub &'a Value, pub Int64);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value, int64) = *self;
        match value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int64(value) if int64 == Int64::String => serializer.collect_str(value),
            Value::Int64(value) => serializer.serialize_i64(*value),
            Value::Float64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::Float64(value) => serializer.serialize_str(not_finite(*value)),
            Value::String(value) => serializer.serialize_str(value),
            Value::Timestamp(value) => serializer.collect_str(value),
            Value::Bytes(value) => serializer.serialize_str(&STANDARD.encode(value)),
            Value::List(values) => serializer.collect_seq(values.iter().map(|value| Self(value, int64))),
            Value::Counts(counts) => {
                serializer.collect_seq(counts.iter().map(|(value, count)| Count(Self(value, int64), *count)))
            }
        }
    }
}

/// How often a value occurred. A number in every form: nothing was counted so often that a float does not hold it.
struct Count<'a>(Written<'a>, i64);

impl Serialize for Count<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(2))?;
        members.serialize_entry("value", &self.0)?;
        members.serialize_entry("count", &self.1)?;
        members.end()
    }
}

/// A value as JSON, with an int64 as a number.
#[must_use]
pub fn write(value: &Value) -> Json {
    json!(Written(value, Int64::Number))
}

/// The content of any format as the text of its JSON, without a digit lost: what no field holds may be another field's, once
/// that is declared.
#[must_use]
pub fn write_content(content: &Content<'_>) -> String {
    let json: Json = match content {
        Content::Bool(value) => (*value).into(),
        Content::Whole(value) => return value.to_string(),
        Content::Decimal(digits) => return digits.clone(),
        Content::Number(digits) => return digits.to_string(),
        Content::Float(value, _) if value.is_finite() => (*value).into(),
        Content::Float(value, _) => not_finite(*value).into(),
        Content::Text(text) | Content::Quoted(text) => (&**text).into(),
        Content::Spelled(text) => (*text).into(),
        Content::Time(value) => value.to_string().into(),
        // Without a zone, as it was.
        Content::Clock(value) => value.to_string().trim_end_matches('Z').into(),
        Content::Bytes(value) => STANDARD.encode(value).into(),
        Content::Null | Content::Other => Json::Null,
    };
    json.to_string()
}

/// JSON has no number for NaN and infinities, and null would be another value.
const fn not_finite(float: f64) -> &'static str {
    if float.is_nan() {
        "NaN"
    } else if float > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn values_come_back_as_they_went() {
        let values = [
            (Type::Bool, Value::Bool(false)),
            (Type::Int64, Value::Int64(i64::MAX)),
            (Type::Int64, Value::Int64(i64::MIN)),
            (Type::Float64, Value::float(0.1)),
            (Type::Float64, Value::float(5e-324)),
            (Type::Float64, Value::float(f64::MAX)),
            (Type::Float64, Value::float(f64::NAN)),
            (Type::Float64, Value::float(f64::INFINITY)),
            (Type::Float64, Value::float(f64::NEG_INFINITY)),
            (Type::String, Value::string("a \"quoted\" ü\n")),
            (Type::Timestamp, Value::Timestamp(Time::from_millis(1_764_000_000_125))),
            (Type::Bytes, Value::Bytes([0, 255, 7].into())),
            (Type::String, Value::Null),
        ];
        for (ty, value) in values {
            let text = write(&value).to_string();
            assert_eq!(read(ty, &text), Some(value.clone()), "{text}, of a lookup");
            assert_eq!(content(&text).value(ty), Ok(value), "{text}, of a record");
        }
    }

    /// Columns of files that hold what their fields do not become dead letters, and are read again from there.
    #[test]
    fn the_content_of_a_file_comes_back_as_it_went() {
        let whole = i128::from(u64::MAX);
        for (content, text) in [
            (Content::Whole(whole), "18446744073709551615"),
            (Content::Decimal("1.50".into()), "1.50"),
            (Content::Float(f64::NEG_INFINITY, 24), "\"-Infinity\""),
            (Content::Float(f64::NAN, 53), "\"NaN\""),
            (Content::Text("a\"b".into()), "\"a\\\"b\""),
            (Content::Bytes(&[0, 255]), "\"AP8=\""),
            (Content::Other, "null"),
        ] {
            assert_eq!(write_content(&content), text);
        }
    }

    #[test]
    fn a_float_is_the_nearest_to_its_digits() {
        // Digits for which adding up powers of ten is off by one bit.
        for text in ["0.28834110121377", "123.45", "9007199254740993e3", "2.2250738585072011e-308"] {
            assert_eq!(read(Type::Float64, text), Some(Value::float(text.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn floats_that_have_no_digits_go_by_name() {
        for (text, float) in
            [("\"nan\"", f64::NAN), ("\"inf\"", f64::INFINITY), ("\"-inf\"", f64::NEG_INFINITY)]
        {
            assert_eq!(read(Type::Float64, text), Some(Value::float(float)), "{text}, of a lookup");
            assert_eq!(content(text).value(Type::Float64), Ok(Value::float(float)), "{text}, of a record");
        }
    }

    #[test]
    fn nothing_is_converted() {
        for (ty, text) in [
            (Type::Int64, "\"+42\""),
            (Type::Int64, "\" 42\""),
            (Type::Int64, "\"-\""),
            (Type::Int64, "\"null\""),
            (Type::Int64, "\"42.0\""),
            (Type::Int64, "\"4e1\""),
            (Type::Int64, "\"\""),
            (Type::Int64, "\"9223372036854775808\""),
            (Type::Int64, "42.0"),
            (Type::Int64, "1e3"),
            (Type::Int64, "9223372036854775808"),
            (Type::Float64, "\"9.5\""),
            (Type::Float64, "1e400"),
            (Type::Float64, "true"),
            (Type::String, "42"),
            (Type::Bool, "\"true\""),
            (Type::Bool, "1"),
            (Type::Timestamp, "1764000000"),
            (Type::Timestamp, "\"tomorrow\""),
            (Type::Bytes, "\"not base64!\""),
            (Type::String, "{}"),
        ] {
            assert_eq!(read(ty, text), None, "{ty} {text}");
        }
        assert_eq!(read(Type::Float64, "42"), Some(Value::float(42.0)));
    }

    /// JavaScript makes 9007199254740992 of the number.
    #[test]
    fn an_int64_may_be_a_string_of_its_digits() {
        for number in [i64::MIN, -1, 0, 9_007_199_254_740_993, i64::MAX] {
            let value = Value::Int64(number);
            let text = serde_json::to_string(&Written(&value, Int64::String)).unwrap();
            assert_eq!(text, format!("\"{number}\""));
            assert_eq!(read(Type::Int64, &text), Some(value));
        }
        let list = Value::List([Value::Int64(1), Value::Null, Value::float(2.0)].into());
        assert_eq!(serde_json::to_string(&Written(&list, Int64::String)).unwrap(), r#"["1",null,2.0]"#);
        let counts = Value::Counts([(Value::Int64(7), 2)].into());
        let text = serde_json::to_string(&Written(&counts, Int64::String)).unwrap();
        assert_eq!(text, r#"[{"value":"7","count":2}]"#);
    }

    #[test]
    fn lists_and_counts_are_arrays() {
        let list = Value::List([Value::Int64(1), Value::Null].into());
        assert_eq!(write(&list), json!([1, null]));
        let counts = Value::Counts([(Value::string("a"), 2)].into());
        assert_eq!(write(&counts), json!([{"value": "a", "count": 2}]));
    }
}
