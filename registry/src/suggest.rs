//! "Did you mean": the known word nearest to a mistyped one.

/// The candidate with the fewest edits from `word`, if they are few for its length; the first of several.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let near = candidates.into_iter().map(|candidate| (edits(&lower, &candidate.to_lowercase()), candidate));
    let (edits, candidate) = near.min_by_key(|(edits, _)| *edits)?;
    (edits <= allowed(word)).then_some(candidate)
}

/// `did you mean …?` where a candidate is near, else the candidates themselves.
pub(crate) fn help<'a>(
    word: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(candidate) = closest(word, candidates.clone()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    match all.len() {
        0 => None,
        1..=12 => Some(format!("{what}: {}", all.join(", "))),
        more => Some(format!("{what}: {}, and {} more", all[..10].join(", "), more - 10)),
    }
}

/// A third of the letters may be wrong, and always one.
fn allowed(word: &str) -> usize {
    (word.chars().count() / 3).max(1)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, &left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &right) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(left != right);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left == b[j - 1] && a[i - 1] == right {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let fields = ["user_id", "amount", "status"];
        assert_eq!(closest("amout", fields), Some("amount"));
        assert_eq!(closest("Amuont", fields), Some("amount"));
        assert_eq!(closest("price", fields), None);
        assert_eq!(closest("amount", []), None);
    }

    #[test]
    fn edits_count_swaps_once() {
        for (a, b, count) in [("", "abc", 3), ("ab", "ba", 1), ("kitten", "sitting", 3), ("same", "same", 0)]
        {
            assert_eq!(edits(a, b), count, "{a} {b}");
        }
    }

    #[test]
    fn help_lists_what_there_is() {
        assert_eq!(help("x", "fields", ["alpha", "beta"]).as_deref(), Some("fields: alpha, beta"));
        assert_eq!(help("bta", "fields", ["alpha", "beta"]).as_deref(), Some("did you mean `beta`?"));
        assert_eq!(help("x", "fields", []), None);
    }
}
