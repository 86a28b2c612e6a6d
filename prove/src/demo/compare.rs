//! Compares thousands of lookups with the training set of their tokens and with the oracle, bit for bit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;
use tidemark_host::Host;
use tidemark_kernel::value::Value;
use tidemark_kernel::{
    EntityKey, ErrorKind, Explain, FeaturePlan, ServicePlan, SourcePlan, Span, Status, Time, Visibility,
};
use tidemark_offline::{Effort, EventTable, History, HistoryError, Location, TableError};
use tidemark_online::{DefinitionError, LookupError, Lookups, RowAnswer, RowError};
use tidemark_store::OnlineStore;

use super::Shape;
use crate::labels::{Label, LabelError, train};
use crate::truth::{self, ServiceAnswer, TruthError, ViewHistory};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Engines {
    /// The online store, to which no process writes meanwhile.
    pub store: Arc<dyn OnlineStore>,
    /// Where the event tables are.
    pub location: Location,
    /// The service.
    pub service: Arc<ServicePlan>,
    /// The plans of its views' sources, by name.
    pub sources: BTreeMap<String, Arc<SourcePlan>>,
    /// The label file that the comparison leaves behind: the lookups with their tokens, ready for `tidemark train`.
    pub labels: PathBuf,
}

/// How the comparison went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How many lookups were compared.
    pub lookups: usize,
    /// How many values, each with its status, by lookup, training set and oracle.
    pub values: usize,
    /// How long single lookups took.
    pub latency: Latency,
    /// How long the training set took.
    pub training: Duration,
    /// How long the oracle took.
    pub oracle: Duration,
    /// One of the lookups, to be shown; none where nothing was looked up.
    pub example: Option<Example>,
    /// Everything that differs.
    pub mismatches: Vec<Mismatch>,
}

/// One lookup beside its training row and the oracle's answer: the one with the most features that are not null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// What was asked: `user_id=7, merchant_id=3 at 2026-10-31T…`.
    pub question: String,
    /// The features that are not null, in the service's order.
    pub features: Vec<ExampleFeature>,
}

/// One feature of an [`Example`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleFeature {
    /// The feature.
    pub name: String,
    /// What the lookup said.
    pub lookup: Value,
    /// What the training set says.
    pub training: Value,
    /// What the oracle says.
    pub oracle: Value,
}

/// How long lookups of one row took, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50: Duration,
    /// Nineteen out of twenty took no longer.
    pub p95: Duration,
    /// All but one out of a hundred took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// A value or time about which not all are of one mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What was asked: `user_id=7, merchant_id=3 at 2026-10-31T…`.
    pub question: String,
    /// The feature, or `newest event of` a view.
    pub feature: String,
    /// What the lookup said.
    pub lookup: String,
    /// What the training set says.
    pub training: String,
    /// What the oracle says.
    pub oracle: String,
}

/// Why nothing could be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// The service cannot be served.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A lookup failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// One row of a lookup failed.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A lookup gave no row, or another thread was stopped.
    #[error("the comparison was interrupted")]
    Interrupted,
    /// The training set could not be made.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// An event table cannot be opened.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Events cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The oracle failed.
    #[error(transparent)]
    Truth(#[from] TruthError),
}

impl CompareError {
    /// The error that it passes on; none where it has a message of its own.
    fn passed_on(&self) -> Option<&dyn Explain> {
        match self {
            Self::Definition(error) => Some(error),
            Self::Lookup(error) => Some(error),
            Self::Row(error) => Some(error),
            Self::Label(error) => Some(error),
            Self::Table(error) => Some(error),
            Self::History(error) => Some(error),
            Self::Truth(error) => Some(error),
            Self::Interrupted => None,
        }
    }
}

impl Explain for CompareError {
    fn kind(&self) -> ErrorKind {
        self.passed_on().map_or(ErrorKind::Internal, Explain::kind)
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        self.passed_on().and_then(Explain::help)
    }
}

