//! `var_pop`, `var_samp`, `stddev_pop` and `stddev_samp`, from the count and the exact sums of values and squares.

use super::Function;
use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::exact::{ExactSum, spread};
use crate::value::Value;

/// How many numbers, and the exact totals of them and of their squares.
///
/// With exact totals the textbook formula `(n Σx² - (Σx)²) / n²` has nothing to cancel catastrophically: the
/// numerator is an exact integer, and the quotient is rounded once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    count: u64,
    /// Beside the state rather than in it: an aggregate's state is as large as the largest kind.
    totals: Box<Totals>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    sum: ExactSum,
    /// Of the finite values only; `sum` remembers the others.
    squares: ExactSum,
}

impl Moments {
    pub(super) fn apply(&mut self, value: &Value) {
        let Totals { sum, squares } = &mut *self.totals;
        match value {
            Value::Int64(int) => {
                sum.add_int(*int);
                squares.add_int_square(*int);
            }
            Value::Float64(float) => {
                sum.add(*float);
                if float.is_finite() {
                    squares.add_square(*float);
                }
            }
            other => defect("moments take numbers", other),
        }
        self.count = self.count.saturating_add(1);
    }

    /// The count saturates, which only states that no events could have made can reach.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.totals.sum.merge(&other.totals.sum);
        self.totals.squares.merge(&other.totals.squares);
    }

    /// Null when empty, and for a sample of one; NaN where any value was not finite.
    pub(super) fn finish(&self, function: Function) -> Value {
        let (sample, root) = match function {
            Function::VarSamp => (true, false),
            Function::StddevSamp => (true, true),
            Function::StddevPop => (false, true),
            Function::VarPop => (false, false),
            other => defect("moments are finished as a variance or its root", &other),
        };
        if self.count <= u64::from(sample) {
            return Value::Null;
        }
        let var = self.var(self.count - u64::from(sample));
        // IEEE 754 demands the correctly rounded root, and `sqrt` is it on every platform.
        Value::float(if root { var.sqrt() } else { var })
    }

    /// `(n Σx² - (Σx)²) / (n freedom)`.
    fn var(&self, freedom: u64) -> f64 {
        let Totals { sum, squares } = &*self.totals;
        if sum.special().is_some() {
            return f64::NAN;
        }
        let numerator = spread(self.count, &sum.number(), &squares.number());
        numerator.divided_by_wide(u128::from(self.count) * u128::from(freedom))
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(self.count);
        self.totals.sum.encode(out);
        self.totals.squares.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.varint()?;
        let totals = Totals { sum: ExactSum::decode(from)?, squares: ExactSum::decode(from)? };
        let empty = totals == Totals::default();
        let (special, squares) = (totals.squares.special(), totals.squares.number());
        if special.is_some() || squares.is_negative() || count == 0 && !empty {
            return Err(from.malformed("totals of so many numbers"));
        }
        Ok(Self { count, totals: Box::new(totals) })
    }
}

#[cfg(test)]
mod tests;
