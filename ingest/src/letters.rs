//! Reads dead letters from their table: their reasons, and their records for a retry.
//!
//! A rejection is rarely the fault of the data alone: a unit, a type, a name or a limit was declared wrongly. So a row of
//! `dead_letters` keeps what it takes to read its record again ([`Form`]), and `decide` asks today's source about it.
//! The rules are those of the partition that the record came from, with the record's own timestamp, so every process decides
//! the same at any time. Rows of earlier versions keep less; what cannot be read again is counted with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, cast::AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use tidemark_kernel::{Partition, PartitionKind, Position, SourcePlan, Time};
use tidemark_offline::table::layout;

use crate::decode::form::{Beside, Form, Forms, Letter};
use crate::decode::{
    Batch, ColumnsBuilder, Decoder, GIVEN_UP, LONGEST, LOST, RecordPlace, RowsBuilder, decoder,
};
use crate::error::IngestError;
use crate::files::accept;
use crate::kafka::record::{TopicDecoder, kept};

mod summary;

pub use summary::{Kind, Summary, summary};

/// A row of `dead_letters`.
pub(crate) struct Row<'a> {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    pub(crate) code: &'a str,
    pub(crate) detail: &'a str,
    pub(crate) place: &'a str,
    pub(crate) raw: &'a [u8],
    pub(crate) time: Option<Time>,
    pub(crate) form: Option<&'a str>,
}

impl Row<'_> {
    /// The record, or why it cannot be read again.
    pub(crate) fn letter(&self) -> Result<Letter, &'static str> {
        if !is_record(self.code) {
            return Err("they represent records that were never read");
        }
        if self.raw.is_empty() {
            return Err("their bytes were not kept");
        }
        let form = match self.form {
            Some(form) => Form::from_json(form).ok_or("a newer version of Tidemark kept them")?,
            None => self.likely_form()?,
        };
        if form.is_text() && self.partition == Partition::FILE && self.raw.len() >= LONGEST {
            return Err("only the beginnings of such long records are kept");
        }
        let (partition, offset, place) = (self.partition, self.offset, self.place.to_owned());
        Ok(Letter { partition, offset, place, time: self.time, form, raw: self.raw.to_vec() })
    }

    /// The form of a record that an earlier version kept, which did not say it.
    fn likely_form(&self) -> Result<Form, &'static str> {
        match self.partition.kind() {
            PartitionKind::Push => Ok(Form::Json),
            PartitionKind::File => {
                let (file, _) = self.place.rsplit_once(':').unwrap_or((self.place, ""));
                let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
                match extension.to_ascii_lowercase().as_str() {
                    "csv" => {
                        Err("an earlier version kept these rows of CSV without the header of their file")
                    }
                    "jsonl" | "ndjson" | "json" => Ok(Form::Json),
                    _ => Ok(Form::Columns),
                }
            }
            PartitionKind::Shared(_) | PartitionKind::Retractions => Ok(Form::Kafka(None)),
        }
    }
}

/// The rows of a batch of `dead_letters` with all of its columns.
pub(crate) fn rows(batch: &RecordBatch) -> Option<impl Iterator<Item = Row<'_>>> {
    let column = |name| batch.column_by_name(name);
    let partitions = column(layout::LOG)?.as_primitive_opt::<Int32Type>()?;
    let offsets = column(layout::OFFSET)?.as_primitive_opt::<Int64Type>()?;
    let text = |name| column(name)?.as_string_opt::<i32>();
    let (codes, details) = (text(layout::REASON)?, text(layout::DETAIL)?);
    let (places, forms) = (text(layout::PLACE)?, text(layout::DEAD_FORM)?);
    let raws = column(layout::DEAD_RAW)?.as_binary_opt::<i32>()?;
    let times = column(layout::ARRIVAL_TIME)?.as_primitive_opt::<TimestampMillisecondType>()?;
    Some((0..batch.num_rows()).map(move |row| Row {
        partition: Partition(partitions.value(row)),
        offset: offsets.value(row),
        code: codes.value(row),
        detail: if details.is_null(row) { "" } else { details.value(row) },
        place: if places.is_null(row) { "" } else { places.value(row) },
        raw: if raws.is_null(row) { &[] } else { raws.value(row) },
        time: times.is_valid(row).then(|| Time::from_millis(times.value(row))),
        form: forms.is_valid(row).then(|| forms.value(row)),
    }))
}

/// Codes of dead letters that record a gap, not a record. Such a letter can have the same offset as the dead letter
/// of a record.
pub(crate) const NO_RECORDS: [&str; 2] = [GIVEN_UP, LOST];

