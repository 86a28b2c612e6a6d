//! Sources: the streams of events.

use std::collections::BTreeMap;

use tidemark_kernel::Span;
use tidemark_kernel::source::{Arrival, SourcePlan, SourceVersion, TimeField};
use tidemark_kernel::time::{ZONES, Zone};
use tidemark_kernel::unique::Unique;
use tidemark_kernel::value::{Type, Unit};

use crate::feed::Feed;
use crate::field::FieldDeclaration;
use crate::file::Place;
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, SPAN_HELP, Shape};
use crate::suggest;
use crate::tree::{Kind, Node, Scalar};
use crate::zone;

mod kafka;

const KEYS: [&str; 13] = [
    "name",
    "description",
    "kafka",
    "files",
    "push",
    "fields",
    "zone",
    "event_time",
    "arrival",
    "max_ahead",
    "max_arrival_ahead",
    "unique",
    "raw",
];

/// A source as it is written; its plan or its feed is missing where something in it is wrong.
#[derive(Clone, Debug)]
pub(crate) struct SourceDeclaration {
    pub(crate) name: Scalar,
    pub(crate) fields: Vec<FieldDeclaration>,
    pub(crate) description: Option<String>,
    pub(crate) plan: Option<SourcePlan>,
    pub(crate) feed: Option<Feed>,
    /// Where its Kafka feed is declared, if it has one.
    pub(crate) kafka: Option<Place>,
    /// Whether every field could be read: an unknown field may be one that could not.
    pub(crate) whole: bool,
}

impl SourceDeclaration {
    pub(crate) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, "a source", &KEYS, reading)?;
        let name = name::declared(&shape, reading);
        let before = reading.errors();
        let fields = fields(&shape, reading);
        let whole = reading.errors() == before;
        let zones = zones(&shape, &fields, whole, reading);
        let declared = Declared { fields: &fields, whole };
        let event_time =
            shape.require("event_time", reading).and_then(|node| declared.event_time(node, reading));
        let arrival = match shape.get("arrival") {
            None => Some(Arrival::Record),
            Some(node) => declared.arrival(node, reading),
        };
        let feed = feed(&shape, reading);
        let kafka = shape.entry("kafka").map(|(key, _)| key.place);
        if kafka.is_none() {
            fields.iter().filter_map(no_origin).for_each(|problem| reading.report(problem));
        }
        let arrived = match &arrival {
            Some(Arrival::Field(time)) => Some(time),
            _ => None,
        };
        for (time, what) in [(event_time.as_ref(), "event time"), (arrived, "arrival time")] {
            let field = time.and_then(|time| fields.iter().find(|field| field.name.value == time.field));
            field
                .and_then(|field| field.no_optional_time(what))
                .into_iter()
                .for_each(|it| reading.report(it));
        }
        let max_ahead = shape.span("max_ahead", reading).unwrap_or(SourcePlan::DEFAULT_MAX_AHEAD);
        let max_arrival_ahead =
            shape.span("max_arrival_ahead", reading).unwrap_or(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD);
        let unique = shape.text("unique", reading).and_then(|text| declared.unique(text, reading));
        let keep_raw = keep_raw(&shape, reading);
        let description = shape.description(reading);
        let name = name?;
        let plan = event_time.zip(arrival).map(|(event_time, arrival)| SourcePlan {
            name: name.value.clone(),
            fields: fields.iter().map(FieldDeclaration::field).collect(),
            origins: fields.iter().filter_map(FieldDeclaration::named_origin).collect(),
            optional: fields
                .iter()
                .filter(|field| field.optional.is_some())
                .map(|field| field.name.value.clone())
                .collect(),
            zones,
            event_time,
            arrival,
            max_ahead,
            max_arrival_ahead: Some(max_arrival_ahead),
            unique,
            keep_raw,
        });
        Some(Self { name, fields, description, plan, feed, kafka, whole })
    }

    /// The version that is part of what views of this source mean: of a topic, whose partitions several workers share, the
    /// source's own; of files and pushes, which one process reads, that of the rules of time zones, where it uses any. See
    /// [`ViewSpec::source_version`](tidemark_kernel::plan::ViewSpec::source_version).
    pub(crate) fn version_in_views(&self) -> Option<SourceVersion> {
        let plan = self.plan.as_ref()?;
        if self.feed.as_ref()?.kafka().is_some() {
            return Some(plan.version());
        }
        (!plan.zones.is_empty()).then_some(SourceVersion(u64::from(ZONES)))
    }

    /// The declaration of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&FieldDeclaration> {
        self.fields.iter().find(|field| field.name.value == name)
    }
}

