//! The labels: every column as in its files, and those that the service needs as kernel types.
//!
//! Every column of a file is part of the result or is refused: a name that is there twice, a column that another file
//! lacks. Only the columns that the service needs are converted; values in the others never stop a run.

mod csv;
pub(super) mod files;
mod guess;
mod json;
mod parquet;
mod tables;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use tidemark_expr::closest;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::value::{Type, Unit};
use tidemark_kernel::{EntityKey, Explain, ServiceView, Time, Token, Value};

use super::LabelSource;
use super::declared::{self, Misfit, Texts, declared};
use super::error::{TokenProblem, TrainError};
use super::problems::{LabelProblems, quoted};
use crate::input::Format;
use files::{LabelFile, label_files};
use tables::{check_batches, read_file, unite};
use times::{Instant, NoInstants, instants};

/// The metadata in which Hugging Face lists all columns of a file: wrong once there are more.
const HUGGING_FACE: &str = "huggingface";

/// What labels in memory are called in messages.
const IN_MEMORY: &str = "labels";

/// The rows of labels, in memory and in their order.
pub(super) struct Labels {
    files: Vec<Part>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    pub(super) rows: usize,
    /// The columns whose format has nothing but text: fields of CSV, partition columns.
    texts: BTreeSet<String>,
    /// Whether the files are JSON lines.
    is_json: bool,
    /// In which times are that name none; UTC without one.
    zone: Option<Zone>,
}

/// The rows of one file.
struct Part {
    path: PathBuf,
    /// Its first row among those of all files.
    first: usize,
    lines: Option<Vec<u64>>,
}

/// The instants that labels ask about.
#[derive(Default)]
pub(super) struct Times {
    pub(super) times: Vec<Time>,
    /// Whether some are read as UTC because they name no zone, and none is given.
    pub(super) is_naive: bool,
    /// Whether their column is text that says no more than they do.
    pub(super) is_exact: bool,
}

