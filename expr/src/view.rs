//! A view's expressions over a batch of events: which rows count, for which entities, with which inputs.
//!
//! Ingestion and training both call this and have no other evaluation, so that their values cannot differ.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{nullif, take};
use arrow::datatypes::SchemaRef;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::value::Value;
use tidemark_kernel::value::arrow::value_at;

use crate::bind::schema;
use crate::error::{EvaluateError, ExprError};
use crate::expression::{Expression, check};
use crate::scope::Scope;

/// A view's filter, key and inputs, compiled.
#[derive(Clone, Debug)]
pub struct ViewEvaluator {
    fields: SchemaRef,
    filter: Option<Expression>,
    /// The fields of the key, as indices into `fields`.
    keys: Vec<usize>,
    /// The inputs and filters of all aggregates, each text once.
    expressions: Vec<Expression>,
    aggregates: Vec<Sources>,
}

/// Where an aggregate's values come from: indices into the expressions.
#[derive(Clone, Copy, Debug)]
struct Sources {
    input: Option<usize>,
    filter: Option<usize>,
}

/// The rows of a batch that a view sees.
#[derive(Clone, Debug)]
pub struct ViewRows {
    /// The rows kept, as indices into the batch, ascending: those that pass the view's filter and have no null in
    /// their key.
    pub rows: Vec<usize>,
    /// The entity of each row kept.
    pub keys: Vec<EntityKey>,
    /// For each aggregate of the plan, its value for each row kept: null where the aggregate skips the row. An
    /// aggregate without an input has `true`.
    pub inputs: Vec<ArrayRef>,
    /// How many rows pass the filter but have a null in their key.
    pub null_keys: u64,
    /// How many evaluations failed: a filter that fails is false, an input that fails is null.
    pub failed: u64,
}

impl ViewRows {
    /// The value for each aggregate in the `i`-th row kept.
    #[must_use]
    pub fn values(&self, i: usize) -> Vec<Value> {
        let mut values = Vec::with_capacity(self.inputs.len());
        self.values_into(i, &mut values);
        values
    }

    /// As `values`, written over the content of `values`.
    pub fn values_into(&self, i: usize, values: &mut Vec<Value>) {
        values.clear();
        values.extend(self.inputs.iter().map(|input| value_at(input, i)));
    }
}

impl ViewEvaluator {
    /// Compiles the expressions of a plan.
    ///
    /// # Errors
    /// Fails where the plan was not made by a registry that checked it: an expression does not compile, or has
    /// another type than the plan says.
    pub fn new(plan: &FeaturePlan) -> Result<Self, ExprError> {
        let scope = Scope::new(plan.fields.iter().cloned());
        let filter = plan.filter.as_deref().map(|sql| Expression::compile_filter(sql, &scope)).transpose()?;
        let keys = plan.keys.iter().map(|key| {
            plan.fields
                .iter()
                .position(|field| field.name == key.field && field.ty == key.ty)
                .ok_or_else(|| ExprError::new(format!("key `{}` is no {} field", key.field, key.ty), 0..0))
        });
        let keys = keys.collect::<Result<_, _>>()?;
        let mut expressions = Vec::new();
        let mut aggregates = Vec::with_capacity(plan.aggregates.len());
        for aggregate in &plan.aggregates {
            let input = aggregate.input.as_ref().map(|input| {
                let compiled = Expression::compile(&input.sql, &scope)?;
                if compiled.ty() == input.ty {
                    return Ok(once(&mut expressions, compiled));
                }
                let message =
                    format!("the plan takes `{}` for {}, it is {}", input.sql, input.ty, compiled.ty());
                Err(ExprError::new(message, 0..input.sql.len()))
            });
            let input = input.transpose()?;
            let filter = aggregate.filter.as_deref().map(|sql| Expression::compile_filter(sql, &scope));
            let filter = filter.transpose()?.map(|filter| once(&mut expressions, filter));
            aggregates.push(Sources { input, filter });
        }
        Ok(Self { fields: Arc::new(schema(&plan.fields)), filter, keys, expressions, aggregates })
    }

