//! Mathematical functions with the same bits on every platform: `libm`, never the system's library.
//!
//! Outside its domain a function gives NaN or an infinity, as IEEE 754 has it; that is a value, not a failure.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::kernels::arity;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::error::ArrowError;
use tidemark_kernel::value::canonical;

use super::{Result, float, floats, integer};

macro_rules! of_one_float {
    ($($name:ident = $f:expr;)*) => {
        $(pub(crate) fn $name(arguments: &[ArrayRef]) -> Result<ArrayRef> {
            float(arguments, $f)
        })*
    };
}

of_one_float! {
    abs = libm::fabs;
    acos = libm::acos;
    asin = libm::asin;
    atan = libm::atan;
    cbrt = libm::cbrt;
    ceil = libm::ceil;
    cos = libm::cos;
    exp = libm::exp;
    floor = libm::floor;
    ln = libm::log;
    log10 = libm::log10;
    log2 = libm::log2;
    round = libm::round;
    signum = |x| if x == 0.0 || x.is_nan() { x } else { libm::copysign(1.0, x) };
    sin = libm::sin;
    sqrt = libm::sqrt;
    tan = libm::tan;
    trunc = libm::trunc;
}

pub(crate) fn atan2(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    floats(arguments, libm::atan2)
}

pub(crate) fn power(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    floats(arguments, libm::pow)
}

pub(crate) fn abs_integers(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    integer(arguments, |x| {
        x.checked_abs().ok_or_else(|| ArrowError::ArithmeticOverflow(format!("abs({x}) is no int64")))
    })
}

pub(crate) fn signum_integers(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    integer(arguments, |x| Ok(x.signum()))
}

/// To so many decimal places, half away from zero. Negative places round before the point.
pub(crate) fn round_to(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    to_places(arguments, libm::round)
}

/// To so many decimal places, towards zero.
pub(crate) fn trunc_to(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    to_places(arguments, libm::trunc)
}

/// The powers of ten that a double holds exactly: scaling by any other would add an error of its own.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

fn to_places(arguments: &[ArrayRef], rounded: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let (values, places) =
        (arguments[0].as_primitive::<Float64Type>(), arguments[1].as_primitive::<Int64Type>());
    let array: PrimitiveArray<Float64Type> = arity::try_binary(values, places, |x, places| {
        let ten = usize::try_from(places.unsigned_abs()).ok().and_then(|places| TENS.get(places));
        let ten = ten.ok_or_else(|| ArrowError::ComputeError(format!("cannot round to {places} places")))?;
        let scaled = if places < 0 { rounded(x / ten) * ten } else { rounded(x * ten) / ten };
        // Too large to scale is too large to have such places.
        Ok(canonical(if scaled.is_finite() { scaled } else { x }))
    })?;
    Ok(Arc::new(array))
}
