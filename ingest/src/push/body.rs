//! The body of a push request, cut into records.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};

/// Why a body is refused. Nothing of it is appended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The body is no UTF-8 text.
    #[error("the body is not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// The body is no JSON.
    #[error("record {record} of the body is broken JSON: {reason}")]
    Syntax {
        /// Which record, from 1.
        record: usize,
        /// What is wrong.
        reason: String,
    },
    /// A record is JSON, but no object.
    #[error("record {record} of the body is no object")]
    NoObject {
        /// Which record, from 1.
        record: usize,
    },
    /// The body is longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// How long it may be.
        limit: usize,
    },
    /// There is no record.
    #[error("the body holds no record")]
    Empty,
}

impl Explain for BodyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Utf8(_) | Self::Syntax { .. } | Self::NoObject { .. } | Self::Empty => ErrorKind::Invalid,
            Self::TooLong { .. } => ErrorKind::TooLarge,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::NoObject { .. } | Self::Empty => {
                "send one object, an array of objects, or one on each line"
            }
            Self::TooLong { .. } => "send the records in several requests",
            Self::Utf8(_) | Self::Syntax { .. } => return None,
        };
        Some(help.into())
    }
}

/// Cuts a body into its records: one object, an array of objects, or objects one after the other (NDJSON).
pub(crate) fn split(body: &[u8]) -> Result<Vec<&[u8]>, BodyError> {
    let text = std::str::from_utf8(body)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let records = match text.strip_prefix('[') {
        Some(inside) => array(inside)?,
        None => sequence(text)?,
    };
    if records.is_empty() { Err(BodyError::Empty) } else { Ok(records) }
}

fn sequence(mut text: &str) -> Result<Vec<&[u8]>, BodyError> {
    let mut records = Vec::new();
    while !text.is_empty() {
        let length = object(text, records.len() + 1)?;
        records.push(&text.as_bytes()[..length]);
        text = text[length..].trim_start();
    }
    Ok(records)
}

fn array(inside: &str) -> Result<Vec<&[u8]>, BodyError> {
    let mut records = Vec::new();
    let mut text = inside.trim_start();
    if text == "]" {
        return Ok(records);
    }
    loop {
        let record = records.len() + 1;
        let length = object(text, record)?;
        records.push(&text.as_bytes()[..length]);
        text = text[length..].trim_start();
        match text.strip_prefix(',') {
            Some(rest) => text = rest.trim_start(),
            None if text == "]" => return Ok(records),
            None => {
                return Err(BodyError::Syntax {
                    record,
                    reason: "expected `,` or the array's end after it".into(),
                });
            }
        }
    }
}

/// The length of the object that the text begins with.
fn object(text: &str, record: usize) -> Result<usize, BodyError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) if text.starts_with('{') => Ok(values.byte_offset()),
        Some(Ok(_)) => Err(BodyError::NoObject { record }),
        Some(Err(error)) => Err(BodyError::Syntax { record, reason: error.to_string() }),
        None => Err(BodyError::Syntax { record, reason: "the body ends here".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Result<Vec<&str>, BodyError> {
        split(body.as_bytes()).map(|records| {
            records.into_iter().map(|record| std::str::from_utf8(record).expect("UTF-8")).collect()
        })
    }

    #[test]
    fn bodies_are_cut_into_records_as_they_were_sent() {
        assert_eq!(texts(r#" {"a": 1.10} "#), Ok(vec![r#"{"a": 1.10}"#]));
        assert_eq!(texts(r#"[{"a":[{}]} , {"b":"],"}]"#), Ok(vec![r#"{"a":[{}]}"#, r#"{"b":"],"}"#]));
        assert_eq!(texts("\u{feff}{}"), Ok(vec!["{}"]), "some programs begin with a byte order mark");
        assert_eq!(texts("{}\n{\"a\":\n1}\n\n"), Ok(vec!["{}", "{\"a\":\n1}"]));
    }

    #[test]
    fn broken_bodies_are_refused() {
        let syntax = |body| matches!(texts(body), Err(BodyError::Syntax { .. }));
        for body in ["{", "[{}", "[{},]", "[{} {}]", "{}x", "[{}]]", "{\"a\":}", "[,{}]"] {
            assert!(syntax(body), "{body}");
        }
        assert_eq!(texts(""), Err(BodyError::Empty));
        assert_eq!(texts("[ ]"), Err(BodyError::Empty));
        assert_eq!(texts("[{}, 3]"), Err(BodyError::NoObject { record: 2 }));
        assert_eq!(texts("\"text\""), Err(BodyError::NoObject { record: 1 }));
        assert!(matches!(split(b"{\"a\":\"\xff\"}"), Err(BodyError::Utf8(_))));
    }
}
