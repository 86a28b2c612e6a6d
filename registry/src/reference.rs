//! What files of definitions and settings may hold: every key, as data and as JSON Schema.
//!
//! Both are made from the tables that the reader uses (`key`), so they cannot say anything else than what is read. The page
//! `docs/reference/definitions.md` is written from [`sections`] and [`forms`] by a test, and `tidemark schema` prints a [`schema()`].

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::file::Files;
use crate::folder::PROJECT_FILE;
use crate::key::{Absent, Choice, Form, Key, Table, Takes};
use crate::project::SETTINGS;
use crate::repo::DEFINITIONS;
use crate::tree::{self, Kind, Node};

mod schema;

pub use schema::schema;

/// The two kinds of files of a repo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// What declares entities, sources, views and services.
    Definitions,
    /// `tidemark.yaml`.
    Project,
}

/// A kind of mapping in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The keys that lead to it, with dots between them: `sources.kafka`. For the whole file, its name.
    pub path: String,
    /// What it is for, in Markdown.
    pub about: String,
    /// Its keys.
    pub keys: Vec<Entry>,
}

/// A key of a mapping. Its texts are Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub value: String,
    /// What holds without it: that it is required, the default in backticks, or what absence means in words.
    pub absent: String,
    /// A value, as it is written in YAML.
    pub example: &'static str,
    /// What it does, and its previous name if that still works.
    pub about: String,
}

impl FileKind {
    const fn table(self) -> &'static Table {
        match self {
            Self::Definitions => &DEFINITIONS,
            Self::Project => &SETTINGS,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Definitions => "Definition files",
            Self::Project => PROJECT_FILE,
        }
    }
}

/// Every kind of mapping in a file, each behind the one that holds it.
#[must_use]
pub fn sections(file: FileKind) -> Vec<Section> {
    tables(file).into_iter().map(|(path, table)| section(file, &path, table)).collect()
}

/// The forms of texts that [`sections`] refer to: the name of each, and how it is written, in Markdown.
#[must_use]
pub fn forms() -> BTreeMap<&'static str, &'static str> {
    let all = [FileKind::Definitions, FileKind::Project].into_iter().flat_map(tables);
    let forms = all.flat_map(|(_, table)| table.keys).flat_map(|key| forms_of(&key.takes));
    forms.filter(|form| !form.about.is_empty()).map(|form| (form.name, form.about)).collect()
}

/// Every table of a file by its path, which is empty for the file itself.
fn tables(file: FileKind) -> Vec<(String, &'static Table)> {
    let mut found = Vec::new();
    add_tables(String::new(), file.table(), &mut found);
    found
}

fn add_tables(path: String, table: &'static Table, found: &mut Vec<(String, &'static Table)>) {
    found.push((path.clone(), table));
    for key in table.keys {
        if let Some(inner) = key.takes.table() {
            add_tables(below(&path, key.name), inner, found);
        }
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Takes {
    /// The mapping in it, of which no value has two kinds.
    fn table(&self) -> Option<&'static Table> {
        match self {
            Self::Mapping(table) => Some(*table),
            Self::List(of) => of.table(),
            Self::Either(any) => any.iter().find_map(Self::table),
            Self::Scalar(_) | Self::Number(..) | Self::Word(_) | Self::Pairs(..) => None,
        }
    }
}

fn forms_of(takes: &Takes) -> Vec<Form> {
    match takes {
        Takes::Scalar(form) => vec![*form],
        Takes::Pairs(key, value) => vec![*key, *value],
        Takes::List(of) => forms_of(of),
        Takes::Either(any) => any.iter().flat_map(forms_of).collect(),
        Takes::Number(..) | Takes::Word(_) | Takes::Mapping(_) => Vec::new(),
    }
}

fn section(file: FileKind, path: &str, table: &Table) -> Section {
    let keys = table.keys.iter().map(|key| entry(path, key)).collect();
    let about = match table.choice {
        Choice::Free => table.about.to_owned(),
        Choice::AtMostOne(keys) => format!("{} At most one of {} may be given.", table.about, words(keys)),
        Choice::ExactlyOne(keys) => format!("{} Exactly one of {} must be given.", table.about, words(keys)),
    };
    let path = if path.is_empty() { file.name() } else { path };
    Section { path: path.to_owned(), about, keys }
}

fn entry(path: &str, key: &'static Key) -> Entry {
    let absent = match key.absent {
        Absent::Refused => "**required**".to_owned(),
        Absent::Default(value) => format!("`{}`", value()),
        Absent::Means(words) => words.to_owned(),
    };
    let absent = match (key.with, key.absent) {
        (None, _) => absent,
        (Some((other, value)), Absent::Refused) => {
            format!("{absent} with `{other}: {value}`, else not allowed")
        }
        (Some((other, value)), _) => format!("{absent}; only allowed with `{other}: {value}`"),
    };
    let about = match key.was {
        None => key.about.to_owned(),
        Some(was) => format!("{} Its previous name `{was}` works until the next release.", key.about),
    };
    Entry {
        name: key.name,
        value: shown(&key.takes, &below(path, key.name)),
        absent,
        example: key.example,
        about,
    }
}

/// What a value may be, in Markdown. `path` leads to it.
fn shown(takes: &Takes, path: &str) -> String {
    let anchor = path.replace('.', "");
    match takes {
        Takes::Scalar(form) => linked(form, ""),
        Takes::Number(least, u64::MAX) => format!("whole number from {least}"),
        Takes::Number(least, most) => format!("whole number from {least} to {most}"),
        Takes::Word(all) => words(&all()),
        Takes::Mapping(_) => format!("[mapping](#{anchor})"),
        Takes::Pairs(key, value) => format!("mapping of {} to {}", linked(key, ""), linked(value, "")),
        Takes::List(Takes::Mapping(_)) => format!("list of [mappings](#{anchor})"),
        Takes::List(Takes::Scalar(form)) => format!("list of {}", linked(form, "s")),
        Takes::List(of) => format!("list of {}", shown(of, path)),
        Takes::Either(any) => any.iter().map(|takes| shown(takes, path)).collect::<Vec<_>>().join(" or "),
    }
}

/// The name of a form, which leads to how it is written.
fn linked(form: &Form, plural: &str) -> String {
    let name = format!("{}{plural}", form.name);
    if form.about.is_empty() { name } else { format!("[{name}](#values)") }
}

/// `a`, `b` or `c`.
fn words(all: &[&str]) -> String {
    let quoted: Vec<String> = all.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

/// A value in YAML as JSON; null where it is none.
fn json_of(yaml: &str) -> Json {
    let mut files = Files::default();
    let index = files.add("", &format!("value: {yaml}"));
    let node = files.iter().next().and_then(|file| tree::read(index, file, &mut Vec::new()));
    node.and_then(|node| json(&node).get("value").cloned()).unwrap_or_default()
}

/// A piece of a file as other programs that read YAML see it: words such as `true` and `7` are no texts.
fn json(node: &Node) -> Json {
    match &node.kind {
        Kind::Null => Json::Null,
        Kind::Scalar(text) if text.is_plain() => word(&text.value),
        Kind::Scalar(text) => text.value.as_str().into(),
        Kind::List(nodes) => nodes.iter().map(json).collect(),
        Kind::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.value.clone(), json(node)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
    }
}

/// A text without quotes.
fn word(text: &str) -> Json {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => number.into(),
            _ => text.into(),
        },
    }
}

#[cfg(test)]
mod tests;
