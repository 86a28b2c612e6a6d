//! The oracle: answers computed in the simplest way, as a reference for tests.
//!
//! No tiles, no state, no incremental anything: take the events a question sees, keep those in the window, compute
//! each aggregate from its definition with big rationals. Tests compare the engine with it, bit for bit.

use std::collections::{BTreeMap, BTreeSet};

use num_bigint::BigInt;

use crate::aggregate::{Function, State};
use crate::answer::Answer;
use crate::event::{Event, Offset, Partition};
use crate::plan::{Feature, FeaturePlan};
use crate::time::{Time, TimeRange};
use crate::value::{FeatureType, Type, Value};
use crate::visibility::Visibility;

mod rational;

use rational::Rational;

/// Whether a question about `at` sees the event. `last` is what the lookup's token says of each partition.
#[must_use]
pub fn sees(visibility: Visibility, at: Time, last: &BTreeMap<Partition, Offset>, event: &Event) -> bool {
    let stamp = &event.stamp;
    stamp.event_time < at
        && match visibility {
            Visibility::EventTime => true,
            Visibility::AsKnown => stamp.arrival_time <= at,
            Visibility::AsServed => last.get(&stamp.partition).is_some_and(|last| stamp.offset <= *last),
        }
}

/// The answer about `at` for an entity with these events, all of which the question sees.
#[must_use]
pub fn answer(plan: &FeaturePlan, events: &[&Event], at: Time) -> Answer {
    let windows: Vec<TimeRange> = plan.windows.iter().map(|window| window.edges(at)).collect();
    let (mut values, mut overflowed) = (Vec::new(), 0);
    for feature in &plan.features {
        let (value, overflows) = value_within(plan, feature, events, windows[feature.window]);
        overflowed += u64::from(overflows);
        values.push(value);
    }
    let start = windows.iter().map(|window| window.start).min().unwrap_or(at);
    let end = windows.iter().map(|window| window.end).max().unwrap_or(at);
    let times = events.iter().map(|event| event.stamp.event_time);
    let newest = times.filter(|time| TimeRange { start, end }.contains(*time)).max();
    Answer::new(plan, at, values, newest, overflowed)
}

/// A feature's value over those of the events that its window holds, and whether it is null because an int64 total does
/// not fit.
pub(crate) fn value_within(
    plan: &FeaturePlan,
    feature: &Feature,
    events: &[&Event],
    window: TimeRange,
) -> (Value, bool) {
    let counted = |event: &&Event| {
        window.contains(event.stamp.event_time) && !event.inputs[feature.aggregate].is_null()
    };
    let inside: Vec<&Event> = events.iter().copied().filter(counted).collect();
    let integers = feature.function == Function::Sum && feature.ty == FeatureType::Scalar(Type::Int64);
    let some = !inside.is_empty();
    let value = value(plan, feature, inside);
    let overflows = integers && some && value.is_null();
    (value, overflows)
}

/// The value over the events in the window that the aggregate does not skip.
fn value(plan: &FeaturePlan, feature: &Feature, mut events: Vec<&Event>) -> Value {
    events.sort_by_key(|event| event.stamp.order());
    let values: Vec<&Value> = events.iter().map(|event| &event.inputs[feature.aggregate]).collect();
    match feature.function {
        Function::Count => Value::Int64(values.len() as i64),
        Function::CountDistinct | Function::ApproxPercentile(_) => sketch(plan, feature, &events),
        _ if values.is_empty() => Value::Null,
        Function::Sum if matches!(values[0], Value::Int64(_)) => {
            let total: BigInt = values.iter().map(|value| integer(value)).sum();
            i64::try_from(total).map_or(Value::Null, Value::Int64)
        }
        Function::Sum | Function::Avg => total(feature.function, &values),
        Function::VarPop | Function::StddevPop => spread(feature.function, &values, values.len()),
        Function::VarSamp | Function::StddevSamp => spread(feature.function, &values, values.len() - 1),
        Function::Min => numbers(&values).min().cloned().unwrap_or_default(),
        Function::Max => numbers(&values).max().cloned().unwrap_or_default(),
        Function::First => values[0].clone(),
        Function::Last => values[values.len() - 1].clone(),
        Function::LastN(n) => Value::List(values.iter().rev().take(n as usize).copied().cloned().collect()),
        Function::TopK(k) => top(k as usize, &values),
    }
}

/// Sketches are defined by their construction: one fed with the events in order. What is left to check against it
/// is that tiles, merges and bytes make no difference.
fn sketch(plan: &FeaturePlan, feature: &Feature, events: &[&Event]) -> Value {
    let distinct: BTreeSet<&Value> = events.iter().map(|event| &event.inputs[feature.aggregate]).collect();
    if feature.function == Function::CountDistinct && distinct.len() <= crate::aggregate::EXACT_DISTINCT {
        return Value::Int64(distinct.len() as i64);
    }
    let mut state = State::empty(plan.aggregates[feature.aggregate].kind);
    for event in events {
        state.apply(&event.inputs[feature.aggregate], event.stamp.order());
    }
    state.finish(feature.function)
}

fn numbers<'a>(values: &'a [&'a Value]) -> impl Iterator<Item = &'a Value> {
    values.iter().copied().filter(|value| !matches!(value, Value::Float64(float) if float.is_nan()))
}

fn integer(value: &Value) -> BigInt {
    match value {
        Value::Int64(number) => BigInt::from(*number),
        _ => BigInt::ZERO,
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float64(float) => *float,
        _ => 0.0,
    }
}

/// What the sum of values with non-finite ones among them is, if there are any.
fn not_finite(values: &[&Value]) -> Option<f64> {
    let odd: Vec<f64> = values.iter().map(|value| float(value)).filter(|float| !float.is_finite()).collect();
    (!odd.is_empty()).then(|| odd.iter().sum())
}

fn total(function: Function, values: &[&Value]) -> Value {
    if let Some(odd) = not_finite(values) {
        return Value::float(odd);
    }
    let total: Rational = values.iter().map(|value| Rational::of(value)).sum();
    let count = if function == Function::Avg { values.len() } else { 1 };
    Value::float(total.over(count).round())
}

/// The mean squared distance from the mean: the sum of squares over `divisor`.
fn spread(function: Function, values: &[&Value], divisor: usize) -> Value {
    if divisor == 0 {
        return Value::Null;
    }
    if not_finite(values).is_some() {
        return Value::float(f64::NAN);
    }
    let mean = values.iter().map(|value| Rational::of(value)).sum::<Rational>().over(values.len());
    let squares: Rational = values.iter().map(|value| Rational::of(value).minus(&mean).squared()).sum();
    let variance = squares.over(divisor).round();
    let root = matches!(function, Function::StddevPop | Function::StddevSamp);
    Value::float(if root { variance.sqrt() } else { variance })
}

fn top(k: usize, values: &[&Value]) -> Value {
    let mut counts: BTreeMap<&Value, i64> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    if counts.len() > crate::aggregate::MOST_COUNTED {
        return Value::Null;
    }
    let mut counts: Vec<(Value, i64)> =
        counts.into_iter().map(|(value, count)| (value.clone(), count)).collect();
    counts.sort_by(|(value, count), (other, more)| more.cmp(count).then(value.cmp(other)));
    counts.truncate(k);
    Value::Counts(counts.into())
}
