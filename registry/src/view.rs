//! Views: features of one entity from one source.

use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::time::Span;
use tidemark_kernel::window::Window;

use crate::key::{Choice, FIELD, Form, Key, NAME, SPAN, SQL, Table, Takes};
use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::tree::{Kind, Node, Scalar};

mod compile;

pub(crate) use compile::compile;

/// The keys of a view.
pub(crate) const VIEW: Table = Table {
    what: "a view",
    about: "A view computes features of one entity from the events of one source.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(NAME),
            "user_payments",
            "The first part of the names of its features: `user_payments.amount_sum_7d`.",
        ),
        Key::description("What a user does."),
        Key::required("entity", Takes::Scalar(NAME), "user", "The [entity](#entities) that the features describe."),
        Key::required("source", Takes::Scalar(NAME), "payments", "The [source](#sources) whose events it counts."),
        Key::optional(
            "keys",
            Takes::Pairs(FIELD, FIELD),
            "each key is in the field of its own name",
            "{user_id: payer_id}",
            "For keys of the entity that are in a field of another name: the key, and the field of the source that holds it. Both have \
             the same type. An event whose key is null does not count in this view.",
        ),
        Key::optional(
            "where",
            Takes::Scalar(SQL),
            "every event counts",
            "status = 'settled'",
            "A condition on the fields of the source. An event counts where it is true; false and null leave the event out.",
        ),
        Key::default(
            "time_travel",
            Takes::Scalar(SPAN),
            || FeaturePlan::DEFAULT_TIME_TRAVEL.to_string(),
            "30s",
            "How far back in time lookups can go: a lookup can ask about any instant from this long before the newest arrival of the \
             entity on ([clocks](../clocks.md#how-far-back-a-lookup-can-ask)). An earlier one is answered with `too_early`. Training sets \
             can ask about any instant, and late events count however late they are. More costs memory: one tile for each \
             millisecond in this time that has events.",
        )
        .was("head"),
        Key::optional(
            "max_age",
            Takes::Scalar(SPAN),
            "no limit",
            "30d",
            "How old the newest event of an entity may be at the instant asked about. Where it is older, the features have the \
             [status](../meaning.md#answers) `outside_max_age`; their values do not change.",
        ),
        Key::required(
            "features",
            Takes::List(&Takes::Mapping(&FEATURE)),
            "[{name: payments, aggregate: count(*), windows: [1h, 1d]}]",
            "What it computes, at least one.",
        ),
    ],
    choice: Choice::Free,
};

const FEATURE: Table = Table {
    what: "a feature",
    about: "One aggregate over one or more windows: a feature for each window.",
    keys: &[
        Key::required(
            "name",
            Takes::Scalar(NAME),
            "amount_sum",
            "Each feature is named after it and its window as written: `amount_sum` over `7d hop 1d` is `amount_sum_7d`, over `lifetime` \
             it is `amount_sum`.",
        ),
        Key::description("How much the user has spent."),
        Key::required(
            "aggregate",
            Takes::Scalar(AGGREGATE),
            "sum(amount)",
            "What is computed from the events in the window. Nulls are skipped.",
        ),
        Key::required(
            "windows",
            Takes::List(&Takes::Scalar(WINDOW)),
            "[10m, 7d hop 1d, 1h exact, lifetime]",
            "How far back from the instant asked about events count.",
        ),
    ],
    choice: Choice::Free,
};

const AGGREGATE: Form = Form {
    name: "aggregate",
    pattern: None,
    about: "An aggregate function over a SQL expression, with its own filter if needed: `count(*)`, `sum(amount)`, \
            `count(distinct card_id)`, `avg(amount) filter (where status = 'settled')`. See [the functions](../meaning.md#aggregates).",
};

const WINDOW: Form = Form {
    name: "window",
    pattern: Some(r"^\s*(lifetime|[0-9]+(ms|s|m|h|d)(\s+exact|\s+hop\s+[0-9]+(ms|s|m|h|d))?)\s*$"),
    about: "A length of time such as `10m` or `7d`, whose older edge moves in steps (hops) of a sixtieth of it or less; `7d hop 1d` has \
            another hop, `10m exact` moves by the millisecond, and `lifetime` is all time. See [windows](../meaning.md#windows).",
};

/// A view as it is written.
#[derive(Clone, Debug)]
pub(crate) struct ViewDeclaration {
    pub(crate) name: Scalar,
    pub(crate) entity: Option<Scalar>,
    pub(crate) source: Option<Scalar>,
    /// Entity key, source field.
    pub(crate) keys: Vec<(Scalar, Scalar)>,
    pub(crate) filter: Option<Scalar>,
    pub(crate) time_travel: Span,
    pub(crate) max_age: Option<Span>,
    pub(crate) features: Vec<FeatureDeclaration>,
    pub(crate) description: Option<String>,
    /// Whether all of it could be read.
    pub(crate) whole: bool,
}

/// A feature as it is written: one aggregate over several windows.
#[derive(Clone, Debug)]
pub(crate) struct FeatureDeclaration {
    pub(crate) name: Scalar,
    pub(crate) aggregate: Option<Scalar>,
    pub(crate) windows: Vec<(Window, Scalar)>,
    pub(crate) description: Option<String>,
}

