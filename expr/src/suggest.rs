//! "Did you mean": the known word closest to a mistyped one.

/// The closest of `known`, if it is close enough to be what was meant: whatever the case, at most a third of the
/// letters differ, or one. Of several as close the first by name.
#[must_use]
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The number of letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{closest, distance};

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        assert_eq!(closest("amout", ["user_id", "amount"]), Some("amount"));
        assert_eq!(closest("SUMM", ["sum", "min"]), Some("sum"));
        assert_eq!(closest("amuont", ["amount"]), Some("amount"));
        assert_eq!(closest("regexp_match", ["round", "trim"]), None);
        assert_eq!(closest("A", ["b", "a"]), Some("a"));
        assert_eq!(closest("amount", []), None);
    }

    #[test]
    fn swapped_neighbours_are_one_mistake() {
        for (a, b, count) in [("", "abc", 3), ("ab", "ba", 1), ("kitten", "sitting", 3), ("same", "same", 0)]
        {
            assert_eq!(distance(a, b), count, "{a} {b}");
        }
    }
}
