//! Fields: a name and a type.

use tidemark_expr::closest;
use tidemark_kernel::plan::Field;
use tidemark_kernel::source::Origin;
use tidemark_kernel::value::Type;

use crate::file::Place;
use crate::name;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::suggest;
use crate::tree::{Kind, Node, Text};

/// A declared field, key or request field.
#[derive(Clone, Debug)]
pub(crate) struct FieldDeclaration {
    pub(crate) name: Text,
    pub(crate) ty: Type,
    pub(crate) ty_place: Place,
    pub(crate) description: Option<String>,
    /// Where a source's field comes from, and where that is written; none where it comes by its name.
    pub(crate) origin: Option<(Origin, Place)>,
}

impl FieldDeclaration {
    /// A source's field.
    pub(crate) fn of_source(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, "a field", &["name", "type", "from", "description"], reading)?;
        let field = Self::read(&shape, name::field, reading);
        let origin = match shape.get("from") {
            None => None,
            Some(node) => Some((origin(node, reading)?, node.place)),
        };
        let field = Self { origin, ..field? };
        if matches!(field.origin, Some((Origin::Timestamp, _))) && field.ty != Type::Timestamp {
            reading.report(field.no_timestamp());
        }
        Some(field)
    }

    /// A key or request field: `what` says which.
    pub(crate) fn column(node: &Node, what: &'static str, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, what, &["name", "type", "description"], reading)?;
        Self::read(&shape, name::column, reading)
    }

    fn read(
        shape: &Shape<'_>,
        named: fn(&Shape<'_>, &mut Reading<'_>) -> Option<Text>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let name = named(shape, reading);
        let ty = shape.require_text("type", reading);
        let description = shape.description(reading);
        let (ty, ty_place) = ty.and_then(|text| Some((type_of(text, reading)?, text.place)))?;
        Some(Self { name: name?, ty, ty_place, description, origin: None })
    }

    fn no_timestamp(&self) -> Problem {
        let message =
            format!("field `{}` is {}, but a record's timestamp is a timestamp", self.name.value, self.ty);
        Problem::error(self.ty_place, message).help("declare it `timestamp`".to_owned())
    }

    /// Its name and where it comes from, if not by that name.
    pub(crate) fn named_origin(&self) -> Option<(String, Origin)> {
        let (origin, _) = self.origin.as_ref()?;
        Some((self.name.value.clone(), origin.clone()))
    }

    pub(crate) fn field(&self) -> Field {
        Field { name: self.name.value.clone(), ty: self.ty }
    }
}

/// `key`, `timestamp` or `{header: NAME}`.
fn origin(node: &Node, reading: &mut Reading<'_>) -> Option<Origin> {
    let Kind::Text(text) = &node.kind else {
        let shape = Shape::read(node, "`from`", &["header"], reading)?;
        return Some(Origin::Header(shape.require_text("header", reading)?.value.clone()));
    };
    match text.value.as_str() {
        "key" => Some(Origin::Key),
        "timestamp" => Some(Origin::Timestamp),
        "header" => {
            let problem = Problem::error(text.place, "a record has many headers");
            reading.report(problem.help("name one: `from: {header: NAME}`".to_owned()));
            None
        }
        word => {
            let problem = Problem::error(text.place, format!("no field comes from `{word}`"));
            let help = closest(word, ["key", "timestamp"]).map(|near| format!("did you mean `{near}`?"));
            let all = "`key`, `timestamp` and `{header: NAME}` are no part of the value; \
                       everything else goes without `from`";
            reading.report(problem.help(help.unwrap_or_else(|| all.to_owned())));
            None
        }
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
