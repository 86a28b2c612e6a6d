//! Reading a tree as what it should be, and saying so where it is not.

use tidemark_expr::closest;
use tidemark_kernel::time::Span;

use crate::file::{Files, Place};
use crate::key::{Key, Table};
use crate::problem::{Problem, errors};
use crate::suggest;
use crate::tree::{Kind, Node, Scalar};

/// The files being read, and what is wrong with them so far.
pub(crate) struct Reading<'f> {
    pub(crate) files: &'f Files,
    pub(crate) problems: Vec<Problem>,
    /// Whether a file could not be read: names may be missing because of that.
    pub(crate) incomplete: bool,
}

impl Reading<'_> {
    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// How many problems stop the repo from being used, so far.
    pub(crate) fn errors(&self) -> usize {
        errors(&self.problems)
    }

    /// Reports a reference to something that does not exist, unless it may be in a file that cannot be read.
    pub(crate) fn unknown<'a>(
        &mut self,
        what: &str,
        (name, place): (&str, Place),
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        if self.incomplete {
            return;
        }
        let help = suggest::help(name, &format!("{what} names"), known);
        let help = help.or_else(|| Some(format!("no {what} is declared")));
        self.report(Problem::error(place, format!("unknown {what} `{name}`")).help(help));
    }

    fn wrong_kind(&mut self, node: &Node, what: &str, expected: &str) {
        let problem =
            Problem::error(node.place, format!("expected {expected} for {what}, found {}", node.kind.name()));
        self.report(problem);
    }
}

/// A mapping with the keys of a table.
pub(crate) struct Shape<'n> {
    table: &'static Table,
    entries: &'n [(Scalar, Node)],
    pub(crate) place: Place,
}

