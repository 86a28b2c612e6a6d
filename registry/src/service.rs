//! Services: the list of features that a model takes.

use crate::field::{self, FieldDeclaration};
use crate::key::{Choice, FIELD, Form, Key, NAME, SQL, Table, Takes};
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::tree::{Kind, Node, Scalar};

mod compile;
mod role;

pub(crate) use compile::{Views, compile};
pub(crate) use role::{ROLE, RoleDeclaration};

/// The keys of a service.
pub(crate) const SERVICE: Table = Table {
    what: "a service",
    about: "A service lists the features that one model takes. Lookups and training sets name it, and get the same columns.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(NAME),
            "fraud",
            "The name in commands and requests: `tidemark train fraud`, `/v1/services/fraud/lookup`.",
        ),
        Key::description("Is this payment what it claims to be?"),
        Key::optional(
            "features",
            Takes::List(&Takes::Either(&[Takes::Scalar(SELECTION), Takes::Mapping(&ROLE)])),
            "none; then `derived` is needed",
            "[user_payments.payments_1h]",
            "The features, in the order of the columns.",
        ),
        Key::optional(
            "request",
            Takes::List(&Takes::Mapping(&REQUEST)),
            "none",
            "[{name: basket, type: float64}]",
            "Values that only the caller of a lookup knows. In a label file they are columns of the same name.",
        ),
        Key::optional(
            "derived",
            Takes::List(&Takes::Mapping(&DERIVED)),
            "none",
            "[{name: is_busy, expr: user_payments.payments_1h > 10}]",
            "Features that are computed from other features and the request when a lookup or a label is answered.",
        ),
    ],
    choice: Choice::Free,
};

const REQUEST: Table = Table {
    what: "a request field",
    about: "A value that comes with each row of a lookup.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(FIELD),
            "basket",
            "Its name in requests, label files and expressions. `at` and `token` are reserved.",
        ),
        Key::required("type", Takes::Word(field::types), "float64", "The type of its values."),
        Key::description("The sum of what is in the basket, in euros."),
    ],
    choice: Choice::Free,
};

const DERIVED: Table = Table {
    what: "a derived feature",
    about: "A feature that is computed from others.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(NAME),
            "is_busy",
            "The name of its column. `at` and `token` are reserved.",
        ),
        Key::required(
            "expr",
            Takes::Scalar(SQL),
            "user_payments.payments_1h > 10",
            "What is computed. It may use the features of the service (as `view.feature`, or `feature` where that is unique) and its \
             request fields, but no lists (`last_n`, `top_k`) and no other derived features.",
        ),
        Key::description("Whether the user pays unusually often."),
    ],
    choice: Choice::Free,
};

const SELECTION: Form = Form {
    name: "selection",
    pattern: Some(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$"),
    about: "A view for all of its features (`user_payments`), or one feature (`user_payments.amount_sum_7d`, or `amount_sum_7d` where only \
            one view has it).",
};

/// A service as it is written.
#[derive(Clone, Debug)]
pub(crate) struct ServiceDeclaration {
    pub(crate) name: Scalar,
    pub(crate) features: Vec<ChosenDeclaration>,
    pub(crate) request: Vec<FieldDeclaration>,
    pub(crate) derived: Vec<DerivedDeclaration>,
    pub(crate) description: Option<String>,
    /// Whether all of it could be read.
    pub(crate) whole: bool,
}

/// One entry of a service's features, as it is written.
#[derive(Clone, Debug)]
pub(crate) enum ChosenDeclaration {
    /// `view`, `view.feature` or `feature`.
    Named(Scalar),
    /// A view in a role.
    Role(RoleDeclaration),
}

/// A derived feature as it is written.
#[derive(Clone, Debug)]
pub(crate) struct DerivedDeclaration {
    pub(crate) name: Scalar,
    pub(crate) expr: Scalar,
    pub(crate) description: Option<String>,
}

impl ServiceDeclaration {
    pub(crate) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let before = reading.errors();
        let shape = Shape::read(node, &SERVICE, reading)?;
        let name = name::declared(&shape, reading);
        let features = shape.list("features", reading).iter();
        let features = features.filter_map(|node| ChosenDeclaration::read(node, reading));
        let features: Vec<ChosenDeclaration> = features.collect();
        let request = shape.list("request", reading).iter();
        let request = request.filter_map(|node| FieldDeclaration::column(node, &REQUEST, reading));
        let request = request.collect();
        let derived = shape.list("derived", reading).iter();
        let derived: Vec<_> = derived.filter_map(|node| DerivedDeclaration::read(node, reading)).collect();
        if features.is_empty() && derived.is_empty() && reading.errors() == before {
            let problem = Problem::error(shape.place, "a service needs `features`");
            reading.report(problem.help("list views, or single features as `view.feature`".to_owned()));
        }
        let description = shape.description(reading);
        let whole = reading.errors() == before;
        Some(Self { name: name?, features, request, derived, description, whole })
    }
}

impl ChosenDeclaration {
    fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => RoleDeclaration::read(node, reading).map(Self::Role),
            _ => shape::text(node, "a service's feature", reading).cloned().map(Self::Named),
        }
    }
}

impl DerivedDeclaration {
    fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, &DERIVED, reading)?;
        let name = name::derived(&shape, reading);
        let expr = shape.require_text("expr", reading).cloned();
        let description = shape.description(reading);
        Some(Self { name: name?, expr: expr?, description })
    }
}
