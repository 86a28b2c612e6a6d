//! JSON: one object for each record.
//!
//! A number is read as the declared type says, correctly rounded where that is float64. Instants are RFC 3339 text,
//! bytes are base64 text. A field whose member is missing is null, as is one whose path ends early; members that no
//! field takes are ignored; of two with the same name the last counts. A string field that says which member it comes
//! from takes an object or array as the text that it is written in.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidemark_kernel::source::Origin;
use tidemark_kernel::value::{Type, Value};
use tidemark_kernel::{Position, SourcePlan, Time};

use super::columns::{Made, Names};
use super::lines::{LONGEST, Lines, content};
use super::members::{Member, Members};
use super::{BATCH_BYTES, Chunk, ColumnsError, Place, RowsBuilder, cause};

mod names;

/// Reads the records of one source.
#[derive(Clone, Debug)]
pub struct RecordReader {
    fields: Vec<Declared>,
    members: Members,
}

/// A field as its values are read.
#[derive(Clone, Debug)]
struct Declared {
    name: String,
    ty: Type,
    /// Whether an object or array is taken as its text.
    whole: bool,
    /// Whether a float that JSON has no number for is spelled by its name.
    spelled: bool,
}

/// Is told each member that no field takes: the names that lead to its object, each with a dot behind it, and its own.
pub(crate) type Unknown<'a> = &'a mut dyn FnMut(&str, &str);

impl RecordReader {
    /// A reader of pushed records and of records in files.
    #[must_use]
    pub fn new(source: &SourcePlan) -> Self {
        Self { fields: declared(source), members: Members::of(source) }
    }

    /// A reader of the values of Kafka records: the fields from beside the value stay null.
    pub(crate) fn of_values(source: &SourcePlan) -> Self {
        Self { fields: declared(source), members: Members::of_values(source) }
    }

    /// A reader of rows that were [spelled out](spell).
    pub(crate) fn of_spelled(source: &SourcePlan) -> Self {
        let mut reader = Self::new(source);
        reader.fields.iter_mut().for_each(|field| field.spelled = true);
        reader
    }

    /// Reads one record: fills `row` with one value for each declared field, null where the record has none.
    ///
    /// # Errors
    /// Says why the record cannot be read; `row` then holds nothing of use.
    pub fn read(&self, record: &[u8], row: &mut Vec<Value>) -> Result<(), String> {
        self.read_telling(record, row, &mut |_, _| ())
    }

    /// Like [`read`](Self::read), and tells the members that no field takes.
    pub(crate) fn read_telling(
        &self,
        record: &[u8],
        row: &mut Vec<Value>,
        unknown: Unknown<'_>,
    ) -> Result<(), String> {
        let text = std::str::from_utf8(record)
            .map_err(|error| likely(record, || format!("the record is not UTF-8: {error}")))?;
        row.clear();
        row.resize(self.fields.len(), Value::Null);
        let mut json = serde_json::Deserializer::from_str(text);
        let object = Object { fields: &self.fields, members: &self.members, row, unknown };
        let found = json.deserialize_map(object).and_then(|found| json.end().map(|()| found));
        found.map_err(|error| likely(record, || syntax(error)))?
    }
}

