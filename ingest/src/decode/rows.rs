//! Building a chunk row by row, for formats that come as text.

use tidemark_kernel::event::Offset;
use tidemark_kernel::source::Rejection;
use tidemark_kernel::value::{FeatureType, Value, arrow::array_of};
use tidemark_kernel::{Position, SourcePlan, Time};

use super::form::EachForm;
use super::{Chunk, DeadLetter, Form, Forms, Place, Raw};

/// A chunk in the making.
pub(crate) struct RowsBuilder<'s> {
    source: &'s SourcePlan,
    place: Place,
    columns: Vec<Vec<Value>>,
    offsets: Vec<Offset>,
    times: Vec<Option<Time>>,
    numbers: Vec<i64>,
    raw: Vec<u8>,
    ends: Vec<usize>,
    dead: Vec<DeadLetter>,
    /// How records are read that do not say it themselves.
    form: Form,
    /// How each row is read, where it says so itself.
    forms: Option<EachForm>,
    bytes: usize,
    from: Position,
    to: Position,
}

impl<'s> RowsBuilder<'s> {
    /// No rows yet; the first will have the offset `from`. They are JSON, unless it is [said](Self::read_as) what they are.
    pub(crate) fn new(source: &'s SourcePlan, place: Place, from: Position) -> Self {
        Self {
            columns: vec![Vec::new(); source.fields.len()],
            source,
            place,
            offsets: Vec::new(),
            times: Vec::new(),
            numbers: Vec::new(),
            raw: Vec::new(),
            ends: Vec::new(),
            dead: Vec::new(),
            form: Form::Json,
            forms: None,
            bytes: 0,
            from,
            to: from,
        }
    }

    /// All records have this form.
    pub(crate) fn read_as(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// How many records there are, readable or not.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() + self.dead.len()
    }

    /// How many bytes they were received as.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Passes over what is no record: the next one has the offset `position`, or a later one.
    pub(crate) fn skip_to(&mut self, position: Position) {
        self.to = self.to.max(position);
    }

    /// Adds the next record: its values, one for each declared field, or why it cannot be read.
    pub(crate) fn push(
        &mut self,
        number: i64,
        time: Option<Time>,
        raw: &[u8],
        row: Result<&mut Vec<Value>, String>,
    ) {
        match row {
            Ok(values) => self.add(number, time, raw, values),
            Err(reason) => self.reject(number, time, raw, reason, self.form.clone()),
        }
    }

    /// Like [`push`](Self::push), for records of which each has a form of its own, [encoded](Form::encode).
    pub(crate) fn push_as(
        &mut self,
        form: &[u8],
        number: i64,
        time: Option<Time>,
        raw: &[u8],
        row: Result<&mut Vec<Value>, String>,
    ) {
        match row {
            Ok(values) => {
                self.forms.get_or_insert_default().push(form);
                self.add(number, time, raw, values);
            }
            Err(reason) => {
                let form = Form::decode(form).unwrap_or_else(|_| self.form.clone());
                self.reject(number, time, raw, reason, form);
            }
        }
    }

    fn add(&mut self, number: i64, time: Option<Time>, raw: &[u8], values: &mut Vec<Value>) {
        let offset = self.next(raw);
        self.columns.iter_mut().zip(values.drain(..)).for_each(|(column, value)| column.push(value));
        self.offsets.push(offset);
        self.times.push(time);
        self.numbers.push(number);
        self.raw.extend_from_slice(raw);
        self.ends.push(self.raw.len());
    }

    fn reject(&mut self, number: i64, time: Option<Time>, raw: &[u8], reason: String, form: Form) {
        let offset = self.next(raw);
        let rejection = Rejection::Undecodable(reason);
        self.dead.push(DeadLetter {
            offset,
            code: rejection.code(),
            reason: rejection.to_string(),
            place: self.place.at(number),
            raw: raw.to_vec(),
            form: Some(form),
            record_time: time.filter(|time| time.is_valid()),
        });
    }

    /// The offset of the next record, whose bytes are counted.
    fn next(&mut self, raw: &[u8]) -> Offset {
        let offset = self.to.0;
        self.to = Position::after(offset);
        self.bytes += raw.len();
        offset
    }

    /// The chunk.
    pub(crate) fn finish(self) -> Chunk {
        let fields = self.source.fields.iter().zip(&self.columns);
        let columns = fields.map(|(field, values)| array_of(FeatureType::Scalar(field.ty), values)).collect();
        Chunk {
            columns,
            offsets: self.offsets,
            times: self.times,
            added: None,
            numbers: self.numbers,
            raw: Raw::Text { bytes: self.raw, ends: self.ends },
            forms: self.forms.map_or(Forms::All(self.form), Forms::Each),
            logs: None,
            place: self.place,
            dead: self.dead,
            from: self.from,
            to: self.to,
        }
    }
}
