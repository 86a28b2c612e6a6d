//! The engines that run a scenario. Each answers every question it can be asked.

use std::sync::Arc;

use arrow::array::ArrayRef;
use tidemark_ingest::decode::{Batch, Chunk, Form, Forms, Raw, RecordPlace};
use tidemark_kernel::value::FeatureType;
use tidemark_kernel::value::arrow::array_of;
use tidemark_kernel::{Position, Status, Value};

use super::cells;
use super::script::{Output, Record};
use crate::truth::ServiceAnswer;

pub(super) mod oracle;
pub(super) mod stream;
pub(super) mod training;

/// What an engine says to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The instant can no longer be looked up.
    TooEarly,
    /// An answer.
    Answer(ServiceAnswer),
}

/// How the cells of a question that is refused are spelled.
const TOO_EARLY: &str = "too_early";

impl Reply {
    /// A part of the reply as cells spell it.
    pub(crate) fn spell(&self, output: &Output) -> String {
        match (self, output) {
            (Self::TooEarly, _) => TOO_EARLY.to_owned(),
            (Self::Answer(answer), Output::Feature { index, .. }) => {
                let (value, status) = Self::feature(answer, *index);
                cells::spell_answer(&value, status)
            }
            (Self::Answer(answer), Output::Newest { view }) => {
                answer.newest[*view].map_or_else(|| "null".to_owned(), cells::spell_time)
            }
        }
    }

    /// Whether a cell means this part of the reply.
    pub(crate) fn is_meant(&self, text: &str, output: &Output) -> bool {
        match (self, output) {
            (Self::Answer(answer), Output::Feature { index, ty }) => {
                let (value, status) = Self::feature(answer, *index);
                let scalar = match ty {
                    FeatureType::Scalar(ty) => Some(*ty),
                    FeatureType::List(_) | FeatureType::Counts(_) => None,
                };
                cells::means(text, scalar, &value, status)
            }
            (Self::Answer(answer), Output::Newest { view }) => match answer.newest[*view] {
                None => text.is_empty() || text == "null",
                newest => cells::time(text) == newest,
            },
            (Self::TooEarly, _) => text == TOO_EARLY,
        }
    }

    fn feature(answer: &ServiceAnswer, index: usize) -> (Value, Status) {
        (answer.values[index].clone(), answer.statuses[index])
    }
}

/// A record as ingestion takes it in: a run of its partition of length one.
pub(crate) fn batch(record: &Record) -> Result<Batch, arrow::error::ArrowError> {
    let source = &record.source;
    let columns: Vec<ArrayRef> = source
        .fields
        .iter()
        .zip(&record.fields)
        .map(|(field, value)| array_of(FeatureType::Scalar(field.ty), [value]))
        .collect();
    let chunk = Chunk {
        columns,
        has_clocks: false,
        offsets: vec![record.offset],
        times: vec![record.time],
        added: None,
        numbers: vec![record.offset + 1],
        raw: Raw::Columns,
        forms: Forms::All(Form::Columns),
        partitions: None,
        place: RecordPlace::Row(Arc::from("scenario")),
        dead: Vec::new(),
        from: record.from,
        to: Position::after(record.offset),
    };
    let mut batch = chunk.accept(source, record.partition)?;
    if record.is_repeated {
        batch.events = batch.events.slice(0, 0);
    }
    Ok(batch)
}
