//! Label files in CSV, which has no types of its own: every column is read as text.
//!
//! The file is split by the grammar of RFC 4180 alone, one record at a time, so it makes no difference where a buffer
//! ends and how large the file is. An empty field is null. A record that cannot be split like the header is a
//! problem with its line.

use std::io::{self, BufRead};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use csv_core::ReadRecordResult;

use super::files::LabelFile;
use super::tables::Table;
use crate::training::error::TrainError;
use crate::training::problems::{LabelProblems, quoted};

/// How many rows make a batch at most.
const BATCH_ROWS: usize = 64 * 1024;

/// How many bytes of text make a batch, lest the offsets of an array overflow.
const BATCH_BYTES: usize = 256 << 20;

/// The columns and rows of a file.
pub(super) fn read(file: &LabelFile, delimiter: u8) -> Result<Table, TrainError> {
    let mut records = Records::new(file.open()?, delimiter);
    if !next(&mut records, file)? {
        return Err(TrainError::Empty(file.path.clone()));
    }
    let header: Option<Vec<String>> =
        records.fields().map(|name| Some(std::str::from_utf8(name).ok()?.trim().to_owned())).collect();
    let header = header.ok_or_else(|| file.unreadable(&"the header is not UTF-8"))?;
    let fields = header.iter().map(|name| Field::new(name, DataType::Utf8, true));
    let mut rows = Rows::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), header);
    while next(&mut records, file)? {
        rows.add(&records, file)?;
    }
    rows.finish()
}

fn next<R: BufRead>(records: &mut Records<R>, file: &LabelFile) -> Result<bool, TrainError> {
    records.next().map_err(|error| file.unreadable(&error))
}

/// The rows read so far.
struct Rows {
    schema: Arc<Schema>,
    header: Vec<String>,
    columns: Vec<StringBuilder>,
    /// How many rows, and bytes, the columns hold.
    held: (usize, usize),
    batches: Vec<RecordBatch>,
    lines: Vec<u64>,
    problems: LabelProblems,
}

impl Rows {
    fn new(schema: Arc<Schema>, header: Vec<String>) -> Self {
        let columns = header.iter().map(|_| StringBuilder::new()).collect();
        let (batches, lines, problems) = (Vec::new(), Vec::new(), LabelProblems::default());
        Self { schema, header, columns, held: (0, 0), batches, lines, problems }
    }

    fn add<R>(&mut self, records: &Records<R>, file: &LabelFile) -> Result<(), TrainError> {
        let row = self.lines.len();
        self.lines.push(records.line);
        let place = || format!("{}:{}", file.path.display(), records.line);
        let (width, wanted) = (records.count, self.header.len());
        if records.unclosed {
            let help = "close the quote, or write two quotes where one is part of the text";
            self.problems
                .add("", Some(row), || (format!("{}: a quote is not closed", place()), help.to_owned()));
            return Ok(());
        }
        if width != wanted {
            let help =
                "give each record as many fields as the header has, and quote those with separators in them";
            let message = format!("{}: the record has {width} fields, the header has {wanted}", place());
            self.problems.add("", Some(row), || (message, help.to_owned()));
            return Ok(());
        }
        for (at, field) in records.fields().enumerate() {
            match std::str::from_utf8(field) {
                Ok("") => self.columns[at].append_null(),
                Ok(text) => self.columns[at].append_value(text),
                Err(_) => {
                    let text = String::from_utf8_lossy(field);
                    let name = &self.header[at];
                    let message = format!("{}: `{name}` is {}, which is not UTF-8", place(), quoted(&text));
                    self.problems.add(name, Some(row), || (message, "save the file as UTF-8".to_owned()));
                    self.columns[at].append_null();
                }
            }
            self.held.1 += field.len();
        }
        self.held.0 += 1;
        if self.held.0 >= BATCH_ROWS || self.held.1 >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TrainError> {
        let columns = self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        self.batches.push(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?);
        self.held = (0, 0);
        Ok(())
    }

    fn finish(mut self) -> Result<Table, TrainError> {
        self.problems.check()?;
        if self.held.0 > 0 {
            self.flush()?;
        }
        Ok(Table { schema: self.schema, batches: self.batches, lines: Some(self.lines) })
    }
}

/// Splits a text into records: a quoted field may go on over several lines.
struct Records<R> {
    from: R,
    parser: csv_core::Reader,
    /// The fields of the record without quotes, one after the other.
    text: Vec<u8>,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
    /// How many fields the record has.
    count: usize,
    /// The line on which the record begins.
    line: u64,
    /// Whether the file ends inside a quoted field of the record.
    unclosed: bool,
    /// Whether the end of the last line was given to the parser.
    is_ended: bool,
}

impl<R> Records<R> {
    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let start = |at: usize| at.checked_sub(1).map_or(0, |before| self.ends[before]);
        (0..self.count).map(move |at| &self.text[start(at)..self.ends[at]])
    }
}