    /// What the view sees of a batch of events, which has at least the plan's fields.
    ///
    /// # Errors
    /// Fails where a field is missing or of another Arrow type than its declared one.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ViewRows, EvaluateError> {
        let batch = self.project(batch)?;
        let (passing, mut failed) = self.passing(&batch)?;
        let (rows, keys) = self.keyed(&batch, &passing);
        let kept = kept(&batch, &rows).map_err(|error| engine(&error))?;
        let mut values = Vec::with_capacity(self.expressions.len());
        for expression in &self.expressions {
            let evaluated = expression.evaluate(&kept)?;
            failed += evaluated.failed;
            values.push(evaluated.array);
        }
        let inputs = self.aggregates.iter().map(|aggregate| aggregate.values(&values, rows.len()));
        let inputs = inputs.collect::<Result<_, _>>()?;
        let null_keys = (passing.len() - rows.len()) as u64;
        Ok(ViewRows { rows, keys, inputs, null_keys, failed })
    }

    /// The plan's fields.
    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        let columns = self.fields.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name());
            let column = column.ok_or_else(|| EvaluateError::Missing(field.name().clone()))?;
            check(field.name(), field.data_type(), column).map(|()| Arc::clone(column))
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.fields), columns, &rows)
            .map_err(|error| engine(&error))
    }

    /// The rows that pass the filter, and how many it failed for.
    fn passing(&self, batch: &RecordBatch) -> Result<(Vec<usize>, u64), EvaluateError> {
        let Some(filter) = &self.filter else {
            return Ok(((0..batch.num_rows()).collect(), 0));
        };
        let evaluated = filter.evaluate(batch)?;
        let passes = evaluated.array.as_boolean();
        let rows = (0..passes.len()).filter(|row| passes.is_valid(*row) && passes.value(*row));
        Ok((rows.collect(), evaluated.failed))
    }

    /// The members of `rows` that have an entity, and their entities.
    fn keyed(&self, batch: &RecordBatch, rows: &[usize]) -> (Vec<usize>, Vec<EntityKey>) {
        let mut parts = Vec::with_capacity(self.keys.len());
        let mut key = |row: usize| {
            parts.clear();
            parts.extend(self.keys.iter().map(|key| value_at(batch.column(*key), row)));
            Some((row, EntityKey::encode(&parts)?))
        };
        rows.iter().filter_map(|row| key(*row)).unzip()
    }
}

impl Sources {
    fn values(self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef, EvaluateError> {
        let input = self.input.map_or_else(
            || Arc::new(BooleanArray::from(vec![true; rows])) as ArrayRef,
            |input| Arc::clone(&values[input]),
        );
        let Some(filter) = self.filter else { return Ok(input) };
        let filter = values[filter].as_boolean();
        let skipped = filter.iter().map(|passes| Some(passes != Some(true))).collect::<BooleanArray>();
        nullif(&input, &skipped).map_err(|error| engine(&error))
    }
}

/// The index of an expression among those kept, where each text is kept once.
fn once(expressions: &mut Vec<Expression>, expression: Expression) -> usize {
    expressions.iter().position(|known| known.sql() == expression.sql()).unwrap_or_else(|| {
        expressions.push(expression);
        expressions.len() - 1
    })
}

/// The given rows of a batch.
fn kept(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, arrow::error::ArrowError> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    let indices = rows.iter().map(|row| *row as u64).collect::<UInt64Array>();
    let columns = batch.columns().iter().map(|column| take(column, &indices, None));
    let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect::<Result<_, _>>()?, &count)
}

fn engine(error: &dyn std::fmt::Display) -> EvaluateError {
    EvaluateError::Engine { sql: "a view's rows".into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
