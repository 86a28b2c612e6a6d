//! Fields: a name and a type.

use tidemark_kernel::plan::Field;
use tidemark_kernel::value::Type;

use crate::name;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::suggest;
use crate::tree::{Node, Text};

/// A declared field, key or request field.
#[derive(Clone, Debug)]
pub(crate) struct FieldDeclaration {
    pub(crate) name: Text,
    pub(crate) ty: Type,
    pub(crate) ty_place: crate::file::Place,
    pub(crate) description: Option<String>,
}

impl FieldDeclaration {
    /// A source's field.
    pub(crate) fn of_source(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        Self::read(node, "a field", name::field, reading)
    }

    /// A key or request field: `what` says which.
    pub(crate) fn column(node: &Node, what: &'static str, reading: &mut Reading<'_>) -> Option<Self> {
        Self::read(node, what, name::column, reading)
    }

    fn read(
        node: &Node,
        what: &'static str,
        named: fn(&Shape<'_>, &mut Reading<'_>) -> Option<Text>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let shape = Shape::read(node, what, &["name", "type", "description"], reading)?;
        let name = named(&shape, reading);
        let ty = shape.require_text("type", reading);
        let description = shape.description(reading);
        let (ty, ty_place) = ty.and_then(|text| Some((type_of(text, reading)?, text.place)))?;
        Some(Self { name: name?, ty, ty_place, description })
    }

    pub(crate) fn field(&self) -> Field {
        Field { name: self.name.value.clone(), ty: self.ty }
    }
}

fn type_of(text: &Text, reading: &mut Reading<'_>) -> Option<Type> {
    let ty = Type::named(&text.value);
    if ty.is_none() {
        let message = format!("unknown type `{}`", text.value);
        reading.report(Problem::error(text.place, message).help(type_help(&text.value)));
    }
    ty
}

/// What to write for a type of another system.
fn type_help(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let base = lower.split(['(', ' ', '[', '<']).next().unwrap_or_default();
    let foreign = |ty: &str| Some(format!("write `{ty}`"));
    match base {
        "decimal" | "decimal128" | "decimal256" | "numeric" | "money" => Some(
            "decimals are not kept exactly: write the column as `cast(x as double)` and declare it `float64`"
                .into(),
        ),
        "uint64" | "ubigint" => Some(
            "uint64 does not fit int64: write the column as `cast(x as bigint)` and declare it `int64`"
                .into(),
        ),
        "int8" | "int16" | "int32" | "uint8" | "uint16" | "uint32" | "smallint" | "tinyint" => {
            Some("write `int64`: narrower columns widen by themselves".into())
        }
        "float16" | "float32" | "real" => {
            Some("write `float64`: narrower columns widen by themselves".into())
        }
        "int" | "integer" | "bigint" | "long" => foreign("int64"),
        "float" | "double" | "number" => foreign("float64"),
        "text" | "str" | "varchar" | "char" | "utf8" | "uuid" | "largeutf8" => foreign("string"),
        "boolean" => foreign("bool"),
        "datetime" | "date" | "time" | "timestamptz" => foreign("timestamp"),
        "binary" | "bytea" | "blob" | "varbinary" => foreign("bytes"),
        _ => suggest::help(name, "types", Type::ALL.map(Type::name)),
    }
}