fn declared(source: &SourcePlan) -> Vec<Declared> {
    let fields = source.fields.iter().map(|field| {
        let named = matches!(source.origins.get(&field.name), Some(Origin::Column(_) | Origin::Path(_)));
        Declared {
            name: field.name.clone(),
            ty: field.ty,
            whole: named && field.ty == Type::String,
            spelled: false,
        }
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
    row: &'a mut [Value],
    unknown: Unknown<'a>,
}

impl<'de> Visitor<'de> for Object<'_> {
    /// The first member that does not fit. The rest is read all the same, so that broken syntax is told first.
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outcome = Ok(());
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let Some(member) = self.members.find(&name) else {
                map.next_value::<IgnoredAny>()?;
                (self.unknown)(&self.members.prefix, &name);
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
            let value = value(field, text).map_err(|reason| format!("field `{}`: {reason}", field.name));
            self.row[*index] = value?;
        }
        if member.inside.list.is_empty() { Ok(()) } else { self.enter(member, text) }
    }

    /// What an earlier member of this name held inside no longer counts.
    fn enter(&mut self, member: &Member, text: &str) -> Result<(), String> {
        member.inside.each_field(&mut |field| self.row[field] = Value::Null);
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
fn value(field: &Declared, text: &str) -> Result<Value, String> {
    let ty = field.ty;
    if text == "null" {
        return Ok(Value::Null);
    }
    if field.whole && text.starts_with(['{', '[']) {
        return Ok(Value::string(text));
    }
    let wrong = || format!("expected {}, got {}", expected(ty), shortened(text));
    let read = match ty {
        Type::Bool => text.parse().ok().map(Value::Bool),
        Type::Int64 => text.parse().ok().map(Value::Int64),
        Type::Float64 if field.spelled => number(text).or_else(|| special(text)).map(Value::float),
        Type::Float64 => number(text).map(Value::float),
        Type::String => string(text).map(|text| Value::string(&text)),
        Type::Timestamp => string(text).and_then(|text| Time::parse(&text)).map(Value::Timestamp),
        Type::Bytes => {
            string(text).and_then(|text| STANDARD.decode(&*text).ok()).map(|it| Value::Bytes(it.into()))
        }
    };
    read.ok_or_else(wrong)
}

/// Rust reads decimal floats correctly rounded; what JSON has no number for (and what is too large) is refused.
fn number(text: &str) -> Option<f64> {
    let starts = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| starts && number.is_finite())
}

/// A float that JSON has no number for, as [`spell`] writes it.
fn special(text: &str) -> Option<f64> {
    SPECIAL.into_iter().find_map(|(name, number)| (text.trim_matches('"') == name).then_some(number))
}

const SPECIAL: [(&str, f64); 3] = [("NaN", f64::NAN), ("inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY)];

fn string(text: &str) -> Option<Cow<'_, str>> {
    text.starts_with('"').then(|| serde_json::from_str::<Text<'_>>(text).ok()).flatten().map(|text| text.0)
}

/// A string that is borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn expected(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "true or false",
        Type::Int64 => "an int64 without fraction or exponent",
        Type::Float64 => "a number",
        Type::String => "a string",
        Type::Timestamp => "an RFC 3339 string (a numeric time is an int64 field with a `unit`)",
        Type::Bytes => "a base64 string",
    }
}

/// The beginning of a value, for messages.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Spells a row out as the object that it would be read from: `members` are those of its source.
pub(crate) fn spell(members: &Members, row: &[Value]) -> String {
    let spelled = members.list.iter().map(|member| {
        let value = match member.fields.first().and_then(|field| row.get(*field)) {
            Some(value) if member.inside.list.is_empty() => spell_value(value),
            _ => spell(&member.inside, row),
        };
        format!("{}:{value}", serde_json::Value::from(member.name.as_str()))
    });
    format!("{{{}}}", spelled.collect::<Vec<_>>().join(","))
}

fn spell_value(value: &Value) -> String {
    let value: serde_json::Value = match value {
        Value::Bool(value) => (*value).into(),
        Value::Int64(value) => (*value).into(),
        // JSON has no number for these, and null would be another value.
        Value::Float64(value) if value.is_nan() => "NaN".into(),
        Value::Float64(value) if *value == f64::INFINITY => "inf".into(),
        Value::Float64(value) if *value == f64::NEG_INFINITY => "-inf".into(),
        Value::Float64(value) => (*value).into(),
        Value::String(value) => value.as_ref().into(),
        Value::Timestamp(value) => value.to_string().into(),
        Value::Bytes(value) => STANDARD.encode(value).into(),
        Value::Null | Value::List(_) | Value::Counts(_) => serde_json::Value::Null,
    };
    value.to_string()
}

/// Reads JSON lines. Blank lines are no records.
pub(crate) struct JsonLines<R> {
    lines: Lines<R>,
    line: Vec<u8>,
    reader: RecordReader,
    row: Vec<Value>,
}

impl<R: BufRead> JsonLines<R> {
    /// Records of `from`, one on each line.
    pub(crate) fn new(from: R, source: &SourcePlan) -> Self {
        Self { lines: Lines::new(from), line: Vec::new(), reader: RecordReader::new(source), row: Vec::new() }
    }

    /// How many bytes have been read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// Passes over one record. False at the end of the file.
    pub(crate) fn skip(&mut self) -> io::Result<bool> {
        next_record(&mut self.lines, &mut self.line)
    }

    /// The next `limit` records at most, none at the end of the file.
    pub(crate) fn read(
        &mut self,
        source: &SourcePlan,
        place: &Place,
        from: Position,
        limit: usize,
    ) -> io::Result<Option<Chunk>> {
        let mut rows = RowsBuilder::new(source, place.clone(), from);
        while rows.len() < limit && rows.bytes() < BATCH_BYTES && self.skip()? {
            let record = content(&self.line);
            let outcome = match record.len() {
                0..LONGEST => self.reader.read(record, &mut self.row),
                _ => Err(format!("the line is longer than {LONGEST} bytes")),
            };
            rows.push(self.lines.number(), None, record, outcome.map(|()| &mut self.row));
        }
        Ok((rows.len() > 0).then(|| rows.finish()))
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
