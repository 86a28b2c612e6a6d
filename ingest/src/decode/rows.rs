//! Building a chunk row by row, for formats whose records have bytes of their own.

use std::io;

use tidemark_kernel::event::Offset;
use tidemark_kernel::source::Rejection;
use tidemark_kernel::{Position, SourcePlan, Time};

use super::{BATCH_BYTES, Chunk, ColumnsBuilder, DeadLetter, Form, Forms, Raw, RecordPlace};

/// A text file, read record by record.
pub(crate) trait TextFile: Send {
    /// How its records are read again.
    fn form(&self) -> Form;

    /// How many bytes have been read.
    fn bytes(&self) -> u64;

    /// Goes to the next record. False at the end of the file.
    fn advance(&mut self) -> io::Result<bool>;

    /// The line on which the record begins, from 1.
    fn number(&self) -> i64;

    /// The record as it is kept where it is no event: of one that is too long only the beginning.
    fn record(&self) -> &[u8];

    /// Reads the record: sets the fields of `row`.
    ///
    /// # Errors
    /// Says why it cannot be read.
    fn decode(&self, row: &mut ColumnsBuilder) -> Result<(), String>;
}

/// The next `limit` records of a file at most, none at its end.
pub(crate) fn read(
    file: &mut dyn TextFile,
    source: &SourcePlan,
    place: &RecordPlace,
    from: Position,
    limit: usize,
) -> io::Result<Option<Chunk>> {
    let mut rows = RowsBuilder::new(source, Forms::All(file.form()), place.clone(), from);
    while rows.len() < limit && rows.bytes() < BATCH_BYTES && file.advance()? {
        rows.push(file.number(), None, file.record(), |row| file.decode(row));
    }
    Ok((rows.len() > 0).then(|| rows.finish()))
}

/// A chunk in the making.
pub(crate) struct RowsBuilder {
    place: RecordPlace,
    columns: ColumnsBuilder,
    offsets: Vec<Offset>,
    times: Vec<Option<Time>>,
    numbers: Vec<i64>,
    raw: Vec<u8>,
    ends: Vec<usize>,
    dead: Vec<DeadLetter>,
    /// How the records are read again.
    forms: Forms,
    bytes: usize,
    from: Position,
    to: Position,
}

impl RowsBuilder {
    /// No rows yet; the first will have the offset `from`. `forms` is the one that all records have, or
    /// [empty](Forms::each) where each is [pushed](Self::push_as) with its own.
    pub(crate) fn new(source: &SourcePlan, forms: Forms, place: RecordPlace, from: Position) -> Self {
        Self {
            columns: ColumnsBuilder::new(source),
            place,
            offsets: Vec::new(),
            times: Vec::new(),
            numbers: Vec::new(),
            raw: Vec::new(),
            ends: Vec::new(),
            dead: Vec::new(),
            forms,
            bytes: 0,
            from,
            to: from,
        }
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

    /// Adds the next record, as `decode` reads it: sets its fields, or says why it cannot be read.
    pub(crate) fn push(
        &mut self,
        number: i64,
        time: Option<Time>,
        raw: &[u8],
        decode: impl FnOnce(&mut ColumnsBuilder) -> Result<(), String>,
    ) {
        match self.columns.add(decode) {
            Ok(()) => self.add(number, time, raw),
            Err(reason) => self.reject(number, time, raw, reason, self.forms.of_all()),
        }
    }

    /// Like [`push`](Self::push), for records of which each has a form of its own, [encoded](Form::encode). Whether it
    /// could be read.
    pub(crate) fn push_as(
        &mut self,
        form: &[u8],
        number: i64,
        time: Option<Time>,
        raw: &[u8],
        decode: impl FnOnce(&mut ColumnsBuilder) -> Result<(), String>,
    ) -> bool {
        let outcome = self.columns.add(decode);
        let is_read = outcome.is_ok();
        match outcome {
            Ok(()) => {
                self.forms.push(form);
                self.add(number, time, raw);
            }
            Err(reason) => self.reject(number, time, raw, reason, Form::decode(form).ok()),
        }
        is_read
    }

    fn add(&mut self, number: i64, time: Option<Time>, raw: &[u8]) {
        let offset = self.next(raw);
        self.offsets.push(offset);
        self.times.push(time);
        self.numbers.push(number);
        self.raw.extend_from_slice(raw);
        self.ends.push(self.raw.len());
    }

    fn reject(&mut self, number: i64, time: Option<Time>, raw: &[u8], reason: String, form: Option<Form>) {
        let offset = self.next(raw);
        let rejection = Rejection::Undecodable(reason);
        self.dead.push(DeadLetter {
            offset,
            code: rejection.code(),
            reason: rejection.to_string(),
            place: self.place.at(number),
            raw: raw.to_vec(),
            form,
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
        Chunk {
            has_clocks: self.columns.has_clocks(),
            columns: self.columns.finish(),
            offsets: self.offsets,
            times: self.times,
            added: None,
            numbers: self.numbers,
            raw: Raw::Text { bytes: self.raw, ends: self.ends },
            forms: self.forms,
            partitions: None,
            place: self.place,
            dead: self.dead,
            from: self.from,
            to: self.to,
        }
    }
}
