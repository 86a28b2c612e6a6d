//! Views: features of one entity from one source.

use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::time::Span;
use tidemark_kernel::window::Window;

use crate::name;
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::tree::{Kind, Node, Scalar};

mod compile;

pub(crate) use compile::compile;

const KEYS: [&str; 9] =
    ["name", "description", "entity", "source", "keys", "where", "time_travel", "max_age", "features"];

const FEATURE_KEYS: [&str; 4] = ["name", "description", "aggregate", "windows"];

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
        let shape = Shape::read(node, "a view", &KEYS, reading)?;
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
        let shape = Shape::read(node, "a feature", &FEATURE_KEYS, reading)?;
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