impl<R: BufRead> Records<R> {
    fn new(from: R, delimiter: u8) -> Self {
        Self {
            from,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            text: vec![0; 1024],
            ends: vec![0; 64],
            count: 0,
            line: 0,
            unclosed: false,
            is_ended: false,
        }
    }

    /// Reads the next record. False at the end of the file.
    fn next(&mut self) -> io::Result<bool> {
        let (mut written, mut ended) = (0, 0);
        loop {
            let input = match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                input => input?,
            };
            let is_over = input.is_empty();
            // The last line may lack its end. It gets one, so that only an open quote is left to go on.
            let given: &[u8] = match (is_over, self.is_ended) {
                (false, _) => input,
                (true, false) => b"\n",
                (true, true) => b"",
            };
            let (text, ends) = (&mut self.text[written..], &mut self.ends[ended..]);
            let (result, consumed, wrote, finished) = self.parser.read_record(given, text, ends);
            let (last, is_empty) = (given[..consumed].last().copied(), given.is_empty());
            if is_over {
                self.is_ended |= consumed > 0;
            } else {
                self.from.consume(consumed);
            }
            written += wrote;
            ended += finished;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(2 * self.text.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::End => return Ok(false),
                ReadRecordResult::Record => {
                    let inside = self.text[..written].iter().filter(|byte| **byte == b'\n').count() as u64;
                    let behind = u64::from(last == Some(b'\n'));
                    self.line = self.parser.line().saturating_sub(inside + behind);
                    self.count = ended;
                    self.unclosed = is_empty;
                    return Ok(true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each record's line and fields, read through a buffer of that many bytes.
    fn split(text: &str, buffer: usize) -> Vec<(u64, Vec<String>)> {
        let mut records = Records::new(io::BufReader::with_capacity(buffer, text.as_bytes()), b',');
        let mut found = Vec::new();
        while records.next().unwrap() {
            assert!(!records.unclosed, "{text:?}");
            let fields = records.fields().map(|field| String::from_utf8(field.to_vec()).unwrap());
            found.push((records.line, fields.collect()));
        }
        found
    }

    #[test]
    fn buffers_make_no_difference() {
        let text = "a,b\r\n1,\"x\ny\"\n\n2,\"\"\"q\"\"\"\n\"3\",";
        let texts = |fields: &[&str]| fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>();
        let expected = vec![
            (1, texts(&["a", "b"])),
            (2, texts(&["1", "x\ny"])),
            (5, texts(&["2", "\"q\""])),
            (6, texts(&["3", ""])),
        ];
        for buffer in [1, 2, 3, 7, 4096] {
            assert_eq!(split(text, buffer), expected, "{buffer}");
        }
        assert_eq!(split("", 64), []);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_noticed() {
        let mut records = Records::new("a,b\n1,\"x\n2,y\n".as_bytes(), b',');
        assert!(records.next().unwrap() && records.next().unwrap());
        assert_eq!((records.line, records.unclosed), (2, true));
        assert!(!records.next().unwrap());
    }
}
