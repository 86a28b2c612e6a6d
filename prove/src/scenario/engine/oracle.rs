//! The oracle: all events, each question from scratch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use tidemark_kernel::source::{EventTimes, Rejection};
use tidemark_kernel::value::FeatureType;
use tidemark_kernel::value::arrow::{array_of, data_type};
use tidemark_kernel::{Answer, EntityKey, FeaturePlan, SourcePlan, Stamp, Visibility};

use super::Reply;
use crate::scenario::RunError;
use crate::scenario::script::{Question, Record, Script};
use crate::truth::{self, Reach, ViewHistory};

/// Everything that was received, as each view sees it.
pub(crate) struct Oracle<'s> {
    script: &'s Script,
    /// For each record why it is no event.
    pub(crate) rejections: Vec<Option<Rejection>>,
    histories: BTreeMap<&'s str, ViewHistory>,
}

impl<'s> Oracle<'s> {
    /// Decides about every record and evaluates the views' expressions over all events at once.
    pub(crate) fn new(script: &'s Script) -> Result<Self, RunError> {
        let decided: Vec<Result<Stamp, Rejection>> = script.records.iter().map(stamp).collect();
        let mut histories = BTreeMap::new();
        for plan in script.repo.views.values() {
            let of_source = script
                .records
                .iter()
                .zip(&decided)
                .filter(|(record, _)| record.source.name == plan.source && !record.is_repeated);
            let accepted = of_source.filter_map(|(record, stamp)| Some((record, *stamp.as_ref().ok()?)));
            let (records, stamps): (Vec<&Record>, Vec<Stamp>) = accepted.unzip();
            let mut history = ViewHistory::new(Arc::clone(plan));
            if let Some(first) = records.first() {
                history.add(&table(&first.source, &records)?, &stamps)?;
            }
            histories.insert(plan.view.as_str(), history);
        }
        let rejections = decided.into_iter().map(Result::err).collect();
        Ok(Self { script, rejections, histories })
    }

    /// Answers a question.
    pub(crate) fn answer(&self, question: &Question) -> Result<Reply, RunError> {
        let entities = truth::entities(&question.service, &question.asked);
        let views = || question.service.views.iter().zip(&entities);
        let served = question.visibility == Visibility::AsServed;
        let early: Vec<bool> = views()
            .map(|(view, key)| served && self.is_too_early(&view.plan, key.as_ref(), question))
            .collect();
        if early.iter().all(|early| *early) && !early.is_empty() {
            return Ok(Reply::TooEarly);
        }
        let answers = views().zip(&early).map(|((view, key), early)| {
            let view = &view.plan;
            if *early {
                return Answer::too_early(view, question.at);
            }
            let reach = self.reach(&view.source, question.after);
            self.histories[view.view.as_str()].answer(key.as_ref(), question.at, question.visibility, &reach)
        });
        let answers: Vec<_> = answers.collect();
        Ok(Reply::Answer(truth::assemble(&question.service, &question.asked, &answers)?))
    }

    /// Whether `at` is before what the entity has received less the view's time_travel.
    fn is_too_early(&self, view: &FeaturePlan, key: Option<&EntityKey>, question: &Question) -> bool {
        let reach = self.reach(&view.source, question.after);
        let of_entity =
            self.histories[view.view.as_str()].entities().filter(|(entity, _)| Some(*entity) == key);
        let reached = of_entity.flat_map(|(_, events)| events).filter(|event| {
            reach.get(&event.stamp.partition).is_some_and(|last| event.stamp.offset <= *last)
        });
        let newest = reached.map(|event| event.stamp.arrival_time).max();
        newest.is_some_and(|newest| question.at < newest.minus(view.time_travel))
    }

    /// How far each partition of a source was received after so many records.
    fn reach(&self, source: &str, after: usize) -> Reach {
        let received = self.script.records.iter().take(after).filter(|record| record.source.name == source);
        received.map(|record| (record.partition, record.offset)).collect()
    }
}

fn stamp(record: &Record) -> Result<Stamp, Rejection> {
    let EventTimes { event_time, arrival_time } = record.accept()?;
    Ok(Stamp { partition: record.partition, offset: record.offset, event_time, arrival_time })
}

fn table(source: &SourcePlan, records: &[&Record]) -> Result<RecordBatch, RunError> {
    let column = |(index, field): (usize, &tidemark_kernel::value::Field)| -> ArrayRef {
        array_of(FeatureType::Scalar(field.ty), records.iter().map(|record| &record.fields[index]))
    };
    let columns = source.fields.iter().enumerate().map(column).collect();
    let fields = source.fields.iter().map(|field| Field::new(&field.name, data_type(field.ty), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
