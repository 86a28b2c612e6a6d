//! The same arithmetic written in the simplest way, and the values on which tests compare both.

use num_bigint::BigInt;
use num_traits::{Float, Signed};
use proptest::prelude::*;

/// Every double is a whole number of units of 2^-UNIT, and every product of two doubles one of 2^-(2 UNIT).
pub(crate) const UNIT: u32 = 1100;

/// A finite double in units of 2^-UNIT.
pub(crate) fn units(x: f64) -> BigInt {
    let (mantissa, exponent, sign) = Float::integer_decode(x);
    (BigInt::from(mantissa) * sign) << (i32::from(exponent) + UNIT as i32)
}

/// One, in units of 2^-UNIT.
pub(crate) fn one() -> BigInt {
    BigInt::from(1) << UNIT
}

/// The double nearest to a fraction, found by bisection over all of them; a tie goes to the one with even bits.
pub(crate) fn nearest(numerator: &BigInt, denominator: &BigInt) -> f64 {
    let infinity = f64::INFINITY.to_bits();
    // The bits of doubles that are not negative are in their order; infinity is taken as 2^1024.
    let at = |bits: u64| if bits == infinity { one() << 1024 } else { units(f64::from_bits(bits)) };
    let wanted: BigInt = numerator.abs() * one();
    let (mut below, mut above) = (0, infinity);
    while above - below > 1 {
        let middle = below.midpoint(above);
        *(if at(middle) * denominator <= wanted { &mut below } else { &mut above }) = middle;
    }
    let twice_middle = (at(below) + at(above)) * denominator;
    let up = match (wanted * 2i32).cmp(&twice_middle) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => below % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    let magnitude = f64::from_bits(if up { above } else { below });
    if numerator.is_negative() && magnitude != 0.0 { -magnitude } else { magnitude }
}

/// Finite doubles of every kind, those that meet and cancel more often than chance would have it.
pub(crate) fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-10_000_000i64..10_000_000).prop_map(|cents| cents as f64 / 100.0),
        2 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
        1 => any::<u64>().prop_map(|bits| f64::from_bits(bits & !(0x7ff << 52))),
        1 => (-3i32..=3).prop_map(|n| f64::from(n) * 5e-324),
        1 => (-4i32..=4, 0i32..=60).prop_map(|(n, exponent)| f64::from(n) * 2f64.powi(exponent)),
        2 => prop::sample::select(vec![
            0.0, -0.0, 1.0, -1.0, 1e308, -1e308, f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::EPSILON, 0.1,
        ]),
    ]
}

/// Doubles of every kind.
pub(crate) fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => finite(),
        1 => prop::sample::select(vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

/// Integers of every size.
pub(crate) fn int() -> impl Strategy<Value = i64> {
    prop_oneof![-1000i64..1000, any::<i64>(), prop::sample::select(vec![i64::MIN, i64::MAX, 0])]
}
