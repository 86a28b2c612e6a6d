//! What settings leave to the environment: `${NAME}` stands for the value of an environment variable.
//!
//! Applied versions keep the definition files as they are, so a password must not be in one. This crate reads no
//! environment: whoever opens a store or a topic hands it in, and the values go no further than that.

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};

use crate::file::Place;
use crate::problem::Problem;
use crate::shape::Reading;
use crate::tree::Scalar;

/// The value of an environment variable; none where it is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Why a setting cannot be used. No message shows what a variable holds.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// The setting names a variable that is not set.
    #[error("`{setting}` in tidemark.yaml needs the environment variable {variable}, which is not set")]
    Unset {
        /// The setting, such as `online.url`.
        setting: String,
        /// The variable.
        variable: String,
    },
    /// The setting is not what it should be, once its variables have their values.
    #[error("`{setting}` in tidemark.yaml, with its environment variables filled in: {reason}")]
    Invalid {
        /// The setting.
        setting: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        help: String,
    },
}

impl Explain for SettingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unset { .. } => ErrorKind::Environment,
            Self::Invalid { .. } => ErrorKind::Invalid,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unset { .. } => None,
            Self::Invalid { help, .. } => Some(help.into()),
        }
    }
}

/// A setting with the values of the variables that its text names.
///
/// # Errors
/// Fails where a variable is not set, or a `${` begins none.
pub fn expand(setting: &str, text: &str, env: Environment<'_>) -> Result<String, SettingError> {
    let pieces = pieces(text).map_err(|_| SettingError::Invalid {
        setting: setting.to_owned(),
        reason: MALFORMED.to_owned(),
        help: NAME_HELP.to_owned(),
    })?;
    let value = |piece: Piece<'_>| match piece {
        Piece::Text(text) => Ok(text.to_owned()),
        Piece::Variable(name) => env(name)
            .ok_or_else(|| SettingError::Unset { setting: setting.to_owned(), variable: name.to_owned() }),
    };
    pieces.into_iter().map(value).collect()
}

/// A text whose variables have a value that fits wherever one may stand, so that the rest can be checked. None where
/// nothing is left to check: it begins with a variable, or has been found wrong here.
pub(crate) fn stand_in(text: &Scalar, reading: &mut Reading<'_>) -> Option<String> {
    match pieces(&text.value) {
        Ok(_) if text.value.starts_with("${") => None,
        Ok(pieces) => Some(pieces.into_iter().map(|piece| piece.text().unwrap_or("1")).collect()),
        Err(range) => {
            let problem = Problem::error(text.within(reading.files, range), MALFORMED);
            reading.report(problem.help(NAME_HELP.to_owned()));
            None
        }
    }
}

/// Reports a password or the like that is written out, and the variable to write instead.
pub(crate) fn secret(place: Place, variable: &str, reading: &mut Reading<'_>) {
    let problem = Problem::error(place, "a secret stands in a definition file");
    reading.report(
        problem
            .label("every applied version would keep a copy")
            .help(format!("write `${{{variable}}}` instead, and set that environment variable")),
    );
}

const MALFORMED: &str = "this `${` begins no environment variable";
const NAME_HELP: &str = "write `${NAME}`, with letters, digits and `_` in its name";

enum Piece<'t> {
    Text(&'t str),
    Variable(&'t str),
}

impl<'t> Piece<'t> {
    const fn text(&self) -> Option<&'t str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Variable(_) => None,
        }
    }
}

/// The pieces of a text, or the range of the first `${` that begins no variable.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Range<usize>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once("${") {
        let start = text.len() - behind.len() - 2;
        let (name, behind) = behind.split_once('}').ok_or(start..text.len())?;
        if !is_name(name) {
            return Err(start..start + name.len() + 3);
        }
        pieces.extend([Piece::Text(before), Piece::Variable(name)]);
        rest = behind;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let env = |name: &str| (name == "WHO").then(|| "you and ${ME}".to_owned());
        expand("a.b", text, &env).map_err(|error| error.explained())
    }

    #[test]
    fn variables_are_filled_in_once() {
        assert_eq!(expanded("").as_deref(), Ok(""));
        assert_eq!(expanded("$5, {WHO}, $WHO").as_deref(), Ok("$5, {WHO}, $WHO"));
        assert_eq!(expanded("ß${WHO}ß${WHO}").as_deref(), Ok("ßyou and ${ME}ßyou and ${ME}"));
    }

    #[test]
    fn what_is_no_value_says_so() {
        let unset = "`a.b` in tidemark.yaml needs the environment variable ME, which is not set";
        assert_eq!(expanded("${WHO} and ${ME}"), Err(unset.to_owned()));
        for text in ["${WHO", "${}", "${1ST}", "${WHO:-me}"] {
            let error = expanded(text).expect_err(text);
            assert!(error.contains("begins no environment variable; write `${NAME}`"), "{error}");
        }
    }
}
