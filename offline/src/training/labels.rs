//! The label file: every column as it is, and those that mean something as kernel types.

mod csv;

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Date32Type, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::prelude::ParquetReadOptions;
use futures::TryStreamExt;
use tidemark_expr::closest;
use tidemark_kernel::plan::Field as Typed;
use tidemark_kernel::value::Type;
use tidemark_kernel::value::arrow::{data_type, value_at};
use tidemark_kernel::{EntityKey, FeaturePlan, Time, Token, Value};

use super::error::{TokenProblem, TrainError};
use super::widen::widen;
use crate::durable::FileError;
use crate::session::{Limits, file_url, session};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// The formats that labels and training sets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
}

impl Format {
    /// The format of a path by its extension. `what` the file is for goes into the error.
    pub(super) fn of(path: &Path, what: &'static str) -> Result<Self, TrainError> {
        match path.extension().unwrap_or_default().to_ascii_lowercase().to_str() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            _ => Err(TrainError::Format { what, path: path.to_owned() }),
        }
    }
}

/// The rows of a label file, in memory and in its order.
pub(super) struct Labels {
    path: PathBuf,
    schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rows: usize,
}

impl Labels {
    /// Reads a label file. In CSV, columns in `typed` are read as they are declared; see [`csv`].
    pub(super) async fn read(path: &Path, typed: &[Typed]) -> Result<Self, TrainError> {
        let format = Format::of(path, "label files")?;
        let file = std::fs::File::open(path).map_err(FileError::of("read", path))?;
        if let (Format::Csv, Some(twice)) = (format, csv::named_twice(file)) {
            return Err(TrainError::Clash(twice));
        }
        let failed = |source| TrainError::Labels { path: path.to_owned(), source: Box::new(source) };
        let read = match format {
            Format::Parquet => read_parquet(path).await,
            Format::Csv => csv::read(path, typed).await,
        };
        let (schema, batches) = read.map_err(failed)?;
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        if count == 0 {
            return Err(TrainError::Empty(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), schema, batches, rows: count })
    }

    /// The file's columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A whole column as it is.
    fn column(&self, name: &str, purpose: &str) -> Result<ArrayRef, TrainError> {
        let Ok(at) = self.schema.index_of(name) else { return Err(self.missing(name, purpose)) };
        let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(at).as_ref()).collect();
        Ok(concat(&parts)?)
    }

    fn missing(&self, name: &str, purpose: &str) -> TrainError {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let suggestion = closest(name, names.iter().copied());
        TrainError::Column {
            path: self.path.clone(),
            column: name.to_owned(),
            purpose: purpose.to_owned(),
            suggestion: suggestion.map_or(String::new(), |name| format!(", did you mean {name}?")),
            columns: names.join(", "),
        }
    }

    /// A whole column as a kernel type.
    pub(super) fn typed(&self, name: &str, ty: Type, purpose: &str) -> Result<ArrayRef, TrainError> {
        let column = self.column(name, purpose)?;
        widen(&column, ty).ok_or_else(|| self.mistyped(name, &column, ty, purpose))
    }

    fn mistyped(&self, name: &str, column: &ArrayRef, wanted: Type, purpose: &str) -> TrainError {
        TrainError::Type {
            path: self.path.clone(),
            column: name.to_owned(),
            found: column.data_type().to_string(),
            purpose: purpose.to_owned(),
            wanted,
        }
    }

    /// The instant each label asks about.
    pub(super) fn times(&self, name: &str) -> Result<Vec<Time>, TrainError> {
        let column = self.column(name, "the label time")?;
        let times = instants(&column)
            .ok_or_else(|| self.mistyped(name, &column, Type::Timestamp, "the label time"))?;
        let checked = times.into_iter().enumerate().map(|(at, instant)| {
            let (path, column, row) = (self.path.clone(), name.to_owned(), at + 1);
            match instant {
                Instant::At(time) if time.is_valid() => Ok(time),
                Instant::At(time) => Err(TrainError::BadTime { path, column, row, text: time.to_string() }),
                Instant::Bad(text) => Err(TrainError::BadTime { path, column, row, text }),
                Instant::Null => Err(TrainError::NullTime { path, column, row }),
            }
        });
        checked.collect()
    }

    /// The entity of each label in one view; none where a part of its key is null. `column_of` gives the label
    /// column of a key.
    pub(super) fn keys(
        &self,
        plan: &FeaturePlan,
        column_of: impl Fn(&str) -> String,
    ) -> Result<Vec<Option<EntityKey>>, TrainError> {
        let parts = plan.keys.iter().map(|key| {
            let purpose = format!("key {} of entity {}", key.name, plan.entity);
            self.typed(&column_of(&key.name), key.ty, &purpose)
        });
        let parts: Vec<ArrayRef> = parts.collect::<Result<_, _>>()?;
        let key = |row| {
            let values: Vec<Value> = parts.iter().map(|part| value_at(part, row)).collect();
            EntityKey::encode(&values)
        };
        Ok((0..self.rows).map(key).collect())
    }

    /// The token of each label.
    pub(super) fn tokens(&self, name: &str) -> Result<Vec<Token>, TrainError> {
        let column = self.typed(name, Type::String, "the token")?;
        let tokens = column.as_string::<i32>().iter().enumerate().map(|(at, text)| {
            let token = text.ok_or(TokenProblem::Null).and_then(|text| Ok(text.parse()?));
            token.map_err(|problem| self.bad_token(at, problem))
        });
        tokens.collect()
    }

    pub(super) fn bad_token(&self, at: usize, problem: TokenProblem) -> TrainError {
        TrainError::Token { path: self.path.clone(), row: at + 1, problem }
    }
}

enum Instant {
    At(Time),
    Null,
    Bad(String),
}

/// The instants in a column of timestamps, dates (their first moment, UTC) or text; none for any other type.
fn instants(column: &ArrayRef) -> Option<Vec<Instant>> {
    let at =
        |millis: Option<i64>| millis.map_or(Instant::Null, |millis| Instant::At(Time::from_millis(millis)));
    if let Some(days) = column.as_primitive_opt::<Date32Type>() {
        return Some(days.iter().map(|day| at(day.map(|day| i64::from(day) * DAY))).collect());
    }
    if let Some(text) = widen(column, Type::String).filter(|_| *column.data_type() != DataType::Null) {
        let read = |text: Option<&str>| match text {
            None => Instant::Null,
            Some(text) => Time::parse(text).map_or_else(|| Instant::Bad(text.to_owned()), Instant::At),
        };
        return Some(text.as_string::<i32>().iter().map(read).collect());
    }
    let times = match column.data_type() {
        DataType::Date64 => cast(column, &data_type(Type::Timestamp)).ok()?,
        _ => widen(column, Type::Timestamp)?,
    };
    let row = |row| match value_at(&times, row) {
        Value::Timestamp(time) => Instant::At(time),
        _ => Instant::Null,
    };
    Some((0..times.len()).map(row).collect())
}

async fn read_parquet(path: &Path) -> Result<(SchemaRef, Vec<RecordBatch>), DataFusionError> {
    let extension = extension(path);
    let options =
        ParquetReadOptions { file_extension: &extension, skip_metadata: Some(false), ..Default::default() };
    let file = session(&Limits::IN_ORDER)?.read_parquet(file_url(path)?, options).await?;
    let rows = file.execute_stream().await?;
    Ok((rows.schema(), rows.try_collect().await?))
}

fn extension(path: &Path) -> String {
    format!(".{}", path.extension().unwrap_or_default().to_string_lossy())
}
