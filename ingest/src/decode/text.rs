//! Values as text: fields of CSV, keys and headers of Kafka records.
//!
//! Numbers are decimal text (and `NaN`, `inf`, `-inf`), bools `true` or `false`, instants RFC 3339, bytes base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemark_kernel::Time;
use tidemark_kernel::value::Type;

use super::builder::Cell;
use super::json::shortened;

/// A text as a declared type, or why it is none.
pub(crate) fn cell(ty: Type, text: &str) -> Result<Cell<'_>, String> {
    let read = match ty {
        Type::Bool => text.parse().ok().map(Cell::Bool),
        Type::Int64 => text.parse().ok().map(Cell::Int64),
        Type::Float64 => number(text).map(Cell::Float64),
        Type::String => Some(Cell::String(text.into())),
        Type::Timestamp => Time::parse(text).map(Cell::Timestamp),
        Type::Bytes => STANDARD.decode(text).ok().map(|bytes| Cell::Bytes(bytes.into())),
    };
    read.ok_or_else(|| format!("expected {}, got `{}`", expected(ty), shortened(text)))
}

/// What is too large for a float64 is refused; infinity is so only by name.
fn number(text: &str) -> Option<f64> {
    let named = !text.contains(|character: char| character.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| named || number.is_finite())
}

fn expected(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "true or false",
        Type::Int64 => "an int64",
        Type::Float64 => "a number",
        Type::String => "text",
        Type::Timestamp => "an RFC 3339 time (a numeric time is an int64 field with a `unit`)",
        Type::Bytes => "base64",
    }
}
