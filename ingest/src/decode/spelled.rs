//! Rows that had no bytes of their own, spelled out in JSON.
//!
//! A row of Parquet that is no event becomes a dead letter like any other, which keeps what was received: an object with
//! a member for each field that was declared then.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemark_kernel::value::Value;
use tidemark_kernel::value::convert::Content;
use tidemark_kernel::{Explain, SourcePlan};

use super::columns::Made;
use super::decoder::{Decoder, Unknown};
use super::json::{JsonDecoder, members_of};
use super::members::Members;
use super::{ColumnsBuilder, Form};

/// Reads rows as [`spell`] writes them.
pub(crate) struct SpelledDecoder {
    source: SourcePlan,
    json: JsonDecoder,
}

impl SpelledDecoder {
    pub(crate) fn new(source: &SourcePlan) -> Self {
        Self { source: source.clone(), json: JsonDecoder::new(source, Members::of(source)) }
    }
}

impl Decoder for SpelledDecoder {
    fn form(&self) -> Form {
        Form::Columns
    }

    fn decode(&self, payload: &[u8], row: &mut ColumnsBuilder, unknown: Unknown<'_>) -> Result<(), String> {
        // Not null: the file may have the column, which was not declared then.
        let names = members_of(&self.source, payload);
        names.check(&self.source, Made::Kept).map_err(|error| error.explained())?;
        self.json.decode(payload, row, unknown)
    }
}

/// Spells a row out as the object that it would be read from: `members` are those of its source, and `row` has what is
/// [spelled](spell_value) of each field.
pub(crate) fn spell(members: &Members, row: &[String]) -> String {
    let spelled = members.list.iter().map(|member| {
        let value = match member.fields.first().and_then(|field| row.get(*field)) {
            Some(value) if member.inside.list.is_empty() => value.clone(),
            _ => spell(&member.inside, row),
        };
        format!("{}:{value}", serde_json::Value::from(member.name.as_str()))
    });
    format!("{{{}}}", spelled.collect::<Vec<_>>().join(","))
}

/// A field's value as JSON.
pub(crate) fn spell_value(value: &Value) -> String {
    spell_content(&match value {
        Value::Bool(value) => Content::Bool(*value),
        Value::Int64(value) => Content::Whole((*value).into()),
        Value::Float64(value) => Content::Float(*value, f64::MANTISSA_DIGITS),
        Value::String(value) => Content::Text(value.as_ref().into()),
        Value::Timestamp(value) => Content::Time(*value),
        Value::Bytes(value) => Content::Bytes(value),
        Value::Null | Value::List(_) | Value::Counts(_) => Content::Null,
    })
}

/// A value of a file as JSON: one that its field does not hold may be another field's, once that is declared.
pub(crate) fn spell_content(content: &Content<'_>) -> String {
    let json: serde_json::Value = match content {
        Content::Bool(value) => (*value).into(),
        Content::Whole(value) => return value.to_string(),
        Content::Decimal(digits) => return digits.clone(),
        Content::Number(digits) => return digits.to_string(),
        // JSON has no number for these, and null would be another value.
        Content::Float(value, _) if value.is_nan() => "NaN".into(),
        Content::Float(value, _) if *value == f64::INFINITY => "inf".into(),
        Content::Float(value, _) if *value == f64::NEG_INFINITY => "-inf".into(),
        Content::Float(value, _) => (*value).into(),
        Content::Text(text) | Content::Quoted(text) => (&**text).into(),
        Content::Spelled(text) => (*text).into(),
        Content::Time(value) => value.to_string().into(),
        Content::Bytes(value) => STANDARD.encode(value).into(),
        Content::Null | Content::Other => serde_json::Value::Null,
    };
    json.to_string()
}
