//! Entities: what features describe.

use tidemark_kernel::value::Field;

use crate::field::FieldDeclaration;
use crate::name;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::{Node, Scalar};

/// What a feature describes, named by its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Its name.
    pub name: String,
    /// Its keys, in the order in which they identify it.
    pub keys: Vec<Field>,
}

/// An entity as it is written.
#[derive(Clone, Debug)]
pub(crate) struct EntityDeclaration {
    pub(crate) name: Scalar,
    pub(crate) keys: Vec<FieldDeclaration>,
    pub(crate) description: Option<String>,
    /// Whether all of it could be read.
    pub(crate) whole: bool,
}

impl EntityDeclaration {
    pub(crate) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, "an entity", &["name", "keys", "description"], reading)?;
        let name = name::declared(&shape, reading);
        let before = reading.errors();
        let nodes = shape.require_list("keys", reading);
        let keys: Vec<FieldDeclaration> = nodes.iter().filter_map(|node| key(node, reading)).collect();
        let keys = name::unique(keys, "key", |key| &key.name, reading);
        let whole = reading.errors() == before;
        Some(Self { name: name?, keys, description: shape.description(reading), whole })
    }

    pub(crate) fn entity(&self) -> Entity {
        let keys = self.keys.iter().map(FieldDeclaration::field).collect();
        Entity { name: self.name.value.clone(), keys }
    }
}

fn key(node: &Node, reading: &mut Reading<'_>) -> Option<FieldDeclaration> {
    let key = FieldDeclaration::column(node, "a key", reading)?;
    if key.ty.is_key() {
        return Some(key);
    }
    let message = format!("key `{}` is {}", key.name.value, key.ty);
    let problem = Problem::error(key.ty_place, message).label("keys are compared as bytes");
    reading.report(problem.help("a key is int64, string, bool or timestamp".to_owned()));
    None
}
