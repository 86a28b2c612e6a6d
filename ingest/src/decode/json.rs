//! JSON: one object for each record.
//!
//! A number is read as the declared type says, correctly rounded where that is float64. Instants are RFC 3339 text,
//! bytes are base64 text. A field that is missing is null; fields that are not declared are ignored; of two with the
//! same name the last counts.

use std::fmt;
use std::io::BufRead;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidemark_kernel::value::{Type, Value};
use tidemark_kernel::{Position, SourcePlan, Time};

use super::lines::{LONGEST, Lines, content};
use super::{BATCH_BYTES, Chunk, Place, RowsBuilder};

/// Reads one record: fills `row` with one value for each declared field, null where the record has none.
///
/// # Errors
/// Says why the record cannot be read; `row` then holds nothing of use.
pub fn read(source: &SourcePlan, record: &[u8], row: &mut Vec<Value>) -> Result<(), String> {
    fields(source, record, row, |_| true)
}

/// Reads the value of a Kafka record: like [`read`], but the fields that come from elsewhere stay null.
///
/// # Errors
/// Like [`read`].
pub(crate) fn read_value(source: &SourcePlan, record: &[u8], row: &mut Vec<Value>) -> Result<(), String> {
    fields(source, record, row, |name| !source.origins.contains_key(name))
}

fn fields(
    source: &SourcePlan,
    record: &[u8],
    row: &mut Vec<Value>,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let text = std::str::from_utf8(record).map_err(|error| format!("the record is not UTF-8: {error}"))?;
    row.clear();
    row.resize(source.fields.len(), Value::Null);
    let mut json = serde_json::Deserializer::from_str(text);
    let found =
        json.deserialize_map(Record { source, row, wanted }).and_then(|found| json.end().map(|()| found));
    found.map_err(syntax)?
}

/// Errors of JSON's syntax. A record is one line to its reader, so only the column tells anything.
fn syntax(error: serde_json::Error) -> String {
    let message = error.to_string();
    let cut = message.rfind(" at line ").unwrap_or(message.len());
    format!("the record is not a JSON object: {} at column {}", &message[..cut], error.column())
}

struct Record<'a, W> {
    source: &'a SourcePlan,
    row: &'a mut Vec<Value>,
    /// Which fields to read.
    wanted: W,
}

impl<'de, W: Fn(&str) -> bool> Visitor<'de> for Record<'_, W> {
    /// The first field that does not fit. The rest is read all the same, so that broken syntax is told first.
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outcome = Ok(());
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some(index) = self.source.field(&name).filter(|_| (self.wanted)(&name)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let text = map.next_value::<&'de RawValue>()?.get();
            match value(self.source.fields[index].ty, text) {
                Ok(value) => self.row[index] = value,
                Err(reason) => outcome = outcome.and(Err(format!("field `{name}`: {reason}"))),
            }
        }
        Ok(outcome)
    }
}

/// A JSON value as a declared type.
fn value(ty: Type, text: &str) -> Result<Value, String> {
    if text == "null" {
        return Ok(Value::Null);
    }
    let wrong = || format!("expected {}, got {}", expected(ty), shortened(text));
    let read = match ty {
        Type::Bool => text.parse().ok().map(Value::Bool),
        Type::Int64 => text.parse().ok().map(Value::Int64),
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

fn string(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    text.starts_with('"').then(|| serde_json::from_str::<Text<'_>>(text).ok()).flatten().map(|text| text.0)
}

/// A string that is borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

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

/// Spells values out as an object of the source's fields.
#[must_use]
pub fn spell(source: &SourcePlan, values: impl Iterator<Item = Value>) -> String {
    let spelled = source.fields.iter().zip(values).map(|(field, value)| {
        let value = match value {
            Value::Bool(value) => value.into(),
            Value::Int64(value) => value.into(),
            Value::Float64(value) => value.into(),
            Value::String(value) => value.as_ref().into(),
            Value::Timestamp(value) => value.to_string().into(),
            Value::Bytes(value) => STANDARD.encode(value).into(),
            Value::Null | Value::List(_) | Value::Counts(_) => serde_json::Value::Null,
        };
        format!("{}:{value}", serde_json::Value::from(field.name.as_str()))
    });
    format!("{{{}}}", spelled.collect::<Vec<_>>().join(","))
}

/// Reads JSON lines. Blank lines are no records.
pub(crate) struct JsonLines<R> {
    lines: Lines<R>,
    line: Vec<u8>,
    row: Vec<Value>,
}

impl<R: BufRead> JsonLines<R> {
    /// Records of `from`, one on each line.
    pub(crate) const fn new(from: R) -> Self {
        Self { lines: Lines::new(from), line: Vec::new(), row: Vec::new() }
    }

    /// How many bytes have been read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// Passes over one record. False at the end of the file.
    pub(crate) fn skip(&mut self) -> std::io::Result<bool> {
        loop {
            self.line.clear();
            if !self.lines.read(&mut self.line)? {
                return Ok(false);
            }
            if !content(&self.line).trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The next `limit` records at most, none at the end of the file.
    pub(crate) fn read(
        &mut self,
        source: &SourcePlan,
        place: &Place,
        from: Position,
        limit: usize,
    ) -> std::io::Result<Option<Chunk>> {
        let mut rows = RowsBuilder::new(source, place.clone(), from);
        while rows.len() < limit && rows.bytes() < BATCH_BYTES && self.skip()? {
            let record = content(&self.line);
            let outcome = match record.len() {
                0..LONGEST => read(source, record, &mut self.row),
                _ => Err(format!("the line is longer than {LONGEST} bytes")),
            };
            rows.push(self.lines.number(), None, record, outcome.map(|()| &mut self.row));
        }
        Ok((rows.len() > 0).then(|| rows.finish()))
    }
}
