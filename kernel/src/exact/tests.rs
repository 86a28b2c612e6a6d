use num_bigint::{BigInt, BigUint};
use proptest::prelude::*;

use super::naive::{UNIT, any_float, finite, int, nearest, one, units};
use super::*;

fn sum_of(xs: &[f64]) -> ExactSum {
    let mut sum = ExactSum::default();
    xs.iter().for_each(|x| sum.add(*x));
    sum
}

fn merged(a: &ExactSum, b: &ExactSum) -> ExactSum {
    let mut sum = a.clone();
    sum.merge(b);
    sum
}

fn bytes(sum: &ExactSum) -> Vec<u8> {
    let mut out = Writer::new();
    sum.encode(&mut out);
    out.into_bytes()
}

fn decoded(bytes: &[u8]) -> Result<ExactSum, DecodeError> {
    let mut from = Reader::new(bytes);
    let sum = ExactSum::decode(&mut from)?;
    from.finish()?;
    Ok(sum)
}

/// The exact total in units of 2^-(2 UNIT).
fn total(sum: &ExactSum) -> BigInt {
    let (integer, exponent) = sum.to_big();
    integer << (exponent + i64::from(2 * UNIT))
}

fn floats() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(any_float(), 0..80)
}

proptest! {
    #[test]
    fn the_total_is_exact_and_rounded_once(xs in prop::collection::vec(finite(), 0..80)) {
        let sum = sum_of(&xs);
        let naive: BigInt = xs.iter().map(|x| units(*x)).sum();
        prop_assert_eq!(total(&sum), &naive * one());
        prop_assert_eq!(sum.to_f64().to_bits(), nearest(&naive, &one()).to_bits());
    }

    #[test]
    fn squares_and_integers_are_exact(
        xs in prop::collection::vec(finite(), 0..20),
        ints in prop::collection::vec(int(), 0..20),
    ) {
        let mut sum = ExactSum::default();
        xs.iter().for_each(|x| sum.add_square(*x));
        ints.iter().for_each(|x| sum.add_int(*x));
        ints.iter().for_each(|x| sum.add_int_square(*x));
        let squares: BigInt = xs.iter().map(|x| units(*x) * units(*x)).sum();
        let ints: BigInt = ints.iter().map(|x| BigInt::from(*x) * (BigInt::from(*x) + 1)).sum();
        prop_assert_eq!(total(&sum), squares + ints * one() * one());
    }

    #[test]
    fn a_mean_is_rounded_once(xs in prop::collection::vec(finite(), 0..20), count in 1u64..) {
        let naive: BigInt = xs.iter().map(|x| units(*x)).sum();
        let mean = sum_of(&xs).mean(count);
        prop_assert_eq!(mean.to_bits(), nearest(&naive, &(one() * count)).to_bits());
    }

    #[test]
    fn order_and_batches_make_no_difference(
        (xs, shuffled) in floats().prop_flat_map(|xs| (Just(xs.clone()), Just(xs).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
    ) {
        let (left, right) = shuffled.split_at(cut.index(shuffled.len() + 1));
        let sums = [sum_of(&shuffled), merged(&sum_of(left), &sum_of(right))];
        let expected = sum_of(&xs);
        for sum in sums {
            prop_assert_eq!(&sum, &expected);
            prop_assert_eq!(bytes(&sum), bytes(&expected));
            prop_assert_eq!(sum.to_f64().to_bits(), expected.to_f64().to_bits());
        }
    }

    #[test]
    fn merging_is_commutative_and_associative(a in floats(), b in floats(), c in floats()) {
        let (a, b, c) = (sum_of(&a), sum_of(&b), sum_of(&c));
        prop_assert_eq!(bytes(&merged(&a, &b)), bytes(&merged(&b, &a)));
        prop_assert_eq!(bytes(&merged(&merged(&a, &b), &c)), bytes(&merged(&a, &merged(&b, &c))));
        prop_assert_eq!(bytes(&merged(&a, &ExactSum::default())), bytes(&a));
        prop_assert_eq!(bytes(&merged(&ExactSum::default(), &a)), bytes(&a));
    }

    #[test]
    fn bytes_come_back(xs in floats(), more in floats()) {
        let sum = sum_of(&xs);
        let back = decoded(&bytes(&sum)).unwrap();
        prop_assert_eq!(&back, &sum);
        let more = sum_of(&more);
        prop_assert_eq!(merged(&back, &more), merged(&sum, &more));
    }

    #[test]
    fn only_canonical_bytes_are_read(xs in floats(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes_of = bytes(&sum_of(&xs));
        *at.get_mut(&mut bytes_of) = byte;
        if let Ok(sum) = decoded(&bytes_of) {
            prop_assert_eq!(bytes(&sum), bytes_of);
        }
    }

    #[test]
    fn ratios_are_rounded_once(n in any::<i128>(), d in 1u128.., drop in 0u32..128, exponent in -1300i64..1200) {
        let (n, d) = (BigInt::from(n >> (drop / 2)), BigUint::from((d >> drop).max(1)));
        let scale = BigInt::from(1) << exponent.unsigned_abs();
        let (up, down) = if exponent < 0 { (BigInt::from(1), scale) } else { (scale, BigInt::from(1)) };
        let expected = nearest(&(&n * up), &(BigInt::from(d.clone()) * down));
        prop_assert_eq!(ratio_to_f64(&n, &d, exponent).to_bits(), expected.to_bits());
    }

    #[test]
    fn integer_ratios_are_rounded_once(n in any::<i128>(), drop in 0u32..128, d in 1u64..) {
        let n = n >> drop;
        prop_assert_eq!(int_ratio(n, d).to_bits(), nearest(&n.into(), &d.into()).to_bits());
    }

    #[test]
    fn both_divisions_agree(xs in prop::collection::vec(finite(), 1..9), divisor in 1u64..) {
        let number = sum_of(&xs).number();
        let big = ratio_to_f64(&number.to_big(), &BigUint::from(divisor), number.exponent());
        prop_assert_eq!(number.divided_by(divisor).to_bits(), big.to_bits());
    }
}

#[test]
fn ties_go_to_even() {
    let unit = 2f64.powi(53);
    assert_eq!(sum_of(&[unit, 1.0]).to_f64(), unit);
    assert_eq!(sum_of(&[unit + 2.0, 1.0]).to_f64(), unit + 4.0);
    assert_eq!(sum_of(&[unit, 1.0, 5e-324]).to_f64(), unit + 2.0);
    assert_eq!(sum_of(&[unit + 2.0, 1.0, -5e-324]).to_f64(), unit + 2.0);
    assert_eq!(sum_of(&[-unit, -1.0]).to_f64(), -unit);
    assert_eq!(sum_of(&[-unit - 2.0, -1.0]).to_f64(), -unit - 4.0);
}

#[test]
fn subnormal_quotients_round_to_even() {
    let tiny = sum_of(&[5e-324]);
    assert_eq!(tiny.mean(2).to_bits(), 0.0f64.to_bits());
    assert_eq!(sum_of(&[15e-324]).mean(2), 10e-324);
    assert_eq!(sum_of(&[-25e-324]).mean(2), -10e-324);
    assert_eq!(sum_of(&[-5e-324]).mean(3).to_bits(), 0.0f64.to_bits());
    assert_eq!(sum_of(&[f64::MIN_POSITIVE, -5e-324]).to_f64(), f64::MIN_POSITIVE - 5e-324);
    let mut square = ExactSum::default();
    square.add_square(5e-324);
    assert_eq!(square.to_f64(), 0.0);
    assert!(!square.is_zero());
}

#[test]
fn beyond_the_largest_double_is_infinite_until_it_cancels() {
    let half_unit = 2f64.powi(970);
    assert_eq!(sum_of(&[f64::MAX, half_unit]).to_f64(), f64::INFINITY);
    assert_eq!(sum_of(&[f64::MAX, half_unit, -5e-324]).to_f64(), f64::MAX);
    assert_eq!(sum_of(&[f64::MIN, -half_unit]).to_f64(), f64::NEG_INFINITY);
    assert_eq!(sum_of(&[1e308, 1e308, 1e308, -1e308, -1e308]).to_f64(), 1e308);
    assert_eq!(sum_of(&[f64::MAX, f64::MAX]).mean(2), f64::MAX);
}

#[test]
fn zeros_are_one_and_store_nothing() {
    for xs in [&[][..], &[-0.0], &[0.0, -0.0], &[1.5, -1.5], &[1e300, 1.0, -1e300, -1.0]] {
        let sum = sum_of(xs);
        assert_eq!(sum.to_f64().to_bits(), 0);
        assert_eq!(bytes(&sum), [0]);
        assert!(sum.is_zero() && sum == ExactSum::default());
    }
}

#[test]
fn infinities_and_nan() {
    let infinity = f64::INFINITY;
    assert_eq!(sum_of(&[infinity, f64::MIN, infinity]).to_f64(), infinity);
    assert_eq!(sum_of(&[-infinity, 1.0]).mean(2), -infinity);
    assert!(sum_of(&[infinity, -infinity]).to_f64().is_nan());
    assert!(sum_of(&[f64::NAN, infinity]).mean(2).is_nan());
    assert_ne!(sum_of(&[f64::NAN]), sum_of(&[infinity]));
}

#[test]
fn golden_bytes() {
    assert_eq!(bytes(&sum_of(&[1.0])), [0x10, 68, 1, 0, 0, 0]);
    assert_eq!(bytes(&sum_of(&[-0.5])), [0x18, 67, 0, 0, 0, 0x80]);
    assert_eq!(bytes(&sum_of(&[4294967296.5, f64::NAN])), [0x31, 67, 0, 0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(bytes(&sum_of(&[f64::INFINITY, f64::NEG_INFINITY])), [6]);
}

#[test]
fn damaged_bytes_are_refused() {
    let malformed: [&[u8]; 6] = [
        &[8],                                                             // minus zero
        &[0x10, 68, 0, 0, 0, 0],                                          // a lowest digit that is zero
        &[0x10, 135, 1, 1, 0, 0, 0],                                      // beyond the highest limb
        &[0x20, 68, 1, 0, 0, 0, 0, 0, 0, 0],                              // a highest digit that is zero
        &[0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 68],   // too long
        &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // too high
    ];
    for bytes in malformed {
        assert!(matches!(decoded(bytes), Err(DecodeError::Malformed { .. })), "{bytes:?}");
    }
    assert!(matches!(decoded(&[0x10, 68, 1, 0]), Err(DecodeError::Truncated { .. })));
}

#[test]
fn money_needs_no_allocation() {
    let sum = sum_of(&[0.01, 12.34, -99_999.99, 1e9, 4e9, 4e9]);
    assert!(!sum.limbs.spilled());
}

#[test]
fn carries_wait_for_millions_of_additions() {
    let (count, most) = (3_000_000u64, 2f64.powi(53) - 1.0);
    for exponent in [-1074, -13, 0, 5, 31, 970] {
        // Multiplied in two steps: 2^-1074 alone is subnormal.
        let x = most * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
        let mut sum = ExactSum::default();
        (0..count).for_each(|_| sum.add(x));
        assert_eq!(total(&sum), units(x) * one() * count, "{exponent}");
        assert_eq!(sum.mean(count), x);
        (0..count).for_each(|_| sum.add(-x));
        assert!(sum.is_zero());
    }
}

#[test]
fn doubling_forty_times_carries_in_time() {
    for x in [f64::MAX, -0.1, 5e-324, -12.34] {
        let mut sum = sum_of(&[x; 3]);
        for _ in 0..40 {
            sum = merged(&sum, &sum);
        }
        assert_eq!(total(&sum), units(x) * one() * (3u64 << 40));
    }
}

#[test]
fn the_last_addition_before_carrying_fits() {
    for x in [f64::MAX, f64::MIN, 1.0] {
        let mut sum = sum_of(&[x]);
        let mut count = 1u64;
        while sum.pending * 2 <= PENDING_MAX {
            sum = merged(&sum, &sum);
            count *= 2;
        }
        assert_eq!(sum.pending, PENDING_MAX);
        sum.add(x);
        assert!(sum.pending <= 2);
        assert_eq!(total(&sum), units(x) * one() * (count + 1));
    }
}
