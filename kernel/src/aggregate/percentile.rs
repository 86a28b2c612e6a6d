//! `approx_percentile`, by a DDSketch: counts of values in bins of bounded relative error.
//!
//! Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees"
//! (VLDB 2019), over a bounded range, so that no bins ever have to collapse and the sketch stays a function of
//! the multiset of values.

use super::Function;
use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::value::Value;

mod bins;
#[cfg(test)]
mod tests;

use bins::Bins;

/// How far an answer may be from the value of its rank, as a part of that value.
pub const RELATIVE_ERROR: f64 = 0.01;

/// How many values there were by sign and magnitude.
///
/// Magnitudes are clamped to `[1e-9, 1e12]`, infinities too: [`RELATIVE_ERROR`] holds for values in that range
/// and for zero, which is exact; any other counts as the nearest end of the range. NaN is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    negative: Bins,
    zero: u64,
    positive: Bins,
}

impl Histogram {
    pub(super) fn apply(&mut self, value: &Value) {
        match value {
            Value::Float64(value) => self.add(*value),
            Value::Int64(value) => self.add(*value as f64),
            other => defect("only numbers have percentiles", other),
        }
    }

    fn add(&mut self, value: f64) {
        if value == 0.0 {
            self.zero = self.zero.saturating_add(1);
        } else if value > 0.0 {
            self.positive.add(bins::index(value), 1);
        } else if value < 0.0 {
            self.negative.add(bins::index(-value), 1);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.negative.merge(&other.negative);
        self.zero = self.zero.saturating_add(other.zero);
        self.positive.merge(&other.positive);
    }

    /// The rank is `floor(p (n - 1))`, the product rounded to a double first: the tenth part of 11 values is
    /// the second of them, whatever the last bit of 0.1 is.
    pub(super) fn finish(&self, function: Function) -> Value {
        let below_positive = self.negative.total().saturating_add(self.zero);
        let total = below_positive.saturating_add(self.positive.total());
        let Function::ApproxPercentile(p) = function else {
            defect("a histogram is finished as a percentile", &function);
        };
        let Some(last) = total.checked_sub(1) else { return Value::Null };
        let rank = ((p.get() * last as f64) as u64).min(last);
        Value::float(if let Some(rank) = rank.checked_sub(below_positive) {
            self.positive.magnitude(rank)
        } else if rank >= self.negative.total() {
            0.0
        } else {
            -self.negative.magnitude(self.negative.total() - 1 - rank)
        })
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        self.negative.encode(out);
        out.varint(self.zero);
        self.positive.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { negative: Bins::decode(from)?, zero: from.varint()?, positive: Bins::decode(from)? })
    }
}