/// Whether a dead letter with this code is a record that was read.
fn is_record(code: &str) -> bool {
    !NO_RECORDS.contains(&code)
}

/// The columns of `dead_letters` that [`tells_of_lost`] reads.
pub(crate) const TOLD: [&str; 2] = [layout::REASON, layout::DETAIL];

/// Whether a row of a batch of `dead_letters` is there for these records that were gone from Kafka before they were read.
pub(crate) fn tells_of_lost(batch: &RecordBatch, reason: &str) -> bool {
    let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (Some(codes), Some(details)) = (text(layout::REASON), text(layout::DETAIL)) else { return false };
    codes.iter().zip(details).any(|told| told == (Some(LOST), Some(reason)))
}

/// The columns of `dead_letters` that [`offsets_of_records`] reads.
pub(crate) const PLACED: [&str; 2] = [layout::OFFSET, layout::REASON];

/// The offsets of the records among the rows of a batch of `dead_letters`.
pub(crate) fn offsets_of_records(batch: &RecordBatch) -> Option<impl Iterator<Item = i64>> {
    let offsets = batch.column_by_name(layout::OFFSET)?.as_primitive_opt::<Int64Type>()?;
    let codes = batch.column_by_name(layout::REASON)?.as_string_opt::<i32>()?;
    let records = offsets.values().iter().zip(codes.iter());
    Some(records.filter(|(_, code)| code.is_none_or(is_record)).map(|(offset, _)| *offset))
}

/// Decides about records from different places, as rows of the file partition from `first` on.
///
/// # Errors
/// Fails where the columns are not those of the source, which cannot be.
pub(crate) fn decide(
    source: &SourcePlan,
    letters: &[Letter],
    first: Position,
    added: Option<Time>,
) -> Result<Batch, IngestError> {
    let places: Arc<[String]> = letters.iter().map(|letter| letter.place.clone()).collect();
    let mut rows = RowsBuilder::new(source, Forms::each(), RecordPlace::Known(places), first);
    let (mut decoder, mut partitions) = (LetterDecoder::new(source), Vec::new());
    for (number, letter) in (0..).zip(letters) {
        let form = letter.form.encode();
        let is_read =
            rows.push_as(&form, number, letter.time, &letter.raw, |row| decoder.decode(letter, row));
        partitions.extend(is_read.then_some(letter.partition));
    }
    let mut chunk = rows.finish();
    (chunk.partitions, chunk.added) = (Some(partitions), added);
    accept(source, chunk, Partition::FILE)
}

/// Reads records as today's source has them.
struct LetterDecoder<'s> {
    source: &'s SourcePlan,
    topic: TopicDecoder,
    /// The decoders of the forms met so far, except for records of topics; or why such records cannot be read.
    known: BTreeMap<Form, Result<Box<dyn Decoder>, String>>,
}

impl<'s> LetterDecoder<'s> {
    fn new(source: &'s SourcePlan) -> Self {
        Self { source, topic: TopicDecoder::new(source), known: BTreeMap::new() }
    }

    /// Sets the fields of `row`, or says why the record cannot be read.
    fn decode(&mut self, letter: &Letter, row: &mut ColumnsBuilder) -> Result<(), String> {
        if let Form::Kafka(beside) = &letter.form {
            return self.decode_kafka(letter, beside.as_ref(), row);
        }
        let (source, known) = (self.source, self.known.entry(letter.form.clone()));
        let decoder = known.or_insert_with(|| decoder::of_form(source, &letter.form));
        decoder.as_ref().map_err(Clone::clone)?.decode(&letter.raw, row, &mut |_, _| ())
    }

    fn decode_kafka(
        &self,
        letter: &Letter,
        beside: Option<&Beside>,
        row: &mut ColumnsBuilder,
    ) -> Result<(), String> {
        let nothing = Beside::default();
        let beside = match (beside, self.field_from_beside()) {
            (Some(beside), _) => beside,
            (None, None) => &nothing,
            (None, Some(field)) => {
                return Err(format!(
                    "field `{field}` comes from the key or a header, which were not kept with this record"
                ));
            }
        };
        let record = kept(&letter.raw, beside, letter.time);
        self.topic.decode(&record, &letter.raw, row, &mut |_, _| ())
    }

    /// A field that comes from the key or a header of a Kafka record.
    fn field_from_beside(&self) -> Option<&str> {
        use tidemark_kernel::source::Origin;
        let beside = |origin: &Origin| matches!(origin, Origin::Key | Origin::Header(_));
        self.source.origins.iter().find_map(|(field, origin)| beside(origin).then_some(field.as_str()))
    }
}

#[cfg(test)]
mod tests;
