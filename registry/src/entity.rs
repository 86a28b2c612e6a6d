//! Entities: what features describe.

use tidemark_kernel::value::{Field, Type};

use crate::field::FieldDeclaration;
use crate::key::{Choice, FIELD, Key, NAME, Table, Takes};
use crate::name;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::{Node, Scalar};

/// The keys of an entity's mapping.
pub(crate) const ENTITY: Table = Table {
    what: "an entity",
    about: "An entity is what features describe, such as a user or a card. Its keys identify one of them.",
    keys: &[
        Key::required("name", Takes::Scalar(NAME), "user", "The name by which [views](#views) refer to it."),
        Key::required(
            "keys",
            Takes::List(&Takes::Mapping(&KEY)),
            "[{name: user_id, type: int64}]",
            "The keys that together identify one, at least one. Lookups and label files give a value for each.",
        ),
        Key::description("A paying customer."),
    ],
    choice: Choice::Free,
};

const KEY: Table = Table {
    what: "a key",
    about: "One key of an entity.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(FIELD),
            "user_id",
            "Its name in lookups and label files, and the field of the source that holds it, unless a view names another one. `at` and `token` \
             are reserved.",
        ),
        Key::required(
            "type",
            Takes::Word(|| Type::ALL.into_iter().filter(|ty| ty.is_key()).map(Type::name).collect()),
            "int64",
            "The type of its values: that of the source's field, nothing is converted.",
        ),
        Key::description("The number of the customer."),
    ],
    choice: Choice::Free,
};

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
        let shape = Shape::read(node, &ENTITY, reading)?;
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
    let key = FieldDeclaration::column(node, &KEY, reading)?;
    if key.ty.is_key() {
        return Some(key);
    }
    let message = format!("key `{}` is {}", key.name.value, key.ty);
    let problem = Problem::error(key.ty_place, message).label("keys are compared as bytes");
    reading.report(problem.help("a key is int64, string, bool or timestamp".to_owned()));
    None
}