fn fields(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Vec<FieldDeclaration> {
    let nodes = shape.require_list("fields", reading);
    let read = nodes.iter().filter_map(|node| FieldDeclaration::of_source(node, reading)).collect();
    let fields = name::unique(read, "field", |field: &FieldDeclaration| &field.name, reading);
    for (i, field) in fields.iter().enumerate() {
        let same =
            |other: &&FieldDeclaration| other.name.value.to_lowercase() == field.name.value.to_lowercase();
        if let Some(first) = fields[..i].iter().find(same) {
            let message =
                format!("field `{}` differs from `{}` only in case", field.name.value, first.name.value);
            let problem =
                Problem::error(field.name.place, message).related(first.name.place, "the other one");
            reading.report(
                problem.help("readers of the event table cannot tell them apart: rename one".to_owned()),
            );
        }
    }
    fields
}

/// The zone of each timestamp field: its own, or that of the source.
fn zones(
    shape: &Shape<'_>,
    fields: &[FieldDeclaration],
    whole: bool,
    reading: &mut Reading<'_>,
) -> BTreeMap<String, Zone> {
    let text = shape.text("zone", reading);
    let all = text.and_then(|text| zone::read(text, reading));
    if let Some(text) = text.filter(|_| whole && !fields.iter().any(FieldDeclaration::may_have_zone)) {
        let problem = Problem::error(text.place, "no field of the source has a zone");
        reading.report(
            problem
                .label("a zone is of times that are written without one")
                .help("leave `zone` out: numbers and timestamps of records are instants".to_owned()),
        );
    }
    let of = |field: &FieldDeclaration| {
        let zone = field.zone.map(|(zone, _)| zone).or(all)?;
        Some((field.name.value.clone(), zone))
    };
    fields.iter().filter(|field| field.may_have_zone()).filter_map(of).collect()
}

/// A field of a source without topic that is to come from beside the value of a topic's records.
fn no_origin(field: &FieldDeclaration) -> Option<Problem> {
    let (_, place) = field.origin.as_ref().filter(|(origin, _)| origin.is_beside_value())?;
    let problem =
        Problem::error(*place, format!("field `{}` comes from no record of a topic", field.name.value));
    Some(
        problem
            .label("only a source with a `kafka` feed has such records")
            .help("leave `from` out: pushed events and files have their fields by name".to_owned()),
    )
}

/// The feed: one of `kafka`, `files`, `push`; `push` where none is named.
fn feed(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Feed> {
    let named: Vec<&(Scalar, Node)> =
        ["kafka", "files", "push"].iter().filter_map(|key| shape.entry(key)).collect();
    if let [first, second, ..] = named[..] {
        let problem =
            Problem::error(second.0.place, "a source has one feed").related(first.0.place, "the other one");
        reading
            .report(problem.help("keep one: files and pushed events can be added to any source".to_owned()));
        return None;
    }
    match named.first() {
        None => Some(Feed::Push),
        Some((key, node)) => match key.value.as_str() {
            "kafka" => kafka::read(node, reading).map(Feed::Kafka),
            "files" => files(node, reading),
            _ => Shape::read(node, "`push`", &[], reading).map(|_| Feed::Push),
        },
    }
}

fn files(node: &Node, reading: &mut Reading<'_>) -> Option<Feed> {
    let shape = Shape::read(node, "`files`", &["path"], reading)?;
    let path = shape.require("path", reading)?;
    let nodes = match &path.kind {
        // Without a problem, a source of no files would be none at all.
        Kind::List(list) if list.is_empty() => {
            reading.report(no_pattern(path.place));
            return None;
        }
        Kind::List(list) => list.as_slice(),
        _ => std::slice::from_ref(path),
    };
    let paths: Vec<String> = nodes.iter().filter_map(|node| pattern(node, reading)).collect();
    (!paths.is_empty() && paths.len() == nodes.len()).then_some(Feed::Files { paths })
}

fn pattern(node: &Node, reading: &mut Reading<'_>) -> Option<String> {
    let text = shape::text(node, "`path`", reading)?;
    if text.value.is_empty() {
        reading.report(no_pattern(text.place));
        return None;
    }
    match glob::Pattern::new(&text.value) {
        Ok(_) => Some(text.value.clone()),
        Err(error) => {
            let place = text.within(reading.files, error.pos..text.value.len());
            let problem =
                Problem::error(place, format!("`{}` is no path pattern", text.value)).label(error.msg);
            reading
                .report(problem.help("`*` stands for any part of a name, `**` for any folders".to_owned()));
            None
        }
    }
}

fn no_pattern(place: Place) -> Problem {
    let help = "write which files there are, such as `inbox/*.csv`".to_owned();
    Problem::error(place, "`path` of `files` is empty").help(help)
}

fn keep_raw(shape: &Shape<'_>, reading: &mut Reading<'_>) -> bool {
    let Some(raw) = shape.text("raw", reading) else { return false };
    if raw.value != "keep" {
        let problem = Problem::error(raw.place, format!("unknown value `{}` of `raw`", raw.value));
        reading.report(
            problem.help("write `keep`, or leave `raw` out where payloads need not be kept".to_owned()),
        );
    }
    raw.value == "keep"
}

/// What a source names of its fields.
struct Declared<'d> {
    fields: &'d [FieldDeclaration],
    whole: bool,
}

impl Declared<'_> {
    fn event_time(&self, node: &Node, reading: &mut Reading<'_>) -> Option<TimeField> {
        match &node.kind {
            Kind::Scalar(field) => self.time(field, None, reading),
            _ => self.with_unit(node, "`event_time`", reading),
        }
    }

    fn arrival(&self, node: &Node, reading: &mut Reading<'_>) -> Option<Arrival> {
        match &node.kind {
            Kind::Scalar(text) => match text.value.as_str() {
                "record" => Some(Arrival::Record),
                "event_time" => Some(Arrival::EventTime),
                _ => self.time(text, None, reading).map(Arrival::Field),
            },
            _ => self.with_unit(node, "`arrival`", reading).map(Arrival::Field),
        }
    }

    fn with_unit(&self, node: &Node, what: &'static str, reading: &mut Reading<'_>) -> Option<TimeField> {
        let shape = Shape::read(node, what, &["field", "unit"], reading)?;
        let unit = shape.text("unit", reading);
        let field = shape.require_text("field", reading)?;
        self.time(field, unit, reading)
    }

    fn time(&self, name: &Scalar, unit: Option<&Scalar>, reading: &mut Reading<'_>) -> Option<TimeField> {
        let field = self.find(&name.value, name.place, "a time is one of the source's fields", reading)?;
        let unit = match (field.ty, unit) {
            (Type::Timestamp, None) => None,
            (Type::Int64 | Type::Float64, Some(unit)) => Some(read_unit(unit, reading)?),
            (ty, unit) => {
                reading.report(no_time(name, ty, unit).related(field.ty_place, format!("declared {ty}")));
                return None;
            }
        };
        Some(TimeField { field: name.value.clone(), unit })
    }

    /// `FIELD within SPAN`.
    fn unique(&self, text: &Scalar, reading: &mut Reading<'_>) -> Option<Unique> {
        let words: Vec<&str> = text.value.split_whitespace().collect();
        let [name, "within", span] = words[..] else {
            let problem = Problem::error(text.place, format!("`{}` does not say what is unique", text.value));
            reading
                .report(problem.help("write `FIELD within SPAN`, such as `event_id within 1d`".to_owned()));
            return None;
        };
        let place = text.within(reading.files, 0..name.len());
        let field = self.find(name, place, "an id is one of the source's fields", reading)?;
        let within = Span::parse(span).filter(|span| *span > Span::ZERO);
        if within.is_none() {
            let problem = Problem::error(text.place, format!("`{span}` is no length of time"));
            reading.report(problem.help(SPAN_HELP.to_owned()));
        }
        if !Unique::may_be(field.ty) {
            let problem = Problem::error(place, format!("`{name}` is {}, which is no id", field.ty));
            let problem = problem.related(field.ty_place, format!("declared {}", field.ty));
            reading.report(problem.help("an id is an int64, a string or bytes".to_owned()));
            return None;
        }
        Some(Unique { field: name.to_owned(), within: within? })
    }

    /// A field by its name, which stands at `place`.
    fn find(
        &self,
        name: &str,
        place: Place,
        label: &'static str,
        reading: &mut Reading<'_>,
    ) -> Option<&FieldDeclaration> {
        let found = self.fields.iter().find(|field| field.name.value == name);
        if found.is_none() && self.whole {
            let known = self.fields.iter().map(|field| field.name.value.as_str());
            let help = suggest::help(name, "fields", known);
            let problem = Problem::error(place, format!("unknown field `{name}`"));
            reading.report(problem.label(label).help(help));
        }
        found
    }
}

fn no_time(name: &Scalar, ty: Type, unit: Option<&Scalar>) -> Problem {
    let field = &name.value;
    let article = if ty == Type::Int64 { "an" } else { "a" };
    match (ty, unit) {
        (Type::Timestamp, Some(unit)) => {
            Problem::error(unit.place, "a timestamp has no unit").help(format!("write `{field}` alone"))
        }
        (Type::Int64 | Type::Float64, _) => {
            Problem::error(name.place, format!("the time `{field}` has no unit"))
                .label(format!("{article} {ty} counts seconds, or milliseconds, or …"))
                .help(format!("write `{{field: {field}, unit: ms}}` (s, ms, us or ns)"))
        }
        _ => Problem::error(name.place, format!("`{field}` is {ty}, which is no time"))
            .help("a time is a timestamp, or an int64 or float64 with a unit".to_owned()),
    }
}

fn read_unit(text: &Scalar, reading: &mut Reading<'_>) -> Option<Unit> {
    let found = Unit::NAMED.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let problem = Problem::error(text.place, format!("unknown unit `{}`", text.value));
        reading.report(problem.help("units of time: s, ms, us, ns".to_owned()));
    }
    found.map(|(_, unit)| *unit)
}
