//! The tables as JSON Schema, for editors.
//!
//! A schema refuses no file that `tidemark check` accepts; it accepts some that `check` refuses, since names, types and SQL are
//! beyond it.

use serde_json::{Map, Value as Json, json};

use super::{FileKind, below, json_of, tables};
use crate::key::{Absent, Choice, Form, Key, Table, Takes};

/// The JSON Schema (draft 2020-12) of a kind of file.
#[must_use]
pub fn schema(file: FileKind) -> Json {
    let mut root = mapping("", file.table());
    let inner = tables(file).into_iter().filter(|(path, _)| !path.is_empty());
    let inner: Map<String, Json> = inner.map(|(path, table)| (path.clone(), mapping(&path, table))).collect();
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = format!("Tidemark: {}", file.name().to_lowercase()).into();
    root["$defs"] = inner.into();
    root
}

fn mapping(path: &str, table: &Table) -> Json {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for key in table.keys {
        properties.insert(key.name.to_owned(), property(path, key));
        if let Some(was) = key.was {
            let mut former = property(path, key);
            former["deprecated"] = true.into();
            former["deprecationMessage"] = format!("`{was}` is called `{}` now", key.name).into();
            properties.insert(was.to_owned(), former);
        }
        if is_required(key) {
            required.push(key.name);
        }
    }
    // An empty mapping is null in YAML.
    let types = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    let mut mapping = json!({
        "type": types,
        "description": plain(table.about),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let rules = rules(table);
    if !rules.is_empty() {
        // An empty list is not allowed here.
        mapping["allOf"] = rules.into();
    }
    mapping
}

fn is_required(key: &Key) -> bool {
    matches!(key.absent, Absent::Refused) && key.with.is_none()
}

/// What holds between the keys of a mapping.
fn rules(table: &Table) -> Vec<Json> {
    let needs = |keys: &[&str]| json!({"required": keys});
    let mut rules: Vec<Json> = match table.choice {
        Choice::Free => Vec::new(),
        Choice::AtMostOne(keys) => apart(keys),
        Choice::ExactlyOne(keys) => {
            let any = json!({"anyOf": keys.iter().map(|key| needs(&[*key])).collect::<Vec<_>>()});
            [apart(keys), vec![any]].concat()
        }
    };
    rules.extend(table.keys.iter().filter_map(|key| Some(apart(&[key.was?, key.name]))).flatten());
    rules.extend(table.keys.iter().filter_map(|key| {
        let (other, value) = key.with?;
        let needed: &[&str] = if matches!(key.absent, Absent::Refused) { &[key.name] } else { &[] };
        Some(json!({
            "if": {"properties": {other: {"const": value}}, "required": [other]},
            "then": needs(needed),
            "else": {"properties": {key.name: false}},
        }))
    }));
    rules
}

/// That no two of these keys are there.
fn apart(keys: &[&str]) -> Vec<Json> {
    let pairs = keys.iter().enumerate().flat_map(|(at, a)| keys[..at].iter().map(move |b| [*b, *a]));
    pairs.map(|pair| json!({"not": {"required": pair}})).collect()
}

fn property(path: &str, key: &Key) -> Json {
    let path = below(path, key.name);
    let mut any = values(&path, &key.takes);
    if !matches!(key.absent, Absent::Refused) {
        // A key without a value is as good as absent.
        any.push(json!({"type": "null"}));
    }
    let mut property = if any.len() == 1 { any.remove(0) } else { json!({"anyOf": any}) };
    property["description"] = plain(key.about).into();
    property["examples"] = vec![json_of(key.example)].into();
    if let Absent::Default(value) = key.absent {
        property["default"] = json_of(&value());
    }
    property
}

/// What a value may be: any of these.
fn values(path: &str, takes: &Takes) -> Vec<Json> {
    match takes {
        Takes::Scalar(form) => vec![text(form)],
        // Quotes make no difference to the reader.
        Takes::Number(least, most) => vec![
            json!({"type": "integer", "minimum": least, "maximum": most}),
            json!({"type": "string", "pattern": r"^\+?[0-9]+$"}),
        ],
        Takes::Word(words) => {
            vec![json!({"enum": words().into_iter().flat_map(spelled).collect::<Vec<_>>()})]
        }
        Takes::Mapping(_) => vec![json!({"$ref": format!("#/$defs/{path}")})],
        Takes::Pairs(key, value) => {
            vec![json!({"type": "object", "propertyNames": names(key), "additionalProperties": text(value)})]
        }
        Takes::List(of) => {
            let mut any = values(path, of);
            let items = if any.len() == 1 { any.remove(0) } else { json!({"anyOf": any}) };
            vec![json!({"type": "array", "items": items})]
        }
        Takes::Either(any) => any.iter().flat_map(|takes| values(path, takes)).collect(),
    }
}

/// A text of a form. Editors show `patternErrorMessage`, which is an extension, instead of the pattern.
fn text(form: &Form) -> Json {
    match form.pattern {
        Some(pattern) => {
            json!({"type": "string", "pattern": pattern, "patternErrorMessage": plain(form.about)})
        }
        None => json!({"type": ["string", "number", "boolean"]}),
    }
}

/// Keys are texts in every case.
fn names(form: &Form) -> Json {
    match form.pattern {
        Some(pattern) => json!({"pattern": pattern}),
        None => json!({}),
    }
}

/// A word as a text, and as what it is without quotes.
fn spelled(word: &str) -> Vec<Json> {
    let (text, bare) = (Json::from(word), super::word(word));
    if text == bare { vec![text] } else { vec![bare, text] }
}

/// Markdown without links, whose targets are pages of the documentation.
fn plain(markdown: &str) -> String {
    let (mut plain, mut rest) = (String::new(), markdown);
    while let Some((before, behind)) = rest.split_once('[') {
        let link = behind.split_once("](").and_then(|(text, behind)| Some((text, behind.split_once(')')?.1)));
        match link {
            Some((text, behind)) if !text.contains([']', '[']) => {
                plain.extend([before, text]);
                rest = behind;
            }
            _ => {
                plain.extend([before, "["]);
                rest = behind;
            }
        }
    }
    plain + rest
}
