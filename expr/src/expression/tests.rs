use arrow::array::{Float64Array, Int64Array, StringArray};
use tidemark_kernel::value::FeatureType;
use tidemark_kernel::value::arrow::value_at;

use super::*;

fn scope() -> Scope {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    Scope::new([
        field("amount", Type::Float64),
        field("user_id", Type::Int64),
        field("status", Type::String),
        field("created_at", Type::Timestamp),
        field("user", Type::String),
        field("user_payments.amount_sum_7d", Type::Float64),
    ])
    .with_alias("amount_sum_7d", "user_payments.amount_sum_7d")
    .with_list("user_payments.last_5", FeatureType::List(Type::Float64))
}

/// Message, help and offending piece.
fn refused(sql: &str) -> (String, String, &str) {
    let error = match Expression::compile(sql, &scope()) {
        Ok(expression) => panic!("{sql} is {}", expression.ty()),
        Err(error) => error,
    };
    (error.message, error.help.unwrap_or_default(), &sql[error.span])
}

#[test]
fn what_is_refused_is_named() {
    let cases = [
        ("amout * 2", "unknown field `amout`", "did you mean `amount`?", "amout"),
        ("Amount", "unknown field `Amount`", "did you mean `amount`?", "Amount"),
        ("rond(amount)", "unknown function `rond`", "did you mean `round`?", "rond"),
        (
            "status = \"settled\"",
            "unknown field `settled`",
            "double quotes are for names; text is written 'settled'",
            "\"settled\"",
        ),
        ("status / 2", "cannot divide string by int64", "write `cast(status as float64)`", "status"),
        ("amount + status", "cannot add float64 and string", "write `cast(status as float64)`", "status"),
        ("status + 'x'", "cannot add string and string", "text is joined by `||`", "status"),
        ("user_id = '42'", "cannot compare int64 with string", "write 42 without quotes", "'42'"),
        ("created_at > 5", "cannot compare timestamp with int64", "write `to_timestamp_millis(5)`", "5"),
        (
            "created_at > 'soon'",
            "'soon' is no timestamp",
            "write it as '2026-11-20T08:30:00Z' or '2026-11-20'",
            "'soon'",
        ),
        (
            "created_at - created_at",
            "cannot subtract timestamp from timestamp",
            "write `epoch_ms(created_at)`",
            "created_at",
        ),
        ("not amount", "expected bool, found float64", "", "amount"),
        ("user_id || 'x'", "expected string, found int64", "write `cast(user_id as string)`", "user_id"),
        ("lower(user_id)", "`lower` does not take (int64)", "write lower(string) -> string", "user_id"),
        ("lower()", "`lower` does not take 0 arguments", "write lower(string) -> string", "lower()"),
        (
            "cast(amount as int)",
            "there are no values of type int",
            "write `int64`; the types are bool, int64, float64, string, timestamp, bytes",
            "amount",
        ),
        (
            "cast(user_id as timestamp)",
            "cannot cast int64 to timestamp",
            "write `to_timestamp_millis(user_id)`",
            "user_id",
        ),
        (
            "now()",
            "`now` is not available in expressions",
            "an expression has no clock: it must give the same value whenever it is evaluated",
            "now",
        ),
        (
            "current_date",
            "`current_date` is not available in expressions",
            "an expression has no clock: it must give the same value whenever it is evaluated",
            "current_date",
        ),
        (
            "random() < 0.5",
            "`random` is not available in expressions",
            "an expression has no randomness: it must give the same value whenever it is evaluated",
            "random",
        ),
        (
            "sum(amount) + 1",
            "`sum` is not available in expressions",
            "an expression sees one row: aggregates belong in a feature's `aggregate`",
            "sum",
        ),
        (
            "lower(status) over ()",
            "`lower` over a window is not available: an expression sees one row",
            "",
            "lower(status)",
        ),
        (
            "amount ^ 2",
            "the operator `^` is not available in expressions",
            "write `power(x, y)`",
            "amount ^ 2",
        ),
        (
            "user_payments.last_5 + 1",
            "`user_payments.last_5` is a list(float64) and cannot be used in expressions",
            "expressions work on single values, not on lists",
            "user_payments.last_5",
        ),
        (
            "case when amount > 0 then 'a' else 1 end",
            "string and int64 do not go together",
            "write `cast(1 as string)`",
            "1",
        ),
        ("null", "the expression is always null", "give it a type: `cast(null as float64)`", "null"),
        (
            "9223372036854775808",
            "9223372036854775808 does not fit int64",
            "write 9223372036854775808.0 for a float64",
            "9223372036854775808",
        ),
        (
            "status like user",
            "the pattern must be quoted text",
            "use `contains`, `starts_with` or `ends_with` for text that differs by row",
            "user",
        ),
        (
            "date_part('hours', created_at)",
            "unknown unit `hours`",
            "the units are year, quarter, month, week, day, doy, dow, isodow, hour, minute, second, epoch",
            "'hours'",
        ),
        ("user_id in (1, 'a')", "cannot compare int64 with string", "", "'a'"),
        ("amount > 0, 1", "unexpected `,` after the expression", "", ","),
    ];
    for (sql, message, help, piece) in cases {
        let (found_message, found_help, found_piece) = refused(sql);
        assert_eq!((found_message.as_str(), found_piece), (message, piece), "{sql}");
        assert!(found_help == help || help.is_empty(), "{sql}: {found_help}");
    }
    for sql in ["(select 1)", "amount in (select 1)", "exists (select 1)"] {
        assert_eq!(refused(sql).0, "subqueries are not available: an expression sees one row", "{sql}");
    }
}

