//! Binds operators, comparisons and predicates.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{
    BinaryExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};
use tidemark_kernel::value::{Type, Value};

use super::typed::cast_help;
use super::{Binder, Result, Typed, around, engine};
use crate::call::Work;
use crate::error::ExprError;
use crate::kernels::arithmetic::{ADD, Arithmetic, DIVIDE, MODULO, MULTIPLY, SUBTRACT};
use crate::kernels::arithmetic::{negate_floats, negate_integers};

impl Binder<'_> {
    pub(super) fn unary(&mut self, op: UnaryOperator, expr: &Expr) -> Result<Typed> {
        match (op, expr) {
            (UnaryOperator::Minus, Expr::Value(value)) => match self.literal(value, true)? {
                literal if literal.ty.is_some_and(Type::is_number) => Ok(literal),
                other => Err(self.not_a_number("negate", &other)),
            },
            (UnaryOperator::Minus, _) => self.negated(expr),
            (UnaryOperator::Plus, _) => {
                let inner = self.expr(expr)?;
                if inner.ty.is_none_or(Type::is_number) {
                    Ok(inner)
                } else {
                    Err(self.not_a_number("take", &inner))
                }
            }
            (UnaryOperator::Not, _) => {
                let inner = self.expr(expr)?.fitted(Type::Bool, self.text)?;
                Ok(Typed::computed(Arc::new(NotExpr::new(inner.physical)), Type::Bool, inner.span))
            }
            (other, _) => {
                let message = format!("the operator `{other}` is not available in expressions");
                Err(ExprError::new(message, self.span(expr)))
            }
        }
    }

    fn negated(&mut self, expr: &Expr) -> Result<Typed> {
        let inner = self.expr(expr)?;
        let span = inner.span.clone();
        match inner.ty {
            Some(Type::Int64) => {
                Ok(Typed::call("negate", Work::Kernel(negate_integers), vec![inner], Type::Int64, span))
            }
            Some(Type::Float64) => {
                Ok(Typed::call("negate", Work::Kernel(negate_floats), vec![inner], Type::Float64, span))
            }
            _ => Err(self.not_a_number("negate", &inner)),
        }
    }

    pub(super) fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Typed> {
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        match op {
            BinaryOperator::Plus => self.arithmetic(left, right, &ADD),
            BinaryOperator::Minus => self.arithmetic(left, right, &SUBTRACT),
            BinaryOperator::Multiply => self.arithmetic(left, right, &MULTIPLY),
            BinaryOperator::Divide => self.arithmetic(left, right, &DIVIDE),
            BinaryOperator::Modulo => self.arithmetic(left, right, &MODULO),
            BinaryOperator::Eq => self.compared(left, Operator::Eq, right),
            BinaryOperator::NotEq => self.compared(left, Operator::NotEq, right),
            BinaryOperator::Lt => self.compared(left, Operator::Lt, right),
            BinaryOperator::LtEq => self.compared(left, Operator::LtEq, right),
            BinaryOperator::Gt => self.compared(left, Operator::Gt, right),
            BinaryOperator::GtEq => self.compared(left, Operator::GtEq, right),
            BinaryOperator::And => self.both(left, Operator::And, right, Type::Bool),
            BinaryOperator::Or => self.both(left, Operator::Or, right, Type::Bool),
            BinaryOperator::StringConcat => self.both(left, Operator::StringConcat, right, Type::String),
            other => Err(unavailable(other, around(&left.span, &right.span))),
        }
    }

    /// An operator over two values of a given type, which is also the result's.
    fn both(&self, left: Typed, op: Operator, right: Typed, ty: Type) -> Result<Typed> {
        let span = around(&left.span, &right.span);
        let (left, right) = (left.fitted(ty, self.text)?, right.fitted(ty, self.text)?);
        Ok(Typed::computed(Arc::new(BinaryExpr::new(left.physical, op, right.physical)), ty, span))
    }

    fn arithmetic(&self, left: Typed, right: Typed, op: &'static Arithmetic) -> Result<Typed> {
        let span = around(&left.span, &right.span);
        let number = |side: &Typed| side.ty.is_none_or(Type::is_number);
        if !number(&left) || !number(&right) {
            return Err(self.not_numbers(op, &left, &right));
        }
        let (sides, ty) = self.alike(vec![left, right])?;
        let (kernel, gives) = if ty == Type::Int64 { (op.integers, op.of_integers) } else { (op.floats, ty) };
        Ok(Typed::call(op.name, Work::Kernel(kernel), sides, gives, span))
    }

    fn not_numbers(&self, op: &Arithmetic, left: &Typed, right: &Typed) -> ExprError {
        let (a, b) = (left.named(), right.named());
        let message = match op.name {
            "add" => format!("cannot add {a} and {b}"),
            "subtract" => format!("cannot subtract {b} from {a}"),
            "multiply" => format!("cannot multiply {a} by {b}"),
            "divide" => format!("cannot divide {a} by {b}"),
            _ => format!("cannot take {a} modulo {b}"),
        };
        let culprit = if left.ty.is_none_or(Type::is_number) { right } else { left };
        let help = match (op.name, left.ty, right.ty) {
            ("add", Some(Type::String), Some(Type::String)) => Some("text is joined by `||`".to_owned()),
            _ => cast_help(self.text.slice(&culprit.span), culprit.ty, Type::Float64),
        };
        ExprError { message, help, span: culprit.span.clone() }
    }

    fn not_a_number(&self, verb: &str, inner: &Typed) -> ExprError {
        let message = format!("cannot {verb} {}", inner.named());
        let help = cast_help(self.text.slice(&inner.span), inner.ty, Type::Float64);
        ExprError { message, help, span: inner.span.clone() }
    }

    pub(super) fn is_null(&mut self, expr: &Expr, negated: bool) -> Result<Typed> {
        let inner = self.expr(expr)?;
        let span = inner.span.clone();
        let inner = if inner.ty.is_none() { inner.fitted(Type::Bool, self.text)? } else { inner };
        Ok(if negated {
            Typed::computed(Arc::new(IsNotNullExpr::new(inner.physical)), Type::Bool, span)
        } else {
            Typed::computed(Arc::new(IsNullExpr::new(inner.physical)), Type::Bool, span)
        })
    }

    /// `is [not] true | false | unknown`.
    pub(super) fn is_bool(&mut self, expr: &Expr, wanted: Option<bool>, negated: bool) -> Result<Typed> {
        let inner = self.expr(expr)?.fitted(Type::Bool, self.text)?;
        let wanted = Arc::new(Literal::new(ScalarValue::Boolean(wanted)));
        let op = if negated { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
        Ok(Typed::computed(Arc::new(BinaryExpr::new(inner.physical, op, wanted)), Type::Bool, inner.span))
    }

    pub(super) fn distinct(&mut self, left: &Expr, right: &Expr, distinct: bool) -> Result<Typed> {
        let op = if distinct { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        self.compared(left, op, right)
    }

    pub(super) fn in_list(&mut self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Typed> {
        let value = self.expr(expr)?;
        let mut pieces = vec![value];
        for item in list {
            let item = self.expr(item)?;
            // Each against the value, so that the message names the two that differ.
            self.compared(pieces[0].clone(), Operator::Eq, item.clone())?;
            pieces.push(item);
        }
        let span = pieces.iter().map(|piece| piece.span.clone()).reduce(|all, one| around(&all, &one));
        let span = span.unwrap_or_else(|| self.text.whole());
        let (pieces, _) = self.alike(pieces)?;
        let mut pieces = pieces.into_iter().map(|piece| piece.physical);
        let value = pieces.next().ok_or_else(|| engine(&"no value", &span))?;
        let test = InListExpr::try_new(value, pieces.collect(), negated, &self.schema());
        Ok(Typed::computed(Arc::new(test.map_err(|error| engine(&error, &span))?), Type::Bool, span))
    }

    /// `x between a and b` is `x >= a and x <= b`.
    pub(super) fn between(&mut self, expr: &Expr, low: &Expr, high: &Expr, negated: bool) -> Result<Typed> {
        let (value, low, high) = (self.expr(expr)?, self.expr(low)?, self.expr(high)?);
        let above = self.compared(value.clone(), Operator::GtEq, low)?;
        let below = self.compared(value, Operator::LtEq, high)?;
        let inside = self.both(above, Operator::And, below, Type::Bool)?;
        if negated {
            return Ok(Typed::computed(Arc::new(NotExpr::new(inside.physical)), Type::Bool, inside.span));
        }
        Ok(inside)
    }

    pub(super) fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        negated: bool,
        any_case: bool,
    ) -> Result<Typed> {
        let value = self.expr(expr)?.fitted(Type::String, self.text)?;
        let pattern = self.expr(pattern)?;
        if !matches!(pattern.literal, Some(Value::String(_))) {
            return Err(ExprError::new("the pattern must be quoted text", pattern.span)
                .with_help("use `contains`, `starts_with` or `ends_with` for text that differs by row"));
        }
        let span = around(&value.span, &pattern.span);
        let like = LikeExpr::new(negated, any_case, value.physical, pattern.physical);
        Ok(Typed::computed(Arc::new(like), Type::Bool, span))
    }
}

fn unavailable(op: &BinaryOperator, span: std::ops::Range<usize>) -> ExprError {
    let error = ExprError::new(format!("the operator `{op}` is not available in expressions"), span);
    match op.to_string().as_str() {
        "^" | "**" => error.with_help("write `power(x, y)`"),
        "//" | "DIV" => error.with_help("write `div(x, y)` for int64, `trunc(x / y)` for float64"),
        "<=>" => error.with_help("write `is not distinct from`"),
        "~" | "~*" | "!~" | "!~*" | "REGEXP" => error.with_help("use `like`, `starts_with` or `contains`"),
        _ => error,
    }
}
