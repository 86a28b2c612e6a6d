//! Derived features: all rows of a call as one batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use tidemark_expr::{DerivedEvaluator, EvaluateError};
use tidemark_kernel::answer::Status;
use tidemark_kernel::service::ServicePlan;
use tidemark_kernel::value::arrow::{array_of, feature_data_type, value_at};
use tidemark_kernel::value::{FeatureType, Value};

use crate::answer::RowAnswer;
use crate::served::RowField;

/// The derived features of a service with the columns that they use.
#[derive(Debug)]
pub(crate) struct Derivation {
    evaluator: DerivedEvaluator,
    columns: Vec<Column>,
}

/// One column that derived features use.
#[derive(Debug)]
struct Column {
    name: String,
    ty: FeatureType,
    place: Operand,
}

/// Where a row has a column's value.
#[derive(Clone, Copy, Debug)]
enum Operand {
    /// Among the values of its answer.
    Answer(usize),
    /// Among the values it was asked with.
    Given(usize),
}

/// A row that was answered, with the values it was asked with.
pub(crate) struct Answered<'a> {
    pub(crate) asked: &'a [Value],
    pub(crate) answer: &'a mut RowAnswer,
}

impl Derivation {
    /// Finds each column that the expressions use.
    pub(crate) fn new(plan: &ServicePlan, asked: &[RowField], evaluator: DerivedEvaluator) -> Self {
        let windowed = plan.features.iter().enumerate().map(|(at, feature)| {
            let (view, feature) = plan.feature(*feature);
            Column { name: view.qualified(feature), ty: feature.ty, place: Operand::Answer(at) }
        });
        let request = asked.iter().enumerate().filter(|(_, asked)| !asked.is_key).map(|(at, asked)| {
            let ty = FeatureType::Scalar(asked.ty);
            Column { name: asked.name.clone(), ty, place: Operand::Given(at) }
        });
        let used = evaluator.columns();
        let columns = windowed.chain(request).filter(|column| used.contains(column.name.as_str())).collect();
        Self { evaluator, columns }
    }

    /// Adds the derived features to each row, and says how many evaluations failed (and are null).
    ///
    /// # Errors
    /// Fails where the expressions cannot be evaluated at all.
    pub(crate) fn extend(&self, rows: &mut [Answered<'_>]) -> Result<u64, EvaluateError> {
        let evaluated = self.evaluator.evaluate(&self.batch(rows)?)?;
        for (index, row) in rows.iter_mut().enumerate() {
            for column in &evaluated {
                let value = value_at(&column.array, index);
                row.answer.statuses.push(Status::of(&value));
                row.answer.values.push(value);
            }
        }
        Ok(evaluated.iter().map(|column| column.failed).sum())
    }

    fn batch(&self, rows: &[Answered<'_>]) -> Result<RecordBatch, EvaluateError> {
        let field = |column: &Column| Field::new(&column.name, feature_data_type(column.ty), true);
        let schema = Schema::new(self.columns.iter().map(field).collect::<Vec<_>>());
        let arrays = self.columns.iter().map(|column| column.array(rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options).map_err(|error| {
            let sql = self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
            EvaluateError::Engine { sql, reason: error.to_string() }
        })
    }
}

impl Column {
    fn array(&self, rows: &[Answered<'_>]) -> ArrayRef {
        let values = rows.iter().map(|row| match self.place {
            Operand::Answer(at) => &row.answer.values[at],
            Operand::Given(at) => &row.asked[at],
        });
        array_of(self.ty, values)
    }
}
