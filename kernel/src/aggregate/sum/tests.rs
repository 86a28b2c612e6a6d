use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;
use crate::exact::naive::{any_float, finite, int, nearest, one, units};
use crate::value::canonical;

fn ints(xs: &[i64]) -> IntSum {
    let mut sum = IntSum::default();
    xs.iter().for_each(|x| sum.apply(&Value::Int64(*x)));
    sum
}

fn floats(xs: &[f64]) -> FloatSum {
    let mut sum = FloatSum::default();
    xs.iter().for_each(|x| sum.apply(&Value::float(*x)));
    sum
}

fn int_bytes(sum: &IntSum) -> Vec<u8> {
    let mut out = Writer::new();
    sum.encode(&mut out);
    out.into_bytes()
}

fn float_bytes(sum: &FloatSum) -> Vec<u8> {
    let mut out = Writer::new();
    sum.encode(&mut out);
    out.into_bytes()
}

proptest! {
    #[test]
    fn ints_are_exact(xs in prop::collection::vec(int(), 1..40)) {
        let total: BigInt = xs.iter().map(|x| BigInt::from(*x)).sum();
        let sum = ints(&xs);
        let expected = i64::try_from(&total).map_or(Value::Null, Value::Int64);
        prop_assert_eq!(sum.finish(Function::Sum), expected);
        let mean = nearest(&total, &xs.len().into());
        prop_assert_eq!(sum.finish(Function::Avg), Value::float(mean));
    }

    #[test]
    fn floats_are_exact(xs in prop::collection::vec(finite(), 1..40)) {
        let total: BigInt = xs.iter().map(|x| units(*x)).sum();
        let sum = floats(&xs);
        prop_assert_eq!(sum.finish(Function::Sum), Value::float(nearest(&total, &one())));
        let mean = nearest(&total, &(one() * xs.len()));
        prop_assert_eq!(sum.finish(Function::Avg), Value::float(mean));
    }

    #[test]
    fn int_states_merge_and_come_back(
        a in prop::collection::vec(int(), 0..20),
        b in prop::collection::vec(int(), 0..20),
    ) {
        let (mut left, mut right) = (ints(&a), ints(&b));
        left.merge(&ints(&b));
        right.merge(&ints(&a));
        let bytes = int_bytes(&left);
        prop_assert_eq!(&bytes, &int_bytes(&right));
        prop_assert_eq!(&bytes, &int_bytes(&ints(&[b, a].concat())));
        prop_assert_eq!(IntSum::decode(&mut Reader::new(&bytes)), Ok(left));
    }

    #[test]
    fn float_states_merge_and_come_back(
        a in prop::collection::vec(any_float(), 0..20),
        b in prop::collection::vec(any_float(), 0..20),
    ) {
        let (mut left, mut right) = (floats(&a), floats(&b));
        left.merge(&floats(&b));
        right.merge(&floats(&a));
        let bytes = float_bytes(&left);
        prop_assert_eq!(&bytes, &float_bytes(&right));
        prop_assert_eq!(&bytes, &float_bytes(&floats(&[b, a].concat())));
        prop_assert_eq!(FloatSum::decode(&mut Reader::new(&bytes)), Ok(left));
    }
}

#[test]
fn empty_is_null() {
    for function in [Function::Sum, Function::Avg] {
        assert_eq!(ints(&[]).finish(function), Value::Null);
        assert_eq!(floats(&[]).finish(function), Value::Null);
    }
    assert_eq!(int_bytes(&ints(&[])), [0, 0, 0]);
    assert_eq!(float_bytes(&floats(&[])), [0, 0]);
}

#[test]
fn an_int_total_that_does_not_fit_is_null_but_its_mean_is_not() {
    let sum = ints(&[i64::MAX, 1]);
    assert_eq!(sum.finish(Function::Sum), Value::Null);
    assert_eq!(sum.finish(Function::Avg), Value::float(2f64.powi(62)));
    assert_eq!(ints(&[i64::MAX, 1, -1]).finish(Function::Sum), Value::Int64(i64::MAX));
    assert_eq!(ints(&[i64::MIN, i64::MIN]).finish(Function::Avg), Value::float(-(2f64.powi(63))));
}

#[test]
fn a_mean_is_not_a_rounded_sum_divided() {
    // 2^53 + 1 is divisible by three, but no double: rounded first, its third would be ...330.5.
    let unit = 1i64 << 53;
    let third = Value::float(3_002_399_751_580_331.0);
    assert_eq!(ints(&[unit, 1, 0]).finish(Function::Avg), third);
    assert_eq!(floats(&[unit as f64, 1.0, 0.0]).finish(Function::Avg), third);
    assert_eq!(floats(&[f64::MAX, f64::MAX]).finish(Function::Sum), Value::float(f64::INFINITY));
    assert_eq!(floats(&[f64::MAX, f64::MAX]).finish(Function::Avg), Value::float(f64::MAX));
}

#[test]
fn what_is_not_finite_stays() {
    let infinity = f64::INFINITY;
    for function in [Function::Sum, Function::Avg] {
        assert_eq!(floats(&[1.0, infinity]).finish(function), Value::float(infinity));
        assert_eq!(floats(&[f64::MAX, -infinity]).finish(function), Value::float(-infinity));
        for xs in [&[infinity, -infinity][..], &[1.0, f64::NAN], &[-f64::NAN, infinity]] {
            let Value::Float64(nan) = floats(xs).finish(function) else { panic!("{xs:?}") };
            assert_eq!(nan.to_bits(), canonical(f64::NAN).to_bits());
        }
    }
}

#[test]
fn zeros_are_positive() {
    let Value::Float64(zero) = floats(&[-0.0, -0.0]).finish(Function::Avg) else { panic!("no zero") };
    assert_eq!(zero.to_bits(), 0);
}

#[test]
fn totals_that_no_events_make_are_refused() {
    let refused = |bytes: &[u8]| IntSum::decode(&mut Reader::new(bytes)).is_err();
    assert!(refused(&[0, 2, 0]), "a total of no integers");
    assert!(refused(&[1, 0, 2]), "2^64 of one integer");
    assert!(FloatSum::decode(&mut Reader::new(&[0, 0x10, 68, 1, 0, 0, 0])).is_err());
}

#[test]
fn counts_that_no_events_make_saturate() {
    let most = IntSum { count: u64::MAX, total: i128::from(u64::MAX) << 63 };
    let mut sum = IntSum::decode(&mut Reader::new(&int_bytes(&most))).expect("as much as so many can be");
    (0..3).for_each(|_| sum.apply(&Value::Int64(i64::MAX)));
    assert_eq!((sum.count, sum.total), (u64::MAX, i128::MAX));
}