/// The columns that labels are asked by as kernel types, by their names and those of the types.
pub(super) type KeyColumns = BTreeMap<(String, &'static str), ArrayRef>;

impl Labels {
    /// Reads the labels. Times that name no zone are in `zone`.
    pub(super) async fn read(source: &LabelSource, zone: Option<Zone>) -> Result<Self, TrainError> {
        let labels = match source.clone() {
            LabelSource::Files(path) => tokio::task::spawn_blocking(move || Self::read_files(&path)).await?,
            LabelSource::Batches(batches) => Self::of_batches(batches),
        };
        Ok(Self { zone, ..labels? })
    }

    fn of_batches(batches: Vec<RecordBatch>) -> Result<Self, TrainError> {
        let path = PathBuf::from(IN_MEMORY);
        let schema = check_batches(&path, &batches)?;
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Err(TrainError::Empty(path));
        }
        let files = vec![Part { path, first: 0, lines: None }];
        Ok(Self { files, schema, batches, rows, texts: BTreeSet::new(), is_json: false, zone: None })
    }

    fn read_files(path: &Path) -> Result<Self, TrainError> {
        let files: Result<Vec<LabelFile>, _> = label_files(path)?.into_iter().map(LabelFile::of).collect();
        let files = files?;
        let (mut tables, mut texts) = (Vec::new(), BTreeSet::new());
        for file in &files {
            if file.format != files[0].format {
                let (path, first) = (file.path.clone(), files[0].path.clone());
                return Err(TrainError::Formats { path, first });
            }
            tables.push(read_file(file, &mut texts)?);
        }
        let schema = unite(&files, &mut tables)?;
        let is_json = files.iter().any(|file| file.format == Format::Json);
        let (mut parts, mut batches, mut rows) = (Vec::new(), Vec::new(), 0);
        for (file, table) in files.into_iter().zip(tables) {
            parts.push(Part { path: file.path, first: rows, lines: table.lines });
            rows += table.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            batches.extend(table.batches);
        }
        if rows == 0 {
            return Err(TrainError::Empty(path.to_owned()));
        }
        Ok(Self { files: parts, schema, batches, rows, texts, is_json, zone: None })
    }

    /// The place of a row in its file.
    pub(super) fn place(&self, row: usize) -> String {
        let at = self.files.partition_point(|file| file.first <= row).saturating_sub(1);
        let Part { path, first, lines } = &self.files[at];
        match lines.as_ref().and_then(|lines| lines.get(row - first)) {
            Some(line) => format!("{}:{line}", path.display()),
            None => format!("row {} of {}", row - first + 1, path.display()),
        }
    }

    /// A whole column as it is; none where the files lack it, which is a problem.
    fn column(
        &self,
        name: &str,
        purpose: &str,
        problems: &mut LabelProblems,
    ) -> Result<Option<ArrayRef>, TrainError> {
        let Ok(at) = self.schema.index_of(name) else {
            problems.add(name, None, || self.missing(name, purpose));
            return Ok(None);
        };
        let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(at).as_ref()).collect();
        Ok(Some(concat(&parts)?))
    }

    fn missing(&self, name: &str, purpose: &str) -> (String, String) {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = format!("its columns are {}", names.join(", "));
        let help = match closest(name, names.iter().copied()) {
            Some(known) => format!("did you mean `{known}`? {columns}"),
            None => columns,
        };
        (format!("{} has no column `{name}`, {purpose}", self.files[0].path.display()), help)
    }

    /// A whole column as a kernel type. Values that are none are problems, each with its row; then the column is
    /// missing from the result.
    pub(super) fn typed(
        &self,
        name: &str,
        ty: Type,
        purpose: &str,
        problems: &mut LabelProblems,
    ) -> Result<Option<ArrayRef>, TrainError> {
        let Some(column) = self.column(name, purpose, problems)? else { return Ok(None) };
        let texts = self.texts_of(name);
        match declared(&column, ty, self.zone, texts) {
            Ok(typed) => return Ok(Some(typed)),
            Err(Misfit::Type) => {
                let (path, found) = (self.files[0].path.display(), column.data_type());
                let message = format!("column `{name}` of {path} is {found}, but {purpose} is {ty}");
                let help = format!("write `cast({name} as {})` where the labels are made", cast_name(ty));
                problems.add(name, None, || (message, help));
            }
            Err(Misfit::Rows(rows)) => {
                for row in rows {
                    problems.add(name, Some(row), || {
                        let (why, help) = declared::explained(&column, row, ty, self.zone, texts);
                        let value = quoted(&declared::shown(&column, row));
                        (format!("{}: `{name}` is {value}, which is {why}", self.place(row)), help.to_owned())
                    });
                }
            }
        }
        Ok(None)
    }

    fn texts_of(&self, name: &str) -> Texts {
        if self.texts.contains(name) {
            Texts::Spelled
        } else if self.is_json {
            Texts::Quoted
        } else {
            Texts::Typed
        }
    }

    /// The instant each label asks about. Numbers are of that unit.
    pub(super) fn times(
        &self,
        name: &str,
        unit: Option<Unit>,
        problems: &mut LabelProblems,
    ) -> Result<Times, TrainError> {
        let Some(column) = self.column(name, "the label time", problems)? else {
            return Ok(Times::default());
        };
        let instants = match instants(&column, unit, self.zone, self.texts.contains(name)) {
            Ok(instants) => instants,
            Err(reason) => {
                problems.add(name, None, || self.no_instants(name, &column, &reason));
                return Ok(Times::default());
            }
        };
        let mut times = Vec::with_capacity(self.rows);
        for (row, instant) in instants.rows.into_iter().enumerate() {
            match instant {
                Instant::At(time) if time.is_valid() => times.push(time),
                wrong => problems.add(name, Some(row), || self.wrong_instant(name, row, wrong, unit)),
            }
        }
        Ok(Times { times, is_naive: instants.is_naive, is_exact: instants.is_exact })
    }

    fn no_instants(&self, name: &str, column: &ArrayRef, reason: &NoInstants) -> (String, String) {
        let (path, found) = (self.files[0].path.display(), column.data_type());
        let column = format!("the label time `{name}` of {path} is {found}");
        match reason {
            NoInstants::NoUnit => (
                format!("{column}, a number of an unknown unit"),
                "say the unit with --unit s, or ms, us, ns".to_owned(),
            ),
            NoInstants::NoNumbers => {
                (format!("{column}, and --unit is for numbers"), "leave --unit out".to_owned())
            }
            NoInstants::Type => (
                format!("{column}, which is no time"),
                "name a column of timestamps, dates, or text like 2026-05-01T12:00:00Z".to_owned(),
            ),
        }
    }

    fn wrong_instant(
        &self,
        name: &str,
        row: usize,
        instant: Instant,
        unit: Option<Unit>,
    ) -> (String, String) {
        let place = self.place(row);
        let help = match (unit, &instant) {
            (Some(_), _) => "write a number like 1777636800, within the years 1 to 9999 of its unit",
            (None, Instant::Bad(text)) if text.parse::<f64>().is_ok() => {
                "say the unit of numbers with --unit s, or ms, us, ns"
            }
            (_, Instant::Unclear(_, why)) => declared::no_instant(*why).1,
            (None, _) => "write an instant like 2026-05-01T12:00:00Z",
        };
        let message = match instant {
            Instant::Unclear(text, why) => {
                let (why, _) = declared::no_instant(why);
                format!("{place}: the label time `{name}` is {}, which is {why}", quoted(&text))
            }
            Instant::Null => {
                format!("{place}: the label time `{name}` is null, and every label needs an instant")
            }
            Instant::Bad(text) => {
                let text = quoted(&text);
                format!("{place}: the label time `{name}` is {text}, which is no instant")
            }
            Instant::At(time) => {
                format!("{place}: the label time `{name}` is {time}, which is outside the years 1 to 9999")
            }
        };
        (message, help.to_owned())
    }

    /// The entity of each label in one view and role; none where a part of its key is null. `asked` has the columns of all
    /// its keys, which `column_of` names.
    pub(super) fn keys(
        &self,
        view: &ServiceView,
        asked: &KeyColumns,
        column_of: impl Fn(&str) -> String,
    ) -> Vec<Option<EntityKey>> {
        let parts: Vec<&ArrayRef> =
            view.keys.iter().filter_map(|key| asked.get(&(column_of(&key.name), key.ty.name()))).collect();
        let key = |row| {
            let values: Vec<Value> = parts.iter().map(|part| value_at(part, row)).collect();
            EntityKey::encode(&values)
        };
        (0..self.rows).map(key).collect()
    }

    /// The token of each label.
    pub(super) fn tokens(
        &self,
        name: &str,
        problems: &mut LabelProblems,
    ) -> Result<Vec<Option<Token>>, TrainError> {
        let Some(column) = self.typed(name, Type::String, "the token", problems)? else {
            return Ok(Vec::new());
        };
        let tokens = column.as_string::<i32>().iter().enumerate().map(|(row, text)| {
            let token = text.ok_or(TokenProblem::Null).and_then(|text| Ok(text.parse::<Token>()?));
            token.map_err(|problem| self.bad_token(row, &problem, problems)).ok()
        });
        Ok(tokens.collect())
    }

    pub(super) fn bad_token(&self, row: usize, problem: &TokenProblem, problems: &mut LabelProblems) {
        problems.add("", Some(row), || {
            let help = problem.help().unwrap_or_default().into_owned();
            (format!("{}: {problem}", self.place(row)), help)
        });
    }

    /// The columns that come out, in the files' order: text as in the file if `as_text`, else in their types.
    /// Those are the types of `asked`, and for any other column a type from which every text of it can be restored.
    pub(super) fn outgoing(
        &self,
        asked: &KeyColumns,
        as_text: bool,
    ) -> Result<(Schema, Vec<RecordBatch>), TrainError> {
        let mut fields: Vec<Arc<Field>> = self.schema.fields().iter().cloned().collect();
        let mut batches: Vec<Vec<ArrayRef>> =
            self.batches.iter().map(|batch| batch.columns().to_vec()).collect();
        for (at, field) in fields.iter_mut().enumerate() {
            if as_text || !self.texts.contains(field.name()) {
                continue;
            }
            let ty = match asked.iter().find(|((name, _), _)| name == field.name()) {
                Some((_, column)) => {
                    let mut first = 0;
                    for columns in &mut batches {
                        let rows = columns[at].len();
                        columns[at] = column.slice(first, rows);
                        first += rows;
                    }
                    column.data_type().clone()
                }
                None => {
                    let ty = guess::type_of(batches.iter().map(|columns| columns[at].as_string::<i32>()));
                    for columns in &mut batches {
                        columns[at] = guess::convert(columns[at].as_string::<i32>(), &ty);
                    }
                    ty
                }
            };
            *field = Arc::new(Field::new(field.name(), ty, true));
        }
        let schema = Schema::new_with_metadata(fields, self.metadata());
        let shared = Arc::new(schema.clone());
        let batches = batches.into_iter().map(|columns| RecordBatch::try_new(Arc::clone(&shared), columns));
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        Ok((schema, batches))
    }

    /// What the first file says of itself. Rows stay as they are, so it is true of the training set as well.
    fn metadata(&self) -> std::collections::HashMap<String, String> {
        let mut metadata = self.schema.metadata().clone();
        metadata.remove(HUGGING_FACE);
        metadata
    }

    /// How many files the labels are of.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }
}

fn cast_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "boolean",
        Type::Int64 => "bigint",
        Type::Float64 => "double",
        Type::String => "varchar",
        Type::Timestamp => "timestamp",
        Type::Bytes => "blob",
    }
}
