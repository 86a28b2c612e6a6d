//! Binds a syntax tree: resolves names, checks types, and refuses everything that is not allowed.
//!
//! We type the tree ourselves, by few rules: types are never coerced but for int64 to float64, `null` to
//! anything, and quoted text to a timestamp next to a timestamp. DataFusion's coercions are many, and turn
//! mistakes such as comparing text with a number into rows that fail.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Field as Column, Schema};
use datafusion_physical_expr::PhysicalExpr;
use sqlparser::ast::{Expr, Spanned};
use tidemark_kernel::value::arrow::data_type;
use tidemark_kernel::value::{Field, Type};

use crate::error::ExprError;
use crate::scope::Scope;
use crate::text::SqlText;

mod calls;
mod cases;
mod casts;
mod literals;
mod names;
mod operators;
mod typed;

pub(crate) use typed::Typed;

type Result<T> = std::result::Result<T, ExprError>;

/// The deepest tree. Evaluation recurses, and stacks end.
const DEEPEST: usize = 128;

/// A compiled tree and what it needs.
pub(crate) struct Bound {
    /// The tree, over a batch of exactly [`Bound::columns`].
    pub(crate) physical: Arc<dyn PhysicalExpr>,
    /// The result's type.
    pub(crate) ty: Type,
    /// The columns used, in the order in which they are first named.
    pub(crate) columns: Vec<Field>,
}

/// Types `tree`, the syntax of `text`.
pub(crate) fn bind(text: SqlText<'_>, tree: &Expr, scope: &Scope) -> Result<Bound> {
    let mut binder = Binder { text, scope, columns: Vec::new(), depth: 0 };
    let root = binder.expr(tree)?;
    let Some(ty) = root.ty else {
        return Err(ExprError::new("the expression is always null", text.whole())
            .with_help("give it a type: `cast(null as float64)`"));
    };
    Ok(Bound { physical: root.physical, ty, columns: binder.columns })
}

/// The arrow schema of some columns.
pub(crate) fn schema(columns: &[Field]) -> Schema {
    let column = |field: &Field| Column::new(&field.name, data_type(field.ty), true);
    Schema::new(columns.iter().map(column).collect::<Vec<_>>())
}

struct Binder<'a> {
    text: SqlText<'a>,
    scope: &'a Scope,
    columns: Vec<Field>,
    depth: usize,
}

impl Binder<'_> {
    fn expr(&mut self, expr: &Expr) -> Result<Typed> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExprError::new("the expression is nested too deeply", self.text.whole())
                .with_help("split it into several features"));
        }
        let typed = self.dispatch(expr);
        self.depth -= 1;
        typed
    }

    fn dispatch(&mut self, expr: &Expr) -> Result<Typed> {
        match expr {
            Expr::Identifier(name) => self.column(std::slice::from_ref(name)),
            Expr::CompoundIdentifier(parts) => self.column(parts),
            Expr::Nested(inner) => self.expr(inner),
            Expr::Value(value) => self.literal(value, false),
            Expr::TypedString(literal) => self.typed_string(literal),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Cast { kind, expr, data_type, array: false, format: None } => {
                self.cast(kind, expr, data_type)
            }
            Expr::Function(function) => self.function(function),
            _ => self.test(expr),
        }
    }

    /// What asks something of a value.
    fn test(&mut self, expr: &Expr) -> Result<Typed> {
        match expr {
            Expr::IsNull(inner) => self.is_null(inner, false),
            Expr::IsNotNull(inner) => self.is_null(inner, true),
            Expr::IsTrue(inner) => self.is_bool(inner, Some(true), false),
            Expr::IsNotTrue(inner) => self.is_bool(inner, Some(true), true),
            Expr::IsFalse(inner) => self.is_bool(inner, Some(false), false),
            Expr::IsNotFalse(inner) => self.is_bool(inner, Some(false), true),
            Expr::IsUnknown(inner) => self.is_bool(inner, None, false),
            Expr::IsNotUnknown(inner) => self.is_bool(inner, None, true),
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, true),
            Expr::IsNotDistinctFrom(left, right) => self.distinct(left, right, false),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Expr::Between { expr, negated, low, high } => self.between(expr, low, high, *negated),
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true)
            }
            _ => self.special_form(expr),
        }
    }

    /// The error of a form that there is no use for here.
    fn refused(&self, expr: &Expr) -> ExprError {
        let span = self.span(expr);
        let help = match expr {
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                return ExprError::new("subqueries are not available: an expression sees one row", span);
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                "name the column; only `count(*)` takes a star"
            }
            Expr::Interval(_) => "lengths of time are numbers: `epoch_ms(t)` counts milliseconds",
            Expr::AtTimeZone { .. } => "instants are in UTC: shift by `to_timestamp_millis(epoch_ms(t) + …)`",
            Expr::Like { .. } | Expr::ILike { .. } => "write `x like 'pattern'`, with a backslash to escape",
            Expr::SimilarTo { .. } | Expr::RLike { .. } => {
                "use `like`, `starts_with`, `contains` or `split_part`"
            }
            _ => "the list of operators and functions is in the documentation of expressions",
        };
        let message = format!("`{}` is not available in expressions", self.text.slice(&span));
        ExprError::new(message, span).with_help(help)
    }

    fn span(&self, piece: &impl Spanned) -> Range<usize> {
        self.text.range(piece.span())
    }

    fn schema(&self) -> Schema {
        schema(&self.columns)
    }
}

/// An error that the types should have ruled out.
fn engine(error: &dyn std::fmt::Display, span: &Range<usize>) -> ExprError {
    ExprError::new(format!("the expression engine refuses this: {error}"), span.clone())
}

/// The smallest range around both.
fn around(left: &Range<usize>, right: &Range<usize>) -> Range<usize> {
    left.start.min(right.start)..left.end.max(right.end)
}
