//! The mapping from members of a record to fields.
//!
//! A field has the name of its member unless the source names another one, which may be nested. Laid out as a tree
//! by the names in the data, one walk over a record finds every field, and also the names that no field takes.

use tidemark_kernel::SourcePlan;
use tidemark_kernel::source::Origin;

/// The members that are taken of one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    /// The names that lead to the object, each with a dot behind it: `payment.`; empty for the record itself.
    pub(crate) prefix: String,
    /// In the order of the fields.
    pub(crate) list: Vec<Member>,
}

/// A member that is taken.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name in its object.
    pub(crate) name: String,
    /// The fields that take its value, by their indices in the source.
    pub(crate) fields: Vec<usize>,
    /// What is taken of the object that it is; empty where it is taken as a whole only.
    pub(crate) inside: Members,
}

impl Members {
    /// The members of pushed records and of records in files.
    pub(crate) fn of(source: &SourcePlan) -> Self {
        Self::those(source, |_| true)
    }

    /// The members of the values of Kafka records: without the fields from beside the value.
    pub(crate) fn of_values(source: &SourcePlan) -> Self {
        Self::those(source, |field| !source.origins.get(field).is_some_and(Origin::is_beside_value))
    }

    fn those(source: &SourcePlan, taken: impl Fn(&str) -> bool) -> Self {
        let mut members = Self::default();
        for (index, field) in source.fields.iter().enumerate().filter(|(_, field)| taken(&field.name)) {
            members.add(&source.path(&field.name), index);
        }
        members
    }

    fn add(&mut self, path: &[&str], field: usize) {
        let Some((name, rest)) = path.split_first() else { return };
        let index = self.list.iter().position(|member| member.name == *name).unwrap_or_else(|| {
            let inside = Self { prefix: format!("{}{name}.", self.prefix), list: Vec::new() };
            self.list.push(Member { name: (*name).to_owned(), fields: Vec::new(), inside });
            self.list.len() - 1
        });
        let member = &mut self.list[index];
        if rest.is_empty() {
            member.fields.push(field);
        } else {
            member.inside.add(rest, field);
        }
    }

    /// The member of this name, where it is taken.
    pub(crate) fn find(&self, name: &str) -> Option<&Member> {
        self.list.iter().find(|member| member.name == name)
    }

    /// Calls `each` with every field that comes from the object.
    pub(crate) fn each_field(&self, each: &mut impl FnMut(usize)) {
        for member in &self.list {
            member.fields.iter().for_each(|field| each(*field));
            member.inside.each_field(each);
        }
    }
}
