//! JSON: one object for each record.
//!
//! Numbers are taken by their digits, correctly rounded where the field is float64. What JSON has no type for is text:
//! instants, bytes in base64, `NaN`, and an int64 as JavaScript has to write it (`"9007199254740993"`). A field whose
//! member is missing is null, as is one whose path ends early; members that no field takes are ignored; of two with the
//! same name the last counts. A string field that says which member it comes from takes an object or array as the text
//! that it is written in.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidemark_kernel::SourcePlan;
use tidemark_kernel::source::Origin;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::{Type, json};

use super::builder::Cell;
use super::columns::{Made, Names};
use super::decoder::{Decoder, Unknown};
use super::lines::{LONGEST, Lines, content};
use super::members::{Member, Members};
use super::rows::TextFile;
use super::{BATCH_BYTES, ColumnsBuilder, ColumnsError, Form, cause, cells};

mod names;

/// Reads objects as the fields of one source.
#[derive(Clone, Debug)]
pub(crate) struct JsonDecoder {
    fields: Vec<Declared>,
    members: Members,
}

/// A field as its values are read.
#[derive(Clone, Debug)]
struct Declared {
    name: String,
    ty: Type,
    /// That of a time that names none.
    zone: Option<Zone>,
    /// Whether an object or array is taken as its text.
    whole: bool,
}

impl JsonDecoder {
    /// A decoder that takes these members.
    pub(crate) fn new(source: &SourcePlan, members: Members) -> Self {
        Self { fields: declared(source), members }
    }
}

impl Decoder for JsonDecoder {
    fn form(&self) -> Form {
        Form::Json
    }

    fn decode(&self, payload: &[u8], row: &mut ColumnsBuilder, unknown: Unknown<'_>) -> Result<(), String> {
        let text = std::str::from_utf8(payload)
            .map_err(|error| likely(payload, || format!("the record is not UTF-8: {error}")))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let object = Object { fields: &self.fields, members: &self.members, row, unknown };
        let found = json.deserialize_map(object).and_then(|found| json.end().map(|()| found));
        found.map_err(|error| likely(payload, || syntax(error)))?
    }
}

fn declared(source: &SourcePlan) -> Vec<Declared> {
    let fields = source.fields.iter().map(|field| {
        let named = matches!(source.origins.get(&field.name), Some(Origin::Column(_) | Origin::Path(_)));
        let (name, zone) = (field.name.clone(), source.zone(&field.name));
        Declared { name, ty: field.ty, zone, whole: named && field.ty == Type::String }
    });
    fields.collect()
}

/// What a record is likely to be that is no JSON, or the error where that is not known.
fn likely(record: &[u8], error: impl FnOnce() -> String) -> String {
    cause::of_bytes(record).unwrap_or_else(error)
}

/// Errors of JSON's syntax. A record is one line to its reader, so only the column tells anything.
fn syntax(error: serde_json::Error) -> String {
    let message = error.to_string();
    let cut = message.rfind(" at line ").unwrap_or(message.len());
    format!("the record is not a JSON object: {} at column {}", &message[..cut], error.column())
}

/// An object of a record, or the record itself.
struct Object<'a> {
    fields: &'a [Declared],
    /// What is taken of it.
    members: &'a Members,
    row: &'a mut ColumnsBuilder,
    unknown: Unknown<'a>,
}

impl<'de> Visitor<'de> for Object<'_> {
    /// The first member that does not fit. The rest is read all the same, so that broken syntax is reported first.
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outcome = Ok(());
        while let Some(name) = map.next_key::<JsonString<'de>>()? {
            let Some(member) = self.members.find(&name.0) else {
                map.next_value::<IgnoredAny>()?;
                (self.unknown)(&self.members.prefix, &name.0);
                continue;
            };
            let taken = self.take(member, map.next_value::<&'de RawValue>()?.get());
            outcome = outcome.and(taken);
        }
        Ok(outcome)
    }
}

