use std::sync::Arc;

use arrow_array::types::{Float16Type, Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryViewArray, BooleanArray, Date32Array, Date64Array,
    Decimal128Array, Decimal256Array, DictionaryArray, FixedSizeBinaryArray, Float16Array, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, NullArray,
    StringArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt64Array,
};
use arrow_schema::DataType;

use super::*;
use crate::value::arrow::{data_type, value_at};

const EXACT: i64 = 1 << 53;

fn spelled(ty: Type, text: &str) -> Result<Value, Unfit> {
    Content::Spelled(text).value(ty)
}

fn number(ty: Type, digits: &str) -> Result<Value, Unfit> {
    Content::Number(digits.into()).value(ty)
}

fn quoted(ty: Type, text: &str) -> Result<Value, Unfit> {
    Content::Quoted(text.into()).value(ty)
}

fn time(text: &str) -> Value {
    Value::Timestamp(Time::parse(text).expect("an instant"))
}

/// The values of a column, none of a row that does not fit; none where the column never fits.
fn column_of(array: impl Array + 'static, ty: Type) -> Option<Vec<Option<Value>>> {
    let array: ArrayRef = Arc::new(array);
    let converted = column(&array, ty, None)?;
    assert_eq!(converted.column.data_type(), &data_type(ty));
    let value = |row| (!converted.wrong.contains(&row)).then(|| value_at(&converted.column, row));
    Some((0..array.len()).map(value).collect())
}

fn all(values: impl IntoIterator<Item = Value>) -> Option<Vec<Option<Value>>> {
    Some(values.into_iter().map(Some).collect())
}

#[test]
fn bools_are_spelled_in_many_ways() {
    for text in ["true", "True", "TRUE", "t", "T", "yes", "Y", "1", " true "] {
        assert_eq!(spelled(Type::Bool, text), Ok(Value::Bool(true)), "{text}");
    }
    for text in ["false", "False", "f", "no", "N", "0"] {
        assert_eq!(spelled(Type::Bool, text), Ok(Value::Bool(false)), "{text}");
    }
    for text in ["", "maybe", "2", "1.0", "on", "truee"] {
        assert_eq!(spelled(Type::Bool, text), Err(Unfit), "{text}");
    }
    assert_eq!(
        (number(Type::Bool, "1"), number(Type::Bool, "0")),
        (Ok(Value::Bool(true)), Ok(Value::Bool(false)))
    );
    assert_eq!((number(Type::Bool, "2"), quoted(Type::Bool, "true")), (Err(Unfit), Err(Unfit)));
}

#[test]
fn integers_are_taken_where_they_are_the_same() {
    let int = |number| Ok(Value::Int64(number));
    for (text, value) in [
        ("42", 42),
        (" 42 ", 42),
        ("+7", 7),
        ("007", 7),
        ("7.0", 7),
        ("-0.0", 0),
        ("9007199254740993", EXACT + 1),
        ("-9223372036854775808", i64::MIN),
        ("9223372036854775807", i64::MAX),
        ("1e3", 1000),
        ("+1.5E1", 15),
        ("9007199254740992.0", EXACT),
        ("-9.007199254740992e15", -EXACT),
    ] {
        assert_eq!(spelled(Type::Int64, text), int(value), "{text}");
    }
    for text in
        ["", "1.5", "32E0134", "1 000", "1,000", "9223372036854775808", "0x10", "7.", ".0", "0e", "0ex"]
    {
        assert_eq!(spelled(Type::Int64, text), Err(Unfit), "{text}");
    }
    assert_eq!(spelled(Type::Int64, "NaN"), Ok(Value::Null));
    for (digits, value) in [
        ("1.0", 1),
        ("1e3", 1000),
        ("1.5E1", 15),
        ("0.05e2", 5),
        ("100.00", 100),
        ("-0.0", 0),
        ("0e99999999999999999999", 0),
        ("9007199254740993", EXACT + 1),
        ("-9223372036854775808", i64::MIN),
        ("9007199254740992.0", EXACT),
        ("-9.007199254740992e15", -EXACT),
    ] {
        assert_eq!(number(Type::Int64, digits), int(value), "{digits}");
    }
    for digits in ["1.5", "1e-1", "9223372036854775808", "1e19", "1e400", "18446744073709551615"] {
        assert_eq!(number(Type::Int64, digits), Err(Unfit), "{digits}");
    }
    assert_eq!(quoted(Type::Int64, "9007199254740993"), int(EXACT + 1));
    assert_eq!(quoted(Type::Int64, "-5"), int(-5));
    for text in ["", "-", "+5", " 5", "5.0", "5e0", "NaN", "9223372036854775808"] {
        assert_eq!(quoted(Type::Int64, text), Err(Unfit), "{text}");
    }
}

