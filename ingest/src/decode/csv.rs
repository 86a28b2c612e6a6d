//! CSV with a header: columns by name, RFC 4180 quoting.
//!
//! Nothing is nested here. A path such as `payment.currency` is the column of that name, which is how programs that
//! flatten objects call it.
//!
//! An empty field is null, of whatever type: CSV cannot tell an empty text from none. Any other is its value's
//! text. Lines end with a line feed, with or without a carriage return before it; a carriage return anywhere else
//! belongs into quotes.
//!
//! A record that is longer than 4 MiB is one dead letter, wherever it ends: what follows on a line inside quotes is
//! text, and would be read as records if reading began again there.

use std::io::{self, BufRead};
use std::sync::Arc;

use csv_core::ReadRecordResult;
use tidemark_kernel::value::{Type, Value};
use tidemark_kernel::{Position, SourcePlan};

use super::columns::{self, Made, Names};
use super::lines::{LONGEST, Lines, content};
use super::{BATCH_BYTES, Chunk, ColumnsError, Form, Place, RowsBuilder, text};

/// Reads records of one CSV file.
pub(crate) struct CsvRecords<R> {
    records: Records<R>,
    header: Header,
    row: Vec<Value>,
}

/// What the header of a file says of its records.
#[derive(Clone, Debug)]
struct Header {
    /// As it stands in the file, without the end of its line.
    text: Arc<str>,
    width: usize,
    /// The column of each declared field; none where the file lacks one that is optional.
    columns: Vec<Option<usize>>,
}

/// Reads single records of a file whose header was kept.
#[derive(Clone, Debug)]
pub(crate) struct KeptRecords(Header);

impl KeptRecords {
    /// Finds the source's fields in a header.
    ///
    /// # Errors
    /// Says why records of such a file cannot be read as the source's fields.
    pub(crate) fn new(header: &str, source: &SourcePlan) -> Result<Self, String> {
        let records = CsvRecords::open(header.as_bytes(), source).map_err(|error| error.to_string())?;
        records.map(|records| Self(records.header)).map_err(|error| error.to_string())
    }

    /// Reads one record: fills `row` with one value for each declared field.
    ///
    /// # Errors
    /// Says why it cannot be read; `row` then holds nothing of use.
    pub(crate) fn read(&self, source: &SourcePlan, raw: &[u8], row: &mut Vec<Value>) -> Result<(), String> {
        let records = Records::new(raw);
        let mut reader = CsvRecords { records, header: self.0.clone(), row: std::mem::take(row) };
        let is_one = reader.records.next().map_err(|error| error.to_string())?;
        let read = if is_one { reader.record(source) } else { Err("the record is empty".to_owned()) };
        *row = reader.row;
        read
    }
}

impl<R: BufRead> CsvRecords<R> {
    /// Reads the header and finds the source's fields in it; one that is optional may be missing.
    pub(crate) fn open(from: R, source: &SourcePlan) -> io::Result<Result<Self, ColumnsError>> {
        let mut records = Records::new(from);
        records.next()?;
        if let Some(fault) = records.fault {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the header {fault}")));
        }
        let text = String::from_utf8_lossy(content(&records.raw)).into();
        let header: Vec<String> =
            records.fields().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        let columns = find(source, &names);
        let header = |columns| Header { text, width: header.len(), columns };
        Ok(columns.map(|columns| Self { records, header: header(columns), row: Vec::new() }))
    }

    /// How many bytes have been read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.records.lines.bytes()
    }

    /// Passes over one record. False at the end of the file.
    pub(crate) fn skip(&mut self) -> io::Result<bool> {
        self.records.next()
    }

    /// The next `limit` records at most, none at the end of the file.
    pub(crate) fn read(
        &mut self,
        source: &SourcePlan,
        place: &Place,
        from: Position,
        limit: usize,
    ) -> io::Result<Option<Chunk>> {
        let form = Form::Csv { header: Arc::clone(&self.header.text) };
        let mut rows = RowsBuilder::new(source, place.clone(), from).read_as(form);
        while rows.len() < limit && rows.bytes() < BATCH_BYTES && self.records.next()? {
            let outcome = self.record(source);
            rows.push(self.records.number, None, self.records.kept(), outcome.map(|()| &mut self.row));
        }
        Ok((rows.len() > 0).then(|| rows.finish()))
    }

    fn record(&mut self, source: &SourcePlan) -> Result<(), String> {
        self.row.clear();
        if let Some(fault) = self.records.fault {
            return Err(format!("the record {fault}"));
        }
        let width = self.records.ends.len();
        if width != self.header.width {
            return Err(format!("the record has {width} fields, the header has {}", self.header.width));
        }
        for (field, column) in source.fields.iter().zip(&self.header.columns) {
            let Some(column) = *column else {
                self.row.push(Value::Null);
                continue;
            };
            let text = std::str::from_utf8(self.records.field(column));
            let text = text.map_err(|error| format!("field `{}` is not UTF-8: {error}", field.name))?;
            let value = value(field.ty, text).map_err(|reason| format!("field `{}`: {reason}", field.name));
            self.row.push(value?);
        }
        Ok(())
    }
}

