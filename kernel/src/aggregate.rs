//! Aggregates: exact commutative monoids with one canonical byte form.
//!
//! Equal multisets of events give equal states and equal bytes, whatever the order, batching, tiles or restarts.
//! Everything the engine promises rests on that law, so an aggregate that breaks it is not offered.
//!
//! Each state has the same five operations: `apply` a value, `merge` another state, `finish` into a value, `encode`,
//! `decode`. Nulls never reach a state.

use std::borrow::Cow;
use std::fmt;

use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::event::Order;
use crate::value::{FeatureType, Type, Value};

mod distinct;
mod extreme;
mod moments;
mod ordered;
mod percentile;
mod sorted;
mod sum;
mod top_k;

pub use distinct::{Distinct, EXACT_DISTINCT};
pub use extreme::{Extreme, Side};
pub use moments::Moments;
pub use ordered::{Ordered, Which};
pub use percentile::{Histogram, RELATIVE_ERROR};
pub use sum::{FloatSum, IntSum};
pub use top_k::{MOST_COUNTED, TopK};

/// Version of what aggregates mean and of the bytes of their states. Part of every fingerprint.
pub const SEMANTICS: u32 = 1;

/// A probability in `[0, 1]`, comparable by bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probability(u64);

impl Probability {
    /// None outside `[0, 1]`.
    #[must_use]
    pub fn new(p: f64) -> Option<Self> {
        // Adding +0 turns -0 into it; the bits of non-negative floats order like the floats.
        (0.0..=1.0).contains(&p).then(|| Self((p + 0.0).to_bits()))
    }

    /// The probability.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// How a windowed feature is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// How many events, or how many whose input is not null. 0 when empty.
    Count,
    /// How many different values: exact to [`EXACT_DISTINCT`], then estimated. 0 when empty.
    CountDistinct,
    /// The exact total, rounded once; null where an int64 total does not fit.
    Sum,
    /// The exact mean, rounded once.
    Avg,
    /// The exact population variance, rounded once.
    VarPop,
    /// The exact sample variance, rounded once; null for fewer than two values.
    VarSamp,
    /// The correctly rounded root of the rounded [`Function::VarPop`].
    StddevPop,
    /// The correctly rounded root of the rounded [`Function::VarSamp`].
    StddevSamp,
    /// The smallest value; NaN is skipped.
    Min,
    /// The largest value; NaN is skipped.
    Max,
    /// The value of the first event in order.
    First,
    /// The value of the last event in order.
    Last,
    /// The values of the last `n` events, newest first.
    LastN(u32),
    /// The value of rank `floor(p (n - 1))`, within a relative error of [`RELATIVE_ERROR`]; NaN is skipped.
    ApproxPercentile(Probability),
    /// The `k` most frequent values with their counts, count descending, then value ascending; null beyond
    /// [`MOST_COUNTED`] different values.
    TopK(u32),
}

impl Function {
    /// The largest `n` of `last_n` and `k` of `top_k`.
    pub const MAX_LIST: u32 = 1000;

