//! A source's topic.

use tidemark_kernel::time::{Span, Time};

use crate::feed::{KafkaFeed, Start};
use crate::key::{Choice, Form, Key, SPAN, TEXT, Table, Takes};
use crate::problem::Problem;
use crate::shape::{Reading, SPAN_HELP, Shape};
use crate::suggest;
use crate::tree::{Node, Scalar};

/// The keys of a source's topic.
pub(super) const TOPIC: Table = Table {
    what: "`kafka`",
    about: "The topic that a source reads. A record's value is one JSON object.",
    keys: &[
        Key::required(
            "topic",
            Takes::Scalar(TEXT),
            "payments",
            "Its name. A source keeps its topic for good: another topic needs another source.",
        ),
        Key::default(
            "format",
            Takes::Word(|| vec![JSON]),
            || JSON.to_owned(),
            JSON,
            "How the values of records are written.",
        ),
        Key::default(
            "start",
            Takes::Either(&[Takes::Word(|| vec![EARLIEST, LATEST]), Takes::Scalar(INSTANT)]),
            || written(Start::default()),
            "2026-01-31T12:00:00Z",
            "Where reading begins in a partition that was never read before: at its oldest record, behind its newest, or at the first \
             record with this timestamp or a later one. After that reading continues where it was, and `start` has no effect.",
        ),
        Key::default(
            "max_timestamp_ahead",
            Takes::Either(&[Takes::Scalar(SPAN), Takes::Word(|| vec![ANY])]),
            || KafkaFeed::DEFAULT_MAX_TIMESTAMP_AHEAD.to_string(),
            "5m",
            "How far ahead of the brokers' clocks the settings of the topic may let producers set timestamps. A topic that allows more is \
             refused; `any` accepts every topic. See [clocks](../clocks.md#timestamps-of-kafka-topics).",
        ),
    ],
    choice: Choice::Free,
};

const INSTANT: Form = Form {
    name: "instant",
    pattern: Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    about: "A time in RFC 3339: `2026-01-31T12:00:00Z`. Without a zone it is UTC; a date alone is its midnight.",
};

/// The format of records.
const JSON: &str = "json";

/// The words of `start`.
const EARLIEST: &str = "earliest";
const LATEST: &str = "latest";

/// Allows a topic whose timestamps may be any length of time ahead.
const ANY: &str = "any";

/// The most characters of a topic's name.
const LONGEST: usize = 249;

pub(super) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<KafkaFeed> {
    let shape = Shape::read(node, &TOPIC, reading)?;
    if let Some(format) = shape.text("format", reading).filter(|format| format.value != JSON) {
        let problem = Problem::error(format.place, format!("unknown format `{}`", format.value));
        reading.report(problem.help("write `json`: one JSON object a record".to_owned()));
    }
    let start = match shape.text("start", reading) {
        None => Start::default(),
        Some(text) => start(text, reading)?,
    };
    let max_timestamp_ahead = match shape.text("max_timestamp_ahead", reading) {
        None => Some(KafkaFeed::DEFAULT_MAX_TIMESTAMP_AHEAD),
        Some(text) if text.value == ANY => None,
        Some(text) => Some(max_timestamp_ahead(text, reading)?),
    };
    let topic = shape.require_text("topic", reading)?;
    is_topic(topic, reading).then(|| KafkaFeed { topic: topic.value.clone(), start, max_timestamp_ahead })
}

fn max_timestamp_ahead(text: &Scalar, reading: &mut Reading<'_>) -> Option<Span> {
    let span = Span::parse(&text.value);
    if span.is_none() {
        let problem = Problem::error(text.place, format!("`{}` is no length of time", text.value));
        reading.report(problem.help(format!("{SPAN_HELP}; or `{ANY}` for a topic without a limit")));
    }
    span
}

fn start(text: &Scalar, reading: &mut Reading<'_>) -> Option<Start> {
    match text.value.as_str() {
        EARLIEST => Some(Start::Earliest),
        LATEST => Some(Start::Latest),
        instant => {
            let time = Time::parse(instant);
            if time.is_none() {
                let problem = Problem::error(text.place, format!("a topic has no start `{instant}`"));
                let all = [EARLIEST, LATEST, "an instant such as 2026-01-31T12:00:00Z"];
                reading.report(problem.help(suggest::help(instant, "starts", all)));
            }
            time.map(Start::At)
        }
    }
}

/// A start as it is written.
fn written(start: Start) -> String {
    match start {
        Start::Earliest => EARLIEST.to_owned(),
        Start::Latest => LATEST.to_owned(),
        Start::At(time) => time.to_string(),
    }
}

/// What Kafka takes as a name. Anything else could be taken for a pattern of names.
fn is_topic(topic: &Scalar, reading: &mut Reading<'_>) -> bool {
    let name = topic.value.as_str();
    let fine = (1..=LONGEST).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fine {
        let problem = Problem::error(topic.place, format!("`{name}` is no name of a topic"));
        let rule = format!("a topic is named with letters, digits, `.`, `_` and `-`, {LONGEST} at most");
        reading.report(problem.help(rule));
    }
    fine
}