impl<'n> Shape<'n> {
    /// Reads a mapping and reports the keys that it should not have.
    pub(crate) fn read(node: &'n Node, table: &'static Table, reading: &mut Reading<'_>) -> Option<Self> {
        let entries: &[(Scalar, Node)] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Null => &[],
            Kind::Scalar(_) | Kind::List(_) => {
                reading.wrong_kind(node, table.what, "a mapping");
                return None;
            }
        };
        for (key, _) in entries.iter().filter(|(key, _)| !table.takes(&key.value)) {
            let help = suggest::help(&key.value, &format!("{} takes", table.what), table.names());
            let problem = Problem::error(key.place, format!("unknown key `{}` in {}", key.value, table.what));
            reading.report(problem.help(help));
        }
        let shape = Self { table, entries, place: node.place };
        table.keys.iter().filter_map(|key| shape.renamed(key)).for_each(|problem| reading.report(problem));
        Some(shape)
    }

    /// What to say of a key that is written with its previous name.
    fn renamed(&self, key: &Key) -> Option<Problem> {
        let (was, _) = self.written(key.was?)?;
        let (old, new) = (&was.value, key.name);
        Some(match self.written(new) {
            Some((now, _)) => Problem::error(was.place, format!("`{old}` and `{new}` are the same key"))
                .label("the previous name")
                .related(now.place, "the same key")
                .help(format!("keep `{new}`")),
            None => {
                Problem::warning(was.place, format!("`{old}` of {} is called `{new}` now", self.table.what))
                    .label("the previous name")
                    .help(format!("write `{new}`; the previous name works until the next release"))
            }
        })
    }

    /// Whether an unknown key was probably meant to be this one; then that has been said.
    fn misspelt(&self, key: &str) -> bool {
        let unknown = self.entries.iter().map(|(known, _)| known.value.as_str());
        let mut unknown = unknown.filter(|known| !self.table.takes(known));
        unknown.any(|unknown| closest(unknown, self.table.names()) == Some(key))
    }

    /// The value of a key; none where it is absent or empty.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|(_, node)| node).filter(|node| node.kind != Kind::Null)
    }

    /// The key and its value, which may be empty. The key has the name that is written, which may be the previous one.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n (Scalar, Node)> {
        let found = self.table.key(key);
        debug_assert!(found.is_some(), "the table of {} lacks `{key}`", self.table.what);
        let found = found?;
        self.written(found.name).or_else(|| self.written(found.was?))
    }

    fn written(&self, name: &str) -> Option<&'n (Scalar, Node)> {
        self.entries.iter().find(|(known, _)| known.value == name)
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&self, key: &str, reading: &mut Reading<'_>) -> Option<&'n Node> {
        let found = self.get(key);
        if found.is_none() && !self.misspelt(key) {
            let problem = match self.entry(key) {
                Some((text, _)) => {
                    Problem::error(text.place, format!("`{key}` of {} is empty", self.table.what))
                }
                None => Problem::error(self.place, format!("{} needs `{key}`", self.table.what))
                    .label(format!("`{key}` is missing")),
            };
            reading.report(problem);
        }
        found
    }

    /// A text that may be absent.
    pub(crate) fn text(&self, key: &str, reading: &mut Reading<'_>) -> Option<&'n Scalar> {
        text(self.get(key)?, &format!("`{key}`"), reading)
    }

    /// A text that must be there.
    pub(crate) fn require_text(&self, key: &str, reading: &mut Reading<'_>) -> Option<&'n Scalar> {
        text(self.require(key, reading)?, &format!("`{key}`"), reading)
    }

    /// A length of time that may be absent.
    pub(crate) fn span(&self, key: &str, reading: &mut Reading<'_>) -> Option<Span> {
        let text = self.text(key, reading)?;
        let span = Span::parse(&text.value);
        if span.is_none() {
            let problem = Problem::error(text.place, format!("`{}` is no length of time", text.value));
            reading.report(problem.help(SPAN_HELP.to_owned()));
        }
        span
    }

    /// The elements of a list that may be absent.
    pub(crate) fn list(&self, key: &str, reading: &mut Reading<'_>) -> &'n [Node] {
        self.get(key).map_or(&[], |node| list(node, &format!("`{key}`"), reading))
    }

    /// The elements of a list that must be there and hold something.
    pub(crate) fn require_list(&self, key: &str, reading: &mut Reading<'_>) -> &'n [Node] {
        let Some(node) = self.require(key, reading) else { return &[] };
        let elements = list(node, &format!("`{key}`"), reading);
        if matches!(&node.kind, Kind::List(list) if list.is_empty()) {
            reading.report(Problem::error(node.place, format!("`{key}` of {} is empty", self.table.what)));
        }
        elements
    }

    /// What the declaration is for, in its author's words.
    pub(crate) fn description(&self, reading: &mut Reading<'_>) -> Option<String> {
        self.text("description", reading).map(|text| text.value.trim().to_owned())
    }
}

/// How lengths of time are written.
pub(crate) const SPAN_HELP: &str = "write a whole number and one of ms, s, m, h, d: 250ms, 10s, 10m, 1h, 7d";

/// A scalar.
pub(crate) fn text<'n>(node: &'n Node, what: &str, reading: &mut Reading<'_>) -> Option<&'n Scalar> {
    match &node.kind {
        Kind::Scalar(text) => Some(text),
        _ => {
            reading.wrong_kind(node, what, "a text");
            None
        }
    }
}

/// The elements of a list.
pub(crate) fn list<'n>(node: &'n Node, what: &str, reading: &mut Reading<'_>) -> &'n [Node] {
    match &node.kind {
        Kind::List(list) => list,
        _ => {
            reading.wrong_kind(node, what, "a list");
            &[]
        }
    }
}

/// The keys and values of a mapping whose keys are free.
pub(crate) fn map<'n>(node: &'n Node, what: &str, reading: &mut Reading<'_>) -> &'n [(Scalar, Node)] {
    match &node.kind {
        Kind::Map(entries) => entries,
        _ => {
            reading.wrong_kind(node, what, "a mapping");
            &[]
        }
    }
}
