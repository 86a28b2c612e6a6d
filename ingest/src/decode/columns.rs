//! Finds the fields for which a file has no data, before any of its rows is taken in.
//!
//! A field that a file lacks as a whole is more often a misspelt name than a wish for nulls. Read as nulls, it would
//! silently give wrong values, so it is an error in every format, unless the field is declared optional.

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;
use tidemark_expr::closest;
use tidemark_kernel::value::Field;
use tidemark_kernel::{ErrorKind, Explain, SourcePlan, Type};

/// How many names a message lists.
const LISTED: usize = 20;

/// Why a file cannot be read as a source's fields.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ColumnsError {
    /// The file has nothing for fields that are not optional.
    #[error("no {missing}; {found}")]
    Missing {
        /// The columns or members that are missing, each with the one that may be meant.
        missing: String,
        /// The columns that the file has.
        found: String,
    },
    /// Two columns have the name of one field.
    #[error("column `{0}` is there twice")]
    Twice(String),
    /// No value of a column's type is one of the field's.
    #[error("column `{column}` is {found}, but field `{field}` is {declared}")]
    Type {
        /// The column; a nested one with the names that lead to it.
        column: String,
        /// Its type.
        found: String,
        /// The name of the field.
        field: String,
        /// The field's type.
        declared: Type,
        /// What to write instead.
        remedy: String,
    },
    /// A field comes from inside a column that has no members.
    #[error("column `{column}` is {found}, but field `{field}` comes from a member of it")]
    NoStruct {
        /// The column; a nested one with the names that lead to it.
        column: String,
        /// Its type.
        found: String,
        /// The name of the field.
        field: String,
    },
    /// A folder is named after a value that its field does not hold.
    #[error("the folder `{folder}` is no value of field `{field}`: {reason}")]
    Folder {
        /// Its name.
        folder: String,
        /// The field.
        field: String,
        /// What the field takes.
        reason: String,
    },
    /// All of these.
    #[error("{}", listed(.0))]
    Several(Vec<ColumnsError>),
}

impl ColumnsError {
    /// All problems of a file at once, so that one run shows all of them.
    ///
    /// # Errors
    /// Fails where there is any.
    pub(crate) fn none_of(mut problems: Vec<Self>) -> Result<(), Self> {
        match problems.pop() {
            None => Ok(()),
            Some(only) if problems.is_empty() => Err(only),
            Some(last) => {
                problems.push(last);
                Err(Self::Several(problems))
            }
        }
    }
}

impl Explain for ColumnsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Twice(_) | Self::Type { .. } => ErrorKind::Invalid,
            Self::NoStruct { .. } | Self::Folder { .. } | Self::Several(_) => ErrorKind::Invalid,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing { .. } => Some(
                "give another name with `from: {column: NAME}`, or declare a field that may be missing as \
                 `optional: true`"
                    .into(),
            ),
            Self::Twice(_) => Some("rename one of the two".into()),
            Self::Type { remedy, .. } => Some(remedy.into()),
            Self::NoStruct { .. } => Some(
                "write the file with a struct there, or give the column with `from: {column: NAME}`".into(),
            ),
            Self::Folder { .. } => Some("rename the folder, or declare the field as a string".into()),
            // Each has its own in its line of the message.
            Self::Several(_) => None,
        }
    }
}

fn listed(problems: &[ColumnsError]) -> String {
    let each = problems.iter().map(|problem| format!("\n  {}", problem.explained()));
    format!("{} problems with its columns{}", problems.len(), each.collect::<String>())
}

/// The names in a file: columns with what is inside their structs, or the members of its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// In the order of their first appearance.
    order: Vec<String>,
    inside: BTreeMap<String, Names>,
}

/// What the file is made of, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// Columns, possibly with structs.
    Columns,
    /// Columns of CSV, none of which is nested.
    CsvColumns,
    /// Records with members: how many were looked at.
    Records(usize),
    /// A row that was kept with the members of fields that were declared then.
    Kept,
}

impl Names {
    /// The names inside `name`, which it has from now on.
    pub(crate) fn add(&mut self, name: &str) -> &mut Self {
        if !self.inside.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.inside.entry(name.to_owned()).or_default()
    }

    /// Whether there is such a member.
    fn has(&self, path: &[&str]) -> bool {
        self.at(path).is_some()
    }

    fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |names, name| names.inside.get(*name))
    }

    /// Checks that there is something for every field of a source that is not optional.
    pub(crate) fn check(&self, source: &SourcePlan, made: Made) -> Result<(), ColumnsError> {
        let fields = source.fields.iter().map(|field| (field, path(source, field, made)));
        let fields: Vec<(&Field, Vec<String>)> = fields.collect();
        let declared: Vec<&[String]> = fields.iter().map(|(_, path)| path.as_slice()).collect();
        let missing: Vec<Missing<'_>> = fields
            .iter()
            .filter(|(field, path)| !source.optional.contains(&field.name) && !self.has(&texts(path)))
            .map(|(field, path)| Missing { field, path, near: self.like(path, &declared) })
            .collect();
        let Some((first, more)) = missing.split_first() else { return Ok(()) };
        let (what, within) = match made {
            Made::Columns | Made::CsvColumns => ("column", String::new()),
            Made::Kept => ("column", " was kept of this row, since no field took it then".to_owned()),
            Made::Records(1) => ("member", " in the first record".to_owned()),
            Made::Records(records) => ("member", format!(" in any of the first {records} records")),
        };
        let mut message = format!("{what} {}{within}{}", first.name(), first.hint(made));
        more.iter().for_each(|more| message += &format!(", nor {}{}", more.name(), more.hint(made)));
        Err(ColumnsError::Missing { missing: message, found: self.found(made) })
    }

    fn found(&self, made: Made) -> String {
        let (all, none) = match made {
            Made::Columns | Made::CsvColumns => ("the file has", "no columns at all"),
            Made::Kept => ("the row was kept with", "no column at all"),
            Made::Records(_) => ("the records have", "no members at all"),
        };
        match self.order.len() {
            0 => format!("{all} {none}"),
            1..=LISTED => format!("{all} {}", self.order.join(", ")),
            more => format!("{all} {}, and {} more", self.order[..LISTED].join(", "), more - LISTED),
        }
    }

    /// What may be meant by a field that a record has nothing for; none where it is there, if only as null.
    pub(crate) fn near(&self, source: &SourcePlan, field: &str) -> Option<Vec<String>> {
        let paths: Vec<Vec<String>> =
            source.fields.iter().map(|field| path(source, field, Made::Records(1))).collect();
        let declared: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
        let path = &paths[source.field(field)?];
        if self.has(&texts(path)) { None } else { self.like(path, &declared) }
    }

    /// What may be meant by a path that is not there, if no field takes it: a name like its last one beside it, or
    /// that very name inside something.
    fn like(&self, path: &[String], declared: &[&[String]]) -> Option<Vec<String>> {
        let (last, before) = path.split_last()?;
        let free = |name: &&String| {
            let whole = [before, std::slice::from_ref(*name)].concat();
            !declared.contains(&whole.as_slice())
        };
        let beside = self.at(&texts(before)).map_or(&[][..], |names| &names.order);
        if let Some(name) = closest(last, beside.iter().filter(free).map(String::as_str)) {
            return Some([before, &[name.to_owned()]].concat());
        }
        self.nested(last).filter(|found| !declared.contains(&found.as_slice()))
    }

    /// The first member of this name inside another one, whatever its case. Where there is an `after`, what is inside
    /// `before` is not meant: a record of a change, as Debezium writes it, holds the old row there.
    fn nested(&self, name: &str) -> Option<Vec<String>> {
        let is_change = self.inside.contains_key("after");
        self.order.iter().filter(|outer| !(is_change && *outer == "before")).find_map(|outer| {
            let inside = &self.inside[outer];
            let here = inside.order.iter().find(|inner| inner.eq_ignore_ascii_case(name));
            let mut path = here.map(|inner| vec![inner.clone()]).or_else(|| inside.nested(name))?;
            path.insert(0, outer.clone());
            Some(path)
        })
    }
}

/// Where a field is to be found. CSV has one level: a path names the column that is called like it, as programs that
/// flatten objects write it.
pub(crate) fn path(source: &SourcePlan, field: &Field, made: Made) -> Vec<String> {
    let path = source.path(&field.name);
    match made {
        Made::CsvColumns => vec![path.join(".").trim().to_owned()],
        Made::Columns | Made::Kept | Made::Records(_) => path.into_iter().map(str::to_owned).collect(),
    }
}

fn texts(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// A field that a file has nothing for.
struct Missing<'a> {
    field: &'a Field,
    path: &'a [String],
    /// What may be meant.
    near: Option<Vec<String>>,
}

