//! Derived features, evaluated for all rows of a call as one batch.

use tidemark_expr::{DerivedEvaluator, EvaluateError, Operand};
use tidemark_kernel::answer::Status;
use tidemark_kernel::value::Value;
use tidemark_kernel::value::arrow::{array_of, value_at};

use crate::answer::RowAnswer;

/// The derived features of a service.
#[derive(Debug)]
pub(crate) struct Derivation {
    evaluator: DerivedEvaluator,
    /// How many of the values that a row is asked with are parts of keys, which come before its request fields.
    keys: usize,
}

/// A row that was answered, with the values it was asked with.
pub(crate) struct Answered<'a> {
    pub(crate) asked: &'a [Value],
    pub(crate) answer: &'a mut RowAnswer,
}

impl Derivation {
    pub(crate) const fn new(evaluator: DerivedEvaluator, keys: usize) -> Self {
        Self { evaluator, keys }
    }

    /// Adds the derived features to each row, and says how many evaluations failed (and are null).
    ///
    /// # Errors
    /// Fails where the expressions cannot be evaluated at all.
    pub(crate) fn extend(&self, rows: &mut [Answered<'_>]) -> Result<u64, EvaluateError> {
        let evaluated = self.evaluator.extend(rows.len(), |operand, ty| {
            let values = rows.iter().map(|row| match operand {
                Operand::Windowed(at) => &row.answer.values[at],
                Operand::Request(at) => &row.asked[self.keys + at],
            });
            array_of(ty, values)
        })?;
        for (index, row) in rows.iter_mut().enumerate() {
            for column in &evaluated {
                let value = value_at(&column.array, index);
                row.answer.statuses.push(Status::of(&value));
                row.answer.values.push(value);
            }
        }
        Ok(evaluated.iter().map(|column| column.failed).sum())
    }
}
