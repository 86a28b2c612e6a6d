//! CSV with a header: columns by name, RFC 4180 quoting.
//!
//! Nothing is nested here. A path such as `payment.currency` is the column of that name, which is how programs that
//! flatten objects call it.
//!
//! An empty field is null, of whatever type: CSV cannot tell an empty text from none. Any other is its value's
//! text. Lines end with a line feed, with or without a carriage return before it; a carriage return anywhere else
//! belongs into quotes.

use std::io::{self, BufRead};
use std::sync::Arc;

use csv_core::ReadRecordResult;
use tidemark_kernel::value::{Type, Value};
use tidemark_kernel::{Position, SourcePlan};

use super::columns::{self, Made, Names};
use super::lines::{LONGEST, Lines, content};
use super::{BATCH_BYTES, Chunk, ColumnsError, Form, Place, RowsBuilder, text};

/// What is wrong with a record that ends before its line does.
const CUT: &str = "goes on after a carriage return; end lines with a line feed, or quote the field";

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
        if records.cut {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the header {CUT}")));
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
            let raw = content(&self.records.raw);
            rows.push(self.records.number, None, raw, outcome.map(|()| &mut self.row));
        }
        Ok((rows.len() > 0).then(|| rows.finish()))
    }

    fn record(&mut self, source: &SourcePlan) -> Result<(), String> {
        self.row.clear();
        if self.records.too_long {
            return Err(format!("the record is longer than {LONGEST} bytes; is a quote not closed?"));
        }
        if self.records.cut {
            return Err(format!("the record {CUT}"));
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

/// Splits lines into records: a quoted field may go on over several lines.
struct Records<R> {
    lines: Lines<R>,
    parser: csv_core::Reader,
    /// The record as it stands in the file.
    raw: Vec<u8>,
    /// The line on which it starts.
    number: i64,
    /// Its fields without quotes, one after the other.
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
    too_long: bool,
    /// Whether its line goes on after its end.
    cut: bool,
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
            too_long: false,
            cut: false,
        }
    }

    /// Reads the next record. False at the end of the file.
    fn next(&mut self) -> io::Result<bool> {
        self.start();
        loop {
            let start = self.raw.len();
            if !self.lines.read(&mut self.raw)? {
                return Ok(start > 0 && self.parse_end());
            }
            if start == 0 {
                self.number = self.lines.number();
                if content(&self.raw).is_empty() {
                    self.raw.clear();
                    continue;
                }
            }
            self.too_long = self.raw.len() >= LONGEST;
            if self.too_long || self.parse_line(start) {
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
        self.too_long = false;
        self.cut = false;
    }

    /// Parses the line that starts at `start`. Whether it ends the record.
    fn parse_line(&mut self, start: usize) -> bool {
        let mut read = start;
        while read < self.raw.len() {
            let (result, consumed) = self.parse(read);
            read += consumed;
            if matches!(result, ReadRecordResult::Record) {
                self.cut = !content(&self.raw[read..]).is_empty();
                return true;
            }
        }
        false
    }

    /// The file ends within the record.
    fn parse_end(&mut self) -> bool {
        loop {
            match self.parse(self.raw.len()).0 {
                ReadRecordResult::Record => return true,
                ReadRecordResult::End => return !self.ends.is_empty(),
                _ => {}
            }
        }
    }

    /// Feeds the parser what was read from `from` on.
    fn parse(&mut self, from: usize) -> (ReadRecordResult, usize) {
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

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|index| self.field(index))
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}
