//! Rows that had no bytes of their own, spelled out in JSON.
//!
//! A row of Parquet that is no event becomes a dead letter like any other, which keeps what was received: an object with
//! a member for each field that was declared then.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemark_kernel::SourcePlan;
use tidemark_kernel::value::Value;

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
        Self { source: source.clone(), json: JsonDecoder::of_spelled(source) }
    }
}

impl Decoder for SpelledDecoder {
    fn form(&self) -> Form {
        Form::Columns
    }

    fn decode(&self, payload: &[u8], row: &mut ColumnsBuilder, unknown: Unknown<'_>) -> Result<(), String> {
        // Not null: the file may have the column, which was not declared then.
        let names = members_of(&self.source, payload);
        names.check(&self.source, Made::Kept).map_err(|error| error.to_string())?;
        self.json.decode(payload, row, unknown)
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
