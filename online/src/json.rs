//! Values in JSON.
//!
//! | type | in JSON |
//! |---|---|
//! | bool | `true`, `false` |
//! | int64 | a number without fraction or exponent, exact to the last digit |
//! | float64 | a number, the nearest float to its digits; `"NaN"`, `"Infinity"`, `"-Infinity"` as strings |
//! | string | a string |
//! | timestamp | a string in RFC 3339; anything finer than a millisecond is floored, no zone means UTC |
//! | bytes | a string in standard base64 with padding |
//! | list | an array |
//! | counts | an array of `{"value": …, "count": …}`, the most frequent first |
//! | any, absent | `null` |
//!
//! Values are read by the type that the service declares and never converted: `"42"` is no int64, `42` no string.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value as Json, json};
use tidemark_kernel::error::Explain;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::{Type, Value};

use crate::answer::RowAnswer;
use crate::error::RowError;
use crate::served::Served;

/// The value of a declared type that a JSON text stands for; none if it stands for no such value.
#[must_use]
pub fn read(ty: Type, text: &RawValue) -> Option<Value> {
    let text = text.get();
    if text == "null" {
        return Some(Value::Null);
    }
    match ty {
        Type::Bool => text.parse().ok().map(Value::Bool),
        Type::Int64 => text.parse().ok().map(Value::Int64),
        Type::Float64 => float(text),
        Type::String => string(text).map(|text| Value::string(&text)),
        Type::Timestamp => Time::parse(&string(text)?).filter(|time| time.is_valid()).map(Value::Timestamp),
        Type::Bytes => STANDARD.decode(string(text)?).ok().map(|bytes| Value::Bytes(bytes.into())),
    }
}

/// What [`read`] expects, for messages.
#[must_use]
pub const fn form(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool (true or false)",
        Type::Int64 => "int64 (a number without fraction)",
        Type::Float64 => "float64 (a number, or \"NaN\", \"Infinity\", \"-Infinity\")",
        Type::String => "string",
        Type::Timestamp => "timestamp (a string in RFC 3339)",
        Type::Bytes => "bytes (a string in base64)",
    }
}

fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// A number's text is parsed here, to the nearest float; one too large for any float is refused.
fn float(text: &str) -> Option<Value> {
    let float = match text {
        r#""NaN""# => f64::NAN,
        r#""Infinity""# => f64::INFINITY,
        r#""-Infinity""# => f64::NEG_INFINITY,
        number => number.parse().ok().filter(|float: &f64| float.is_finite())?,
    };
    Some(Value::float(float))
}

/// A value as JSON.
#[must_use]
pub fn write(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int64(value) => (*value).into(),
        Value::Float64(value) => {
            Number::from_f64(*value).map_or_else(|| not_finite(*value).into(), Json::Number)
        }
        Value::String(value) => (**value).into(),
        Value::Timestamp(value) => value.to_string().into(),
        Value::Bytes(value) => STANDARD.encode(value).into(),
        Value::List(values) => values.iter().map(write).collect(),
        Value::Counts(counts) => {
            counts.iter().map(|(value, count)| json!({"value": write(value), "count": count})).collect()
        }
    }
}

const fn not_finite(float: f64) -> &'static str {
    if float.is_nan() {
        "NaN"
    } else if float > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// A row's result: `{"at", "values", "statuses", "newest_event", "token"}`, or `{"error"}`.
///
/// `values` and `statuses` go by feature, `newest_event` by view; a view without one is absent there.
#[must_use]
pub fn result(served: &Served, result: &Result<RowAnswer, RowError>) -> Json {
    match result {
        Ok(answer) => row_answer(served, answer),
        Err(error) => json!({"error": row_error(error)}),
    }
}

fn row_answer(served: &Served, answer: &RowAnswer) -> Json {
    let columns: Vec<String> = served.columns().map(|(name, _)| name).collect();
    let values = columns.iter().cloned().zip(answer.values.iter().map(write));
    let statuses = columns.iter().cloned().zip(answer.statuses.iter().map(|status| status.name().into()));
    let newest = served.plan().views.iter().zip(&answer.newest);
    let newest = newest.filter_map(|(view, newest)| Some((view.view.clone(), (*newest)?.to_string().into())));
    json!({
        "at": answer.at.to_string(),
        "values": values.collect::<Map<_, _>>(),
        "statuses": statuses.collect::<Map<_, Json>>(),
        "newest_event": newest.collect::<Map<_, Json>>(),
        "token": answer.token.to_string(),
    })
}

fn row_error(error: &RowError) -> Json {
    let mut json = json!({"kind": error.kind().name(), "message": error.explained(), "view": error.view()});
    if let RowError::TooEarly { early, .. } = error {
        json["horizon"] = early.horizon.to_string().into();
        json["time_travel_ms"] = early.time_travel.millis().into();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

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
            (Type::Float64, Value::float(f64::NEG_INFINITY)),
            (Type::String, Value::string("a \"quoted\" ü\n")),
            (Type::Timestamp, Value::Timestamp(Time::from_millis(1_764_000_000_125))),
            (Type::Bytes, Value::Bytes([0, 255, 7].into())),
            (Type::String, Value::Null),
        ];
        for (ty, value) in values {
            let text = write(&value).to_string();
            assert_eq!(read(ty, &raw(&text)), Some(value), "{text}");
        }
    }

    #[test]
    fn a_float_is_the_nearest_to_its_digits() {
        // Digits for which adding up powers of ten is off by one bit.
        for text in ["0.28834110121377", "123.45", "9007199254740993e3", "2.2250738585072011e-308"] {
            assert_eq!(read(Type::Float64, &raw(text)), Some(Value::float(text.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn nothing_is_converted() {
        for (ty, text) in [
            (Type::Int64, "\"42\""),
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
            assert_eq!(read(ty, &raw(text)), None, "{ty} {text}");
        }
        assert_eq!(read(Type::Float64, &raw("42")), Some(Value::float(42.0)));
    }

    #[test]
    fn lists_and_counts_are_arrays() {
        let list = Value::List([Value::Int64(1), Value::Null].into());
        assert_eq!(write(&list), json!([1, null]));
        let counts = Value::Counts([(Value::string("a"), 2)].into());
        assert_eq!(write(&counts), json!([{"value": "a", "count": 2}]));
    }
}
