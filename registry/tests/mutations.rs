//! Whatever people do to a good file, the answer is a repo or problems with places that exist.

use proptest::prelude::*;
use tidemark_registry::{Colour, Problems, parse};

const GOOD: &str = include_str!("../../feature_repo/payments.yaml");

#[derive(Clone, Debug)]
enum Mutation {
    DeleteLine(prop::sample::Index),
    RepeatLine(prop::sample::Index),
    SwapLines(prop::sample::Index, prop::sample::Index),
    ReplaceWord(prop::sample::Index, String),
    Insert(prop::sample::Index, String),
    DeleteCharacter(prop::sample::Index),
    Cut(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let index = any::<prop::sample::Index>;
    let piece = prop_oneof![
        prop::sample::select(vec![
            "\t", "\"", "'", "[", "}", ": ", "- ", "#", "&a ", "*a", "!!x ", "---\n", "...\n", "%TAG\n",
            "| ", "> ", "? ", "\u{feff}", "\r", "é", "\0", "\u{2028}", "🦀", "10m", "sum(", "null", "~",
            "\\", "`", "@",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9_.]{0,12}",
        any::<String>(),
    ];
    prop_oneof![
        index().prop_map(DeleteLine),
        index().prop_map(RepeatLine),
        (index(), index()).prop_map(|(a, b)| SwapLines(a, b)),
        (index(), piece.clone()).prop_map(|(at, word)| ReplaceWord(at, word)),
        (index(), piece).prop_map(|(at, piece)| Insert(at, piece)),
        index().prop_map(DeleteCharacter),
        index().prop_map(Cut),
    ]
}

fn apply(text: &str, mutation: &Mutation) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut characters: Vec<char> = text.chars().collect();
    if characters.is_empty() {
        return String::new();
    }
    match mutation {
        Mutation::DeleteLine(at) => drop(lines.remove(at.index(lines.len()))),
        Mutation::RepeatLine(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
        }
        Mutation::SwapLines(a, b) => {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        Mutation::ReplaceWord(at, word) => return replace_word(text, *at, word),
        Mutation::Insert(at, piece) => {
            let at = at.index(characters.len());
            characters.splice(at..at, piece.chars());
            return characters.into_iter().collect();
        }
        Mutation::DeleteCharacter(at) => {
            characters.remove(at.index(characters.len()));
            return characters.into_iter().collect();
        }
        Mutation::Cut(at) => return characters[..at.index(characters.len())].iter().collect(),
    }
    lines.concat()
}

fn replace_word(text: &str, at: prop::sample::Index, word: &str) -> String {
    let of_word = |character: char| character.is_alphanumeric() || character == '_';
    let starts: Vec<usize> = text
        .char_indices()
        .filter(|(start, character)| of_word(*character) && !text[..*start].ends_with(of_word))
        .map(|(start, _)| start)
        .collect();
    if starts.is_empty() {
        return word.to_owned();
    }
    let start = starts[at.index(starts.len())];
    let end = text[start..].find(|character| !of_word(character)).map_or(text.len(), |length| start + length);
    format!("{}{word}{}", &text[..start], &text[end..])
}

/// Every place is inside its file: on one of its lines, at one of its characters or just after the last.
fn places_exist(problems: &Problems) -> Result<(), TestCaseError> {
    let text = &problems.files().iter().next().expect("a file").text;
    let lines: Vec<&str> = text.split('\n').collect();
    prop_assert!(!problems.is_empty());
    for entry in problems.report() {
        let line = lines.get(entry.line - 1).map(|line| line.chars().count());
        prop_assert!(line.is_some_and(|line| entry.column <= line + 1), "{entry:?}");
        prop_assert!(line.is_some_and(|line| entry.column + entry.length <= line + 2), "{entry:?}");
        prop_assert!(!entry.message.is_empty() && !entry.message.ends_with('.'), "{entry:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_is_a_repo_or_has_problems_with_places(
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let text = mutations.iter().fold(GOOD.to_owned(), |text, mutation| apply(&text, mutation));
        if let Err(problems) = parse([("payments.yaml", &text)]) {
            places_exist(&problems)?;
            let plain = problems.render(Colour::Never);
            prop_assert!(plain.contains("payments.yaml:"), "{plain}");
            prop_assert_ne!(problems.render(Colour::Always), plain);
        }
    }

    #[test]
    fn any_text_at_all_is_answered(text in "\\PC{0,60}|[ \\n:\\-\\[\\]{}'\"|>&*!?#a]{0,40}") {
        if let Err(problems) = parse([("any.yaml", &text)]) {
            places_exist(&problems)?;
        }
    }
}
