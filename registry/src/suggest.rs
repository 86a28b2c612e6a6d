//! What to say beside an unknown word: the known one that was probably meant, or all of them.

use tidemark_expr::closest;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_what_there_is() {
        assert_eq!(help("x", "fields", ["alpha", "beta"]).as_deref(), Some("fields: alpha, beta"));
        assert_eq!(help("bta", "fields", ["alpha", "beta"]).as_deref(), Some("did you mean `beta`?"));
        assert_eq!(help("x", "fields", []), None);
    }
}
