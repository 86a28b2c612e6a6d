//! A compiled expression and its evaluation.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_empty_array, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use tidemark_kernel::value::arrow::data_type;
use tidemark_kernel::value::{Field, Type, canonical};

use crate::bind::{Bound, bind, schema};
use crate::error::{EvaluateError, ExprError};
use crate::scope::Scope;
use crate::text::SqlText;

/// A compiled scalar expression.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{Float64Array, RecordBatch};
/// use tidemark_expr::{Expression, Scope};
/// use tidemark_kernel::value::{Field, Type};
///
/// let scope = Scope::new([Field { name: "amount".into(), ty: Type::Float64 }]);
/// let inverse = Expression::compile("1 / amount", &scope)?;
/// assert_eq!(inverse.ty(), Type::Float64);
///
/// let batch = RecordBatch::try_from_iter([("amount", Arc::new(Float64Array::from(vec![4.0, 0.0])) as _)])?;
/// let evaluated = inverse.evaluate(&batch)?;
/// assert_eq!(*evaluated.array, Float64Array::from(vec![Some(0.25), None]));
/// assert_eq!(evaluated.failed, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Expression {
    sql: String,
    ty: Type,
    columns: Vec<String>,
    schema: SchemaRef,
    physical: Arc<dyn PhysicalExpr>,
}

/// An expression's values over a batch.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// One value for each row, of exactly the Arrow type that belongs to the expression's type. Floats are
    /// canonical. A row that failed is null.
    pub array: ArrayRef,
    /// How many rows failed.
    pub failed: u64,
}

impl Expression {
    /// Parses and type-checks an expression over the columns in `scope`.
    ///
    /// # Errors
    /// Fails, naming the offending piece, where the text is no scalar expression, names something unknown, uses
    /// something that is not [allowed](crate::allow) or mixes types that do not go together.
    pub fn compile(sql: &str, scope: &Scope) -> Result<Self, ExprError> {
        let text = SqlText::new(sql);
        let Bound { physical, ty, columns } = bind(text, &text.parse()?, scope)?;
        let schema = Arc::new(schema(&columns));
        let found = physical.data_type(&schema);
        if !found.as_ref().is_ok_and(|found| *found == data_type(ty)) {
            return Err(ExprError::new(
                format!("the expression engine makes {found:?} of this {ty}"),
                text.whole(),
            ));
        }
        let columns = columns.into_iter().map(|Field { name, .. }| name).collect();
        Ok(Self { sql: sql.to_owned(), ty, columns, schema, physical })
    }

    /// [Compiles](Self::compile) an expression that must be true or false, such as a filter.
    ///
    /// # Errors
    /// Also fails where its type is not bool.
    pub fn compile_filter(sql: &str, scope: &Scope) -> Result<Self, ExprError> {
        let filter = Self::compile(sql, scope)?;
        if filter.ty == Type::Bool {
            return Ok(filter);
        }
        Err(ExprError::new(
            format!("a filter must be bool, this is {}", filter.ty),
            SqlText::new(sql).whole(),
        )
        .with_help("compare it with something, such as `x > 0` or `x is not null`"))
    }

    /// The type of its values.
    #[must_use]
    pub const fn ty(&self) -> Type {
        self.ty
    }

    /// The columns it uses, by their own names, each once, in the order in which they are first named.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Its text, as it was given.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Its value for each row of `batch`, which may have other columns too.
    ///
    /// A row's value is that of evaluating the row alone, whatever rows are beside it.
    ///
    /// # Errors
    /// Fails where a column is missing or of another Arrow type than its declared one. Rows that fail are null.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Evaluated, EvaluateError> {
        let batch = self.project(batch)?;
        let mut pieces = Pieces { arrays: Vec::new(), failed: 0 };
        self.evaluate_into(&batch, &mut pieces)?;
        let array = match pieces.arrays.as_slice() {
            [] => new_empty_array(&data_type(self.ty)),
            [one] => Arc::clone(one),
            several => {
                let several: Vec<&dyn Array> = several.iter().map(AsRef::as_ref).collect();
                concat(&several).map_err(|error| self.engine(&error))?
            }
        };
        Ok(Evaluated { array: canonical_floats(array), failed: pieces.failed })
    }

    /// Where a batch fails, its halves are tried: a batch without a failing row gives each row the value it has
    /// alone, and the failing rows are found in few steps.
    fn evaluate_into(&self, batch: &RecordBatch, pieces: &mut Pieces) -> Result<(), EvaluateError> {
        let rows = batch.num_rows();
        let evaluated = self.physical.evaluate(batch).and_then(|value| value.into_array(rows));
        match evaluated {
            Ok(array) if *array.data_type() == data_type(self.ty) => pieces.arrays.push(array),
            Ok(array) => return Err(self.engine(&format!("it gave {}", array.data_type()))),
            Err(error) if !is_failure(&error) => return Err(self.engine(&error)),
            Err(_) if rows <= 1 => {
                pieces.failed += rows as u64;
                pieces.arrays.push(new_null_array(&data_type(self.ty), rows));
            }
            Err(_) => {
                self.evaluate_into(&batch.slice(0, rows / 2), pieces)?;
                self.evaluate_into(&batch.slice(rows / 2, rows - rows / 2), pieces)?;
            }
        }
        Ok(())
    }

    /// The columns it uses, floats canonical.
    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        let columns = self.schema.fields().iter().map(|field| {
            let name = field.name();
            let column = batch.column_by_name(name).ok_or_else(|| EvaluateError::Missing(name.clone()))?;
            check(name, field.data_type(), column)?;
            Ok(canonical_floats(Arc::clone(column)))
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)
            .map_err(|error| self.engine(&error))
    }

    fn engine(&self, reason: &dyn std::fmt::Display) -> EvaluateError {
        EvaluateError::Engine { sql: self.sql.clone(), reason: reason.to_string() }
    }
}

/// A batch's values, piece by piece.
struct Pieces {
    arrays: Vec<ArrayRef>,
    failed: u64,
}

/// Checks that a column has its declared type.
pub(crate) fn check(name: &str, expected: &DataType, column: &ArrayRef) -> Result<(), EvaluateError> {
    if column.data_type() == expected {
        return Ok(());
    }
    Err(EvaluateError::Column {
        column: name.to_owned(),
        expected: expected.to_string(),
        found: column.data_type().to_string(),
    })
}

/// Whether a row is to blame, rather than the engine.
fn is_failure(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::CastError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::ParseError(_)
        ),
        DataFusionError::Execution(_) => true,
        _ => false,
    }
}

/// The same floats in canonical form; other arrays as they are. Copies only where a float differs.
fn canonical_floats(array: ArrayRef) -> ArrayRef {
    let Some(floats) = array.as_primitive_opt::<Float64Type>() else { return array };
    let is_canonical = |float: &f64| float.to_bits() == canonical(*float).to_bits();
    if floats.values().iter().all(is_canonical) {
        return array;
    }
    Arc::new(floats.unary::<_, Float64Type>(canonical))
}

#[cfg(test)]
mod tests;
