//! Exact fractions of big integers.

use std::iter::Sum;

use num_bigint::{BigInt, Sign};

use crate::value::Value;

/// `numerator / denominator`, with a positive denominator; not reduced.
#[derive(Clone, Debug)]
pub(super) struct Rational {
    numerator: BigInt,
    denominator: BigInt,
}

impl Rational {
    /// The exact value of a finite number.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Int64(number) => Self { numerator: (*number).into(), denominator: 1.into() },
            Value::Float64(float) => Self::of_float(*float),
            _ => Self::default(),
        }
    }

    fn of_float(float: f64) -> Self {
        let bits = float.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let mantissa = BigInt::from(if exponent == 0 { fraction } else { fraction | 1 << 52 });
        let signed = if float < 0.0 { -mantissa } else { mantissa };
        let shift = exponent.max(1) - 1075;
        let power = BigInt::from(1) << shift.unsigned_abs();
        match shift {
            0.. => Self { numerator: signed * power, denominator: 1.into() },
            _ => Self { numerator: signed, denominator: power },
        }
    }

    pub(super) fn over(mut self, count: usize) -> Self {
        self.denominator *= count;
        self
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.denominator - &other.numerator * &self.denominator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub(super) fn squared(&self) -> Self {
        Self {
            numerator: &self.numerator * &self.numerator,
            denominator: &self.denominator * &self.denominator,
        }
    }

    /// The double nearest to it, ties to the one with an even mantissa: found by halving the doubles, which are
    /// ordered like their bits.
    pub(super) fn round(&self) -> f64 {
        let size = Self {
            numerator: self.numerator.magnitude().clone().into(),
            denominator: self.denominator.clone(),
        };
        let (mut low, mut high) = (0u64, f64::INFINITY.to_bits());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if size.is_at_least(&Self::of_float(f64::from_bits(middle))) {
                low = middle
            } else {
                high = middle
            }
        }
        let nearest = f64::from_bits(if size.rounds_down(low) { low } else { high });
        if self.numerator.sign() == Sign::Minus { -nearest } else { nearest }
    }

    fn is_at_least(&self, other: &Self) -> bool {
        &self.numerator * &other.denominator >= &other.numerator * &self.denominator
    }

    /// Whether a size between the doubles of bits `low` and `low + 1` is nearer to the first.
    fn rounds_down(&self, low: u64) -> bool {
        let step = if low + 1 == f64::INFINITY.to_bits() { low - 1 } else { low };
        let gap = Self::of_float(f64::from_bits(step + 1)).minus(&Self::of_float(f64::from_bits(step)));
        let rest = self.minus(&Self::of_float(f64::from_bits(low)));
        let (twice, gap) = (2 * rest.numerator * &gap.denominator, gap.numerator * rest.denominator);
        twice < gap || (twice == gap && low.is_multiple_of(2))
    }
}

impl Default for Rational {
    fn default() -> Self {
        Self { numerator: BigInt::ZERO, denominator: 1.into() }
    }
}

impl Sum for Rational {
    fn sum<I: Iterator<Item = Self>>(fractions: I) -> Self {
        fractions.fold(Self::default(), |sum, next| {
            let numerator = sum.numerator * &next.denominator + next.numerator * &sum.denominator;
            let denominator = sum.denominator * next.denominator;
            // Without this the denominators of a few thousand doubles would not fit in memory.
            let shared =
                numerator.trailing_zeros().unwrap_or(0).min(denominator.trailing_zeros().unwrap_or(0));
            Self { numerator: numerator >> shared, denominator: denominator >> shared }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(numerator: i64, denominator: i64) -> f64 {
        Rational { numerator: numerator.into(), denominator: denominator.into() }.round()
    }

    #[test]
    fn fractions_round_to_the_nearest_double() {
        assert_eq!(round(1, 3), 1.0 / 3.0);
        assert_eq!(round(-1, 10), -0.1);
        assert_eq!(round((1 << 53) + 1, 1), (1u64 << 53) as f64);
        assert_eq!(round((1 << 53) + 3, 1), ((1u64 << 53) + 4) as f64);
        assert_eq!(Rational::of_float(5e-324).over(2).round(), 0.0);
        assert_eq!(Rational::of_float(5e-324).over(1).round(), 5e-324);
        let huge = [f64::MAX, f64::MAX].into_iter().map(Rational::of_float).sum::<Rational>();
        assert_eq!(huge.round(), f64::INFINITY);
        assert_eq!(huge.over(2).round(), f64::MAX);
    }
}