    /// The name used in definitions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::CountDistinct => "count(distinct)",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::VarPop => "var_pop",
            Self::VarSamp => "var_samp",
            Self::StddevPop => "stddev_pop",
            Self::StddevSamp => "stddev_samp",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::LastN(_) => "last_n",
            Self::ApproxPercentile(_) => "approx_percentile",
            Self::TopK(_) => "top_k",
        }
    }

    /// How fingerprints spell it. It never changes, whatever definitions and messages call it: another spelling would make
    /// other views of all that exist.
    #[must_use]
    pub fn canonical(self) -> Cow<'static, str> {
        match self {
            Self::Count => "count".into(),
            Self::CountDistinct => "count(distinct)".into(),
            Self::Sum => "sum".into(),
            Self::Avg => "avg".into(),
            Self::VarPop => "var_pop".into(),
            Self::VarSamp => "var_samp".into(),
            Self::StddevPop => "stddev_pop".into(),
            Self::StddevSamp => "stddev_samp".into(),
            Self::Min => "min".into(),
            Self::Max => "max".into(),
            Self::First => "first".into(),
            Self::Last => "last".into(),
            Self::LastN(n) => format!("last_n({n})").into(),
            // The shortest digits that are this float and no other, with a point or an exponent.
            Self::ApproxPercentile(p) => format!("approx_percentile({:?})", p.get()).into(),
            Self::TopK(k) => format!("top_k({k})").into(),
        }
    }

    /// What inputs it takes, in words for messages.
    #[must_use]
    pub const fn takes(self) -> &'static str {
        match self {
            Self::Count => "any value or *",
            Self::CountDistinct | Self::First | Self::Last | Self::LastN(_) | Self::TopK(_) => "any value",
            Self::Min | Self::Max => "int64, float64, string, timestamp or bool",
            _ => "int64 or float64",
        }
    }

    /// The state it is finished from, or none where it does not take such an input.
    #[must_use]
    pub const fn state(self, input: Option<Type>) -> Option<StateKind> {
        let Some(ty) = input else {
            return match self {
                Self::Count => Some(StateKind::Count),
                _ => None,
            };
        };
        Some(match self {
            Self::Count => StateKind::Count,
            Self::CountDistinct => StateKind::Distinct(ty),
            Self::First => StateKind::Ordered { ty, which: Which::First },
            Self::Last => StateKind::Ordered { ty, which: Which::Last(1) },
            Self::LastN(n) => StateKind::Ordered { ty, which: Which::Last(n) },
            Self::TopK(_) => StateKind::TopK(ty),
            Self::Min if !matches!(ty, Type::Bytes) => StateKind::Extreme { ty, side: Side::Min },
            Self::Max if !matches!(ty, Type::Bytes) => StateKind::Extreme { ty, side: Side::Max },
            _ if !ty.is_number() => return None,
            Self::Sum | Self::Avg if matches!(ty, Type::Int64) => StateKind::IntSum,
            Self::Sum | Self::Avg => StateKind::FloatSum,
            Self::VarPop | Self::VarSamp | Self::StddevPop | Self::StddevSamp => StateKind::Moments,
            Self::ApproxPercentile(_) => StateKind::Histogram,
            Self::Min | Self::Max => return None,
        })
    }

    /// The type of its values for such an input, or none where it does not take it.
    #[must_use]
    pub const fn output(self, input: Option<Type>) -> Option<FeatureType> {
        if self.state(input).is_none() {
            return None;
        }
        Some(match (self, input) {
            (Self::Count | Self::CountDistinct, _) | (_, None) => FeatureType::Scalar(Type::Int64),
            (Self::Sum | Self::Min | Self::Max | Self::First | Self::Last, Some(ty)) => {
                FeatureType::Scalar(ty)
            }
            (Self::LastN(_), Some(ty)) => FeatureType::List(ty),
            (Self::TopK(_), Some(ty)) => FeatureType::Counts(ty),
            (_, Some(_)) => FeatureType::Scalar(Type::Float64),
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastN(n) | Self::TopK(n) => write!(f, "{}({n})", self.name()),
            Self::ApproxPercentile(p) => write!(f, "{}({:?})", self.name(), p.get()),
            _ => f.write_str(self.name()),
        }
    }
}

/// What a tile keeps for one aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// How many values.
    Count,
    /// The exact total of integers.
    IntSum,
    /// The exact total of floats.
    FloatSum,
    /// The exact totals of numbers and of their squares.
    Moments,
    /// The smallest or largest value.
    Extreme {
        /// The values' type.
        ty: Type,
        /// Which end.
        side: Side,
    },
    /// Values at one end of the order of events.
    Ordered {
        /// The values' type.
        ty: Type,
        /// Which end, and how many.
        which: Which,
    },
    /// The different values.
    Distinct(Type),
    /// How many values by magnitude.
    Histogram,
    /// How often each value occurred.
    TopK(Type),
}

/// One aggregate's state over some span of events: an element of a commutative monoid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// See [`StateKind::Count`].
    Count(u64),
    /// See [`StateKind::IntSum`].
    IntSum(IntSum),
    /// See [`StateKind::FloatSum`].
    FloatSum(FloatSum),
    /// See [`StateKind::Moments`].
    Moments(Moments),
    /// See [`StateKind::Extreme`].
    Extreme(Extreme),
    /// See [`StateKind::Ordered`].
    Ordered(Ordered),
    /// See [`StateKind::Distinct`].
    Distinct(Distinct),
    /// See [`StateKind::Histogram`].
    Histogram(Histogram),
    /// See [`StateKind::TopK`].
    TopK(TopK),
}

