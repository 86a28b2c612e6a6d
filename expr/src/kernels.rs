//! Functions with an implementation of our own, because DataFusion's result could differ by platform, wrap, or depend
//! on an option: checked arithmetic, mathematics through `libm`, instants and casts.
//!
//! Every float that leaves a kernel is canonical, so that `-0` never compares different from `0`.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::kernels::arity;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow::error::ArrowError;
use tidemark_kernel::value::canonical;

pub(crate) mod arithmetic;
pub(crate) mod casts;
pub(crate) mod instants;
pub(crate) mod maths;

type Result<T> = std::result::Result<T, ArrowError>;

/// Applies `f` to the floats of the first argument.
fn float(arguments: &[ArrayRef], f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let floats = arguments[0].as_primitive::<Float64Type>();
    Ok(Arc::new(floats.unary::<_, Float64Type>(|x| canonical(f(x)))))
}

/// Applies `f` to the floats of the first two arguments.
fn floats(arguments: &[ArrayRef], f: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) =
        (arguments[0].as_primitive::<Float64Type>(), arguments[1].as_primitive::<Float64Type>());
    let array: PrimitiveArray<Float64Type> = arity::binary(left, right, |x, y| canonical(f(x, y)))?;
    Ok(Arc::new(array))
}

/// Applies `f`, which may fail, to the integers of the first argument.
fn integer(arguments: &[ArrayRef], f: impl Fn(i64) -> Result<i64>) -> Result<ArrayRef> {
    Ok(Arc::new(row_by_row::<Int64Type, Int64Type>(&arguments[0], f)?))
}

/// Applies `f`, which may fail, to the valid rows of one argument.
fn row_by_row<I: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    array: &ArrayRef,
    f: impl Fn(I::Native) -> Result<O::Native>,
) -> Result<PrimitiveArray<O>> {
    array.as_primitive::<I>().try_unary(f)
}

/// Instants as our timestamps: in UTC.
fn utc(instants: PrimitiveArray<TimestampMillisecondType>) -> ArrayRef {
    Arc::new(instants.with_timezone("UTC"))
}
