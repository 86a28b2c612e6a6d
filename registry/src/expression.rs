//! SQL expressions inside definitions: compiled by `tidemark-expr`, their errors shown in the file.

use std::ops::Range;

pub(crate) use tidemark_expr::Scope;
use tidemark_expr::{AggregateCall, ExprError, Expression};
use tidemark_kernel::value::Type;

use crate::problem::Problem;
use crate::shape::Reading;
use crate::tree::Scalar;

/// A checked expression.
pub(crate) struct Compiled {
    pub(crate) sql: String,
    pub(crate) ty: Type,
    /// The columns it uses.
    pub(crate) columns: Vec<String>,
}

/// A way to compile: as any expression, or as a condition.
type Compile = fn(&str, &Scope) -> Result<Expression, ExprError>;

/// Compiles the part `range` of a text.
pub(crate) fn compile(
    text: &Scalar,
    range: Range<usize>,
    scope: &Scope,
    reading: &mut Reading<'_>,
) -> Option<Compiled> {
    compile_as(Expression::compile, text, range, scope, reading)
}

/// Compiles the part `range` of a text, which must be true or false.
pub(crate) fn condition(
    text: &Scalar,
    range: Range<usize>,
    scope: &Scope,
    reading: &mut Reading<'_>,
) -> Option<Compiled> {
    compile_as(Expression::compile_filter, text, range, scope, reading)
}

fn compile_as(
    compile: Compile,
    text: &Scalar,
    range: Range<usize>,
    scope: &Scope,
    reading: &mut Reading<'_>,
) -> Option<Compiled> {
    let written = &text.value[range.clone()];
    let sql = written.trim();
    let start = range.start + (written.len() - written.trim_start().len());
    match compile(sql, scope) {
        Ok(expression) => {
            let columns = expression.columns().to_vec();
            Some(Compiled { sql: sql.to_owned(), ty: expression.ty(), columns })
        }
        Err(error) => {
            report(text, start, error, reading);
            None
        }
    }
}

/// Reads an aggregate call; its pieces are ranges of the text.
pub(crate) fn parse_aggregate(text: &Scalar, reading: &mut Reading<'_>) -> Option<AggregateCall> {
    match tidemark_expr::parse_aggregate(&text.value) {
        Ok(call) => Some(call),
        Err(error) => {
            report(text, 0, error, reading);
            None
        }
    }
}

/// An error whose span starts counting at byte `start` of the text.
fn report(text: &Scalar, start: usize, error: ExprError, reading: &mut Reading<'_>) {
    let place = text.within(reading.files, start + error.span.start..start + error.span.end);
    reading.report(Problem::error(place, error.message.trim_end_matches('.')).help(error.help));
}
