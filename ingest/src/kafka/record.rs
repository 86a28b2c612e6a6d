//! One record: the value by its format, the other fields from key, headers and timestamp.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Timestamp;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use tidemark_kernel::source::Origin;
use tidemark_kernel::value::{Type, Value};
use tidemark_kernel::{SourcePlan, Time};

use crate::decode::form::{Beside, Form};
use crate::decode::json::RecordReader;
use crate::decode::text;

/// Reads the records of a topic.
pub(crate) struct TopicReader {
    values: RecordReader,
    /// The fields from beside the value: their indices, types and origins.
    beside: Vec<(usize, Type, Origin)>,
}

impl TopicReader {
    pub(crate) fn new(source: &SourcePlan) -> Self {
        let fields = source.fields.iter().enumerate();
        let beside = fields.filter_map(|(index, field)| {
            let origin = source.origins.get(&field.name).filter(|origin| origin.is_beside_value())?;
            Some((index, field.ty, origin.clone()))
        });
        Self { values: RecordReader::of_values(source), beside: beside.collect() }
    }

    /// Reads one record whose value is `payload`: fills `row` with one value for each declared field. Sets `unknown`
    /// where the value has a member that no field takes.
    ///
    /// # Errors
    /// Says why the record cannot be read; `row` then holds nothing of use.
    pub(crate) fn read(
        &self,
        record: &impl Message,
        payload: &[u8],
        row: &mut Vec<Value>,
        unknown: &mut bool,
    ) -> Result<(), String> {
        self.values.read_telling(payload, row, &mut |_, _| *unknown = true)?;
        for (index, ty, origin) in &self.beside {
            row[*index] = field(*ty, origin, record)?;
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
fn field(ty: Type, origin: &Origin, record: &impl Message) -> Result<Value, String> {
    match origin {
        Origin::Timestamp => Ok(time(record).map_or(Value::Null, Value::Timestamp)),
        Origin::Key => match record.key() {
            Some(key) => value(ty, key).map_err(|reason| format!("key: {reason}")),
            None => Ok(Value::Null),
        },
        Origin::Header(name) => match header(record, name)? {
            Some(bytes) => value(ty, bytes).map_err(|reason| format!("header `{name}`: {reason}")),
            None => Ok(Value::Null),
        },
        Origin::Column(_) | Origin::Path(_) => Ok(Value::Null),
    }
}

/// The value of the last header of this name.
fn header<'a>(record: &'a impl Message, name: &str) -> Result<Option<&'a [u8]>, String> {
    let Some(headers) = record.headers() else { return Ok(None) };
    let find = || headers.iter().filter(|header| header.key == name).last().and_then(|header| header.value);
    // rdkafka panics where a name is not UTF-8: that must be one dead letter, and not the end of every reader.
    catch_unwind(AssertUnwindSafe(find)).map_err(|_| "the name of a header is not UTF-8".to_owned())
}

fn value(ty: Type, bytes: &[u8]) -> Result<Value, String> {
    if ty == Type::Bytes {
        return Ok(Value::Bytes(bytes.into()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    text::value(ty, text)
}