impl ViewDeclaration {
    pub(crate) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let before = reading.errors();
        let shape = Shape::read(node, &VIEW, reading)?;
        let name = name::declared(&shape, reading);
        let mut view = Self {
            entity: shape.require_text("entity", reading).cloned(),
            source: shape.require_text("source", reading).cloned(),
            keys: keys(&shape, reading),
            filter: shape.text("where", reading).cloned(),
            time_travel: shape.span("time_travel", reading).unwrap_or(FeaturePlan::DEFAULT_TIME_TRAVEL),
            max_age: shape.span("max_age", reading),
            features: features(&shape, reading),
            description: shape.description(reading),
            whole: true,
            name: name?,
        };
        view.whole = reading.errors() == before;
        Some(view)
    }
}

fn keys(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Vec<(Scalar, Scalar)> {
    let Some(node) = shape.get("keys") else { return Vec::new() };
    let entries = shape::map(node, "`keys`", reading);
    let field = |(key, node): &(Scalar, Node), reading: &mut Reading<'_>| {
        Some((key.clone(), shape::text(node, "a key's field", reading)?.clone()))
    };
    entries.iter().filter_map(|entry| field(entry, reading)).collect()
}

fn features(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Vec<FeatureDeclaration> {
    let nodes = shape.require_list("features", reading);
    nodes.iter().filter_map(|node| FeatureDeclaration::read(node, reading)).collect()
}

impl FeatureDeclaration {
    fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, &FEATURE, reading)?;
        let name = name::declared(&shape, reading);
        let aggregate = shape.require_text("aggregate", reading).cloned();
        let windows = shape.require_list("windows", reading);
        let windows = windows.iter().filter_map(|node| window(node, reading)).collect();
        let description = shape.description(reading);
        Some(Self { name: name?, aggregate, windows, description })
    }

    /// `name_window`, with the length as it is written: `24h` and `1d` are one window under two names. `lifetime`
    /// adds nothing, and neither does a window's hop.
    pub(crate) fn column(&self, window: &Scalar) -> String {
        match window.value.split_whitespace().next() {
            None | Some("lifetime") => self.name.value.clone(),
            Some(length) => format!("{}_{length}", self.name.value),
        }
    }
}

const WINDOW_HELP: &str = "windows: a length as `10m` or `7d`, with its hop as `7d hop 1d`, moving by the millisecond \
                           as `10m exact`, or `lifetime`";

fn window(node: &Node, reading: &mut Reading<'_>) -> Option<(Window, Scalar)> {
    let Kind::Scalar(text) = &node.kind else {
        let problem = Problem::error(node.place, format!("a window is a text, not {}", node.kind.name()));
        reading.report(problem.help(WINDOW_HELP.to_owned()));
        return None;
    };
    match parse_window(&text.value) {
        Ok(window) => {
            warn_of_hop(window, text, reading);
            Some((window, text.clone()))
        }
        Err((message, help)) => {
            reading.report(Problem::error(text.place, message).help(help));
            None
        }
    }
}

/// Warns if rounding the older edge down to a multiple of the hop can make the window more than 1.5 times as long as its length says.
/// `1d hop 1d` covers up to two days, and is often meant as a calendar day.
fn warn_of_hop(window: Window, text: &Scalar, reading: &mut Reading<'_>) {
    let Window::Sliding { length, hop } = window else { return };
    if 2 * (hop.millis() - 1) <= length.millis() {
        return;
    }
    let longest = Span::from_millis(length.millis() + hop.millis());
    let message = format!("the window `{window}` covers from {length} up to {longest}");
    let help = format!(
        "its older edge is rounded down to a multiple of the hop; write `{length}` for a hop of a sixtieth or less"
    );
    reading.report(Problem::warning(text.place, message).help(help));
}

/// `10m`, `7d hop 1d`, `10m exact` or `lifetime`; else what is wrong, and how windows are written.
fn parse_window(text: &str) -> Result<Window, (String, Option<String>)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let span = |word: &str| {
        let none = || (format!("`{word}` is no length of time"), Some(shape::SPAN_HELP.to_owned()));
        Span::parse(word).ok_or_else(none)
    };
    let window = match words[..] {
        ["lifetime"] => Ok(Window::Lifetime),
        [length] => Window::sliding(span(length)?),
        [length, "exact"] => Window::exact(span(length)?),
        [length, "hop", hop] => Window::with_hop(span(length)?, span(hop)?),
        _ => return Err((format!("`{text}` is no window"), Some(WINDOW_HELP.to_owned()))),
    };
    window.map_err(|error| (error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_as_they_are_shown() {
        for text in ["10m", "7d hop 1d", "lifetime", "10m hop 1ms"] {
            assert_eq!(parse_window(text).map(|window| window.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(parse_window("10m exact"), parse_window("10m hop 1ms"));
        for text in ["", "10", "7d hop", "7d every 1d", "0s", "7d hop 2d", "lifetime hop 1d", "week"] {
            assert!(parse_window(text).is_err(), "{text}");
        }
    }
}