impl State {
    /// The monoid's identity: the state of no events.
    #[must_use]
    pub fn empty(kind: StateKind) -> Self {
        match kind {
            StateKind::Count => Self::Count(0),
            StateKind::IntSum => Self::IntSum(IntSum::default()),
            StateKind::FloatSum => Self::FloatSum(FloatSum::default()),
            StateKind::Moments => Self::Moments(Moments::default()),
            StateKind::Extreme { side, .. } => Self::Extreme(Extreme::empty(side)),
            StateKind::Ordered { which, .. } => Self::Ordered(Ordered::empty(which)),
            StateKind::Distinct(_) => Self::Distinct(Distinct::default()),
            StateKind::Histogram => Self::Histogram(Histogram::default()),
            StateKind::TopK(_) => Self::TopK(TopK::default()),
        }
    }

    /// Adds one value, which must be of the aggregate's input type. Null changes nothing.
    ///
    /// # Panics
    /// On a value that the aggregate cannot take, which only a defect hands over.
    pub fn apply(&mut self, value: &Value, order: Order) {
        if value.is_null() {
            return;
        }
        match self {
            Self::Count(count) => *count = count.saturating_add(1),
            Self::IntSum(state) => state.apply(value),
            Self::FloatSum(state) => state.apply(value),
            Self::Moments(state) => state.apply(value),
            Self::Extreme(state) => state.apply(value),
            Self::Ordered(state) => state.apply(value, order),
            Self::Distinct(state) => state.apply(value),
            Self::Histogram(state) => state.apply(value),
            Self::TopK(state) => state.apply(value),
        }
    }

