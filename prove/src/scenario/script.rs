//! Compiles a scenario's text to a script for engines: records in order, and questions with the expected answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tidemark_kernel::source::{EventTimes, Rejection};
use tidemark_kernel::{Offset, Partition, Position, ServicePlan, SourcePlan, Time, Value, Visibility};
use tidemark_registry::{Problem, Problems, Repo};

use super::cells;
use super::document::{Cell, Document, Table};
use super::{CellPlace, ScenarioError};

mod expect;
mod records;

pub(crate) use expect::{Expected, Output};

/// A scenario with every name resolved and every cell read.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The definitions, the scenario's own or the surrounding repo's.
    pub(crate) repo: Arc<Repo>,
    /// What is received, in order.
    pub(crate) records: Vec<Record>,
    /// What is asked, table by table.
    pub(crate) questions: Vec<Question>,
}

/// One record of a partition, as it is received.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) source: Arc<SourcePlan>,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    /// The position of its partition before it.
    pub(crate) from: Position,
    /// The record's own timestamp.
    pub(crate) time: Option<Time>,
    /// One value for each field of the source.
    pub(crate) fields: Vec<Value>,
    /// Whether it is a repetition of an event before it, and counts for nothing.
    pub(crate) is_repeated: bool,
    /// The cell that says why it is a dead letter, where the table has that column.
    pub(crate) dead: Option<Cell>,
    pub(crate) place: CellPlace,
}

/// One row of an `Expect` table.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Its table and row there, from 0.
    pub(crate) row: (usize, usize),
    pub(crate) service: Arc<ServicePlan>,
    /// A value for each key and request field.
    pub(crate) asked: BTreeMap<String, Value>,
    pub(crate) at: Time,
    /// How many records are received before it is asked.
    pub(crate) after: usize,
    /// `as_served`: it is asked as a lookup.
    pub(crate) visibility: Visibility,
    pub(crate) expected: Vec<Expected>,
}

impl Record {
    /// The value of a field; null where the source has none of this name.
    pub(crate) fn field(&self, name: &str) -> Value {
        self.source.field(name).map_or(Value::Null, |index| self.fields[index].clone())
    }

    /// When it happened and arrived, where it is an event.
    pub(crate) fn accept(&self) -> Result<EventTimes, Rejection> {
        self.source.accept(self.partition, self.time, |name| self.field(name))
    }
}

impl Question {
    /// The keys as `name=value`, and when it is asked about.
    pub(crate) fn subject(&self) -> String {
        let keys = self.service.keys();
        let named = |name: &&String| keys.iter().any(|key| key.name == **name);
        let named = self.asked.keys().filter(named).map(|name| format!("{name}={}", self.asked[name]));
        format!("{} at {}", named.collect::<Vec<_>>().join(", "), cells::spell_time(self.at))
    }
}

impl Script {
    /// Resolves a document. Definitions are its own, or else those of `repo`.
    ///
    /// # Errors
    /// The first thing that cannot be read, with its place.
    pub(crate) fn compile(
        file: &Path,
        document: &Document,
        repo: Option<&Arc<Repo>>,
    ) -> Result<Self, ScenarioError> {
        let repo = match (&document.definitions, repo) {
            (Some(text), _) => Arc::new(definitions(file, text)?),
            (None, Some(repo)) => Arc::clone(repo),
            (None, None) => {
                let message = "the scenario has no `yaml` block, and there is no repo around it".to_owned();
                return Err(ScenarioError::at(file, CellPlace { line: 1, column: 1 }, message));
            }
        };
        let context = Context { file, repo: &repo };
        let records = records::read(context, &document.events)?;
        let mut questions = Vec::new();
        for (index, table) in document.expects.iter().enumerate() {
            questions.extend(expect::read(context, table, index, records.len())?);
        }
        Ok(Self { repo, records, questions })
    }
}

fn definitions(file: &Path, text: &str) -> Result<Repo, ScenarioError> {
    let name = file.display().to_string();
    tidemark_registry::parse([(name, text)]).map_err(|problems: Problems| {
        let place = first_place(&problems);
        ScenarioError::at(file, place, format!("the definitions do not hold\n{problems}"))
    })
}

/// Where the first problem is: the block is padded, so that its lines are the scenario's.
fn first_place(problems: &Problems) -> CellPlace {
    let place = |problem: &Problem| problems.files().position(problem.place);
    let first = problems.iter().next().map(place);
    first.map_or(CellPlace { line: 1, column: 1 }, |first| CellPlace {
        line: first.line,
        column: first.column,
    })
}

/// What every table is read in.
#[derive(Clone, Copy)]
struct Context<'a> {
    file: &'a Path,
    repo: &'a Arc<Repo>,
}

impl Context<'_> {
    fn error(self, cell: &Cell, message: String) -> ScenarioError {
        ScenarioError::at(self.file, cell.place, message)
    }

    /// Reads a cell as an instant.
    fn time(self, cell: &Cell) -> Result<Time, ScenarioError> {
        cells::time(&cell.text).ok_or_else(|| {
            self.error(cell, format!("`{}` is no instant", cell.text))
                .with_help("write 08:30, 08:30:00.125 or 2026-01-02T08:30")
        })
    }

    /// The error for an unknown name.
    fn unknown<'n>(
        self,
        cell: &Cell,
        what: &str,
        known: impl IntoIterator<Item = &'n str> + Clone,
    ) -> ScenarioError {
        let near = tidemark_expr::closest(&cell.text, known.clone());
        let help = near.map_or_else(
            || format!("there is {}", known.into_iter().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        self.error(cell, format!("unknown {what} `{}`", cell.text)).with_help(help)
    }

    /// Reads a cell of a type.
    fn value(self, ty: tidemark_kernel::Type, cell: &Cell) -> Result<Value, ScenarioError> {
        cells::value(ty, &cell.text).ok_or_else(|| self.error(cell, format!("`{}` is no {ty}", cell.text)))
    }
}

/// A cell of a row, by the name of its column.
fn cell<'t>(table: &'t Table, row: &'t [Cell], column: &str) -> Option<&'t Cell> {
    table.column(column).map(|column| &row[column])
}
