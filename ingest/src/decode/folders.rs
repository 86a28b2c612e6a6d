//! Fields that come from names of folders, as in `country=DE/day=2026-01-01/part.parquet`.
//!
//! Spark, DuckDB and Polars write such folders for a column by which they part the rows, and leave the column out of the files.
//! So it is a column of every row of a file, as if the file had it, read as text is in CSV. Where the file has the column as well,
//! that one counts.

use std::borrow::Cow;
use std::path::Path;

use arrow::array::ArrayRef;
use tidemark_kernel::SourcePlan;
use tidemark_kernel::value::Field;
use tidemark_kernel::value::arrow::array_of;
use tidemark_kernel::value::convert::Content;
use tidemark_kernel::value::{FeatureType, Type, Value};
use tidemark_offline::input::{FolderColumn, folder_columns};

use super::builder::Cell;
use super::decoder::{Decoder, Unknown};
use super::rows::TextFile;
use super::{ColumnsBuilder, ColumnsError, Form, cells};

/// What the folders of one file say of the fields of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders {
    /// All columns, as text: one that is no field may be one when a record is read again.
    columns: Vec<FolderColumn>,
    fields: Vec<FolderField>,
}

/// A field with the value that it has in every row.
#[derive(Clone, Debug)]
struct FolderField {
    /// Its index in the source.
    index: usize,
    column: String,
    ty: Type,
    value: Value,
}

impl Folders {
    /// Those of the file at `path`.
    ///
    /// # Errors
    /// Fails where two folders name one column that is a field, or one has a value that its field does not hold.
    pub(crate) fn of(path: &Path, source: &SourcePlan) -> Result<Self, ColumnsError> {
        Self::of_columns(&folder_columns(path), source)
    }

    /// The same by the columns.
    ///
    /// # Errors
    /// Like [`of`](Self::of).
    pub(crate) fn of_columns(columns: &[FolderColumn], source: &SourcePlan) -> Result<Self, ColumnsError> {
        let mut folders = Self { columns: columns.to_vec(), fields: Vec::new() };
        for (index, field) in source.fields.iter().enumerate() {
            let [name] = source.path(&field.name)[..] else { continue };
            let mut named = columns.iter().filter(|(column, _)| column == name);
            let Some((column, text)) = named.next() else { continue };
            if named.next().is_some() {
                return Err(ColumnsError::Twice(column.clone()));
            }
            let value = value(source, field, column, text.as_deref())?;
            folders.fields.push(FolderField { index, column: column.clone(), ty: field.ty, value });
        }
        Ok(folders)
    }

    /// The source as a reader of the file takes it, which need not have the columns of its folders.
    pub(crate) fn source<'s>(&self, source: &'s SourcePlan) -> Cow<'s, SourcePlan> {
        if self.fields.is_empty() {
            return Cow::Borrowed(source);
        }
        let mut source = source.clone();
        let names = self.fields.iter().map(|field| source.fields[field.index].name.clone());
        let names: Vec<String> = names.collect();
        source.optional.extend(names);
        Cow::Owned(source)
    }

    /// Those whose columns the file does not have.
    pub(crate) fn without(mut self, has: impl Fn(&str) -> bool) -> Self {
        self.fields.retain(|field| !has(&field.column));
        self
    }

    /// How a record of the file is read again, if this is how its text is.
    fn form(&self, form: Form) -> Form {
        Form::InFolders { columns: self.columns.clone(), form: Box::new(form) }
    }

    /// Sets the fields in a row. What the row itself has is set after that, and counts.
    fn set(&self, row: &mut ColumnsBuilder) {
        self.fields.iter().for_each(|field| row.set(field.index, cell(&field.value)));
    }

    /// A column of so many rows with the value of a field; none where no folder names it.
    pub(crate) fn column(&self, index: usize, rows: usize) -> Option<ArrayRef> {
        let field = self.fields.iter().find(|field| field.index == index)?;
        let values = std::iter::repeat_n(&field.value, rows);
        Some(array_of(FeatureType::Scalar(field.ty), values))
    }

    /// A text file whose rows have these fields as well.
    pub(crate) fn around(self, file: Box<dyn TextFile>) -> Box<dyn TextFile> {
        if self.columns.is_empty() { file } else { Box::new(FileInFolders { folders: self, file }) }
    }

    /// A decoder of records that have these fields as well.
    pub(crate) fn around_decoder(self, decoder: Box<dyn Decoder>) -> Box<dyn Decoder> {
        Box::new(DecoderInFolders { folders: self, decoder })
    }
}

/// Whether the folders of two files name different values for a field: then the files are different ones, even if their bytes
/// are the same.
pub(crate) fn are_apart(one: &Path, other: &Path, source: &SourcePlan) -> bool {
    let (one, other) = (folder_columns(one), folder_columns(other));
    source.fields.iter().any(|field| match source.path(&field.name)[..] {
        [name] => {
            let text = |columns: &[FolderColumn]| {
                columns.iter().rfind(|(column, _)| column == name).map(|(_, text)| text.clone())
            };
            let (Some(one), Some(other)) = (text(&one), text(&other)) else { return false };
            // `day=1` and `day=01` are one number.
            let read = |text: &Option<String>| value(source, field, name, text.as_deref()).ok();
            match (read(&one), read(&other)) {
                (Some(a), Some(b)) => a != b,
                _ => one != other,
            }
        }
        _ => false,
    })
}

fn value(
    source: &SourcePlan,
    field: &Field,
    column: &str,
    text: Option<&str>,
) -> Result<Value, ColumnsError> {
    let Some(text) = text.filter(|text| field.ty == Type::String || !text.trim().is_empty()) else {
        return Ok(Value::Null);
    };
    let zone = source.zone(&field.name);
    Content::Spelled(text).value_in(field.ty, zone).map_err(|_| ColumnsError::Folder {
        folder: format!("{column}={text}"),
        field: field.name.clone(),
        reason: cells::text(field.ty, zone, text).err().unwrap_or_default(),
    })
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Bool(value) => Cell::Bool(*value),
        Value::Int64(value) => Cell::Int64(*value),
        Value::Float64(value) => Cell::Float64(*value),
        Value::String(value) => Cell::String(Cow::Borrowed(value)),
        Value::Timestamp(value) => Cell::Timestamp(*value),
        Value::Bytes(value) => Cell::Bytes(Cow::Borrowed(value)),
        Value::Null | Value::List(_) | Value::Counts(_) => Cell::Null,
    }
}

struct FileInFolders {
    folders: Folders,
    file: Box<dyn TextFile>,
}

impl TextFile for FileInFolders {
    fn form(&self) -> Form {
        self.folders.form(self.file.form())
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    fn advance(&mut self) -> std::io::Result<bool> {
        self.file.advance()
    }

    fn number(&self) -> i64 {
        self.file.number()
    }

    fn record(&self) -> &[u8] {
        self.file.record()
    }

    fn decode(&self, row: &mut ColumnsBuilder) -> Result<(), String> {
        self.folders.set(row);
        self.file.decode(row)
    }
}

struct DecoderInFolders {
    folders: Folders,
    decoder: Box<dyn Decoder>,
}

impl Decoder for DecoderInFolders {
    fn form(&self) -> Form {
        self.folders.form(self.decoder.form())
    }

    fn decode(&self, payload: &[u8], row: &mut ColumnsBuilder, unknown: Unknown<'_>) -> Result<(), String> {
        self.folders.set(row);
        self.decoder.decode(payload, row, unknown)
    }
}