    /// Adds all that `other` has seen.
    ///
    /// # Panics
    /// On a state of another kind, which only a defect hands over.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(mine), Self::Count(theirs)) => *mine = mine.saturating_add(*theirs),
            (Self::IntSum(mine), Self::IntSum(theirs)) => mine.merge(theirs),
            (Self::FloatSum(mine), Self::FloatSum(theirs)) => mine.merge(theirs),
            (Self::Moments(mine), Self::Moments(theirs)) => mine.merge(theirs),
            (Self::Extreme(mine), Self::Extreme(theirs)) => mine.merge(theirs),
            (Self::Ordered(mine), Self::Ordered(theirs)) => mine.merge(theirs),
            (Self::Distinct(mine), Self::Distinct(theirs)) => mine.merge(theirs),
            (Self::Histogram(mine), Self::Histogram(theirs)) => mine.merge(theirs),
            (Self::TopK(mine), Self::TopK(theirs)) => mine.merge(theirs),
            (mine, theirs) => defect("states of one kind are merged", &(mine, theirs)),
        }
    }

    /// The value of `function` over what the state has seen.
    ///
    /// # Panics
    /// On a function that is finished from another kind of state, which only a defect asks for.
    #[must_use]
    pub fn finish(&self, function: Function) -> Value {
        match self {
            Self::Count(count) => Value::Int64(i64::try_from(*count).unwrap_or(i64::MAX)),
            Self::IntSum(state) => state.finish(function),
            Self::FloatSum(state) => state.finish(function),
            Self::Moments(state) => state.finish(function),
            Self::Extreme(state) => state.finish(),
            Self::Ordered(state) => state.finish(function),
            Self::Distinct(state) => Value::Int64(state.count()),
            Self::Histogram(state) => state.finish(function),
            Self::TopK(state) => state.finish(function),
        }
    }

    /// Whether the value is null only because an int64 total does not fit.
    #[must_use]
    pub fn overflows(&self, function: Function) -> bool {
        match self {
            Self::IntSum(state) => function == Function::Sum && state.overflows(),
            _ => false,
        }
    }

    /// Writes the one canonical form. The reader knows the kind.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Self::Count(count) => out.varint(*count),
            Self::IntSum(state) => state.encode(out),
            Self::FloatSum(state) => state.encode(out),
            Self::Moments(state) => state.encode(out),
            Self::Extreme(state) => state.encode(out),
            Self::Ordered(state) => state.encode(out),
            Self::Distinct(state) => state.encode(out),
            Self::Histogram(state) => state.encode(out),
            Self::TopK(state) => state.encode(out),
        }
    }

    /// Reads a state of a known kind.
    ///
    /// # Errors
    /// Fails where the bytes are not the canonical form of such a state.
    pub fn decode(kind: StateKind, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            StateKind::Count => Self::Count(from.varint()?),
            StateKind::IntSum => Self::IntSum(IntSum::decode(from)?),
            StateKind::FloatSum => Self::FloatSum(FloatSum::decode(from)?),
            StateKind::Moments => Self::Moments(Moments::decode(from)?),
            StateKind::Extreme { ty, side } => Self::Extreme(Extreme::decode(ty, side, from)?),
            StateKind::Ordered { ty, which } => Self::Ordered(Ordered::decode(ty, which, from)?),
            StateKind::Distinct(ty) => Self::Distinct(Distinct::decode(ty, from)?),
            StateKind::Histogram => Self::Histogram(Histogram::decode(from)?),
            StateKind::TopK(ty) => Self::TopK(TopK::decode(ty, from)?),
        })
    }

    /// Whether a state of a known kind follows, which [`decode`](Self::decode) would read, as far as can be told without
    /// keeping it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn check(kind: StateKind, from: &mut Reader<'_>) -> Result<(), DecodeError> {
        match kind {
            StateKind::FloatSum => FloatSum::check(from),
            _ => Self::decode(kind, from).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Partition;
    use crate::time::Time;

    const ORDER: Order = Order { event_time: Time::from_millis(0), partition: Partition(0), offset: 0 };

    fn apply(kind: StateKind, values: &[Value]) -> State {
        let mut state = State::empty(kind);
        values.iter().for_each(|value| state.apply(value, ORDER));
        state
    }

    /// The message that a mismatch stops with. It is the same in release builds, where debug assertions are not checked.
    fn defect_of<T>(mismatch: impl FnOnce() -> T + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(mismatch).map(drop).expect_err("a mismatch stops");
        *panic.downcast::<String>().expect("a message")
    }

    #[test]
    fn a_value_of_another_type_is_neither_skipped_nor_null() {
        let text = || Value::string("a");
        for (kind, values, expected) in [
            (StateKind::IntSum, vec![Value::float(1.0)], "an int64 sum takes int64"),
            (StateKind::FloatSum, vec![Value::Int64(1)], "a float64 sum takes float64"),
            (StateKind::Moments, vec![text()], "moments take numbers"),
            (StateKind::Histogram, vec![text()], "only numbers have percentiles"),
            (StateKind::Distinct(Type::Int64), vec![Value::List([].into())], "only scalars"),
            (StateKind::Distinct(Type::Int64), vec![Value::Int64(1), text()], "never counted together"),
            (StateKind::Distinct(Type::String), vec![text(), Value::Int64(1)], "never counted together"),
        ] {
            let told = defect_of(move || apply(kind, &values));
            assert!(told.contains(expected) && told.contains("please report it"), "{told}");
        }
    }

    #[test]
    fn states_of_two_kinds_are_never_merged() {
        let merged = |mine: State, theirs: State| {
            defect_of(move || {
                let mut mine = mine;
                mine.merge(&theirs);
            })
        };
        let told = merged(State::empty(StateKind::Count), State::empty(StateKind::IntSum));
        assert!(told.contains("states of one kind"), "{told}");
        let words = apply(StateKind::Distinct(Type::Int64), &[Value::Int64(1)]);
        let texts = apply(StateKind::Distinct(Type::String), &[Value::string("a")]);
        let told = merged(words, texts);
        assert!(told.contains("two types are never merged"), "{told}");
    }

    #[test]
    fn a_state_is_finished_by_its_own_functions() {
        for (kind, value, function) in [
            (StateKind::IntSum, Value::Int64(1), Function::VarPop),
            (StateKind::FloatSum, Value::float(1.0), Function::Min),
            (StateKind::Moments, Value::Int64(1), Function::Sum),
            (StateKind::Histogram, Value::Int64(1), Function::Avg),
            (StateKind::TopK(Type::Int64), Value::Int64(1), Function::CountDistinct),
            (StateKind::Ordered { ty: Type::Int64, which: Which::First }, Value::Int64(1), Function::Sum),
        ] {
            let told = defect_of(move || apply(kind, &[value]).finish(function));
            assert!(told.contains("finished as"), "{told}");
        }
    }
}
