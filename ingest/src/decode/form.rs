//! How the bytes of a record are read, and what was received beside them.
//!
//! A dead letter is retried from what its row keeps. The bytes alone are not enough: a record of CSV means nothing
//! without its header, and the key of a Kafka record may be a field.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use tidemark_kernel::codec::{DecodeError, Reader, Writer};
use tidemark_kernel::{Partition, Time};
use tidemark_offline::input::FolderColumn;

/// How the bytes of a record are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A JSON object: a line of a file, or a pushed record.
    Json,
    /// A record of CSV.
    Csv {
        /// The header of its file, unchanged but without the end of its line.
        header: Arc<str>,
    },
    /// A record of text whose fields are separated by tabs.
    Tsv {
        /// As that of CSV.
        header: Arc<str>,
    },
    /// A row that had no bytes of its own, spelled out in JSON: a member for each field that was declared then.
    Columns,
    /// The value of a Kafka record, with its key and headers. None where those were not kept.
    Kafka(Option<Beside>),
    /// A record of a text file whose folders are named after values of its fields.
    InFolders {
        /// The columns that the folders name, as text.
        columns: Vec<FolderColumn>,
        /// How the record is read: as JSON, CSV or TSV.
        form: Box<Form>,
    },
}

/// A record that was rejected, as it can be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// The partition that it was first read from: its rules decide about it.
    pub(crate) partition: Partition,
    /// Its offset there.
    pub(crate) offset: i64,
    /// Where it came from, for people.
    pub(crate) place: String,
    /// The record's own timestamp, where it has one.
    pub(crate) time: Option<Time>,
    /// How its bytes are read.
    pub(crate) form: Form,
    /// The bytes received.
    pub(crate) raw: Vec<u8>,
}

/// The key and headers of a Kafka record.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beside {
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// Names and values of the headers, in their order. A header may have no value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The name and the value of a header.
pub(crate) type Header<'a> = (&'a str, Option<&'a [u8]>);

