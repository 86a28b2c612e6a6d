//! One record: the value by its format, the other fields from key, headers and timestamp.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Timestamp;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use tidemark_kernel::source::Origin;
use tidemark_kernel::value::Type;
use tidemark_kernel::{SourcePlan, Time};

use crate::decode::decoder::{self, Unknown};
use crate::decode::form::{Beside, Form};
use crate::decode::{Cell, ColumnsBuilder, Decoder, cells};

/// Reads the records of a topic.
pub(crate) struct TopicDecoder {
    values: Box<dyn Decoder>,
    /// The fields from beside the value: their indices, types and origins.
    beside: Vec<(usize, Type, Origin)>,
}

impl TopicDecoder {
    pub(crate) fn new(source: &SourcePlan) -> Self {
        let fields = source.fields.iter().enumerate();
        let beside = fields.filter_map(|(index, field)| {
            let origin = source.origins.get(&field.name).filter(|origin| origin.is_beside_value())?;
            Some((index, field.ty, origin.clone()))
        });
        Self { values: decoder::of_values(source), beside: beside.collect() }
    }

    /// Reads one record whose value is `payload`: sets the fields of `row`. `unknown` is told the members of the value that
    /// no field takes.
    ///
    /// # Errors
    /// Says why the record cannot be read.
    pub(crate) fn decode(
        &self,
        record: &impl Message,
        payload: &[u8],
        row: &mut ColumnsBuilder,
        unknown: Unknown<'_>,
    ) -> Result<(), String> {
        self.values.decode(payload, row, unknown)?;
        for (index, ty, origin) in &self.beside {
            row.set(*index, field(*ty, origin, record)?);
        }
        Ok(())
    }
}

/// How a record is read, with what is beside its value, [encoded](Form::encode).
pub(super) fn form(record: &impl Message) -> Vec<u8> {
    let headers = || match record.headers() {
        Some(headers) => headers.iter().map(|header| (header.key, header.value)).collect(),
        None => Vec::new(),
    };
    // As in `header`: of a record with such a name nothing beside its value is kept.
    match catch_unwind(AssertUnwindSafe(headers)) {
        Ok(headers) => Form::encode_kafka(record.key(), &headers),
        Err(_) => Form::Kafka(None).encode(),
    }
}

/// The record that has this value, and this beside it.
pub(crate) fn kept(payload: &[u8], beside: &Beside, time: Option<Time>) -> OwnedMessage {
    let headers = beside.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_deref() })
    });
    let time = time.map_or(Timestamp::NotAvailable, |time| Timestamp::CreateTime(time.millis()));
    // Its topic, partition and offset play no part in how it is read.
    OwnedMessage::new(Some(payload.to_vec()), beside.key.clone(), String::new(), time, 0, 0, Some(headers))
}

/// The record's own timestamp.
pub(super) fn time(record: &impl Message) -> Option<Time> {
    record.timestamp().to_millis().map(Time::from_millis)
}

/// A field from beside the value; one from the value has nothing there.
fn field<'a>(ty: Type, origin: &Origin, record: &'a impl Message) -> Result<Cell<'a>, String> {
    match origin {
        Origin::Timestamp => Ok(time(record).map_or(Cell::Null, Cell::Timestamp)),
        Origin::Key => match record.key() {
            Some(key) => cell(ty, key).map_err(|reason| format!("key: {reason}")),
            None => Ok(Cell::Null),
        },
        Origin::Header(name) => match header(record, name)? {
            Some(bytes) => cell(ty, bytes).map_err(|reason| format!("header `{name}`: {reason}")),
            None => Ok(Cell::Null),
        },
        Origin::Column(_) | Origin::Path(_) => Ok(Cell::Null),
    }
}

/// The value of the last header of this name.
fn header<'a>(record: &'a impl Message, name: &str) -> Result<Option<&'a [u8]>, String> {
    let Some(headers) = record.headers() else { return Ok(None) };
    let find = || headers.iter().filter(|header| header.key == name).last().and_then(|header| header.value);
    // rdkafka panics where a name is not UTF-8: that must be one dead letter, and not the end of every reader.
    catch_unwind(AssertUnwindSafe(find)).map_err(|_| "the name of a header is not UTF-8".to_owned())
}

fn cell(ty: Type, bytes: &[u8]) -> Result<Cell<'_>, String> {
    if ty == Type::Bytes {
        return Ok(Cell::Bytes(bytes.into()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    cells::text(ty, text)
}
