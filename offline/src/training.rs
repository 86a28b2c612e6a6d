//! Training sets: the value of each feature at the instant of each label, from events before it only.
//!
//! Labels are read whole, from files or memory; every row comes out, once, in its order. View by view, the labels'
//! entities are joined with their events ([`History`]) and answered by the kernel (`answers`). Memory holds the labels,
//! their answers in columns, the sort's allowance and the events of a few entities; never the table.
//!
//! Columns of the result: the labels' as their files have them, then `view.feature_window` in the service's order, then
//! derived features by their bare name. With statuses, then `<feature>__status` for each feature (as in
//! [`Status::name`](tidemark_kernel::Status::name)) and `<view>__newest_event` for each view. A view
//! that the service gives a role goes by the role's name. What is wrong with
//! any of them is said before the first event is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tidemark_expr::{DerivedEvaluator, Operand};
use tidemark_kernel::replay::Question;
use tidemark_kernel::service::ServiceColumn;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::arrow::{data_type, feature_data_type};
use tidemark_kernel::value::{Type, Unit};
use tidemark_kernel::{
    EntityKey, FeaturePlan, ServicePlan, ServiceView, SourcePlan, Status, Time, Token, Visibility,
};

use crate::history::{Effort, History};
use crate::location::Location;
use crate::table::{EventTable, TableError};
use answers::{LabelsByEntity, ViewColumns, ViewRequest, answer_view};
use labels::{Labels, Times};
use summary::{find_outside, summarize};

mod answers;
mod declared;
mod error;
mod labels;
mod output;
mod pandas;
mod problems;
mod summary;
mod tokens;

#[cfg(test)]
mod tests;

pub use error::{TokenProblem, TrainError};
pub use labels::files::label_files;
pub use problems::LabelProblems;
pub use summary::{FeatureSummary, Outside, Summary};

/// What to train on.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// The features.
    pub service: Arc<ServicePlan>,
    /// The plans of its views' sources, by name.
    pub sources: BTreeMap<String, Arc<SourcePlan>>,
    /// Where the event tables are.
    pub location: Location,
    /// The labels: a row for each answer that is wanted.
    pub labels: LabelSource,
    /// The label column that holds each label's instant: a timestamp, a date, text as in RFC 3339, or a number.
    pub time: String,
    /// The unit of label times that are numbers.
    pub unit: Option<Unit>,
    /// The zone of times in label columns that name none; UTC without one.
    pub zone: Option<Zone>,
    /// The label columns of keys and request fields, by the service's names; one that is not named has a column of its own name.
    pub keys: BTreeMap<String, String>,
    /// Which events labels see.
    pub visibility: Visibility,
    /// The label column with the lookups' tokens, which [`Visibility::AsServed`] needs.
    pub token: Option<String>,
    /// Whether statuses and times of newest events are wanted as well.
    pub status: bool,
    /// How many threads and how much memory may be used.
    pub effort: Effort,
}

/// Where labels are.
#[derive(Clone, Debug)]
pub enum LabelSource {
    /// In a label file, a folder of label files, or a pattern of either, as [`label_files`] finds them: Parquet, CSV or
    /// JSON lines.
    Files(PathBuf),
    /// In memory, in this order; all batches have the same columns.
    Batches(Vec<RecordBatch>),
}

impl From<PathBuf> for LabelSource {
    fn from(path: PathBuf) -> Self {
        Self::Files(path)
    }
}

/// How far a training set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'p> {
    /// The view being answered, by its role in the service.
    pub view: &'p str,
    /// How many rows of its event table have been read.
    pub events: u64,
    /// How many labels of all views are answered.
    pub answered: usize,
    /// How many labels of all views there are.
    pub total: usize,
}

/// A training set in memory.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows, in the order of the labels.
    pub batches: Vec<RecordBatch>,
    /// What it holds.
    pub summary: Summary,
}