#[test]
fn odd_syntax_is_refused_without_a_panic() {
    for sql in [
        "",
        "*",
        "count(*)",
        "a.*",
        "?",
        "$1",
        "x -> 1",
        "amount[1]",
        "interval '1 day'",
        "created_at at time zone 'x'",
        "date '2026-01-01'",
        "(1, 2)",
        "array[1]",
        "{'a': 1}",
        "1 = any(array[1])",
        "amount::decimal(10, 2)",
        "substring(status)",
        "floor(amount to day)",
        "round(distinct amount)",
        "coalesce()",
        "nullif(amount)",
        "f.g(1)",
        "amount is normalized",
        "status similar to 'x'",
        "status like 'x' escape '!'",
        "~user_id",
        "1L",
        "(((",
        "'a' 'b'",
        "amount as x",
        "case end",
        "cast(amount)",
        "extract(century from created_at)",
        "b'x'",
    ] {
        assert!(Expression::compile(sql, &scope()).is_err(), "{sql}");
    }
}

#[test]
fn long_and_deep_texts_are_refused_not_fatal() {
    for sql in [
        vec!["1"; 1900].join(" + "),
        vec!["1"; 5000].join(" + "),
        format!("{}1{}", "(".repeat(3000), ")".repeat(3000)),
        "not ".repeat(1000) + "true",
        "- ".repeat(1000) + "amount",
    ] {
        assert!(Expression::compile(&sql, &scope()).is_err());
    }
    let list = (0..1500).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    assert!(Expression::compile(&format!("user_id in ({list})"), &scope()).is_ok());
}

#[test]
fn names_with_dots_short_names_and_keywords_are_columns() {
    let expression =
        Expression::compile("amount / nullif(user_payments.amount_sum_7d / amount_sum_7d, 0)", &scope());
    assert_eq!(expression.unwrap().columns(), ["amount", "user_payments.amount_sum_7d"]);
    assert_eq!(Expression::compile("user = 'x'", &scope()).unwrap().columns(), ["user"]);
    assert_eq!(Expression::compile("\"user_payments.amount_sum_7d\"", &scope()).unwrap().ty(), Type::Float64);
}