#[test]
fn a_whole_float_is_an_integer_only_where_it_was_not_rounded() {
    let exact = EXACT as f64;
    let double = |float| Content::Float(float, 53).integer();
    assert_eq!((double(exact), double(-exact)), (Ok(Some(EXACT)), Ok(Some(-EXACT))));
    for float in [exact + 2.0, -exact - 2.0, 653_247_040_368_672_768.0, i64::MIN as f64] {
        assert_eq!(double(float), Err(NoInt64::Rounded), "{float}");
    }
    assert_eq!(double(9_223_372_036_854_775_808.0), Err(NoInt64::Range));
    assert_eq!((double(f64::INFINITY), double(1.5)), (Err(NoInt64::Range), Err(NoInt64::Fraction)));
    for (bits, end) in [(24, 16_777_216.0), (11, 2048.0)] {
        assert_eq!(Content::Float(end, bits).integer(), Ok(Some(end as i64)));
        assert_eq!(Content::Float(end + 2.0, bits).integer(), Err(NoInt64::Rounded));
    }
    for text in ["9007199254740993.0", "9007199254740994.0", "6.532470404e+17", "-653247040368672768.0"] {
        assert_eq!(Content::Number(text.into()).integer(), Err(NoInt64::Rounded), "{text}");
        assert_eq!(Content::Spelled(text).integer(), Err(NoInt64::Rounded), "{text}");
    }
    for (text, why) in [
        ("1.5", NoInt64::Fraction),
        ("1e-1", NoInt64::Fraction),
        ("1e-99999999999999999999", NoInt64::Fraction),
        ("1e19", NoInt64::Range),
        ("1e99999999999999999999", NoInt64::Range),
        ("18446744073709551615", NoInt64::Range),
        ("-9223372036854775809", NoInt64::Range),
    ] {
        assert_eq!(Content::Number(text.into()).integer(), Err(why), "{text}");
        assert_eq!(Content::Spelled(text).integer(), Err(why), "{text}");
    }
    assert_eq!(Content::Spelled("32E01x").integer(), Err(NoInt64::NoNumber));
}

#[test]
fn floats_are_the_nearest_to_digits_and_equal_to_integers() {
    let float = |float| Ok(Value::float(float));
    for (text, value) in [
        ("0.1", 0.1),
        (" 1.5", 1.5),
        ("1e5", 1e5),
        ("-0.0", 0.0),
        ("-inf", f64::NEG_INFINITY),
        ("Infinity", f64::INFINITY),
        ("nan", f64::NAN),
        ("9007199254740993", EXACT as f64),
    ] {
        assert_eq!(spelled(Type::Float64, text), float(value), "{text}");
    }
    for text in ["", "1e999", "1,5", "1_000", "one"] {
        assert_eq!(spelled(Type::Float64, text), Err(Unfit), "{text}");
    }
    assert_eq!(number(Type::Float64, "1e999"), Err(Unfit));
    assert_eq!(number(Type::Float64, "123456789012345680000"), float(123_456_789_012_345_680_000.0));
    assert_eq!((quoted(Type::Float64, "NaN"), quoted(Type::Float64, "1.5")), (float(f64::NAN), Err(Unfit)));
    assert_eq!(Content::Whole(i128::from(EXACT)).value(Type::Float64), float(EXACT as f64));
    assert_eq!(Content::Whole(i128::from(EXACT + 1)).value(Type::Float64), Err(Unfit));
    assert_eq!(Content::Whole(i128::from(EXACT + 2)).value(Type::Float64), float((EXACT + 2) as f64));
    assert_eq!(Content::Whole(u64::MAX.into()).value(Type::Float64), Err(Unfit));
    assert_eq!(Content::Whole(i64::MIN.into()).value(Type::Float64), float(i64::MIN as f64));
}

