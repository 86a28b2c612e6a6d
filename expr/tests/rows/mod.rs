//! Rows of every type, with ordinary values and edge cases.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field as Column, Schema};
use tidemark_expr::Scope;
use tidemark_kernel::value::arrow::{array_of, data_type};
use tidemark_kernel::value::{FeatureType, Field, Type, Value};

/// The columns.
pub(crate) const COLUMNS: [(&str, Type); 9] = [
    ("b", Type::Bool),
    ("i", Type::Int64),
    ("j", Type::Int64),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("s", Type::String),
    ("t", Type::Timestamp),
    ("z", Type::Bytes),
    ("v.f", Type::Float64),
];

/// One row, in the order of [`COLUMNS`].
pub(crate) type Row = [Value; 9];

/// What expressions over the columns may name.
pub(crate) fn scope() -> Scope {
    Scope::new(COLUMNS.map(|(name, ty)| Field { name: name.into(), ty }))
}

/// A batch of rows.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let columns = COLUMNS.iter().enumerate().map(|(at, (_, ty))| {
        let values: Vec<Value> = rows.iter().map(|row| row[at].clone()).collect();
        array_of(FeatureType::Scalar(*ty), &values)
    });
    let schema = Schema::new(COLUMNS.map(|(name, ty)| Column::new(name, data_type(ty), true)).to_vec());
    RecordBatch::try_new(Arc::new(schema), columns.collect()).unwrap()
}

/// The expressions of the golden file.
pub(crate) fn expressions() -> Vec<String> {
    let text = include_str!("../golden/expressions.txt");
    let is_expression = |line: &&str| !line.is_empty() && !line.starts_with(['#', ' ']);
    text.lines().filter(is_expression).map(str::to_owned).collect()
}
