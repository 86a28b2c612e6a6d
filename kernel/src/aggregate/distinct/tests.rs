use proptest::prelude::*;

use super::*;
use crate::time::Time;

fn of(values: &[Value]) -> Distinct {
    let mut state = Distinct::default();
    values.iter().for_each(|value| state.apply(value));
    state
}

fn ints(values: std::ops::Range<i64>) -> Distinct {
    of(&values.map(Value::Int64).collect::<Vec<_>>())
}

fn merged(states: &[&Distinct]) -> Distinct {
    let mut all = Distinct::default();
    states.iter().for_each(|state| all.merge(state));
    all
}

fn bytes(state: &Distinct) -> Vec<u8> {
    let mut out = Writer::new();
    state.encode(&mut out);
    out.into_bytes()
}

fn decode(ty: Type, bytes: &[u8]) -> Result<Distinct, DecodeError> {
    let mut from = Reader::new(bytes);
    let state = Distinct::decode(ty, &mut from)?;
    from.finish()?;
    Ok(state)
}

/// Few and often equal, or so many that the limit is near.
fn streams() -> impl Strategy<Value = (Type, Vec<Value>)> {
    fn stream(
        ty: Type,
        value: impl Strategy<Value = Value> + 'static,
        most: usize,
    ) -> BoxedStrategy<(Type, Vec<Value>)> {
        proptest::collection::vec(value, 0..most).prop_map(move |values| (ty, values)).boxed()
    }
    prop_oneof![
        stream(Type::Bool, any::<bool>().prop_map(Value::Bool), 9),
        stream(Type::Int64, any::<i64>().prop_map(Value::Int64), 9),
        stream(Type::Int64, (-900..900i64).prop_map(Value::Int64), 3_000),
        stream(Type::Float64, any::<f64>().prop_map(Value::float), 9),
        stream(Type::String, "[ab]{0,3}".prop_map(|text| Value::string(&text)), 30),
        stream(Type::Timestamp, any::<i64>().prop_map(|ms| Value::Timestamp(Time::from_millis(ms))), 9),
        stream(Type::Bytes, any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())), 9),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equal_multisets_give_equal_bytes((ty, values) in streams(), cuts in any::<[prop::sample::Index; 2]>()) {
        let whole = of(&values);
        let mut backwards = values.clone();
        backwards.reverse();
        prop_assert_eq!(&of(&backwards), &whole);

        let mut cuts = cuts.map(|cut| cut.index(values.len() + 1));
        cuts.sort_unstable();
        let (a, b, c) = (of(&values[..cuts[0]]), of(&values[cuts[0]..cuts[1]]), of(&values[cuts[1]..]));
        prop_assert_eq!(&merged(&[&a, &b, &c]), &whole);
        prop_assert_eq!(&merged(&[&c, &merged(&[&b, &a])]), &whole);
        prop_assert_eq!(&merged(&[&whole, &whole, &Distinct::default()]), &whole);

        let bytes = bytes(&whole);
        prop_assert_eq!(super::tests::bytes(&merged(&[&b, &c, &a])), bytes.clone());
        prop_assert_eq!(decode(ty, &bytes)?, whole);
    }

    #[test]
    fn what_is_decoded_is_canonical(ty in prop::sample::select(&Type::ALL), damaged in any::<Vec<u8>>()) {
        if let Ok(state) = decode(ty, &damaged) {
            prop_assert_eq!(bytes(&state), damaged);
        }
    }
}

#[test]
fn the_count_is_exact_up_to_the_limit() {
    assert_eq!(Distinct::default().count(), 0);
    assert_eq!(ints(-500..524).count(), 1_024);
    assert!(matches!(ints(0..1_024).0, Seen::Words(_)));
    assert!(matches!(ints(0..1_025).0, Seen::Many(_)));
}

#[test]
fn the_count_never_falls_back_to_the_limit() {
    for from in 0..50 {
        assert!(ints(from * 10_000..from * 10_000 + 1_025).count() > 1_024);
    }
}

#[test]
fn the_form_depends_on_content_alone() {
    let (low, high) = (ints(0..1_000), ints(25..1_025));
    assert_eq!(merged(&[&low, &high]), ints(0..1_025));
    assert_eq!(merged(&[&low, &ints(24..1_024)]), ints(0..1_024));
    assert_eq!(merged(&[&low, &ints(0..3_000)]), merged(&[&ints(0..3_000), &low]));
}

#[test]
fn floats_that_mean_the_same_are_one() {
    let values = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY];
    assert_eq!(of(&values.map(Value::Float64)).count(), 3);
}

#[test]
fn bytes_never_change() {
    assert_eq!(bytes(&Distinct::default()), [0]);
    assert_eq!(bytes(&of(&[300, -2, 299].map(Value::Int64))), [3, 3, 0xac, 2, 0]);
    assert_eq!(bytes(&of(&["b", "a", "b"].map(Value::string))), [2, 1, b'a', 1, b'b']);
    assert_eq!(bytes(&of(&[true, false].map(Value::Bool))), [2, 0, 0]);
    assert_eq!(bytes(&ints(i64::MAX - 1..i64::MAX)).len(), 11);
    assert_eq!(bytes(&ints(0..2_000)).len(), 2 + 3_072);
    assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes(&ints(0..2_000))), 0x7d25_8fbb_9d82_9262);
}

#[test]
fn other_bytes_are_refused() {
    let int = |bytes: &[u8]| decode(Type::Int64, bytes).is_err();
    assert!(int(&[]), "nothing");
    assert!(int(&[2, 0]), "a value is missing");
    assert!(int(&[0x82, 8, 0]), "more values than are kept");
    assert!(int(&[2, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]), "beyond the last integer");
    assert!(decode(Type::Bool, &[1, 4]).is_err(), "no bool");
    assert!(decode(Type::String, &[2, 1, b'b', 1, b'a']).is_err(), "out of order");
    assert!(decode(Type::String, &[2, 1, b'a', 1, b'a']).is_err(), "twice");
    assert!(decode(Type::String, &[1, 1, 0xff]).is_err(), "no UTF-8");

    let mut negative_zero = Writer::new();
    encode_words(&[(-0.0f64).to_bits() as i64], &mut negative_zero);
    assert!(decode(Type::Float64, &negative_zero.into_bytes()).is_err());
}
