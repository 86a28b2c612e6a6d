use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;
use crate::exact::naive::{any_float, finite, int, nearest, one, units};

const ALL: [Function; 4] = [Function::VarPop, Function::VarSamp, Function::StddevPop, Function::StddevSamp];

fn moments(values: &[Value]) -> Moments {
    let mut moments = Moments::default();
    values.iter().for_each(|value| moments.apply(value));
    moments
}

fn floats(xs: &[f64]) -> Moments {
    moments(&xs.iter().map(|x| Value::float(*x)).collect::<Vec<_>>())
}

fn ints(xs: &[i64]) -> Moments {
    moments(&xs.iter().map(|x| Value::Int64(*x)).collect::<Vec<_>>())
}

fn bytes(moments: &Moments) -> Vec<u8> {
    let mut out = Writer::new();
    moments.encode(&mut out);
    out.into_bytes()
}

/// By the definition: the sum of the squares of n times the distances to the mean, over n² freedom.
fn variance(xs: &[BigInt], unit: &BigInt, freedom: usize) -> Value {
    let (count, total): (BigInt, BigInt) = (xs.len().into(), xs.iter().sum());
    let distances: BigInt = xs.iter().map(|x| (x * &count - &total).pow(2)).sum();
    Value::float(nearest(&distances, &(unit * unit * &count * &count * freedom)))
}

fn root(var: &Value) -> Value {
    match var {
        Value::Float64(var) => Value::float(var.sqrt()),
        _ => Value::Null,
    }
}

fn assert_exact(moments: &Moments, xs: &[BigInt], unit: &BigInt) {
    let pop = variance(xs, unit, xs.len());
    let samp = if xs.len() < 2 { Value::Null } else { variance(xs, unit, xs.len() - 1) };
    assert_eq!(moments.finish(Function::StddevPop), root(&pop));
    assert_eq!(moments.finish(Function::StddevSamp), root(&samp));
    assert_eq!(moments.finish(Function::VarPop), pop);
    assert_eq!(moments.finish(Function::VarSamp), samp);
}

proptest! {
    #[test]
    fn float_variances_are_exact(xs in prop::collection::vec(finite(), 1..20)) {
        let exact: Vec<BigInt> = xs.iter().map(|x| units(*x)).collect();
        assert_exact(&floats(&xs), &exact, &one());
    }

    #[test]
    fn close_values_are_exact(base in finite(), steps in prop::collection::vec(-3i64..4, 1..20)) {
        let near = |step: &i64| f64::from_bits(base.to_bits().saturating_add_signed(*step));
        let xs: Vec<f64> = steps.iter().map(near).filter(|x| x.is_finite()).collect();
        prop_assume!(!xs.is_empty());
        let exact: Vec<BigInt> = xs.iter().map(|x| units(*x)).collect();
        assert_exact(&floats(&xs), &exact, &one());
    }

    #[test]
    fn int_variances_are_exact(xs in prop::collection::vec(int(), 1..20)) {
        let exact: Vec<BigInt> = xs.iter().map(|x| BigInt::from(*x)).collect();
        assert_exact(&ints(&xs), &exact, &1.into());
    }

    #[test]
    fn states_merge_and_come_back(
        a in prop::collection::vec(any_float(), 0..20),
        b in prop::collection::vec(any_float(), 0..20),
    ) {
        let (mut left, mut right) = (floats(&a), floats(&b));
        left.merge(&floats(&b));
        right.merge(&floats(&a));
        prop_assert_eq!(bytes(&left), bytes(&right));
        prop_assert_eq!(bytes(&left), bytes(&floats(&[b, a].concat())));
        prop_assert_eq!(Moments::decode(&mut Reader::new(&bytes(&left))), Ok(left));
    }
}

#[test]
fn few_values() {
    for function in ALL {
        assert_eq!(moments(&[]).finish(function), Value::Null);
        assert_eq!(floats(&[1.0, f64::NAN]).finish(function), Value::float(f64::NAN));
        assert_eq!(floats(&[1.0, f64::INFINITY]).finish(function), Value::float(f64::NAN));
        assert_eq!(floats(&[0.1; 7]).finish(function), Value::float(0.0));
    }
    assert_eq!(ints(&[5]).finish(Function::VarPop), Value::float(0.0));
    assert_eq!(ints(&[5]).finish(Function::VarSamp), Value::Null);
    assert_eq!(floats(&[f64::NAN]).finish(Function::StddevSamp), Value::Null);
    assert_eq!(floats(&[f64::NAN]).finish(Function::StddevPop), Value::float(f64::NAN));
}

#[test]
fn known_variances() {
    let state = ints(&[2, 4, 4, 4, 5, 5, 7, 9]);
    assert_eq!(state.finish(Function::VarPop), Value::float(4.0));
    assert_eq!(state.finish(Function::StddevPop), Value::float(2.0));
    assert_eq!(state.finish(Function::VarSamp), Value::float(32.0 / 7.0));
    // Beside 10^9, where squares of doubles have lost the units.
    assert_eq!(
        floats(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).finish(Function::VarSamp),
        Value::float(30.0)
    );
    assert_eq!(ints(&[i64::MIN, i64::MAX]).finish(Function::VarPop), Value::float(2f64.powi(126)));
    assert_eq!(floats(&[f64::MAX, f64::MIN]).finish(Function::StddevPop), Value::float(f64::INFINITY));
    assert_eq!(floats(&[5e-324, -5e-324]).finish(Function::VarPop), Value::float(0.0));
}

#[test]
fn counts_beyond_32_bits_are_divided_exactly() {
    let mut state = ints(&[0, 3]);
    for _ in 0..40 {
        state.merge(&state.clone());
    }
    let count = BigInt::from(1u64 << 41);
    // Half of the values are 1.5 above the mean and half below: n times 2.25, over n - 1.
    let expected = nearest(&(&count * 9), &((count - 1) * 4));
    assert_eq!(state.finish(Function::VarPop), Value::float(2.25));
    assert_eq!(state.finish(Function::VarSamp), Value::float(expected));
}

#[test]
fn totals_that_no_events_make_are_refused() {
    let refused = |bytes: &[u8]| Moments::decode(&mut Reader::new(bytes)).is_err();
    assert!(refused(&[0, 0x10, 68, 1, 0, 0, 0, 0x10, 68, 1, 0, 0, 0]), "a total of nothing");
    assert!(refused(&[1, 0x10, 68, 1, 0, 0, 0, 0x18, 68, 1, 0, 0, 0]), "a negative square");
    assert!(refused(&[1, 1, 1]), "the square of a NaN");
    assert!(!refused(&[1, 1, 0]));
}