impl Form {
    /// As a text, for the table of dead letters: `{"format": "csv", "header": "id,amount"}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let spelled = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
        let json = match self {
            Self::Json => json!({"format": "json"}),
            Self::Csv { header } => json!({"format": "csv", "header": **header}),
            Self::Tsv { header } => json!({"format": "tsv", "header": **header}),
            Self::Columns => json!({"format": "columns"}),
            Self::Kafka(None) => json!({"format": "kafka"}),
            Self::Kafka(Some(Beside { key, headers })) => {
                let headers: Vec<Json> =
                    headers.iter().map(|(name, value)| json!([name, spelled(value)])).collect();
                json!({"format": "kafka", "key": spelled(key), "headers": headers})
            }
            Self::InFolders { columns, form } => {
                let columns: Vec<Json> = columns.iter().map(|(name, value)| json!([name, value])).collect();
                let mut json: Json = serde_json::from_str(&form.to_json()).unwrap_or_default();
                json["folders"] = columns.into();
                json
            }
        };
        json.to_string()
    }

    /// The form that a text spells; none where it spells none that is known.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let form = Self::of_record(&json)?;
        let Some(folders) = json.get("folders") else { return Some(form) };
        let column = |json: &Json| {
            let value = match json.get(1)? {
                Json::Null => None,
                value => Some(value.as_str()?.to_owned()),
            };
            Some((json.get(0)?.as_str()?.to_owned(), value))
        };
        let columns = folders.as_array()?.iter().map(column).collect::<Option<_>>()?;
        Some(Self::InFolders { columns, form: Box::new(form) })
    }

    /// How the record itself is read, whatever its folders are.
    fn of_record(json: &Json) -> Option<Self> {
        match json.get("format")?.as_str()? {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv { header: json.get("header")?.as_str()?.into() }),
            "tsv" => Some(Self::Tsv { header: json.get("header")?.as_str()?.into() }),
            "columns" => Some(Self::Columns),
            "kafka" => match json.get("headers") {
                None => Some(Self::Kafka(None)),
                Some(headers) => {
                    let headers = headers
                        .as_array()?
                        .iter()
                        .map(|header| Some((header.get(0)?.as_str()?.to_owned(), bytes(header.get(1)?)?)));
                    let (key, headers) = (bytes(json.get("key")?)?, headers.collect::<Option<_>>()?);
                    Some(Self::Kafka(Some(Beside { key, headers })))
                }
            },
            _ => None,
        }
    }

    /// Whether the record is kept as it is written, of a file as far as one that is too long is kept.
    pub(crate) fn is_text(&self) -> bool {
        match self {
            Self::Json | Self::Csv { .. } | Self::Tsv { .. } => true,
            Self::InFolders { form, .. } => form.is_text(),
            Self::Columns | Self::Kafka(_) => false,
        }
    }

    /// About how much memory it takes of its own. The header of a file is shared by its records.
    pub(crate) fn bytes(&self) -> usize {
        let Self::Kafka(Some(Beside { key, headers })) = self else { return 0 };
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        length(key) + headers.iter().map(|(name, value)| name.len() + length(value)).sum::<usize>()
    }

    /// As bytes, for records by the million and for the journal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Json => out.u8(0),
            Self::Csv { header } => {
                out.u8(1);
                out.bytes(header.as_bytes());
            }
            Self::Tsv { header } => {
                out.u8(5);
                out.bytes(header.as_bytes());
            }
            Self::Columns => out.u8(2),
            Self::InFolders { columns, form } => {
                out.u8(6);
                out.varint(columns.len() as u64);
                for (name, value) in columns {
                    out.bytes(name.as_bytes());
                    optional(&mut out, value.as_ref().map(String::as_bytes));
                }
                out.bytes(&form.encode());
            }
            Self::Kafka(None) => out.u8(3),
            Self::Kafka(Some(Beside { key, headers })) => {
                let headers: Vec<Header<'_>> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                return Self::encode_kafka(key.as_deref(), &headers);
            }
        }
        out.into_bytes()
    }

    /// As [`encode`](Self::encode) does, the form of a Kafka record of which nothing is copied before.
    pub(crate) fn encode_kafka(key: Option<&[u8]>, headers: &[Header<'_>]) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(4);
        optional(&mut out, key);
        out.varint(headers.len() as u64);
        for (name, value) in headers {
            out.bytes(name.as_bytes());
            optional(&mut out, *value);
        }
        out.into_bytes()
    }

    /// The form of [`encode`](Self::encode)d bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let form = match from.u8()? {
            0 => Self::Json,
            1 => Self::Csv { header: text(&mut from)?.into() },
            2 => Self::Columns,
            3 => Self::Kafka(None),
            4 => {
                let key = read_optional(&mut from)?;
                let count = from.count(2)?;
                let header = |_| Ok((text(&mut from)?, read_optional(&mut from)?));
                let headers = (0..count).map(header).collect::<Result<_, DecodeError>>()?;
                Self::Kafka(Some(Beside { key, headers }))
            }
            5 => Self::Tsv { header: text(&mut from)?.into() },
            6 => {
                let count = from.count(2)?;
                let column = |_| {
                    let name = text(&mut from)?;
                    let value = read_optional(&mut from)?.map(String::from_utf8).transpose();
                    Ok((name, value.map_err(|_| from.malformed("UTF-8"))?))
                };
                let columns = (0..count).map(column).collect::<Result<_, DecodeError>>()?;
                let form = from.bytes()?.to_vec();
                Self::InFolders { columns, form: Box::new(Self::decode(&form)?) }
            }
            _ => return Err(from.malformed("a form")),
        };
        from.finish()?;
        Ok(form)
    }
}

/// The forms of the rows of a chunk.
#[derive(Clone, Debug)]
pub enum Forms {
    /// All rows have this one.
    All(Form),
    /// Each row has its own.
    Each(EachForm),
}

