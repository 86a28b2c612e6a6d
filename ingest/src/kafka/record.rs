//! Decodes one record: the value by its format, the other fields from key, headers and timestamp.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Timestamp;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use tidemark_kernel::source::Origin;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::Type;
use tidemark_kernel::{SourcePlan, Time};

use crate::decode::decoder::{self, Unknown};
use crate::decode::form::{Beside, Form};
use crate::decode::{Cell, ColumnsBuilder, Decoder, cells};

/// Reads the records of a topic.
pub(crate) struct TopicDecoder {
    values: Box<dyn Decoder>,
    /// The fields from beside the value.
    beside: Vec<BesideField>,
}

/// A field from beside the value.
struct BesideField {
    /// Its index in the source.
    index: usize,
    ty: Type,
    /// That of a time that names none.
    zone: Option<Zone>,
    origin: Origin,
}

impl TopicDecoder {
    pub(crate) fn new(source: &SourcePlan) -> Self {
        let fields = source.fields.iter().enumerate();
        let beside = fields.filter_map(|(index, field)| {
            let origin = source.origins.get(&field.name).filter(|origin| origin.is_beside_value())?;
            Some(BesideField { index, ty: field.ty, zone: source.zone(&field.name), origin: origin.clone() })
        });
        Self { values: decoder::of_values(source), beside: beside.collect() }
    }

    /// Reads one record whose value is `payload`: sets the fields of `row`. `unknown` collects the members of the value
    /// that no field takes.
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
        for beside in &self.beside {
            row.set(beside.index, beside.cell(record)?);
        }
        Ok(())
    }
}

/// How a record is read, with its key and headers, [encoded](Form::encode).
pub(super) fn form(record: &impl Message) -> Vec<u8> {
    let headers = || match record.headers() {
        Some(headers) => headers.iter().map(|header| (header.key, header.value)).collect(),
        None => Vec::new(),
    };
    // As in `header`: of a record with such a name, only the value is kept.
    match catch_unwind(AssertUnwindSafe(headers)) {
        Ok(headers) => Form::encode_kafka(record.key(), &headers),
        Err(_) => Form::Kafka(None).encode(),
    }
}

/// The record with this value, key and headers.
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

impl BesideField {
    /// Its value; one from the value of a record has nothing beside it.
    fn cell<'a>(&self, record: &'a impl Message) -> Result<Cell<'a>, String> {
        match &self.origin {
            Origin::Timestamp => Ok(time(record).map_or(Cell::Null, Cell::Timestamp)),
            Origin::Key => match record.key() {
                Some(key) => self.read(key).map_err(|reason| format!("key: {reason}")),
                None => Ok(Cell::Null),
            },
            Origin::Header(name) => match header(record, name)? {
                Some(bytes) => self.read(bytes).map_err(|reason| format!("header `{name}`: {reason}")),
                None => Ok(Cell::Null),
            },
            Origin::Column(_) | Origin::Path(_) => Ok(Cell::Null),
        }
    }

    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Cell<'a>, String> {
        if self.ty == Type::Bytes {
            return Ok(Cell::Bytes(bytes.into()));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        cells::text(self.ty, self.zone, text)
    }
}

/// The value of the last header of this name.
fn header<'a>(record: &'a impl Message, name: &str) -> Result<Option<&'a [u8]>, String> {
    let Some(headers) = record.headers() else { return Ok(None) };
    let find = || headers.iter().filter(|header| header.key == name).last().and_then(|header| header.value);
    // rdkafka panics where a name is not UTF-8: that must be one dead letter, and not the end of every reader.
    catch_unwind(AssertUnwindSafe(find)).map_err(|_| "the name of a header is not UTF-8".to_owned())
}
