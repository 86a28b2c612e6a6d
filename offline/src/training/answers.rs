//! The answers to labels: the one place of this crate that asks the kernel.
//!
//! Labels are grouped by entity and joined with the entity's events; `replay` decides which events an answer sees, and
//! computes it. Entities are independent, so batches of them are answered side by side. Answers become columns at
//! once, in order of entity, and are put back into the labels' order at the end.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::{concat, take};
use arrow::error::ArrowError;
use futures::stream::{FuturesOrdered, TryStreamExt};
use tidemark_kernel::replay::{Question, replay};
use tidemark_kernel::value::{FeatureType, Type, arrow::array_of};
use tidemark_kernel::{Answer, EntityKey, Event, FeaturePlan, Value, Visibility};

use super::error::TrainError;
use crate::history::{EntityEvents, History, HistoryError};

/// One entity's answers; `events` is none for a null key.
fn answer_entity(
    plan: &FeaturePlan,
    events: Option<&[Event]>,
    questions: &[Question],
    visibility: Visibility,
) -> Vec<Answer> {
    match events {
        Some(events) => replay(plan, events, questions, visibility),
        None => questions.iter().map(|question| Answer::unknown(plan, question.at)).collect(),
    }
}

/// Labels grouped by entity, in order of key.
pub(super) struct LabelsByEntity {
    /// The ordinals of labels, entity by entity.
    order: Vec<usize>,
    groups: Vec<Group>,
}

struct Group {
    /// None for labels with a null key.
    key: Option<EntityKey>,
    /// Its labels: a range of `order`.
    rows: Range<usize>,
}

impl LabelsByEntity {
    pub(super) fn new(keys: &[Option<EntityKey>]) -> Self {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
        let mut groups: Vec<Group> = Vec::new();
        for (place, ordinal) in order.iter().enumerate() {
            match groups.last_mut().filter(|group| group.key == keys[*ordinal]) {
                Some(group) => group.rows.end = place + 1,
                None => groups.push(Group { key: keys[*ordinal].clone(), rows: place..place + 1 }),
            }
        }
        Self { order, groups }
    }

    /// The entities that labels ask about.
    pub(super) fn entities(&self) -> BTreeSet<EntityKey> {
        self.groups.iter().filter_map(|group| group.key.clone()).collect()
    }

    /// For each label, the index of its answer among the answers in order of entity.
    fn places(&self) -> UInt64Array {
        let mut places = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(place, ordinal)| places[*ordinal] = place as u64);
        places.into()
    }
}

/// What is wanted of one view.
#[derive(Clone)]
pub(super) struct ViewRequest {
    pub(super) plan: Arc<FeaturePlan>,
    /// The features wanted: indices into the plan's.
    pub(super) features: Vec<usize>,
    pub(super) visibility: Visibility,
    /// How many batches of entities are answered at once.
    pub(super) threads: usize,
}

/// One view's answers in columns, a row for each label.
pub(super) struct ViewColumns {
    /// The values of each feature wanted.
    pub(super) values: Vec<ArrayRef>,
    /// Their statuses, by name.
    pub(super) statuses: Vec<ArrayRef>,
    /// The time of the newest event.
    pub(super) newest: ArrayRef,
}

/// How much of events and questions is handed to a thread at once.
const WORK_PER_JOB: usize = 8192;

/// Some entities: their events (none for a null key) and questions.
#[derive(Default)]
struct Job {
    entities: Vec<(Option<Vec<Event>>, Vec<Question>)>,
    work: usize,
}

