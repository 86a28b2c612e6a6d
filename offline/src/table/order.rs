//! The order of a table's files, which is the order of its rows.
//!
//! Files are in the order in which they were committed: by the version of the commit, then by their place among its actions.
//! In that order every partition is in order of offset, because a commit can only add rows that follow those that it has
//! seen. A file that takes the place of others, because it merges them or has the rest of their rows, keeps the place of the
//! first of them, so that no row moves.
//!
//! Delta sums commits up in checkpoints that say no more which commit a file came from. So each commit writes the place into
//! a tag of the files that it adds. Earlier versions of Tidemark wrote no such tag, and read files in order of their names:
//! a name starts with the version of the commit that took the place. That prefix is still written for them, and read where
//! the tag is missing.

use deltalake_core::kernel::{Action, Add};

/// The tag of a data file that says where it is in the order: the version of a commit and the number of an action, `17:0`.
const TAG: &str = "tidemark.order";

/// Where a file is in the order of a table's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    /// The version of the commit that first added rows in this place.
    commit: u64,
    /// Which of the actions of that commit it was, from 0.
    action: u64,
}

impl Order {
    /// A file of which nothing tells comes after all others. Neither this version nor an earlier one writes such a file.
    const UNKNOWN: Self = Self { commit: u64::MAX, action: 0 };

    /// Where the table's log says that a file is.
    pub(super) fn of(file: &Add) -> Self {
        let tag = file.tags.as_ref().and_then(|tags| tags.get(TAG)?.as_deref());
        tag.and_then(Self::from_tag).or_else(|| Self::from_name(&file.path)).unwrap_or(Self::UNKNOWN)
    }

    fn from_tag(tag: &str) -> Option<Self> {
        let (commit, action) = tag.split_once(':')?;
        Some(Self { commit: commit.parse().ok()?, action: action.parse().ok()? })
    }

    /// The place of a file of an earlier version. Its commits added no more than one file.
    fn from_name(name: &str) -> Option<Self> {
        let (commit, _) = name.split_once('-').filter(|(digits, _)| digits.len() == 20)?;
        Some(Self { commit: commit.parse().ok()?, action: 0 })
    }

    fn tag(self) -> String {
        format!("{}:{}", self.commit, self.action)
    }
}

/// The file with its place in the order.
pub(super) fn placed(mut file: Add, order: Order) -> Add {
    file.tags.get_or_insert_default().insert(TAG.to_owned(), Some(order.tag()));
    file
}

/// The actions of the commit that makes `version`. Files that have no place in the order yet get theirs.
pub(super) fn in_commit(actions: Vec<Action>, version: u64) -> Vec<Action> {
    let has_place = |file: &Add| file.tags.as_ref().is_some_and(|tags| tags.contains_key(TAG));
    let actions = (0..).zip(actions).map(|(at, action)| match action {
        Action::Add(file) if !has_place(&file) => {
            Action::Add(placed(file, Order { commit: version, action: at }))
        }
        other => other,
    });
    actions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Add {
        Add { path: path.to_owned(), ..Add::default() }
    }

    #[test]
    fn a_commit_gives_its_files_their_places() {
        let kept = placed(file("a"), Order { commit: 3, action: 1 });
        let actions = in_commit(vec![Action::Add(file("z")), Action::Add(kept), Action::Add(file("b"))], 12);
        let order = |action: &Action| match action {
            Action::Add(file) => Order::of(file),
            other => panic!("{other:?}"),
        };
        let at = |commit, action| Order { commit, action };
        assert_eq!(actions.iter().map(order).collect::<Vec<_>>(), [at(12, 0), at(3, 1), at(12, 2)]);
    }

    #[test]
    fn the_log_counts_and_not_the_name() {
        let named = "00000000000000000007-6f9619ff-8b86-d011-b42d-00c04fc964ff";
        for name in [format!("{named}.parquet"), format!("{named}.8b86d011b42d.parquet")] {
            assert_eq!(Order::of(&file(&name)), Order { commit: 7, action: 0 }, "{name}");
            let tagged = placed(file(&name), Order { commit: 2, action: 5 });
            assert_eq!(Order::of(&tagged), Order { commit: 2, action: 5 }, "{name}");
        }
        assert_eq!(Order::of(&file("part-00000-c000.snappy.parquet")), Order::UNKNOWN);
    }
}
