//! Sources: the streams of events.

use std::collections::BTreeMap;

use tidemark_kernel::Span;
use tidemark_kernel::source::{Arrival, SourcePlan, SourceVersion, TimeField};
use tidemark_kernel::time::{ZONES, Zone};
use tidemark_kernel::unique::Unique;
use tidemark_kernel::value::{Type, Unit};

use crate::feed::Feed;
use crate::field::{FieldDeclaration, SOURCE_FIELD};
use crate::file::Place;
use crate::key::{Choice, FIELD, Form, Key, NAME, SPAN, Table, Takes, ZONE};
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, SPAN_HELP, Shape};
use crate::suggest;
use crate::tree::{Kind, Node, Scalar};
use crate::zone;

mod kafka;

/// The keys of a source.
pub(crate) const SOURCE: Table = Table {
    what: "a source",
    about: "A source is a stream of events with declared fields. It has one feed (`kafka`, `files` or `push`); files can be ingested into \
            every source, and events pushed to it. See [topics and stores](../topics-and-stores.md).",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(NAME),
            "payments",
            "The name by which [views](#views) and commands refer to it. Its event table is in a folder of this name.",
        ),
        Key::description("One event for each payment, settled or declined."),
        Key::optional(
            "kafka",
            Takes::Mapping(&kafka::TOPIC),
            "no topic is read",
            "{topic: payments, start: latest}",
            "A Kafka topic. `kafka` in [tidemark.yaml](#tidemarkyaml) says on which cluster.",
        ),
        Key::optional(
            "files",
            Takes::Mapping(&FILES),
            "only files that commands name are read",
            "{path: data/payments/*.parquet}",
            "Files that `tidemark ingest` and `tidemark dev` read.",
        ),
        Key::optional(
            "push",
            Takes::Mapping(&PUSH),
            "the feed all the same, if neither `kafka` nor `files` is given",
            "{}",
            "No feed: events are only pushed over HTTP, or ingested with `tidemark ingest --from`.",
        ),
        Key::required(
            "fields",
            Takes::List(&Takes::Mapping(&SOURCE_FIELD)),
            "[{name: user_id, type: int64}, {name: created_at, type: timestamp}]",
            "What an event holds, at least one field. Columns and members of the data that are not listed are ignored.",
        ),
        Key::optional(
            "zone",
            Takes::Scalar(ZONE),
            "UTC",
            "Europe/Berlin",
            "The time zone of the times that name none, in every `timestamp` field without a `zone` of its own. Hours that a clock change \
             skips or repeats are dead letters. See [times without a zone](../meaning.md#times-without-a-zone).",
        ),
        Key::required(
            "event_time",
            Takes::Either(&[Takes::Scalar(FIELD), Takes::Mapping(&EVENT_TIME_FIELD)]),
            "created_at",
            "The field that says when an event happened, of type `timestamp`; a field of numbers also needs its unit. A record without it \
             is a dead letter.",
        ),
        Key::default(
            "arrival",
            Takes::Either(&[
                Takes::Word(|| vec![RECORD, EVENT_TIME]),
                Takes::Scalar(FIELD),
                Takes::Mapping(&ARRIVAL_FIELD),
            ]),
            || RECORD.to_owned(),
            "received_at",
            "When the system could first have known an event; training sets of the visibility `as_known` depend on it. `record`: at the \
             timestamp of the Kafka record, when the push was received, and for rows of files at the event time. `event_time`: when it \
             happened. Any other word is the field that says it. See [clocks](../clocks.md).",
        ),
        Key::default(
            "max_ahead",
            Takes::Scalar(SPAN),
            || SourcePlan::DEFAULT_MAX_AHEAD.to_string(),
            "10m",
            "How far the event time may be ahead of the arrival time. A record further ahead is a dead letter. Raise it where events are \
             known before they happen.",
        ),
        Key::default(
            "max_arrival_ahead",
            Takes::Scalar(SPAN),
            || SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD.to_string(),
            "10m",
            "How far the arrival time may be ahead of the time at which the record was received. A record further ahead is a dead letter: \
             the clock that set it is wrong. See [clocks](../clocks.md#a-clock-that-runs-ahead).",
        ),
        Key::optional(
            "unique",
            Takes::Scalar(UNIQUE),
            "every record counts",
            "payment_id within 1d",
            "Counts the first of several records with the same id, and leaves the repetitions out. See \
             [records that are sent twice](../topics-and-stores.md#records-that-are-sent-twice).",
        ),
        Key::optional(
            "raw",
            Takes::Word(|| vec![KEEP]),
            "payloads are not kept",
            "keep",
            "`keep` adds the payload of each event to the event table, in the column `_raw`: the record as it was received, or a row of \
             Parquet as JSON. Dead letters always keep theirs.",
        ),
    ],
    choice: Choice::AtMostOne(&FEEDS),
};