/// The column of each declared field.
fn find(source: &SourcePlan, header: &[&str]) -> Result<Vec<Option<usize>>, ColumnsError> {
    let mut names = Names::default();
    for name in header {
        names.add(name);
    }
    names.check(source, Made::CsvColumns)?;
    let column = |field| {
        let wanted = columns::path(source, field, Made::CsvColumns).concat();
        let mut found =
            header.iter().enumerate().filter(|(_, name)| **name == wanted).map(|(index, _)| index);
        let first = found.next();
        if found.next().is_some() { Err(ColumnsError::Twice(wanted)) } else { Ok(first) }
    };
    source.fields.iter().map(column).collect()
}

/// A field as a declared type.
fn value(ty: Type, text: &str) -> Result<Value, String> {
    if text.is_empty() { Ok(Value::Null) } else { text::value(ty, text) }
}

/// Why a record cannot be read, though it is known where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its line goes on after its end.
    Cut,
    /// Only its beginning was kept.
    TooLong,
    /// The file ends inside a quoted field.
    Unclosed,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cut => {
                f.write_str("goes on after a carriage return; end lines with a line feed, or quote the field")
            }
            Self::TooLong => write!(f, "is longer than {LONGEST} bytes; is a quote not closed?"),
            Self::Unclosed => f.write_str("has a quote that is not closed; close it"),
        }
    }
}

/// Splits lines into records: a quoted field may go on over several lines.
struct Records<R> {
    lines: Lines<R>,
    parser: csv_core::Reader,
    /// The record as the file has it, its first [`LONGEST`] bytes at most.
    raw: Vec<u8>,
    /// The line on which it starts.
    number: i64,
    /// Its fields without quotes, one after the other. Not kept of a record that is too long.
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
    fault: Option<Fault>,
}

impl<R: BufRead> Records<R> {
    fn new(from: R) -> Self {
        Self {
            lines: Lines::new(from),
            parser: csv_core::Reader::new(),
            raw: Vec::new(),
            number: 0,
            text: Vec::new(),
            ends: Vec::new(),
            fault: None,
        }
    }

    /// Reads the next record, to its end however long it is. False at the end of the file.
    fn next(&mut self) -> io::Result<bool> {
        self.start();
        let mut end = None;
        loop {
            let start = self.raw.len();
            if !self.lines.read_part(&mut self.raw)? {
                return Ok(start > 0 && (end.is_some() || self.parse_end()));
            }
            if start == 0 {
                self.number = self.lines.number();
                if content(&self.raw).is_empty() {
                    self.raw.clear();
                    continue;
                }
            }
            end = end.or_else(|| self.parse_from(start));
            if self.fault.is_none() && end.is_some_and(|end| !content(&self.raw[end..]).is_empty()) {
                self.fault = Some(Fault::Cut);
            }
            if self.raw.len() >= LONGEST {
                self.raw.truncate(LONGEST);
                self.fault = self.fault.or(Some(Fault::TooLong));
            }
            if end.is_some() && !self.lines.goes_on() {
                return Ok(true);
            }
        }
    }

    /// Every record is parsed on its own, so that a broken one does not disturb the next.
    fn start(&mut self) {
        self.parser.reset();
        self.raw.clear();
        self.text.clear();
        self.ends.clear();
        self.fault = None;
    }

    /// Parses what was read from `start` on. Where in it the record ends, if it does.
    fn parse_from(&mut self, start: usize) -> Option<usize> {
        let mut read = start;
        while read < self.raw.len() {
            let (result, consumed) = self.parse(read);
            read += consumed;
            if matches!(result, ReadRecordResult::Record) {
                return Some(read);
            }
        }
        None
    }

    /// The file ends within the record, whose last line may lack its end. False where there was none.
    fn parse_end(&mut self) -> bool {
        let end = self.raw.len();
        self.raw.push(b'\n');
        let is_closed = self.parse_from(end).is_some();
        self.raw.truncate(end);
        if is_closed {
            return true;
        }
        loop {
            match self.parse(end).0 {
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return false,
                _ => {}
            }
        }
        self.fault = Some(Fault::Unclosed);
        true
    }

    /// Feeds the parser what was read from `from` on.
    fn parse(&mut self, from: usize) -> (ReadRecordResult, usize) {
        if self.fault.is_some() {
            self.text.clear();
            self.ends.clear();
        }
        let (text, ends) = (self.text.len(), self.ends.len());
        let room = (self.raw.len() - from).max(64);
        self.text.resize(text + room, 0);
        self.ends.resize(ends + room, 0);
        let (result, consumed, written, ended) =
            self.parser.read_record(&self.raw[from..], &mut self.text[text..], &mut self.ends[ends..]);
        self.text.truncate(text + written);
        self.ends.truncate(ends + ended);
        (result, consumed)
    }

    /// The record as it is kept: without the end of its last line, or its beginning.
    fn kept(&self) -> &[u8] {
        if self.raw.len() < LONGEST { content(&self.raw) } else { &self.raw }
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|index| self.field(index))
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}
