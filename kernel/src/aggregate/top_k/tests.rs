use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn of(values: &[Value]) -> TopK {
    let mut state = TopK::default();
    values.iter().for_each(|value| state.apply(value));
    state
}

fn ints(values: std::ops::Range<i64>) -> TopK {
    of(&values.map(Value::Int64).collect::<Vec<_>>())
}

fn merged(states: &[&TopK]) -> TopK {
    let mut all = TopK::default();
    states.iter().for_each(|state| all.merge(state));
    all
}

fn bytes(state: &TopK) -> Vec<u8> {
    let mut out = Writer::new();
    state.encode(&mut out);
    out.into_bytes()
}

fn decode(ty: Type, bytes: &[u8]) -> Result<TopK, DecodeError> {
    let mut from = Reader::new(bytes);
    let state = TopK::decode(ty, &mut from)?;
    from.finish()?;
    Ok(state)
}

fn naive(values: &[Value], k: usize) -> Value {
    let mut counts = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(value.clone()).or_insert(0i64) += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts.truncate(k);
    if counts.is_empty() { Value::Null } else { Value::Counts(counts.into()) }
}

fn streams() -> impl Strategy<Value = (Type, Vec<Value>)> {
    let ints = proptest::collection::vec((-20..20i64).prop_map(Value::Int64), 0..200);
    let texts = proptest::collection::vec("[ab]{0,3}".prop_map(|text| Value::string(&text)), 0..50);
    let floats = proptest::collection::vec(any::<f64>().prop_map(Value::float), 0..9);
    prop_oneof![
        ints.prop_map(|values| (Type::Int64, values)),
        texts.prop_map(|values| (Type::String, values)),
        floats.prop_map(|values| (Type::Float64, values)),
    ]
}

proptest! {
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
        prop_assert_eq!(&merged(&[&whole, &TopK::default()]), &whole);

        let bytes = bytes(&whole);
        prop_assert_eq!(super::tests::bytes(&merged(&[&b, &c, &a])), bytes.clone());
        prop_assert_eq!(decode(ty, &bytes)?, whole);
    }

    #[test]
    fn the_answer_is_the_naive_one((_, values) in streams(), k in 1..30u32) {
        prop_assert_eq!(of(&values).finish(Function::TopK(k)), naive(&values, k as usize));
    }

    #[test]
    fn what_is_decoded_is_canonical(ty in prop::sample::select(&Type::ALL), damaged in any::<Vec<u8>>()) {
        if let Ok(state) = decode(ty, &damaged) {
            prop_assert_eq!(bytes(&state), damaged);
        }
    }
}

#[test]
fn too_many_values_are_null_for_good() {
    let (most, more) = (ints(0..10_000), ints(0..10_001));
    assert_ne!(most.finish(Function::TopK(1)), Value::Null);
    assert_eq!(more, TopK(Seen::Overflowed));
    assert_eq!(more.finish(Function::TopK(1)), Value::Null);
    assert_eq!(merged(&[&ints(0..6_000), &ints(4_001..10_001)]), more);
    assert_eq!(merged(&[&ints(0..6_000), &ints(4_000..10_000)]), merged(&[&most, &ints(4_000..6_000)]));
    assert_eq!(merged(&[&more, &ints(0..1)]), more);
    assert_eq!(merged(&[&ints(0..1), &more]), more);
    assert_eq!(decode(Type::Int64, &bytes(&more)), Ok(more));
}

#[test]
fn nans_are_one_value_and_come_last() {
    let values = [f64::NAN, 1.0, -f64::NAN, -0.0, 0.0, 1.0].map(Value::float);
    let expected = [(0.0, 2), (1.0, 2), (f64::NAN, 2)].map(|(value, count)| (Value::float(value), count));
    assert_eq!(of(&values).finish(Function::TopK(9)), Value::Counts(expected.to_vec().into()));
}

#[test]
fn bytes_never_change() {
    assert_eq!(bytes(&TopK::default()), [0]);
    assert_eq!(bytes(&of(&["b", "a", "b"].map(Value::string))), [2, 1, b'a', 1, 1, b'b', 2]);
    assert_eq!(bytes(&of(&[7, -1].map(Value::Int64))), [2, 1, 1, 14, 1]);
    assert_eq!(bytes(&TopK(Seen::Overflowed)), [0x91, 0x4e]);
}

#[test]
fn other_bytes_are_refused() {
    let int = |bytes: &[u8]| decode(Type::Int64, bytes).is_err();
    assert!(int(&[]), "nothing");
    assert!(int(&[1, 2]), "no count");
    assert!(int(&[1, 2, 0]), "a count of zero");
    assert!(int(&[2, 2, 1, 2, 1]), "twice");
    assert!(int(&[2, 2, 1, 1, 1]), "out of order");
    assert!(int(&[0x92, 0x4e]), "more than too many");
}