const FEEDS: [&str; 3] = ["kafka", "files", "push"];

const FILES: Table = Table {
    what: "`files`",
    about: "Files that are read without being named in a command. A file is recognised by its content and read once.",
    keys: &[Key::required(
        "path",
        Takes::Either(&[Takes::Scalar(PATTERN), Takes::List(&Takes::Scalar(PATTERN))]),
        "data/payments/*.parquet",
        "Which files, relative to the folder of the repo: Parquet, CSV, TSV or JSON lines, the last three also as `.gz` or `.zst`.",
    )],
    choice: Choice::Free,
};

const PUSH: Table = Table { what: "`push`", about: "It has no keys.", keys: &[], choice: Choice::Free };

const EVENT_TIME_FIELD: Table = Table {
    what: "`event_time`",
    about: "A time that is a number needs its unit.",
    keys: &TIME_KEYS,
    choice: Choice::Free,
};

const ARRIVAL_FIELD: Table = Table { what: "`arrival`", ..EVENT_TIME_FIELD };

const TIME_KEYS: [Key; 2] = [
    Key::required(
        "field",
        Takes::Scalar(FIELD),
        "created_ms",
        "The field, of type `int64`, `float64` or `timestamp`.",
    ),
    Key::optional(
        "unit",
        Takes::Word(|| Unit::NAMED.iter().map(|(name, _)| *name).collect()),
        "the field must be a `timestamp`",
        "ms",
        "What the number counts since 1970-01-01T00:00:00Z: seconds, milliseconds, microseconds or nanoseconds. Required for a number, \
         not allowed for a `timestamp`.",
    ),
];

const UNIQUE: Form = Form {
    name: "id and time",
    pattern: Some(r"^\s*\p{Alphabetic}[\p{Alphabetic}\p{M}\p{N}_]*\s+within\s+[0-9]+(ms|s|m|h|d)\s*$"),
    about: "`FIELD within SPAN`: the field that holds the id, of type `int64`, `string` or `bytes`, and for how long an id is known, in \
            arrival time.",
};

const PATTERN: Form = Form {
    name: "path pattern",
    pattern: None,
    about: "A path in which `*` stands for any part of a name, `?` for one character, and `**` for any number of folders.",
};

/// The words of `arrival`.
const RECORD: &str = "record";
const EVENT_TIME: &str = "event_time";

/// The word of `raw`.
const KEEP: &str = "keep";

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
        let shape = Shape::read(node, &SOURCE, reading)?;
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
    let named: Vec<&(Scalar, Node)> = FEEDS.iter().filter_map(|key| shape.entry(key)).collect();
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
            _ => Shape::read(node, &PUSH, reading).map(|_| Feed::Push),
        },
    }
}

fn files(node: &Node, reading: &mut Reading<'_>) -> Option<Feed> {
    let shape = Shape::read(node, &FILES, reading)?;
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
    if raw.value != KEEP {
        let problem = Problem::error(raw.place, format!("unknown value `{}` of `raw`", raw.value));
        reading.report(
            problem.help("write `keep`, or leave `raw` out where payloads need not be kept".to_owned()),
        );
    }
    raw.value == KEEP
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
            _ => self.with_unit(node, &EVENT_TIME_FIELD, reading),
        }
    }

    fn arrival(&self, node: &Node, reading: &mut Reading<'_>) -> Option<Arrival> {
        match &node.kind {
            Kind::Scalar(text) => match text.value.as_str() {
                RECORD => Some(Arrival::Record),
                EVENT_TIME => Some(Arrival::EventTime),
                _ => self.time(text, None, reading).map(Arrival::Field),
            },
            _ => self.with_unit(node, &ARRIVAL_FIELD, reading).map(Arrival::Field),
        }
    }

    fn with_unit(&self, node: &Node, table: &'static Table, reading: &mut Reading<'_>) -> Option<TimeField> {
        let shape = Shape::read(node, table, reading)?;
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
