//! A row's value depends on that row alone: any batch, any order, any slice gives the same bits.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use proptest::prelude::*;
use tidemark_expr::Expression;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Value;
use tidemark_kernel::value::arrow::value_at;

mod rows;

use rows::{Row, batch, expressions, scope};

fn compiled() -> Vec<Expression> {
    expressions().iter().map(|sql| Expression::compile(sql, &scope()).unwrap()).collect()
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -3..4_i64, 1 => any::<i64>(), 1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)]]
}

fn float() -> impl Strategy<Value = f64> {
    let special = prop_oneof![Just(f64::NAN), Just(-f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)];
    prop_oneof![3 => (-8..9_i32).prop_map(|n| f64::from(n) / 2.0), 2 => any::<f64>(), 1 => Just(-0.0), 1 => special]
}

fn text() -> impl Strategy<Value = String> {
    let shaped =
        prop_oneof![Just("true"), Just("12"), Just("-0.5"), Just("2026-11-20"), Just("100%"), Just("İKſß")];
    prop_oneof![2 => "[ A-Cbc%]{0,6}", 1 => "\\PC{0,5}", 1 => shaped.prop_map(str::to_owned)]
}

fn or_null(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![5 => value, 1 => Just(Value::Null)]
}

fn row() -> impl Strategy<Value = Row> {
    let instant = prop_oneof![2 => Time::MIN.millis()..Time::MAX.millis(), 1 => integer()];
    let value = (
        or_null(any::<bool>().prop_map(Value::Bool)),
        [or_null(integer().prop_map(Value::Int64)), or_null(integer().prop_map(Value::Int64))],
        [float(), float(), float()].prop_map(|floats| floats.map(Value::Float64)),
        or_null(text().prop_map(|text| Value::string(&text))),
        or_null(instant.prop_map(|ms| Value::Timestamp(Time::from_millis(ms)))),
        or_null(prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Value::Bytes(bytes.into()))),
        any::<[bool; 3]>(),
    );
    value.prop_map(|(b, [i, j], [x, y, f], s, t, z, nulls)| {
        let float = |value: Value, null: bool| if null { Value::Null } else { value };
        [b, i, j, float(x, nulls[0]), float(y, nulls[1] && nulls[0]), s, t, z, float(f, nulls[2])]
    })
}

/// A condition that looks at some of its parts only, and whose parts may fail.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("b"),
        Just("i > 0"),
        Just("1 / i > j"),
        Just("i + j > 0"),
        Just("10 / x > y"),
        Just("true")
    ];
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |part| {
        (part.clone(), part.clone(), part, 0..7_u8).prop_map(|(a, b, c, form)| match form {
            0 | 1 => format!("({a} and {b})"),
            2 | 3 => format!("({a} or {b})"),
            4 => format!("case when {a} then {b} else not {c} end"),
            5 => format!("coalesce({a}, {b}, {c})"),
            _ => format!("(({a}) in ({b}, {c})) is not true"),
        })
    })
}

/// Every expression's values in a batch, with how many rows failed.
fn evaluated(expressions: &[Expression], batch: &RecordBatch) -> Vec<(Vec<Value>, u64)> {
    let one = |expression: &Expression| {
        let evaluated = expression.evaluate(batch).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(evaluated.array.len(), batch.num_rows());
        ((0..batch.num_rows()).map(|at| value_at(&evaluated.array, at)).collect(), evaluated.failed)
    };
    expressions.iter().map(one).collect()
}

/// Every expression's values row by row.
fn alone(expressions: &[Expression], rows: &[Row]) -> Vec<(Vec<Value>, u64)> {
    let mut all: Vec<(Vec<Value>, u64)> = vec![(Vec::new(), 0); expressions.len()];
    for row in rows {
        for (all, one) in all.iter_mut().zip(evaluated(expressions, &batch(std::slice::from_ref(row)))) {
            all.0.extend(one.0);
            all.1 += one.1;
        }
    }
    all
}

fn assert_same(expressions: &[Expression], left: &[(Vec<Value>, u64)], right: &[(Vec<Value>, u64)]) {
    for (expression, (left, right)) in expressions.iter().zip(left.iter().zip(right)) {
        assert_eq!(left, right, "{}", expression.sql());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_batch_is_its_rows(rows in prop::collection::vec(row(), 0..24)) {
        let expressions = compiled();
        assert_same(&expressions, &evaluated(&expressions, &batch(&rows)), &alone(&expressions, &rows));
    }

    #[test]
    fn what_is_looked_at_does_not_depend_on_the_batch(
        sql in prop::collection::vec(condition(), 6),
        rows in prop::collection::vec(row(), 0..24),
    ) {
        let expressions: Vec<_> = sql.iter().map(|sql| Expression::compile(sql, &scope()).unwrap()).collect();
        assert_same(&expressions, &evaluated(&expressions, &batch(&rows)), &alone(&expressions, &rows));
    }

    #[test]
    fn order_and_slices_make_no_difference(
        rows in prop::collection::vec(row(), 1..40),
        seed in any::<u64>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let expressions = compiled();
        let whole = batch(&rows);
        let straight = evaluated(&expressions, &whole);
        let cut = cut.index(rows.len());
        let (head, tail) = (whole.slice(0, cut), whole.slice(cut, rows.len() - cut));
        let tail_values: Vec<_> = straight.iter().map(|(values, _)| values[cut..].to_vec()).collect();
        let in_tail: Vec<_> = evaluated(&expressions, &tail).into_iter().map(|(values, _)| values).collect();
        prop_assert_eq!(tail_values, in_tail);

        // The two parts swapped and copied into one batch, then rows taken in a scrambled order.
        let swapped = concat_batches(&whole.schema(), [&tail, &head]).unwrap();
        let mut order: Vec<u64> = (0..rows.len() as u64).collect();
        order.sort_by_key(|row| (row + 1).wrapping_mul(seed | 1));
        let scrambled = take_record_batch(&swapped, &UInt64Array::from(order.clone())).unwrap();
        let place = |row: u64| (row as usize + cut) % rows.len();
        for (at, (values, failed)) in evaluated(&expressions, &scrambled).into_iter().enumerate() {
            let expected: Vec<_> = order.iter().map(|row| straight[at].0[place(*row)].clone()).collect();
            prop_assert_eq!(values, expected, "{}", expressions[at].sql());
            prop_assert_eq!(failed, straight[at].1);
        }
    }
}
