//! "Did you mean": the known word closest to a mistyped one.

use strsim::osa_distance;

/// The closest of `known`, if it is close enough to be what was meant: whatever the case, at most a third of the
/// letters differ, or one, where two neighbours that are swapped count as one. Of several as close the first by name.
#[must_use]
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        assert_eq!(closest("amout", ["user_id", "amount"]), Some("amount"));
        assert_eq!(closest("SUMM", ["sum", "min"]), Some("sum"));
        assert_eq!(closest("amuont", ["amount"]), Some("amount"));
        assert_eq!(closest("mni", ["max", "min"]), Some("min"), "swapped neighbours are one mistake");
        assert_eq!(closest("regexp_match", ["round", "trim"]), None);
        assert_eq!(closest("A", ["b", "a"]), Some("a"));
        assert_eq!(closest("amount", []), None);
    }
}
