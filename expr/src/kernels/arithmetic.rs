//! `+ - * / %`, `div` and the unary minus: integers are checked, floats follow IEEE 754 but for division by zero,
//! which fails for both.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::kernels::{arity, numeric};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::error::ArrowError;
use tidemark_kernel::value::{Type, canonical};

use super::{Result, float, floats};
use crate::call::Kernel;

/// An operator's two kernels.
pub(crate) struct Arithmetic {
    /// Names the kernels.
    pub(crate) name: &'static str,
    pub(crate) integers: Kernel,
    /// What the kernel of integers gives; that of floats gives floats.
    pub(crate) of_integers: Type,
    pub(crate) floats: Kernel,
}

pub(crate) static ADD: Arithmetic = Arithmetic {
    name: "add",
    integers: |arguments| numeric::add(&arguments[0], &arguments[1]),
    of_integers: Type::Int64,
    floats: |arguments| floats(arguments, |x, y| x + y),
};

pub(crate) static SUBTRACT: Arithmetic = Arithmetic {
    name: "subtract",
    integers: |arguments| numeric::sub(&arguments[0], &arguments[1]),
    of_integers: Type::Int64,
    floats: |arguments| floats(arguments, |x, y| x - y),
};

pub(crate) static MULTIPLY: Arithmetic = Arithmetic {
    name: "multiply",
    integers: |arguments| numeric::mul(&arguments[0], &arguments[1]),
    of_integers: Type::Int64,
    floats: |arguments| floats(arguments, |x, y| x * y),
};

pub(crate) static DIVIDE: Arithmetic = Arithmetic {
    name: "divide",
    integers: quotients,
    of_integers: Type::Float64,
    floats: |arguments| divided(arguments, |x, y| x / y),
};

pub(crate) static MODULO: Arithmetic = Arithmetic {
    name: "modulo",
    integers: |arguments| numeric::rem(&arguments[0], &arguments[1]),
    of_integers: Type::Int64,
    floats: |arguments| divided(arguments, libm::fmod),
};

pub(crate) fn negate_integers(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    numeric::neg(&arguments[0])
}

pub(crate) fn negate_floats(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    float(arguments, |x| -x)
}

/// `div`: cut towards zero.
pub(crate) fn whole_quotients(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    numeric::div(&arguments[0], &arguments[1])
}

fn quotients(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (arguments[0].as_primitive::<Int64Type>(), arguments[1].as_primitive::<Int64Type>());
    let array: PrimitiveArray<Float64Type> = arity::try_binary(left, right, |x, y| {
        if y == 0 { Err(ArrowError::DivideByZero) } else { Ok(canonical(quotient(x, y))) }
    })?;
    Ok(Arc::new(array))
}

/// The quotient of two integers, rounded once, to the nearest double, ties to even; `y` is not 0.
///
/// Beyond 2^53 not every integer is a double: converting both first would round up to three times, and give 1 for two
/// integers that differ.
#[expect(clippy::cast_precision_loss, reason = "rounding once is the meaning")]
fn quotient(x: i64, y: i64) -> f64 {
    let is_double = |integer: i64| integer.unsigned_abs() <= 1 << 53;
    if x == 0 || is_double(x) && is_double(y) {
        return x as f64 / y as f64;
    }
    let (numerator, denominator) = (u128::from(x.unsigned_abs()), u128::from(y.unsigned_abs()));
    // As fine as fits: the quotient has 64 bits at least, of which a double takes the first 53.
    let shift = numerator.leading_zeros();
    let numerator = numerator << shift;
    // A remainder makes the last bit 1: it only decides whether the bits behind the first 53 are a tie.
    let bits = (numerator / denominator) | u128::from(numerator % denominator != 0);
    // 2^-shift, by its exponent. Scaling by it is exact.
    let scale = f64::from_bits(u64::from(1023 - shift) << 52);
    let magnitude = bits as f64 * scale;
    if (x < 0) == (y < 0) { magnitude } else { -magnitude }
}

fn divided(arguments: &[ArrayRef], f: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) =
        (arguments[0].as_primitive::<Float64Type>(), arguments[1].as_primitive::<Float64Type>());
    let array: PrimitiveArray<Float64Type> = arity::try_binary(left, right, |x, y| {
        if y == 0.0 { Err(ArrowError::DivideByZero) } else { Ok(canonical(f(x, y))) }
    })?;
    Ok(Arc::new(array))
}

#[cfg(test)]
mod tests {
    use super::quotient;

    const P53: i64 = 1 << 53;

    #[test]
    fn small_integers_are_divided_as_doubles() {
        for (x, y, expected) in
            [(7, 2, 3.5), (-7, 2, -3.5), (2, 3, 2.0 / 3.0), (1, -10, -0.1), (P53, 3, P53 as f64 / 3.0)]
        {
            assert_eq!(quotient(x, y), expected, "{x} / {y}");
        }
    }

    #[test]
    fn large_integers_are_not_rounded_first() {
        // 2^53 + 1 lies between two doubles, and a tie goes to the even one.
        assert_eq!(quotient(P53 + 1, 1), P53 as f64);
        assert_eq!(quotient(P53 + 3, 1), (P53 + 4) as f64);
        // Each lies in the middle between 1 and the next double, but for the smallest of remainders.
        assert_eq!(quotient(P53 + 1, P53), 1.0);
        assert_eq!(quotient(501 * P53 - 1 + 501, 501 * P53 - 1), 1.0 + f64::EPSILON);
        assert_eq!(quotient(500 * P53 + 1 + 500, 500 * P53 + 1), 1.0);
        assert_eq!(quotient(P53, P53 + 1), 1.0 - f64::EPSILON / 2.0);
        assert_eq!(quotient(3 * (P53 + 1), 3), P53 as f64);
        assert_eq!(quotient(3 * (P53 + 1), P53 + 1), 3.0);
        assert_eq!(quotient(i64::MAX - 1, i64::MAX), 1.0);
        assert_eq!(quotient(i64::MAX, P53 + 1), 1_023.999_999_999_999_9);
    }

    #[test]
    fn the_ends_of_int64() {
        let end = 9_223_372_036_854_775_808.0;
        assert_eq!(quotient(i64::MIN, -1), end);
        assert_eq!(quotient(i64::MIN, 1), -end);
        assert_eq!(quotient(i64::MIN, i64::MIN), 1.0);
        assert_eq!(quotient(i64::MAX, 1), end);
        assert_eq!(quotient(1, i64::MIN), -1.0 / end);
        assert_eq!(quotient(0, i64::MIN), 0.0);
        assert_eq!(quotient(i64::MIN, 3), -3.074_457_345_618_258_4e18);
    }
}