/// Questions about random users, merchants and cards of a shape, some of them unknown and some null: rows of the
/// service `fraud`.
#[must_use]
pub fn questions(shape: &Shape, count: usize) -> Vec<BTreeMap<String, Value>> {
    let mut random = ChaCha8Rng::seed_from_u64(shape.seed ^ 0x0a5c);
    let mut number = |most: u32| i64::from(random.random_range(1..=most + most / 50 + 1));
    let question = |index: usize| {
        let user = number(shape.users);
        let card = Value::string(&format!("c-{user}-{}", number(2)));
        let amount = number(20_000) as f64 / 100.0;
        let merchant =
            if index.is_multiple_of(97) { Value::Null } else { Value::Int64(number(shape.merchants)) };
        let fields = [
            ("user_id", Value::Int64(user)),
            ("merchant_id", merchant),
            ("card_id", card),
            ("amount", Value::float(amount)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    (0..count).map(question).collect()
}

/// A lookup that was answered.
#[derive(Clone, Debug)]
pub struct CheckedLookup {
    /// A value for each key and request field of the service.
    pub row: BTreeMap<String, Value>,
    /// What it was answered.
    pub answer: RowAnswer,
    took: Duration,
}

/// Looks up every row twice, at the earliest instant allowed and some time after it, and compares all answers with
/// training and the oracle.
///
/// # Errors
/// As [`look_up`] and [`compare_answers`].
pub async fn compare(
    engines: &Engines,
    rows: Vec<BTreeMap<String, Value>>,
) -> Result<Comparison, CompareError> {
    let mut random = ChaCha8Rng::seed_from_u64(rows.len() as u64);
    let mut later = |asked: &CheckedLookup| {
        let bound = random.random_range(1..40 * 86_400_000);
        let at = asked.answer.at.plus(Span::from_millis(random.random_range(0..bound)));
        (asked.row.clone(), Some(at))
    };
    let mut asked = look_up(engines, rows.into_iter().map(|row| (row, None))).await?;
    let questions: Vec<_> = asked.iter().map(&mut later).collect();
    asked.extend(look_up(engines, questions).await?);
    compare_answers(engines, &asked).await
}

/// Looks up rows, each at its instant, or at the earliest allowed.
///
/// # Errors
/// Fails where one of them is refused.
pub async fn look_up(
    engines: &Engines,
    questions: impl IntoIterator<Item = (BTreeMap<String, Value>, Option<Time>)>,
) -> Result<Vec<CheckedLookup>, CompareError> {
    // With its clock at the beginning, a lookup without an instant is about the earliest one allowed.
    let host = Host::real(Arc::new(|| Time::MIN));
    let lookups = Lookups::on(host.clone(), Arc::clone(&engines.store));
    lookups.serve([Arc::clone(&engines.service)])?;
    let mut asked = Vec::new();
    for (row, at) in questions {
        let began = host.stopwatch();
        let results = lookups.lookup(&engines.service.name, vec![row.clone()], at).await?;
        let took = began.elapsed();
        let answer = results.into_iter().next().ok_or(CompareError::Interrupted)??;
        asked.push(CheckedLookup { row, answer, took });
    }
    Ok(asked)
}

/// Compares the answers of lookups with the training set of their tokens and with the oracle.
///
/// # Errors
/// Fails where one of the two cannot answer. Answers that differ are no error: they are in what is returned.
pub async fn compare_answers(engines: &Engines, asked: &[CheckedLookup]) -> Result<Comparison, CompareError> {
    let host = Host::real(Arc::new(|| Time::MIN));
    let began = host.stopwatch();
    let trained = training(engines, asked).await?;
    let training = began.elapsed();
    let began = host.stopwatch();
    let truth = oracle(engines, asked).await?;
    let oracle = began.elapsed();
    let answers = || asked.iter().zip(trained.iter().zip(&truth));
    let mismatches =
        answers().flat_map(|(asked, (trained, truth))| differences(&engines.service, asked, trained, truth));
    let fullest = answers().max_by_key(|(asked, _)| known(&asked.answer.values).count());
    let values = asked.iter().map(|asked| asked.answer.values.len()).sum();
    Ok(Comparison {
        lookups: asked.len(),
        values,
        latency: latency(asked.iter().map(|asked| asked.took).collect()),
        training,
        oracle,
        example: fullest.map(|(asked, (trained, truth))| example(&engines.service, asked, trained, truth)),
        mismatches: mismatches.collect(),
    })
}

/// The places of values that are not null.
fn known(values: &[Value]) -> impl Iterator<Item = usize> {
    values.iter().enumerate().filter(|(_, value)| **value != Value::Null).map(|(index, _)| index)
}

fn example(
    service: &ServicePlan,
    asked: &CheckedLookup,
    trained: &ServiceAnswer,
    truth: &ServiceAnswer,
) -> Example {
    let names = names(service);
    let of = |values: &[Value], index: usize| values.get(index).cloned().unwrap_or(Value::Null);
    let feature = |index: usize| ExampleFeature {
        name: names[index].clone(),
        lookup: of(&asked.answer.values, index),
        training: of(&trained.values, index),
        oracle: of(&truth.values, index),
    };
    Example { question: question(asked), features: known(&asked.answer.values).map(feature).collect() }
}

/// `user_id=7, merchant_id=3 at 2026-10-31T…`
fn question(asked: &CheckedLookup) -> String {
    let row: Vec<String> = asked.row.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} at {}", row.join(", "), asked.answer.at)
}

fn latency(mut took: Vec<Duration>) -> Latency {
    took.sort_unstable();
    let rank = |share: f64| {
        took.get((took.len() as f64 * share) as usize).or(took.last()).copied().unwrap_or_default()
    };
    Latency { p50: rank(0.5), p95: rank(0.95), p99: rank(0.99), max: rank(1.0) }
}

async fn training(engines: &Engines, asked: &[CheckedLookup]) -> Result<Vec<ServiceAnswer>, CompareError> {
    let label = |asked: &CheckedLookup| Label {
        asked: asked.row.clone(),
        at: asked.answer.at,
        token: Some(asked.answer.token.clone()),
    };
    let labels: Vec<Label> = asked.iter().map(label).collect();
    let (service, sources) = (Arc::clone(&engines.service), &engines.sources);
    Ok(train(service, sources, &engines.location, &labels, Visibility::AsServed, &engines.labels).await?)
}

async fn oracle(engines: &Engines, asked: &[CheckedLookup]) -> Result<Vec<ServiceAnswer>, CompareError> {
    let mut histories = Vec::with_capacity(engines.service.views.len());
    for (index, view) in engines.service.views.iter().enumerate() {
        let wanted =
            asked.iter().filter_map(|asked| truth::entities(&engines.service, &asked.row)[index].clone());
        histories.push(history(engines, &view.plan, wanted.collect()).await?);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = asked.len().div_ceil(threads).max(1);
    let answer = |asked: &CheckedLookup| truth(&engines.service, &histories, asked);
    let answers: Result<Vec<Vec<ServiceAnswer>>, CompareError> = std::thread::scope(|scope| {
        let shares = asked.chunks(share).map(|share| scope.spawn(move || share.iter().map(answer).collect()));
        let shares: Vec<_> = shares.collect();
        shares.into_iter().map(|share| share.join().unwrap_or(Err(CompareError::Interrupted))).collect()
    });
    Ok(answers?.into_iter().flatten().collect())
}

/// The events of the wanted entities, as a view sees them.
async fn history(
    engines: &Engines,
    plan: &Arc<FeaturePlan>,
    wanted: BTreeSet<EntityKey>,
) -> Result<ViewHistory, CompareError> {
    let source = engines.sources.get(&plan.source).ok_or(CompareError::Interrupted)?;
    let table = EventTable::open(&engines.location, source).await?;
    let mut rows = History::open(&table, plan, Some(wanted), Effort::default()).await?;
    let mut history = ViewHistory::new(Arc::clone(plan));
    while let Some(entity) = rows.next().await? {
        history.insert(entity.key, entity.events);
    }
    Ok(history)
}

fn truth(
    service: &ServicePlan,
    histories: &[ViewHistory],
    asked: &CheckedLookup,
) -> Result<ServiceAnswer, CompareError> {
    let entities = truth::entities(service, &asked.row);
    let views = service.views.iter().zip(histories.iter().zip(&entities));
    let answers = views.map(|(view, (history, entity))| {
        let (at, token) = (asked.answer.at, asked.answer.token.views.get(&view.role));
        let unseen = || history.answer(None, at, Visibility::AsServed, &BTreeMap::new());
        token.map_or_else(unseen, |token| history.served(entity.as_ref(), at, token))
    });
    Ok(truth::assemble(service, &asked.row, &answers.collect::<Vec<_>>())?)
}

/// One part of an answer: what is compared, by its bits.
#[derive(PartialEq)]
enum Part<'a> {
    Feature(&'a Value, Status),
    Newest(Option<Time>),
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(value, status) => write!(f, "{value} ({status})"),
            Self::Newest(Some(time)) => write!(f, "{time}"),
            Self::Newest(None) => f.write_str("none"),
        }
    }
}

/// The parts of an answer, in the order of [`names`].
fn parts<'a>(values: &'a [Value], statuses: &[Status], newest: &[Option<Time>]) -> Vec<Part<'a>> {
    let features = values.iter().zip(statuses).map(|(value, status)| Part::Feature(value, *status));
    features.chain(newest.iter().copied().map(Part::Newest)).collect()
}

