//! Applies a change of a state to all its parts but the first, for every store that joins parts itself.

use std::collections::BTreeMap;

use tidemark_kernel::parts::Rest;

/// Carries out the `changes` of a state in its other parts, by number.
pub(crate) fn change<T>(
    others: &mut BTreeMap<i64, T>,
    changes: impl IntoIterator<Item = (i64, Option<T>)>,
    rest: Rest,
) {
    if rest != Rest::Kept {
        others.clear();
    }
    for (number, part) in changes {
        match part {
            Some(part) => drop(others.insert(number, part)),
            None => drop(others.remove(&number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_what_it_writes_and_says_what_becomes_of_the_rest() {
        let changes = [(-1, Some("new")), (2, None), (3, None)];
        for (rest, expected) in [
            (Rest::Kept, vec![(-1, "new"), (i64::MAX, "kept")]),
            (Rest::Removed, vec![(-1, "new")]),
            (Rest::Absent, vec![(-1, "new")]),
        ] {
            let mut others = BTreeMap::from([(-1, "old"), (2, "removed"), (i64::MAX, "kept")]);
            change(&mut others, changes, rest);
            assert_eq!(others.into_iter().collect::<Vec<_>>(), expected, "{rest:?}");
        }
    }
}
