//! Names: what may be one, and that each is taken once.

use std::collections::BTreeMap;

use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::Text;

/// The most characters of a name.
const LONGEST: usize = 64;

/// Names that lookups and training sets use for themselves.
const RESERVED: [&str; 2] = ["at", "token"];

/// The name of a declaration: letters, digits and underscores, starting with a letter, no capitals.
pub(crate) fn declared(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Text> {
    let name = shape.require_text("name", reading)?;
    check(name, reading).then(|| name.clone())
}

/// The name of a source's field, which may have capitals: it belongs to the data.
pub(crate) fn field(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Text> {
    let name = shape.require_text("name", reading)?;
    let lower = name.value.to_lowercase();
    let fine = well_formed(&lower);
    if !fine {
        malformed(
            name,
            &lower,
            "a field is named with letters, digits and `_`, starting with a letter",
            reading,
        );
    }
    fine.then(|| name.clone())
}

/// The name of a key, request field or derived feature: a column beside `at` and `token`.
pub(crate) fn column(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Text> {
    let name = declared(shape, reading)?;
    if RESERVED.contains(&name.value.as_str()) {
        let problem = Problem::error(name.place, format!("the name `{}` is reserved", name.value));
        reading.report(
            problem
                .label("lookups and training sets use it themselves")
                .help("choose another name".to_owned()),
        );
        return None;
    }
    Some(name)
}

pub(crate) fn check(name: &Text, reading: &mut Reading<'_>) -> bool {
    let fine = well_formed(&name.value);
    if !fine {
        let rule = "a name has lower-case letters, digits and `_`, starting with a letter, 64 at most";
        malformed(name, &snake(&name.value), rule, reading);
    }
    fine
}

fn malformed(name: &Text, lower: &str, rule: &str, reading: &mut Reading<'_>) {
    let fixed = underscored(lower);
    let help = if well_formed(&fixed) { format!("write `{fixed}`") } else { rule.to_owned() };
    let problem = Problem::error(name.place, format!("`{}` is no name", name.value)).help(help);
    reading.report(problem.label(rule));
}

/// The name that is closest to `text`, such as the one of a folder.
pub(crate) fn closest(text: &str) -> String {
    let mut name = underscored(&snake(text));
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name = underscored(&format!("project_{name}"));
    }
    name.truncate(LONGEST);
    name.trim_end_matches('_').to_owned()
}

/// With `_` for every character that no name has, but not at the ends.
fn underscored(lower: &str) -> String {
    let kept = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let fixed: String = lower.chars().map(kept).collect();
    fixed.trim_matches('_').to_owned()
}

/// `UserAccount` as `user_account`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    let mut after_lower = false;
    for character in name.chars() {
        if after_lower && character.is_uppercase() {
            snake.push('_');
        }
        after_lower = character.is_lowercase() || character.is_ascii_digit();
        snake.extend(character.to_lowercase());
    }
    snake
}

fn well_formed(name: &str) -> bool {
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Keeps the first declaration of each name and reports the others, with both places.
pub(crate) fn unique<D>(
    declared: Vec<D>,
    what: &str,
    name: impl Fn(&D) -> &Text,
    reading: &mut Reading<'_>,
) -> Vec<D> {
    let mut first: BTreeMap<String, crate::file::Place> = BTreeMap::new();
    let mut kept = Vec::with_capacity(declared.len());
    for declaration in declared {
        let text = name(&declaration);
        match first.get(&text.value) {
            None => {
                first.insert(text.value.clone(), text.place);
                kept.push(declaration);
            }
            Some(place) => reading.report(taken(what, text, *place)),
        }
    }
    kept
}

/// A name that is taken, with both places.
pub(crate) fn taken(what: &str, name: &Text, first: crate::file::Place) -> Problem {
    Problem::error(name.place, format!("{what} `{}` is declared twice", name.value))
        .label("declared again")
        .related(first, "declared first")
        .help("remove or rename one of them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_close_to_a_name() {
        for (text, name) in [
            ("shop", "shop"),
            ("FraudDetection", "fraud_detection"),
            ("fraud-detection.v2", "fraud_detection_v2"),
            (" my features ", "my_features"),
            ("2026", "project_2026"),
            ("_x_", "x"),
            ("数据", "project"),
            ("", "project"),
        ] {
            assert_eq!(closest(text), name, "{text}");
        }
        for text in ["x".repeat(300), format!("{}-{}", "x".repeat(63), "y"), "-".repeat(300), "9".repeat(300)]
        {
            assert!(well_formed(&closest(&text)), "{text}");
        }
    }
}
