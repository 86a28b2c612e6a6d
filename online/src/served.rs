//! A service made ready to be looked up, and what a question must name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use tidemark_expr::{DerivedEvaluator, ExprError};
use tidemark_kernel::error::{ErrorKind, Explain};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::service::{ServiceColumn, ServicePlan};
use tidemark_kernel::value::Field;
use tidemark_kernel::value::{Type, Value};

use crate::derive::Derivation;
use crate::error::{LookupError, help};
use crate::lookups::Row;

/// A service made ready to be looked up: its names resolved, its expressions compiled.
#[derive(Debug)]
pub struct Served {
    plan: Arc<ServicePlan>,
    /// What every row names: the keys, then the request fields.
    asked: Vec<RowField>,
    /// For each view in each of its roles, where in `asked` the parts of its key are.
    keys: Vec<Vec<usize>>,
    columns: Vec<ServiceColumn>,
    derivation: Derivation,
}

/// One value that every row of a lookup names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// True for a part of a view's key, false for a request field.
    pub is_key: bool,
}

/// A service that cannot be served: its plan was not made by a registry that checked it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("service `{service}` cannot be served: {source}")]
pub struct DefinitionError {
    /// The name of the service.
    pub service: String,
    /// What is wrong with the expression.
    pub source: ExprError,
}

impl Explain for DefinitionError {
    /// Not the kind of the expression's error: a registry has already refused what the author can correct.
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Explain::help(&self.source)
    }
}

impl Served {
    /// Compiles the derived features and resolves the keys.
    ///
    /// # Errors
    /// Fails where a derived feature does not compile, or has another type than the plan says.
    pub fn new(plan: Arc<ServicePlan>) -> Result<Self, DefinitionError> {
        let evaluator = DerivedEvaluator::new(&plan)
            .map_err(|source| DefinitionError { service: plan.name.clone(), source })?;
        let keys = plan.keys();
        let place = |part: &Field| keys.iter().position(|key| key.name == part.name);
        let places = plan.views.iter().map(|view| view.keys.iter().filter_map(place).collect()).collect();
        let asked = keys.iter().map(|key| RowField { name: key.name.clone(), ty: key.ty, is_key: true });
        let request = plan.request.iter();
        let request = request.map(|field| RowField { name: field.name.clone(), ty: field.ty, is_key: false });
        let asked: Vec<RowField> = asked.chain(request).collect();
        let derivation = Derivation::new(evaluator, keys.len());
        Ok(Self { asked, keys: places, derivation, columns: plan.columns().collect(), plan })
    }

    /// The service.
    #[must_use]
    pub fn plan(&self) -> &ServicePlan {
        &self.plan
    }

    /// What every row names: the keys, then the request fields.
    #[must_use]
    pub fn asked(&self) -> &[RowField] {
        &self.asked
    }

    /// The key or request field of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&RowField> {
        self.asked.iter().find(|asked| asked.name == name)
    }

    /// The names and types of an answer's values: the windowed features, then the derived ones.
    #[must_use]
    pub fn columns(&self) -> &[ServiceColumn] {
        &self.columns
    }

    pub(crate) const fn derivation(&self) -> &Derivation {
        &self.derivation
    }

    /// The row's values in the order of [`asked`](Self::asked). `index` is the row's place in the call.
    pub(crate) fn bind(&self, index: usize, mut row: Row) -> Result<Vec<Value>, LookupError> {
        let values = self.asked.iter().map(|asked| {
            let value = row.remove(&asked.name).ok_or_else(|| self.missing(index, asked))?;
            if value.is_null() || value.scalar_type() == Some(asked.ty) {
                return Ok(value);
            }
            let (name, expected) = (asked.name.clone(), asked.ty.to_string());
            Err(LookupError::WrongType { row: index, name, expected, given: describe(&value) })
        });
        // A mistyped name is both missing and unknown; being told what it is close to helps more.
        let values: Result<Vec<Value>, _> = values.collect();
        match row.keys().find(|name| self.named(name).is_none()) {
            Some(name) => Err(self.unknown(index, name)),
            None => values,
        }
    }

    /// For each view in each of its roles the entities that rows ask about, each once.
    pub(crate) fn entities(&self, rows: &[Vec<Value>]) -> Vec<Asking> {
        let key = |places: &[usize], values: &[Value]| {
            EntityKey::encode(&places.iter().map(|at| values[*at].clone()).collect::<Vec<_>>())
        };
        let of_view = |places: &Vec<usize>| Asking::of(rows.iter().map(|values| key(places, values)));
        self.keys.iter().map(of_view).collect()
    }

    /// The error for a name that the service does not ask for.
    pub(crate) fn unknown(&self, row: usize, name: &str) -> LookupError {
        let help = help(name, self.asked.iter().map(|asked| asked.name.as_str()));
        LookupError::UnknownName { service: self.plan.name.clone(), row, name: name.to_owned(), help }
    }

    fn missing(&self, row: usize, asked: &RowField) -> LookupError {
        let (role, help) = match asked.is_key {
            true => ("key", "null if there is no such entity"),
            false => ("request field", "null if it is not known"),
        };
        let (service, name) = (self.plan.name.clone(), asked.name.clone());
        LookupError::Missing { service, row, role, name, ty: asked.ty, help }
    }
}

/// The entities that the rows of a call ask about in one view.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// Each once; none for the rows in which a part of the key is null.
    pub(crate) keys: Vec<Option<EntityKey>>,
    /// For each row the place of its entity.
    pub(crate) of_rows: Vec<usize>,
}

impl Asking {
    fn of(rows: impl Iterator<Item = Option<EntityKey>>) -> Self {
        let mut places = BTreeMap::new();
        let mut keys = Vec::new();
        let place = |key: Option<EntityKey>| match places.get(&key) {
            Some(place) => *place,
            None => {
                keys.push(key.clone());
                places.insert(key, keys.len() - 1);
                keys.len() - 1
            }
        };
        let of_rows = rows.map(place).collect();
        Self { keys, of_rows }
    }
}

/// A value for messages, cut short where it is long.
fn describe(value: &Value) -> String {
    let text: String = value.to_string().chars().take(40).collect();
    match value.scalar_type() {
        Some(ty) => format!("the {ty} `{text}`"),
        None => format!("the list `{text}`"),
    }
}

/// Services by name.
pub(crate) type Catalogue = BTreeMap<String, Arc<Served>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_asked_about_once() {
        let key = |user| EntityKey::encode(&[Value::Int64(user)]);
        let asking = Asking::of([key(7), None, key(3), key(7), None].into_iter());
        assert_eq!(asking, Asking { keys: vec![key(7), None, key(3)], of_rows: vec![0, 1, 2, 0, 1] });
    }
}