impl Missing<'_> {
    fn name(&self) -> String {
        let name = self.path.join(".");
        let field = &self.field.name;
        if name == *field { format!("`{name}`") } else { format!("`{name}` for field `{field}`") }
    }

    fn hint(&self, made: Made) -> String {
        match &self.near {
            Some(near) if near.len() == self.path.len() => format!(" (is it `{}`?)", near.join(".")),
            Some(near) => format!(" (is it `from: {{path: {}}}`?)", near.join(".")),
            None if matches!(made, Made::CsvColumns) && self.path[0].contains('.') => {
                " (CSV has no nested members: a path is the name of one column there)".to_owned()
            }
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidemark_kernel::source::{Arrival, Origin, TimeField};

    use super::*;

    /// A source with these fields, some of which are mapped by `from`.
    fn source(fields: &[&str], origins: &[(&str, Origin)]) -> SourcePlan {
        SourcePlan {
            name: "payments".into(),
            fields: fields.iter().map(|name| Field { name: (*name).into(), ty: Type::Int64 }).collect(),
            origins: origins.iter().map(|(field, origin)| ((*field).to_owned(), origin.clone())).collect(),
            optional: BTreeSet::new(),
            zones: BTreeMap::new(),
            event_time: TimeField { field: "at".into(), unit: None },
            arrival: Arrival::EventTime,
            max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
            max_arrival_ahead: Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD),
            unique: None,
            keep_raw: false,
        }
    }

    fn names(paths: &[&str]) -> Names {
        let mut names = Names::default();
        for path in paths {
            path.split('/').fold(&mut names, |names, name| names.add(name));
        }
        names
    }

    fn refused(source: &SourcePlan, paths: &[&str], made: Made) -> (String, String) {
        match names(paths).check(source, made) {
            Err(ColumnsError::Missing { missing, found }) => (missing, found),
            other => panic!("missing, not {other:?}"),
        }
    }

    #[test]
    fn a_missing_column_names_the_one_it_may_be() {
        let both = source(&["user_id", "amount"], &[]);
        assert_eq!(names(&["amount", "more", "user_id"]).check(&both, Made::Columns), Ok(()));
        let error =
            names(&["user_id", "amout", "x"]).check(&both, Made::Columns).expect_err("one is missing");
        assert_eq!(error.to_string(), "no column `amount` (is it `amout`?); the file has user_id, amout, x");
        assert_eq!(
            error.help().as_deref(),
            Some(
                "give another name with `from: {column: NAME}`, or declare a field that may be missing as \
                 `optional: true`"
            )
        );
        let far = refused(&both, &["user_id"], Made::Columns);
        assert_eq!(far, ("column `amount`".into(), "the file has user_id".into()));
        let none = refused(&both, &[], Made::Records(3));
        assert_eq!(none.0, "member `user_id` in any of the first 3 records, nor `amount`");
        assert_eq!(none.1, "the records have no members at all");
    }

    #[test]
    fn what_a_field_takes_already_is_not_meant_by_another() {
        let source = source(&["amount_1", "amount_2"], &[]);
        assert_eq!(refused(&source, &["amount_1"], Made::Columns).0, "column `amount_2`");
    }

    #[test]
    fn an_optional_field_may_be_missing() {
        let mut source = source(&["user_id", "amount"], &[]);
        source.optional.insert("amount".into());
        assert_eq!(names(&["user_id"]).check(&source, Made::Records(1)), Ok(()));
        assert!(names(&["amount"]).check(&source, Made::Records(1)).is_err());
    }

    #[test]
    fn members_inside_others_are_found_and_suggested() {
        let path = Origin::Path(vec!["payment".into(), "currency".into()]);
        let nested = source(&["currency"], &[("currency", path)]);
        assert_eq!(names(&["payment/currency"]).check(&nested, Made::Records(1)), Ok(()));
        let missing = |paths: &[&str], made| refused(&nested, paths, made).0;
        assert_eq!(
            missing(&["payment/Currency", "payment/x"], Made::Records(2)),
            "member `payment.currency` for field `currency` in any of the first 2 records \
             (is it `payment.Currency`?)"
        );
        assert_eq!(missing(&["payment"], Made::Columns), "column `payment.currency` for field `currency`");
        assert_eq!(
            missing(&["payment"], Made::CsvColumns),
            "column `payment.currency` for field `currency` (CSV has no nested members: a path is the name of one \
             column there)"
        );
        assert_eq!(names(&["payment.currency"]).check(&nested, Made::CsvColumns), Ok(()));
        let flat = source(&["currency"], &[]);
        assert_eq!(
            refused(&flat, &["id", "data/payment/currency"], Made::Records(1)).0,
            "member `currency` in the first record (is it `from: {path: data.payment.currency}`?)"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let many: Vec<String> = (0..25).map(|index| format!("column_{index}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let found = refused(&source(&["x"], &[]), &many, Made::Columns).1;
        assert!(found.ends_with("column_19, and 5 more"), "{found}");
    }
}
