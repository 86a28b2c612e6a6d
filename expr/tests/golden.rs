//! What every operator and function gives, bit for bit: the guard of [`tidemark_expr::SEMANTICS`].

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use tidemark_expr::{Expression, allow};
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Value;
use tidemark_kernel::value::arrow::value_at;

mod rows;

use rows::{Row, batch, expressions, scope};

/// One row.
#[expect(clippy::too_many_arguments, reason = "a row has as many columns")]
fn row(b: Option<bool>, i: i64, j: i64, x: f64, y: f64, s: &str, t: &str, z: &[u8]) -> Row {
    [
        b.map_or(Value::Null, Value::Bool),
        Value::Int64(i),
        Value::Int64(j),
        Value::Float64(x),
        Value::Float64(y),
        Value::string(s),
        Value::Timestamp(Time::parse(t).unwrap()),
        Value::Bytes(z.into()),
        Value::Float64(x),
    ]
}

fn fixed_rows() -> Vec<Row> {
    vec![
        row(Some(true), 1, 2, 0.1, 0.2, "Abc", "2026-11-20T08:30:15.125Z", &[0, 255]),
        row(Some(false), -7, 3, -2.5, 2.5, "  ÄÖ b ", "1969-12-31T23:59:59.999Z", b"text"),
        row(None, 3, 0, 0.0, -0.0, "100% groß", "2000-02-29T00:00:00Z", &[]),
        row(Some(true), i64::MAX, 1, f64::INFINITY, 1e300, "42", "9999-12-31T23:59:59.999Z", &[128]),
        row(Some(false), i64::MIN, -1, f64::NAN, 1.0, "true", "0001-01-01T00:00:00Z", b"\n"),
        row(None, 0, -5, 1234.5678, -0.5, "2026-01-01", "1970-01-01T00:00:00Z", b"b"),
        [const { Value::Null }; 9],
    ]
}

/// The values of one expression in the fixed rows, with a note of how many failed.
fn values(sql: &str) -> String {
    let expression = Expression::compile(sql, &scope()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let evaluated = expression.evaluate(&batch(&fixed_rows())).unwrap();
    let mut line = format!("   {}:", expression.ty());
    for at in 0..evaluated.array.len() {
        let value = value_at(&evaluated.array, at);
        let quote = if matches!(value, Value::String(_)) { "'" } else { "" };
        write!(line, " {quote}{}{quote} |", value.to_string().escape_debug()).unwrap();
    }
    write!(line, " {} failed", evaluated.failed).unwrap();
    line
}

#[test]
fn every_value_is_as_recorded() {
    let golden = include_str!("golden/expressions.txt");
    let mut now: String =
        golden.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    now.push('\n');
    for sql in expressions() {
        writeln!(now, "{sql}\n{}", values(&sql)).unwrap();
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/expressions.txt"), &now).unwrap();
        return;
    }
    for (now, golden) in now.lines().zip(golden.lines()) {
        assert_eq!(now, golden, "the meaning of expressions has changed");
    }
    assert_eq!(now.lines().count(), golden.lines().count());
}

#[test]
fn every_allowed_function_is_recorded() {
    let recorded = expressions().join("\n");
    for allowed in
        allow::allowed().filter(|allowed| allowed.signature.starts_with(&format!("{}(", allowed.name)))
    {
        assert!(
            recorded.contains(&format!("{}(", allowed.name)),
            "{} is not in the golden file",
            allowed.name
        );
    }
}
