//! `+ - * / %` and the unary minus: integers are checked, floats follow IEEE 754 but for division by zero, which
//! fails for both.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::kernels::{arity, numeric};
use arrow::datatypes::Float64Type;
use arrow::error::ArrowError;
use tidemark_kernel::value::canonical;

use super::{Result, float, floats};
use crate::call::Kernel;

/// An operator's two kernels.
pub(crate) struct Arithmetic {
    /// Names the kernels.
    pub(crate) name: &'static str,
    pub(crate) integers: Kernel,
    pub(crate) floats: Kernel,
}

pub(crate) static ADD: Arithmetic = Arithmetic {
    name: "add",
    integers: |arguments| numeric::add(&arguments[0], &arguments[1]),
    floats: |arguments| floats(arguments, |x, y| x + y),
};

pub(crate) static SUBTRACT: Arithmetic = Arithmetic {
    name: "subtract",
    integers: |arguments| numeric::sub(&arguments[0], &arguments[1]),
    floats: |arguments| floats(arguments, |x, y| x - y),
};

pub(crate) static MULTIPLY: Arithmetic = Arithmetic {
    name: "multiply",
    integers: |arguments| numeric::mul(&arguments[0], &arguments[1]),
    floats: |arguments| floats(arguments, |x, y| x * y),
};

pub(crate) static DIVIDE: Arithmetic = Arithmetic {
    name: "divide",
    integers: |arguments| numeric::div(&arguments[0], &arguments[1]),
    floats: |arguments| divided(arguments, |x, y| x / y),
};

pub(crate) static MODULO: Arithmetic = Arithmetic {
    name: "modulo",
    integers: |arguments| numeric::rem(&arguments[0], &arguments[1]),
    floats: |arguments| divided(arguments, libm::fmod),
};

pub(crate) fn negate_integers(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    numeric::neg(&arguments[0])
}

pub(crate) fn negate_floats(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    float(arguments, |x| -x)
}

fn divided(arguments: &[ArrayRef], f: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) =
        (arguments[0].as_primitive::<Float64Type>(), arguments[1].as_primitive::<Float64Type>());
    let array: PrimitiveArray<Float64Type> = arity::try_binary(left, right, |x, y| {
        if y == 0.0 { Err(ArrowError::DivideByZero) } else { Ok(canonical(f(x, y))) }
    })?;
    Ok(Arc::new(array))
}
