//! CSV with a header: columns by name, RFC 4180 quoting, commas or tabs between fields.
//!
//! Nothing is nested here. A path such as `payment.currency` is the column of that name, which is how programs that
//! flatten objects call it.
//!
//! An empty field is null, of whatever type: CSV cannot tell an empty text from none. A field of blanks is null too, unless
//! its type is string. Any other is its value's text. Lines end with a line feed, with or without a carriage return before
//! it; a carriage return anywhere else belongs into quotes.
//!
//! A record that is longer than 4 MiB is one dead letter, wherever it ends: what follows on a line inside quotes is
//! text, and would be read as records if reading began again there.

use std::io::{self, BufRead};
use std::sync::Arc;

use csv_core::ReadRecordResult;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::Field;
use tidemark_kernel::{Explain, SourcePlan, Type};

use super::columns::{self, Made, Names};
use super::decoder::{Decoder, Unknown};
use super::lines::{LONGEST, Lines, content};
use super::rows::TextFile;
use super::{Cell, ColumnsBuilder, ColumnsError, Form, cells};

/// Reads records of one CSV file.
pub(crate) struct CsvRecords<R> {
    records: Records<R>,
    header: Header,
}

/// Reads single records of a file whose header was kept.
#[derive(Clone, Debug)]
pub(crate) struct CsvDecoder(Header);

/// What the header of a file says of its records.
#[derive(Clone, Debug)]
struct Header {
    /// As in the file, without the end of its line.
    text: Arc<str>,
    /// The delimiter of the fields.
    delimiter: u8,
    width: usize,
    /// Each declared field with its zone and its column; none where the file lacks one that is optional.
    fields: Vec<(Field, Option<Zone>, Option<usize>)>,
}

impl CsvDecoder {
    /// Finds the source's fields in a header, whose names are separated by this byte.
    ///
    /// # Errors
    /// Says why records of such a file cannot be read as the source's fields.
    pub(crate) fn new(header: &str, delimiter: u8, source: &SourcePlan) -> Result<Self, String> {
        let records =
            CsvRecords::open(header.as_bytes(), delimiter, source).map_err(|error| error.to_string())?;
        records.map(|records| Self(records.header)).map_err(|error| error.explained())
    }
}

impl Decoder for CsvDecoder {
    fn form(&self) -> Form {
        self.0.form()
    }

    /// No column is unknown: which ones there are is a matter of the header.
    fn decode(&self, payload: &[u8], row: &mut ColumnsBuilder, _: Unknown<'_>) -> Result<(), String> {
        let mut records = Records::new(payload, self.0.delimiter);
        let is_one = records.next().map_err(|error| error.to_string())?;
        if is_one { self.0.decode(&records, row) } else { Err("the record is empty".to_owned()) }
    }
}

impl<R: BufRead> CsvRecords<R> {
    /// Reads the header and finds the source's fields in it; one that is optional may be missing. Fields are separated
    /// by `delimiter`.
    pub(crate) fn open(
        from: R,
        delimiter: u8,
        source: &SourcePlan,
    ) -> io::Result<Result<Self, ColumnsError>> {
        let mut records = Records::new(from, delimiter);
        records.next()?;
        if let Some(fault) = records.fault {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the header {fault}")));
        }
        let text = String::from_utf8_lossy(content(&records.raw)).into();
        let header: Vec<String> =
            records.fields().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        let fields = find(source, &names);
        let header = |fields| Header { text, delimiter, width: header.len(), fields };
        Ok(fields.map(|fields| Self { records, header: header(fields) }))
    }
}

impl<R: BufRead + Send> TextFile for CsvRecords<R> {
    fn form(&self) -> Form {
        self.header.form()
    }

    fn bytes(&self) -> u64 {
        self.records.lines.bytes()
    }

    fn advance(&mut self) -> io::Result<bool> {
        self.records.next()
    }

    fn number(&self) -> i64 {
        self.records.number
    }

    fn record(&self) -> &[u8] {
        self.records.kept()
    }

    fn decode(&self, row: &mut ColumnsBuilder) -> Result<(), String> {
        self.header.decode(&self.records, row)
    }
}

impl Header {
    fn form(&self) -> Form {
        let header = Arc::clone(&self.text);
        if self.delimiter == b'\t' { Form::Tsv { header } } else { Form::Csv { header } }
    }

    /// Reads the record that was split last.
    fn decode<R: BufRead>(&self, records: &Records<R>, row: &mut ColumnsBuilder) -> Result<(), String> {
        if let Some(fault) = records.fault {
            return Err(format!("the record {fault}"));
        }
        let width = records.ends.len();
        if width != self.width {
            return Err(format!("the record has {width} fields, the header has {}", self.width));
        }
        for (index, (field, zone, column)) in self.fields.iter().enumerate() {
            let Some(column) = *column else { continue };
            let text = std::str::from_utf8(records.field(column));
            let text = text.map_err(|error| format!("field `{}` is not UTF-8: {error}", field.name))?;
            let is_blank = || field.ty != Type::String && text.trim().is_empty();
            if text.is_empty() || is_blank() {
                row.set(index, Cell::Null);
                continue;
            }
            let cell = cells::text(field.ty, *zone, text);
            row.set(index, cell.map_err(|reason| format!("field `{}`: {reason}", field.name))?);
        }
        Ok(())
    }
}

/// A declared field with its zone and its column.
type Found = (Field, Option<Zone>, Option<usize>);

/// Each declared field with its zone and its column.
fn find(source: &SourcePlan, header: &[&str]) -> Result<Vec<Found>, ColumnsError> {
    let mut names = Names::default();
    for name in header {
        names.add(name);
    }
    let mut problems: Vec<ColumnsError> = names.check(source, Made::CsvColumns).err().into_iter().collect();
    let mut fields = Vec::with_capacity(source.fields.len());
    for field in &source.fields {
        let wanted = columns::path(source, field, Made::CsvColumns).concat();
        let mut found =
            header.iter().enumerate().filter(|(_, name)| **name == wanted).map(|(index, _)| index);
        fields.push((field.clone(), source.zone(&field.name), found.next()));
        if found.next().is_some() {
            problems.push(ColumnsError::Twice(wanted));
        }
    }
    ColumnsError::none_of(problems).map(|()| fields)
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
    fn new(from: R, delimiter: u8) -> Self {
        Self {
            lines: Lines::new(from),
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
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
