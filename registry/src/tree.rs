//! YAML as a small tree in which every piece knows its place.
//!
//! Definitions use plain data: one document a file, mappings with different keys, lists and texts. Anchors,
//! aliases, tags and several documents are refused, so that what a reader sees is what there is.

use saphyr_parser::{Event, Marker, Parser, Span};

use crate::file::{File, Place};
use crate::problem::Problem;

mod text;

pub(crate) use text::Scalar;

/// One piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Where it is written.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: an empty value, `null` or `~`.
    Null,
    /// A scalar; numbers and bools are texts too.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// Keys with their values, in order; each key once.
    Map(Vec<(Scalar, Node)>),
}

impl Kind {
    /// What it is, in words for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Deeper nesting is no definition.
const DEEPEST: usize = 32;

/// Reads a file. None for an empty one, and where the YAML cannot be read.
pub(crate) fn read(index: usize, file: &File, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut builder = Builder { index, file, problems, open: Vec::new(), root: None, documents: 0 };
    for event in Parser::new_from_str(&file.text) {
        match event {
            Ok((event, span)) => builder.event(event, span)?,
            Err(error) => {
                let place = builder.at(*error.marker());
                builder.problems.push(invalid(file, place, error.info()));
                return None;
            }
        }
    }
    builder.root
}

/// A scanner stops at what it cannot read, which may be the line end after the last thing that was wrong.
fn invalid(file: &File, place: Place, info: &str) -> Problem {
    let tab = file.text[..place.start].rsplit('\n').next().is_some_and(|line| line.starts_with('\t'))
        || file.text[place.start..].starts_with('\t');
    let help = match info {
        _ if info.contains("unknown anchor") => {
            "`*` begins a YAML alias: a text that begins with it goes into quotes"
        }
        _ if file.text[..place.start].ends_with('$') => "in braces a text with `${NAME}` goes into quotes",
        _ if tab => "indent with spaces: YAML allows no tabs there",
        _ if info.contains("mapping values are not allowed") || info.contains("simple key") => {
            "a text that contains `: ` or ` #`, or starts with one of *&!{}[]|>'\"%@`, goes into quotes; \
             keys of one mapping are indented alike"
        }
        _ => "look for an open bracket or quote, or a line that is indented differently from its neighbours",
    };
    Problem::error(place, "invalid YAML").label(info).help(help.to_owned())
}

/// A list or mapping whose end has not been read yet.
enum Open {
    List(Vec<Node>, Place),
    Map { entries: Vec<(Scalar, Node)>, key: Option<Scalar>, place: Place },
}

struct Builder<'f> {
    index: usize,
    file: &'f File,
    problems: &'f mut Vec<Problem>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Builder<'_> {
    /// Takes one event; none stops reading, with the reason among the problems.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let place = self.place(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.refuse(
                        place,
                        "a second YAML document in one file",
                        "put it into a file of its own",
                    );
                }
            }
            Event::Alias(_) => return self.refuse(place, "a YAML alias", "write the text out"),
            Event::Scalar(value, style, anchor, tag) => {
                self.plain_data(place, anchor, tag.is_some())?;
                self.scalar(Scalar::new(value.into_owned(), place, style));
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_data(place, anchor, tag.is_some())?;
                self.open(Open::List(Vec::new(), place))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_data(place, anchor, tag.is_some())?;
                self.open(Open::Map { entries: Vec::new(), key: None, place })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn plain_data(&mut self, place: Place, anchor: usize, tagged: bool) -> Option<()> {
        match () {
            () if anchor != 0 => self.refuse(place, "a YAML anchor", "write the text out where it is used"),
            () if tagged => self.refuse(place, "a YAML tag", "leave it out: every key knows its type"),
            () => Some(()),
        }
    }

    fn refuse(&mut self, place: Place, what: &str, help: &str) -> Option<()> {
        let problem = Problem::error(place, format!("{what} is not allowed in definitions"));
        self.problems.push(problem.help(help.to_owned()));
        None
    }

    fn open(&mut self, open: Open) -> Option<()> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            let (Open::List(_, place) | Open::Map { place, .. }) = open;
            self.problems.push(Problem::error(place, "a key is a text").label("this is none"));
            return None;
        }
        if self.open.len() == DEEPEST {
            let (Open::List(_, place) | Open::Map { place, .. }) = open;
            self.problems.push(Problem::error(place, format!("nested more than {DEEPEST} deep")));
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn close(&mut self, end: Place) {
        let node = match self.open.pop() {
            Some(Open::List(list, place)) => (place, Kind::List(list)),
            Some(Open::Map { entries, place, .. }) => (place, Kind::Map(entries)),
            None => return,
        };
        let (place, kind) = node;
        self.value(Node { place: Place { end: end.end.max(place.end), ..place }, kind });
    }

    fn scalar(&mut self, text: Scalar) {
        if let Some(Open::Map { key: key @ None, .. }) = self.open.last_mut() {
            *key = Some(text);
            return;
        }
        let place = text.place;
        let kind = if text.is_null() { Kind::Null } else { Kind::Scalar(text) };
        self.value(Node { place, kind });
    }

    fn value(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(list, _)) => list.push(node),
            Some(Open::Map { entries, key, .. }) => {
                let Some(key) = key.take() else { return };
                if node.kind == Kind::Null && continues(self.file, entries, &key) {
                    return;
                }
                match entries.iter().find(|(known, _)| known.value == key.value) {
                    None => entries.push((key, node)),
                    Some((first, _)) => self.problems.push(
                        Problem::error(key.place, format!("key `{}` is given twice", key.value))
                            .label("given again")
                            .related(first.place, "given first")
                            .help("keep one of them".to_owned()),
                    ),
                }
            }
        }
    }

    fn at(&self, marker: Marker) -> Place {
        let at = self.file.byte_at(marker.line(), marker.col());
        Place { file: self.index, start: at, end: at }
    }

    fn place(&self, span: Span) -> Place {
        let (start, end) = (self.at(span.start).start, self.at(span.end).end);
        Place { file: self.index, start, end: end.max(start) }
    }
}

