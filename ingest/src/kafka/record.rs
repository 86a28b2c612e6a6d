//! One record: the value by its format, the other fields from key, headers and timestamp.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{Headers, Message};
use tidemark_kernel::source::Origin;
use tidemark_kernel::value::{Type, Value};
use tidemark_kernel::{SourcePlan, Time};

use crate::decode::{json, text};

/// Reads one record whose value is `payload`: fills `row` with one value for each declared field.
///
/// # Errors
/// Says why the record cannot be read; `row` then holds nothing of use.
pub(super) fn read(
    source: &SourcePlan,
    record: &impl Message,
    payload: &[u8],
    row: &mut Vec<Value>,
) -> Result<(), String> {
    json::read_value(source, payload, row)?;
    for (name, origin) in &source.origins {
        let Some(index) = source.field(name) else { continue };
        row[index] = field(source.fields[index].ty, origin, record)?;
    }
    Ok(())
}

/// The record's own timestamp.
pub(super) fn time(record: &impl Message) -> Option<Time> {
    record.timestamp().to_millis().map(Time::from_millis)
}

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
