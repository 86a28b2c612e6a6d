//! Fields: a name, a type, and where a source's field comes from.

use tidemark_expr::closest;
use tidemark_kernel::source::Origin;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::{Field, Type};

use crate::file::Place;
use crate::key::{Choice, FIELD, Form, Key, TEXT, Table, Takes, ZONE};
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::suggest;
use crate::tree::{Kind, Node, Scalar};
use crate::zone;

/// A declared field, key or request field.
#[derive(Clone, Debug)]
pub(crate) struct FieldDeclaration {
    pub(crate) name: Scalar,
    pub(crate) ty: Type,
    pub(crate) ty_place: Place,
    pub(crate) description: Option<String>,
    /// Where a source's field comes from, and where that is written; none where it comes by its name.
    pub(crate) origin: Option<(Origin, Place)>,
    /// Where a source's field is declared optional, if it is: a whole file may lack it.
    pub(crate) optional: Option<Place>,
    /// The zone of a source's field, and where it is written; none where the source's own holds.
    pub(crate) zone: Option<(Zone, Place)>,
}

/// The keys of a source's field.
pub(crate) const SOURCE_FIELD: Table = Table {
    what: "a field",
    about: "One field of the events. [Which values are taken](../meaning.md#which-values-are-taken) says what fits which type.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(FIELD),
            "coupon",
            "Its name in expressions and in the event table, and the column or JSON member that it comes from, unless `from` names another one.",
        ),
        Key::required(
            "type",
            Takes::Word(types),
            "float64",
            "The type of its values. A record with a value that does not fit is a dead letter.",
        ),
        Key::optional(
            "from",
            Takes::Either(&[Takes::Word(|| vec![KEY, TIMESTAMP]), Takes::Mapping(&FROM)]),
            "the column or member of the field's name",
            "{column: Coupon value}",
            "Where the value comes from. `key` is the key of a Kafka record, and `timestamp` its timestamp, for a field of that type.",
        ),
        Key::optional(
            "zone",
            Takes::Scalar(ZONE),
            "the `zone` of the source",
            "America/New_York",
            "The time zone of times of this field that name none. Only a `timestamp` has one.",
        ),
        Key::default(
            "optional",
            Takes::Word(|| vec![TRUE, FALSE]),
            || FALSE.to_owned(),
            TRUE,
            "Whether a whole file may lack the field, which is then null in all of its rows. A file that lacks any other field is refused: \
             its column may be misspelt. A single record without the member is null there in any case. The fields of `event_time` and \
             `arrival` cannot be optional.",
        ),
        Key::description("What the coupon is worth, in euros."),
    ],
    choice: Choice::Free,
};

const FROM: Table = Table {
    what: "`from`",
    about: "Where a field comes from that does not have the name of its data.",
    keys: &[
        Key::optional(
            "column",
            Takes::Scalar(TEXT),
            "one of the other two is needed",
            "Coupon value",
            "The column or JSON member of this name.",
        ),
        Key::optional(
            "path",
            Takes::Either(&[Takes::Scalar(PATH), Takes::List(&Takes::Scalar(TEXT))]),
            "one of the other two is needed",
            "payment.coupon",
            "A field of a nested object or struct. It is null where any step of the path is missing.",
        ),
        Key::optional(
            "header",
            Takes::Scalar(TEXT),
            "one of the other two is needed",
            "coupon-value",
            "The last header of this name of a Kafka record.",
        ),
    ],
    choice: Choice::ExactlyOne(&ORIGINS),
};

const ORIGINS: [&str; 3] = ["column", "path", "header"];

const PATH: Form = Form {
    name: "path",
    pattern: None,
    about: "Names from the outside in, with dots between them: `payment.currency`. As a list (`[payment, iso.4217]`) where a name has a \
            dot itself. In CSV it is the name of one column, dots included.",
};

/// The words of `from`.
const KEY: &str = "key";
const TIMESTAMP: &str = "timestamp";

/// The words of `optional`.
const TRUE: &str = "true";
const FALSE: &str = "false";

/// The names of all types.
pub(crate) fn types() -> Vec<&'static str> {
    Type::ALL.into_iter().map(Type::name).collect()
}

