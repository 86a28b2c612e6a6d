//! Wire values to kernel values and back: `tidemark.serving.v1`.

use std::collections::BTreeMap;

use tidemark_kernel::answer::Status;
use tidemark_kernel::error::Explain;
use tidemark_kernel::service::ServiceColumn;
use tidemark_kernel::time::{Span, Time};
use tidemark_kernel::value::{FeatureType, Type, Value};
use tidemark_proto::serving::v1;
use tidemark_proto::types::{Duration, NullValue, Timestamp};

use crate::answer::RowAnswer;
use crate::error::{LookupError, RowError};
use crate::lookups::{Results, Row, TURN};
use crate::served::Served;

/// The rows of a request.
pub(crate) fn rows(rows: Vec<v1::Row>) -> Result<Vec<Row>, LookupError> {
    rows.into_iter().enumerate().map(|(index, row)| self::row(index, row)).collect()
}

fn row(index: usize, row: v1::Row) -> Result<Row, LookupError> {
    let read = |(name, value): (String, v1::Value)| match self::value(value) {
        Ok(value) => Ok((name, value)),
        Err(Unreadable { given, expected }) => {
            Err(LookupError::WrongType { row: index, name, expected: expected.into(), given: given.into() })
        }
    };
    row.values.into_iter().map(read).collect()
}

/// A wire value that is no scalar.
struct Unreadable {
    given: &'static str,
    expected: &'static str,
}

fn value(value: v1::Value) -> Result<Value, Unreadable> {
    use v1::value::Kind;
    Ok(match value.kind {
        Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Bool(value)) => Value::Bool(value),
        Some(Kind::Int64(value)) => Value::Int64(value),
        Some(Kind::Float64(value)) => Value::float(value),
        Some(Kind::String(value)) => Value::String(value.into()),
        Some(Kind::Timestamp(value)) => {
            let time = time(value).filter(|time| time.is_valid());
            Value::Timestamp(time.ok_or(Unreadable {
                given: "a timestamp beyond all others",
                expected: "one in the years 1 to 9999, with nanos from 0 to 999999999",
            })?)
        }
        Some(Kind::Bytes(value)) => Value::Bytes(value.into()),
        Some(Kind::List(_) | Kind::Counts(_)) => {
            return Err(Unreadable { given: "a list", expected: "a scalar" });
        }
        None => {
            return Err(Unreadable { given: "a value of no kind", expected: "a scalar or an explicit null" });
        }
    })
}

/// The instant of a request.
pub(crate) fn at(at: Option<Timestamp>) -> Result<Option<Time>, LookupError> {
    at.map(|at| time(at).ok_or_else(|| LookupError::invalid_at(format!("{} s {} ns", at.seconds, at.nanos))))
        .transpose()
}

/// Nanos count upwards from the second, so dropping what is finer than a millisecond is a floor.
fn time(timestamp: Timestamp) -> Option<Time> {
    let nanos = (0..1_000_000_000).contains(&timestamp.nanos).then_some(timestamp.nanos)?;
    let millis = timestamp.seconds.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))?;
    Some(Time::from_millis(millis))
}

pub(crate) fn timestamp(time: Time) -> Timestamp {
    let (seconds, millis) = (time.millis().div_euclid(1000), time.millis().rem_euclid(1000));
    Timestamp { seconds, nanos: millis as i32 * 1_000_000 }
}

pub(crate) fn duration(span: Span) -> Duration {
    Duration { seconds: span.millis() / 1000, nanos: (span.millis() % 1000) as i32 * 1_000_000 }
}

/// The answer to a call. Other calls get turns meanwhile.
pub(crate) async fn response(served: &Served, results: Results) -> v1::LookupResponse {
    let column = |column: &ServiceColumn| v1::Column {
        name: column.name.clone(),
        r#type: Some(feature_type(column.ty)),
    };
    let mut answered = Vec::with_capacity(results.len());
    for (index, result) in results.into_iter().enumerate() {
        if index % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        answered.push(self::result(served, result));
    }
    v1::LookupResponse { columns: served.columns().iter().map(column).collect(), results: answered }
}

fn result(served: &Served, result: Result<RowAnswer, RowError>) -> v1::RowResult {
    use v1::row_result::Result as Wire;
    let result = match result {
        Ok(answer) => Wire::Answer(row_answer(served, answer)),
        Err(error) => Wire::Error(row_error(&error)),
    };
    v1::RowResult { result: Some(result) }
}