/// Encoded forms, one after the other.
#[derive(Clone, Debug, Default)]
pub struct EachForm {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Forms {
    /// Of no rows yet, each of which will have its own.
    pub(crate) fn each() -> Self {
        Self::Each(EachForm::default())
    }

    /// Adds a row with a form of its own, [encoded](Form::encode). Where all rows have one form this is not needed.
    pub(crate) fn push(&mut self, form: &[u8]) {
        if let Self::Each(EachForm { bytes, ends }) = self {
            bytes.extend_from_slice(form);
            ends.push(bytes.len());
        }
    }

    /// The form that all rows have, if they have one.
    pub(crate) fn of_all(&self) -> Option<Form> {
        if let Self::All(form) = self { Some(form.clone()) } else { None }
    }

    /// The form of a row; none where there is no such row.
    pub(crate) fn of(&self, row: usize) -> Option<Form> {
        match self {
            Self::All(form) => Some(form.clone()),
            Self::Each(EachForm { bytes, ends }) => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                Form::decode(&bytes[start..*ends.get(row)?]).ok()
            }
        }
    }
}

/// Null, or bytes in base64.
#[expect(clippy::option_option, reason = "no bytes are something else than no such text")]
fn bytes(json: &Json) -> Option<Option<Vec<u8>>> {
    match json {
        Json::Null => Some(None),
        Json::String(text) => STANDARD.decode(text).ok().map(Some),
        _ => None,
    }
}

fn optional(out: &mut Writer, bytes: Option<&[u8]>) {
    out.u8(u8::from(bytes.is_some()));
    bytes.iter().for_each(|bytes| out.bytes(bytes));
}

fn read_optional(from: &mut Reader<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
    Ok(if from.u8()? == 0 { None } else { Some(from.bytes()?.to_vec()) })
}

fn text(from: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = from.bytes()?.to_vec();
    String::from_utf8(bytes).map_err(|_| from.malformed("UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_back() {
        let headers = vec![("a".to_owned(), Some(vec![0, 255])), (String::new(), None)];
        let beside = Beside { key: Some(b"k".to_vec()), headers };
        for (form, spelled) in [
            (Form::Json, r#"{"format":"json"}"#),
            (Form::Csv { header: "id,\"a\"".into() }, r#"{"format":"csv","header":"id,\"a\""}"#),
            (Form::Tsv { header: "id\ta".into() }, r#"{"format":"tsv","header":"id\ta"}"#),
            (Form::Columns, r#"{"format":"columns"}"#),
            (
                Form::InFolders {
                    columns: vec![("day".to_owned(), Some("1".to_owned())), ("a".to_owned(), None)],
                    form: Box::new(Form::Tsv { header: "id".into() }),
                },
                r#"{"folders":[["day","1"],["a",null]],"format":"tsv","header":"id"}"#,
            ),
            (Form::Kafka(None), r#"{"format":"kafka"}"#),
            (Form::Kafka(Some(Beside::default())), r#"{"format":"kafka","headers":[],"key":null}"#),
            (
                Form::Kafka(Some(beside)),
                r#"{"format":"kafka","headers":[["a","AP8="],["",null]],"key":"aw=="}"#,
            ),
        ] {
            assert_eq!(form.to_json(), spelled);
            assert_eq!(Form::from_json(spelled), Some(form.clone()));
            assert_eq!(Form::decode(&form.encode()), Ok(form));
        }
        assert_eq!(Form::from_json(r#"{"format":"avro"}"#), None);
        assert!(Form::decode(&[9]).is_err());
    }

    #[test]
    fn each_row_has_its_form() {
        let mut each = Forms::each();
        let forms = [Form::Json, Form::Csv { header: "a".into() }, Form::Kafka(None)];
        forms.iter().for_each(|form| each.push(&form.encode()));
        for (row, form) in forms.into_iter().enumerate() {
            assert_eq!(each.of(row), Some(form));
        }
        assert_eq!(each.of(3), None);
    }
}