#[test]
fn text_is_text_and_nothing_else_is() {
    for content in [Content::Text(" 007 ".into()), Content::Quoted(" 007 ".into()), Content::Spelled(" 007 ")]
    {
        assert_eq!(content.value(Type::String), Ok(Value::string(" 007 ")));
    }
    for content in [Content::Bool(true), Content::Whole(1), Content::Number("1".into()), Content::Bytes(b"1")]
    {
        assert_eq!(content.value(Type::String), Err(Unfit));
    }
    for ty in [Type::Bool, Type::Int64, Type::Float64, Type::Bytes] {
        assert_eq!(Content::Text("1".into()).value(ty), Err(Unfit), "{ty}");
    }
    let bytes = Ok(Value::Bytes([0, 255].as_slice().into()));
    assert_eq!((quoted(Type::Bytes, "AP8="), spelled(Type::Bytes, "AP8=")), (bytes.clone(), bytes));
    for ty in Type::ALL {
        assert_eq!(Content::Null.value(ty), Ok(Value::Null));
        assert_eq!(Content::Other.value(ty), Err(Unfit));
    }
}

#[test]
fn instants_are_read_from_every_kind_of_text_and_never_from_numbers() {
    let text = "2026-01-01 08:00:00 UTC";
    for content in [Content::Text(text.into()), Content::Quoted(text.into()), Content::Spelled(text)] {
        assert_eq!(content.value(Type::Timestamp), Ok(time("2026-01-01T08:00:00Z")));
    }
    assert_eq!(spelled(Type::Timestamp, "1767254400"), Err(Unfit));
    assert_eq!(number(Type::Timestamp, "1767254400"), Err(Unfit));
}

#[test]
fn a_column_of_another_width_or_encoding_is_the_same_values() {
    let (one, null) = (|| Value::Int64(1), || Value::Null);
    let ints = || all([one(), null()]);
    assert_eq!(column_of(Int8Array::from(vec![Some(1), None]), Type::Int64), ints());
    assert_eq!(column_of(UInt8Array::from(vec![Some(1), None]), Type::Int64), ints());
    assert_eq!(column_of(Int64Array::from(vec![Some(1), None]), Type::Int64), ints());
    assert_eq!(
        column_of(UInt64Array::from(vec![i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX]), Type::Int64),
        Some(vec![Some(Value::Int64(i64::MAX)), None, None])
    );
    let texts = || all([Value::string("a"), null()]);
    assert_eq!(column_of(LargeStringArray::from(vec![Some("a"), None]), Type::String), texts());
    assert_eq!(column_of(StringViewArray::from(vec![Some("a"), None]), Type::String), texts());
    let words: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    assert_eq!(column_of(words, Type::String), texts());
    let times: DictionaryArray<Int32Type> = vec![Some("2026-01-01"), Some("x")].into_iter().collect();
    assert_eq!(column_of(times, Type::Timestamp), Some(vec![Some(time("2026-01-01")), None]));
    let numbers =
        DictionaryArray::new(Int32Array::from(vec![1, 1, 0]), Arc::new(Float64Array::from(vec![0.5, 2.0])));
    assert_eq!(
        column_of(numbers, Type::Int64),
        Some(vec![Some(Value::Int64(2)), Some(Value::Int64(2)), None])
    );
    let bytes = || all([Value::Bytes([7].as_slice().into())]);
    assert_eq!(column_of(LargeBinaryArray::from_vec(vec![b"\x07"]), Type::Bytes), bytes());
    assert_eq!(column_of(BinaryViewArray::from_iter_values([[7_u8]]), Type::Bytes), bytes());
    assert_eq!(
        column_of(FixedSizeBinaryArray::try_from_iter([[7_u8]].iter()).expect("one byte"), Type::Bytes),
        bytes()
    );
}

#[test]
fn a_column_without_a_type_is_null_in_every_type() {
    for ty in Type::ALL {
        assert_eq!(column_of(NullArray::new(2), ty), all([Value::Null, Value::Null]));
        assert!(fits(&DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Null)), ty));
    }
}