fn row_answer(served: &Served, answer: RowAnswer) -> v1::RowAnswer {
    let newest = served.plan().views.iter().zip(&answer.newest);
    let newest = newest.filter_map(|(view, newest)| Some((view.role.clone(), timestamp((*newest)?))));
    v1::RowAnswer {
        at: Some(timestamp(answer.at)),
        newest_events: newest.collect::<BTreeMap<_, _>>(),
        values: answer.values.iter().map(wire_value).collect(),
        statuses: answer.statuses.into_iter().map(|status| status_of(status) as i32).collect(),
        token: answer.token.to_string(),
    }
}

fn row_error(error: &RowError) -> v1::RowError {
    let wire =
        v1::RowError { message: error.explained(), view: error.view().to_owned(), ..v1::RowError::default() };
    match error {
        RowError::TooEarly { early, .. } => v1::RowError {
            kind: v1::RowErrorKind::TooEarly.into(),
            horizon: Some(timestamp(early.horizon)),
            time_travel: Some(duration(early.time_travel)),
            ..wire
        },
        RowError::Damaged(_) => v1::RowError { kind: v1::RowErrorKind::CorruptState.into(), ..wire },
    }
}

fn wire_value(value: &Value) -> v1::Value {
    use v1::value::Kind;
    let count = |(value, count): &(Value, i64)| v1::Count { value: Some(wire_value(value)), count: *count };
    let kind = match value {
        Value::Null => Kind::Null(NullValue::NullValue.into()),
        Value::Bool(value) => Kind::Bool(*value),
        Value::Int64(value) => Kind::Int64(*value),
        Value::Float64(value) => Kind::Float64(*value),
        Value::String(value) => Kind::String(value.to_string()),
        Value::Timestamp(value) => Kind::Timestamp(timestamp(*value)),
        Value::Bytes(value) => Kind::Bytes(value.to_vec()),
        Value::List(values) => Kind::List(v1::List { values: values.iter().map(wire_value).collect() }),
        Value::Counts(counts) => Kind::Counts(v1::Counts { counts: counts.iter().map(count).collect() }),
    };
    v1::Value { kind: Some(kind) }
}

const fn status_of(status: Status) -> v1::Status {
    match status {
        Status::TooEarly => v1::Status::TooEarly,
        Status::NotFound => v1::Status::NotFound,
        Status::OutsideMaxAge => v1::Status::OutsideMaxAge,
        Status::Null => v1::Status::Null,
        Status::Present => v1::Status::Present,
    }
}

pub(crate) fn feature_type(ty: FeatureType) -> v1::FeatureType {
    let (shape, ty) = match ty {
        FeatureType::Scalar(ty) => (v1::Shape::Scalar, ty),
        FeatureType::List(ty) => (v1::Shape::List, ty),
        FeatureType::Counts(ty) => (v1::Shape::Counts, ty),
    };
    v1::FeatureType { shape: shape.into(), r#type: scalar_type(ty).into() }
}

pub(crate) const fn scalar_type(ty: Type) -> v1::Type {
    match ty {
        Type::Bool => v1::Type::Bool,
        Type::Int64 => v1::Type::Int64,
        Type::Float64 => v1::Type::Float64,
        Type::String => v1::Type::String,
        Type::Timestamp => v1::Type::Timestamp,
        Type::Bytes => v1::Type::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_come_back_as_they_went() {
        let scalars = [
            Value::Null,
            Value::Bool(true),
            Value::Int64(i64::MIN),
            Value::float(f64::NAN),
            Value::float(0.1),
            Value::string("ü"),
            Value::Timestamp(Time::from_millis(-1)),
            Value::Bytes([0, 255].into()),
        ];
        for scalar in scalars {
            assert_eq!(value(wire_value(&scalar)).ok(), Some(scalar));
        }
    }

    #[test]
    fn timestamps_are_floored_and_checked() {
        let of = |seconds, nanos| time(Timestamp { seconds, nanos });
        assert_eq!(of(-1, 999_999_999), Some(Time::from_millis(-1)));
        assert_eq!(of(1, 999_999), Some(Time::from_millis(1000)));
        assert_eq!(of(1, -1), None);
        assert_eq!(of(i64::MAX, 0), None);
    }

    #[test]
    fn a_value_of_no_kind_is_no_null() {
        assert!(value(v1::Value { kind: None }).is_err());
    }
}
