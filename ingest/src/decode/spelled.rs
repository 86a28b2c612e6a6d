//! Rows of formats without bytes for each record, written as JSON for their dead letters.
//!
//! A row of Parquet that is no event becomes a dead letter like any other, which keeps what was received: an object with
//! a member for each field that was declared then.

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
/// spelled of each field, as [`json`](tidemark_kernel::value::json) writes values.
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