fn batch(amount: Vec<Option<f64>>) -> RecordBatch {
    let ids: Vec<i64> = (0..).take(amount.len()).collect();
    let amount: ArrayRef = Arc::new(Float64Array::from(amount));
    RecordBatch::try_from_iter([("amount", amount), ("user_id", Arc::new(Int64Array::from(ids)) as _)])
        .unwrap()
}

#[test]
fn rows_that_fail_are_null_and_counted() {
    let expression = Expression::compile("coalesce(10 / (user_id - 2), 7)", &scope()).unwrap();
    let evaluated = expression.evaluate(&batch(vec![None; 5])).unwrap();
    assert_eq!(
        *evaluated.array,
        Float64Array::from(vec![Some(-5.0), Some(-10.0), None, Some(10.0), Some(5.0)])
    );
    assert_eq!(evaluated.failed, 1);
}

#[test]
fn constants_fill_the_batch() {
    for (sql, failed) in [("1 + 1", 0), ("1 / 0", 3)] {
        let evaluated = Expression::compile(sql, &scope()).unwrap().evaluate(&batch(vec![None; 3])).unwrap();
        assert_eq!((evaluated.array.len(), evaluated.failed), (3, failed), "{sql}");
        let nothing = Expression::compile(sql, &scope()).unwrap().evaluate(&batch(vec![])).unwrap();
        assert_eq!((nothing.array.len(), nothing.failed), (0, 0), "{sql}");
    }
}

#[test]
fn floats_are_canonical_on_the_way_in_and_out() {
    let batch = batch(vec![Some(-0.0), Some(-f64::NAN)]);
    let bits = |sql: &str| {
        let evaluated = Expression::compile(sql, &scope()).unwrap().evaluate(&batch).unwrap();
        let floats = evaluated.array.as_primitive::<Float64Type>().clone();
        floats.values().iter().map(|float| float.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(bits("amount"), [0, 0x7ff8_0000_0000_0000]);
    assert_eq!(bits("-amount"), [0, 0x7ff8_0000_0000_0000]);
    assert_eq!(bits("case when amount = 0 then 1.0 else 2.0 end"), [1.0_f64.to_bits(), 2.0_f64.to_bits()]);
}

#[test]
fn a_batch_that_does_not_fit_is_an_error() {
    let expression = Expression::compile("status || 'x'", &scope()).unwrap();
    assert_eq!(expression.evaluate(&batch(vec![])).unwrap_err(), EvaluateError::Missing("status".into()));
    let wrong = Arc::new(arrow::array::LargeStringArray::from(vec!["a"])) as ArrayRef;
    let wrong = RecordBatch::try_from_iter([("status", wrong)]).unwrap();
    let error = expression.evaluate(&wrong).unwrap_err();
    assert_eq!(error.to_string(), "column `status` is LargeUtf8, expected Utf8");
}

#[test]
fn a_filter_is_bool() {
    let error = Expression::compile_filter("amount", &scope()).unwrap_err();
    assert_eq!(error.message, "a filter must be bool, this is float64");
    assert!(Expression::compile_filter("amount > 1", &scope()).is_ok());
}

#[test]
fn functions_are_listed_by_name_and_refused_names_are_not_allowed() {
    let names: Vec<_> = crate::allow::FUNCTIONS.iter().map(|function| function.name).collect();
    assert!(names.is_sorted());
    for name in crate::allow::REFUSED.iter().flat_map(|(names, _)| *names) {
        assert!(crate::allow::Function::named(name).is_none(), "{name}");
    }
    let trim = Expression::compile("trim(status)", &scope()).unwrap();
    let batch =
        RecordBatch::try_from_iter([("status", Arc::new(StringArray::from(vec![" a "])) as ArrayRef)]);
    assert_eq!(value_at(&trim.evaluate(&batch.unwrap()).unwrap().array, 0).to_string(), "a");
}
