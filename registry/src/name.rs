//! Names: what may be one, and that each is taken once.

use std::collections::BTreeMap;

use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::Scalar;

/// The most characters of a name.
const LONGEST: usize = 64;

/// Names that lookups and training sets use for themselves.
const RESERVED: [&str; 2] = ["at", "token"];

/// The name of a declaration: letters, digits and underscores, starting with a letter, no capitals.
pub(crate) fn declared(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Scalar> {
    let name = shape.require_text("name", reading)?;
    check(name, reading).then(|| name.clone())
}

/// The name of a source's field.
pub(crate) fn field(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Scalar> {
    let name = shape.require_text("name", reading)?;
    if is_of_data(&name.value) {
        return Some(name.clone());
    }
    let rule = "a field is named with letters, digits and `_`, starting with a letter";
    let fixed = fixed(&name.value.to_lowercase());
    let help = match (&fixed, shape.entry("from")) {
        (Some(fixed), Some(_)) => format!("write `{fixed}`"),
        (None, Some(_)) => rule.to_owned(),
        (_, None) => field_help(&name.value, fixed.as_deref().unwrap_or("NAME")),
    };
    reading.report(Problem::error(name.place, format!("`{}` is no name", name.value)).help(help).label(rule));
    None
}

/// What to write for a field that has the name of its data, which is no name here. Another name alone would be one
/// that the data does not have.
fn field_help(written: &str, fixed: &str) -> String {
    let name = quoted(written);
    let (from, more) = match path(written) {
        Some(names) if names.len() > 1 => (
            format!("{{path: {name}}}"),
            format!(" (`{{column: {name}}}` where the dot is part of the name)"),
        ),
        _ => (format!("{{column: {name}}}"), String::new()),
    };
    format!("name the field, and say where it comes from: {{name: {fixed}, from: {from}}}{more}")
}

/// The names of a path that is written with dots between them; none where one is empty.
pub(crate) fn path(written: &str) -> Option<Vec<String>> {
    written.split('.').map(|name| (!name.is_empty()).then(|| name.to_owned())).collect()
}

/// A text as it is written in a mapping in braces: in quotes, unless it is a plain word there.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.eq_ignore_ascii_case("null");
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// The name of a key or a request field.
pub(crate) fn column(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Scalar> {
    let name = shape.require_text("name", reading)?;
    check_column(name, reading).then(|| name.clone())
}

/// Whether a name may be that of a key or a request field: a column beside `at` and `token`.
pub(crate) fn check_column(name: &Scalar, reading: &mut Reading<'_>) -> bool {
    if is_of_data(&name.value) {
        return is_free(name, reading);
    }
    let rule = "it is named with letters, digits and `_`, starting with a letter";
    malformed(name, &name.value.to_lowercase(), rule, reading);
    false
}

/// The name of a derived feature.
pub(crate) fn derived(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Scalar> {
    let name = declared(shape, reading)?;
    is_free(&name, reading).then_some(name)
}

fn is_free(name: &Scalar, reading: &mut Reading<'_>) -> bool {
    let is_reserved = RESERVED.contains(&name.value.as_str());
    if is_reserved {
        let problem = Problem::error(name.place, format!("the name `{}` is reserved", name.value));
        reading.report(
            problem
                .label("lookups and training sets use it themselves")
                .help("choose another name".to_owned()),
        );
    }
    !is_reserved
}

pub(crate) fn check(name: &Scalar, reading: &mut Reading<'_>) -> bool {
    let fine = well_formed(&name.value);
    if !fine {
        let rule = "a name has lower-case letters, digits and `_`, starting with a letter, 64 at most";
        malformed(name, &snake(&name.value), rule, reading);
    }
    fine
}

fn malformed(name: &Scalar, lower: &str, rule: &str, reading: &mut Reading<'_>) {
    let help = fixed(lower).map_or_else(|| rule.to_owned(), |fixed| format!("write `{fixed}`"));
    let problem = Problem::error(name.place, format!("`{}` is no name", name.value)).help(help);
    reading.report(problem.label(rule));
}

/// The name that is closest to `text`, such as the one of a folder.
pub(crate) fn closest(text: &str) -> String {
    let words = words(&snake(text));
    let is_name = words.starts_with(|first: char| first.is_ascii_lowercase());
    let mut name = if is_name { words } else { format!("project_{words}") };
    name.truncate(LONGEST);
    name.trim_end_matches('_').to_owned()
}

/// The nearest name to a text without capitals, if there is any: what a name cannot hold is one `_`.
fn fixed(lower: &str) -> Option<String> {
    Some(words(lower)).filter(|fixed| well_formed(fixed))
}

/// The letters and digits of a text, with one `_` for whatever is between them.
fn words(lower: &str) -> String {
    let words = lower.split(|character: char| !character.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
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

/// Whether a name may be one of the data: of a field, a key or a request field. Those are in any alphabet and case. Other
/// characters are left out since readers of Delta tables refuse most of them in names of columns.
fn is_of_data(name: &str) -> bool {
    let of_word = |character: char| character.is_alphanumeric() || character == '_' || is_mark(character);
    name.chars().count() <= LONGEST && name.starts_with(char::is_alphabetic) && name.chars().all(of_word)
}

/// Whether a character may be a part of a letter that is written with several: an accent, or a sign of the scripts of South and
/// Southeast Asia.
const fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
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
    name: impl Fn(&D) -> &Scalar,
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
pub(crate) fn taken(what: &str, name: &Scalar, first: crate::file::Place) -> Problem {
    Problem::error(name.place, format!("{what} `{}` is declared twice", name.value))
        .label("declared again")
        .related(first, "declared first")
        .help("remove or rename one of them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_are_in_any_alphabet_and_case() {
        for name in [
            "user_id",
            "userId",
            "UserID",
            "Größe",
            "größe",
            "数量",
            "цена",
            "الكمية",
            "हिन्दी",
            "ราคา",
            "x2",
            "e\u{301}",
        ] {
            assert!(is_of_data(name), "{name}");
        }
        let long = "ß".repeat(LONGEST + 1);
        for name in ["", "_id", "2x", "user-id", "a b", "a.b", "a\tb", "a(b)", "a,b", "a=b", "preis_€", &long]
        {
            assert!(!is_of_data(name), "{name}");
        }
    }

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
