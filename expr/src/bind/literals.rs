//! Binds literals.

use std::ops::Range;

use sqlparser::ast::{DataType, TypedString, Value as Token, ValueWithSpan};
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Value;

use super::typed::no_instant;
use super::{Binder, Result, Typed};
use crate::error::ExprError;

impl Binder<'_> {
    /// A value, or its negative: the smallest int64 can only be read together with its sign.
    pub(super) fn literal(&self, token: &ValueWithSpan, negative: bool) -> Result<Typed> {
        let span = self.span(token);
        let value = match &token.value {
            Token::Number(digits, false) => number(digits, negative, &span)?,
            Token::SingleQuotedString(text) => Value::string(text),
            Token::Boolean(value) => Value::Bool(*value),
            Token::Null => Value::Null,
            Token::HexStringLiteral(digits) => Value::Bytes(bytes(digits, &span)?.into()),
            other => {
                return Err(ExprError::new(format!("`{other}` is not available in expressions"), span)
                    .with_help("text is written 'text', bytes are written X'00ff'"));
            }
        };
        Ok(Typed::literal(value, span))
    }

    /// `timestamp '2026-11-20T08:30:00Z'`.
    pub(super) fn typed_string(&self, literal: &TypedString) -> Result<Typed> {
        let span = self.span(&literal.value);
        match (&literal.data_type, &literal.value.value) {
            (DataType::Timestamp(..), Token::SingleQuotedString(text)) => match Time::parse_rfc3339(text) {
                Some(time) => Ok(Typed::literal(Value::Timestamp(time), span)),
                None => Err(no_instant(text, span)),
            },
            (other, _) => Err(ExprError::new(format!("there are no values of type {other}"), span)
                .with_help("instants are written `timestamp '2026-11-20T08:30:00Z'`")),
        }
    }
}

fn number(digits: &str, negative: bool, span: &Range<usize>) -> Result<Value> {
    let text = if negative { format!("-{digits}") } else { digits.to_owned() };
    let error = |ty| ExprError::new(format!("{text} does not fit {ty}"), span.clone());
    if digits.contains(['.', 'e', 'E']) {
        return match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::float(value)),
            _ => Err(error("float64")),
        };
    }
    text.parse()
        .map(Value::Int64)
        .map_err(|_| error("int64").with_help(format!("write {text}.0 for a float64")))
}

fn bytes(digits: &str, span: &Range<usize>) -> Result<Vec<u8>> {
    let error = || ExprError::new(format!("X'{digits}' is not pairs of hexadecimal digits"), span.clone());
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(error());
    }
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).map_err(|_| error()))
        .collect()
}