impl Object<'_> {
    fn take(&mut self, member: &Member, text: &str) -> Result<(), String> {
        for index in &member.fields {
            let field = &self.fields[*index];
            let cell = cell(field, text).map_err(|reason| format!("field `{}`: {reason}", field.name));
            self.row.set(*index, cell?);
        }
        if member.inside.list.is_empty() { Ok(()) } else { self.enter(member, text) }
    }

    /// What an earlier member of this name held inside no longer counts.
    fn enter(&mut self, member: &Member, text: &str) -> Result<(), String> {
        member.inside.each_field(&mut |field| self.row.set(field, Cell::Null));
        if text == "null" {
            return Ok(());
        }
        let path = || format!("member `{}{}`", self.members.prefix, member.name);
        if !text.starts_with('{') {
            return Err(format!("{}: expected an object, got {}", path(), shortened(text)));
        }
        let path = path();
        let object = Object {
            fields: self.fields,
            members: &member.inside,
            row: &mut *self.row,
            unknown: &mut *self.unknown,
        };
        let found = serde_json::Deserializer::from_str(text).deserialize_map(object);
        found.map_err(|error| format!("{path}: {error}"))?
    }
}

/// A JSON value as a declared type.
fn cell<'a>(field: &Declared, text: &'a str) -> Result<Cell<'a>, String> {
    if field.whole && text.starts_with(['{', '[']) {
        return Ok(Cell::String(text.into()));
    }
    cells::cell(field.ty, field.zone, json::content(text), || shortened(text))
}

/// A string that is borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct JsonString<'a>(#[serde(borrow)] Cow<'a, str>);

/// The beginning of a value, for messages.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Reads JSON lines. Blank lines are no records.
pub(crate) struct JsonLines<R> {
    lines: Lines<R>,
    line: Vec<u8>,
    decoder: JsonDecoder,
}

impl<R: BufRead> JsonLines<R> {
    /// Records of `from`, one on each line.
    pub(crate) fn new(from: R, source: &SourcePlan) -> Self {
        let decoder = JsonDecoder::new(source, Members::of(source));
        Self { lines: Lines::new(from), line: Vec::new(), decoder }
    }
}

impl<R: BufRead + Send> TextFile for JsonLines<R> {
    fn form(&self) -> Form {
        self.decoder.form()
    }

    fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    fn advance(&mut self) -> io::Result<bool> {
        next_record(&mut self.lines, &mut self.line)
    }

    fn number(&self) -> i64 {
        self.lines.number()
    }

    fn record(&self) -> &[u8] {
        content(&self.line)
    }

    fn decode(&self, row: &mut ColumnsBuilder) -> Result<(), String> {
        match self.record() {
            record if record.len() < LONGEST => self.decoder.decode(record, row, &mut |_, _| ()),
            _ => Err(format!("the line is longer than {LONGEST} bytes")),
        }
    }
}

/// Reads the next line that is not blank. False at the end of the file.
fn next_record(lines: &mut Lines<impl BufRead>, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        line.clear();
        if !lines.read(line)? {
            return Ok(false);
        }
        if !content(line).trim_ascii().is_empty() {
            return Ok(true);
        }
    }
}

/// The names of the members of a record; none where it is no JSON object.
pub(crate) fn members_of(source: &SourcePlan, record: &[u8]) -> Names {
    let mut found = names::Found::new(source);
    found.add(record);
    found.names
}

/// Checks that the first batch of JSON lines, `limit` records at most, has a member for every field that is not
/// optional. A single record may lack any of them, so this can be told of several records only. A file without any
/// record that is a JSON object has nothing to be told by.
pub(crate) fn check(
    from: impl BufRead,
    source: &SourcePlan,
    limit: usize,
) -> io::Result<Result<(), ColumnsError>> {
    let (mut lines, mut line) = (Lines::new(from), Vec::new());
    let mut found = names::Found::new(source);
    let mut read = 0;
    while read < limit && lines.bytes() < BATCH_BYTES as u64 && next_record(&mut lines, &mut line)? {
        let record = content(&line);
        if record.len() < LONGEST {
            found.add(record);
        }
        read += 1;
    }
    Ok(match found.records {
        0 => Ok(()),
        records => found.names.check(source, Made::Records(records)),
    })
}
