//! Services: the list of features that a model takes.

use crate::field::FieldDeclaration;
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::tree::{Kind, Node, Scalar};

mod compile;
mod role;

pub(crate) use compile::{Views, compile};
pub(crate) use role::RoleDeclaration;

const KEYS: [&str; 5] = ["name", "description", "features", "request", "derived"];

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
        let shape = Shape::read(node, "a service", &KEYS, reading)?;
        let name = name::declared(&shape, reading);
        let features = shape.list("features", reading).iter();
        let features = features.filter_map(|node| ChosenDeclaration::read(node, reading));
        let features: Vec<ChosenDeclaration> = features.collect();
        let request = shape.list("request", reading).iter();
        let request = request.filter_map(|node| FieldDeclaration::column(node, "a request field", reading));
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
        let shape = Shape::read(node, "a derived feature", &["name", "expr", "description"], reading)?;
        let name = name::derived(&shape, reading);
        let expr = shape.require_text("expr", reading).cloned();
        let description = shape.description(reading);
        Some(Self { name: name?, expr: expr?, description })
    }
}
