//! Labels written to a file, and the training set read back as answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Field, Schema};
use thiserror::Error;
use tidemark_kernel::service::ServiceColumn;
use tidemark_kernel::value::arrow::{array_of, data_type, value_at};
use tidemark_kernel::value::{FeatureType, Type};
use tidemark_kernel::{ErrorKind, Explain, ServicePlan, SourcePlan, Status, Time, Token, Value, Visibility};
use tidemark_offline::{Effort, Location, TrainError, TrainRequest, TrainingSet};

use crate::rows::{self, WriteError};
use crate::truth::ServiceAnswer;

/// One row of a label file.
#[derive(Clone, Debug)]
pub struct Label {
    /// A value for each key and request field.
    pub asked: BTreeMap<String, Value>,
    /// The label time: the instant that the label asks about.
    pub at: Time,
    /// The token of the lookup it belongs to, for `as_served`.
    pub token: Option<Token>,
}

/// Why labels could not be answered.
#[derive(Debug, Error)]
pub enum LabelError {
    /// The label file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The training set could not be made.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The training set lacks a column, or it has another form.
    #[error("the training set has no column `{0}` of the expected form")]
    Column(String),
}

impl Explain for LabelError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Write(error) => error.kind(),
            Self::Train(error) => error.kind(),
            Self::Column(_) => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Write(error) => error.help(),
            Self::Train(error) => error.help(),
            Self::Column(_) => None,
        }
    }
}

const TIME: &str = "label_time";
const TOKEN: &str = "served_token";

/// Writes the labels to `file`, trains on them, and reads the answers in the labels' order.
///
/// # Errors
/// Fails where the file cannot be written or the training set cannot be made.
pub async fn train(
    service: Arc<ServicePlan>,
    sources: &BTreeMap<String, Arc<SourcePlan>>,
    location: &Location,
    labels: &[Label],
    visibility: Visibility,
    file: &Path,
) -> Result<Vec<ServiceAnswer>, LabelError> {
    write(&service, labels, file)?;
    let request = TrainRequest {
        service: Arc::clone(&service),
        sources: sources.clone(),
        location: location.clone(),
        labels: file.to_owned().into(),
        time: TIME.to_owned(),
        unit: None,
        zone: None,
        keys: BTreeMap::new(),
        visibility,
        token: (visibility == Visibility::AsServed).then(|| TOKEN.to_owned()),
        status: true,
        effort: Effort::default(),
    };
    let set = TrainingSet::build(&request, &mut |_| {}).await?;
    let mut answers = Vec::with_capacity(labels.len());
    for batch in &set.batches {
        answers.extend(read(&service, batch)?);
    }
    Ok(answers)
}

/// Writes labels as a Parquet file that a training set of the service can be made from: its keys and request fields,
/// `label_time`, and `served_token`.
///
/// # Errors
/// Fails where the file cannot be written.
pub fn write(service: &ServicePlan, labels: &[Label], file: &Path) -> Result<(), LabelError> {
    Ok(rows::write(file, table(service, labels), None)?)
}

fn table(service: &ServicePlan, labels: &[Label]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let keys = service.keys().into_iter().map(|key| (key.name.clone(), key.ty));
    let mut columns: Vec<(String, Type, Vec<Value>)> = keys
        .chain(service.request.iter().map(|field| (field.name.clone(), field.ty)))
        .map(|(name, ty)| {
            let values = labels.iter().map(|label| label.asked.get(&name).cloned().unwrap_or_default());
            (name.clone(), ty, values.collect())
        })
        .collect();
    columns.push((
        TIME.to_owned(),
        Type::Timestamp,
        labels.iter().map(|label| Value::Timestamp(label.at)).collect(),
    ));
    let token =
        |label: &Label| label.token.as_ref().map_or(Value::Null, |token| Value::string(&token.to_string()));
    columns.push((TOKEN.to_owned(), Type::String, labels.iter().map(token).collect()));
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .iter()
        .map(|(name, ty, values)| {
            (Field::new(name, data_type(*ty), true), array_of(FeatureType::Scalar(*ty), values))
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// The answers in a batch of a training set that was made with statuses.
fn read(service: &ServicePlan, batch: &RecordBatch) -> Result<Vec<ServiceAnswer>, LabelError> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| LabelError::Column(name.to_owned()));
    let features: Vec<ServiceColumn> = service.columns().collect();
    let values = features.iter().map(|feature| column(&feature.name)).collect::<Result<Vec<_>, _>>()?;
    let statuses = features.iter().map(|feature| column(&feature.status_name()));
    let statuses = statuses.collect::<Result<Vec<_>, _>>()?;
    let newest = service.views.iter().map(|view| column(&view.newest_event_name()));
    let newest = newest.collect::<Result<Vec<_>, _>>()?;
    let answer = |row: usize| {
        let values =
            values.iter().zip(&features).map(|(column, feature)| feature_at(column, feature.ty, row));
        let statuses = statuses.iter().zip(&features).map(|(column, feature)| {
            status_at(column, row).ok_or_else(|| LabelError::Column(feature.status_name()))
        });
        Ok(ServiceAnswer {
            values: values.collect(),
            statuses: statuses.collect::<Result<_, _>>()?,
            newest: newest.iter().map(|column| time_at(column, row)).collect(),
        })
    };
    (0..batch.num_rows()).map(answer).collect()
}

fn status_at(column: &ArrayRef, row: usize) -> Option<Status> {
    let name = column.as_string_opt::<i32>()?.value(row);
    Status::NAMED.iter().find(|(known, _)| *known == name).map(|(_, status)| *status)
}

fn time_at(column: &ArrayRef, row: usize) -> Option<Time> {
    match value_at(column, row) {
        Value::Timestamp(time) => Some(time),
        _ => None,
    }
}

/// The value of a feature in one row of its column.
fn feature_at(column: &ArrayRef, ty: FeatureType, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match ty {
        FeatureType::Scalar(_) => value_at(column, row),
        FeatureType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            Value::List((0..items.len()).map(|item| value_at(&items, item)).collect())
        }
        FeatureType::Counts(_) => {
            let items = column.as_list::<i32>().value(row);
            let items = items.as_struct();
            let count = |item| match value_at(items.column(1), item) {
                Value::Int64(count) => count,
                _ => 0,
            };
            Value::Counts(
                (0..items.len()).map(|item| (value_at(items.column(0), item), count(item))).collect(),
            )
        }
    }
}