/// Takes a key without value into the text before it, where that is a call that YAML cut at a comma: in
/// `{expr: nullif(a, 0), …}` the text is `nullif(a`, and `0)` is a key. What people mean has no other reading.
fn continues(file: &File, entries: &mut [(Scalar, Node)], key: &Scalar) -> bool {
    let Some((_, Node { place, kind: Kind::Scalar(text) })) = entries.last_mut() else { return false };
    let between = file.text.get(text.place.end..key.place.start).unwrap_or_default();
    let behind = file.text.get(key.place.end..).unwrap_or_default().trim_start();
    if !text.is_open_call() || between.trim() != "," || !behind.starts_with([',', '}']) {
        return false;
    }
    text.extend(file, key.place.end);
    *place = text.place;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Files;

    fn read_text(text: &str) -> (Files, Option<Node>, Vec<Problem>) {
        let mut files = Files::default();
        files.add("a.yaml", text);
        let mut problems = Vec::new();
        let node = files.iter().next().and_then(|file| read(0, file, &mut problems));
        (files, node, problems)
    }

    fn entries(node: &Node) -> &[(Scalar, Node)] {
        match &node.kind {
            Kind::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_piece_knows_its_place() {
        for end in ["\n", "\r\n"] {
            let text = format!("äö: {{b: [x, 'y z']}}{end}c:{end}  - d{end}e: # none{end}");
            let (files, node, problems) = read_text(&text);
            assert_eq!(problems, []);
            let node = node.expect("a node");
            let [(first, map), (_, list), (_, nothing)] = entries(&node) else { panic!("{node:?}") };
            assert_eq!(files.text(first.place), "äö");
            assert_eq!(files.text(map.place), "{b: [x, 'y z']}");
            assert_eq!(files.text(entries(map)[0].1.place), "[x, 'y z']");
            assert_eq!(files.position(list.place).line, 3);
            assert_eq!(nothing.kind, Kind::Null);
        }
    }

    #[test]
    fn a_call_in_a_flow_mapping_keeps_its_commas() {
        let text = "{a: round(x, 2) / nullif(y,\n   0), b: f(x, 1), c: 'g(', d, e: h(x, i: 1}\n";
        let (_, node, problems) = read_text(text);
        assert_eq!(problems, []);
        let node = node.expect("a node");
        let shown: Vec<(&str, &Kind)> =
            entries(&node).iter().map(|(key, node)| (key.value.as_str(), &node.kind)).collect();
        let value = |i: usize| match shown[i].1 {
            Kind::Scalar(text) => text.value.as_str(),
            _ => "",
        };
        assert_eq!(shown.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "i"]);
        assert_eq!((value(0), value(1)), ("round(x, 2) / nullif(y, 0)", "f(x, 1)"));
        assert_eq!((value(2), value(3), value(4)), ("g(", "", "h(x"));
    }

    #[test]
    fn what_hides_meaning_is_refused() {
        for (text, message) in [
            ("a: &x 1\n", "a YAML anchor is not allowed in definitions"),
            ("a: !!str 1\n", "a YAML tag is not allowed in definitions"),
            ("a: 1\n---\nb: 2\n", "a second YAML document in one file is not allowed in definitions"),
            ("{a: 1}: 2\n", "a key is a text"),
            ("a: 1\na: 2\n", "key `a` is given twice"),
            ("a: [1\n", "invalid YAML"),
        ] {
            let (_, _, problems) = read_text(text);
            let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            assert_eq!(messages, [message], "{text}");
        }
        let (_, node, problems) = read_text(&"[".repeat(100));
        assert!(node.is_none() && problems.len() == 1);
    }
}
