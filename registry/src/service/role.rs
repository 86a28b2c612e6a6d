//! Views in roles: `{view: payments, as: buyer, keys: {user_id: buyer_id}}`.
//!
//! A row of a transfer has a buyer and a seller, who are both users. Without roles the two would be one column `user_id`, and
//! the second could only be asked about through a copy of the view, with a state and a backfill of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemark_kernel::ServiceView;
use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::value::Field;

use crate::file::Place;
use crate::key::{Choice, FIELD, Key, NAME, Table, Takes};
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::suggest;
use crate::tree::{Node, Scalar};

/// The keys of a view in a role.
pub(crate) const ROLE: Table = Table {
    what: "a view in a role",
    about: "A view that the service takes for one of several entities of the same kind in a row, such as the buyer and the seller of a \
            transfer. See [names](../meaning.md#names).",
    keys: &[
        Key::required("view", Takes::Scalar(NAME), "user_payments", "The view."),
        Key::optional(
            "as",
            Takes::Scalar(NAME),
            "the name of the view",
            "buyer",
            "The name of the role: its columns are `buyer.payments_1h` and so on.",
        ),
        Key::optional(
            "keys",
            Takes::Pairs(FIELD, FIELD),
            "each key is in the column of its own name",
            "{user_id: buyer_id}",
            "The columns of a row that hold the keys, by the entity's names for them. Two roles of a view need different columns.",
        ),
        Key::optional(
            "features",
            Takes::List(&Takes::Scalar(NAME)),
            "all features of the view",
            "[payments_1h]",
            "The features wanted, by their names in the view.",
        ),
    ],
    choice: Choice::Free,
};

/// A view in a role, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct RoleDeclaration {
    pub(crate) view: Scalar,
    /// The name of the role; none for the view's own name.
    pub(crate) role: Option<Scalar>,
    /// The columns of the row that hold parts of the key, by the entity's names for them. A part that is not here is in the
    /// column of its own name.
    keys: Vec<(Scalar, Scalar)>,
    /// The features wanted, by their names in the view; all of them where none is named.
    pub(crate) features: Vec<Scalar>,
}

impl RoleDeclaration {
    pub(super) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, &ROLE, reading)?;
        let before = reading.errors();
        let view = shape.require_text("view", reading).cloned();
        let role = shape.text("as", reading).cloned();
        // One problem with the name is enough.
        let role = role.filter(|role| name::check(role, reading));
        let keys = shape.get("keys").map_or(&[][..], |node| shape::map(node, "`keys`", reading));
        let column = |(key, node): &(Scalar, Node), reading: &mut Reading<'_>| {
            let column = shape::text(node, "a key's column", reading)?;
            name::check_column(column, reading).then(|| (key.clone(), column.clone()))
        };
        let keys = keys.iter().filter_map(|entry| column(entry, reading)).collect();
        let features = match shape.entry("features") {
            Some(_) => shape.require_list("features", reading),
            None => &[],
        };
        let features =
            features.iter().filter_map(|node| shape::text(node, "a feature's name", reading).cloned());
        let features = features.collect();
        let is_whole = reading.errors() == before;
        is_whole.then_some(Self { view: view?, role, keys, features })
    }

    /// The view as the service takes it; none where its keys are wrong.
    pub(super) fn view(&self, plan: &Arc<FeaturePlan>, reading: &mut Reading<'_>) -> Option<ServiceView> {
        let before = reading.errors();
        self.check_names(plan, reading);
        let column = |own: &str| {
            let named = self.keys.iter().find(|(key, _)| key.value == own);
            named.map_or_else(|| own.to_owned(), |(_, column)| column.value.clone())
        };
        let keys = plan.keys.iter().map(|key| Field { name: column(&key.name), ty: key.ty });
        let keys: Vec<Field> = keys.collect();
        self.check_columns(plan, &keys, reading);
        let role = self.role.as_ref().unwrap_or(&self.view).value.clone();
        let view = ServiceView { plan: Arc::clone(plan), role, keys };
        (reading.errors() == before).then_some(view)
    }

    /// Every name on the left is one of the view's keys.
    fn check_names(&self, plan: &FeaturePlan, reading: &mut Reading<'_>) {
        let own = || plan.keys.iter().map(|key| key.name.as_str());
        for (key, _) in self.keys.iter().filter(|(key, _)| !own().any(|own| own == key.value)) {
            let help = suggest::help(&key.value, "its keys", own().collect::<Vec<_>>());
            let message = format!("view `{}` has no key `{}`", plan.view, key.value);
            reading.report(Problem::error(key.place, message).help(help));
        }
    }

    /// No two parts of the key are in one column.
    fn check_columns(&self, plan: &FeaturePlan, keys: &[Field], reading: &mut Reading<'_>) {
        let mut columns = BTreeSet::new();
        let Some(twice) = keys.iter().position(|key| !columns.insert(key.name.as_str())) else { return };
        let column = &keys[twice].name;
        let Some(first) = keys.iter().position(|key| key.name == *column) else { return };
        let (a, b) = (&plan.keys[first].name, &plan.keys[twice].name);
        let message =
            format!("the keys `{a}` and `{b}` of view `{}` are both in column `{column}`", plan.view);
        let help = "give each part of the key a column of its own";
        reading.report(Problem::error(self.place(), message).help(help.to_owned()));
    }

    /// What problems of the whole role are shown at.
    pub(super) const fn place(&self) -> Place {
        match &self.role {
            Some(role) => role.place,
            None => self.view.place,
        }
    }
}