/// Makes a training set and writes it to `out`: Parquet, or CSV by the extension. The file is there whole or not
/// at all. Fields of CSV labels come out in CSV as they are spelled.
///
/// # Errors
/// Says what to change in the label file, the request or the tables.
pub async fn train(
    request: &TrainRequest,
    out: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Summary, TrainError> {
    let as_text = output::Format::of(out)? == output::Format::Csv;
    let questions = Questions::read(request, as_text).await?;
    output::check(out, &questions.schema)?;
    let set = questions.answer(request, progress).await?;
    let (summary, out) = (set.summary.clone(), out.to_owned());
    tokio::task::spawn_blocking(move || set.write(&out)).await??;
    Ok(summary)
}

impl TrainingSet {
    /// Makes a training set.
    ///
    /// # Errors
    /// Says what to change in the label file, the request or the tables.
    pub async fn build(
        request: &TrainRequest,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Self, TrainError> {
        Questions::read(request, false).await?.answer(request, progress).await
    }

    /// Writes it: Parquet, or CSV by the extension, whole or not at all.
    ///
    /// # Errors
    /// Names the path, or the column that CSV cannot hold.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        output::write(self, path)
    }
}

/// The labels, and what they ask.
struct Questions {
    labels: Labels,
    /// The labels' columns as they come out.
    batches: Vec<RecordBatch>,
    /// The columns of the training set.
    schema: SchemaRef,
    times: Vec<Time>,
    /// Whether some of them are read as UTC because they name no zone.
    is_naive: bool,
    /// For each view in each of its roles the labels' entities.
    keys: Vec<Vec<Option<EntityKey>>>,
    /// Empty unless `as_served`.
    tokens: Vec<Token>,
    /// The request fields.
    request: Vec<ArrayRef>,
}

impl Questions {
    /// Reads the labels and checks all that needs no event table. All that is wrong with them is one error.
    async fn read(request: &TrainRequest, as_text: bool) -> Result<Self, TrainError> {
        check_keys(request)?;
        if request.visibility == Visibility::AsServed && request.token.is_none() {
            return Err(TrainError::NoTokenColumn);
        }
        let labels = Labels::read(&request.labels, request.zone).await?;
        let mut problems = LabelProblems::default();
        let mut asked = asked_columns(request, &labels, &mut problems)?;
        let Times { times, is_naive, is_exact } = labels.times(&request.time, request.unit, &mut problems)?;
        let tokens = match &request.token {
            Some(column) if request.visibility == Visibility::AsServed => {
                tokens::read(&labels, column, &times, &mut problems)?
            }
            _ => Vec::new(),
        };
        problems.check()?;
        let service = &request.service;
        let keys = service.views.iter().map(|view| labels.keys(view, &asked, |key| column_of(request, key)));
        let keys = keys.collect();
        let fields = service.request.iter();
        let column = |name: &str| column_of(request, name);
        let fields = fields.filter_map(|field| asked.get(&(column(&field.name), field.ty.name()))).cloned();
        let fields = fields.collect();
        // Text that says more than its instant, or is a number, stays what it is.
        if is_exact {
            let instants = times.iter().map(|time| time.millis());
            let instants = TimestampMillisecondArray::from_iter_values(instants).with_timezone("UTC");
            let column = (request.time.clone(), Type::Timestamp.name());
            asked.entry(column).or_insert_with(|| Arc::new(instants) as ArrayRef);
        }
        let (own, batches) = labels.outgoing(&asked, as_text)?;
        let schema = join_schemas(&own, added_fields(request), labels.files())?;
        Ok(Self { labels, batches, schema, times, is_naive, keys, tokens, request: fields })
    }

    /// Answers the labels, view by view.
    async fn answer(
        self,
        request: &TrainRequest,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<TrainingSet, TrainError> {
        let mut views = Vec::with_capacity(request.service.views.len());
        let (mut answered, mut events) = (0, 0);
        let (mut empty_views, mut unseen_views, mut outside) = (Vec::new(), Vec::new(), Vec::new());
        let total = self.labels.rows * request.service.views.len();
        for (index, view) in request.service.views.iter().enumerate() {
            let ServiceView { plan, role, .. } = view;
            let (mut seen, mut span) = (0, None);
            let table = open(request, plan).await?;
            let is_empty = table.files()?.is_empty();
            if is_empty {
                empty_views.push(role.clone());
            }
            let columns = self.ask(request, index, &table, |history, labels| {
                answered += labels;
                (seen, span) = (history.rows_read(), history.event_times());
                progress(Progress { view: role, events: seen, answered, total });
            });
            let columns = columns.await?;
            if !is_empty && columns.newest.null_count() == columns.newest.len() {
                unseen_views.push(role.clone());
            }
            views.push(columns);
            events += seen;
            outside.extend(span.and_then(|events| find_outside((role, plan), &self.times, events)));
        }
        let seen = Seen { events, empty_views, unseen_views, outside };
        assemble(request, self, &views, seen)
    }

    /// Answers the labels about one view in one role.
    async fn ask(
        &self,
        request: &TrainRequest,
        view: usize,
        table: &EventTable,
        answered: impl FnMut(&History, usize),
    ) -> Result<ViewColumns, TrainError> {
        let in_role = &request.service.views[view];
        let ServiceView { plan, role, .. } = in_role;
        tokens::check(&self.labels, &self.tokens, in_role, table)?;
        let asked = LabelsByEntity::new(&self.keys[view]);
        let history = History::open(table, plan, Some(asked.entities()), request.effort).await?;
        let features = request.service.features.iter().filter(|feature| feature.view == view);
        let wanted = ViewRequest {
            plan: Arc::clone(plan),
            features: features.map(|feature| feature.feature).collect(),
            visibility: request.visibility,
            threads: request.effort.threads,
        };
        answer_view(&wanted, history, &asked, |label| self.question(role, label), answered).await
    }

    fn question(&self, role: &str, label: usize) -> Question {
        let token = self.tokens.get(label).and_then(|token| token.views.get(role));
        Question {
            at: self.times[label],
            last: token.map(|token| token.last.clone()).unwrap_or_default(),
            too_early: token.is_some_and(|token| token.too_early),
        }
    }
}

async fn open(request: &TrainRequest, plan: &FeaturePlan) -> Result<EventTable, TrainError> {
    let missing = || TrainError::Source { view: plan.view.clone(), name: plan.source.clone() };
    let source = request.sources.get(&plan.source).ok_or_else(missing)?;
    let opened: Result<EventTable, TableError> = EventTable::open(&request.location, source).await;
    Ok(opened?)
}

/// The label column of a key or request field.
fn column_of(request: &TrainRequest, key: &str) -> String {
    request.keys.get(key).map_or_else(|| key.to_owned(), Clone::clone)
}

fn check_keys(request: &TrainRequest) -> Result<(), TrainError> {
    let service = &request.service;
    let keys = service.keys().into_iter().map(|key| key.name.as_str());
    let keys: Vec<&str> = keys.chain(service.request.iter().map(|field| field.name.as_str())).collect();
    match request.keys.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(unknown) => Err(TrainError::Key { given: unknown.clone(), keys: keys.join(", ") }),
        None => Ok(()),
    }
}

/// The label columns whose types are declared: keys and request fields.
fn asked_columns(
    request: &TrainRequest,
    labels: &Labels,
    problems: &mut LabelProblems,
) -> Result<labels::KeyColumns, TrainError> {
    let service = &request.service;
    let keys = service.views.iter().flat_map(|view| view.keys.iter().map(move |key| (view, key)));
    let keys = keys.map(|(view, key)| {
        let purpose = format!("key {} of entity {}", key.name, view.plan.entity);
        (column_of(request, &key.name), key.ty, purpose)
    });
    let fields = service.request.iter().map(|field| {
        let purpose = format!("request field {} of service {}", field.name, service.name);
        (column_of(request, &field.name), field.ty, purpose)
    });
    let (mut asked, mut done) = (labels::KeyColumns::new(), BTreeSet::new());
    for (column, ty, purpose) in keys.chain(fields) {
        // Views share keys.
        if !done.insert((column.clone(), ty.name())) {
            continue;
        }
        if let Some(typed) = labels.typed(&column, ty, &purpose, problems)? {
            asked.insert((column, ty.name()), typed);
        }
    }
    Ok(asked)
}

/// The columns of a service's features, windowed then derived.
fn service_fields(service: &ServicePlan) -> Vec<Field> {
    let field = |column: ServiceColumn| Field::new(column.name, feature_data_type(column.ty), true);
    service.columns().map(field).collect()
}

/// The columns that a request adds to its labels: the features, then statuses and newest events where wanted.
fn added_fields(request: &TrainRequest) -> Vec<Field> {
    let mut fields = service_fields(&request.service);
    if request.status {
        let service = &request.service;
        let status = |column: ServiceColumn| Field::new(column.status_name(), DataType::Utf8, true);
        let newest =
            |view: &ServiceView| Field::new(view.newest_event_name(), data_type(Type::Timestamp), true);
        fields.extend(service.columns().map(status).chain(service.views.iter().map(newest)));
    }
    fields
}

/// What was seen of the event tables.
struct Seen {
    events: u64,
    empty_views: Vec<String>,
    unseen_views: Vec<String>,
    outside: Vec<Outside>,
}

fn assemble(
    request: &TrainRequest,
    questions: Questions,
    views: &[ViewColumns],
    seen: Seen,
) -> Result<TrainingSet, TrainError> {
    let service = &request.service;
    let fields = service_fields(service);
    let mut columns = windowed(service, views, |view| &view.values);
    let (derived, failed) = derive(service, &columns, &questions)?;
    columns.extend(derived.iter().cloned());
    let (rows, features) = (questions.labels.rows, summarize(&fields, &columns));
    let Seen { events, empty_views, unseen_views, outside } = seen;
    let has_naive_times = questions.is_naive;
    let summary =
        Summary { rows, events, failed, empty_views, unseen_views, outside, has_naive_times, features };
    if request.status {
        columns.extend(windowed(service, views, |view| &view.statuses));
        columns.extend(derived.iter().map(derived_statuses));
        columns.extend(views.iter().map(|view| Arc::clone(&view.newest)));
    }
    let batches = join(&questions.schema, questions.batches, &columns)?;
    Ok(TrainingSet { schema: questions.schema, batches, summary })
}

/// A column of each windowed feature of the service, in its order.
fn windowed<'v>(
    service: &ServicePlan,
    views: &'v [ViewColumns],
    of: impl Fn(&'v ViewColumns) -> &'v Vec<ArrayRef>,
) -> Vec<ArrayRef> {
    let mut taken = vec![0; views.len()];
    let columns = service.features.iter().map(|feature| {
        taken[feature.view] += 1;
        Arc::clone(&of(&views[feature.view])[taken[feature.view] - 1])
    });
    columns.collect()
}

/// The derived features, and how many evaluations failed.
fn derive(
    service: &ServicePlan,
    windowed: &[ArrayRef],
    questions: &Questions,
) -> Result<(Vec<ArrayRef>, u64), TrainError> {
    let column = |operand, _| match operand {
        Operand::Windowed(at) => Arc::clone(&windowed[at]),
        Operand::Request(at) => Arc::clone(&questions.request[at]),
    };
    let evaluated = DerivedEvaluator::new(service)?.extend(questions.labels.rows, column)?;
    let failed = evaluated.iter().map(|derived| derived.failed).sum();
    Ok((evaluated.into_iter().map(|derived| derived.array).collect(), failed))
}

fn derived_statuses(values: &ArrayRef) -> ArrayRef {
    let statuses = (0..values.len()).map(|row| Status::of_null(values.is_null(row)).name());
    Arc::new(StringArray::from_iter_values(statuses))
}

/// The columns of the labels and those added to them, no two of one name. `files` is how many files the labels are of.
fn join_schemas(labels: &Schema, added: Vec<Field>, files: usize) -> Result<SchemaRef, TrainError> {
    let mut metadata = labels.metadata().clone();
    if let Some(pandas) = metadata.remove(pandas::KEY) {
        let extended = pandas::extended(&pandas, files, &added);
        metadata.extend(extended.map(|pandas| (pandas::KEY.to_owned(), pandas)));
    }
    let fields = labels.fields().iter().cloned().chain(added.into_iter().map(Arc::new));
    let fields: Vec<Arc<Field>> = fields.collect();
    let mut names = BTreeSet::new();
    match fields.iter().find(|field| !names.insert(field.name())) {
        Some(twice) => Err(TrainError::Clash(twice.name().clone())),
        None => Ok(Arc::new(Schema::new_with_metadata(fields, metadata))),
    }
}

/// The labels' batches with their rows of `columns` beside them.
fn join(
    schema: &SchemaRef,
    labels: Vec<RecordBatch>,
    columns: &[ArrayRef],
) -> Result<Vec<RecordBatch>, TrainError> {
    let mut start = 0;
    let batches = labels.into_iter().map(|batch| {
        let (from, rows) = (start, batch.num_rows());
        start += rows;
        let all =
            batch.columns().iter().cloned().chain(columns.iter().map(|column| column.slice(from, rows)));
        Ok(RecordBatch::try_new(Arc::clone(schema), all.collect())?)
    });
    batches.collect()
}
