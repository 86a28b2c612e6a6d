//! As much of JSON Schema as our schemas use; a keyword that is not known here stops the test.

use std::cell::RefCell;
use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value as Json};

/// What is wrong with a value, where anything is.
pub(super) fn fault(schema: &Json, value: &Json) -> Option<String> {
    Schema { root: schema }.fault(schema, value)
}

/// Compiling an expression takes longer than everything else here, and there are few.
fn is_match(pattern: &str, text: &str) -> bool {
    thread_local!(static COMPILED: RefCell<BTreeMap<String, Regex>> = RefCell::default());
    COMPILED.with_borrow_mut(|compiled| {
        let new = || Regex::new(pattern).expect("a regular expression");
        compiled.entry(pattern.to_owned()).or_insert_with(new).is_match(text)
    })
}

struct Schema<'s> {
    root: &'s Json,
}

impl Schema<'_> {
    fn fault(&self, schema: &Json, value: &Json) -> Option<String> {
        match schema {
            Json::Bool(true) => None,
            Json::Bool(false) => Some(format!("{value} is not allowed")),
            Json::Object(keywords) => keywords.iter().find_map(|(keyword, rule)| {
                let fault = self.broken(keyword, rule, keywords, value)?;
                Some(format!("{fault}, by {keyword}"))
            }),
            other => panic!("{other} is no schema"),
        }
    }

    fn fits(&self, schema: &Json, value: &Json) -> bool {
        self.fault(schema, value).is_none()
    }

    fn broken(&self, keyword: &str, rule: &Json, schema: &Map<String, Json>, value: &Json) -> Option<String> {
        let wrong = |is_wrong: bool| is_wrong.then(|| format!("{value} breaks {rule}"));
        let strings = |rule: &Json| -> Vec<String> {
            let list = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
            list.iter().map(|item| item.as_str().expect("a string").to_owned()).collect()
        };
        let all = |rule: &Json| rule.as_array().expect("a list").clone();
        match keyword {
            "$schema"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "examples"
            | "deprecated"
            | "deprecationMessage"
            | "patternErrorMessage"
            | "then"
            | "else" => None,
            "$ref" => {
                let name =
                    rule.as_str().and_then(|name| name.strip_prefix("#/$defs/")).expect("a definition");
                self.fault(self.root["$defs"].get(name).expect("it is defined"), value)
            }
            "type" => wrong(!strings(rule).iter().any(|name| is_of(name, value))),
            "enum" => wrong(!all(rule).contains(value)),
            "const" => wrong(rule != value),
            "pattern" => {
                let pattern = rule.as_str().expect("a pattern");
                wrong(value.as_str().is_some_and(|text| !is_match(pattern, text)))
            }
            "minimum" => wrong(value.as_number().is_some() && value.as_u64() < rule.as_u64()),
            "maximum" => wrong(value.as_number().is_some() && value.as_u64() > rule.as_u64()),
            "items" => value.as_array()?.iter().find_map(|item| self.fault(rule, item)),
            "required" => {
                let mapping = value.as_object()?;
                wrong(!strings(rule).iter().all(|key| mapping.contains_key(key)))
            }
            "properties" => {
                let (mapping, rules) = (value.as_object()?, rule.as_object().expect("a mapping"));
                rules.iter().find_map(|(key, rule)| self.fault(rule, mapping.get(key)?))
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Json::as_object);
                let mut more = value
                    .as_object()?
                    .iter()
                    .filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
                more.find_map(|(key, value)| Some(format!("{key}: {}", self.fault(rule, value)?)))
            }
            "propertyNames" => {
                value.as_object()?.keys().find_map(|key| self.fault(rule, &Json::from(key.as_str())))
            }
            "anyOf" => wrong(!all(rule).iter().any(|schema| self.fits(schema, value))),
            "allOf" => all(rule).iter().find_map(|schema| self.fault(schema, value)),
            "not" => wrong(self.fits(rule, value)),
            "if" => {
                let branch = if self.fits(rule, value) { "then" } else { "else" };
                self.fault(schema.get(branch)?, value)
            }
            other => panic!("the keyword {other} is not checked"),
        }
    }
}

fn is_of(name: &str, value: &Json) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}
