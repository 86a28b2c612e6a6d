//! What is wrong with the columns of a file, found before any of its rows is taken in.

use thiserror::Error;
use tidemark_expr::closest;
use tidemark_kernel::Type;

/// Why a file's columns cannot be read as a source's fields.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ColumnsError {
    /// Declared fields that the file has no column for. A field that is wholly absent is more often a typo than a
    /// wish for nulls, so it is an error; write a column of nulls where nulls are meant.
    #[error("no column {missing}; the file has {found}")]
    Missing {
        /// The fields, each with the column it may be meant to be.
        missing: String,
        /// The columns there are.
        found: String,
    },
    /// Two columns have the name of one field.
    #[error("column `{0}` is there twice; rename one of the two")]
    Twice(String),
    /// A column's type is not the field's, nor narrower.
    #[error("column `{column}` is {found}, but field `{column}` is {declared}; {remedy}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The field's type.
        declared: Type,
        /// The cast to write.
        remedy: String,
    },
}

impl ColumnsError {
    /// Finds each declared field among the columns of a file; columns that are not declared are ignored.
    pub(crate) fn find<'a>(
        declared: impl Iterator<Item = &'a str>,
        columns: &[&str],
    ) -> Result<Vec<usize>, Self> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in declared {
            match columns.iter().position(|column| *column == name) {
                Some(first) if columns[first + 1..].contains(&name) => {
                    return Err(Self::Twice(name.to_owned()));
                }
                Some(first) => found.push(first),
                None => missing.push(missing_column(name, columns)),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let found = if columns.is_empty() { "no columns at all".to_owned() } else { columns.join(", ") };
        Err(Self::Missing { missing: missing.join(", "), found })
    }
}

fn missing_column(name: &str, columns: &[&str]) -> String {
    match closest(name, columns.iter().copied()) {
        Some(column) => format!("`{name}` (is it `{column}`?)"),
        None => format!("`{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_column_names_the_one_it_may_be() {
        let error = ColumnsError::find(["user_id", "amount"].into_iter(), &["user_id", "amout", "x"]);
        let message = error.expect_err("one is missing").to_string();
        assert_eq!(message, "no column `amount` (is it `amout`?); the file has user_id, amout, x");
        assert_eq!(ColumnsError::find(["b"].into_iter(), &["a", "b"]), Ok(vec![1]));
        assert_eq!(ColumnsError::find(["a"].into_iter(), &["a", "a"]), Err(ColumnsError::Twice("a".into())));
        let far = ColumnsError::find(["amount"].into_iter(), &["user_id"]).expect_err("one is missing");
        assert_eq!(far.to_string(), "no column `amount`; the file has user_id");
    }
}
