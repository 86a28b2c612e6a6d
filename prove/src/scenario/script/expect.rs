//! The tables of expectations.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::service::ServiceFeature;
use tidemark_kernel::value::FeatureType;
use tidemark_kernel::{ServicePlan, ServiceView, Type, Value, Visibility};
use tidemark_registry::Repo;

use super::{Context, Question, cell};
use crate::scenario::ScenarioError;
use crate::scenario::document::{Cell, Table};

/// What one cell says about an answer.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) cell: Cell,
    /// The cell's column in its table.
    pub(crate) column: usize,
    pub(crate) output: Output,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A value with its status: an index into the service's features, the derived ones last.
    Feature { index: usize, ty: FeatureType },
    /// The newest event of one of the service's views.
    Newest { view: usize },
}

/// What a column of the table is.
enum Column {
    At,
    After,
    Visibility,
    Asked(String, Type),
    Output(Output),
}

/// The questions of one table. `records` is how many records there are.
pub(super) fn read(
    context: Context<'_>,
    table: &Table,
    index: usize,
    records: usize,
) -> Result<Vec<Question>, ScenarioError> {
    let service = service(context, table)?;
    let columns = table.header.iter().map(|cell| column(context, &service, cell));
    let columns = columns.collect::<Result<Vec<Column>, _>>()?;
    for (name, what) in asked(&service) {
        if table.column(&name).is_none() {
            let first = table.header.first().cloned().unwrap_or_default();
            return Err(context.error(&first, format!("the table has no column for the {what} `{name}`")));
        }
    }
    let questions = Questions { context, table, service, columns, index, records };
    (0..table.rows.len()).map(|row| questions.question(row)).collect()
}

fn asked(service: &ServicePlan) -> Vec<(String, &'static str)> {
    let keys = service.keys().into_iter().map(|key| (key.name.clone(), "key"));
    keys.chain(service.request.iter().map(|field| (field.name.clone(), "request field"))).collect()
}

/// The service that the heading names, the only one, or one of every view where there is none.
fn service(context: Context<'_>, table: &Table) -> Result<Arc<ServicePlan>, ScenarioError> {
    let services = &context.repo.services;
    match (&table.about, services.len()) {
        (Some(about), _) => services
            .get(&about.text)
            .cloned()
            .ok_or_else(|| context.unknown(about, "service", services.keys().map(String::as_str))),
        (None, 0) => Ok(Arc::new(everything(context.repo))),
        (None, 1) => services.values().next().cloned().ok_or_else(|| unnamed(context, table)),
        (None, _) => Err(unnamed(context, table)),
    }
}

fn unnamed(context: Context<'_>, table: &Table) -> ScenarioError {
    let first = table.header.first().cloned().unwrap_or_default();
    let known: Vec<&str> = context.repo.services.keys().map(String::as_str).collect();
    let help = format!("write `## Expect: NAME`, one of {}", known.join(", "));
    context.error(&first, "there are several services".to_owned()).with_help(help)
}

/// Every feature of every view.
fn everything(repo: &Repo) -> ServicePlan {
    let views: Vec<ServiceView> = repo.views.values().cloned().map(ServiceView::from).collect();
    let of_view = |view: usize| {
        (0..views[view].plan.features.len()).map(move |feature| ServiceFeature { view, feature })
    };
    let features = (0..views.len()).flat_map(of_view).collect();
    ServicePlan { name: "every_view".to_owned(), features, views, request: Vec::new(), derived: Vec::new() }
}

fn column(context: Context<'_>, service: &ServicePlan, cell: &Cell) -> Result<Column, ScenarioError> {
    let key = service.keys().into_iter().find(|key| key.name == cell.text).map(|key| key.ty);
    let request = service.request.iter().find(|field| field.name == cell.text).map(|field| field.ty);
    match (cell.text.as_str(), key.or(request)) {
        ("at", _) => Ok(Column::At),
        (name, Some(ty)) => Ok(Column::Asked(name.to_owned(), ty)),
        ("after", _) => Ok(Column::After),
        ("visibility", _) => Ok(Column::Visibility),
        (name, _) => output(context, service, name, cell).map(Column::Output),
    }
}

fn output(
    context: Context<'_>,
    service: &ServicePlan,
    name: &str,
    cell: &Cell,
) -> Result<Output, ScenarioError> {
    let outputs = outputs(service);
    let matching = |(whole, short, _): &&(String, String, Output)| whole == name || short == name;
    let found: Vec<_> = outputs.iter().filter(matching).collect();
    match found[..] {
        [(_, _, output)] => Ok(output.clone()),
        [] => Err(context.unknown(cell, "column", outputs.iter().map(|(whole, _, _)| whole.as_str()))),
        [(first, _, _), ..] => {
            let error = context.error(cell, format!("several features are named `{name}`"));
            Err(error.with_help(format!("write the view before it, as `{first}`")))
        }
    }
}

/// Every output with its whole and its short name.
fn outputs(service: &ServicePlan) -> Vec<(String, String, Output)> {
    let windowed = service.features.iter().map(|feature| &service.feature(*feature).1.name);
    let short = windowed.chain(service.derived.iter().map(|derived| &derived.name));
    let features = service.columns().zip(short).enumerate().map(|(index, (column, short))| {
        (column.name, short.clone(), Output::Feature { index, ty: column.ty })
    });
    let newest = service.views.iter().enumerate().map(|(index, view)| {
        (format!("{}.newest", view.role), "newest".to_owned(), Output::Newest { view: index })
    });
    features.chain(newest).collect()
}

struct Questions<'a> {
    context: Context<'a>,
    table: &'a Table,
    service: Arc<ServicePlan>,
    columns: Vec<Column>,
    index: usize,
    records: usize,
}

impl Questions<'_> {
    fn question(&self, index: usize) -> Result<Question, ScenarioError> {
        let row = &self.table.rows[index];
        let at = cell(self.table, row, "at").ok_or_else(|| {
            let first = row.first().cloned().unwrap_or_default();
            self.context.error(&first, "the table has no column `at`".to_owned())
        })?;
        let mut question = Question {
            row: (self.index, index),
            service: Arc::clone(&self.service),
            asked: BTreeMap::new(),
            at: self.context.time(at)?,
            after: self.records,
            visibility: Visibility::AsServed,
            expected: Vec::new(),
        };
        for (column, cell) in row.iter().enumerate() {
            self.fill(&mut question, column, cell)?;
        }
        Ok(question)
    }

    fn fill(&self, question: &mut Question, column: usize, cell: &Cell) -> Result<(), ScenarioError> {
        match &self.columns[column] {
            Column::At => {}
            Column::After if cell.text.is_empty() => {}
            Column::After => question.after = self.after(cell)?,
            Column::Visibility if cell.text.is_empty() => {}
            Column::Visibility => {
                question.visibility =
                    cell.text.parse().map_err(|message| self.context.error(cell, message))?;
            }
            Column::Asked(name, ty) => {
                let value: Value = self.context.value(*ty, cell)?;
                question.asked.insert(name.clone(), value);
            }
            Column::Output(output) => {
                let (cell, output) = (cell.clone(), output.clone());
                question.expected.push(Expected { cell, column, output });
            }
        }
        Ok(())
    }

    fn after(&self, cell: &Cell) -> Result<usize, ScenarioError> {
        let after = cell.text.parse().ok().filter(|after| *after <= self.records);
        after.ok_or_else(|| {
            let message = format!("`{}` is no number of events from 0 to {}", cell.text, self.records);
            self.context.error(cell, message)
        })
    }
}
