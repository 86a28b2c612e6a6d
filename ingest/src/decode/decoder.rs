//! The trait of decoders, which turn payloads into rows.
//!
//! A payload is one record by itself: the value of a Kafka record, a pushed record, a line of a file, the bytes of a dead
//! letter. What it takes to read it besides the source is its [`Form`], which is kept with a dead letter. So each form
//! makes one decoder, and decoding is a pure function of the payload, its form and the source, also when it is done
//! again much later.
//!
//! Avro and Protobuf are read with the schema of their writer, which is not in the payload. It will be part of their
//! form: the reader of a topic looks it up and picks the decoder for it, as retries do for the header of CSV. A decoder
//! itself never asks a registry.

use tidemark_kernel::{Explain, SourcePlan};

use super::csv::CsvDecoder;
use super::folders::Folders;
use super::json::JsonDecoder;
use super::members::Members;
use super::spelled::SpelledDecoder;
use super::{ColumnsBuilder, Form};

/// Called for each member that no declared field reads, with the path of its object (each name followed by a dot, empty at the top
/// level) and with its own name.
pub type Unknown<'a> = &'a mut dyn FnMut(&str, &str);

/// Reads payloads of one form as the declared fields of one source.
pub trait Decoder: Send + Sync {
    /// The form that is kept with its payloads, by which they are read again. With values of a topic's records what came
    /// beside them is kept as well: [`Form::Kafka`].
    fn form(&self) -> Form;

    /// Reads one payload: sets those fields of `row` that it has a value for. The rest stays null. `unknown` collects
    /// what no field takes, of payloads that cannot be read as well.
    ///
    /// # Errors
    /// Says why the payload cannot be read. What was set until then does not count: [`ColumnsBuilder::add`] takes it back.
    fn decode(&self, payload: &[u8], row: &mut ColumnsBuilder, unknown: Unknown<'_>) -> Result<(), String>;
}

/// The decoder of the records that are pushed to a source.
#[must_use]
pub fn of_records(source: &SourcePlan) -> Box<dyn Decoder> {
    declared(source, Members::of(source))
}

/// The decoder of the values of a topic's records: the fields from beside the value stay null.
#[must_use]
pub fn of_values(source: &SourcePlan) -> Box<dyn Decoder> {
    declared(source, Members::of_values(source))
}

/// The decoder of the format that a source declares: sources declare none yet, and all are JSON.
fn declared(source: &SourcePlan, members: Members) -> Box<dyn Decoder> {
    Box::new(JsonDecoder::new(source, members))
}

/// The decoder of payloads that were kept with this form; for a Kafka record, of its value.
///
/// # Errors
/// Says why no such payload can be read as the source's fields.
pub(crate) fn of_form(source: &SourcePlan, form: &Form) -> Result<Box<dyn Decoder>, String> {
    let decoder: Box<dyn Decoder> = match form {
        Form::Json => Box::new(JsonDecoder::new(source, Members::of(source))),
        Form::Csv { header } => Box::new(CsvDecoder::new(header, b',', source)?),
        Form::Tsv { header } => Box::new(CsvDecoder::new(header, b'\t', source)?),
        Form::Columns => Box::new(SpelledDecoder::new(source)),
        Form::Kafka(_) => of_values(source),
        Form::InFolders { columns, form } => {
            let folders = Folders::of_columns(columns, source).map_err(|error| error.explained())?;
            let decoder = of_form(&folders.source(source), form)?;
            folders.around_decoder(decoder)
        }
    };
    Ok(decoder)
}
