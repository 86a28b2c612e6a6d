//! The problems of labels, each with its place.
//!
//! A label file with one wrong value often has thousands. The first of each column are kept and the rest counted, so
//! that a report shows every column concerned and ends.

use std::collections::BTreeMap;
use std::fmt;

use super::error::TrainError;

/// How many problems are kept of a column, and shown of all.
const SHOWN: usize = 10;

/// How many characters of a value are shown.
const LONGEST: usize = 80;

/// What is wrong with labels: the first problems in order of row, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelProblems {
    kept: Vec<Problem>,
    count: usize,
    /// How many problems each column has.
    columns: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    /// The row among those of all files; none where the whole column is concerned.
    row: Option<usize>,
    message: String,
    help: String,
}

impl LabelProblems {
    /// Adds a problem of a column, whose message names the place, and what to do about it.
    pub(super) fn add(
        &mut self,
        column: &str,
        row: Option<usize>,
        describe: impl FnOnce() -> (String, String),
    ) {
        self.count += 1;
        let of_column = self.columns.entry(column.to_owned()).or_default();
        *of_column += 1;
        if *of_column <= SHOWN {
            let (message, help) = describe();
            self.kept.push(Problem { row, message, help });
        }
    }

    /// # Errors
    /// Fails where there is any.
    pub(super) fn check(&mut self) -> Result<(), TrainError> {
        if self.count == 0 {
            return Ok(());
        }
        self.kept.sort_by_key(|problem| problem.row);
        self.kept.truncate(SHOWN);
        Err(TrainError::Labels(std::mem::take(self)))
    }

    /// How many there are, also of those that are not shown.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What to do about those that are shown, each advice once.
    #[must_use]
    pub fn help(&self) -> Vec<&str> {
        let mut help: Vec<&str> = Vec::new();
        for problem in self.kept.iter().filter(|problem| !problem.help.is_empty()) {
            if !help.contains(&problem.help.as_str()) {
                help.push(&problem.help);
            }
        }
        help
    }
}

/// The message of the only problem, or one on each line below their number.
impl fmt::Display for LabelProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([only], 1) = (self.kept.as_slice(), self.count) {
            return f.write_str(&only.message);
        }
        write!(f, "the labels have {} problems", self.count)?;
        self.kept.iter().try_for_each(|problem| write!(f, "\n  {}", problem.message))?;
        match self.count - self.kept.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// A value as messages show it: in backticks, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_every_column_are_shown_in_order_of_row() {
        let mut problems = LabelProblems::default();
        for row in 0..1000 {
            problems.add("a", Some(row), || (format!("a:{row}"), "correct a".to_owned()));
        }
        problems.add("b", Some(3), || ("b:3".to_owned(), String::new()));
        problems.add("c", None, || ("no column c".to_owned(), "add it".to_owned()));
        let Err(TrainError::Labels(problems)) = problems.check() else { panic!("there are some") };
        let text = problems.to_string();
        assert!(text.starts_with("the labels have 1002 problems\n  no column c\n  a:0\n"), "{text}");
        assert!(text.contains("\n  a:3\n  b:3\n") && text.ends_with("\n  a:7\n  and 992 more"), "{text}");
        assert_eq!(problems.help(), ["add it", "correct a"]);
    }

    #[test]
    fn one_problem_is_a_message() {
        let mut problems = LabelProblems::default();
        assert!(problems.check().is_ok());
        problems.add("a", None, || ("no column a".to_owned(), "add it".to_owned()));
        assert_eq!(problems.check().unwrap_err().to_string(), "no column a");
    }
}