impl FieldDeclaration {
    /// A source's field.
    pub(crate) fn of_source(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, &SOURCE_FIELD, reading)?;
        let field = Self::read(&shape, name::field, reading);
        let origin = match shape.get("from") {
            None => None,
            Some(node) => Some((origin(node, reading)?, node.place)),
        };
        let optional = optional(&shape, reading);
        let zone =
            shape.text("zone", reading).and_then(|text| Some((zone::read(text, reading)?, text.place)));
        let field = Self { origin, optional, zone, ..field? };
        if matches!(field.origin, Some((Origin::Timestamp, _))) && field.ty != Type::Timestamp {
            reading.report(field.no_timestamp());
        }
        field.no_clock().into_iter().for_each(|problem| reading.report(problem));
        Some(field)
    }

    /// A key or request field: `table` says which.
    pub(crate) fn column(node: &Node, table: &'static Table, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, table, reading)?;
        Self::read(&shape, name::column, reading)
    }

    fn read(
        shape: &Shape<'_>,
        named: fn(&Shape<'_>, &mut Reading<'_>) -> Option<Scalar>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let name = named(shape, reading);
        let ty = shape.require_text("type", reading);
        let description = shape.description(reading);
        let (ty, ty_place) = ty.and_then(|text| Some((type_of(text, reading)?, text.place)))?;
        Some(Self { name: name?, ty, ty_place, description, origin: None, optional: None, zone: None })
    }

    fn no_timestamp(&self) -> Problem {
        let message =
            format!("field `{}` is {}, but a record's timestamp is a timestamp", self.name.value, self.ty);
        Problem::error(self.ty_place, message).help("declare it `timestamp`".to_owned())
    }

    /// That the field cannot have a zone, if one is declared for it.
    fn no_clock(&self) -> Option<Problem> {
        let (_, place) = self.zone?;
        let name = &self.name.value;
        let (message, help) = match (&self.origin, self.ty) {
            (Some((Origin::Timestamp, _)), _) => (
                format!("the timestamp of a record is an instant, so field `{name}` has no zone"),
                "leave `zone` out".to_owned(),
            ),
            (_, Type::Timestamp) => return None,
            (_, ty) => (
                format!("field `{name}` is {ty}, which has no zone"),
                "declare it `timestamp`, or leave `zone` out: numbers count from an instant".to_owned(),
            ),
        };
        Some(Problem::error(place, message).help(help))
    }

    /// Whether a zone says something about its times: it holds instants that are written, not counted.
    pub(crate) fn may_have_zone(&self) -> bool {
        self.ty == Type::Timestamp && !matches!(self.origin, Some((Origin::Timestamp, _)))
    }

    /// That the field cannot be optional, if it is declared so, because it holds this time.
    pub(crate) fn no_optional_time(&self, what: &str) -> Option<Problem> {
        let message = format!("field `{}` is the {what} and cannot be optional", self.name.value);
        let problem = Problem::error(self.optional?, message);
        Some(problem.help(format!("leave `optional` out: a record without {what} is no event")))
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

/// `optional: true`, and where that is written.
fn optional(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Place> {
    let text = shape.text("optional", reading)?;
    match text.value.as_str() {
        TRUE => return Some(text.place),
        FALSE => {}
        _ => {
            let message = format!("unknown value `{}` of `optional`", text.value);
            let help = "write `true` where a whole file may lack the field, or leave `optional` out";
            reading.report(Problem::error(text.place, message).help(help.to_owned()));
        }
    }
    None
}

/// `{column: NAME}`, `{path: NAME.NAME}`, `key`, `timestamp` or `{header: NAME}`.
fn origin(node: &Node, reading: &mut Reading<'_>) -> Option<Origin> {
    let Kind::Scalar(text) = &node.kind else { return named_origin(node, reading) };
    let word = text.value.as_str();
    let problem = match word {
        KEY => return Some(Origin::Key),
        TIMESTAMP => return Some(Origin::Timestamp),
        "header" => Problem::error(text.place, "a record has many headers")
            .help("name one: `from: {header: NAME}`".to_owned()),
        "column" | "path" => Problem::error(text.place, format!("`{word}` of `from` has no name"))
            .help(format!("write `from: {{{word}: NAME}}`")),
        _ => {
            let near = closest(word, [KEY, TIMESTAMP]).map(|near| format!("did you mean `{near}`?"));
            Problem::error(text.place, format!("no field comes from `{word}`"))
                .help(near.unwrap_or_else(|| origin_help(word)))
        }
    };
    reading.report(problem);
    None
}

/// What to write for a name alone.
fn origin_help(name: &str) -> String {
    let column = format!("{{column: {}}}", name::quoted(name));
    if name::path(name).is_some_and(|names| names.len() > 1) {
        let path = name::quoted(name);
        return format!(
            "write `from: {{path: {path}}}`, or `from: {column}` where the dot is part of the name"
        );
    }
    format!("write `from: {column}`; a topic's records also have `key`, `timestamp` and `{{header: NAME}}`")
}

fn named_origin(node: &Node, reading: &mut Reading<'_>) -> Option<Origin> {
    let before = reading.errors();
    let shape = Shape::read(node, &FROM, reading)?;
    let named: Vec<&(Scalar, Node)> = ORIGINS.iter().filter_map(|key| shape.entry(key)).collect();
    match named[..] {
        [] => {
            if reading.errors() == before {
                let problem = Problem::error(node.place, "`from` names nothing");
                reading.report(problem.help("write `from: {column: NAME}`".to_owned()));
            }
            None
        }
        [(key, _)] => match key.value.as_str() {
            "column" => Some(Origin::Column(shape.require_text("column", reading)?.value.clone())),
            "path" => path(shape.require("path", reading)?, reading).map(Origin::Path),
            _ => Some(Origin::Header(shape.require_text("header", reading)?.value.clone())),
        },
        [first, second, ..] => {
            let problem = Problem::error(second.0.place, "a field comes from one place");
            let problem = problem.related(first.0.place, "the other one");
            reading.report(problem.help("keep one".to_owned()));
            None
        }
    }
}

/// The names of a path: a text with dots, or a list where a name has a dot itself.
fn path(node: &Node, reading: &mut Reading<'_>) -> Option<Vec<String>> {
    if let Kind::List(nodes) = &node.kind {
        let names: Option<Vec<String>> = nodes
            .iter()
            .map(|node| Some(shape::text(node, "a name of `path`", reading)?.value.clone()))
            .collect();
        if nodes.is_empty() {
            reading.report(Problem::error(node.place, "`path` of `from` is empty"));
            return None;
        }
        return names;
    }
    let text = shape::text(node, "`path`", reading)?;
    let names = name::path(&text.value);
    if names.is_none() {
        let problem = Problem::error(text.place, format!("`{}` is no path", text.value));
        reading.report(
            problem
                .help("write the names from the outside in, with dots between: payment.currency".to_owned()),
        );
    }
    names
}

fn type_of(text: &Scalar, reading: &mut Reading<'_>) -> Option<Type> {
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