#[test]
fn numbers_become_each_other_where_nothing_is_lost() {
    let whole =
        column_of(Float64Array::from(vec![7.0, f64::NAN, -0.0, 0.5, 1e19, f64::INFINITY]), Type::Int64);
    let int = |number| Some(Value::Int64(number));
    assert_eq!(whole, Some(vec![int(7), Some(Value::Null), int(0), None, None, None]));
    let end = EXACT as f64;
    let ends = Float64Array::from(vec![end, -end, end + 2.0, -9_223_372_036_854_775_808.0]);
    assert_eq!(column_of(ends, Type::Int64), Some(vec![int(EXACT), int(-EXACT), None, None]));
    let singles = Float32Array::from(vec![2.0, 2.5, 16_777_216.0, 16_777_218.0]);
    assert_eq!(column_of(singles, Type::Int64), Some(vec![int(2), None, int(16_777_216), None]));
    let float = |float| Some(Value::float(float));
    let exact = column_of(Int64Array::from(vec![EXACT, EXACT + 1, -EXACT, i64::MAX]), Type::Float64);
    assert_eq!(exact, Some(vec![float(EXACT as f64), None, float(-(EXACT as f64)), None]));
    assert_eq!(column_of(UInt64Array::from(vec![1, u64::MAX]), Type::Float64), Some(vec![float(1.0), None]));
    assert_eq!(
        column_of(Float32Array::from(vec![0.5, -0.0]), Type::Float64),
        all([Value::float(0.5), Value::float(0.0)])
    );
    let halves = Float16Array::from(vec![half()]);
    assert_eq!(column_of(halves, Type::Float64), all([Value::float(0.5)]));
    assert_eq!(
        column_of(Int8Array::from(vec![0, 1, 2]), Type::Bool),
        Some(vec![Some(Value::Bool(false)), Some(Value::Bool(true)), None])
    );
    assert_eq!(column_of(BooleanArray::from(vec![true]), Type::Bool), all([Value::Bool(true)]));
    assert_eq!(column_of(BooleanArray::from(vec![true]), Type::Int64), None);
    assert_eq!(column_of(Float64Array::from(vec![1.0]), Type::Bool), None);
}

/// 0.5 in 16 bits.
fn half() -> <Float16Type as ArrowPrimitiveType>::Native {
    <Float16Type as ArrowPrimitiveType>::Native::from_bits(0x3800)
}

#[test]
fn decimals_are_their_digits() {
    let decimals = |values: Vec<i128>, scale| {
        Decimal128Array::from(values).with_precision_and_scale(38, scale).expect("a decimal")
    };
    let int = |number| Some(Value::Int64(number));
    assert_eq!(column_of(decimals(vec![100, -250, 150], 2), Type::Int64), Some(vec![int(1), None, None]));
    assert_eq!(column_of(decimals(vec![-5, 0], -3), Type::Int64), Some(vec![int(-5000), int(0)]));
    let large = i128::from(i64::MAX);
    assert_eq!(column_of(decimals(vec![large, large + 1], 0), Type::Int64), Some(vec![int(i64::MAX), None]));
    assert_eq!(
        column_of(decimals(vec![150, 5, -10], 2), Type::Float64),
        all([Value::float(1.5), Value::float(0.05), Value::float(-0.1)])
    );
    assert_eq!(
        column_of(decimals(vec![large], 0), Type::Float64),
        all([Value::float(large as f64)]),
        "as in CSV"
    );
    let large = i128::from(EXACT + 1);
    assert_eq!(column_of(decimals(vec![large * 10], 1), Type::Int64), all([Value::Int64(EXACT + 1)]));
    assert_eq!(column_of(decimals(vec![1], 0), Type::Bool), all([Value::Bool(true)]));
    assert_eq!(
        column_of(decimals(vec![10, 0, 15], 1), Type::Bool),
        Some(vec![Some(Value::Bool(true)), Some(Value::Bool(false)), None])
    );
    let wide = Decimal256Array::from(vec![arrow_buffer::i256::from_i128(1234)]);
    let wide = wide.with_precision_and_scale(76, 1).expect("a decimal");
    assert_eq!(column_of(wide, Type::Float64), all([Value::float(123.4)]));
    assert_eq!(column_of(decimals(vec![1], 0), Type::Timestamp), None);
}