/// Answers the labels of one view. `question` gives a label's question; `answered` is told how many labels are done.
pub(super) async fn answer_view(
    request: &ViewRequest,
    history: History,
    asked: &LabelsByEntity,
    question: impl Fn(usize) -> Question,
    mut answered: impl FnMut(&History, usize),
) -> Result<ViewColumns, TrainError> {
    let mut jobs = Jobs { history, waiting: None, asked, next: 0 };
    let mut chunks: Vec<Vec<ArrayRef>> = Vec::new();
    let mut running = FuturesOrdered::new();
    loop {
        while running.len() < request.threads.max(1) {
            let Some(job) = jobs.next(&question).await? else { break };
            let request = request.clone();
            running.push_back(tokio::task::spawn_blocking(move || job.columns(&request)));
        }
        let Some(columns) = running.try_next().await? else { break };
        answered(&jobs.history, columns[0].len());
        chunks.push(columns);
    }
    Ok(in_label_order(request.features.len(), &chunks, &asked.places())?)
}

/// Entities to answer, in order of key: those with labels, with their events.
struct Jobs<'a> {
    history: History,
    /// Read already, for an entity not yet reached.
    waiting: Option<EntityEvents>,
    asked: &'a LabelsByEntity,
    next: usize,
}

impl Jobs<'_> {
    async fn next(&mut self, question: impl Fn(usize) -> Question) -> Result<Option<Job>, HistoryError> {
        let mut job = Job::default();
        let asked = self.asked;
        while let Some(group) = asked.groups.get(self.next)
            && job.work < WORK_PER_JOB
        {
            let questions: Vec<Question> =
                asked.order[group.rows.clone()].iter().map(|at| question(*at)).collect();
            let events = match &group.key {
                None => None,
                Some(key) => Some(self.events(key).await?),
            };
            job.work += questions.len() + events.as_ref().map_or(0, Vec::len);
            job.entities.push((events, questions));
            self.next += 1;
        }
        Ok(Some(job).filter(|job| !job.entities.is_empty()))
    }

    /// The events of an entity that comes after all those asked for before.
    async fn events(&mut self, key: &EntityKey) -> Result<Vec<Event>, HistoryError> {
        while self.waiting.as_ref().is_none_or(|waiting| waiting.key < *key) {
            self.waiting = self.history.next().await?;
            if self.waiting.is_none() {
                return Ok(Vec::new());
            }
        }
        Ok(self
            .waiting
            .take_if(|waiting| waiting.key == *key)
            .map_or_else(Vec::new, |waiting| waiting.events))
    }
}

impl Job {
    /// The values, then the statuses, of each feature wanted, then the newest event's time.
    fn columns(self, request: &ViewRequest) -> Vec<ArrayRef> {
        let plan = &request.plan;
        let answers = self.entities.iter().flat_map(|(events, questions)| {
            answer_entity(plan, events.as_deref(), questions, request.visibility)
        });
        let answers: Vec<Answer> = answers.collect();
        let values = request.features.iter().map(|feature| {
            array_of(plan.features[*feature].ty, answers.iter().map(|answer| &answer.values[*feature]))
        });
        let statuses = request.features.iter().map(|feature| {
            let names = answers.iter().map(|answer| answer.statuses[*feature].name());
            Arc::new(arrow::array::StringArray::from_iter_values(names)) as ArrayRef
        });
        let newest: Vec<Value> =
            answers.iter().map(|answer| answer.newest.map_or(Value::Null, Value::Timestamp)).collect();
        let newest = array_of(FeatureType::Scalar(Type::Timestamp), &newest);
        values.chain(statuses).chain([newest]).collect()
    }
}

fn in_label_order(
    features: usize,
    chunks: &[Vec<ArrayRef>],
    places: &UInt64Array,
) -> Result<ViewColumns, ArrowError> {
    let column = |at: usize| {
        let parts: Vec<&dyn Array> = chunks.iter().map(|columns| columns[at].as_ref()).collect();
        take(&concat(&parts)?, places, None)
    };
    Ok(ViewColumns {
        values: (0..features).map(column).collect::<Result<_, _>>()?,
        statuses: (features..2 * features).map(column).collect::<Result<_, _>>()?,
        newest: column(2 * features)?,
    })
}
