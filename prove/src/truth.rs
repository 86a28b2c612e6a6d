//! The oracle for whole services, with which lookups and training sets are compared.
//!
//! It knows every event of a view with its inputs, and answers from all of them each time: no tiles, no state.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use thiserror::Error;
use tidemark_expr::{DerivedEvaluator, EvaluateError, ExprError, ViewEvaluator};
use tidemark_kernel::token::ViewToken;
use tidemark_kernel::value::FeatureType;
use tidemark_kernel::value::arrow::{array_of, feature_data_type, value_at};
use tidemark_kernel::{
    Answer, EntityKey, ErrorKind, Event, Explain, FeaturePlan, Offset, Partition, ServicePlan, ServiceView,
    Stamp, Status, Time, Value, Visibility, oracle,
};

/// What the oracle, or an engine, answers to one row of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// One value for each feature, windowed ones first, then the derived ones.
    pub values: Vec<Value>,
    /// One status for each value.
    pub statuses: Vec<Status>,
    /// For each view of the service the event time of its newest event within reach of its windows.
    pub newest: Vec<Option<Time>>,
}

/// The expressions of a plan could not be compiled or evaluated; registries check both.
#[derive(Clone, Debug, Error)]
pub enum TruthError {
    /// An expression does not compile.
    #[error("an expression does not compile: {0}")]
    Compile(#[from] ExprError),
    /// An expression cannot be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

impl Explain for TruthError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Compile(_) => ErrorKind::Internal,
            Self::Evaluate(error) => error.kind(),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Compile(error) => error.help(),
            Self::Evaluate(error) => error.help(),
        }
    }
}

/// Whether a value is neither null nor 0. Those are what empty windows give: to agree on them proves little.
#[must_use]
pub fn tells(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Int64(0)) && *value != Value::Float64(0.0)
}

/// For each partition the last offset that a question sees; a partition that is not named gave nothing.
pub type Reach = BTreeMap<Partition, Offset>;

/// Every event of one view, by entity.
#[derive(Clone, Debug)]
pub struct ViewHistory {
    plan: Arc<FeaturePlan>,
    entities: BTreeMap<EntityKey, Vec<Event>>,
}

impl ViewHistory {
    /// A view without events.
    #[must_use]
    pub fn new(plan: Arc<FeaturePlan>) -> Self {
        Self { plan, entities: BTreeMap::new() }
    }

    /// Adds the events of a batch that pass the view's filter and have a key. `stamps` are those of its rows.
    ///
    /// # Errors
    /// Fails where the view's expressions do not fit the batch.
    pub fn add(&mut self, batch: &RecordBatch, stamps: &[Stamp]) -> Result<(), TruthError> {
        let rows = ViewEvaluator::new(&self.plan)?.evaluate(batch)?;
        for (index, (row, key)) in rows.rows.iter().zip(&rows.keys).enumerate() {
            let event = Event { stamp: stamps[*row], inputs: rows.values(index) };
            self.entities.entry(key.clone()).or_default().push(event);
        }
        Ok(())
    }

    /// Adds events of one entity.
    pub fn insert(&mut self, key: EntityKey, events: Vec<Event>) {
        self.entities.entry(key).or_default().extend(events);
    }

    /// The view.
    #[must_use]
    pub fn plan(&self) -> &Arc<FeaturePlan> {
        &self.plan
    }

    /// Every entity with its events, in the order in which they were added.
    pub fn entities(&self) -> impl Iterator<Item = (&EntityKey, &[Event])> {
        self.entities.iter().map(|(key, events)| (key, events.as_slice()))
    }

    /// The answer about an entity (none for a null key) at `at`. `reach` matters for `as_served` alone.
    #[must_use]
    pub fn answer(&self, key: Option<&EntityKey>, at: Time, visibility: Visibility, reach: &Reach) -> Answer {
        let events = key.and_then(|key| self.entities.get(key)).map_or(&[][..], Vec::as_slice);
        let seen = events.iter().filter(|event| oracle::sees(visibility, at, reach, event));
        oracle::answer(&self.plan, &seen.collect::<Vec<_>>(), at)
    }

    /// The answer that a lookup gave about an entity at `at`, by what its token says of this view.
    #[must_use]
    pub fn served(&self, key: Option<&EntityKey>, at: Time, token: &ViewToken) -> Answer {
        if token.too_early {
            return Answer::too_early(&self.plan, at);
        }
        self.answer(key, at, Visibility::AsServed, &token.last)
    }
}

/// The entities that a row asks about, one for each view of the service in each of its roles; none where a part of a key is null.
#[must_use]
pub fn entities(service: &ServicePlan, asked: &BTreeMap<String, Value>) -> Vec<Option<EntityKey>> {
    let named = |name: &String| asked.get(name).cloned().unwrap_or_default();
    let key = |view: &ServiceView| -> Option<EntityKey> {
        EntityKey::encode(&view.keys.iter().map(|key| named(&key.name)).collect::<Vec<_>>())
    };
    service.views.iter().map(key).collect()
}

/// Puts the answers of a service's views together and adds the derived features.
///
/// # Errors
/// Fails where a derived feature cannot be compiled or evaluated.
pub fn assemble(
    service: &ServicePlan,
    asked: &BTreeMap<String, Value>,
    answers: &[Answer],
) -> Result<ServiceAnswer, TruthError> {
    let windowed = service.features.iter().map(|place| {
        let answer = &answers[place.view];
        (answer.values[place.feature].clone(), answer.statuses[place.feature])
    });
    let (mut values, mut statuses): (Vec<Value>, Vec<Status>) = windowed.unzip();
    for value in derived(service, asked, &values)? {
        statuses.push(Status::of(&value));
        values.push(value);
    }
    Ok(ServiceAnswer { values, statuses, newest: answers.iter().map(|answer| answer.newest).collect() })
}

fn derived(
    service: &ServicePlan,
    asked: &BTreeMap<String, Value>,
    windowed: &[Value],
) -> Result<Vec<Value>, TruthError> {
    if service.derived.is_empty() {
        return Ok(Vec::new());
    }
    let features = service.features.iter().zip(windowed).map(|(place, value)| {
        let (view, feature) = service.feature(*place);
        (view.qualified(feature), feature.ty, value)
    });
    let null = Value::Null;
    let request = service.request.iter();
    let request = request.map(|field| {
        (field.name.clone(), FeatureType::Scalar(field.ty), asked.get(&field.name).unwrap_or(&null))
    });
    let batch = row(features.chain(request))?;
    let evaluated = DerivedEvaluator::new(service)?.evaluate(&batch)?;
    Ok(evaluated.iter().map(|column| value_at(&column.array, 0)).collect())
}

/// A batch of one row.
fn row<'v>(
    columns: impl Iterator<Item = (String, FeatureType, &'v Value)>,
) -> Result<RecordBatch, TruthError> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .map(|(name, ty, value)| (Field::new(name, feature_data_type(ty), true), array_of(ty, [value])))
        .unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(|error| {
        let (sql, reason) = ("a row of answers".to_owned(), error.to_string());
        EvaluateError::Engine { sql, reason }.into()
    })
}
