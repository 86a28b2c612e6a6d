//! Binds `case` and `coalesce`, which evaluate one branch only.

use std::sync::Arc;

use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CaseExpr, IsNotNullExpr};
use sqlparser::ast::{CaseWhen, Expr};
use tidemark_kernel::value::{Type, Value};

use super::typed::common;
use super::{Binder, Result, Typed, around, engine};
use crate::error::ExprError;

type Branch = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

impl Binder<'_> {
    /// A `case` over an operand is one over comparisons with it, so that there is one rule for both.
    pub(super) fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Result<Typed> {
        let operand = operand.map(|operand| self.expr(operand)).transpose()?;
        let mut whens = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for CaseWhen { condition, result } in conditions {
            let condition = self.expr(condition)?;
            whens.push(match &operand {
                Some(operand) => self.compared(operand.clone(), Operator::Eq, condition)?.physical,
                None => condition.fitted(Type::Bool, self.text)?.physical,
            });
            results.push(self.expr(result)?);
        }
        if let Some(otherwise) = otherwise {
            results.push(self.expr(otherwise)?);
        }
        let (results, ty) = self.alike(results)?;
        let span = results.iter().map(|result| result.span.clone()).reduce(|all, one| around(&all, &one));
        let span = span.unwrap_or_else(|| self.text.whole());
        let mut results = results.into_iter().map(|result| result.physical);
        let branches = whens.into_iter().zip(results.by_ref()).collect();
        self.branching(branches, results.next(), ty, span)
    }

    /// `coalesce(a, b, c)` is `case when a is not null then a when b is not null then b else c end`.
    pub(super) fn coalesce(
        &self,
        arguments: Vec<Typed>,
        ty: Type,
        span: std::ops::Range<usize>,
    ) -> Result<Typed> {
        let mut arguments: Vec<_> = arguments.into_iter().map(|argument| argument.physical).collect();
        let last = arguments.pop();
        if arguments.is_empty() {
            return last
                .map(|only| Typed::computed(only, ty, span.clone()))
                .ok_or_else(|| engine(&"no argument", &span));
        }
        let present = |value: Arc<dyn PhysicalExpr>| -> Branch {
            (Arc::new(IsNotNullExpr::new(Arc::clone(&value))), value)
        };
        self.branching(arguments.into_iter().map(present).collect(), last, ty, span)
    }

    /// The pieces as values of the one type that they all fit.
    pub(super) fn alike(&self, pieces: Vec<Typed>) -> Result<(Vec<Typed>, Type)> {
        let Some(ty) = common(&pieces.iter().collect::<Vec<_>>(), self.text)? else {
            let span = pieces.first().map_or_else(|| self.text.whole(), |piece| piece.span.clone());
            return Err(ExprError::new("every value here is null", span)
                .with_help("give one a type: `cast(null as float64)`"));
        };
        let fitted = pieces.into_iter().map(|piece| piece.fitted(ty, self.text));
        Ok((fitted.collect::<Result<_>>()?, ty))
    }

    fn branching(
        &self,
        branches: Vec<Branch>,
        otherwise: Option<Arc<dyn PhysicalExpr>>,
        ty: Type,
        span: std::ops::Range<usize>,
    ) -> Result<Typed> {
        let case = CaseExpr::try_new(None, branches, otherwise).map_err(|error| engine(&error, &span))?;
        Ok(Typed::computed(Arc::new(case), ty, span))
    }

    /// `left op right` for two values of one type.
    pub(super) fn compared(&self, left: Typed, op: Operator, right: Typed) -> Result<Typed> {
        let span = around(&left.span, &right.span);
        let ty = match common(&[&left, &right], self.text) {
            Ok(ty) => ty.unwrap_or(Type::Bool),
            Err(error) => return Err(self.incomparable(&left, &right, error)),
        };
        let (left, right) = (left.fitted(ty, self.text)?, right.fitted(ty, self.text)?);
        let comparison = BinaryExpr::new(left.physical, op, right.physical);
        Ok(Typed::computed(Arc::new(comparison), Type::Bool, span))
    }

    fn incomparable(&self, left: &Typed, right: &Typed, error: ExprError) -> ExprError {
        let message = format!("cannot compare {} with {}", left.named(), right.named());
        // A literal is more likely wrong than the column beside it.
        let culprit = if left.literal.is_some() { left } else { right };
        let help = match (&culprit.literal, culprit.ty) {
            (Some(Value::String(text)), _) if text.parse::<f64>().is_ok() => {
                Some(format!("write {text} without quotes"))
            }
            _ => error.help,
        };
        ExprError { message, help, span: culprit.span.clone() }
    }
}
