use proptest::prelude::*;

use super::*;
use crate::aggregate::Probability;

fn of(values: &[f64]) -> Histogram {
    let mut state = Histogram::default();
    values.iter().for_each(|value| state.apply(&Value::float(*value)));
    state
}

fn merged(states: &[&Histogram]) -> Histogram {
    let mut all = Histogram::default();
    states.iter().for_each(|state| all.merge(state));
    all
}

fn bytes(state: &Histogram) -> Vec<u8> {
    let mut out = Writer::new();
    state.encode(&mut out);
    out.into_bytes()
}

fn decode(bytes: &[u8]) -> Result<Histogram, DecodeError> {
    let mut from = Reader::new(bytes);
    let state = Histogram::decode(&mut from)?;
    from.finish()?;
    Ok(state)
}

fn answer(state: &Histogram, p: f64) -> Value {
    state.finish(Function::ApproxPercentile(Probability::new(p).unwrap()))
}

/// The value of the rank, clamped; what an exact percentile would be.
fn exact(values: &[f64], p: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = p * sorted.len().checked_sub(1)? as f64;
    let value = sorted[rank as usize];
    Some(if value == 0.0 { 0.0 } else { value.abs().clamp(1e-9, 1e12).copysign(value) })
}

/// Few bins and many, both signs, zeros, and what is clamped or skipped.
fn streams() -> impl Strategy<Value = Vec<f64>> {
    let near = (0..400i32).prop_map(|step| 1.01f64.powi(step));
    let signed = (-1e3..1e3f64).prop_map(|value| value.round() / 4.0);
    let value = prop_oneof![4 => near, 3 => signed, 1 => any::<f64>(), 1 => Just(f64::NEG_INFINITY)];
    prop_oneof![proptest::collection::vec(value.clone(), 0..9), proptest::collection::vec(value, 0..300)]
}

proptest! {
    #[test]
    fn equal_multisets_give_equal_bytes(values in streams(), cuts in any::<[prop::sample::Index; 2]>()) {
        let whole = of(&values);
        let mut backwards = values.clone();
        backwards.reverse();
        prop_assert_eq!(&of(&backwards), &whole);

        let mut cuts = cuts.map(|cut| cut.index(values.len() + 1));
        cuts.sort_unstable();
        let (a, b, c) = (of(&values[..cuts[0]]), of(&values[cuts[0]..cuts[1]]), of(&values[cuts[1]..]));
        prop_assert_eq!(&merged(&[&a, &b, &c]), &whole);
        prop_assert_eq!(&merged(&[&c, &merged(&[&b, &a])]), &whole);
        prop_assert_eq!(&merged(&[&whole, &Histogram::default()]), &whole);

        let bytes = bytes(&whole);
        prop_assert_eq!(super::tests::bytes(&merged(&[&b, &c, &a])), bytes.clone());
        prop_assert_eq!(decode(&bytes)?, whole);
    }

    #[test]
    fn answers_are_within_the_relative_error(values in streams(), p in 0.0..=1.0f64) {
        match (exact(&values, p), answer(&of(&values), p)) {
            (None, found) => prop_assert_eq!(found, Value::Null),
            (Some(exact), Value::Float64(found)) => {
                prop_assert!((found - exact).abs() <= RELATIVE_ERROR * exact.abs(), "{} for {}", found, exact);
            }
            (Some(_), found) => prop_assert!(false, "{}", found),
        }
    }

    #[test]
    fn what_is_decoded_is_canonical(damaged in any::<Vec<u8>>()) {
        if let Ok(state) = decode(&damaged) {
            prop_assert_eq!(bytes(&state), damaged);
        }
    }
}

#[test]
fn ranks_are_counted_from_the_least_value() {
    let state = of(&[-8.0, 0.0, -2.0, 4.0, f64::NAN, -0.0, f64::INFINITY]);
    let signs = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|p| match answer(&state, p) {
        Value::Float64(value) => value.round(),
        value => panic!("{value} is no float"),
    });
    assert_eq!(signs[..5], [-8.0, -2.0, 0.0, 0.0, 4.0]);
    assert!((signs[5] / 1e12 - 1.0).abs() < RELATIVE_ERROR);
}

#[test]
fn integers_are_numbers_too() {
    let mut ints = Histogram::default();
    [5, 0, -7, i64::MIN].iter().for_each(|value| ints.apply(&Value::Int64(*value)));
    assert_eq!(ints, of(&[5.0, 0.0, -7.0, -1e13]));
}

#[test]
fn no_numbers_are_null() {
    assert_eq!(answer(&Histogram::default(), 0.5), Value::Null);
    assert_eq!(answer(&of(&[f64::NAN]), 0.5), Value::Null);
}

#[test]
fn bytes_never_change() {
    assert_eq!(bytes(&Histogram::default()), [0, 0, 0]);
    assert_eq!(bytes(&of(&[0.0, f64::NAN, 1e-9, -1e-9, 1e-9])), [1, 0, 1, 1, 1, 0, 2]);
    assert_eq!(bytes(&of(&[10.0, 10.0, 11.0])), [0, 0, 2, 0x8b, 9, 2, 4, 1]);
}

#[test]
fn other_bytes_are_refused() {
    assert!(decode(&[0, 0]).is_err(), "no positive bins");
    assert!(decode(&[0, 0, 1, 5]).is_err(), "no count");
    assert!(decode(&[0, 0, 1, 5, 0]).is_err(), "a count of zero");
    assert!(decode(&[0, 0, 1, 0x8a, 0x13, 1]).is_ok(), "the last bin");
    assert!(decode(&[0, 0, 1, 0x8b, 0x13, 1]).is_err(), "beyond the last bin");
    assert!(decode(&[0, 0, 2, 0x8a, 0x13, 1, 0, 1]).is_err(), "the bin after the last");
}

#[test]
fn counts_beyond_the_integers_do_not_panic() {
    let most = [0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let state = decode(&most).unwrap();
    assert_eq!(answer(&merged(&[&state, &state]), 1.0), Value::Float64(1e-9));
}