fn differences(
    service: &ServicePlan,
    asked: &CheckedLookup,
    trained: &ServiceAnswer,
    truth: &ServiceAnswer,
) -> Vec<Mismatch> {
    let answer = &asked.answer;
    let served = parts(&answer.values, &answer.statuses, &answer.newest);
    let trained = parts(&trained.values, &trained.statuses, &trained.newest);
    let truth = parts(&truth.values, &truth.statuses, &truth.newest);
    if served == truth && trained == truth {
        return Vec::new();
    }
    let question = question(asked);
    // An answer that ends too early differs in what it lacks.
    let part =
        |parts: &[Part<'_>], index: usize| parts.get(index).map_or("nothing".to_owned(), Part::to_string);
    let features = names(service).into_iter().enumerate();
    let differing = features.filter(|(index, _)| {
        let truth = truth.get(*index);
        served.get(*index) != truth || trained.get(*index) != truth
    });
    differing
        .map(|(index, feature)| Mismatch {
            question: question.clone(),
            feature,
            lookup: part(&served, index),
            training: part(&trained, index),
            oracle: part(&truth, index),
        })
        .collect()
}

/// The features of a service, then its views' newest events.
fn names(service: &ServicePlan) -> Vec<String> {
    let newest = service.views.iter().map(|view| format!("newest event of {}", view.role));
    service.columns().map(|column| column.name).chain(newest).collect()
}
