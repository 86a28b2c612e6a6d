//! `sum` and `avg`.

use super::Function;
use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::exact::{ExactSum, int_ratio};
use crate::value::Value;

/// How many integers, and their exact total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntSum {
    count: u64,
    /// Never overflows: 2^64 integers of 2^63 are 2^127.
    total: i128,
}

impl IntSum {
    pub(super) fn apply(&mut self, value: &Value) {
        let Value::Int64(int) = value else {
            defect("an int64 sum takes int64", value);
        };
        self.count = self.count.saturating_add(1);
        self.total = self.total.saturating_add(i128::from(*int));
    }

    /// Saturates, which only states that no events could have made can reach.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total = self.total.saturating_add(other.total);
    }

    /// Null when empty, and for a sum that does not fit an int64. The mean always exists.
    pub(super) fn finish(&self, function: Function) -> Value {
        match (self.count, function) {
            (0, _) => Value::Null,
            (count, Function::Avg) => Value::float(int_ratio(self.total, count)),
            (_, Function::Sum) => i64::try_from(self.total).map_or(Value::Null, Value::Int64),
            (_, other) => defect("an int64 sum is finished as sum or avg", &other),
        }
    }

    pub(super) fn overflows(&self) -> bool {
        i64::try_from(self.total).is_err()
    }

    /// The total goes as a low and a high half, both signed, so that small totals of either sign are short.
    pub(super) fn encode(&self, out: &mut Writer) {
        let low = self.total as i64;
        let high = self.total.wrapping_sub(i128::from(low)) >> 64;
        out.varint(self.count);
        out.zigzag(low);
        out.zigzag(high as i64);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.varint()?;
        let low = i128::from(from.zigzag()?);
        let total = (i128::from(from.zigzag()?) << 64).wrapping_add(low);
        if total.unsigned_abs() > u128::from(count) << 63 {
            return Err(from.malformed("a total of so many integers"));
        }
        Ok(Self { count, total })
    }
}

/// How many floats, and their exact total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FloatSum {
    count: u64,
    total: ExactSum,
}

impl FloatSum {
    pub(super) fn apply(&mut self, value: &Value) {
        let Value::Float64(float) = value else {
            defect("a float64 sum takes float64", value);
        };
        self.count = self.count.saturating_add(1);
        self.total.add(*float);
    }

    /// Saturates, which only states that no events could have made can reach.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total.merge(&other.total);
    }

    /// Null when empty. The mean is the exact quotient rounded once, not the rounded sum divided.
    pub(super) fn finish(&self, function: Function) -> Value {
        match (self.count, function) {
            (0, _) => Value::Null,
            (count, Function::Avg) => Value::float(self.total.mean(count)),
            (_, Function::Sum) => Value::float(self.total.to_f64()),
            (_, other) => defect("a float64 sum is finished as sum or avg", &other),
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(self.count);
        self.total.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let state = Self { count: from.varint()?, total: ExactSum::decode(from)? };
        if state.count == 0 && state != Self::default() {
            return Err(from.malformed("a total of no floats"));
        }
        Ok(state)
    }

    /// See [`State::check`](super::State::check).
    pub(super) fn check(from: &mut Reader<'_>) -> Result<(), DecodeError> {
        let (count, is_nothing) = (from.varint()?, ExactSum::check(from)?);
        if count == 0 && !is_nothing {
            return Err(from.malformed("a total of no floats"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
