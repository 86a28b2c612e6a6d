//! The names an expression may use.

use std::collections::BTreeMap;

use tidemark_kernel::value::{FeatureType, Field};

use crate::suggest;

/// Named, typed columns, and other names for them.
///
/// Names are compared exactly, case included. A name may contain dots: `user_payments.amount_sum_7d` is written
/// unquoted in expressions. A column's own name wins over an alias.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    fields: Vec<Field>,
    aliases: BTreeMap<String, Vec<String>>,
    lists: BTreeMap<String, FeatureType>,
}

/// Why a name refers to no column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// Nothing has that name.
    Unknown { closest: Option<String> },
    /// The name is short for several columns.
    Ambiguous(Vec<String>),
    /// The name is that of a feature whose values are lists.
    List(FeatureType),
}

impl Scope {
    /// The columns of a batch, by name.
    #[must_use]
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Self {
        Self { fields: fields.into_iter().collect(), ..Self::default() }
    }

    /// The same scope, where `alias` also refers to the column `name`. An alias given to several columns refers
    /// to none of them: the error lists the candidates.
    #[must_use]
    pub fn with_alias(mut self, alias: impl Into<String>, name: impl Into<String>) -> Self {
        let (names, name) = (self.aliases.entry(alias.into()).or_default(), name.into());
        if !names.contains(&name) {
            names.push(name);
        }
        self
    }

    /// The same scope, where `name` is known to be a feature that expressions cannot use: its values are lists.
    #[must_use]
    pub fn with_list(mut self, name: impl Into<String>, ty: FeatureType) -> Self {
        self.lists.insert(name.into(), ty);
        self
    }

    /// The columns, in the order given.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn resolve(&self, name: &str) -> Result<&Field, Unresolved> {
        if let Some(field) = self.field(name) {
            return Ok(field);
        }
        if let Some(ty) = self.lists.get(name) {
            return Err(Unresolved::List(*ty));
        }
        match self.aliases.get(name).map(Vec::as_slice) {
            Some([one]) => match (self.field(one), self.lists.get(one)) {
                (Some(field), _) => Ok(field),
                (None, Some(ty)) => Err(Unresolved::List(*ty)),
                (None, None) => Err(self.unknown(name)),
            },
            Some(several) => Err(Unresolved::Ambiguous(several.to_vec())),
            None => Err(self.unknown(name)),
        }
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn unknown(&self, name: &str) -> Unresolved {
        let known = self.fields.iter().map(|field| field.name.as_str());
        let closest = suggest::closest(name, known.chain(self.aliases.keys().map(String::as_str)));
        Unresolved::Unknown { closest: closest.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::value::Type;

    use super::*;

    fn field(name: &str) -> Field {
        Field { name: name.into(), ty: Type::Int64 }
    }

    #[test]
    fn a_name_wins_over_an_alias_and_an_alias_of_two_stands_for_none() {
        let scope =
            Scope::new([field("amount"), field("a.amount"), field("a.n"), field("b.n"), field("b.m")])
                .with_alias("amount", "a.amount")
                .with_alias("n", "a.n")
                .with_alias("n", "b.n")
                .with_alias("m", "b.m")
                .with_list("a.top", FeatureType::List(Type::Int64));
        assert_eq!(scope.resolve("amount").unwrap().name, "amount");
        assert_eq!(scope.resolve("m").unwrap().name, "b.m");
        assert_eq!(scope.resolve("n"), Err(Unresolved::Ambiguous(vec!["a.n".into(), "b.n".into()])));
        assert_eq!(scope.resolve("a.top"), Err(Unresolved::List(FeatureType::List(Type::Int64))));
        assert_eq!(scope.resolve("Amount"), Err(Unresolved::Unknown { closest: Some("amount".into()) }));
    }
}