#[test]
fn instants_of_every_resolution_are_floored_and_never_wrap() {
    let floored = |millis: [i64; 2]| all(millis.map(|millis| Value::Timestamp(Time::from_millis(millis))));
    assert_eq!(column_of(TimestampMicrosecondArray::from(vec![-1, 1999]), Type::Timestamp), floored([-1, 1]));
    assert_eq!(
        column_of(TimestampNanosecondArray::from(vec![-1, 1_999_999]), Type::Timestamp),
        floored([-1, 1])
    );
    let naive = TimestampMillisecondArray::from(vec![-1, 1]);
    assert_eq!(column_of(naive.clone(), Type::Timestamp), floored([-1, 1]));
    assert_eq!(column_of(naive.with_timezone("+01:00"), Type::Timestamp), floored([-1, 1]));
    let (first, last) = (Time::MIN.millis() / 1000, 253_402_214_400);
    let ends = [time("0001-01-01"), time("9999-12-31")];
    assert_eq!(column_of(TimestampSecondArray::from(vec![first, last]), Type::Timestamp), all(ends.clone()));
    assert_eq!(column_of(Date32Array::from(vec![-719_162, 2_932_896]), Type::Timestamp), all(ends.clone()));
    assert_eq!(column_of(Date64Array::from(vec![first * 1000, last * 1000]), Type::Timestamp), all(ends));
    let outside = column_of(TimestampSecondArray::from(vec![i64::MIN, i64::MAX]), Type::Timestamp);
    for value in outside.expect("timestamps").into_iter().flatten() {
        assert!(matches!(value, Value::Timestamp(time) if !time.is_valid()), "{value}");
    }
    assert_eq!(
        column_of(StringArray::from(vec!["2026-01-01T08:00:00Z", "today"]), Type::Timestamp),
        Some(vec![Some(time("2026-01-01T08:00:00Z")), None])
    );
    assert_eq!(column_of(Int64Array::from(vec![1]), Type::Timestamp), None);
    assert_eq!(column_of(Time64MicrosecondArray::from(vec![1]), Type::Timestamp), None);
}

#[test]
fn columns_of_nothing_but_text_are_read() {
    let texts_of = |ty, given: Vec<Option<&str>>| {
        let converted = texts(&StringArray::from(given), ty, None, Content::Spelled);
        let values = (0..converted.column.len()).map(|row| value_at(&converted.column, row));
        (values.collect::<Vec<_>>(), converted.wrong)
    };
    let ints = texts_of(Type::Int64, vec![Some("42"), Some("7.0"), None, Some("x7")]);
    assert_eq!(ints, (vec![Value::Int64(42), Value::Int64(7), Value::Null, Value::Null], vec![3]));
    let strings = texts_of(Type::String, vec![Some(" a"), None]);
    assert_eq!(strings, (vec![Value::string(" a"), Value::Null], vec![]));
}

#[test]
fn what_names_no_zone_is_a_clock_of_the_declared_one() {
    use crate::time::{NoInstant, Zone};
    let berlin = Zone::named("Europe/Berlin");
    let instant = Ok(time("2026-07-01T07:30:00Z"));
    let clock = Time::parse("2026-07-01T09:30:00Z").expect("an instant");
    for content in [
        Content::Clock(clock),
        Content::Text("2026-07-01 09:30:00".into()),
        Content::Quoted("2026-07-01T09:30".into()),
        Content::Spelled("2026-07-01 09:30:00.0009"),
        Content::Time(time_of("2026-07-01T07:30:00Z")),
        Content::Spelled("2026-07-01 10:30:00+03:00"),
    ] {
        assert_eq!(content.clone().value_in(Type::Timestamp, berlin), instant, "{content:?}");
    }
    assert_eq!(Content::Clock(clock).value(Type::Timestamp), Ok(Value::Timestamp(clock)), "UTC without one");
    assert!(Content::Clock(clock).is_clock() && Content::Spelled("2026-07-01").is_clock());
    assert!(!Content::Time(clock).is_clock() && !Content::Quoted("2026-07-01T00:00Z".into()).is_clock());
    let skipped = time_of("2026-03-29T02:30:00Z");
    assert_eq!(Content::Clock(skipped).instant(berlin), Err(NoInstant::Skipped(berlin.expect("a zone"))));
    assert_eq!(Content::Clock(skipped).value_in(Type::Int64, berlin), Err(Unfit));

    let naive = TimestampMillisecondArray::from(vec![Some(clock.millis()), None, Some(skipped.millis())]);
    let (named, naive): (ArrayRef, ArrayRef) =
        (Arc::new(naive.clone().with_timezone("+02:00")), Arc::new(naive));
    let converted = column(&naive, Type::Timestamp, berlin).expect("timestamps");
    assert_eq!(value_at(&converted.column, 0), time("2026-07-01T07:30:00Z"));
    assert_eq!((value_at(&converted.column, 1), converted.wrong), (Value::Null, vec![2]));
    let converted = column(&named, Type::Timestamp, berlin).expect("timestamps");
    assert_eq!((value_at(&converted.column, 0), converted.wrong), (Value::Timestamp(clock), vec![]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![20_635]));
    let converted = column(&days, Type::Timestamp, berlin).expect("dates");
    assert_eq!(value_at(&converted.column, 0), time("2026-06-30T22:00:00Z"));
}

fn time_of(text: &str) -> Time {
    Time::parse(text).expect("an instant")
}
